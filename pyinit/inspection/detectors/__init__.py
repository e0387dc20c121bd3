"""Detectors of faults, in the order in which faults are told: what makes others comes first."""

from pyinit.inspection.detectors.collapsed import COLLAPSED
from pyinit.inspection.detectors.dead_units import DEAD_UNITS
from pyinit.inspection.detectors.detector import Detector
from pyinit.inspection.detectors.head_scale import HEAD_SCALE
from pyinit.inspection.detectors.no_gradient import NO_GRADIENT
from pyinit.inspection.detectors.nonfinite import NOT_FINITE
from pyinit.inspection.detectors.saturated import SATURATED
from pyinit.inspection.detectors.symmetric import SYMMETRIC
from pyinit.inspection.detectors.through_layers import (
    EXPLODING_GRADIENT,
    EXPLODING_SIGNAL,
    VANISHING_GRADIENT,
    VANISHING_SIGNAL,
)
from pyinit.inspection.detectors.update_ratio import UPDATE_RATIO

__all__ = ["DETECTORS", "Detector"]

DETECTORS: tuple[Detector, ...] = (
    NOT_FINITE,
    VANISHING_SIGNAL,
    EXPLODING_SIGNAL,
    VANISHING_GRADIENT,
    EXPLODING_GRADIENT,
    SATURATED,
    DEAD_UNITS,
    COLLAPSED,
    SYMMETRIC,
    NO_GRADIENT,
    HEAD_SCALE,
    UPDATE_RATIO,
)
