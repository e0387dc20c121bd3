"""Convolutions and activations with the signatures of ``torch.nn.functional``, on pyinit's kernels.

The kernels compute plain float32 and float64 tensors on the CPU, of any memory layout; torch's own functions
compute everything else. docs/convolution.md and docs/activations.md say which call goes where.
"""

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from pyinit._functional.activations import (
    elu,
    gelu,
    leaky_relu,
    relu,
    selu,
    sigmoid,
    silu,
    softplus,
    tanh,
)
from pyinit._functional.autograd import differentiable
from pyinit._functional.columns import col2im, im2col
from pyinit._functional.compute import PackedView, compute, is_dense_row, is_watched
from pyinit._functional.epilogue import ActivationName, epilogue_of
from pyinit._functional.geometry import (
    IMAGE,
    RESULT,
    Function,
    PerDimension,
    Plan,
    Window,
    cache_key,
    geometry_of_tensors,
    planned,
)
from pyinit._functional.operators import apply_operator, has_kernel, traces_operators
from pyinit._functional.packed_weight import PackedWeight, pack_weight
from pyinit._functional.reference_convolution import convolution_by_im2col
from pyinit._functional.softmax import log_softmax, softmax
from pyinit._functional.winograd import get_winograd, set_winograd
from pyinit._torch.original import functional as torchs
from pyinit._torch.views import View, readable_view

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
    "get_winograd",
    "im2col",
    "leaky_relu",
    "log_softmax",
    "pack_weight",
    "relu",
    "selu",
    "set_winograd",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
]


def __dir__() -> list[str]:
    return sorted(__all__)


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
    stride: PerDimension = 1,
    padding: PerDimension | str = 0,
    dilation: PerDimension = 1,
    groups: int = 1,
    *,
    activation: ActivationName | None = None,
    activation_parameter: float | None = None,
) -> Tensor:
    """One-dimensional convolution with bias and activation: ``activation(torch.nn.functional.conv1d(...))``.

    Args:
        input: ``(batch, channels, length)``, or without the batch.
        weight: ``(output channels, channels / groups, kernel length)``, or what ``pack_weight``
            makes of it.
        bias: ``(output channels,)``, or None.
        stride: the distance between the kernel's places, in pixels: an integer, or one for each
            spatial dimension.
        padding: the zeros in front of and behind each spatial dimension, in pixels: an integer, or
            one for each; ``"valid"`` is none, and ``"same"`` as many as give a result of the
            input's size, for a stride of 1.
        dilation: the distance between the kernel's taps, in pixels: an integer, or one for each
            spatial dimension.
        groups: the number of parts into which channels and output channels are divided, and which
            are convolved separately.
        activation: ``"relu"``, ``"leaky_relu"``, ``"elu"``, ``"selu"``, ``"gelu"``,
            ``"gelu_tanh"``, ``"silu"``, ``"sigmoid"``, ``"tanh"`` or ``"softplus"``, applied to
            the result; None applies none.
        activation_parameter: the slope of ``"leaky_relu"`` (0.01 by default) or alpha of ``"elu"``
            (1 by default).

    Returns:
        ``(batch, output channels, length)``, without the batch if ``input`` has none.

    Raises:
        RuntimeError, TypeError, ValueError: for what torch refuses, in its words, followed by the
            arguments; RuntimeError if a packed weight would need a gradient; ValueError if the
            activation is unknown or has no parameter, or a packed weight has other groups;
            TypeError if the parameter is no number.

    References:
        Dumoulin and Visin (2016), A guide to convolution arithmetic for deep learning,
        arXiv:1603.07285.

    Example:
        >>> import torch, pyinit.functional as F
        >>> x = torch.tensor([[[1.0, 2.0, 4.0, 8.0]]])
        >>> F.conv1d(x, torch.tensor([[[-1.0, 1.0]]]))
        tensor([[[1., 2., 4.]]])
    """
    window = stride, padding, dilation, groups, 0
    return _convolve(_CONV1D, input, weight, bias, window, activation, activation_parameter)


