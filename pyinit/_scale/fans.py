"""Fans: how many inputs and outputs the elements of a weight connect."""

import math
from collections.abc import Sequence
from typing import Literal

FanMode = Literal["fan_in", "fan_out"]
MeanFanMode = Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]


def fans(
    shape: Sequence[int], groups: int = 1, transposed: bool = False, batch_dims: int = 0
) -> tuple[int, int]:
    """Fan in and fan out: the inputs that reach one output, and the outputs that one input reaches.

    A convolution's weight has shape (out, in/groups, *kernel), a transposed convolution's
    (in, out/groups, *kernel). Only the first dimension holds all groups, so it alone is divided.
    Strides are left out of the count. The first ``batch_dims`` dimensions only count such weights, as
    those of a mixture's experts do.
    """
    if batch_dims.__class__ is not int or batch_dims != 0:
        shape = shape[checked_batch_dims(batch_dims, shape) :]
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


def checked_batch_dims(batch_dims: int, shape: Sequence[int]) -> int:
    """The number of dimensions that count weights, if the rest of the shape is that of a weight."""
    if isinstance(batch_dims, bool) or not isinstance(batch_dims, int):
        raise TypeError(f"batch_dims must be an int, got {batch_dims!r}")
    if batch_dims < 0 or len(shape) - batch_dims < 2:
        raise ValueError(
            "batch_dims must be at least 0 and leave at least 2 dimensions, got "
            f"{batch_dims} for shape {tuple(shape)}"
        )
    return batch_dims


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


def one_fan(
    shape: Sequence[int],
    mode: str,
    groups: int = 1,
    transposed: bool = False,
    batch_dims: int = 0,
) -> int:
    """The fan that one of torch's two modes names."""
    if mode not in ("fan_in", "fan_out"):
        mode = checked_mode(mode, ("fan_in", "fan_out"))
    fan_in, fan_out = fans(shape, groups, transposed, batch_dims)
    return fan_in if mode == "fan_in" else fan_out


def mean_fan(
    shape: Sequence[int],
    mode: str,
    groups: int = 1,
    transposed: bool = False,
    batch_dims: int = 0,
) -> float:
    """The fan that ``mode`` names: one of the two, or a mean of both."""
    if not isinstance(mode, str):
        raise TypeError(f"mode must be a str, got {mode!r}")
    mode = checked_mode(mode, ("fan_in", "fan_out", "fan_avg", "fan_geo_avg"))
    fan_in, fan_out = fans(shape, groups, transposed, batch_dims)
    return {
        "fan_in": fan_in,
        "fan_out": fan_out,
        "fan_avg": (fan_in + fan_out) / 2,
        "fan_geo_avg": math.sqrt(fan_in * fan_out),
    }[mode]
