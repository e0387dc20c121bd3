"""Calls that a checkpoint makes a second time, in the backward pass."""

from collections.abc import Iterable

from pyinit.inspection.calls import Call


class Recomputed:
    """Calls that were computed without gradients. A reentrant checkpoint computes them again in the
    backward pass, in the same order, but the last checkpoint first. Calls between two changes of
    torch's gradient mode belong together.
    """

    def __init__(self, calls: Iterable[Call] = ()) -> None:
        self._parts = [list(calls)]
        self._current: list[Call] = []

    def cut(self) -> None:
        """torch's gradient mode changes."""
        self._current = []
        if self._parts[-1]:
            self._parts.append([])

    def add(self, call: Call) -> None:
        self._parts[-1].append(call)

    def take(self, name: str) -> Call | None:
        """The call that is computed again now."""
        if not (self._current and self._current[0].name == name):
            part = next((p for p in reversed(self._parts) if p and p[0].name == name), None)
            if part is None:
                return None
            self._current = part
        return self._current.pop(0)
