"""Functions and classes as names in files, and as checksums of their code."""

import os
import re
import sys
import sysconfig
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from hashlib import blake2b
from operator import itemgetter
from os import PathLike
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyinit import _references
from pyinit.whole_model.methods import Method
from pyinit.whole_model.recipes import Recipe


def resolve(reference: Any) -> Callable[..., Any]:
    """A function, or what ``module:function`` names.

    Raises:
        ValueError: for a name that leads to none.
    """
    if isinstance(reference, str):
        return _references.resolve(reference)
    if not callable(reference):
        raise ValueError(f"must be a function, got {reference!r}")  # noqa: TRY004
    found: Callable[..., Any] = reference
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
    """Text that is the same for values that do the same, in every process: tensors and arrays by their bytes,
    files by their contents, objects by their class and attributes, functions by their code and all that it
    uses: what it has brought from where it was made, and the functions, classes and values of the user's own
    modules that it names, and what these name.

    Of code that is installed, what it names is not looked at, nor is what a function imports in its body.
    """
    return _Told().of(value)


def digest(data: bytes) -> str:
    """A checksum."""
    return blake2b(data, digest_size=16).hexdigest()


class _Told:
    """Tells values as text. Where something is made in terms of itself, it is not told within itself."""

    def __init__(self) -> None:
        self._met: dict[int, tuple[str, Any]] = {}

    def of(self, value: Any) -> str:
        """The text of a value, or its checksum."""
        if value is None or isinstance(value, (str, bytes, int, float, complex)):
            return repr(value)
        if id(value) not in self._met:
            # The value is kept, so that no other gets its address.
            self._met[id(value)] = "itself", value
            text = self._text(value)
            self._met[id(value)] = text if len(text) < _LONG else digest(text.encode()), value
        return self._met[id(value)][0]

    def _text(self, value: Any) -> str:
        for kind, tell in _TELL.items():
            if isinstance(value, kind):
                return tell(self, value)
        return self._object(value)

    def _mapping(self, value: Mapping[Any, Any]) -> str:
        pairs = sorted(((repr(key), value[key]) for key in value), key=itemgetter(0))
        return "{" + ", ".join(f"{key}: {self.of(each)}" for key, each in pairs) + "}"

    def _list(self, value: Iterable[Any]) -> str:
        return "[" + ", ".join(map(self.of, value)) + "]"

    def _set(self, value: Collection[Any]) -> str:
        return f"set{self._list(sorted(value, key=repr))}"

    def _known(self, value: Recipe | Method) -> str:
        return f"{value.name}{self.of(value.options)}{self.of(value.function)}"

    def _partial(self, value: Any) -> str:
        return f"partial{self._list((value.func, value.args, value.keywords))}"

    def _tensor(self, value: Tensor) -> str:
        values = value.detach().cpu().contiguous().flatten().view(torch.uint8)
        return f"{value.dtype} {tuple(value.shape)} {digest(values.numpy().tobytes())}"

    def _array(self, value: Any) -> str:
        content = self.of(value.tolist()) if value.dtype.hasobject else digest(value.tobytes())
        return f"{value.dtype} {value.shape} {content}"

    def _path(self, value: PathLike[str]) -> str:
        return digest(Path(value).read_bytes()) if Path(value).is_file() else repr(value)

    def _function(self, value: FunctionType) -> str:
        cells = [_content(each) for each in value.__closure__ or ()]
        brought = (value.__defaults__, value.__kwdefaults__, cells)
        named = self._named(value.__code__, value.__globals__) if _is_users(value) else ""
        return f"{value.__qualname__} {self._code(value.__code__)} {self._list(brought)} {named}"

    def _code(self, code: CodeType) -> str:
        """Instructions, names and constants, of functions inside, too; neither comments nor lines."""
        constants = [
            self._code(each) if isinstance(each, CodeType) else self.of(each)
            for each in code.co_consts
        ]
        return digest(repr((code.co_code, code.co_names, code.co_varnames, constants)).encode())

    def _named(self, code: CodeType, where: Mapping[str, Any]) -> str:
        """What code names in its module, and in modules of the user's that it names there."""
        names = sorted(_names(code))
        found = [(name, where[name]) for name in names if name in where]
        told = []
        for name, value in found:
            if isinstance(value, ModuleType):
                inside = vars(value) if _is_users(value) and vars(value) is not where else {}
                found += [(f"{name}.{each}", inside[each]) for each in names if each in inside]
            else:
                told.append(f"{name}={self.of(value)}")
        return ", ".join(told)

    def _method(self, value: MethodType) -> str:
        return f"{self.of(value.__func__)} of {self.of(value.__self__)}"

    def _wrapped(self, value: Any) -> str:
        return self.of(value.__func__)

    def _property(self, value: property) -> str:
        return self._list((value.fget, value.fset))

    def _class(self, value: type) -> str:
        """A class: of the user's, with all that it and those before it hold."""
        held = [
            f"{name}={self.of(each)}"
            for cls in value.__mro__
            if _is_users(cls)
            for name, each in sorted(vars(cls).items())
            if not name.startswith("__") or callable(each)
        ]
        return f"{value.__module__}.{value.__qualname__}({', '.join(held)})"

    def _module(self, value: ModuleType) -> str:
        return value.__name__

    def _object(self, value: Any) -> str:
        shown = "" if _is_users(type(value)) else _ADDRESS.sub("", repr(value))
        return f"{self._class(type(value))} {shown} {self.of(getattr(value, '__dict__', None))}"


# By type: how a value is told.
_TELL: Mapping[Any, Callable[[_Told, Any], str]] = {
    Mapping: _Told._mapping,
    (list, tuple): _Told._list,
    (set, frozenset): _Told._set,
    (Recipe, Method): _Told._known,
    partial: _Told._partial,
    Tensor: _Told._tensor,
    np.ndarray: _Told._array,
    PathLike: _Told._path,
    FunctionType: _Told._function,
    MethodType: _Told._method,
    (staticmethod, classmethod): _Told._wrapped,
    property: _Told._property,
    type: _Told._class,
    ModuleType: _Told._module,
}

_LONG = 200
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_INSTALLED = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "purelib", "platlib")})


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # of what is not made yet
        return None


def _names(code: CodeType) -> set[str]:
    inner = (_names(each) for each in code.co_consts if isinstance(each, CodeType))
    return {*code.co_names}.union(*inner)


def _is_users(value: Any) -> bool:
    """Whether a module, or what a class or function is from, is neither installed nor pyinit's."""
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    module = sys.modules.get(name or "")
    if module is None or name == "__main__":
        return name not in (None, "builtins")
    file = getattr(module, "__file__", None)
    is_pyinit = module.__name__.partition(".")[0] == "pyinit"
    return file is not None and not is_pyinit and not _is_installed(file)


def _is_installed(file: str) -> bool:
    """Also in other environments' folders, which IPython and PYTHONPATH add: all of torch would be told of for hours."""
    elsewhere = {"site-packages", "dist-packages"} & {*Path(file).parts}
    return bool(elsewhere) or file.startswith((*_INSTALLED, *torch.__path__))
