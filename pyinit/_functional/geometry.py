"""How the three tensors of a convolution fit together: their sizes, and the plan of a call.

A convolution relates an image, a weight and a result. The sum over all of
result * convolution(image, weight) is linear in each of them, and its derivative by one of them is a
kernel that takes the other two. So the gradients of each of the three are made of the other two.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from math import prod
from operator import mul
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor

from pyinit import _core
from pyinit._torch.views import DTYPES, FLOATS, MOST_ELEMENTS

Shape: TypeAlias = tuple[int, ...]
PerDimension: TypeAlias = int | Sequence[int]
"""One integer for each spatial dimension, or a single one for all of them."""
Window: TypeAlias = tuple[Any, Any, Any, Any, Any]
"""Stride, padding, dilation, groups and output padding, as the caller gave them."""
Layout: TypeAlias = tuple[int, Shape, Shape]
"""A ``View`` without its address: dtype code, shape and strides."""

IMAGE, WEIGHT, RESULT = range(3)
OPERANDS = ((RESULT, WEIGHT), (IMAGE, RESULT), (IMAGE, WEIGHT))
"""The two tensors that each of the three is made of, in the order that kernels and operators take."""

LARGEST_STEP = 2**31 - 1
"""The largest stride, padding, dilation and number of groups: positions then stay within 64 bits."""


class Function(NamedTuple):
    """One of the six functions: what distinguishes it from the others."""

    dims: int
    target: int
    """``RESULT`` of a convolution, ``IMAGE`` of a transposed one."""
    torch: Callable[..., Tensor]


class Geometry(NamedTuple):
    """How image, weight and result fit together."""

    shapes: tuple[Shape, Shape, Shape]
    """The shapes of image, weight and result."""
    channels_last: bool
    stride: Shape
    padding: Shape
    """In front of the image. The padding behind it follows from the sizes."""
    dilation: Shape
    groups: int


class Plan(NamedTuple):
    """Everything that a call of a kernel needs besides the tensors."""

    geometry: Geometry
    strides: tuple[Shape, ...]
    """The strides of image, weight and result, for whichever of them is the output."""
    dtype: int
    native: _core.ConvolutionPlan


def is_channels_last(shape: Shape, strides: Shape) -> bool:
    """Whether torch takes these strides for channels_last ones; False below four dimensions."""
    if len(shape) < 4 or strides[1] == 0:
        return False
    least = 0
    for i in (1, *range(len(shape) - 1, 1, -1), 0):
        if shape[i] == 0 or strides[i] < least or (i == 0 and least == strides[1]):
            return False
        least = strides[i] * shape[i] if shape[i] > 1 else strides[i]
    return True


def dense_strides(shape: Shape, channels_last: bool) -> Shape:
    """The strides of ``torch.empty(shape, memory_format=...)``."""
    if channels_last:
        batch, channels, *size = shape
        pixels = dense_strides((batch, *size, channels), False)
        return (pixels[0], 1, *pixels[1:-1])
    return tuple(accumulate((1, *shape[:0:-1]), mul))[::-1]


def spread(value: object, dims: int) -> Shape | None:
    """An integer for each dimension; None for anything that is not made of plain integers."""
    if type(value) is int:
        return (value,) * dims
    if not isinstance(value, (tuple, list)):  # torch 2.9 compiles no union of types
        return None
    if any(type(number) is not int for number in value):
        return None
    numbers = tuple(value)
    return numbers * dims if len(numbers) == 1 else numbers if len(numbers) == dims else None


def geometry_of(
    function: Function,
    input_shape: Shape,
    weight_shape: Shape,
    bias_shape: Shape | None,
    channels_last: bool,
    *window: Any,
) -> Geometry | None:
    """How the tensors of a call fit together; None if they do not, or if a tensor has no elements."""
    stride, padding, dilation, groups, output_padding = window
    dims, target, _ = function
    steps, spacing, behind = (spread(x, dims) for x in (stride, dilation, output_padding))
    if (
        steps is None
        or spacing is None
        or behind is None
        or type(groups) is not int
        or not len(input_shape) == len(weight_shape) == dims + 2
        or not all(1 <= x <= LARGEST_STEP for x in (*steps, *spacing, groups))
    ):
        return None
    size, kernel = input_shape[2:], weight_shape[2:]
    reach = tuple(d * (k - 1) for d, k in zip(spacing, kernel, strict=True))
    if padding == "same" and target == RESULT and steps == (1,) * dims:
        front, both = tuple(r // 2 for r in reach), reach
    else:
        numbers = spread(0 if padding == "valid" and target == RESULT else padding, dims)
        if numbers is None or not all(0 <= x <= LARGEST_STEP for x in numbers):
            return None
        front, both = numbers, tuple(2 * p for p in numbers)
    channels = weight_shape[0], weight_shape[1] * groups
    if target == RESULT:
        out = tuple(
            (n + p - r - 1) // s + 1 for n, p, r, s in zip(size, both, reach, steps, strict=True)
        )
        taken, made = channels[1], channels[0]
    else:
        out = tuple(
            (n - 1) * s - p + r + b + 1
            for n, p, r, s, b in zip(size, both, reach, steps, behind, strict=True)
        )
        if any(not 0 <= b < max(s, d) for b, s, d in zip(behind, steps, spacing, strict=True)):
            return None
        taken, made = channels
    output_shape = (input_shape[0], made, *out)
    if (
        input_shape[1] != taken
        or weight_shape[0] % groups
        or any(n < 1 for n in (*input_shape, *weight_shape, *output_shape))
        or bias_shape not in (None, (made,))
    ):
        return None
    image, result = (input_shape, output_shape) if target == RESULT else (output_shape, input_shape)
    shapes = (image, weight_shape, result)
    return Geometry(shapes, channels_last, steps, front, spacing, groups)


def is_too_large(geometry: Geometry) -> bool:
    """Whether no memory could hold one of the three, which torch then refuses in its own words."""
    return any(prod(shape) > MOST_ELEMENTS for shape in geometry.shapes)


@lru_cache(maxsize=4096)
def plan_of(geometry: Geometry, dtype: int) -> Plan:
    """The plan of a call with this geometry, and tensors of the dtype with this code."""
    shapes, channels_last, stride, padding, dilation, groups = geometry
    strides = tuple(dense_strides(shape, channels_last) for shape in shapes)
    native = _core.ConvolutionPlan(shapes, stride, padding, dilation, groups, dtype)
    return Plan(geometry, strides, dtype, native)


def geometry_of_tensors(
    function: Function, input: Tensor, weight: Tensor, bias: Tensor | None, *window: Any
) -> Geometry | None:
    """``geometry_of`` tensors, whose sizes and strides may be the symbols of a tracer."""
    code = DTYPES[input.dtype]
    shapes = tuple(input.shape), tuple(weight.shape)
    if code not in FLOATS or any(DTYPES[x.dtype] != code for x in (weight, bias) if x is not None):
        return None
    channels_last = _gives_channels_last(
        (code, shapes[0], input.stride()), (code, shapes[1], weight.stride())
    )
    bias_shape = None if bias is None else tuple(bias.shape)
    return geometry_of(function, *shapes, bias_shape, channels_last, *window)


def plan_of_call(
    function: Function, input: Tensor, weight: Tensor, bias: Tensor | None, window: Window
) -> Plan | None:
    """The plan of a call with such tensors; None for torch's. ``_core.convolution`` keeps it."""
    geometry = geometry_of_tensors(function, input, weight, bias, *window)
    if geometry is None or is_too_large(geometry):
        return None
    return plan_of(geometry, DTYPES[input.dtype])


