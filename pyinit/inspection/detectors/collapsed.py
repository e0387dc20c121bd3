"""Samples that become alike on their way through a network, so that it cannot tell them apart."""

from collections.abc import Iterator
from itertools import takewhile

from pyinit.inspection.detectors.detector import Detector, by_label, described
from pyinit.inspection.diagnosis import Diagnosis
from pyinit.inspection.rows import Look

_ALIKE, _DIFFERENT = 0.99, 0.9  # mean cosines
_APART = 0.95  # what a remedy must come below


def _detect(look: Look) -> Iterator[Diagnosis]:
    rows = look.with_weights()
    if not rows or not rows[0].forward.mean_cosine < _DIFFERENT:
        return
    alike = list(takewhile(lambda row: not row.forward.mean_cosine <= _ALIKE, reversed(rows)))
    row = next((row for row in reversed(alike) if row.forward.mean_cosine > _ALIKE), None)
    # Or they come apart again, as behind a norm or beside a residual branch. The outputs of a head may be
    # alike before it has learned anything.
    if row is None or row is rows[-1]:
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


def _is_mended(look: Look, found: Diagnosis) -> bool:
    row = by_label(look, found.layer)
    return row is not None and row.forward.mean_cosine < _APART


COLLAPSED = Detector(_detect, _afterwards, is_mended=_is_mended)
