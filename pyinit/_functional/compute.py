"""Convolutions: which calls the kernels take, how big the results are, and how gradients are made.

A convolution relates three tensors: an image, a weight and a result. The sum over all of
result * convolution(image, weight) is linear in each of them, and its derivative by one of them is a
kernel that takes the other two: ``convolve`` gives the result, ``convolve_transposed`` the image, and
``convolve_weight_gradient`` the weight. So the gradients of each of the three are the other two.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from math import prod
from operator import mul
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import has_torch_function_variadic

from pyinit import _core
from pyinit._functional.epilogue import Epilogue
from pyinit._torch.views import DTYPES, MOST_ELEMENTS, View, is_overridden, is_transformed

Shape = tuple[int, ...]
Numbers = int | tuple[int, ...]

IMAGE, WEIGHT, RESULT = range(3)
OPERANDS = ((RESULT, WEIGHT), (IMAGE, RESULT), (IMAGE, WEIGHT))
"""What each of the three is made of, in the order that kernels and operators take it."""
OPERATORS = ("convolution_transposed", "convolution_weight", "convolution")

_FLOATS = (_core.FLOAT32, _core.FLOAT64)
_LARGEST = 2**31 - 1  # of stride, padding and dilation: positions then stay within 64 bits


class Function(NamedTuple):
    """What makes one of the six functions differ from the others."""

    dims: int
    target: int
    """``RESULT`` of a convolution, ``IMAGE`` of a transposed one."""
    torch: Callable[..., Tensor]


class Geometry(NamedTuple):
    """How image, weight and result fit together."""

    shapes: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    channels_last: bool
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    """In front. Behind there is as much as the sizes take."""
    dilation: tuple[int, ...]
    groups: int


PackedView = tuple[View, _core.PackedWeight]
"""A weight's view, and the same weight packed."""


class Plan(NamedTuple):
    """A geometry, and the strides of each of the three where it is an output."""

    geometry: Geometry
    strides: tuple[tuple[int, ...], ...]


