"""NaN and infinity, where they come from first."""

from collections.abc import Iterator

from pyinit.inspection.detectors.detector import Detector, before
from pyinit.inspection.diagnosis import Diagnosis
from pyinit.inspection.rows import LayerRow, Look


def _detect(look: Look) -> Iterator[Diagnosis]:
    for row in look.rows:
        if row.forward.nonfinite:
            yield Diagnosis(
                "not finite",
                row.label,
                f"`{row.label}` puts out {row.forward.nonfinite:,} of {row.forward.count:,} values that "
                "are NaN or infinite, the first layer that does",
                _why(look, row),
                look.recipe,
            )
            return
    for row in reversed(look.rows):
        if row.backward is not None and row.backward.nonfinite:
            yield Diagnosis(
                "not finite",
                row.label,
                f"the gradient by the output of `{row.label}` has {row.backward.nonfinite:,} values that "
                "are NaN or infinite, the first on its way back",
                "what follows the layer makes them",
                look.recipe,
            )
            return


def _why(look: Look, row: LayerRow) -> str:
    if row.weight is not None and row.weight.nonfinite:
        count = row.weight.nonfinite
        are = "element of {} is itself" if count == 1 else "elements of {} are themselves"
        return f"{count:,} {are.format(row.weight.name)}"
    if row.finite_inputs:
        return "all that comes in is finite, so it comes from this layer: it overflows, or another parameter is not finite"
    last = before(look, row)
    where = f"between `{last.label}` and it" if last is not None else "before it"
    return f"it comes from what is computed {where}"


def _afterwards(*_: object) -> str:
    return "all is finite"


NOT_FINITE = Detector(_detect, _afterwards, ("auto",))
