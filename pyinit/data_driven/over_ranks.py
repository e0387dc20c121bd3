"""Statistics of what a layer gives, over the batches of all ranks that measure together.

Each rank measures its own batch; counts, means and sums of powers of the distances from these are combined
in float64, in the order of the ranks (Chan, Golub & LeVeque 1979; Pébay 2008 for the higher powers).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pyinit.data_driven.ranks import Ranks
from pyinit.inspection.statistics import channel_moments, describe

_ROWS = 6  # count, mean, sums of squares, cubes and fourth powers, greatest size


def spread(ranks: Ranks, name: str, output: Tensor) -> tuple[float, float]:
    """The standard deviation of all values of a tensor, and the greatest size of one."""
    _, std, size = mean_and_spread(ranks, name, output)
    return std, size


def mean_and_spread(ranks: Ranks, name: str, values: Tensor) -> tuple[float, float, float]:
    """The mean of all values, their standard deviation, and the greatest size of one."""
    found = describe(values)
    size = max(abs(found.min), abs(found.max))
    if not ranks.are_several:
        return found.mean, found.std, size
    row = torch.zeros(_ROWS, 1, dtype=torch.float64, device="cpu")
    row[:3, 0] = torch.tensor([found.count, found.mean, found.count * found.std**2])
    row[5] = size
    count, mean, squares, _, _, size_of_all = joined(ranks.gathered(f"{name}, moments", row))
    return float(mean), float((squares / count).sqrt()), float(size_of_all)


def moments_of_channels(
    ranks: Ranks, name: str, values: Tensor, channel: int
) -> tuple[Tensor, Tensor, float]:
    """``channel_moments`` of the samples of all ranks; but the total variance is that of this rank's."""
    moments, size, total = channel_moments(values, channel)
    if not ranks.are_several:
        return moments, size, total
    mean, variance, skewness, kurtosis = moments
    count = torch.full_like(mean, values.numel() // values.shape[channel])
    shape = torch.stack([count * skewness * variance**1.5, count * (kurtosis + 3) * variance**2])
    shape = torch.where(variance > 0, shape, 0.0 * variance)  # NaN stays NaN
    rows = torch.cat([torch.stack([count, mean, count * variance]), shape, size.unsqueeze(0)])
    count, mean, squares, cubes, fourths, size = joined(ranks.gathered(f"{name}, moments", rows))
    variance = squares / count
    std = variance.sqrt()
    skewness, kurtosis = cubes / count / std**3, fourths / count / std**4 - 3
    return torch.stack([mean, variance, skewness, kurtosis]), size, total


def total_variance(ranks: Ranks, name: str, values: Tensor, here: float) -> float:
    """The total variance of a rank's output, on average over the ranks by their numbers of values.

    It is not that of all samples, since an output need not have its samples in one dimension.
    """
    if not ranks.are_several:
        return here
    sums = torch.tensor([1.0, here], dtype=torch.float64, device="cpu") * values.numel()
    count, variance = ranks.total(f"{name}, total variance", sums).tolist()
    return float(variance / count)


def covariance(ranks: Ranks, name: str, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the covariance of variables x samples, in float64."""
    mean = rows.mean(1)
    found = torch.cov(rows, correction=0).view(len(rows), len(rows))
    return joined_covariance(ranks, name, rows.shape[1], mean, found)[1:]


def joined_covariance(
    ranks: Ranks, name: str, count: int, mean: Tensor, covariance: Tensor
) -> tuple[int, Tensor, Tensor]:
    """The number of samples of all ranks, their mean and their covariance, by those of each rank."""
    if not ranks.are_several:
        return count, mean, covariance
    totals = ranks.total(f"{name}, mean", torch.cat([mean.new_tensor([1.0]), mean]) * count)
    number, middle = totals[0], totals[1:] / totals[0]
    apart = mean - middle
    squares = ranks.total(f"{name}, covariance", count * (covariance + apart.outer(apart)))
    return int(number), middle, squares / number


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Rows of some samples each as the rows of all samples, with a column for each channel.

    The rows are the count, the mean, the sums of the squares, cubes and fourth powers of the distances
    from it, and the greatest size.
    """
    count = _added([part[0] for part in parts])
    mean = _added([part[0] * part[1] for part in parts]) / count
    squares, cubes, fourths = [], [], []
    for n, middle, two, three, four, _ in parts:
        d = middle - mean
        squares.append(two + n * d**2)
        cubes.append(three + 3 * d * two + n * d**3)
        fourths.append(four + 4 * d * three + 6 * d**2 * two + n * d**4)
    size = parts[0][5]
    for part in parts[1:]:
        size = torch.maximum(size, part[5])
    return torch.stack([count, mean, _added(squares), _added(cubes), _added(fourths), size])


def _added(terms: Sequence[Tensor]) -> Tensor:
    """The sum in the order of the terms: the same bits wherever it is computed."""
    total = terms[0].clone()
    for term in terms[1:]:
        total += term
    return total
