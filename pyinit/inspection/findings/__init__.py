"""The kinds of findings, in the order of their codes: a file each."""

from pyinit.inspection.findings import (
    all_zero,
    constant_matrix,
    default_among_others,
    identical,
    left_to_constructor,
    made_of_unwritten,
    mean_beyond_chance,
    misplaced_scale,
    never_written,
    norm_scale,
    not_finite,
    not_reproduced,
    on_meta,
    tied_embedding,
    truncation,
    underflow,
    unexamined,
    unsuitable_std,
    written_by_several,
    written_in_part,
)
from pyinit.inspection.findings.collection import Findings
from pyinit.inspection.findings.finding import KINDS, Finding, Kind

__all__ = [
    "KINDS",
    "Finding",
    "Findings",
    "Kind",
    "all_zero",
    "constant_matrix",
    "default_among_others",
    "identical",
    "left_to_constructor",
    "made_of_unwritten",
    "mean_beyond_chance",
    "misplaced_scale",
    "never_written",
    "norm_scale",
    "not_finite",
    "not_reproduced",
    "on_meta",
    "tied_embedding",
    "truncation",
    "underflow",
    "unexamined",
    "unsuitable_std",
    "written_by_several",
    "written_in_part",
]

# The modules come in the alphabet's order.
_in_order = sorted(KINDS.items())
KINDS.clear()
KINDS.update(_in_order)
