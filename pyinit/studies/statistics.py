"""What the runs of a study say over its seeds: means with intervals, and arms beside each other, seed by seed.

All functions take plain numbers: for each arm a mapping from seed to value. An arm is compared with another
one seed by seed, since both saw the same data in the same order; seeds that only one of them has are left
out, and the result says so. What a run counts as that gave no number, ``samples.py`` says.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np

from pyinit.studies.samples import (
    BoundTest,
    Measure,
    Method,
    against,
    grain_of,
    has_spread,
    hedges,
    holm,
    interval_of,
    is_number,
    median,
    moments,
)
from pyinit.studies.wording import confidence, counted, listed, number, p_value

Runs = Mapping[int, float | None]
"""What the runs of one arm gave: seed -> value."""


@dataclass(frozen=True)
class Estimate:
    """What an arm gave, over its seeds.

    Args:
        arm: its name
        measure: what was measured
        seeds: the seeds, in order
        values: what counts for each of them
        mean: the mean, which is infinite if a run is worse than every number
        median: the median; NaN if it lies between infinities of both signs
        std: the standard deviation, with n - 1; None below two seeds or without a mean
        low, high: the interval of the mean; None where there is none
        level: one minus the interval's confidence
        interval: "t" or "bootstrap"; "none" below two seeds, without a mean, and if all values are equal
        runs: what came: seed -> value
        method: "t" or "bootstrap", as it was asked for

    Example:
        >>> print(estimate("xavier", {0: 0.95, 1: 0.96, 2: 0.94}, Measure("accuracy", worst=0.0)))
        The accuracy of xavier is 0.950 (95% interval 0.925 to 0.975 by t, 3 seeds).
    """

    arm: str
    measure: Measure
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    mean: float
    median: float
    std: float | None
    low: float | None
    high: float | None
    level: float
    interval: Literal["t", "bootstrap", "none"]
    runs: Runs
    method: Method

    @property
    def grain(self) -> float:
        """What two of the values may differ by through rounding alone."""
        return grain_of(self.values)

    @property
    def numbered(self) -> set[int]:
        """The seeds whose runs gave a number."""
        return {seed for seed, value in self.runs.items() if is_number(value)}

    @property
    def missing(self) -> int:
        """How many of the runs gave no number."""
        return len(self.runs) - len(self.numbered)

    def on(self, seeds: Collection[int]) -> "Estimate":
        """The same of these seeds alone."""
        runs = {seed: value for seed, value in self.runs.items() if seed in seeds}
        return estimate(self.arm, runs, self.measure, self.level, self.method)

    def __str__(self) -> str:
        """A sentence, and one for what its numbers leave out."""
        if not self.seeds:
            return f"No run of {self.arm} has a value of {self.measure.name}."
        text = f"The {self.measure.name} of {self.arm} is {self.in_numbers()}."
        return " ".join([text, *self.remarks])

    def in_numbers(self, test: BoundTest | None = None, p: float = 1.0, tests: int = 1) -> str:
        """The mean with its interval, or what there is in their places.

        Args:
            test: a test against a bound, to be told with it
            p: its p-value, corrected
            tests: over how many tests it is corrected
        """
        if not self.values:
            return "no run has a value"
        seeds, spread = counted(len(self.values), "seed"), _width(self)
        if test and test.kind == "sign":
            signs = _signs(self, test, f"above {number(test.bound)}", "below it")
            return f"median {number(self.median)}, {signs} ({_by_signs(self, p, tests)})"
        if not math.isfinite(self.mean):
            return f"{number(self.median)} (median over {seeds})"
        if spread is None:
            return f"{number(self.mean)} on {'each of ' * (len(self.values) > 1)}{seeds}"
        inside = f"{_ends(self)} by {self.interval}, {seeds}"
        if test:
            told = "too few for a test" if test.kind == "none" else p_value(p, tests, test.bound)
            inside += f", {told}"
        return f"{number(self.mean, spread)} ({inside})"

    @property
    def remarks(self) -> list[str]:
        """Sentences on runs that gave no number."""
        if not self.missing:
            return []
        count, many = self.measure.count(None), self.missing > 1
        how = ("counts", "count")[many] + f" as {number(count)}"
        if math.isinf(count):
            how = ("counts", "count")[many] + " as worse than any number"
        elif math.isnan(count):
            how = ("is", "are")[many] + " left out"
        return [f"Of {self.arm}, {counted(self.missing, 'run')} gave no number and {how}."]


def estimate(
    arm: str,
    runs: Runs,
    measure: Measure,
    level: float = 0.05,
    interval: Method = "t",
) -> Estimate:
    """The mean of an arm over its seeds, with an interval.

    Args:
        arm: its name
        runs: seed -> value
        measure: what was measured
        level: one minus the interval's confidence
        interval: "t", or "bootstrap" for BCa from 9,999 samples of the seeds, always the same ones. With
            fewer than about ten seeds, the bootstrap's intervals are too narrow

    Returns:
        The estimate. It has no interval below two seeds, if the mean does not exist, and if all values
        are equal, which would make it a point.

    Example:
        >>> found = estimate("he", {0: 1.0, 1: 3.0, 2: None}, Measure("loss", more_is_better=False))
        >>> found.mean, found.median, found.missing, found.low
        (inf, 3.0, 1, None)
    """
    counts = {seed: measure.count(runs[seed]) for seed in sorted(runs)}
    counts = {seed: value for seed, value in counts.items() if not math.isnan(value)}
    values = np.array([*counts.values()], dtype=np.float64)
    mean, std = moments(values)
    low, high, kind = interval_of(values, level, interval, grain_of(values))
    return Estimate(
        arm=arm,
        measure=measure,
        seeds=tuple(counts),
        values=tuple(counts.values()),
        mean=mean,
        median=median(values),
        std=std,
        low=low,
        high=high,
        level=level,
        interval=kind,
        runs=runs,
        method=interval,
    )


@dataclass(frozen=True)
class Difference:
    """What one arm has over another, seed by seed; or one difference over another.

    Differences of arms are advantages: they are positive where the first arm is better, that is smaller, if
    the measure is one of which less is better. If neither is better, or values are asked for, they are the
    first minus the second, as those of differences are.

    Args:
        first, second: what is compared, over the seeds that both have
        left_out: seeds that are not compared: only one of the two has them, or there is nothing to compare
        values: the difference on each common seed; 0 if neither run gave a number
        mean: its mean; infinite or NaN if runs are worse than every number
        median: its median; NaN if it lies between infinities of both signs
        std: its standard deviation, with n - 1; None below two seeds or without a mean
        low, high: the interval of the mean; None where there is none
        interval: "t", "bootstrap" or "none"
        effect: Cohen's d_z, the mean by the standard deviation; None without a spread
        corrected_effect: d_z with Hedges' correction for few seeds; None below three
        test: whether it differs from 0
        p: the p-value after Holm's correction
        advantage: whether it is positive where the first is better, and not where it is greater
        alike: whether seeds on which neither has a number are left out
        tests: over how many tests it was corrected

    Example:
        >>> runs = {"xavier": {0: 0.95, 1: 0.96, 2: 0.94}, "normal": {0: 0.91, 1: 0.93, 2: 0.9}}
        >>> arms = [estimate(arm, runs[arm], Measure("accuracy", worst=0.0)) for arm in runs]
        >>> print(difference(*arms))
        xavier is better than normal in accuracy: 0.950 against 0.913, a difference of 0.037 (95% interval \
0.022 to 0.051, 3 seeds, p = 0.00816).
    """

    first: "Estimate | Difference"
    second: "Estimate | Difference"
    left_out: tuple[int, ...]
    values: tuple[float, ...]
    mean: float
    median: float
    std: float | None
    low: float | None
    high: float | None
    interval: Literal["t", "bootstrap", "none"]
    effect: float | None
    corrected_effect: float | None
    test: BoundTest
    p: float
    advantage: bool
    alike: bool
    tests: int = 1

    @property
    def grain(self) -> float:
        """What two of the differences may differ by through rounding alone."""
        return max(self.first.grain, self.second.grain)

    @property
    def arm(self) -> str:
        """What has the difference, in words."""
        return f"the advantage of {self.first.arm} over {self.second.arm}"

    @property
    def measure(self) -> Measure:
        """What was measured."""
        return self.first.measure

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that are compared, in order."""
        return self.first.seeds

    @property
    def level(self) -> float:
        """What p-values are compared with, and one minus the interval's confidence."""
        return self.first.level

    @property
    def method(self) -> Method:
        """How intervals were asked for."""
        return self.first.method

    @property
    def numbered(self) -> set[int]:
        """The seeds on which both gave a number."""
        return self.first.numbered & self.second.numbered

    def on(self, seeds: Collection[int]) -> "Difference":
        """The same of these seeds alone."""
        first, second = self.first.on(seeds), self.second.on(seeds)
        return difference(first, second, advantage=self.advantage, alike=self.alike)

    def __str__(self) -> str:
        """A sentence, and further ones for what its numbers leave out."""
        text = f"{self.in_words}: {self.in_numbers(self.test, self.p, self.tests)}."
        return " ".join([text, *self.remarks])

    @property
    def in_words(self) -> str:
        """Which arm is better, if the test says so."""
        first, second, name = self.first.arm, self.second.arm, self.measure.name
        if self.test.kind == "none" or self.p > self.level:
            return f"{first} and {second} are not told apart by their {name}"
        return f"{first} is {self._ways[self.test.side < 0]} than {second} in {name}"

    @property
    def _ways(self) -> tuple[str, str]:
        return ("better", "worse") if self.advantage else ("higher", "lower")

    def in_numbers(self, test: BoundTest, p: float, tests: int) -> str:
        """The numbers that a test decides by.

        Args:
            test: the test
            p: its p-value, corrected
            tests: over how many tests it is corrected
        """
        if not self.values:
            return "no seed has a value of both"
        sides, seeds = (self.first, self.second), counted(len(self.values), "seed")
        spread = _width(self)
        if test.kind == "sign":
            medians = " against ".join(number(side.median) for side in sides)
            ways = self._ways
            if test.bound:
                ways = f"a difference above {number(test.bound)}", "below it"
            return f"medians {medians}, {_signs(self, test, *ways)} ({_by_signs(self, p, tests)})"
        means = " against ".join(number(side.mean, spread) for side in sides)
        if spread is None:
            return f"{means} on {seeds}, which shows no spread"
        told = "too few for a test" if test.kind == "none" else p_value(p, tests, test.bound)
        inside = f"{_ends(self)}, {seeds}, {told}"
        return f"{means}, a difference of {number(self.mean, spread)} ({inside})"

    @property
    def remarks(self) -> list[str]:
        """Sentences on seeds that were left out, and on runs that gave no number."""
        left_out = []
        if self.left_out:
            many = len(self.left_out) > 1
            seeds = ("Seed", "Seeds")[many] + f" {listed(self.left_out)} {('is', 'are')[many]}"
            left_out = [f"{seeds} left out, since not both arms have a value there."]
        return [*self.first.remarks, *self.second.remarks, *left_out]


