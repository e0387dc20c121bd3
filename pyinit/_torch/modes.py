"""torch's modes, which see every function or operation, set aside for a while."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from torch.overrides import (
    TorchFunctionMode,
    _get_current_function_mode_stack,
    _pop_mode,
    _push_mode,
)
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._python_dispatch import _pop_mode as _pop_dispatch_mode
from torch.utils._python_dispatch import _push_mode as _push_dispatch_mode

_function_modes: Callable[[], list[Any]] = _get_current_function_mode_stack
_pop: Callable[[], Any] = _pop_mode
_push: Callable[[Any], None] = _push_mode


@contextmanager
def without(mode: TorchFunctionMode) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Without a function mode and all dispatch modes; what is yielded brings them back for a while."""
    functions = _function_modes()
    with _disable_current_modes() as dispatched:
        _set_function_modes([each for each in functions if each is not mode])
        try:
            yield partial(_with, functions, dispatched)
        finally:
            _set_function_modes(functions)


@contextmanager
def _with(functions: list[Any], dispatched: list[Any]) -> Iterator[None]:
    now = _function_modes()
    _set_function_modes(functions)
    for mode in reversed(dispatched):
        _push_dispatch_mode(mode)
    try:
        yield
    finally:
        for _ in dispatched:
            _pop_dispatch_mode()
        _set_function_modes(now)


def _set_function_modes(modes: list[Any]) -> None:
    for _ in _function_modes():
        _pop()
    for mode in modes:
        _push(mode)
