"""Which fills were native and which were torch's own, and how long they took, while somebody counts."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, NamedTuple

from torch import Tensor

from pyinit._torch.fork_safe_lock import fork_safe_lock
from pyinit._torch.views import dtype_name, overridden

is_counting = False
"""Whether a tally is being kept, so that those who are asked to mark their calls need not otherwise."""


class Call(NamedTuple):
    """A fill that was seen, without the tensor itself."""

    shape: tuple[int, ...]
    elements: int
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass
class Fills:
    """The fills of one kind: how many, how large, how long in seconds, and the largest of them."""

    calls: int = 0
    elements: int = 0
    seconds: float = 0.0
    largest: Call | None = None

    def add(self, call: Call, seconds: float) -> None:
        self.calls += 1
        self.elements += call.elements
        self.seconds += seconds
        if self.largest is None or call.elements > self.largest.elements:
            self.largest = call


@dataclass
class Tally:
    """Fills by the function's name, and the kind of tensor.

    native: what pyinit's kernels filled
    small: what torch filled because it is as fast for so few elements
    torchs: what torch filled because pyinit cannot, or may not
    """

    native: dict[tuple[str, str], Fills] = field(default_factory=dict)
    small: dict[tuple[str, str], Fills] = field(default_factory=dict)
    torchs: dict[tuple[str, str], Fills] = field(default_factory=dict)


class _Thread(threading.local):
    """The fill that a thread is in: whether it is in one, and who has done it."""

    is_in_fill = False
    done_by = "native"


_tally = Tally()
_thread = _Thread()
_lock = fork_safe_lock()


def start() -> Tally:
    """Count from here on, for the rest of the process."""
    global is_counting, _tally
    _tally, is_counting = Tally(), True
    return _tally


def stop() -> None:
    """Count no more."""
    global is_counting  # noqa: PLW0603
    is_counting = False


def mark(done_by: str) -> None:
    """Say who has done the fill that this thread is in: ``"native"``, ``"small"`` or ``"torchs"``.

    The last word counts: what a fill tries out on the way does not.
    """
    _thread.done_by = done_by


def count(name: str, fill: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    """Call a function that fills its first argument, and count that; not the fills that it calls."""
    tensor = args[0] if args else kwargs.get("tensor")
    if _thread.is_in_fill or not isinstance(tensor, Tensor) or overridden(tensor):
        return fill(*args, **kwargs)
    _thread.is_in_fill, _thread.done_by = True, "native"
    begin = perf_counter()
    try:
        result = fill(*args, **kwargs)
    finally:
        _thread.is_in_fill = False
    seconds = perf_counter() - begin
    call = Call(tuple(tensor.shape), tensor.numel(), args[1:], kwargs)
    kind = name, f"{dtype_name(tensor.dtype)} on {tensor.device.type}"
    with _lock:
        getattr(_tally, _thread.done_by).setdefault(kind, Fills()).add(call, seconds)
    return result
