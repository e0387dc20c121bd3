"""What a detector is."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pyinit._scale.gain import gain_of
from pyinit.inspection.diagnosis import Diagnosis
from pyinit.inspection.rows import NAN, LayerRow, Look


class Detector(NamedTuple):
    """Finds one kind of fault.

    detect: the faults of a look; at most one of a kind for each direction
    afterwards: the number that the fault was about, in another look and in words: "it is 0.97"
    recipes: those that may help, the likeliest first
    factor: of a fault that other learning rates may mend, the factor to them
    is_mended: whether the fault is clearly gone in another look that does not show it
    """

    detect: Callable[[Look], Iterator[Diagnosis]]
    afterwards: Callable[[Look, Diagnosis], str]
    recipes: tuple[str, ...] = ("auto", "orthogonal", "kaiming", "xavier")
    factor: Callable[[Diagnosis], float] | None = None
    is_mended: Callable[[Look, Diagnosis], bool] = lambda _look, _found: True


def by_label(look: Look, label: str) -> LayerRow | None:
    """The row with this label; None if the pass under another recipe went another way."""
    return next((row for row in look.rows if row.label == label), None)


def before(look: Look, row: LayerRow) -> LayerRow | None:
    """The call before one."""
    index = next(i for i, each in enumerate(look.rows) if each is row)
    return look.rows[index - 1] if index else None


def others(count: int) -> str:
    """So many others, in words."""
    return f"{count} other{'s' * (count != 1)}"


def described(look: Look, row: LayerRow) -> str:
    """What acts in a layer: its activation, and how its weight was filled."""
    weight = row.weight
    activation = look.follows(row)
    if weight is None:
        return activation
    filled = weight.initializer or f"weights of gain {weight.gain:.3g}"
    wanted = _wanted(activation)
    if not weight.initializer and not math.isnan(wanted):
        filled += f", where {activation} wants {wanted:.3g}"
    return f"{activation}{_KNOWN.get(activation, '')} behind {filled}" if activation else filled


# What is known of activations that no gain helps.
_KNOWN = {
    "sigmoid": " (slope at most 1/4, mean 1/2)",
    "hardsigmoid": " (slope at most 1/6, mean 1/2)",
}


def _wanted(activation: str) -> float:
    """The gain that keeps a signal's scale."""
    if activation in ("", "sigmoid"):  # no gain does behind a sigmoid
        return NAN
    try:
        return gain_of(activation)
    except ValueError:
        return NAN
