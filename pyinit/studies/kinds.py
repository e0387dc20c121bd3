"""What the fields of a study may hold: each kind is one check, and the same as JSON schema."""

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

import numpy as np

from pyinit._messages import near


class FieldError(ValueError):
    """A field holds what it cannot.

    Args:
        path: the keys that lead to it
        problem: what is wrong with it
    """

    def __init__(self, path: tuple[str | int, ...], problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"{dotted(path)}: {problem}" if path else problem)


def dotted(path: tuple[str | int, ...]) -> str:
    """Keys as a name: ``claims[0].metric``."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return text.removeprefix(".")


@contextmanager
def inside(*path: str | int) -> Iterator[None]:
    """Put keys in front of those of errors."""
    try:
        yield
    except FieldError as error:
        raise FieldError((*path, *error.path), error.problem) from None


@dataclass(frozen=True)
class Kind:
    """What a field may hold.

    Args:
        what: what it takes, as messages say it
        takes: whether it takes a value
        schema: the same as JSON schema
        make: what becomes of a value that it takes
    """

    what: str
    takes: Callable[[Any], bool]
    schema: Mapping[str, Any]
    make: Callable[[Any], Any] = field(default=lambda value: value)

    def __call__(self, name: str, value: Any) -> Any:
        """The value as it is kept.

        Raises:
            FieldError: if this kind does not take it.
        """
        if not self.takes(value):
            raise FieldError((name,), f"must be {self.what}, got {value!r}")
        return self.make(value)


def _is_number(value: Any) -> bool:
    try:
        is_finite = isinstance(value, Real) and math.isfinite(value)
    except OverflowError:  # of an integer that no float comes near
        return False
    return is_finite and not isinstance(value, bool)


def number(*, above: float | None = None, least: float | None = None) -> Kind:
    """A finite number."""
    what = "a number"
    schema: dict[str, Any] = {"type": "number"}
    if above is not None:
        what = f"a number above {above:g}"
        schema["exclusiveMinimum"] = above
    if least is not None:
        what = f"a number of at least {least:g}"
        schema["minimum"] = least

    def takes(value: Any) -> bool:
        is_high = above is None or (_is_number(value) and value > above)
        return _is_number(value) and is_high and (least is None or value >= least)

    return Kind(what, takes, schema, float)


def whole(least: int, most: int | None = None) -> Kind:
    """An integer."""
    schema = {"type": "integer", "minimum": least}

    def takes(value: Any) -> bool:
        is_whole = isinstance(value, Integral) and not isinstance(value, bool)
        return is_whole and least <= value and (most is None or value <= most)

    if most is None:
        return Kind(f"a whole number of at least {least}", takes, schema, int)
    what = f"a whole number of at least {least} and at most {most}"
    return Kind(what, takes, {**schema, "maximum": most}, int)


def is_text(value: Any) -> bool:
    """Whether a value is a text that a file can hold: half of a surrogate pair is none."""
    return isinstance(value, str) and not _SURROGATE.search(value)


_SURROGATE = re.compile("[\ud800-\udfff]")

TEXT = Kind("a text", is_text, {"type": "string"})
FLAG = Kind("true or false", lambda value: isinstance(value, bool), {"type": "boolean"})


def one_of(names: Collection[str]) -> Kind:
    """One of these names."""
    return _Named(
        f"one of {', '.join(names)}",
        lambda value: isinstance(value, str),
        {"enum": list(names)},
        names=tuple(names),
    )


@dataclass(frozen=True)
class _Named(Kind):
    names: tuple[str, ...] = ()

    def __call__(self, name: str, value: Any) -> Any:
        value = super().__call__(name, value)
        if value not in self.names:
            raise FieldError((name,), f"{value!r} is unknown; {near(value, self.names)}")
        return value


def one_or_several(kind: Kind) -> Kind:
    """A value, or several different ones in a list, a range or an array, which becomes a tuple."""

    def takes(value: Any) -> bool:
        if not _is_several(value):
            return kind.takes(value)
        made = list(map(kind.make, value)) if all(map(kind.takes, value)) else []
        return bool(made) and len(set(made)) == len(made)

    def make(value: Any) -> Any:
        return tuple(map(kind.make, value)) if _is_several(value) else kind.make(value)

    schema = {"type": "array", "items": kind.schema, "minItems": 1, "uniqueItems": True}
    what = f"{kind.what}, or a list of several different ones"
    return Kind(what, takes, {"anyOf": [kind.schema, schema]}, make)


def _is_several(value: Any) -> bool:
    is_array = isinstance(value, np.ndarray) and value.ndim == 1
    return is_array or isinstance(value, (list, tuple, range))


def optional(kind: Kind) -> Kind:
    """None, or what a kind takes. A file leaves the key out."""
    return Kind(
        kind.what,
        lambda value: value is None or kind.takes(value),
        kind.schema,
        lambda value: None if value is None else kind.make(value),
    )


def _is_plain(value: Any) -> bool:
    value = _as_python(value)
    return is_text(value) or isinstance(value, bool) or _is_number(value)


def _as_python(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


PLAIN = Kind(
    "a text, a number, true or false",
    _is_plain,
    {"type": ["string", "number", "boolean"]},
    _as_python,
)


def table(kind: Kind, what: str) -> Kind:
    """A table of names and values of one kind."""

    def takes(value: Any) -> bool:
        return isinstance(value, Mapping) and all(
            is_text(key) and kind.takes(each) for key, each in value.items()
        )

    return Kind(
        what,
        takes,
        {"type": "object", "additionalProperties": kind.schema},
        lambda value: {key: kind.make(each) for key, each in value.items()},
    )


def checked(instance: Any, kinds: Mapping[str, Kind]) -> None:
    """Check the fields of a frozen dataclass, and set each to the value as it is kept."""
    for name, kind in kinds.items():
        object.__setattr__(instance, name, kind(name, getattr(instance, name)))


def refuse_unknown(keys: Collection[str], known: Collection[str], what: str) -> None:
    """Refuse a key that is none of these, and name those that are near."""
    for key in keys:
        if key not in known:
            raise FieldError((key,), f"there is no such {what}; {near(key, known)}")