def conv2d(
    input: Tensor,
    weight: Tensor | PackedWeight,
    bias: Tensor | None = None,
    stride: PerDimension = 1,
    padding: PerDimension | str = 0,
    dilation: PerDimension = 1,
    groups: int = 1,
    *,
    activation: ActivationName | None = None,
    activation_parameter: float | None = None,
) -> Tensor:
    """Two-dimensional convolution with bias and activation: ``activation(torch.nn.functional.conv2d(...))``.

    Args:
        input: ``(batch, channels, height, width)``, or without the batch.
        weight: ``(output channels, channels / groups, kernel height, kernel width)``, or what
            ``pack_weight`` makes of it.
        bias: ``(output channels,)``, or None.
        stride: the distance between the kernel's places, in pixels: an integer, or one for each
            spatial dimension.
        padding: the zeros in front of and behind each spatial dimension, in pixels: an integer, or
            one for each; ``"valid"`` is none, and ``"same"`` as many as give a result of the
            input's size, for a stride of 1.
        dilation: the distance between the kernel's taps, in pixels: an integer, or one for each
            spatial dimension.
        groups: the number of parts into which channels and output channels are divided, and which
            are convolved separately.
        activation: ``"relu"``, ``"leaky_relu"``, ``"elu"``, ``"selu"``, ``"gelu"``,
            ``"gelu_tanh"``, ``"silu"``, ``"sigmoid"``, ``"tanh"`` or ``"softplus"``, applied to
            the result; None applies none.
        activation_parameter: the slope of ``"leaky_relu"`` (0.01 by default) or alpha of ``"elu"``
            (1 by default).

    Returns:
        ``(batch, output channels, height, width)``, without the batch if ``input`` has none, in
        channels_last if ``input`` or ``weight`` is.

    Raises:
        RuntimeError, TypeError, ValueError: for what torch refuses, in its words, followed by the
            arguments; RuntimeError if a packed weight would need a gradient; ValueError if the
            activation is unknown or has no parameter, or a packed weight has other groups;
            TypeError if the parameter is no number.

    References:
        Dumoulin and Visin (2016), A guide to convolution arithmetic for deep learning,
        arXiv:1603.07285.

    Example:
        >>> import torch, pyinit.functional as F
        >>> x, bias = torch.ones(1, 1, 3, 3), torch.tensor([-5.0])
        >>> F.conv2d(x, torch.ones(1, 1, 3, 3), bias, padding=1, activation="relu")
        tensor([[[[0., 1., 0.],
                  [1., 4., 1.],
                  [0., 1., 0.]]]])
    """
    window = stride, padding, dilation, groups, 0
    return _convolve(_CONV2D, input, weight, bias, window, activation, activation_parameter)


