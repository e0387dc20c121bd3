"""Signals and gradients that vanish or explode from layer to layer."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from pyinit.inspection.detectors.detector import Detector, described
from pyinit.inspection.detectors.trend import greatest_fall, rate
from pyinit.inspection.diagnosis import Diagnosis
from pyinit.inspection.rows import NAN, LayerRow, Look

_ROUNDING = 2.0**-24  # of float32, relative

Value = Callable[[LayerRow], float]


class _Trend(NamedTuple):
    """What may fall or rise.

    value: of a call
    words: what it is called, and where it goes
    total: a fall to less than this share of it is a fault
    backward: whether it goes from the last layer to the first
    """

    kind: str
    value: Value
    words: str
    total: float
    backward: bool
    rises: bool


def variance(row: LayerRow) -> float:
    """That of a unit over the samples, or what rounding makes of none."""
    seen = row.forward
    return max(seen.variance, _ROUNDING**2 * (seen.mean * seen.mean + seen.std * seen.std))


def gradient(row: LayerRow) -> float:
    """The squared norm of the gradient by the output, which does not depend on the layer's size."""
    if row.backward is None:
        return NAN
    seen = row.backward
    return row.forward.count * (seen.mean * seen.mean + seen.std * seen.std)


def _chain(look: Look, trend: _Trend) -> list[tuple[LayerRow, float]]:
    rows = [(row, trend.value(row)) for row in look.with_weights()]
    known = [(row, value) for row, value in rows if math.isfinite(value)]
    return known[::-1] if trend.backward else known


def _detect(trend: _Trend, look: Look) -> Iterator[Diagnosis]:
    chain = _chain(look, trend)
    values = [value for _, value in chain]
    falling = [1 / v if v else math.inf for v in values] if trend.rises else values
    fall = greatest_fall(falling, trend.total)
    if fall is None:
        return
    # The scale of a head alone is no trend, and often meant.
    if not trend.backward and greatest_fall(falling[:-1], trend.total) is None:
        return
    first, last = chain[fall.start + 1][0], chain[fall.end][0]
    factor = 1 / fall.rate if trend.rises else fall.rate
    does = "grows" if trend.rises else "falls"
    onward = "back" if trend.backward else "on"
    yield Diagnosis(
        trend.kind,
        first.label,
        f"{trend.words} {does} by a factor of {factor:.2g} a layer from `{first.label}` {onward}, "
        f"{values[fall.start]:.1e} to {values[fall.end]:.1e} at `{last.label}`",
        described(look, first),
        look.recipe,
        factor,
        last.label,
    )


def _afterwards(trend: _Trend, look: Look, found: Diagnosis) -> str:
    chain = _chain(look, trend)
    labels = [row.label for row, _ in chain]
    if found.layer not in labels or found.until not in labels:
        return ""
    # The first number is that of the layer before.
    part = chain[max(labels.index(found.layer) - 1, 0) : labels.index(found.until) + 1]
    return f"the factor is {rate([value for _, value in part]):.2g}" if len(part) > 1 else ""


def _detector(trend: _Trend) -> Detector:
    return Detector(partial(_detect, trend), partial(_afterwards, trend))


# Not the square of the table's std, which is of all values: what units share stays in that.
_VARIANCE = "variance over the samples"

VANISHING_SIGNAL = _detector(
    _Trend("vanishing signal", variance, _VARIANCE, 1e-3, backward=False, rises=False)
)
EXPLODING_SIGNAL = _detector(
    _Trend("exploding signal", variance, _VARIANCE, 1e-4, backward=False, rises=True)
)
VANISHING_GRADIENT = _detector(
    _Trend("vanishing gradient", gradient, "squared gradient", 1e-6, backward=True, rises=False)
)
EXPLODING_GRADIENT = _detector(
    _Trend("exploding gradient", gradient, "squared gradient", 1e-6, backward=True, rises=True)
)
