"""Distances between what channels hold and what they should: two samples, or a sample and N(0, 1).

Each distance takes samples x channels, is symmetric, exactly 0 between a sample and itself, has gradients,
and gives the same number for the same seed. Without a second sample it is the distance to independent
channels N(0, 1), in closed form.

Example:
    >>> import torch, pyinit
    >>> x = torch.randn(1000, 8, generator=torch.Generator().manual_seed(0))
    >>> for name, distance in pyinit.distances.DISTANCES.items():
    ...     print(f"{name}: {distance(x):.2f}, {distance(3 * x):.2f}, {distance(x, x):.2f}")
    moments: 0.04, 65.22, 0.00
    wasserstein1: 0.06, 1.60, 0.00
    sliced_wasserstein2: 0.07, 2.01, 0.00
    mmd: 0.03, 0.63, 0.00
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["DISTANCES", "mmd", "moments", "sliced_wasserstein2", "wasserstein1"]

_PROJECTIONS = 64
_SAMPLES = 512


def moments(x: Tensor, y: Tensor | None = None) -> Tensor:
    """The mean over the channels of the squared differences of four moments.

    Against N(0, 1) it is ``mean**2 + (variance - 1)**2 + skewness**2 + kurtosis**2``, with the excess kurtosis,
    and variances by n. A channel without variance has skewness and kurtosis 0.

    Args:
        x: samples x channels; one dimension is one channel
        y: the other sample, of as many channels and any number of samples; None for N(0, 1)

    Returns:
        A number (float64), without unit.

    Raises:
        TypeError, ValueError: for what is no sample, or samples of different widths.

    Example:
        >>> import torch, pyinit
        >>> x = torch.tensor([-3.0, -1.0, 1.0, 3.0])  # mean 0, variance 5, kurtosis -1.36
        >>> print(f"{pyinit.distances.moments(x):.3f}, {(5 - 1) ** 2 + 1.36**2:.3f}")
        17.850, 17.850
    """
    x, y = _samples(x, y)
    return moments_apart(four_moments(x), None if y is None else four_moments(y))


def four_moments(x: Tensor) -> Tensor:
    """Mean, variance, skewness and excess kurtosis of each channel, as rows."""
    mean = x.mean(0)
    distance = x - mean
    variance = (distance**2).mean(0)
    # What rounding alone makes of equal values is no spread.
    spread = variance > (4 * torch.finfo(x.dtype).eps * x.abs().amax(0)) ** 2
    std = torch.where(spread, variance, 1.0).sqrt()
    standard = distance / std
    skewness = torch.where(spread, (standard**3).mean(0), 0.0)
    kurtosis = torch.where(spread, (standard**4).mean(0) - 3, 0.0)
    return torch.stack([mean, variance, skewness, kurtosis])


def moments_apart(x: Tensor, y: Tensor | None) -> Tensor:
    """The distance between rows as ``four_moments`` gives them; None stands for N(0, 1)."""
    target = x.new_tensor([0.0, 1.0, 0.0, 0.0]).unsqueeze(1) if y is None else y
    return ((x - target) ** 2).sum(0).mean()


def wasserstein1(x: Tensor, y: Tensor | None = None) -> Tensor:
    """The mean over the channels of the one-dimensional Wasserstein distance of order 1.

    It is the integral of the absolute difference of the quantile functions, exactly: all samples are
    sorted. Against N(0, 1) the integral is in closed form.

    Args:
        x: samples x channels; one dimension is one channel
        y: the other sample, of as many channels and any number of samples; None for N(0, 1)

    Returns:
        A number (float64), in the unit of the samples.

    Raises:
        TypeError, ValueError: for what is no sample, or samples of different widths.

    References:
        Vallender 1974, "Calculation of the Wasserstein distance between probability distributions on the line".

    Example:
        >>> import torch, pyinit
        >>> x = torch.tensor([0.0, 1.0, 2.0])
        >>> float(pyinit.distances.wasserstein1(x, x + 0.5))
        0.5
        >>> print(f"{pyinit.distances.wasserstein1(torch.zeros(1)):.4f}")  # sqrt(2 / pi)
        0.7979
    """
    x, y = _samples(x, y)
    if y is not None:
        one, other, share = _quantiles(x, y)
        return (share * (one - other).abs()).sum(0).mean()
    x = x.sort(0).values
    level, quantile = _levels(x)
    # The normal quantile function is less than x up to a level, and greater beyond it. Its integral is minus
    # the density at it.
    meeting = torch.maximum(torch.minimum(x, quantile[1:]), quantile[:-1])
    reached, middle = torch.special.ndtr(meeting), _density(meeting)
    density = _density(quantile)
    below = x * (reached - level[:-1]) + middle - density[:-1]
    above = middle - density[1:] - x * (level[1:] - reached)
    whole: Tensor = (below + above).sum(0).mean()
    return whole


def sliced_wasserstein2(
    x: Tensor, y: Tensor | None = None, *, projections: int = _PROJECTIONS, seed: int = 0
) -> Tensor:
    """The sliced Wasserstein distance of order 2, by random directions.

    The channels are taken together: samples are projected on directions, and the squared distances of order
    2 of the projections are averaged. Against N(0, I) they are in closed form.

    Args:
        x: samples x channels; one dimension is one channel
        y: the other sample, of as many channels and any number of samples; None for N(0, I)
        projections: the number of directions
        seed: decides the directions

    Returns:
        The root of the average (float64), in the unit of the samples. Its gradient at 0 is 0.

    Raises:
        TypeError, ValueError: for what is no sample, samples of different widths, or no projection.

    References:
        Bonneel, Rabin, Peyré & Pfister 2015, "Sliced and Radon Wasserstein barycenters of measures".

    Example:
        >>> import torch, pyinit
        >>> x = torch.zeros(10, 4)
        >>> shifted = x + torch.tensor([2.0, 0.0, 0.0, 0.0])  # by 2, so by 2 / sqrt(4) in a direction
        >>> distance = pyinit.distances.sliced_wasserstein2(x, shifted, projections=10_000)
        >>> print(f"{distance:.1f}")
        1.0
    """
    x, y = _samples(x, y)
    _check_whole("projections", projections, 1)
    drawn = torch.randn(
        x.shape[1], projections, dtype=torch.float64, generator=_generator(seed)
    ).to(x.device)
    directions = drawn / drawn.norm(dim=0).clamp_min(torch.finfo(drawn.dtype).tiny)
    if y is not None:
        one, other, share = _quantiles(x @ directions, y @ directions)
        return _root((share * (one - other) ** 2).sum(0).mean())
    x = (x @ directions).sort(0).values
    density = _density(_levels(x)[1])
    # The integrals of x**2, of the product, and of the square of the normal quantile function.
    product = (x * (density[:-1] - density[1:])).sum(0)
    return _root(((x**2).mean(0) - 2 * product + 1).mean())


def mmd(x: Tensor, y: Tensor | None = None, *, samples: int = _SAMPLES, seed: int = 0) -> Tensor:
    """The maximum mean discrepancy for the kernel ``exp(-d**2 / (2 * bandwidth**2))``.

    The channels are taken together. The bandwidth is the median distance of two samples of both
    together; against N(0, I), that of two of its own samples, and the kernel's means are in closed form. It is the
    distance of the empirical measures (a V-statistic), so it is never less than 0. Its cost grows by the square of the
    number of samples: where there are more than ``samples``, as many are taken, one of each of as many parts of equal
    length, decided by the seed.

    Args:
        x: samples x channels; one dimension is one channel
        y: the other sample, of as many channels and any number of samples; None for N(0, I)
        samples: how many samples of each are used at most
        seed: decides which

    Returns:
        The discrepancy itself, not its square (float64), without unit, at most sqrt(2). Its gradient at 0
        is 0.

    Raises:
        TypeError, ValueError: for what is no sample, samples of different widths, or less than one sample to use.

    References:
        Gretton, Borgwardt, Rasch, Schölkopf & Smola 2012, "A kernel two-sample test", JMLR 13.

    Example:
        >>> import torch, pyinit
        >>> x = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
        >>> print(f"{pyinit.distances.mmd(x):.2f}, {pyinit.distances.mmd(x + 2):.2f}")
        0.03, 0.84
    """
    _check_whole("samples", samples, 1)
    x, y = _samples(x, y, samples, seed)
    channels = x.shape[1]
    within_x = _squared_distances(x, x)
    if y is not None:
        within_y, between = _squared_distances(y, y), _squared_distances(x, y)
        square = _bandwidth(within_x, within_y, between)
        inside = _kernel(within_x, square).mean() + _kernel(within_y, square).mean()
        return _root(inside - 2 * _kernel(between, square).mean())
    # The median of a chi-squared distribution, by Wilson & Hilferty 1931; a difference has variance 2.
    square = x.new_tensor(2 * channels * (1 - 2 / (9 * channels)) ** 3)
    wider = square + 1
    at_x = (square / wider) ** (channels / 2) * _kernel((x**2).sum(1), wider)
    between_normal = (square / (square + 2)) ** (channels / 2)
    return _root(_kernel(within_x, square).mean() - 2 * at_x.mean() + between_normal)


DISTANCES: dict[str, Callable[..., Tensor]] = {
    each.__name__: each for each in (moments, wasserstein1, sliced_wasserstein2, mmd)
}
"""The distances by their names, as ``consistency_aware_`` takes them."""


# ---- samples -------------------------------------------------------------------------------------


def check_samples(name: str, value: object) -> Tensor:
    """A sample as samples x channels, if it is one."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name} must be a tensor of samples x channels, got {type(value).__name__}"
        )
    if not value.is_floating_point():
        raise TypeError(f"{name} must have real floating-point numbers, got {value.dtype}")
    sample = value.unsqueeze(1) if value.dim() == 1 else value
    if sample.dim() != 2 or not sample.numel():
        raise ValueError(f"{name} must be samples x channels, got the shape {tuple(value.shape)}")
    if not bool(sample.isfinite().all()):
        raise ValueError(f"{name} must be finite numbers; it has infinite ones or NaN")
    return sample


