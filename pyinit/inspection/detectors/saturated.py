"""Activations that saturate: where they are flat, no gradient comes through."""

from collections.abc import Iterator

from pyinit.inspection.detectors.detector import Detector, before, by_label, others
from pyinit.inspection.diagnosis import Diagnosis
from pyinit.inspection.rows import Look

_SHARE = 0.5


def _detect(look: Look) -> Iterator[Diagnosis]:
    found = [row for row in look.rows if row.forward.saturated > _SHARE]
    if not found:
        return
    row = found[0]
    into = before(look, row)
    yield Diagnosis(
        "saturated",
        row.label,
        f"{row.forward.saturated:.0%} of the values of {row.activation} `{row.label}` are saturated"
        + (f", and more than half in {others(len(found) - 1)}" if len(found) > 1 else ""),
        ""
        if into is None
        else f"what comes in has mean {into.forward.mean:.2g} and std {into.forward.std:.2g}",
        look.recipe,
    )


def _afterwards(look: Look, found: Diagnosis) -> str:
    row = by_label(look, found.layer)
    return "" if row is None else f"it is {row.forward.saturated:.0%}"


SATURATED = Detector(_detect, _afterwards, ("auto", "xavier", "lecun"))
