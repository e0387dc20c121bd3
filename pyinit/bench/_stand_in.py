"""The convolutions, until ``pyinit.functional`` and ``pyinit.nn.grad`` are there."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pyinit import _core
from pyinit._tensors import DTYPES, View

_ACTIVATIONS = {None: 0, "relu": 1}


def _view(tensor: Tensor) -> View:
    return tensor.data_ptr(), DTYPES[tensor.dtype], tuple(tensor.shape), tensor.stride()


def _like(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    last = not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty(tuple(shape), dtype=tensor.dtype, memory_format=layout)


def conv2d(  # noqa: PLR0917
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
    *,
    activation: str | None = None,
) -> Tensor:
    size = [
        (extent + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
        for extent, taps in zip(input.shape[2:], weight.shape[2:], strict=True)
    ]
    output = _like(input, (input.shape[0], weight.shape[0], *size))
    _core.convolve(
        _view(input),
        _view(weight),
        None if bias is None else _view(bias),
        _view(output),
        (stride,) * 2,
        (padding,) * 2,
        (dilation,) * 2,
        groups,
        _ACTIVATIONS[activation],
        0.0,
        torch.get_num_threads(),
    )
    return output


def conv2d_input(  # noqa: PLR0917
    input_size: Sequence[int],
    weight: Tensor,
    grad_output: Tensor,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Tensor:
    gradient = _like(grad_output, input_size)
    _core.convolve_transposed(
        _view(grad_output),
        _view(weight),
        None,
        _view(gradient),
        (stride,) * 2,
        (padding,) * 2,
        (dilation,) * 2,
        groups,
        0,
        0.0,
        torch.get_num_threads(),
    )
    return gradient


def conv2d_weight(  # noqa: PLR0917
    input: Tensor,
    weight_size: Sequence[int],
    grad_output: Tensor,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Tensor:
    gradient = _like(grad_output, weight_size)
    _core.convolve_weight_gradient(
        _view(input),
        _view(grad_output),
        _view(gradient),
        (stride,) * 2,
        (padding,) * 2,
        (dilation,) * 2,
        groups,
        torch.get_num_threads(),
    )
    return gradient
