"""How the samples of a batch lie to each other."""

import math

import torch
from torch import Tensor

_SAMPLES, _UNITS = 64, 2**15  # that are compared, at most


def angles(values: Tensor, samples: int) -> tuple[float, float]:
    """The mean cosine between two samples, and the effective rank of their covariance.

    The effective rank is the participation ratio of the eigenvalues, (sum l)^2 / sum l^2: as many
    directions as the samples differ in.

    Args:
        values: what a layer puts out
        samples: the number of leading dimensions that number samples. Of more than 64 samples, 64 at
            even distances are compared, and of more than 32768 units as many of them, which brings a
            cosine an error of about half a percent.

    Returns:
        Both numbers; NaN for fewer than two samples, and where a value is not finite. The rank is NaN
        if all samples are equal, the cosine if a sample is 0.
    """
    count = math.prod(values.shape[:samples])
    if count < 2 or not values.numel():
        return math.nan, math.nan
    rows = values.flatten(0, samples - 1).flatten(1)
    # An odd step does not meet the same column of every image whose width is a power of two.
    rows = rows[:, :: max(1, rows.shape[1] // _UNITS) | 1] if rows.shape[1] > _UNITS else rows
    if count > _SAMPLES:
        chosen = torch.linspace(0, count - 1, _SAMPLES, device=values.device).round().long()
        rows = rows[chosen]
    rows = rows if rows.dtype is torch.float64 else rows.float()
    mean = rows.mean(0, keepdim=True)
    # The mean is a row of its own, so that products are of deviations, whose digits are not lost.
    parts = torch.cat([rows - mean, mean])
    products = (parts @ parts.T).double()
    deviations, across, of_mean = products[:-1, :-1], products[:-1, -1], products[-1, -1]
    gram = deviations + across[:, None] + across + of_mean
    norms = gram.diagonal().clamp(min=0).sqrt()
    cosines = gram / (norms[:, None] * norms)
    n = len(rows)
    cosine = (cosines.sum() - cosines.diagonal().sum()) / (n * (n - 1))
    squares = deviations.square().sum()
    rank = deviations.trace() ** 2 / squares
    return float(cosine), float(rank)
