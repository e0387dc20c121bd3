"""Layers whose weights get no gradient, and so are never trained."""

import math
from collections.abc import Iterator

from pyinit.inspection.detectors.detector import Detector, others
from pyinit.inspection.diagnosis import Diagnosis
from pyinit.inspection.rows import LayerRow, Look

_UNDERFLOW = 1e-38  # the least normal number of float32 and bfloat16


def _detect(look: Look) -> Iterator[Diagnosis]:
    if math.isnan(look.loss):
        return
    found = [row for row in look.rows if _has_none(row) and not _opens_later(look, row)]
    if not found:
        return
    row, more = found[0], len({row.name for row in found}) - 1
    yield Diagnosis(
        "no gradient",
        row.label,
        f"the weights of `{row.label}` and {others(more)} get no gradient"
        if more
        else f"the weight of `{row.label}` gets no gradient",
        _why(look, row),
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


def _why(look: Look, row: LayerRow) -> str:
    if row.backward is None:
        return "nothing that can be differentiated leads from it to the loss"
    if row.backward.std == 0 and row.backward.mean == 0:
        if any(
            0 < each.backward.std < _UNDERFLOW for each in look.rows if each.backward is not None
        ):
            return (
                "the gradients become smaller than the dtype's least number on their way back to it"
            )
        return "all gradients that come back to it are 0"
    return "what comes into it is 0"


def _afterwards(*_: object) -> str:
    return "all weights get one"


NO_GRADIENT = Detector(_detect, _afterwards, ("auto",))
