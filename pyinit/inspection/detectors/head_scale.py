"""A head of the wrong scale: a classifier that is sure, and wrong, before it has learned anything."""

import math
from collections.abc import Iterator

from pyinit.inspection.detectors.detector import Detector
from pyinit.inspection.diagnosis import Diagnosis
from pyinit.inspection.rows import Look

_EXCESS = 1.0  # nats. Logits of variance s^2 add s^2 / 2


def _detect(look: Look) -> Iterator[Diagnosis]:
    rows = look.with_weights()
    if not look.classes or not rows or not look.loss > math.log(look.classes) + _EXCESS:
        return
    head = rows[-1]
    yield Diagnosis(
        "wrong-scale head",
        head.label,
        f"the loss starts at {look.loss:.2f}, where {look.classes} classes at equal chances have "
        f"log({look.classes}) = {math.log(look.classes):.2f}",
        f"`{head.label}` puts out values of std {head.forward.std:.2g}",
        look.recipe,
    )


def _afterwards(look: Look, _: Diagnosis) -> str:
    return f"it starts at {look.loss:.2f}"


HEAD_SCALE = Detector(_detect, _afterwards, ("auto", "lecun"))
