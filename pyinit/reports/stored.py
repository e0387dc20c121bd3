"""Reads values back that JSON has, and refuses what is of another type."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


def read(cls: Callable[..., T], value: Any, **parts: Any) -> T:
    """The instance whose fields a dictionary has; None among floats is NaN.

    Args:
        cls: a dataclass or a NamedTuple
        value: the dictionary
        parts: fields that have been read, in place of those in the dictionary

    Raises:
        TypeError: For a field of another type, or of another name.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"{getattr(cls, '__name__', cls)} must be a dictionary, got {value!r:.40}")
    kinds = _kinds(cls)
    found = {
        name: read_as(kinds.get(name, Any), each, name)
        for name, each in value.items()
        if name not in parts
    }
    return cls(**found, **parts)


def read_as(kind: Any, value: Any, name: str) -> Any:
    """A value of a type: a number, a text, a list as the tuple or sequence of such, or one of several types.

    A type that JSON has no values of takes any: lists as tuples.

    Raises:
        TypeError: For a value of another type.
    """
    if isinstance(kind, UnionType):
        return _as_one_of(get_args(kind), value, name)
    if kind is float and (value is None or type(value) is int):
        return math.nan if value is None else float(value)
    if get_origin(kind) in (tuple, Sequence):
        items = _items(get_args(kind), read_as(list, value, name), name)
        return items if get_origin(kind) is Sequence else tuple(items)
    if kind not in _PLAIN:
        return _as_tuples(value)
    if type(value) is not kind:
        raise TypeError(f"{name} must be of type {kind.__name__}, got {value!r:.40}")
    return value


_PLAIN = (bool, int, float, str, list, dict)


def _as_one_of(kinds: tuple[Any, ...], value: Any, name: str) -> Any:
    if value is None and NoneType in kinds:
        return None
    others = [kind for kind in kinds if kind is not NoneType]
    for kind in others:
        with suppress(TypeError):
            return read_as(kind, value, name)
    names = " or ".join(str(getattr(kind, "__name__", kind)) for kind in others)
    raise TypeError(f"{name} must be of type {names}, got {value!r:.40}")


def _items(kinds: tuple[Any, ...], values: list[Any], name: str) -> list[Any]:
    if kinds[-1] is Ellipsis or len(kinds) == 1:
        kinds = kinds[:1] * len(values)
    if len(kinds) != len(values):
        raise TypeError(f"{name} must have {len(kinds)} values, got {values!r:.40}")
    return [read_as(kind, each, name) for kind, each in zip(kinds, values, strict=True)]


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


@cache
def _kinds(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls)
