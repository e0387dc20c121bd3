"""Gradients of convolutions by one tensor at a time, with the signatures of ``torch.nn.grad``.

They can be differentiated, too. What the kernels do not take goes to torch's functions.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from pyinit._functional.autograd import contract, sum_channels
from pyinit._functional.compute import (
    IMAGE,
    RESULT,
    WEIGHT,
    Function,
    geometry_of,
    is_channels_last,
    is_too_large,
    plan_of,
)
from pyinit._functional.operators import is_ours
from pyinit._torch.original import functional, gradients
from pyinit.functional import Numbers

__all__ = [
    "conv1d_bias",
    "conv1d_input",
    "conv1d_weight",
    "conv2d_bias",
    "conv2d_input",
    "conv2d_weight",
    "conv3d_bias",
    "conv3d_input",
    "conv3d_weight",
]


def conv1d_input(
    input_size: Sequence[int],
    weight: Tensor,
    grad_output: Tensor,
    stride: Numbers = 1,
    padding: Numbers = 0,
    dilation: Numbers = 1,
    groups: int = 1,
) -> Tensor:
    """The gradient of ``conv1d`` by its input; see ``conv2d_input``."""
    return _by_input(1, input_size, weight, grad_output, (stride, padding, dilation, groups))


def conv1d_weight(
    input: Tensor,
    weight_size: Sequence[int],
    grad_output: Tensor,
    stride: Numbers = 1,
    padding: Numbers = 0,
    dilation: Numbers = 1,
    groups: int = 1,
) -> Tensor:
    """The gradient of ``conv1d`` by its weight; see ``conv2d_input``."""
    return _by_weight(1, input, weight_size, grad_output, (stride, padding, dilation, groups))


def conv1d_bias(grad_output: Tensor) -> Tensor:
    """The gradient of ``conv1d`` by its bias: ``(output channels,)``."""
    return _by_bias(1, grad_output)


def conv2d_input(
    input_size: Sequence[int],
    weight: Tensor,
    grad_output: Tensor,
    stride: Numbers = 1,
    padding: Numbers = 0,
    dilation: Numbers = 1,
    groups: int = 1,
) -> Tensor:
    """The gradient of ``conv2d`` by its input.

    Args:
        input_size: the input's shape, ``(batch, channels, height, width)``.
        weight: ``(output channels, channels / groups, kernel height, kernel width)``.
        grad_output: the gradient by the result, and of its shape.
        stride: as in ``conv2d``, and so are those that follow.
        padding: numbers.
        dilation: numbers.
        groups: a number.

    Raises:
        RuntimeError, TypeError, ValueError: where the shapes do not fit together.
    """
    return _by_input(2, input_size, weight, grad_output, (stride, padding, dilation, groups))


def conv2d_weight(
    input: Tensor,
    weight_size: Sequence[int],
    grad_output: Tensor,
    stride: Numbers = 1,
    padding: Numbers = 0,
    dilation: Numbers = 1,
    groups: int = 1,
) -> Tensor:
    """The gradient of ``conv2d`` by its weight; see ``conv2d_input``."""
    return _by_weight(2, input, weight_size, grad_output, (stride, padding, dilation, groups))


def conv2d_bias(grad_output: Tensor) -> Tensor:
    """The gradient of ``conv2d`` by its bias: ``(output channels,)``."""
    return _by_bias(2, grad_output)


def conv3d_input(
    input_size: Sequence[int],
    weight: Tensor,
    grad_output: Tensor,
    stride: Numbers = 1,
    padding: Numbers = 0,
    dilation: Numbers = 1,
    groups: int = 1,
) -> Tensor:
    """The gradient of ``conv3d`` by its input; see ``conv2d_input``."""
    return _by_input(3, input_size, weight, grad_output, (stride, padding, dilation, groups))


def conv3d_weight(
    input: Tensor,
    weight_size: Sequence[int],
    grad_output: Tensor,
    stride: Numbers = 1,
    padding: Numbers = 0,
    dilation: Numbers = 1,
    groups: int = 1,
) -> Tensor:
    """The gradient of ``conv3d`` by its weight; see ``conv2d_input``."""
    return _by_weight(3, input, weight_size, grad_output, (stride, padding, dilation, groups))


def conv3d_bias(grad_output: Tensor) -> Tensor:
    """The gradient of ``conv3d`` by its bias: ``(output channels,)``."""
    return _by_bias(3, grad_output)


Window = tuple[Any, Any, Any, Any]
"""Stride, padding, dilation and groups."""


def _by_input(
    dims: int, input_size: Sequence[int], weight: Tensor, grad_output: Tensor, window: Window
) -> Tensor:
    shapes = tuple(input_size), weight.shape
    made = _made(dims, IMAGE, shapes, grad_output, weight, window)
    if made is None:
        torchs = getattr(gradients, f"conv{dims}d_input")
        made = torchs(input_size, weight, grad_output, *window)
    return made


def _by_weight(
    dims: int, input: Tensor, weight_size: Sequence[int], grad_output: Tensor, window: Window
) -> Tensor:
    shapes = input.shape, tuple(weight_size)
    made = _made(dims, WEIGHT, shapes, grad_output, input, window)
    if made is None:
        torchs = getattr(gradients, f"conv{dims}d_weight")
        made = torchs(input, weight_size, grad_output, *window)
    return made


def _made(
    dims: int,
    target: int,
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    grad_output: Tensor,
    other: Tensor,
    window: Window,
) -> Tensor | None:
    """The gradient from ``grad_output`` and ``other``; None where torch has to make or refuse it."""
    if not (is_ours(grad_output) and is_ours(other) and grad_output.dtype == other.dtype):
        return None
    channels_last = is_channels_last(tuple(other.shape), other.stride())
    function = Function(dims, RESULT, getattr(functional, f"conv{dims}d"))
    input, weight = (tuple(shape) for shape in shapes)
    geometry = geometry_of(function, input, weight, None, channels_last, *window, 0)
    if geometry is None or is_too_large(geometry):
        return None
    if tuple(grad_output.shape) != geometry.shapes[RESULT]:
        raise RuntimeError(
            f"grad_output has the shape {list(grad_output.shape)}, but a convolution of {list(input)} "
            f"by {list(weight)} gives {list(geometry.shapes[RESULT])}"
        )
    operands = (grad_output, other) if target == IMAGE else (other, grad_output)
    return contract(plan_of(geometry), target, *operands)


def _by_bias(dims: int, grad_output: Tensor) -> Tensor:
    if grad_output.dim() != dims + 2:
        raise RuntimeError(
            f"grad_output must have {dims + 2} dimensions, got the shape {list(grad_output.shape)}"
        )
    return sum_channels(grad_output)
