"""Gradients of convolutions by one tensor at a time, with the signatures of ``torch.nn.grad``.

They can be differentiated in turn. torch's own functions compute what the kernels do not take.
"""

from collections.abc import Sequence

from torch import Tensor

from pyinit._functional.autograd import contract, sum_channels
from pyinit._functional.geometry import (
    IMAGE,
    RESULT,
    WEIGHT,
    Function,
    PerDimension,
    Window,
    geometry_of,
    is_channels_last,
    is_too_large,
    plan_of,
)
from pyinit._functional.operators import has_kernel
from pyinit._torch.original import functional, gradients
from pyinit._torch.views import DTYPES

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
    stride: PerDimension = 1,
    padding: PerDimension = 0,
    dilation: PerDimension = 1,
    groups: int = 1,
) -> Tensor:
    """The gradient of ``conv1d`` by its input.

    Args:
        input_size: the input's shape, ``(batch, channels, length)``.
        weight: ``(output channels, channels / groups, kernel length)``.
        grad_output: the gradient by the result, of its shape, ``(batch, output channels,
            length)``.
        stride: the distance between the kernel's places, in pixels: an integer, or one for each
            spatial dimension.
        padding: the zeros in front of and behind each spatial dimension, in pixels: an integer, or
            one for each.
        dilation: the distance between the kernel's taps, in pixels: an integer, or one for each
            spatial dimension.
        groups: the number of parts into which channels and output channels are divided.

    Returns:
        A tensor of the shape ``input_size``.

    Raises:
        RuntimeError, TypeError, ValueError: if shapes, dtypes and integers do not fit together.

    References:
        Dumoulin and Visin (2016), A guide to convolution arithmetic for deep learning,
        arXiv:1603.07285.

    Example:
        >>> import torch, pyinit
        >>> weight, grad_output = torch.ones(4, 2, 3), torch.ones(1, 4, 3)
        >>> pyinit.nn.grad.conv1d_input((1, 2, 5), weight, grad_output).shape
        torch.Size([1, 2, 5])
    """
    return _by_input(1, input_size, weight, grad_output, (stride, padding, dilation, groups, 0))


def conv1d_weight(
    input: Tensor,
    weight_size: Sequence[int],
    grad_output: Tensor,
    stride: PerDimension = 1,
    padding: PerDimension = 0,
    dilation: PerDimension = 1,
    groups: int = 1,
) -> Tensor:
    """The gradient of ``conv1d`` by its weight.

    Args:
        input: ``(batch, channels, length)``.
        weight_size: the weight's shape, ``(output channels, channels / groups, kernel length)``.
        grad_output: the gradient by the result, of its shape, ``(batch, output channels,
            length)``.
        stride: the distance between the kernel's places, in pixels: an integer, or one for each
            spatial dimension.
        padding: the zeros in front of and behind each spatial dimension, in pixels: an integer, or
            one for each.
        dilation: the distance between the kernel's taps, in pixels: an integer, or one for each
            spatial dimension.
        groups: the number of parts into which channels and output channels are divided.

    Returns:
        A tensor of the shape ``weight_size``.

    Raises:
        RuntimeError, TypeError, ValueError: if shapes, dtypes and integers do not fit together.

    References:
        Dumoulin and Visin (2016), A guide to convolution arithmetic for deep learning,
        arXiv:1603.07285.

    Example:
        >>> import torch, pyinit
        >>> x, grad_output = torch.ones(1, 2, 5), torch.ones(1, 4, 3)
        >>> pyinit.nn.grad.conv1d_weight(x, (4, 2, 3), grad_output).shape
        torch.Size([4, 2, 3])
    """
    return _by_weight(1, input, weight_size, grad_output, (stride, padding, dilation, groups, 0))


def conv1d_bias(grad_output: Tensor) -> Tensor:
    """The gradient of ``conv1d`` by its bias.

    Args:
        grad_output: the gradient by the result, of its shape, ``(batch, output channels,
            length)``.

    Returns:
        ``(output channels,)``: the sum over the batch and all pixels of each channel.

    Raises:
        RuntimeError: unless ``grad_output`` has 3 dimensions.

    References:
        Dumoulin and Visin (2016), A guide to convolution arithmetic for deep learning,
        arXiv:1603.07285.

    Example:
        >>> import torch, pyinit
        >>> pyinit.nn.grad.conv1d_bias(torch.ones(1, 2, 3))
        tensor([3., 3.])
    """
    return _by_bias(1, grad_output)


