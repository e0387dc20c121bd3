"""Reads dataclasses from the values that JSON has, and refuses what is of another type."""

import math
from dataclasses import fields
from functools import cache
from typing import Any, TypeVar, get_type_hints

from pyinit.inspection.histogram import Histogram

T = TypeVar("T")


def read(cls: type[T], value: Any, **parts: Any) -> T:
    """The instance whose fields a dictionary has; None among floats is NaN.

    Args:
        cls: a dataclass
        value: the dictionary
        parts: fields that have been read, in place of those in the dictionary

    Raises:
        TypeError: For a field of another type, or of another name.
    """
    if not isinstance(value, dict):
        raise TypeError(f"{cls.__name__} is a dictionary, got {value!r:.40}")
    kinds = _kinds(cls)  # type: ignore[arg-type]  # mypy finds no hash in type[T]
    found = {
        name: _of(kinds[name], each, name) if name in kinds else each
        for name, each in value.items()
        if name not in parts
    }
    return cls(**found, **parts)


def read_texts(value: Any, name: str) -> tuple[str, ...]:
    """The texts in a list; TypeError for anything else."""
    return tuple(_of(str, each, name) for each in _of(list, value, name))


def read_number(value: Any, name: str) -> float:
    """A number, NaN for None; TypeError for anything else."""
    number: float = _of(float, value, name)
    return number


@cache
def _kinds(cls: Any) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in fields(cls)}


def _of(kind: Any, value: Any, name: str) -> Any:
    if kind is float and value is None:
        return math.nan
    if kind is float and type(value) is int:
        return float(value)
    if kind == tuple[int, ...]:
        return tuple(_of(int, each, name) for each in _of(list, value, name))
    if kind == Histogram | None:
        return None if value is None else _histogram(value, name)
    if type(value) is not kind:
        raise TypeError(f"{name} is a {kind.__name__}, got {value!r:.40}")
    return value


def _histogram(value: Any, name: str) -> Histogram:
    low, high, counts = _of(list, value, name)
    found = Histogram(
        _of(float, low, name), _of(float, high, name), _of(tuple[int, ...], counts, name)
    )
    if not (math.isfinite(found.low) and math.isfinite(found.high) and sum(found.counts) > 0):
        raise TypeError(f"{name} has ends and counts, got {value!r:.40}")
    return found
