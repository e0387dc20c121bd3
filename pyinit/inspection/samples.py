"""How the samples of a batch lie to each other."""

import math

import numpy as np
import torch
from torch import Tensor

_SAMPLES, _UNITS = 64, 2**13  # that are compared, at most
_LEAST = 1e-12  # of the greatest norm, whose square is far from float32's least number
_RUN = 64  # units side by side, as cache lines bring them


def angles(values: Tensor, samples: int) -> tuple[float, float]:
    """The mean cosine between two samples, and the effective rank of their covariance.

    The effective rank is the participation ratio of the eigenvalues, (sum l)^2 / sum l^2: as many
    directions as the samples differ in.

    Args:
        values: what a layer puts out
        samples: the number of leading dimensions that number samples. Of more than 64 samples, 64 at
            even distances are compared, and of more than 8192 units about as many of them, which brings
            the cosine of two samples an error of about 0.01.

    Returns:
        Both numbers; NaN for fewer than two samples, and where a value is not finite. The rank is NaN
        if all samples are equal, the cosine if a sample is 0.
    """
    count = math.prod(values.shape[:samples])
    if count < 2 or not values.numel():
        return math.nan, math.nan
    rows = _some_units(_as_they_lie(values, samples).flatten(0, samples - 1).flatten(1))
    if count > _SAMPLES:
        chosen = torch.linspace(0, count - 1, _SAMPLES, device=values.device).round().long()
        rows = rows[chosen]
    rows = rows if rows.dtype is torch.float64 else rows.float()
    mean = rows.mean(0, keepdim=True)
    # The mean is a row of its own, so that products are of deviations, whose digits are not lost.
    parts = torch.cat([rows - mean, mean])
    # NumPy's small operations take a fifth of the time of torch's.
    products = (parts @ parts.T).cpu().numpy().astype(np.float64)
    deviations, across, of_mean = products[:-1, :-1], products[:-1, -1], products[-1, -1]
    n = len(rows)
    with np.errstate(all="ignore"):  # infinity and NaN are told as such
        gram = deviations + across[:, None] + across + of_mean
        norms = np.sqrt(np.maximum(gram.diagonal(), 0))
        if rows.dtype is not torch.float64 and norms.max() < _LEAST:
            return angles(values.double(), samples)
        cosines = gram / (norms[:, None] * norms)
        cosine = (cosines.sum() - cosines.trace()) / (n * (n - 1))
        rank = deviations.trace() ** 2 / np.square(deviations).sum()
    return float(cosine), float(rank)


def _as_they_lie(values: Tensor, samples: int) -> Tensor:
    """The dimensions of units in the order of memory: that of channels last would have to be copied."""
    strides = values.stride()
    units = sorted(range(samples, values.dim()), key=lambda d: -strides[d])
    return values.permute(*range(samples), *units)


def _some_units(rows: Tensor) -> Tensor:
    count = rows.shape[1]
    if count <= _UNITS:
        return rows
    runs = rows[:, : count // _RUN * _RUN].reshape(len(rows), -1, _RUN)
    # An odd step does not meet the same column of every image whose width is a power of two.
    return runs[:, :: (count // _UNITS) | 1].flatten(1)
