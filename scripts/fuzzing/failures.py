"""What failed: counted, the shortest kept, and printed as a program that shows it."""

import inspect
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from fuzzing import memory
from fuzzing.case import Case
from fuzzing.pool import Answer

GOOD = ("ok", "refused", "unjudged")
"""Kinds of answers that are no failures: right, refused by torch, too, and without a judgement by torch."""


@dataclass(frozen=True)
class Failure:
    case: Case
    index: int
    isas: tuple[str, ...]
    """The one that failed, or those whose bits differ."""
    answer: Answer


@dataclass
class Findings:
    """Of all cases so far."""

    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many answers there were of a subject and kind."""
    shortest: dict[tuple[str, str], Failure] = field(default_factory=dict)
    """By label and kind."""
    times: Counter[tuple[str, str]] = field(default_factory=Counter)

    def note(self, failure: Failure | None, subject: str, kind: str) -> None:
        self.kinds[subject, kind] += 1
        if failure is None:
            return
        place = failure.case.label(), kind
        self.times[place] += 1
        known = self.shortest.get(place)
        if known is None or failure.case.work() < known.case.work():
            self.shortest[place] = failure


def program_text(case: Case) -> str:
    """What shows the failure without the fuzzer: torch's result, beside ours, is of float64 where it says so."""
    program = case.program()
    text = "\n".join([*program.setup, program.ours, program.torchs])
    lines = [
        "import numpy as np, torch, pyinit",
        "from numpy import inf, nan",
        "from torch.nn import functional as torchs",
        "from pyinit import _core, fill, functional as F, init",
        "from pyinit.nn import grad",
    ]
    helpers: dict[str, Callable[..., object]] = {"place(": memory.place}
    lines += [
        inspect.getsource(helper)
        .replace(": Tensor", "")
        .replace(") -> Tensor", ")")
        .replace(": Shape", "")
        for name, helper in helpers.items()
        if name in text
    ]
    lines += [
        f"torch.set_num_threads({case.threads})",
        f"torch.manual_seed({case.seed})",
        *program.setup,
    ]
    lines += [f"print({program.ours})", f"print({program.torchs})"]
    return "\n".join(lines)
