"""Shrinking: from a failing case to the simplest one that fails in the same way."""

import time
from collections.abc import Callable
from typing import Any

from fuzzing.case import Case


def shrink(case: Case, fails: Callable[[Case], bool], seconds: float) -> Case:
    """A case that still fails, while no simpler one does, as far as the time goes."""
    until = time.monotonic() + seconds
    seen: set[Any] = set()

    def simpler(case: Case) -> Case | None:
        for candidate in case.simpler():
            if time.monotonic() > until:
                return None
            if candidate in seen or candidate.work() > candidate.most_work:
                continue
            seen.add(candidate)
            if fails(candidate):
                return candidate
        return None

    while (found := simpler(case)) is not None:
        case = found
    return case