def is_channels_last(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether torch takes the strides for those of channels_last, where that has a meaning."""
    if len(shape) < 4 or strides[1] == 0:
        return False
    least = 0
    for i in (1, *range(len(shape) - 1, 1, -1), 0):
        if shape[i] == 0 or strides[i] < least or (i == 0 and least == strides[1]):
            return False
        least = strides[i] * shape[i] if shape[i] > 1 else strides[i]
    return True


def dense_strides(shape: tuple[int, ...], channels_last: bool) -> tuple[int, ...]:
    """Those of ``torch.empty(shape, memory_format=...)``."""
    if channels_last:
        batch, channels, *size = shape
        pixels = dense_strides((batch, *size, channels), False)
        return (pixels[0], 1, *pixels[1:-1])
    return tuple(accumulate((1, *shape[:0:-1]), mul))[::-1]


def spread(value: object, dims: int) -> tuple[int, ...] | None:
    """A number for each dimension; None for what is not plain integers."""
    if type(value) is int:
        return (value,) * dims
    if not isinstance(value, tuple | list) or any(type(number) is not int for number in value):
        return None
    numbers = tuple(value)
    return numbers * dims if len(numbers) == 1 else numbers if len(numbers) == dims else None


def exact(value: object) -> Any:
    """The value as a key, so that 1.0 or True is not found for 1; None where torch has to judge."""
    if type(value) is int or type(value) is str:
        return value
    if type(value) is list or type(value) is torch.Size:
        value = tuple(value)
    if type(value) is not tuple:
        return None
    for number in value:
        if type(number) is not int:
            return None
    return value


def geometry_of(
    function: Function,
    input_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    bias_shape: tuple[int, ...] | None,
    channels_last: bool,
    stride: Numbers,
    padding: Numbers | str,
    dilation: Numbers,
    groups: int,
    output_padding: Numbers,
) -> Geometry | None:
    """How the tensors of a call fit together; None if they do not, or if nothing is to be computed."""
    dims, target, _ = function
    steps, spacing, behind = (spread(x, dims) for x in (stride, dilation, output_padding))
    if (
        steps is None
        or spacing is None
        or behind is None
        or type(groups) is not int
        or not len(input_shape) == len(weight_shape) == dims + 2
        or not all(1 <= x <= _LARGEST for x in (*steps, *spacing, groups))
    ):
        return None
    size, kernel = input_shape[2:], weight_shape[2:]
    reach = tuple(d * (k - 1) for d, k in zip(spacing, kernel, strict=True))
    if padding == "same" and target == RESULT and steps == (1,) * dims:
        front, both = tuple(r // 2 for r in reach), reach
    else:
        numbers = spread(0 if padding == "valid" and target == RESULT else padding, dims)
        if numbers is None or not all(0 <= x <= _LARGEST for x in numbers):
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
    """Whether no memory could hold one of the three: torch finds the words for that."""
    return any(prod(shape) > MOST_ELEMENTS for shape in geometry.shapes)


def plan_of(geometry: Geometry) -> Plan:
    return Plan(geometry, tuple(dense_strides(x, geometry.channels_last) for x in geometry.shapes))


def geometry_of_tensors(
    function: Function,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Numbers,
    padding: Numbers | str,
    dilation: Numbers,
    groups: int,
    output_padding: Numbers,
) -> Geometry | None:
    """``geometry_of`` what a tracer runs along with, whose sizes and strides may be symbols."""
    code = DTYPES[input.dtype]
    shapes = tuple(input.shape), tuple(weight.shape)
    if any(DTYPES[x.dtype] != code for x in (weight, bias) if x is not None):
        return None
    channels_last = gives_channels_last(
        code, (shapes[0], input.stride()), (shapes[1], weight.stride())
    )
    return geometry_of(
        function,
        *shapes,
        None if bias is None else tuple(bias.shape),
        channels_last,
        stride,
        padding,
        dilation,
        groups,
        output_padding,
    )


@lru_cache(maxsize=4096)
def planned(
    function: Function,
    input: tuple[int, tuple[int, ...], tuple[int, ...]],
    weight: tuple[int, tuple[int, ...], tuple[int, ...]],
    bias: tuple[int, tuple[int, ...]] | None,
    stride: Numbers,
    padding: Numbers | str,
    dilation: Numbers,
    groups: int,
    output_padding: Numbers,
) -> Plan | None:
    """The plan of a call whose tensors have these dtype codes, shapes and, but for bias, strides."""
    code = input[0]
    if code not in _FLOATS or weight[0] != code or (bias is not None and bias[0] != code):
        return None
    geometry = geometry_of(
        function,
        input[1],
        weight[1],
        None if bias is None else bias[1],
        gives_channels_last(code, input[1:], weight[1:]),
        stride,
        padding,
        dilation,
        groups,
        output_padding,
    )
    return None if geometry is None or is_too_large(geometry) else plan_of(geometry)


def gives_channels_last(
    code: int,
    input: tuple[tuple[int, ...], tuple[int, ...]],
    weight: tuple[tuple[int, ...], tuple[int, ...]],
) -> bool:
    """Whether torch's result is channels_last: in three dimensions never that of float64."""
    return not (len(input[0]) == 5 and code == _core.FLOAT64) and (
        is_channels_last(*input) or is_channels_last(*weight)
    )


_autocast_enabled = torch.is_autocast_enabled
_threads = torch.get_num_threads


def is_watched(*tensors: Tensor | None) -> bool:
    """Whether more than automatic differentiation has to see what becomes of the tensors."""
    return (
        is_transformed()
        or forward_ad._current_level >= 0
        or _autocast_enabled("cpu")
        or (has_torch_function_variadic(*tensors) and is_overridden(*tensors))
    )


def is_dense_row(view: View) -> bool:
    return view[3] == (1,) or view[2] == (1,)


_DTYPE_OF = {code: dtype for dtype, code in DTYPES.items()}
_CPU = torch.device("cpu")


_KERNELS: tuple[Callable[..., None], ...] = (
    _core.convolve_transposed,
    _core.convolve_weight_gradient,
    _core.convolve,
)


def compute(
    target: int,
    plan: Plan,
    first: View,
    second: View | PackedView,
    bias: View | None = None,
    epilogue: Epilogue | None = None,
) -> Tensor:
    """Image, weight or result, from the other two: ``OPERANDS[target]``, in that order.

    The weight of a convolution may come packed.
    """
    (shapes, _, stride, padding, dilation, groups), strides = plan
    code, shape, steps = first[1], shapes[target], strides[target]
    out = torch.empty_strided(shape, steps, dtype=_DTYPE_OF[code], device=_CPU)
    made = (out.data_ptr(), code, shape, steps)
    kernel = _KERNELS[target]
    if target == WEIGHT:
        kernel(first, second, made, stride, padding, dilation, groups, _threads())
    else:
        activation, parameter = (0, 0.0) if epilogue is None else epilogue[1:]
        kernel(
            first,
            second,
            bias,
            made,
            stride,
            padding,
            dilation,
            groups,
            activation,
            parameter,
            _threads(),
        )
    return out


def gradients(
    target: int,
    grad: Tensor,
    operands: Sequence[Tensor],
    wanted: Sequence[bool],
    contract: Callable[[int, Tensor, Tensor], Tensor],
) -> list[Tensor | None]:
    """The derivatives of ``target`` by its operands, times ``grad``; ``contract`` makes each."""
    known = {target: grad, **dict(zip(OPERANDS[target], operands, strict=True))}
    return [
        contract(operand, *(known[i] for i in OPERANDS[operand])) if is_wanted else None
        for operand, is_wanted in zip(OPERANDS[target], wanted, strict=True)
    ]
