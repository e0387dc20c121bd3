"""What was found, and what other recipes do about it: each is tried, and what came of it is told."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
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
    tried: dict[str, tuple[Look, list[str]]] = {}
    for recipe in recipes:
        look = look_under(recipe)
        if look is not None:
            tried[recipe] = look, _faults(look)
            if not tried[recipe][1]:
                break
    helps = [
        recipe
        for recipe, (look, faults) in tried.items()
        if found.kind not in faults and detector.is_mended(look, found)
    ]
    if not helps:
        return f"it is there with {_joined(tried)}, too" if tried else ""
    best = min(helps, key=lambda recipe: len(tried[recipe][1]))
    look, left = tried[best]
    row = by_label(look, found.layer)
    initializer = row.weight.initializer if row is not None and row.weight else ""
    filled = f" ({initializer})" if initializer else ""
    but = f", but it shows {_joined(left)}" if left else ""
    return f"with {best}{filled} {detector.afterwards(look, found)}{but}"


def _faults(look: Look) -> list[str]:
    """The kinds of faults, but not those that learning rates mend."""
    detectors = (detector for detector in DETECTORS if detector.factor is None)
    return [found.kind for detector in detectors for found in detector.detect(look)]


def _joined(words: Iterable[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def _other_rates(
    detector: Detector, found: Diagnosis, factor: float, under: Callable[[str, float], Look]
) -> str:
    """Empty where training has diverged, which gives no factor."""
    if not (math.isfinite(factor) and factor > 0):
        return ""
    afterwards = detector.afterwards(under(found.recipe, factor), found)
    return f"with {factor:.1e} times the learning rates {afterwards}"