def conv3d(
    input: Tensor,
    weight: Tensor | PackedWeight,
    bias: Tensor | None = None,
    stride: PerDimension = 1,
    padding: PerDimension | str = 0,
    dilation: PerDimension = 1,
    groups: int = 1,
    *,
    activation: ActivationName | None = None,
    activation_parameter: float | None = None,
) -> Tensor:
    """Three-dimensional convolution with bias and activation: ``activation(torch.nn.functional.conv3d(...))``.

    Args:
        input: ``(batch, channels, depth, height, width)``, or without the batch.
        weight: ``(output channels, channels / groups, kernel depth, kernel height, kernel
            width)``, or what ``pack_weight`` makes of it.
        bias: ``(output channels,)``, or None.
        stride: the distance between the kernel's places, in pixels: an integer, or one for each
            spatial dimension.
        padding: the zeros in front of and behind each spatial dimension, in pixels: an integer, or
            one for each; ``"valid"`` is none, and ``"same"`` as many as give a result of the
            input's size, for a stride of 1.
        dilation: the distance between the kernel's taps, in pixels: an integer, or one for each
            spatial dimension.
        groups: the number of parts into which channels and output channels are divided, and which
            are convolved separately.
        activation: ``"relu"``, ``"leaky_relu"``, ``"elu"``, ``"selu"``, ``"gelu"``,
            ``"gelu_tanh"``, ``"silu"``, ``"sigmoid"``, ``"tanh"`` or ``"softplus"``, applied to
            the result; None applies none.
        activation_parameter: the slope of ``"leaky_relu"`` (0.01 by default) or alpha of ``"elu"``
            (1 by default).

    Returns:
        ``(batch, output channels, depth, height, width)``, without the batch if ``input`` has
        none, in channels_last_3d if float32 and ``input`` or ``weight`` is.

    Raises:
        RuntimeError, TypeError, ValueError: for what torch refuses, in its words, followed by the
            arguments; RuntimeError if a packed weight would need a gradient; ValueError if the
            activation is unknown or has no parameter, or a packed weight has other groups;
            TypeError if the parameter is no number.

    References:
        Dumoulin and Visin (2016), A guide to convolution arithmetic for deep learning,
        arXiv:1603.07285.

    Example:
        >>> import torch, pyinit.functional as F
        >>> video = torch.ones(1, 3, 8, 32, 32)  # frames are the first spatial dimension
        >>> F.conv3d(video, torch.ones(4, 3, 2, 3, 3), stride=(2, 1, 1), padding=(0, 1, 1)).shape
        torch.Size([1, 4, 4, 32, 32])
    """
    window = stride, padding, dilation, groups, 0
    return _convolve(_CONV3D, input, weight, bias, window, activation, activation_parameter)


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: PerDimension = 1,
    padding: PerDimension = 0,
    output_padding: PerDimension = 0,
    groups: int = 1,
    dilation: PerDimension = 1,
    *,
    activation: ActivationName | None = None,
    activation_parameter: float | None = None,
) -> Tensor:
    """One-dimensional transposed convolution: ``activation(torch.nn.functional.conv_transpose1d(...))``.

    It is the gradient by the input of the ``conv1d`` with the same weight, stride, padding, groups
    and dilation: each input pixel adds the kernel, times its value, to the result.

    Args:
        input: ``(batch, channels, length)``, or without the batch.
        weight: ``(channels, output channels / groups, kernel length)``.
        bias: ``(output channels,)``, or None.
        stride: how far apart the kernels of neighbouring input pixels stand in the result, in
            pixels: an integer, or one for each spatial dimension.
        padding: how many pixels are cut off at both ends of each spatial dimension of the result:
            an integer, or one for each.
        output_padding: how many pixels are added at the end of each spatial dimension of the
            result: an integer, or one for each, below the stride or the dilation.
        groups: the number of parts into which channels and output channels are divided, and which
            are convolved separately.
        dilation: the distance between the kernel's taps, in pixels: an integer, or one for each
            spatial dimension.
        activation: ``"relu"``, ``"leaky_relu"``, ``"elu"``, ``"selu"``, ``"gelu"``,
            ``"gelu_tanh"``, ``"silu"``, ``"sigmoid"``, ``"tanh"`` or ``"softplus"``, applied to
            the result; None applies none.
        activation_parameter: the slope of ``"leaky_relu"`` (0.01 by default) or alpha of ``"elu"``
            (1 by default).

    Returns:
        ``(batch, output channels, length)``, without the batch if ``input`` has none. A size n
        becomes (n - 1) stride - 2 padding + dilation (kernel - 1) + output_padding + 1.

    Raises:
        RuntimeError, TypeError, ValueError: for what torch refuses, in its words, followed by the
            arguments; ValueError if the activation is unknown or has no parameter; TypeError if
            the parameter is no number.

    References:
        Dumoulin and Visin (2016), A guide to convolution arithmetic for deep learning,
        arXiv:1603.07285.

    Example:
        >>> import torch, pyinit.functional as F
        >>> x = torch.tensor([[[1.0, 2.0]]])
        >>> F.conv_transpose1d(x, torch.tensor([[[1.0, 10.0, 100.0]]]), stride=2)
        tensor([[[  1.,  10., 102.,  20., 200.]]])
    """
    window = stride, padding, dilation, groups, output_padding
    return _run(_CONV_TRANSPOSE1D, input, weight, bias, window, activation, activation_parameter)


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: PerDimension = 1,
    padding: PerDimension = 0,
    output_padding: PerDimension = 0,
    groups: int = 1,
    dilation: PerDimension = 1,
    *,
    activation: ActivationName | None = None,
    activation_parameter: float | None = None,
) -> Tensor:
    """Two-dimensional transposed convolution: ``activation(torch.nn.functional.conv_transpose2d(...))``.

    It is the gradient by the input of the ``conv2d`` with the same weight, stride, padding, groups
    and dilation: each input pixel adds the kernel, times its value, to the result.

    Args:
        input: ``(batch, channels, height, width)``, or without the batch.
        weight: ``(channels, output channels / groups, kernel height, kernel width)``.
        bias: ``(output channels,)``, or None.
        stride: how far apart the kernels of neighbouring input pixels stand in the result, in
            pixels: an integer, or one for each spatial dimension.
        padding: how many pixels are cut off at both ends of each spatial dimension of the result:
            an integer, or one for each.
        output_padding: how many pixels are added at the end of each spatial dimension of the
            result: an integer, or one for each, below the stride or the dilation.
        groups: the number of parts into which channels and output channels are divided, and which
            are convolved separately.
        dilation: the distance between the kernel's taps, in pixels: an integer, or one for each
            spatial dimension.
        activation: ``"relu"``, ``"leaky_relu"``, ``"elu"``, ``"selu"``, ``"gelu"``,
            ``"gelu_tanh"``, ``"silu"``, ``"sigmoid"``, ``"tanh"`` or ``"softplus"``, applied to
            the result; None applies none.
        activation_parameter: the slope of ``"leaky_relu"`` (0.01 by default) or alpha of ``"elu"``
            (1 by default).

    Returns:
        ``(batch, output channels, height, width)``, without the batch if ``input`` has none. A
        size n becomes (n - 1) stride - 2 padding + dilation (kernel - 1) + output_padding + 1.

    Raises:
        RuntimeError, TypeError, ValueError: for what torch refuses, in its words, followed by the
            arguments; ValueError if the activation is unknown or has no parameter; TypeError if
            the parameter is no number.

    References:
        Dumoulin and Visin (2016), A guide to convolution arithmetic for deep learning,
        arXiv:1603.07285.

    Example:
        >>> import torch, pyinit.functional as F
        >>> x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
        >>> F.conv_transpose2d(x, torch.ones(1, 1, 2, 2), stride=2)  # each pixel becomes 2 x 2
        tensor([[[[1., 1., 2., 2.],
                  [1., 1., 2., 2.],
                  [3., 3., 4., 4.],
                  [3., 3., 4., 4.]]]])
    """
    window = stride, padding, dilation, groups, output_padding
    return _run(_CONV_TRANSPOSE2D, input, weight, bias, window, activation, activation_parameter)


