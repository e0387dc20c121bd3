"""``torch.nn.init`` swapped for pyinit in a running program."""

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

import torch.nn.init
from torch import Tensor

from pyinit import _core, init
from pyinit._random.rng import RngName, _context_choice, _known
from pyinit._random.tensor_methods import METHODS
from pyinit._torch import tally
from pyinit._torch.eager import eager
from pyinit._torch.fork_safe_lock import fork_safe_lock
from pyinit._torch.original import methods
from pyinit._torch.original import original as torchs

_ENVIRONMENT = "PYINIT_PATCH"
_PACKAGE = __name__.partition(".")[0]

_P = ParamSpec("_P")
_R = TypeVar("_R")

Function = Callable[..., Tensor]
Swaps = dict[int, Function]  # by the identity of the function that goes

_lock = fork_safe_lock()
_handles: list["Handle"] = []  # the patches in force: the last one decides the generator
_rng: RngName | None = None
_is_changing = False
_holders: list[Any] = []  # where functions were swapped, while they are


@contextmanager
def _changing() -> Iterator[None]:
    """Let one thread at a time change the handles, and then make the process follow them.

    If this is interrupted, patches that were about to begin are gone, and so are those that ended.
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
    """Finish what another thread had begun: in the child that thread does not exist."""
    if _is_changing:
        _apply(is_half_done=True)


os.register_at_fork(after_in_child=_after_fork_in_child)


class Handle:
    """A patch that is in force until its ``with`` block ends, or until ``unpatch()``.

    As a decorator it patches only while the function runs.
    """

    def __init__(self, rng: RngName) -> None:
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

    @eager
    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Wrap a function so that each of its calls runs in a ``with`` block of this patch.

        Raises:
            TypeError: for a class, a coroutine function or a generator function, whose call returns
                before its body has run.
        """
        self.__exit__()  # the patch ends here, where it was only made to decorate
        returns_early = (iscoroutinefunction, isgeneratorfunction, isasyncgenfunction)
        if isinstance(function, type) or any(is_so(function) for is_so in returns_early):
            raise TypeError(
                "patch() decorates plain functions, which have run when they return, got "
                f"{function!r}: use 'with pyinit.patch():' inside it"
            )

        @functools.wraps(function)
        def patched(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            with self:
                return function(*args, **kwargs)

        return patched


def _replacement(original: Function, fill: Function) -> Function:
    """Make what stands in for a function of torch.

    It calls pyinit's function while a patch is in force, and torch's own otherwise.
    """

    @eager
    @functools.wraps(original)
    def replacement(*args: Any, **kwargs: Any) -> Tensor:
        rng = _rng
        if rng is None:
            return original(*args, **kwargs)
        before = _context_choice.set(rng)
        try:
            if tally.is_counting:
                return tally.count(original.__name__, fill, *args, **kwargs)
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
# Where a table has handlers by function, a subclass that sees all calls is shown what Tensor has.
_originals |= {f"Tensor.{name}": getattr(methods, name) for name in METHODS}
_replacements |= {f"Tensor.{name}": method for name, method in METHODS.items()}
_swaps_in: Swaps = {id(_originals[name]): _replacements[name] for name in _originals}
_swaps_out: Swaps = {id(_replacements[name]): _originals[name] for name in _originals}


@eager
def patch(rng: RngName = "torch") -> Handle:
    """Swap the functions of ``torch.nn.init`` for pyinit's in the whole process.

    They are swapped at once, in ``torch.nn.init`` and wherever a module bound one to a name or
    keeps it in a dict, list or set. Modules that are imported later bind pyinit's functions. Calls
    made through ``pyinit`` itself keep their own choice of generator. ``docs/patch.md`` says which
    references are not reached. The environment variable ``PYINIT_PATCH=1`` patches when pyinit is
    imported.

    Args:
        rng: The generator of the swapped functions. ``"torch"`` gives the numbers that torch would
            have drawn, ``"philox"`` gives pyinit's own, ``"torch.func"`` those of torch's stateless
            generator.

    Returns:
        A context manager and decorator. ``with pyinit.patch(): ...`` puts back at its end what was
        in force before; ``@pyinit.patch()`` patches while the function runs; a plain call patches
        until ``unpatch()``. Patches may overlap, in several threads too: the one that came last
        decides the generator, and torch's functions are back when none is left.

    Raises:
        ValueError: If ``rng`` is unknown; nothing is swapped then.
        RuntimeError: For ``"torch.func"`` where torch is older than 2.14.

    Example:
        >>> import torch, pyinit
        >>> _ = torch.manual_seed(0)
        >>> by_torch = torch.nn.Linear(3, 2).weight
        >>> _ = torch.manual_seed(0)
        >>> with pyinit.patch():  # the same numbers, from pyinit's kernels
        ...     torch.equal(torch.nn.Linear(3, 2).weight, by_torch)
        True
        >>> @pyinit.patch("philox")
        ... def build():
        ...     return pyinit.info()["patch"], torch.nn.Linear(3, 2)
        >>> build()
        ('philox', Linear(in_features=3, out_features=2, bias=True))
        >>> pyinit.info()["patch"]
        'none'
    """
    handle = Handle(_known(rng, "rng"))
    with _changing():
        _handles.append(handle)
    return handle


@eager
def unpatch() -> None:
    """Put torch's own functions back everywhere, whatever patches are in force.

    Without a patch nothing happens.

    Example:
        >>> import pyinit
        >>> _ = pyinit.patch()
        >>> pyinit.info()["patch"]
        'torch'
        >>> pyinit.unpatch()
        >>> pyinit.info()["patch"]
        'none'
    """
    with _changing():
        _handles.clear()


def rng_in_force() -> RngName | None:
    """The generator of the swapped functions, or None if torch's own are in place."""
    return _rng


def _apply(is_half_done: bool = False) -> None:
    """Swap or put back functions as the handles say.

    is_half_done: whether swapping was interrupted, so that ``torch.nn.init`` alone cannot tell
        what is in place elsewhere
    """
    global _rng  # noqa: PLW0603  the process is patched or not
    _rng = _handles[-1].rng if _handles else None
    set_methods()
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


def set_methods() -> None:
    """Give ``torch.Tensor`` the methods, or take them away: torch's own are those of its base class.

    A method that somebody else has put there stays.
    """
    for name, method in METHODS.items():
        present = vars(Tensor).get(name)
        if _handles and present is None:
            setattr(Tensor, name, method)
        elif not _handles and present is method:
            delattr(Tensor, name)


def _references() -> list[int]:
    """The number of references to each of the new functions."""
    return [sys.getrefcount(function) for function in _replacements.values()]


_own_references = _references()


def _namespaces() -> list[dict[str, Any]]:
    """The namespaces of all modules but pyinit's own."""
    return [
        object.__getattribute__(module, "__dict__")  # loads no lazy module
        for name, module in list(sys.modules.items())
        if issubclass(type(module), ModuleType) and name.partition(".")[0] != _PACKAGE
    ]


def _swap(container: Any, swaps: Swaps) -> None:
    """Swap functions in a dict (its keys, too), list or set.

    Another thread finds each member, in its old or its new form, at any time.
    """
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