def some_of(count: int, most: int, seed: int) -> Tensor | None:
    """The places of ``most`` of so many samples, in order: one of each of as many parts of equal length.
    None if there are no more."""
    if count <= most:
        return None
    drawn = torch.rand(most, dtype=torch.float64, generator=_generator(seed))
    return ((torch.arange(most) + drawn) * (count / most)).long().clamp_max(count - 1)


def _samples(
    x: Tensor, y: Tensor | None, most: int | None = None, seed: int = 0
) -> tuple[Tensor, Tensor | None]:
    found = [check_samples("x", x)] + ([] if y is None else [check_samples("y", y)])
    if found[0].shape[1] != found[-1].shape[1]:
        raise ValueError(
            f"y must have as many channels as x, {found[0].shape[1]}, got {found[-1].shape[1]}"
        )
    for i, each in enumerate(found):
        places = None if most is None else some_of(len(each), most, seed)
        some = each if places is None else each[places.to(each.device)]
        found[i] = some.double().contiguous()  # sums round by the order of what lies in memory
    return found[0], None if y is None else found[1]


def _check_whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


def _generator(seed: int) -> torch.Generator:
    _check_whole("seed", seed, 0)
    return torch.Generator().manual_seed(seed % 2**64)


# ---- one dimension -------------------------------------------------------------------------------


