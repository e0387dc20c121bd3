"""Learning curves in a number or a band: when a level is reached, the area below, and the mean of all seeds."""

from collections.abc import Mapping, Sequence

from pyinit.studies.samples import Measure, Method, is_number, statistics_module
from pyinit.studies.statistics import Estimate, estimate


def reached(
    steps: Sequence[float],
    values: Sequence[float | None],
    level: float,
    more_is_better: bool = True,
) -> float | None:
    """Where a curve first reaches a level.

    Args:
        steps: where it was measured, ascending: steps, epochs or seconds
        values: what was measured there; None where a run had diverged
        level: what is to be reached
        more_is_better: whether from below; otherwise from above

    Returns:
        The first of ``steps`` with a value that is at least as good as the level; nothing is
        interpolated. None if the curve never gets there. Statistics count that as worse than any number,
        since the run was only stopped.

    Example:
        >>> reached([0, 10, 20, 30], [0.1, 0.7, 0.9, 0.8], level=0.8)
        20
        >>> reached([0, 10, 20], [2.3, 1.1, None], level=1.0, more_is_better=False) is None
        True
    """
    sign = 1 if more_is_better else -1
    for step, value in zip(steps, values, strict=True):
        if value is not None and is_number(value) and sign * value >= sign * level:
            return step
    return None


def area(steps: Sequence[float], values: Sequence[float | None]) -> float | None:
    """The area under a curve by its length: what it was on average, by the trapezoidal rule.

    Args:
        steps: where it was measured, ascending
        values: what was measured there; None where a run had diverged

    Returns:
        The average, in units of the values; None for a curve with a gap, or of fewer than two points.

    Example:
        >>> area([0, 10, 40], [0.0, 1.0, 1.0])
        0.875
    """
    if len(steps) < 2 or not all(map(is_number, values)):
        return None
    trapezoid = statistics_module("scipy.integrate").trapezoid
    return float(trapezoid(values, steps)) / (steps[-1] - steps[0])


def band(
    arm: str,
    curves: Mapping[int, Mapping[int, float | None]],
    measure: Measure,
    level: float = 0.05,
    interval: Method = "t",
) -> dict[int, Estimate]:
    """The mean of an arm's curves with its interval, step by step.

    Args:
        arm: its name
        curves: seed -> step -> value
        measure: what was measured
        level: one minus the confidence of the intervals
        interval: "t" or "bootstrap", as in ``estimate``

    Returns:
        step -> estimate, for every step at which a curve has a point. A curve that has none there counts
        as a run that gave no number, so that a mean does not rise when the worst runs end.

    Example:
        >>> curves = {0: {0: 2.0, 10: 1.0}, 1: {0: 2.2, 10: None}}
        >>> [(step, each.mean) for step, each in band("he", curves, Measure("loss", False)).items()]
        [(0, 2.1), (10, inf)]
    """
    steps = sorted({step for curve in curves.values() for step in curve})
    return {
        step: estimate(
            arm, {seed: curve.get(step) for seed, curve in curves.items()}, measure, level, interval
        )
        for step in steps
    }