def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: PerDimension = 1,
    padding: PerDimension = 0,
    output_padding: PerDimension = 0,
    groups: int = 1,
    dilation: PerDimension = 1,
    *,
    activation: ActivationName | None = None,
    activation_parameter: float | None = None,
) -> Tensor:
    """Three-dimensional transposed convolution: ``activation(torch.nn.functional.conv_transpose3d(...))``.

    It is the gradient by the input of the ``conv3d`` with the same weight, stride, padding, groups
    and dilation: each input pixel adds the kernel, times its value, to the result.

    Args:
        input: ``(batch, channels, depth, height, width)``, or without the batch.
        weight: ``(channels, output channels / groups, kernel depth, kernel height, kernel
            width)``.
        bias: ``(output channels,)``, or None.
        stride: how far apart the kernels of neighbouring input pixels stand in the result, in
            pixels: an integer, or one for each spatial dimension.
        padding: how many pixels are cut off at both ends of each spatial dimension of the result:
            an integer, or one for each.
        output_padding: how many pixels are added at the end of each spatial dimension of the
            result: an integer, or one for each, below the stride or the dilation.
        groups: the number of parts into which channels and output channels are divided, and which
            are convolved separately.
        dilation: the distance between the kernel's taps, in pixels: an integer, or one for each
            spatial dimension.
        activation: ``"relu"``, ``"leaky_relu"``, ``"elu"``, ``"selu"``, ``"gelu"``,
            ``"gelu_tanh"``, ``"silu"``, ``"sigmoid"``, ``"tanh"`` or ``"softplus"``, applied to
            the result; None applies none.
        activation_parameter: the slope of ``"leaky_relu"`` (0.01 by default) or alpha of ``"elu"``
            (1 by default).

    Returns:
        ``(batch, output channels, depth, height, width)``, without the batch if ``input`` has
        none. A size n becomes (n - 1) stride - 2 padding + dilation (kernel - 1) + output_padding
        + 1.

    Raises:
        RuntimeError, TypeError, ValueError: for what torch refuses, in its words, followed by the
            arguments; ValueError if the activation is unknown or has no parameter; TypeError if
            the parameter is no number.

    References:
        Dumoulin and Visin (2016), A guide to convolution arithmetic for deep learning,
        arXiv:1603.07285.

    Example:
        >>> import torch, pyinit.functional as F
        >>> x, weight = torch.ones(1, 4, 2, 8, 8), torch.ones(4, 3, 2, 2, 2)
        >>> F.conv_transpose3d(x, weight, stride=2).shape
        torch.Size([1, 3, 4, 16, 16])
    """
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
    """``_run`` with a weight that may be packed."""
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
    call = (
        None if is_dynamo_compiling() else _prepared(function, input, weight, bias, window, packed)
    )
    if call is None:
        out = _by_other_routes(function, input, weight, bias, window, packed)
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


