"""Functions and classes as names in files, and as checksums of their code."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import blake2b
from operator import attrgetter
from os import PathLike
from pathlib import Path
from types import FunctionType
from typing import Any

from torch import Tensor

from pyinit.whole_model.methods import Method
from pyinit.whole_model.recipes import Recipe


def resolve(reference: Any) -> Callable[..., Any]:
    """A function, or what ``module:function`` names.

    Raises:
        ValueError: for a name that leads to none.
    """
    if not isinstance(reference, str):
        if not callable(reference):
            raise ValueError(f"must be a function, got {reference!r}")  # noqa: TRY004
        found: Callable[..., Any] = reference
        return found
    module, colon, attribute = reference.partition(":")
    if not (module and colon and attribute):
        raise ValueError(f"must be module:function, got {reference!r}")
    try:
        found = attrgetter(attribute)(importlib.import_module(module))
    except Exception as error:
        raise ValueError(f"cannot import {reference!r}: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ValueError(f"{reference!r} is not a function but {type(found).__name__}")  # noqa: TRY004
    return found


def reference_to(function: Any) -> str:
    """The name by which ``resolve`` finds a function.

    Raises:
        ValueError: for one that no module has by name.
    """
    if isinstance(function, str):
        return function
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    reference = f"{module}:{name}"
    if module and module != "__main__" and name and "<" not in name:
        try:
            if resolve(reference) is function:
                return reference
        except ValueError:
            pass
    raise ValueError(f"a file cannot name {function!r}: it is in no module that can be imported")


def fingerprint(value: Any) -> str:
    """Text that is the same for values that do the same: functions by their code, tensors by their bytes,
    files by their contents."""
    for kind, told in _TOLD.items():
        if isinstance(value, kind):
            return told(value)
    return f"{_name(value)} {_code(value)}" if callable(value) else repr(value)


def _of_mapping(value: Mapping[Any, Any]) -> str:
    return "{" + ", ".join(f"{key}: {fingerprint(value[key])}" for key in sorted(value)) + "}"


def _of_path(value: PathLike[str]) -> str:
    return digest(Path(value).read_bytes()) if Path(value).is_file() else repr(value)


def _of_function(value: Any) -> str:
    """A function's code, and what it has brought from where it was made."""
    cells = [each.cell_contents for each in value.__closure__ or ()]
    brought = (value.__defaults__, value.__kwdefaults__, cells)
    plain = [_brought(each) for each in brought]
    return f"{value.__qualname__} {_code(value)} {' '.join(plain)}"


def _brought(value: Any) -> str:
    try:
        return fingerprint(value)
    except (ValueError, RecursionError):  # of what is made in terms of itself, or not made yet
        return ""


# By type: how a value is told.
_TOLD: Mapping[Any, Callable[[Any], str]] = {
    Mapping: _of_mapping,
    (list, tuple): lambda value: "[" + ", ".join(map(fingerprint, value)) + "]",
    (Recipe, Method): lambda value: f"{value.name}{fingerprint(value.options)}",
    partial: lambda value: f"partial{fingerprint((value.func, value.args, value.keywords))}",
    Tensor: lambda value: digest(value.detach().cpu().contiguous().numpy().tobytes()),
    PathLike: _of_path,
    FunctionType: _of_function,
}


def digest(data: bytes) -> str:
    """A checksum."""
    return blake2b(data, digest_size=16).hexdigest()


def _name(value: Any) -> str:
    return getattr(value, "__qualname__", type(value).__qualname__)


def _code(function: Any) -> str:
    try:
        return digest(inspect.getsource(function).encode())
    except (OSError, TypeError):  # of what has no source: a builtin, or what was typed in a shell
        code = getattr(function, "__code__", None)
        return "" if code is None else digest(code.co_code + repr(code.co_consts).encode())