def _contiguous(shape: Shape, strides: Shape) -> Shape:
    """The strides of ``contiguous()``, which leaves those of a dimension of size 1 as they are if it can."""
    dense = dense_strides(shape, False)
    is_dense = all(n == 1 or s == d for n, s, d in zip(shape, strides, dense, strict=True))
    return strides if is_dense else dense


def _of_two_dimensions(shape: Shape, strides: Shape) -> tuple[Shape, Shape]:
    """A one-dimensional layout with a dimension of size 1 before the last, as ``unsqueeze(2)`` gives it."""
    first, second, last = shape
    return (first, second, 1, last), (*strides[:2], last * strides[2], strides[2])


def _gives_channels_last(input: Layout, weight: Layout) -> bool:
    """Whether torch's result is channels_last; in three dimensions, float64 results never are.

    In one dimension torch makes the input contiguous and gives both a second dimension of size 1.
    """
    code, input_shape, _ = input
    if len(input_shape) == 3:
        taken = input_shape, _contiguous(*input[1:])
        return len(weight[1]) == 3 and any(
            is_channels_last(*_of_two_dimensions(*layout)) for layout in (taken, weight[1:])
        )
    return not (len(input_shape) == 5 and code == _core.FLOAT64) and (
        is_channels_last(*input[1:]) or is_channels_last(*weight[1:])
    )
