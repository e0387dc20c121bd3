"""How many seeds would decide what the seeds at hand leave open."""

from collections.abc import Sequence

import numpy as np

from pyinit.studies.samples import (
    LEAST_SEEDS,
    Array,
    BoundTest,
    against,
    grain_of,
    has_spread,
    statistics_module,
)

MOST_SEEDS = 1000
"""More seeds than these are never proposed."""

POWER = 0.8
"""With which probability the seeds that are proposed decide."""


def seeds_to_decide(
    values: Sequence[float] | Array,
    bounds: Sequence[float],
    *,
    level: float = 0.05,
    grain: float | None = None,
) -> int | None:
    """How many seeds would tell, with a probability of 0.8, on which side of bounds numbers lie.

    It takes the mean and the standard deviation of the numbers at hand for the true ones (or, where they
    have to be tested by signs, the shares of them on either side), so it is a rough guide if these are few.

    Args:
        values: one number a seed
        bounds: what they are compared with. Of several, all have to be decided, for which the probability
            is at least the sum of theirs minus what is more than 1 in it
        level: that of the two-sided tests
        grain: what the numbers may differ by through rounding alone; by default a trillionth of the largest

    Returns:
        The number of seeds in all, more than there are, and 1001 if it takes more than 1000; None if
        there are fewer than two seeds, from which nothing follows.

    Example:
        >>> seeds_to_decide([0.1, 0.3, -0.1, 0.2], bounds=[0.0])
        17
    """
    if len(values) < 2:
        return None
    numbers = np.asarray(values, dtype=np.float64)
    grain = grain_of(numbers) if grain is None else grain
    seeds = np.arange(max(len(values) + 1, LEAST_SEEDS), MOST_SEEDS + 1, dtype=np.float64)
    powers = [
        _power(numbers, grain, against(bound, numbers, grain), seeds, level) for bound in bounds
    ]
    enough = np.flatnonzero(sum(powers) - (len(powers) - 1) >= POWER)
    return int(seeds[enough[0]]) if len(enough) else MOST_SEEDS + 1


def _power(values: Array, grain: float, test: BoundTest, seeds: Array, level: float) -> Array:
    """The probability that a test decides, for each number of seeds."""
    if has_spread(values, grain):
        effect = abs(values.mean() - test.bound) / values.std(ddof=1)
        power = statistics_module("statsmodels.stats.power").TTestPower()
        found = np.asarray(power.power(effect, seeds, level))
        return np.where(np.isnan(found), 1.0, found)  # too certain for the noncentral t's series
    if not test.side:
        return np.zeros(len(seeds))
    binom, told = statistics_module("scipy.stats").binom, test.above + test.below
    trials = np.floor(seeds * (told / len(values)))  # those at the bound tell nothing
    beyond = binom.isf(level / 2, trials, 0.5)
    return np.asarray(binom.sf(beyond, trials, max(test.above, test.below) / told))
