"""The program of a worker: it reads requests and writes answers, each a line of JSON.

A crash ends this process alone, and shows which case it was in.
"""

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

import torch

from fuzzing.case import Case
from fuzzing.judge import Limits, Outcome, judge
from fuzzing.subjects import case_of, drawn
from pyinit import _core, functional

_SPARE = 6 << 30  # bytes that may be allocated beyond what is in use


def is_sanitized() -> bool:
    return "libasan" in Path("/proc/self/maps").read_text()


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # prints of torch and others must not mix with the answers
    torch.set_num_interop_threads(1)
    _core.set_threads_at_any_loss(True)  # so that threads run also on a busy machine
    limits = Limits(judged=not is_sanitized())
    if limits.judged:
        in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (in_use + _SPARE,) * 2)

    def answer(**values: Any) -> None:
        answers.write(json.dumps(values) + "\n")

    def run(case: Case, index: int) -> None:
        try:
            outcome = judge(case, limits, lambda phase: answer(index=index, phase=phase))
        except Exception as error:  # noqa: BLE001  an error of the fuzzer itself
            outcome = Outcome("broken", f"{type(error).__name__}: {error}")
        answer(index=index, subject=case.name, label=case.label(), outcome=outcome.as_dict())

    # torch loads code at its first gradient; the first case must not be charged for it.
    x = torch.ones(1, 1, 1, requires_grad=True)
    torch.autograd.grad(functional.conv1d(x, x), x, x.detach())
    answer(ready=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "case" in request:
            run(case_of(request["case"]), 0)
        else:
            seed, subjects = request["seed"], request["subjects"]
            for index in range(request["start"], request["stop"]):
                case = drawn(seed, index, subjects)
                if case is not None:
                    run(case, index)
        answer(done=True)


if __name__ == "__main__":
    main()