def difference(
    first: Estimate | Difference,
    second: Estimate | Difference,
    *,
    advantage: bool = True,
    alike: bool = False,
) -> Difference:
    """Compares two arms on the seeds that both have, by a paired t test; or two differences of arms.

    Args:
        first: the arm whose advantage is looked for
        second: the other one, estimated in the same way: intervals and the level are those of ``first``
        advantage: whether a difference is positive where the first is better. Otherwise, and if neither is
            better, it is the first minus the second. Of differences it has to be False
        alike: whether seeds on which neither has a number are left out. Otherwise they are equal there

    Returns:
        The difference, with a p-value that is not corrected for further comparisons.

    Example:
        >>> loss = Measure("loss", more_is_better=False)
        >>> a, b = estimate("a", {0: 1.0, 1: 2.0}, loss), estimate("b", {1: 2.5, 2: 3.0}, loss)
        >>> found = difference(a, b)
        >>> found.values, found.left_out, found.test.kind
        ((0.5,), (0, 2), 'none')
        >>> difference(a, b, advantage=False).values
        (-0.5,)
    """
    every = _all_seeds(first) | _all_seeds(second)
    common = {*first.seeds} & {*second.seeds}
    if alike:
        common &= first.numbered | second.numbered
    first, second = first.on(common), second.on(common)
    sign = first.measure.sign if advantage else 1
    pairs = zip(first.values, second.values, strict=True)
    # Two runs that are both worse than every number are equal, where inf - inf would be NaN.
    differences = [0.0 if a == b else sign * (a - b) for a, b in pairs]
    values, grain = np.array(differences), max(first.grain, second.grain)
    mean, std = moments(values)
    low, high, kind = interval_of(values, first.level, first.method, grain)
    effect = mean / std if std is not None and has_spread(values, grain) else None
    found = against(0.0, values, grain)
    return Difference(
        first=first,
        second=second,
        left_out=tuple(sorted(every - common)),
        values=tuple(differences),
        mean=mean,
        median=median(values),
        std=std,
        low=low,
        high=high,
        interval=kind,
        effect=effect,
        corrected_effect=hedges(effect, len(values)),
        test=found,
        p=found.p,
        advantage=advantage and first.measure.more_is_better is not None,
        alike=alike,
    )


