"""Histograms of what layers put out, of a sample of the values: for pictures."""

import math
import sys
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyinit.reports.stored import read_as

_VALUES = 2**13  # that are looked at, at most
_RUN = 16  # values side by side, as a cache line brings them
_BINS = 40
_GOLDEN = 0.6180339887498949  # its multiples, modulo 1, are spread as evenly as any (Weyl)


class Histogram(NamedTuple):
    """How many values lie in bins of one width.

    low, high: the ends of the bins, which are the least and the greatest value
    counts: how many values each bin has
    """

    low: float
    high: float
    counts: tuple[int, ...]


def read_histogram(value: Any) -> Histogram | None:
    """The histogram that a list of JSON's has; None for None.

    Raises:
        TypeError: For any other value.
    """
    if value is None:
        return None
    low, high, counts = read_as(tuple[float, float, tuple[int, ...]], value, "histogram")
    if not (-math.inf < low <= high < math.inf and sum(counts) > 0):
        raise TypeError(f"a histogram has ends and counts, got {value!r:.40}")
    return Histogram(low, high, counts)


def histogram(values: Tensor) -> Histogram | None:
    """The histogram of a tensor, or of 8192 of its values: runs of 16 at even distances.

    Args:
        values: a strided tensor of floating-point numbers, of any shape

    Returns:
        The histogram, with a single bin if all values are equal; None if none is finite.

    Example:
        >>> import torch
        >>> histogram(torch.tensor([0.0, 1.0, 1.0, 4.0])).counts[::10]
        (1, 2, 0, 0)
    """
    # NumPy's small operations take a fifth of the time of torch's.
    found = _some(values.detach()).to("cpu", torch.float64).numpy()
    is_finite = np.isfinite(found)
    if not is_finite.all():
        found = found[is_finite]
    if not len(found):
        return None
    low, high = float(found.min()), float(found.max())
    if not _BINS * sys.float_info.min < high - low < math.inf:
        return Histogram(low, high, (len(found),))
    bins = np.minimum(((found - low) * (_BINS / (high - low))).astype(np.int64), _BINS - 1)
    return Histogram(low, high, tuple(np.bincount(bins, minlength=_BINS).tolist()))


def _some(values: Tensor) -> Tensor:
    count = values.numel()
    if count <= _VALUES:
        return values.flatten()
    order = sorted(range(values.dim()), key=values.stride, reverse=True)
    flat = values.permute(order).flatten()  # a view, unless there are gaps
    runs = count // _RUN
    # torch runs this on one thread, and indexing on all, which takes longer to begin than to do.
    chosen = flat[: runs * _RUN].view(runs, _RUN).index_select(0, _places(runs).to(flat.device))
    return chosen.flatten()


@cache
def _places(runs: int) -> Tensor:
    """Of as many runs: each in a place of its own in its part, so as to meet all columns of a matrix."""
    number = _VALUES // _RUN
    place = torch.arange(number, dtype=torch.float64, device="cpu")
    return ((place + place.mul(_GOLDEN).frac()) * (runs / number)).long().clamp_(max=runs - 1)
