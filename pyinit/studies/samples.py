"""The numbers of one sample, one a seed: what a missing one counts as, mean, interval, and tests against bounds.

A value of None, and one that is not finite, stands for a run that gave no number: it diverged, or it never
reached what was asked of it. Such a run counts as the worst value that the measure has. If there is one
(an accuracy is at least 0), everything goes on with it. If there is none (a loss may be any size), the run
counts as worse than every number. Then no mean exists and no t test is made: the median and the sign test,
which only ask which of two values is larger, take their places.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pyinit._messages import needed

Array = NDArray[np.float64]
Method = Literal["t", "bootstrap"]

_ROUNDING = 1e-12
"""As a part of the largest value: what may be rounding, and is not taken for a spread."""

_RESAMPLES = 9999

LEAST_SEEDS = 3
"""Below, nothing is tested. Values may be of two kinds, of models that train and models that do not; then two
differences in a row are alike in an eighth of all studies in which nothing differs."""


@dataclass(frozen=True)
class Measure:
    """What is compared: a number that each run gives.

    Args:
        name: what it is called in sentences
        more_is_better: whether a larger value is the better one; None if neither is
        worst: the worst value that there is, if the measure has one on its bad side

    Example:
        >>> Measure("accuracy", worst=0.0).count(None), Measure("loss", more_is_better=False).count(None)
        (0.0, inf)
    """

    name: str
    more_is_better: bool | None = True
    worst: float | None = None

    def count(self, value: float | None) -> float:
        """The value, or what counts for a run that gave none: NaN, to be left out, if no value is worst."""
        if value is not None and math.isfinite(value):
            return float(value)
        if self.worst is not None:
            return self.worst
        return {True: -math.inf, False: math.inf, None: math.nan}[self.more_is_better]

    @property
    def sign(self) -> int:
        """What turns a difference of values into an advantage."""
        return -1 if self.more_is_better is False else 1


@dataclass(frozen=True)
class BoundTest:
    """Whether numbers, one a seed, lie on one side of a bound, two-sided.

    Args:
        kind: "t"; "sign", where a t test is not defined; "none" below three seeds
        bound: what the numbers are compared with
        above, below: how many of them lie above and below the bound
        side: on which side their middle is, 1, -1 or 0: the mean, for the sign test the majority
        p: the p-value, before any correction; 1 if there is no test

    Example:
        >>> found = against(0.0, [0.1, 0.3, 0.2])
        >>> found.kind, found.above, round(found.p, 4)
        ('t', 3, 0.0742)
    """

    kind: Literal["t", "sign", "none"]
    bound: float
    above: int
    below: int
    side: int
    p: float


def against(bound: float, values: Sequence[float] | Array, grain: float = 0.0) -> BoundTest:
    """Tests whether numbers lie above or below a bound: by t, or by signs where t is not defined.

    Args:
        bound: what the numbers are compared with
        values: one number a seed; infinite ones are larger or smaller than all others
        grain: what the numbers may differ by through rounding alone

    Returns:
        The two-sided test. It goes by signs if a number is infinite, or if all are equal: from no
        spread at all, a t test would conclude certainty.

    Example:
        >>> against(0.0, [0.25] * 5).p  # all on one side, which is all that is known
        0.0625
    """
    stats = statistics_module("scipy.stats")
    numbers = np.asarray(values, dtype=np.float64)
    above, below = int((numbers > bound + grain).sum()), int((numbers < bound - grain).sum())
    if len(numbers) < LEAST_SEEDS:
        return BoundTest("none", bound, above, below, int(np.sign(above - below)), 1.0)
    if has_spread(numbers, grain):
        p = float(stats.ttest_1samp(numbers, bound).pvalue)
        return BoundTest("t", bound, above, below, int(np.sign(numbers.mean() - bound)), p)
    p = float(stats.binomtest(above, above + below).pvalue) if above + below else 1.0
    return BoundTest("sign", bound, above, below, int(np.sign(above - below)), p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: the p-values that may be compared with the level as if there were one test.

    Args:
        p_values: those of all tests made; a test that could not be made counts with 1

    Returns:
        The corrected ones, in the same order.

    References:
        Holm (1979), `A simple sequentially rejective multiple test procedure`.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    # That of statsmodels, in four lines, since multipletests collects all garbage at each call.
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    steps = [min(1.0, (len(order) - rank) * p_values[place]) for rank, place in enumerate(order)]
    corrected = dict(zip(order, accumulate(steps, max), strict=True))
    return [corrected[place] for place in range(len(p_values))]


def has_spread(values: Array, grain: float) -> bool:
    """Whether a t test has something to go by: finite numbers that differ by more than rounding."""
    return bool(len(values) > 1 and np.isfinite(values).all() and np.ptp(values) > grain)


def statistics_module(name: str) -> Any:
    """A module of SciPy or statsmodels, which only studies need."""
    library = {"scipy": "SciPy"}.get(name.partition(".")[0], "statsmodels")
    return needed(name, "the statistics of a study", library, '"pyinit[study]"')


def is_number(value: float | None) -> bool:
    """Whether a run gave a number."""
    return value is not None and math.isfinite(value)


def grain_of(values: Sequence[float] | Array) -> float:
    """What numbers computed from these values may differ by through rounding alone."""
    sizes = [abs(value) for value in values if math.isfinite(value)]
    return _ROUNDING * max(sizes, default=0.0)


def moments(values: Array) -> tuple[float, float | None]:
    """Mean and standard deviation, as far as they exist."""
    if not len(values):
        return math.nan, None
    with np.errstate(invalid="ignore"):  # infinities of both signs have no mean
        mean = float(values.mean())
    return mean, float(values.std(ddof=1)) if len(values) > 1 and math.isfinite(mean) else None


def median(values: Array) -> float:
    """The median, which may be infinite; NaN if it lies between infinities of both signs."""
    if not len(values):
        return math.nan
    with np.errstate(invalid="ignore"):
        return float(np.median(values))


def interval_of(
    values: Array, level: float, method: Method, grain: float
) -> tuple[float | None, float | None, Method | Literal["none"]]:
    """The interval of the mean, by t or BCa, and by which; none without a spread."""
    if not has_spread(values, grain):
        return None, None, "none"
    stats, confident = statistics_module("scipy.stats"), 1 - level
    if method == "t":
        error = values.std(ddof=1) / math.sqrt(len(values))
        low, high = stats.t.interval(confident, len(values) - 1, values.mean(), error)
    else:
        low, high = stats.bootstrap(
            (values,), np.mean, confidence_level=confident, n_resamples=_RESAMPLES, rng=0
        ).confidence_interval
    return float(low), float(high), method


def hedges(effect: float | None, seeds: int) -> float | None:
    """Cohen's d_z without its bias; J of Hedges (1981), exactly, with n - 1 degrees of freedom."""
    if effect is None or seeds < 3:
        return None
    half = (seeds - 1) / 2
    return effect * math.exp(math.lgamma(half) - math.lgamma(half - 0.5)) / math.sqrt(half)
