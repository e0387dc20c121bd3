"""Statistics of tensors, taken in one pass over their memory."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pyinit import _core
from pyinit._device import statistics as device_statistics
from pyinit._torch.views import View, readable_view, view_of

Bounds = tuple[float, float]
"""Where an activation saturates: the largest low value, and the smallest high one."""

_NOWHERE: Bounds = (-math.inf, math.inf)
_SMALL = 1e-200  # of the sum of fourth powers: far from the least number, whose digits are few
_LEAST, _ZEROS = 5, 7  # where the minimum and the number of zeros stand in it


@dataclass(frozen=True)
class Statistics:
    """What the values of a tensor are like.

    Everything but the counts is NaN if a value is infinite or NaN, or if there are no values.

    Args:
        count: the number of values
        mean: their mean
        std: their standard deviation, by ``count`` and not by ``count - 1``
        skewness: the third standardized moment; 0 for a symmetric distribution; NaN if all values are equal
        kurtosis: the fourth standardized moment less 3; 0 for a normal distribution; NaN if all are equal
        min: the least value
        max: the greatest value
        zeros: the number of values that are 0
        nonfinite: the number of values that are infinite or NaN
        low: the number of values at or below the lower bound of saturation
        high: the number of values at or above the upper bound

    Example:
        >>> import torch
        >>> from pyinit.inspection.statistics import describe
        >>> found = describe(torch.tensor([0.0, 0.0, 0.0, 4.0]), bounds=(0.0, 3.0))
        >>> found.mean, found.zeros, found.low, found.high
        (1.0, 3, 3, 1)
    """

    count: int
    mean: float
    std: float
    skewness: float
    kurtosis: float
    min: float
    max: float
    zeros: int
    nonfinite: int
    low: int
    high: int

    @property
    def mean_square(self) -> float:
        """The mean of the squares; infinite where double precision ends."""
        return self.std * self.std + self.mean * self.mean


@dataclass(frozen=True)
class Channels:
    """Statistics of each channel, and how much the units vary from sample to sample.

    Args:
        statistics: those of each channel
        total_variance: the sum over all units of the variance over the samples, which is the trace of
            the covariance of the units
    """

    statistics: tuple[Statistics, ...]
    total_variance: float


def describe(tensor: Tensor, bounds: Bounds = _NOWHERE) -> Statistics:
    """The statistics of a tensor of any shape, dtype, layout and device.

    Args:
        tensor: the values; complex ones and tensors on the meta device are refused
        bounds: where its values saturate, for ``low`` and ``high``

    Returns:
        The statistics, computed in the tensor's precision by blocks of 4096 values and in double precision
        beyond. On the CPU and, if pyinit was built with CUDA kernels, on CUDA devices they have the same
        bits, for any number of threads, and for any instruction set that has a fused multiply-add.

    Raises:
        ValueError: for a tensor without values of its own.

    References:
        Pébay 2008, "Formulas for robust, one-pass parallel computation of covariances and arbitrary-order
        statistical moments".

    Example:
        >>> import torch
        >>> from pyinit.inspection.statistics import describe
        >>> found = describe(torch.arange(5.0))
        >>> found.mean, found.min, found.max, found.skewness
        (2.0, 0.0, 4.0, 0.0)
    """
    return describe_many([tensor], [bounds])[0]


def describe_many(
    tensors: Sequence[Tensor], bounds: Sequence[Bounds] | None = None
) -> list[Statistics]:
    """The statistics of each tensor, in one native call for all that kernels reach.

    Args:
        tensors: as for ``describe``
        bounds: those of each tensor

    Returns:
        A list as long as ``tensors``.

    Raises:
        ValueError: as ``describe``.
    """
    limits = [_NOWHERE] * len(tensors) if bounds is None else list(bounds)
    rows = torch.full(
        (len(tensors), device_statistics.ROW), math.nan, dtype=torch.float64, device="cpu"
    )
    native: list[tuple[int, View]] = []
    on_devices: dict[torch.device, list[tuple[int, View]]] = {}
    for i, tensor in enumerate(tensors):
        _check(tensor)
        values = tensor.detach()
        if (view := readable_view(values)) is not None:
            native.append((i, view))
        elif (view := device_statistics.readable_view(values)) is not None:
            on_devices.setdefault(tensor.device, []).append((i, view))
        else:
            rows[i] = _by_torch(values, limits[i])
    if native:
        found = torch.empty((len(native), device_statistics.ROW), dtype=torch.float64, device="cpu")
        _core.describe_many(
            [view for _, view in native],
            [limits[i] for i, _ in native],
            view_of(found),
            torch.get_num_threads(),
        )
        if len(native) == len(rows):
            return _told(tensors, found)
        rows[[i for i, _ in native]] = found
    for some in on_devices.values():
        numbers = [i for i, _ in some]
        rows[numbers] = device_statistics.describe_many(
            tensors[numbers[0]], [view for _, view in some], [limits[i] for i in numbers]
        ).cpu()
    return _told(tensors, rows)


def describe_channels(
    tensor: Tensor, channel: int = 1, samples: int = 1, bounds: Bounds = _NOWHERE
) -> Channels:
    """The statistics of each channel of a layer's output, and its total variance.

    Args:
        tensor: an output, such as (N, C), (N, C, H, W) or, with ``channel=2`` and ``samples=2``, (N, T, C)
        channel: the dimension of the channels
        samples: the number of leading dimensions that number samples; the others number the units
        bounds: where values saturate

    Returns:
        The statistics of each channel over all other dimensions, and the sum over the units of the
        variance over the samples.

    Raises:
        ValueError: for a channel that is no dimension behind the samples', or as ``describe``.

    Example:
        >>> import torch
        >>> from pyinit.inspection.statistics import describe_channels
        >>> found = describe_channels(torch.tensor([[0.0, 1.0], [2.0, 1.0]]))
        >>> [channel.mean for channel in found.statistics], found.total_variance
        ([1.0, 1.0], 1.0)
    """
    rows, total = _by_channel(tensor, channel, samples, bounds)
    statistics = tuple(
        describe(tensor.select(channel, i), bounds) if _is_beyond(tensor, row) else _from_row(*row)
        for i, row in enumerate(rows.tolist())
    )
    return Channels(statistics, total)


def describe_units(
    tensor: Tensor, channel: int = 1, samples: int = 1, bounds: Bounds = _NOWHERE
) -> tuple[Statistics, Tensor, float]:
    """The statistics of all values, of each channel whether all of its values are 0, and the total
    variance, in one pass and without an object for each channel.

    The arguments are those of ``describe_channels``, whose moments are combined as in Pébay 2008.
    """
    rows, total = _by_channel(tensor, channel, samples, bounds)
    each = rows.numpy()
    all_zero = torch.from_numpy(each[:, _ZEROS] == each[:, 0])
    if not len(rows):
        return describe(tensor, bounds), all_zero, total
    # NumPy's small operations take a tenth of the time of torch's.
    with np.errstate(over="ignore", invalid="ignore"):  # infinity and NaN are told as such
        counts, mean, squares, cubes, _, least, greatest, *_ = each.T
        count, (n, middle, *sums) = counts[0], each[:, :_LEAST].sum(0)  # all channels have as many
        middle /= len(each)
        d = mean - middle
        d2, with_squares = d * d, d * squares
        whole = (
            n,
            middle,
            sums[0] + count * d2.sum(),
            sums[1] + 3 * with_squares.sum() + count * (d2 * d).sum(),
            sums[2] + (4 * d * cubes + 6 * d * with_squares).sum() + count * (d2 * d2).sum(),
            least.min(),
            greatest.max(),
        )
    row = [*map(float, (*whole, *each[:, _ZEROS:].sum(0)))]
    found = describe(tensor, bounds) if _is_beyond(tensor, row) else _from_row(*row)
    return found, all_zero, total


def channel_moments(
    tensor: Tensor, channel: int = 1, samples: int = 1
) -> tuple[Tensor, Tensor, float]:
    """Mean, variance, skewness and excess kurtosis as rows with a column for each channel (float64), the
    greatest size of a channel's values, and the total variance, without an object for each channel.

    The arguments are those of ``describe_channels``, and the numbers, too.
    """
    rows, total = _by_channel(tensor, channel, samples, _NOWHERE)
    count, mean, squares, cubes, fourths, least, greatest, *_ = rows.unbind(1)
    variance = squares / count
    std = variance.sqrt()
    skewness = cubes / count / std / std / std
    kurtosis = fourths / count / std / std / std / std - 3
    moments = torch.stack([mean, variance, skewness, kurtosis])
    return moments, torch.maximum(least.abs(), greatest.abs()), total


def _by_channel(tensor: Tensor, channel: int, samples: int, bounds: Bounds) -> tuple[Tensor, float]:
    """The row of each channel, and the total variance."""
    _check(tensor)
    if not 0 < samples <= channel < tensor.dim():
        raise ValueError(
            "samples and channel must be dimensions of the tensor, samples before the channel; got "
            f"samples={samples} and channel={channel} for shape {tuple(tensor.shape)}"
        )
    values = tensor.detach()
    view = readable_view(values)
    if view is None and (there := device_statistics.readable_view(values)) is not None:
        found, variance = device_statistics.describe_channels(
            values, there, samples, channel, bounds
        )
        return found.cpu(), float(variance)
    if view is None:
        values = values.to("cpu", torch.float64)
        view = view_of(values)
    rows = torch.empty(
        (values.shape[channel], device_statistics.ROW), dtype=torch.float64, device="cpu"
    )
    total = _core.describe_channels(
        view, samples, channel, *bounds, view_of(rows), torch.get_num_threads()
    )
    return rows, total


def _check(tensor: Tensor) -> None:
    if tensor.is_meta or tensor.is_complex():
        raise ValueError(
            "statistics take real tensors with values, got one of "
            f"{tensor.dtype} on the device {tensor.device}"
        )


def _by_torch(values: Tensor, bounds: Bounds) -> Tensor:
    """The row of a tensor that the kernels do not reach."""
    x = values.to_dense() if values.layout is not torch.strided else values
    low, high = bounds
    exact = x.double() if x.device.type != "mps" else x.float()
    finite = torch.isfinite(exact)
    counts = (exact == 0, ~finite, exact <= low, exact >= high)
    row = torch.full((device_statistics.ROW,), math.nan, dtype=torch.float64, device="cpu")
    row[0] = exact.numel()
    row[7:] = torch.stack([some.sum() for some in counts]).double().cpu()
    if exact.numel() and finite.all():
        mean = exact.mean()
        distance = exact - mean
        powers = [(distance**k).sum() for k in (2, 3, 4)]
        row[1:7] = torch.stack([mean, *powers, exact.min(), exact.max()]).double().cpu()
    return row


def _told(tensors: Sequence[Tensor], rows: Tensor) -> list[Statistics]:
    return [
        _scaled(tensor, statistics) if _is_beyond(tensor, row) else statistics
        for tensor, statistics, row in zip(tensors, _statistics(rows), rows.tolist(), strict=True)
    ]


def _is_beyond(tensor: Tensor, row: Sequence[float]) -> bool:
    """Whether fourth powers of finite values are beyond double precision: above its greatest number, or
    so small that their digits are lost."""
    count, _, _, _, fourths, least, greatest, _, nonfinite, *_ = row
    if tensor.dtype is not torch.float64 or not count or nonfinite:
        return False
    return not (math.isfinite(fourths) and (fourths > _SMALL or least == greatest))


def _scaled(tensor: Tensor, found: Statistics) -> Statistics:
    """The statistics of values whose powers are beyond double precision, times a power of 2."""
    values = tensor.detach()
    if values.layout is not torch.strided:
        values = values.to_dense()
    exponent = math.frexp(float(values.abs().max()))[1]
    # Twice half of it, since 2.0**1074 is beyond, too.
    down, up = 2.0 ** -(exponent // 2), 2.0 ** (exponent // 2)
    odd = 2.0 ** (exponent % 2)
    one = describe(values * down * down / odd)
    return replace(
        found,
        mean=one.mean * odd * up * up,
        std=one.std * odd * up * up,
        skewness=one.skewness,
        kurtosis=one.kurtosis,
        min=one.min * odd * up * up,
        max=one.max * odd * up * up,
    )


def _statistics(rows: Tensor) -> list[Statistics]:
    return [_from_row(*row) for row in rows.tolist()]


def _from_row(  # noqa: PLR0917
    count: float,
    mean: float,
    squares: float,
    cubes: float,
    fourths: float,
    least: float,
    greatest: float,
    *counts: float,
) -> Statistics:
    if not count:
        mean = squares = least = greatest = math.nan
    std = math.sqrt(squares / count) if count else math.nan
    spread = std > 0
    zeros, nonfinite, low, high = map(int, counts)
    return Statistics(
        count=int(count),
        mean=mean,
        std=std,
        skewness=cubes / count / std / std / std if spread else math.nan,
        kurtosis=fourths / count / std / std / std / std - 3 if spread else math.nan,
        min=least,
        max=greatest,
        zeros=zeros,
        nonfinite=nonfinite,
        low=low,
        high=high,
    )
