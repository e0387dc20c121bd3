"""Where a number falls from layer to layer, and how fast."""

import math
from collections.abc import Sequence
from itertools import combinations
from statistics import median
from typing import NamedTuple

_LEAST = 3  # layers that a trend goes through
_FLOOR = 1e-45  # below float32's least number


class Fall(NamedTuple):
    """A fall from one place of a sequence to another.

    rate: the factor from one place to the next
    """

    start: int
    end: int
    rate: float


def greatest_fall(values: Sequence[float], total: float) -> Fall | None:
    """Where positive numbers fall most, from a place to a later one; None if by less than ``total``.

    The rate is the slope of a line through the logarithms, the median of the slopes between all pairs
    (Theil 1950, Sen 1968), which single outliers do not change. A fall in one leap, or at single places, as
    at the ends of residual branches, is none.
    """
    logs = [math.log(max(value, _FLOOR)) for value in values]
    if len(logs) <= _LEAST:
        return None
    highest = best = end = 0
    deepest = 0.0
    for i, value in enumerate(logs):
        if value > logs[highest]:
            highest = i
        if value - logs[highest] < deepest:
            deepest, best, end = value - logs[highest], highest, i
    if deepest > math.log(total) or end - best < _LEAST:
        return None
    if max(logs[end:]) > logs[best] + deepest / 2:
        return None  # it comes back, as behind a norm, and on the trunk beside a residual branch
    # Rounding may have stopped the fall long before the least number.
    end = next(i for i in range(best, end + 1) if logs[i] - logs[best] <= 0.95 * deepest)
    if end - best < _LEAST:
        return None
    slope = theil_sen(logs[best : end + 1])
    if slope * (end - best) > deepest / 2:
        return None
    while end - best > _LEAST and logs[best + 1] - logs[best] > slope / 4:  # it is level at first
        best += 1
    return Fall(best, end, math.exp(slope))


def rate(values: Sequence[float]) -> float:
    """The factor from one number to the next, by the same line."""
    return math.exp(theil_sen([math.log(max(value, _FLOOR)) for value in values]))


def theil_sen(values: Sequence[float]) -> float:
    """The median of the slopes between all pairs."""
    pairs = combinations(enumerate(values), 2)
    return median((b - a) / (j - i) for (i, a), (j, b) in pairs)
