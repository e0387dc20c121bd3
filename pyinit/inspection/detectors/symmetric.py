"""Units with the same weights: they get the same gradient, and stay one unit for ever."""

from collections.abc import Iterator

from pyinit.inspection.detectors.detector import Detector, by_label
from pyinit.inspection.diagnosis import Diagnosis
from pyinit.inspection.rows import LayerRow, Look


def _detect(look: Look) -> Iterator[Diagnosis]:
    for row in look.with_weights():
        if row.weight is not None and row.weight.copies and not _is_depthwise(row):
            yield Diagnosis(
                "symmetric units",
                row.label,
                f"{row.weight.copies} of the {row.weight.shape[0]} units of `{row.label}` have the same "
                "weights as another",
                f"{row.weight.initializer or row.weight.name} breaks no symmetry between them",
                look.recipe,
            )
            return


def _is_depthwise(row: LayerRow) -> bool:
    """Units that get different inputs may have the same weights."""
    return row.kind == "conv" and row.weight is not None and row.weight.shape[1] == 1


def _afterwards(look: Look, found: Diagnosis) -> str:
    row = by_label(look, found.layer)
    return "" if row is None or row.weight is None else f"there are {row.weight.copies or 'none'}"


SYMMETRIC = Detector(_detect, _afterwards, ("auto",))
