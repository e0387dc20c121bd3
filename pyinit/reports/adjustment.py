"""What a data-driven method did to a parameter, as a value."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pyinit.initializers import Weight
from pyinit.reports.stored import read


@dataclass(frozen=True)
class Adjustment:
    """What a data-driven method made of a parameter's values: ``base * scale + shift``.

    The base is what the row's initializer gives, what was there before, or the report's own values.

    Args:
        scale: a factor, or one for each output channel
        shift: what is added, or one for each output channel
        dim: the dimension in which output channels stand: 1 in embeddings, transposed convolutions and
            transformers' ``Conv1D``
        values: the name of the report's tensor that the base is; "" if it has none

    Example:
        >>> from pyinit.reports.adjustment import Adjustment
        >>> print(Adjustment(scale=(0.5, 2.0), shift=0.25))
        x 0.5..2, + 0.25
    """

    scale: float | tuple[float, ...] = 1.0
    shift: float | tuple[float, ...] = 0.0
    dim: int = 0
    values: str = ""

    def __post_init__(self) -> None:
        for name in ("scale", "shift"):
            numbers = _several(getattr(self, name))
            if not numbers or not all(map(math.isfinite, numbers)):
                raise ValueError(f"{name} must be finite numbers, got {getattr(self, name)!r}")
        if self.dim not in (0, 1):
            raise ValueError(f"dim must be 0 or 1, got {self.dim!r}")

    def misfit(self, weight: Weight) -> str | None:
        """Why it cannot be applied to such a parameter; None if it can."""
        count = channels_of(weight, self.dim)
        for name in ("scale", "shift"):
            found = getattr(self, name)
            if isinstance(found, tuple) and len(found) != count:
                return f"{name} has {len(found)} numbers, and the parameter {count} output channels"
        return None

    def to_dict(self) -> dict[str, Any]:
        """The adjustment as values that JSON has."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in vars(self).items()
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Adjustment":
        """The adjustment that ``to_dict`` made the values from."""
        return read(cls, value)

    def __str__(self) -> str:
        return str(Span.of(self))


def channels_of(weight: Weight, dim: int) -> int | None:
    """How many output channels a parameter has, if they stand in this dimension."""
    if dim >= len(weight.shape):
        return None
    return weight.shape[dim] * (weight.groups if dim == 1 else 1)


@dataclass(frozen=True)
class Span:
    """The least and the greatest number of some adjustments, for a line of a table."""

    scale: tuple[float, float]
    shift: tuple[float, float]
    has_values: bool = False

    @classmethod
    def of(cls, adjustment: Adjustment) -> "Span":
        """That of a single one."""
        scale, shift = (_span(_several(each)) for each in (adjustment.scale, adjustment.shift))
        return cls(scale, shift, bool(adjustment.values))

    def __add__(self, other: "Span") -> "Span":
        return Span(
            _span((*self.scale, *other.scale)),
            _span((*self.shift, *other.shift)),
            self.has_values or other.has_values,
        )

    def __str__(self) -> str:
        said = ["own values"] if self.has_values else []
        if self.scale != (1.0, 1.0):
            said.append(f"x {_range(self.scale)}")
        if self.shift != (0.0, 0.0):
            said.append(f"+ {_range(self.shift)}")
        return ", ".join(said)


def _several(value: float | tuple[float, ...]) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)


def _span(numbers: Iterable[float]) -> tuple[float, float]:
    found = tuple(numbers)
    return min(found), max(found)


def _range(span: tuple[float, float]) -> str:
    low, high = (f"{each:.4g}" for each in span)
    return low if low == high else f"{low}..{high}"