def conv2d_input(
    input_size: Sequence[int],
    weight: Tensor,
    grad_output: Tensor,
    stride: PerDimension = 1,
    padding: PerDimension = 0,
    dilation: PerDimension = 1,
    groups: int = 1,
) -> Tensor:
    """The gradient of ``conv2d`` by its input.

    Args:
        input_size: the input's shape, ``(batch, channels, height, width)``.
        weight: ``(output channels, channels / groups, kernel height, kernel width)``.
        grad_output: the gradient by the result, of its shape, ``(batch, output channels, height,
            width)``.
        stride: the distance between the kernel's places, in pixels: an integer, or one for each
            spatial dimension.
        padding: the zeros in front of and behind each spatial dimension, in pixels: an integer, or
            one for each.
        dilation: the distance between the kernel's taps, in pixels: an integer, or one for each
            spatial dimension.
        groups: the number of parts into which channels and output channels are divided.

    Returns:
        A tensor of the shape ``input_size``.

    Raises:
        RuntimeError, TypeError, ValueError: if shapes, dtypes and integers do not fit together.

    References:
        Dumoulin and Visin (2016), A guide to convolution arithmetic for deep learning,
        arXiv:1603.07285.

    Example:
        >>> import torch, pyinit
        >>> weight, grad_output = torch.ones(4, 2, 3, 3), torch.ones(1, 4, 3, 3)
        >>> pyinit.nn.grad.conv2d_input((1, 2, 5, 5), weight, grad_output).shape
        torch.Size([1, 2, 5, 5])
    """
    return _by_input(2, input_size, weight, grad_output, (stride, padding, dilation, groups, 0))


def conv2d_weight(
    input: Tensor,
    weight_size: Sequence[int],
    grad_output: Tensor,
    stride: PerDimension = 1,
    padding: PerDimension = 0,
    dilation: PerDimension = 1,
    groups: int = 1,
) -> Tensor:
    """The gradient of ``conv2d`` by its weight.

    Args:
        input: ``(batch, channels, height, width)``.
        weight_size: the weight's shape, ``(output channels, channels / groups, kernel height,
            kernel width)``.
        grad_output: the gradient by the result, of its shape, ``(batch, output channels, height,
            width)``.
        stride: the distance between the kernel's places, in pixels: an integer, or one for each
            spatial dimension.
        padding: the zeros in front of and behind each spatial dimension, in pixels: an integer, or
            one for each.
        dilation: the distance between the kernel's taps, in pixels: an integer, or one for each
            spatial dimension.
        groups: the number of parts into which channels and output channels are divided.

    Returns:
        A tensor of the shape ``weight_size``.

    Raises:
        RuntimeError, TypeError, ValueError: if shapes, dtypes and integers do not fit together.

    References:
        Dumoulin and Visin (2016), A guide to convolution arithmetic for deep learning,
        arXiv:1603.07285.

    Example:
        >>> import torch, pyinit
        >>> x, grad_output = torch.ones(1, 2, 5, 5), torch.ones(1, 4, 3, 3)
        >>> pyinit.nn.grad.conv2d_weight(x, (4, 2, 3, 3), grad_output).shape
        torch.Size([4, 2, 3, 3])
    """
    return _by_weight(2, input, weight_size, grad_output, (stride, padding, dilation, groups, 0))


def conv2d_bias(grad_output: Tensor) -> Tensor:
    """The gradient of ``conv2d`` by its bias.

    Args:
        grad_output: the gradient by the result, of its shape, ``(batch, output channels, height,
            width)``.

    Returns:
        ``(output channels,)``: the sum over the batch and all pixels of each channel.

    Raises:
        RuntimeError: unless ``grad_output`` has 4 dimensions.

    References:
        Dumoulin and Visin (2016), A guide to convolution arithmetic for deep learning,
        arXiv:1603.07285.

    Example:
        >>> import torch, pyinit
        >>> pyinit.nn.grad.conv2d_bias(torch.ones(1, 2, 3, 3))
        tensor([9., 9.])
    """
    return _by_bias(2, grad_output)


def conv3d_input(
    input_size: Sequence[int],
    weight: Tensor,
    grad_output: Tensor,
    stride: PerDimension = 1,
    padding: PerDimension = 0,
    dilation: PerDimension = 1,
    groups: int = 1,
) -> Tensor:
    """The gradient of ``conv3d`` by its input.

    Args:
        input_size: the input's shape, ``(batch, channels, depth, height, width)``.
        weight: ``(output channels, channels / groups, kernel depth, kernel height, kernel
            width)``.
        grad_output: the gradient by the result, of its shape, ``(batch, output channels, depth,
            height, width)``.
        stride: the distance between the kernel's places, in pixels: an integer, or one for each
            spatial dimension.
        padding: the zeros in front of and behind each spatial dimension, in pixels: an integer, or
            one for each.
        dilation: the distance between the kernel's taps, in pixels: an integer, or one for each
            spatial dimension.
        groups: the number of parts into which channels and output channels are divided.

    Returns:
        A tensor of the shape ``input_size``.

    Raises:
        RuntimeError, TypeError, ValueError: if shapes, dtypes and integers do not fit together.

    References:
        Dumoulin and Visin (2016), A guide to convolution arithmetic for deep learning,
        arXiv:1603.07285.

    Example:
        >>> import torch, pyinit
        >>> weight, grad_output = torch.ones(4, 2, 3, 3, 3), torch.ones(1, 4, 3, 3, 3)
        >>> pyinit.nn.grad.conv3d_input((1, 2, 5, 5, 5), weight, grad_output).shape
        torch.Size([1, 2, 5, 5, 5])
    """
    return _by_input(3, input_size, weight, grad_output, (stride, padding, dilation, groups, 0))


