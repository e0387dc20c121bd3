"""``torch.nn.init`` swapped for pyinit in a running program."""

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch.nn.init
from torch import Tensor

from pyinit import _core, init
from pyinit._random.rng import _context_choice, _known
from pyinit._torch.eager import eager
from pyinit._torch.fork_safe_lock import fork_safe_lock
from pyinit._torch.original import original as torchs

_ENVIRONMENT = "PYINIT_PATCH"
_PACKAGE = __name__.partition(".")[0]

Function = Callable[..., Tensor]
Swaps = dict[int, Function]  # by the identity of the function that goes

_lock = fork_safe_lock()
_handles: list["Handle"] = []  # the patches in force: the last one decides the generator
_rng: str | None = None
_is_changing = False
_holders: list[Any] = []  # where functions were swapped, while they are


@contextmanager
def _changing() -> Iterator[None]:
    """The handles change, and then the process: in one thread at a time.

    If that is interrupted, patches that began are gone, and so are those that ended.
    """
    global _is_changing  # noqa: PLW0603  a child made by fork asks
    with _lock:
        before = _handles.copy()
        _is_changing = True
        try:
            yield
            _apply()
        except BaseException:
            _handles[:] = [handle for handle in before if handle in _handles]
            _apply(is_half_done=True)
            raise
        finally:
            _is_changing = False


def _after_fork_in_child() -> None:
    """What another thread had begun, which is not there any more, is done here to the end."""
    if _is_changing:
        _apply(is_half_done=True)


os.register_at_fork(after_in_child=_after_fork_in_child)


class Handle:
    """A patch that is in force: until its ``with`` block ends, or until ``unpatch()``."""

    def __init__(self, rng: str) -> None:
        self.rng = rng
        self._depth = 0

    @eager
    def __enter__(self) -> None:
        with _changing():
            self._depth += 1
            if self not in _handles:
                _handles.append(self)

    @eager
    def __exit__(self, *_: object) -> None:
        with _changing():
            self._depth = max(self._depth - 1, 0)  # to leave twice is safe
            if self._depth == 0 and self in _handles:
                _handles.remove(self)


def _replacement(original: Function, fill: Function) -> Function:
    """What stands in for a function of torch: pyinit's, or torch's own once nothing is patched."""

    @eager
    @functools.wraps(original)
    def replacement(*args: Any, **kwargs: Any) -> Tensor:
        rng = _rng
        if rng is None:
            return original(*args, **kwargs)
        before = _context_choice.set(rng)
        try:
            return fill(*args, **kwargs)
        finally:
            _context_choice.reset(before)

    return replacement


# torch's `_no_grad_*` stay: its own functions, to which pyinit turns, call them by name.
_originals: dict[str, Function] = {
    name: getattr(torchs, name)
    for name in init.__all__
    if hasattr(torchs, name) and name != "calculate_gain"
}
_replacements = {
    name: _replacement(original, getattr(init, name)) for name, original in _originals.items()
}
_swaps_in: Swaps = {id(_originals[name]): _replacements[name] for name in _originals}
_swaps_out: Swaps = {id(_replacements[name]): _originals[name] for name in _originals}


@eager
def patch(rng: str = "torch") -> Handle:
    """Swap the functions of ``torch.nn.init`` for pyinit's in the whole process.

    They are swapped at once, in ``torch.nn.init`` and wherever a module bound one to a name or
    keeps it in a dict, list or set. Modules imported later bind pyinit's. Calls made through
    ``pyinit`` itself keep their own choice of generator. ``docs/patch.md`` says what is not reached.

    Args:
        rng: the generator of the swapped functions: ``"torch"``, the default, gives the numbers
            that torch would have drawn, ``"philox"`` gives pyinit's own.

    Returns:
        A context manager. At the end of ``with pyinit.patch(): ...`` what was before is in force.
        Patches may overlap, in several threads too: the one that came last decides the generator,
        and torch's functions are back when none is left.

    Raises:
        ValueError: for an unknown ``rng``; nothing is swapped then.

    The environment variable ``PYINIT_PATCH=1`` patches when pyinit is imported.
    """
    handle = Handle(_known(rng, "rng"))
    with _changing():
        _handles.append(handle)
    return handle


@eager
def unpatch() -> None:
    """Put torch's own functions back everywhere, whatever patches are in force."""
    with _changing():
        _handles.clear()


def rng_in_force() -> str | None:
    """The generator of the swapped functions; None where torch's own are in place."""
    return _rng


def _apply(is_half_done: bool = False) -> None:
    """Make the process be as the handles say; half done, it is not what ``torch.nn.init`` looks like."""
    global _rng  # noqa: PLW0603  the process is patched or not
    _rng = _handles[-1].rng if _handles else None
    swaps = _swaps_in if _handles else _swaps_out
    namespace = vars(torch.nn.init)
    if not is_half_done and swaps.keys().isdisjoint(map(id, namespace.values())):
        return
    # torch's module comes first: what is imported meanwhile binds the new functions.
    _swap(namespace, swaps)
    if _handles:
        _holders.extend(_core.containers_of(_namespaces(), swaps))
    for container in _holders:
        _swap(container, swaps)
    if not _handles:
        _holders.clear()
        if _references() != _own_references:  # others have bound a new function since
            for container in _core.containers_of(_namespaces(), swaps):
                _swap(container, swaps)


def _references() -> list[int]:
    """How many there are to each of the new functions."""
    return [sys.getrefcount(function) for function in _replacements.values()]


_own_references = _references()


def _namespaces() -> list[dict[str, Any]]:
    """Those of all modules but pyinit's own."""
    return [
        object.__getattribute__(module, "__dict__")  # loads no lazy module
        for name, module in list(sys.modules.items())
        if issubclass(type(module), ModuleType) and name.partition(".")[0] != _PACKAGE
    ]


def _swap(container: Any, swaps: Swaps) -> None:
    """Swap functions in a dict (keys, too), list or set, which lacks none of its members meanwhile."""
    if type(container) is dict:
        for key, value in list(container.items()):
            if id(value) in swaps:
                container[key] = swaps[id(value)]
            if id(key) in swaps:
                container[swaps[id(key)]] = container[key]
                del container[key]
    elif type(container) is list:
        for index, value in enumerate(container):
            container[index] = swaps.get(id(value), value)
    else:
        for value in [value for value in container if id(value) in swaps]:
            container.add(swaps[id(value)])
            container.remove(value)


_setting = os.environ.get(_ENVIRONMENT, "")
if _setting not in ("", "0", "1"):
    raise ValueError(f"{_ENVIRONMENT} must be '1', '0' or empty, got {_setting!r}")
if _setting == "1":
    patch()
