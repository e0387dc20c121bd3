"""Fans: how many inputs and outputs the elements of a weight connect."""

import math
from collections.abc import Sequence


def fans(shape: Sequence[int], groups: int = 1, transposed: bool = False) -> tuple[int, int]:
    """Fan in and fan out: the inputs that reach one output, and the outputs that one input reaches.

    A convolution's weight has shape (out, in/groups, *kernel), a transposed convolution's
    (in, out/groups, *kernel). Only the first dimension holds all groups, so it alone is divided.
    Strides are left out of the count.
    """
    if len(shape) < 2:
        raise ValueError(
            "Fan in and fan out can not be computed for tensor with fewer than 2 dimensions"
        )
    first, second = shape[0], shape[1]
    if groups.__class__ is not int or groups != 1:
        first //= checked_groups(groups, first)
    if len(shape) > 2:
        taps = math.prod(shape[2:])
        first, second = first * taps, second * taps
    if transposed is False:
        return second, first
    if transposed is not True:
        raise TypeError(f"transposed must be a bool, got {transposed!r}")
    return first, second


def checked_groups(groups: int, first: int) -> int:
    """The groups, if they divide a first dimension of that size."""
    if isinstance(groups, bool) or not isinstance(groups, int):
        raise TypeError(f"groups must be an int, got {groups!r}")
    if groups < 1 or first % groups:
        raise ValueError(f"groups must be at least 1 and divide dim 0 ({first}), got {groups}")
    return groups


def checked_mode(mode: str, modes: Sequence[str]) -> str:
    """The mode in lower case, if it is one of these."""
    mode = mode.lower()
    if mode not in modes:
        raise ValueError(f"Mode {mode} not supported, please use one of {list(modes)}")
    return mode


def one_fan(shape: Sequence[int], mode: str, groups: int = 1, transposed: bool = False) -> int:
    """The fan that one of torch's two modes names."""
    if mode not in ("fan_in", "fan_out"):
        mode = checked_mode(mode, ("fan_in", "fan_out"))
    fan_in, fan_out = fans(shape, groups, transposed)
    return fan_in if mode == "fan_in" else fan_out


def mean_fan(shape: Sequence[int], mode: str, groups: int = 1, transposed: bool = False) -> float:
    """The fan that ``mode`` names: one of the two, or a mean of both."""
    if not isinstance(mode, str):
        raise TypeError(f"mode must be a str, got {mode!r}")
    mode = checked_mode(mode, ("fan_in", "fan_out", "fan_avg", "fan_geo_avg"))
    fan_in, fan_out = fans(shape, groups, transposed)
    return {
        "fan_in": fan_in,
        "fan_out": fan_out,
        "fan_avg": (fan_in + fan_out) / 2,
        "fan_geo_avg": math.sqrt(fan_in * fan_out),
    }[mode]