def _prepared(
    function: Function,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    window: Window,
    packed: PackedWeight | None,
) -> tuple[Plan, tuple[View, View | PackedView, View | None]] | None:
    """The plan and the views of a call; None where the kernels do not take it as it is."""
    if is_watched(input, weight, bias):
        return None
    x, w, b = readable_view(input), readable_view(weight), None
    if bias is not None:
        b = readable_view(bias)
        if b is None or not is_dense_row(b):
            return None
    if x is None or w is None:
        return None
    key = [n if type(n) is int else cache_key(n) for n in window]
    plan = planned(function, x[1:], w[1:], None if b is None else b[1:3], *key)  # but for addresses
    if plan is None:
        return None
    return plan, (x, w if packed is None else packed.view(w, plan), b)


def _by_other_routes(
    function: Function,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    window: Window,
    packed: PackedWeight | None,
) -> Tensor:
    """A call that the kernels do not take as it is: with other tensors, as an operator, or by torch."""
    is_traced = traces_operators()
    is_known = is_traced or not (is_dynamo_compiling() or is_watched(input, weight, bias))
    tensors = (input, weight) if bias is None else (input, weight, bias)
    if is_known and all(map(has_kernel, tensors)):
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
    return _by_torch(function, input, weight, bias, window)


def _by_torch(
    function: Function, input: Tensor, weight: Tensor, bias: Tensor | None, window: Window
) -> Tensor:
    """torch's own function, whose errors here also name the arguments."""
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


for _name in __all__:  # a function or class is pickled by the name that it has here
    globals()[_name].__module__ = __name__
