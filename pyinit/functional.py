"""Convolutions and activations with the signatures of ``torch.nn.functional``, on pyinit's kernels.

Plain float32 and float64 tensors on the CPU, of any memory layout, are computed here; everything else goes
to torch's own function. docs/convolution.md says what each function takes, and which call goes where.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from pyinit._functional.activations import (
    elu,
    gelu,
    leaky_relu,
    log_softmax,
    relu,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from pyinit._functional.autograd import differentiable
from pyinit._functional.columns import col2im, convolution_by_im2col, im2col
from pyinit._functional.compute import (
    IMAGE,
    RESULT,
    Function,
    PackedView,
    Plan,
    compute,
    exact,
    geometry_of_tensors,
    is_dense_row,
    is_watched,
    planned,
)
from pyinit._functional.epilogue import epilogue_of
from pyinit._functional.operators import apply_operator, is_ours, traces_operators
from pyinit._functional.packed_weight import PackedWeight, pack_weight
from pyinit._torch.original import functional as torchs
from pyinit._torch.views import View, plain_memory

__all__ = [
    "PackedWeight",
    "col2im",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "convolution_by_im2col",
    "elu",
    "gelu",
    "im2col",
    "leaky_relu",
    "log_softmax",
    "pack_weight",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
]

Numbers = int | Sequence[int]
Window = tuple[Any, Any, Any, Any, Any]
"""Stride, padding, dilation, groups and output padding, as the caller gave them."""

_CONV = {dims: Function(dims, RESULT, getattr(torchs, f"conv{dims}d")) for dims in (1, 2, 3)}
_CONV_TRANSPOSE = {
    dims: Function(dims, IMAGE, getattr(torchs, f"conv_transpose{dims}d")) for dims in (1, 2, 3)
}
_CONV1D, _CONV2D, _CONV3D = _CONV.values()
_CONV_TRANSPOSE1D, _CONV_TRANSPOSE2D, _CONV_TRANSPOSE3D = _CONV_TRANSPOSE.values()


def conv1d(
    input: Tensor,
    weight: Tensor | PackedWeight,
    bias: Tensor | None = None,
    stride: Numbers = 1,
    padding: Numbers | str = 0,
    dilation: Numbers = 1,
    groups: int = 1,
    *,
    activation: str | None = None,
    activation_parameter: float | None = None,
) -> Tensor:
    """``activation(torch.nn.functional.conv1d(...))``; see ``conv2d``."""
    window = stride, padding, dilation, groups, 0
    return _convolve(_CONV1D, input, weight, bias, window, activation, activation_parameter)


def conv2d(
    input: Tensor,
    weight: Tensor | PackedWeight,
    bias: Tensor | None = None,
    stride: Numbers = 1,
    padding: Numbers | str = 0,
    dilation: Numbers = 1,
    groups: int = 1,
    *,
    activation: str | None = None,
    activation_parameter: float | None = None,
) -> Tensor:
    """``activation(torch.nn.functional.conv2d(...))``.

    Args:
        input: ``(batch, channels, height, width)``, or without the batch. One spatial dimension less
            in ``conv1d``, one more in ``conv3d``.
        weight: ``(output channels, channels / groups, kernel height, kernel width)``, or what
            ``pack_weight`` makes of it.
        bias: ``(output channels,)``.
        stride: pixels from one window to the next: one number, or one for each spatial dimension.
        padding: zeros on both sides of each dimension; ``"valid"`` is none, ``"same"`` as many as
            give a result of the input's size, for a stride of 1.
        dilation: pixels from one tap of the kernel to the next.
        groups: channels and output channels are split into so many parts, convolved one by one.
        activation: ``"relu"``, ``"leaky_relu"``, ``"elu"``, ``"selu"``, ``"gelu"``,
            ``"gelu_tanh"``, ``"silu"``, ``"sigmoid"``, ``"tanh"`` or ``"softplus"``; none by default.
        activation_parameter: the slope of ``"leaky_relu"`` (0.01 by default), alpha of ``"elu"`` (1).

    Returns:
        ``(batch, output channels, height, width)`` in channels_last where ``input`` or ``weight`` is.

    Raises:
        RuntimeError, TypeError, ValueError: what torch raises, with the arguments it was about;
            ValueError for an unknown activation, and for groups other than a packed weight's;
            RuntimeError where a packed weight comes with a gradient to be computed.
    """
    window = stride, padding, dilation, groups, 0
    return _convolve(_CONV2D, input, weight, bias, window, activation, activation_parameter)


def conv3d(
    input: Tensor,
    weight: Tensor | PackedWeight,
    bias: Tensor | None = None,
    stride: Numbers = 1,
    padding: Numbers | str = 0,
    dilation: Numbers = 1,
    groups: int = 1,
    *,
    activation: str | None = None,
    activation_parameter: float | None = None,
) -> Tensor:
    """``activation(torch.nn.functional.conv3d(...))``; see ``conv2d``."""
    window = stride, padding, dilation, groups, 0
    return _convolve(_CONV3D, input, weight, bias, window, activation, activation_parameter)


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Numbers = 1,
    padding: Numbers = 0,
    output_padding: Numbers = 0,
    groups: int = 1,
    dilation: Numbers = 1,
    *,
    activation: str | None = None,
    activation_parameter: float | None = None,
) -> Tensor:
    """``activation(torch.nn.functional.conv_transpose1d(...))``; see ``conv_transpose2d``."""
    window = stride, padding, dilation, groups, output_padding
    return _run(_CONV_TRANSPOSE1D, input, weight, bias, window, activation, activation_parameter)


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Numbers = 1,
    padding: Numbers = 0,
    output_padding: Numbers = 0,
    groups: int = 1,
    dilation: Numbers = 1,
    *,
    activation: str | None = None,
    activation_parameter: float | None = None,
) -> Tensor:
    """``activation(torch.nn.functional.conv_transpose2d(...))``: the gradient of ``conv2d`` by its input.

    Args:
        input: ``(batch, channels, height, width)``, or without the batch.
        weight: ``(channels, output channels / groups, kernel height, kernel width)``.
        bias: ``(output channels,)``.
        stride: that of the convolution whose gradient it is; so are those that follow.
        padding: numbers.
        output_padding: rows and columns that the result has more of, at its end.
        groups: a number.
        dilation: numbers.
        activation: as in ``conv2d``.
        activation_parameter: as in ``conv2d``.

    Raises:
        RuntimeError, TypeError, ValueError: as in ``conv2d``.
    """
    window = stride, padding, dilation, groups, output_padding
    return _run(_CONV_TRANSPOSE2D, input, weight, bias, window, activation, activation_parameter)


def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Numbers = 1,
    padding: Numbers = 0,
    output_padding: Numbers = 0,
    groups: int = 1,
    dilation: Numbers = 1,
    *,
    activation: str | None = None,
    activation_parameter: float | None = None,
) -> Tensor:
    """``activation(torch.nn.functional.conv_transpose3d(...))``; see ``conv_transpose2d``."""
    window = stride, padding, dilation, groups, output_padding
    return _run(_CONV_TRANSPOSE3D, input, weight, bias, window, activation, activation_parameter)


def _convolve(
    function: Function,
    input: Tensor,
    weight: Tensor | PackedWeight,
    bias: Tensor | None,
    window: Window,
    name: str | None,
    parameter: float | None,
) -> Tensor:
    """``_run`` for weights that may be packed."""
    if not isinstance(weight, PackedWeight):
        return _run(function, input, weight, bias, window, name, parameter)
    weight.check(window[3], input, bias)
    return _run(function, input, weight.weight, bias, window, name, parameter, weight)


def _run(
    function: Function,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    window: Window,
    name: str | None,
    parameter: float | None,
    packed: PackedWeight | None = None,
) -> Tensor:
    epilogue = epilogue_of(name, parameter)
    call = None if is_dynamo_compiling() else _native(function, input, weight, bias, window, packed)
    if call is None:
        out = _otherwise(function, input, weight, bias, window, packed)
        return out if epilogue is None else epilogue.apply(out)
    plan, views = call
    is_differentiated = torch.is_grad_enabled() and (
        input.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    )
    fused = epilogue if epilogue is not None and epilogue.fuses(is_differentiated) else None
    if is_differentiated:
        out = differentiable((function.target, plan, views, fused), input, weight, bias)
    else:
        out = compute(function.target, plan, *views, fused)
    return out if epilogue is None or fused else epilogue.apply(out)


def _native(
    function: Function,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    window: Window,
    packed: PackedWeight | None,
) -> tuple[Plan, tuple[View, View | PackedView, View | None]] | None:
    """What the kernels need; None where they do not take the call as it is."""
    if is_watched(input, weight, bias):
        return None
    x, w, b = plain_memory(input), plain_memory(weight), None
    if bias is not None:
        b = plain_memory(bias)
        if b is None or not is_dense_row(b):
            return None
    if x is None or w is None:
        return None
    key = [n if type(n) is int else exact(n) for n in window]
    plan = planned(function, x[1:], w[1:], None if b is None else b[1:3], *key)
    if plan is None:
        return None
    return plan, (x, w if packed is None else packed.view(w, plan), b)


def _otherwise(
    function: Function,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    window: Window,
    packed: PackedWeight | None,
) -> Tensor:
    """A call that the kernels do not take as it is: in another form, as an operator, or by torch."""
    is_traced = traces_operators()
    is_known = is_traced or not (is_dynamo_compiling() or is_watched(input, weight, bias))
    if is_known and all(x is None or is_ours(x) for x in (input, weight, bias)):
        if input.dim() == function.dims + 1:
            batch = input.unsqueeze(0)
            return _run(function, batch, weight, bias, window, None, None, packed).squeeze(0)
        if bias is not None and bias.dim() == 1 and not bias.is_contiguous():
            dense = bias.contiguous()
            return _run(function, input, weight, dense, window, None, None, packed)
        if is_traced:
            geometry = geometry_of_tensors(function, input, weight, bias, *window)
            if geometry is not None:
                out = apply_operator(function.target, geometry, input, weight)
                return out if bias is None else out + bias.view(-1, *(1,) * function.dims)
    return _torchs(function, input, weight, bias, window)


def _torchs(
    function: Function, input: Tensor, weight: Tensor, bias: Tensor | None, window: Window
) -> Tensor:
    """torch's own function; what it raises also says what it was called with."""
    stride, padding, dilation, groups, output_padding = window
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    if function.target == IMAGE:
        options["output_padding"] = output_padding
    if is_dynamo_compiling():
        return function.torch(input, weight, bias, **options)
    try:
        return function.torch(input, weight, bias, **options)
    except (RuntimeError, TypeError, ValueError) as error:
        if type(error) not in (RuntimeError, TypeError, ValueError):
            raise
        tensors = {
            "input": _described(input),
            "weight": _described(weight),
            "bias": _described(bias),
        }
        given = ", ".join(f"{name}={value}" for name, value in (tensors | options).items())
        raise type(error)(f"{error}\nCalled with {given}") from error


def _described(x: object) -> str:
    return f"{list(x.shape)} {x.dtype} {x.device}" if isinstance(x, Tensor) else repr(x)
