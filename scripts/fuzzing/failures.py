"""Failures: they are counted, the shortest are kept, and each is printed as a program that shows it."""

import inspect
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from fuzzing import memory
from fuzzing.case import Case
from fuzzing.pool import Answer

GOOD = ("ok", "refused", "unjudged")
"""Kinds of answers that are no failures: right, refused by torch as well, and not judged since torch gave no result."""


@dataclass(frozen=True)
class Failure:
    case: Case
    index: int
    isas: tuple[str, ...]
    """The instruction set that failed, or the two whose bits differ."""
    answer: Answer


@dataclass
class Findings:
    """What has been found in all cases so far."""

    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many answers there were of each subject and kind."""
    shortest: dict[tuple[str, str], Failure] = field(default_factory=dict)
    """The shortest failure of each label and kind."""
    times: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many failures there were of each label and kind."""

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
    """A program that shows the failure without the fuzzer: it prints pyinit's result and torch's."""
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
