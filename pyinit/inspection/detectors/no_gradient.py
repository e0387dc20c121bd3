"""Layers whose weights get no gradient, and so are never trained."""

import math
from collections.abc import Iterator

from pyinit.inspection.detectors.detector import Detector
from pyinit.inspection.diagnosis import Diagnosis
from pyinit.inspection.rows import LayerRow, Look


def _detect(look: Look) -> Iterator[Diagnosis]:
    if math.isnan(look.loss):
        return
    found = [row for row in look.rows if _has_none(row) and not _opens_later(look, row)]
    if not found:
        return
    row, others = found[0], len({row.name for row in found}) - 1
    yield Diagnosis(
        "no gradient",
        row.label,
        f"the weight of `{row.label}` gets no gradient"
        + (f", nor do those of {others} others" if others else ""),
        _why(row),
        look.recipe,
    )


def _has_none(row: LayerRow) -> bool:
    weight = row.weight
    return weight is not None and weight.trained and not weight.gradient_norm > 0


def _opens_later(look: Look, row: LayerRow) -> bool:
    """Whether a later weight is 0 and gets a gradient, as at the end of a residual branch: after one step
    of training it is not, and lets gradients through."""
    weight = row.weight
    if weight is not None and math.isnan(weight.gradient_norm):
        return False
    index = next(i for i, each in enumerate(look.rows) if each is row)
    later = (each.weight for each in look.rows[index + 1 :] if each.weight is not None)
    return any(each.norm == 0 and each.gradient_norm > 0 for each in later)


def _why(row: LayerRow) -> str:
    if row.backward is None:
        return "nothing that can be differentiated leads from it to the loss"
    if row.backward.std == 0 and row.backward.mean == 0:
        return "all gradients that come back to it are 0"
    return "what comes into it is 0"


def _afterwards(*_: object) -> str:
    return "all weights get one"


NO_GRADIENT = Detector(_detect, _afterwards, ("auto",))