def conv3d_weight(
    input: Tensor,
    weight_size: Sequence[int],
    grad_output: Tensor,
    stride: PerDimension = 1,
    padding: PerDimension = 0,
    dilation: PerDimension = 1,
    groups: int = 1,
) -> Tensor:
    """The gradient of ``conv3d`` by its weight.

    Args:
        input: ``(batch, channels, depth, height, width)``.
        weight_size: the weight's shape, ``(output channels, channels / groups, kernel depth,
            kernel height, kernel width)``.
        grad_output: the gradient by the result, of its shape, ``(batch, output channels, depth,
            height, width)``.
        stride: the distance between the kernel's places, in pixels: an integer, or one for each
            spatial dimension.
        padding: the zeros in front of and behind each spatial dimension, in pixels: an integer, or
            one for each.
        dilation: the distance between the kernel's taps, in pixels: an integer, or one for each
            spatial dimension.
        groups: the number of parts into which channels and output channels are divided.

    Returns:
        A tensor of the shape ``weight_size``.

    Raises:
        RuntimeError, TypeError, ValueError: if shapes, dtypes and integers do not fit together.

    References:
        Dumoulin and Visin (2016), A guide to convolution arithmetic for deep learning,
        arXiv:1603.07285.

    Example:
        >>> import torch, pyinit
        >>> x, grad_output = torch.ones(1, 2, 5, 5, 5), torch.ones(1, 4, 3, 3, 3)
        >>> pyinit.nn.grad.conv3d_weight(x, (4, 2, 3, 3, 3), grad_output).shape
        torch.Size([4, 2, 3, 3, 3])
    """
    return _by_weight(3, input, weight_size, grad_output, (stride, padding, dilation, groups, 0))


def conv3d_bias(grad_output: Tensor) -> Tensor:
    """The gradient of ``conv3d`` by its bias.

    Args:
        grad_output: the gradient by the result, of its shape, ``(batch, output channels, depth,
            height, width)``.

    Returns:
        ``(output channels,)``: the sum over the batch and all pixels of each channel.

    Raises:
        RuntimeError: unless ``grad_output`` has 5 dimensions.

    References:
        Dumoulin and Visin (2016), A guide to convolution arithmetic for deep learning,
        arXiv:1603.07285.

    Example:
        >>> import torch, pyinit
        >>> pyinit.nn.grad.conv3d_bias(torch.ones(1, 2, 3, 3, 3))
        tensor([27., 27.])
    """
    return _by_bias(3, grad_output)


def _by_input(
    dims: int, input_size: Sequence[int], weight: Tensor, grad_output: Tensor, window: Window
) -> Tensor:
    shapes = tuple(input_size), weight.shape
    made = _made(dims, IMAGE, shapes, grad_output, weight, window)
    if made is None:
        torchs = getattr(gradients, f"conv{dims}d_input")
        made = torchs(input_size, weight, grad_output, *window[:4])
    return made


def _by_weight(
    dims: int, input: Tensor, weight_size: Sequence[int], grad_output: Tensor, window: Window
) -> Tensor:
    shapes = input.shape, tuple(weight_size)
    made = _made(dims, WEIGHT, shapes, grad_output, input, window)
    if made is None:
        torchs = getattr(gradients, f"conv{dims}d_weight")
        made = torchs(input, weight_size, grad_output, *window[:4])
    return made


def _made(
    dims: int,
    target: int,
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    grad_output: Tensor,
    other: Tensor,
    window: Window,
) -> Tensor | None:
    """The gradient, made of ``grad_output`` and ``other``; None where torch has to make or refuse it."""
    if not (has_kernel(grad_output) and has_kernel(other) and grad_output.dtype == other.dtype):
        return None
    channels_last = is_channels_last(tuple(other.shape), other.stride())
    function = Function(dims, RESULT, getattr(functional, f"conv{dims}d"))
    input, weight = (tuple(shape) for shape in shapes)
    geometry = geometry_of(function, input, weight, None, channels_last, *window)
    if geometry is None or is_too_large(geometry):
        return None
    if tuple(grad_output.shape) != geometry.shapes[RESULT]:
        raise RuntimeError(
            f"grad_output has the shape {list(grad_output.shape)}, but a convolution of {list(input)} "
            f"by {list(weight)} gives {list(geometry.shapes[RESULT])}"
        )
    operands = (grad_output, other) if target == IMAGE else (other, grad_output)
    return contract(plan_of(geometry, DTYPES[grad_output.dtype]), target, *operands)


def _by_bias(dims: int, grad_output: Tensor) -> Tensor:
    if grad_output.dim() != dims + 2:
        raise RuntimeError(
            f"grad_output must have {dims + 2} dimensions, got the shape {list(grad_output.shape)}"
        )
    return sum_channels(grad_output)
