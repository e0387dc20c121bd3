"""Samples that become alike on their way through a network, so that it cannot tell them apart."""

from collections.abc import Iterator

from pyinit.inspection.detectors.detector import Detector, by_label, described
from pyinit.inspection.diagnosis import Diagnosis
from pyinit.inspection.rows import Look

_ALIKE, _DIFFERENT = 0.99, 0.9  # mean cosines


def _detect(look: Look) -> Iterator[Diagnosis]:
    rows = look.with_weights()
    if not rows or not rows[0].forward.mean_cosine < _DIFFERENT:
        return
    row = next((row for row in rows if row.forward.mean_cosine > _ALIKE), None)
    if row is None:
        return
    yield Diagnosis(
        "collapsed samples",
        row.label,
        f"samples are alike from `{row.label}` on: the mean cosine between two is "
        f"{row.forward.mean_cosine:.4f}, from {rows[0].forward.mean_cosine:.2f} at `{rows[0].label}`",
        described(look, row),
        look.recipe,
    )


def _afterwards(look: Look, found: Diagnosis) -> str:
    row = by_label(look, found.layer)
    return "" if row is None else f"it is {row.forward.mean_cosine:.2f}"


COLLAPSED = Detector(_detect, _afterwards)