def _quantiles(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The values of both quantile functions where neither has a step, and how long each such part is."""
    n, m = len(x), len(y)
    # Levels as multiples of 1 / (n * m), so that none is rounded.
    ends = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).sort().values
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    share = ((ends - starts).double() / (n * m)).unsqueeze(1).to(x.device)
    # Where both have a step, a part of no length lies between; behind the last one there is no sample.
    at_x, at_y = (starts // m).clamp_max(n - 1), (starts // n).clamp_max(m - 1)
    return x.sort(0).values[at_x.to(x.device)], y.sort(0).values[at_y.to(x.device)], share


def _levels(x: Tensor) -> tuple[Tensor, Tensor]:
    """The levels at which the quantile function of so many samples has steps, 0 and 1 among them, and
    the normal quantiles of these levels."""
    level = torch.linspace(0, 1, len(x) + 1, dtype=x.dtype, device=x.device).unsqueeze(1)
    return level, torch.special.ndtri(level)


def _density(z: Tensor) -> Tensor:
    return torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


# ---- all channels together -----------------------------------------------------------------------


def _squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Each by itself, not from a product of matrices, so that equal samples give equal numbers."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist") ** 2


def _bandwidth(within_x: Tensor, within_y: Tensor, between: Tensor) -> Tensor:
    """The median of the squared distances of two samples of both together; 1 if that is 0."""
    pairs = [within[torch.ones_like(within).triu(1) > 0] for within in (within_x, within_y)]
    square = torch.cat([*pairs, between.flatten()]).median()
    return torch.where(square > 0, square, torch.ones_like(square))


def _kernel(squared: Tensor, bandwidth: Tensor) -> Tensor:
    return torch.exp(-squared / (2 * bandwidth))


def _root(value: Tensor) -> Tensor:
    """The square root, where it has a gradient; 0 of what is 0, or less by rounding. NaN, of samples
    whose squares are infinite, remains."""
    flat = value <= 0
    return torch.where(flat, 0.0, torch.where(flat, 1.0, value).sqrt())
