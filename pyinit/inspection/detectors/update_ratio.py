"""Steps of training that are far too long or too short for a weight."""

from collections.abc import Iterator

from pyinit.inspection.detectors.detector import Detector, by_label, others
from pyinit.inspection.diagnosis import Diagnosis
from pyinit.inspection.rows import LayerRow, Look

USUAL = 1e-3  # of the weight's norm a step
_FAR = 100.0  # the first steps of Adam change weights of std 0.02 by its learning rate over that


def _detect(look: Look) -> Iterator[Diagnosis]:
    if not look.optimizer or any(row.forward.nonfinite for row in look.rows):
        return
    ratios = [
        (row, row.weight.update_ratio)
        for row in look.with_weights()
        if row.weight is not None and row.weight.trained and row.weight.norm > 0
    ]
    # It is NaN where training has diverged, and 0 without a gradient, which is another fault.
    longer = [(row, ratio) for row, ratio in ratios if not ratio <= USUAL * _FAR]
    shorter = [(row, ratio) for row, ratio in ratios if 0 < ratio < USUAL / _FAR]
    for found, how in ((longer, "long"), (shorter, "short")):
        if found:
            yield _diagnosis(look, found, how)


def _diagnosis(look: Look, found: list[tuple[LayerRow, float]], how: str) -> Diagnosis:
    row, ratio = found[0]
    more = len({row.name for row, _ in found}) - 1
    return Diagnosis(
        f"{how} updates",
        row.label,
        f"a step of training changes the weight of `{row.label}` by {ratio:.1e} of its norm"
        + (f", and is as far from what is usual in {others(more)}" if more else ""),
        f"about {USUAL:.0e} is usual; the learning rate is too {'high' if how == 'long' else 'low'} "
        "for it",
        look.recipe,
        ratio,
    )


def _afterwards(look: Look, found: Diagnosis) -> str:
    row = by_label(look, found.layer)
    return "" if row is None or row.weight is None else f"it is {row.weight.update_ratio:.1e}"


def _factor(found: Diagnosis) -> float:
    return USUAL / found.rate


UPDATE_RATIO = Detector(_detect, _afterwards, (), _factor)
