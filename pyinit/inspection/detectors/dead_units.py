"""Units that are 0 for every sample: no gradient reaches them, so they stay so."""

from collections.abc import Iterator
from math import prod

from pyinit.inspection.detectors.detector import Detector, before, by_label, others
from pyinit.inspection.diagnosis import Diagnosis
from pyinit.inspection.rows import LayerRow, Look

# Where samples are alike, as deep in a network of ReLUs, almost half of the units may be 0 for all.
_SHARE = 0.6
_SAMPLES = 8  # with fewer, many a unit is 0 by chance


def _detect(look: Look) -> Iterator[Diagnosis]:
    found = [
        row
        for row in look.rows
        if row.activation and row.forward.dead > _SHARE and _samples(row) >= _SAMPLES
    ]
    if not found:
        return
    row = found[0]
    into = before(look, row)
    yield Diagnosis(
        "dead units",
        row.label,
        f"{row.forward.dead:.0%} of the units of {row.activation} `{row.label}` are 0 for the whole batch"
        + (f", and most of those of {others(len(found) - 1)}" if len(found) > 1 else ""),
        ""
        if into is None
        else f"what comes in has mean {into.forward.mean:.2g} and std {into.forward.std:.2g}",
        look.recipe,
    )


def _samples(row: LayerRow) -> int:
    return row.forward.count // row.forward.units if row.forward.units else prod(row.shape[:1])


def _afterwards(look: Look, found: Diagnosis) -> str:
    row = by_label(look, found.layer)
    return "" if row is None else f"it is {row.forward.dead:.0%}"


DEAD_UNITS = Detector(_detect, _afterwards, ("auto", "kaiming"))