@dataclass(frozen=True)
class Comparison:
    """All arms of a study in one measure, and all their pairs.

    Args:
        measure: what was measured
        estimates: one for each arm
        differences: one for each pair of arms, corrected by Holm over all pairs

    Example:
        >>> runs = {"he": {0: 1.0, 1: 1.2}, "xavier": {0: 1.1, 1: 1.5}}
        >>> print(compare(runs, Measure("loss", more_is_better=False)))
        The loss of he is 1.1 (95% interval -0.2 to 2.4 by t, 2 seeds).
        The loss of xavier is 1.3 (95% interval -1.2 to 3.8 by t, 2 seeds).
        he and xavier are not told apart by their loss: 1.1 against 1.3, a difference of 0.2 (95% interval \
-1.1 to 1.5, 2 seeds, too few for a test).
    """

    measure: Measure
    estimates: tuple[Estimate, ...]
    differences: tuple[Difference, ...]

    def __str__(self) -> str:
        """A line for each arm and for each pair."""
        return "\n".join(map(str, self.estimates + self.differences))


def compare(
    runs: Mapping[str, Runs],
    measure: Measure,
    level: float = 0.05,
    interval: Method = "t",
) -> Comparison:
    """Compares every arm with every other one, with Holm's correction over all pairs.

    Args:
        runs: arm -> seed -> value
        measure: what was measured
        level: what p-values are compared with, and one minus the confidence of intervals
        interval: "t" or "bootstrap", as in ``estimate``

    Returns:
        The estimates in the order of the arms, and the differences in the order of the pairs. Intervals
        are each pair's own, without a correction.

    Example:
        >>> runs = {"a": {0: 1.0, 1: 1.1, 2: 1.0}, "b": {0: 2.0, 1: 2.1, 2: 2.2}, "c": {0: 1.0, 1: 2.0, 2: 3.0}}
        >>> [round(pair.p, 3) for pair in compare(runs, Measure("score")).differences]
        [0.012, 0.473, 0.865]
    """
    arms = tuple(estimate(arm, mine, measure, level, interval) for arm, mine in runs.items())
    pairs = [difference(*pair) for pair in combinations(arms, 2)]
    corrected = holm([pair.test.p for pair in pairs])
    return Comparison(
        measure=measure,
        estimates=arms,
        differences=tuple(
            replace(pair, p=p, tests=len(pairs)) for pair, p in zip(pairs, corrected, strict=True)
        ),
    )


def _all_seeds(found: Estimate | Difference) -> set[int]:
    """The seeds that there are, of which some may be left out."""
    if isinstance(found, Estimate):
        return {*found.runs}
    return _all_seeds(found.first) | _all_seeds(found.second) | {*found.left_out}


def _width(found: Estimate | Difference) -> float | None:
    """How wide the interval is."""
    return None if found.low is None or found.high is None else found.high - found.low


def _ends(found: Estimate | Difference) -> str:
    """An interval that there is."""
    low, high = (number(end or 0.0, _width(found)) for end in (found.low, found.high))
    return f"{confidence(found.level)} interval {low} to {high}"


def _signs(found: Estimate | Difference, test: BoundTest, above: str, below: str) -> str:
    """What a sign test counted."""
    return f"{above} on {test.above} of {counted(len(found.values), 'seed')} and {below} on {test.below}"


def _by_signs(found: Estimate | Difference, p: float, tests: int) -> str:
    """The p-value of a sign test, and why it was made."""
    finite = all(map(math.isfinite, found.values))
    why = "all are equal" if finite else "some runs gave no number"
    return f"{p_value(p, tests)} by a sign test, since {why}"
