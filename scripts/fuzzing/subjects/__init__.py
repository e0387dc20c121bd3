"""The subjects of the fuzzer, and the case that belongs to an index."""

import json

from fuzzing.case import Case, Draws, from_json
from fuzzing.subjects.activation import Activation
from fuzzing.subjects.columns import Columns
from fuzzing.subjects.convolution import Convolution, ExtremeConvolution
from fuzzing.subjects.fills import Fill
from fuzzing.subjects.gemm import Gemm
from fuzzing.subjects.matrices import Orthogonal, Structured, TorchsNumbers
from fuzzing.subjects.sums import Sums
from fuzzing.subjects.trunc_normal import TruncNormal

# How often each subject is drawn.
_SHARES: dict[type[Case], int] = {
    Convolution: 40,
    ExtremeConvolution: 8,
    Sums: 8,
    Fill: 10,
    TruncNormal: 6,
    Orthogonal: 4,
    Structured: 3,
    TorchsNumbers: 4,
    Activation: 8,
    Columns: 5,
    Gemm: 4,
}
SUBJECTS: dict[str, type[Case]] = {cls.name: cls for cls in _SHARES}


def drawn(seed: int, index: int, subjects: list[str]) -> Case | None:
    """The case of that index; None if it belongs to another subject."""
    rng = Draws(f"{seed}/{index}")
    (subject,) = rng.choices(list(_SHARES), list(_SHARES.values()))
    return subject.draw(rng) if subject.name in subjects else None


def case_of(text: str) -> Case:
    """The case that ``Case.to_json`` wrote."""
    values = json.loads(text)
    return from_json(SUBJECTS[values.pop("subject")], values)
