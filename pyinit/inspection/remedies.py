"""What was found, and what other recipes do about it: each is tried, and what came of it is told."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from pyinit.inspection.detectors import DETECTORS, Detector
from pyinit.inspection.detectors.detector import by_label
from pyinit.inspection.diagnosis import Diagnosis
from pyinit.inspection.rows import Look

_TRIED = 3  # recipes for a fault


def diagnosed(looks: Sequence[Look], under: Callable[[str, float], Look]) -> Iterator[Diagnosis]:
    """The faults of looks, each with the first recipe under which it is gone.

    Args:
        looks: the looks
        under: gives a look under a recipe, with learning rates times a factor
    """
    known = {look.recipe: look for look in looks}

    def look_under(recipe: str) -> Look | None:
        """None for a recipe that does not suit the model."""
        if recipe not in known:
            try:
                known[recipe] = under(recipe, 1.0)
            except (ValueError, RuntimeError):
                return None
        return known[recipe]

    for look in looks:
        for detector in DETECTORS:
            for found in detector.detect(look):
                remedy = (
                    _remedy(detector, found, look_under)
                    if detector.factor is None
                    else _other_rates(detector, found, detector.factor(found), under)
                )
                yield replace(found, remedy=remedy)


def _remedy(detector: Detector, found: Diagnosis, look_under: Callable[[str], Look | None]) -> str:
    recipes = [recipe for recipe in detector.recipes if recipe != found.recipe][:_TRIED]
    tried = []
    for recipe in recipes:
        look = look_under(recipe)
        if look is None:
            continue
        tried.append(recipe)
        if all(other.kind != found.kind for other in detector.detect(look)):
            row = by_label(look, found.layer)
            initializer = row.weight.initializer if row is not None and row.weight else ""
            filled = f" ({initializer})" if initializer else ""
            return f"with {recipe}{filled} {detector.afterwards(look, found)}"
    return f"it is there with {', '.join(tried)}, too" if tried else ""


def _other_rates(
    detector: Detector, found: Diagnosis, factor: float, under: Callable[[str, float], Look]
) -> str:
    """Empty where training has diverged, which gives no factor."""
    if not (math.isfinite(factor) and factor > 0):
        return ""
    afterwards = detector.afterwards(under(found.recipe, factor), found)
    return f"with {factor:.1e} times the learning rates {afterwards}"
