"""Elementwise activation functions, with the signatures and the meaning of ``torch.nn.functional``.

Plain float32 and float64 tensors on the CPU go to the kernels. torch's own functions take everything
else: other dtypes and devices, tensor subclasses, function and dispatch modes, ``torch.func``
transforms, forward-mode differentiation, tracing, ``torch.compile``, arguments that torch refuses,
and in-place calls that autograd has to record. docs/activations.md lists the rounding errors.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import has_torch_function_unary

from pyinit import _core
from pyinit._torch.original import functional as torchs
from pyinit._torch.original import operations
from pyinit._torch.views import (
    FLOATS,
    View,
    is_transformed,
    overridden,
    readable_view,
    view_of,
    writable_flat_view,
)

_aten = torch.ops.aten
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def _silu_gradient(grad: Tensor, x: Tensor, _: float, __: bool) -> Tensor:
    """silu's gradient, made of differentiable operations: torch's ``silu_backward`` has no derivative."""
    s: Tensor = _aten.sigmoid(x)
    return grad * (s * (1 + x * (1 - s)))


class Activation(NamedTuple):
    """The specification of an activation function."""

    code: int
    """Its number in ``csrc/activation/activation.hpp``."""
    parameter: float
    """The default slope of leaky_relu and the default alpha of elu; the others ignore it."""
    from_output: bool
    """Whether the derivative follows from the output (with a parameter that is not negative)."""
    saves_output: bool
    """Whether autograd saves the output for the derivative, as torch's own function does."""
    gradient: Callable[[Tensor, Tensor, float, bool], Tensor]
    """torch's gradient, which can be differentiated again. It takes the gradient by the output, the
    saved tensor, the parameter, and whether the saved tensor is the output."""


ACTIVATIONS = {
    "relu": Activation(1, 0.0, True, True, lambda g, s, _, __: _aten.threshold_backward(g, s, 0)),
    "leaky_relu": Activation(2, 0.01, True, False, _aten.leaky_relu_backward),
    "elu": Activation(
        3, 1.0, True, False, lambda g, s, alpha, of: _aten.elu_backward(g, alpha, 1.0, 1.0, of, s)
    ),
    "selu": Activation(
        4,
        0.0,
        True,
        False,
        lambda g, s, _, of: _aten.elu_backward(g, _SELU_ALPHA, _SELU_SCALE, 1.0, of, s),
    ),
    "gelu": Activation(5, 0.0, False, False, lambda g, s, _, __: _aten.gelu_backward(g, s)),
    "gelu_tanh": Activation(
        6, 0.0, False, False, lambda g, s, _, __: _aten.gelu_backward(g, s, approximate="tanh")
    ),
    "silu": Activation(7, 0.0, False, False, _silu_gradient),
    "sigmoid": Activation(8, 0.0, True, True, lambda g, s, _, __: _aten.sigmoid_backward(g, s)),
    "tanh": Activation(9, 0.0, True, True, lambda g, s, _, __: _aten.tanh_backward(g, s)),
    "softplus": Activation(
        10, 0.0, False, False, lambda g, s, _, __: _aten.softplus_backward(g, s, 1.0, 20.0)
    ),
}
"""By name: the names that a convolution takes for its ``activation``."""

_RELU, _LEAKY_RELU, _ELU, _SELU, _GELU, _GELU_TANH, _SILU, _SIGMOID, _TANH, _SOFTPLUS = (
    ACTIVATIONS.values()
)


_is_compiling = torch.compiler.is_compiling
_grad_enabled = torch.is_grad_enabled
_threads = torch.get_num_threads
_increment_version = torch._C._increment_version


def kernel_view(tensor: Tensor) -> View | None:
    """Where a plain tensor of float32 or float64 lies; None where torch has to take the call."""
    if overridden(tensor) or is_transformed() or forward_ad._current_level >= 0:
        return None
    view = readable_view(tensor)
    return view if view is not None and view.dtype in FLOATS else None


def output_like(input: Tensor, view: View) -> Tensor:
    """Memory for an output: as torch's, it is contiguous if it has no elements."""
    return (
        torch.empty(view.shape, dtype=input.dtype, device=input.device)
        if 0 in view.shape
        else torch.empty_like(input)
    )


def _computed(view: View, input: Tensor, activation: Activation, parameter: float) -> Tensor:
    output = output_like(input, view)
    _core.activate(view, view_of(output), activation.code, parameter, _threads())
    return output


def _overwritten(input: Tensor, activation: Activation, parameter: float) -> Tensor | None:
    view = writable_flat_view(input)
    if view is None:
        return None
    _core.activate(view, view, activation.code, parameter, _threads())
    _increment_version((input,))
    return input


def gradient_of(
    activation: Activation, parameter: float, grad: Tensor, saved: Tensor, is_output: bool
) -> Tensor:
    """The gradient by the input.

    Args:
        activation: the function.
        parameter: its parameter.
        grad: the gradient by the output.
        saved: the output or the input.
        is_output: whether ``saved`` is the output.
    """
    grad_view, saved_view = kernel_view(grad), kernel_view(saved)
    # A gradient that is differentiated again, or is not plain, is made of torch's own operations.
    if _grad_enabled() or grad_view is None or saved_view is None:
        return activation.gradient(grad, saved, parameter, is_output)
    result = torch.empty_like(saved)
    made = view_of(result)
    _core.activate_backward(
        grad_view, saved_view, made, activation.code, parameter, is_output, _threads()
    )
    return result


class _Recorded(torch.autograd.Function):
    """An activation that autograd records."""

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, view: View, activation: Activation, parameter: float
    ) -> Tensor:
        output = _computed(view, input, activation, parameter)
        ctx.save_for_backward(output if activation.saves_output else input)
        ctx.call = activation, parameter
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (saved,) = ctx.saved_tensors
        activation, parameter = ctx.call
        result = gradient_of(activation, parameter, grad, saved, activation.saves_output)
        return result, None, None, None


_recorded: Callable[[Tensor, View, Activation, float], Tensor] = _Recorded.apply


def _activated(
    input: Tensor,
    activation: Activation,
    parameter: float = 0.0,
    inplace: object = False,
) -> Tensor | None:
    """The activation of ``input``; None where torch has to take the call."""
    view = None if _is_compiling() else kernel_view(input)
    if view is None:
        return None
    recorded = input.requires_grad and _grad_enabled()
    if inplace:
        return None if recorded else _overwritten(input, activation, parameter)
    if recorded:
        return _recorded(input, view, activation, parameter)
    return _computed(view, input, activation, parameter)


def _by_torch(name: str, input: Tensor, inplace: object) -> Tensor:
    """torch's own relu or selu, without the function of ``torch`` that it calls by a replaceable name."""
    out: Tensor
    if has_torch_function_unary(input):
        out = getattr(torchs, name)(input, inplace)
    else:
        out = getattr(operations, name + "_" if inplace else name)(input)
    return out


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """The rectified linear unit: max(0, x).

    Args:
        input: a tensor of any shape.
        inplace: whether to write the result into ``input``.

    Returns:
        A tensor of the shape and dtype of ``input``; ``input`` itself if ``inplace``.

    Raises:
        TypeError, RuntimeError: for what torch refuses, in its words.

    References:
        Nair and Hinton (2010), Rectified linear units improve restricted Boltzmann machines.

    Example:
        >>> import torch, pyinit
        >>> pyinit.functional.relu(torch.tensor([-2.0, 0.0, 3.0]))
        tensor([0., 0., 3.])
    """
    output = _activated(input, _RELU, 0.0, inplace)
    return _by_torch("relu", input, inplace) if output is None else output


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """The leaky rectified linear unit: x where x > 0, ``negative_slope`` x elsewhere.

    Args:
        input: a tensor of any shape.
        negative_slope: the factor of negative numbers.
        inplace: whether to write the result into ``input``.

    Returns:
        A tensor of the shape and dtype of ``input``; ``input`` itself if ``inplace``.

    Raises:
        TypeError, RuntimeError: for what torch refuses, in its words.

    References:
        Maas, Hannun and Ng (2013), Rectifier nonlinearities improve neural network acoustic models.

    Example:
        >>> import torch, pyinit
        >>> pyinit.functional.leaky_relu(torch.tensor([-2.0, 3.0]), 0.1)
        tensor([-0.2000,  3.0000])
    """
    output = None
    if isinstance(negative_slope, float | int):
        output = _activated(input, _LEAKY_RELU, negative_slope, inplace)
    return torchs.leaky_relu(input, negative_slope, inplace) if output is None else output


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """The exponential linear unit: x where x > 0, ``alpha`` (exp(x) - 1) elsewhere.

    Args:
        input: a tensor of any shape.
        alpha: minus the limit at minus infinity.
        inplace: whether to write the result into ``input``.

    Returns:
        A tensor of the shape and dtype of ``input``; ``input`` itself if ``inplace``.

    Raises:
        TypeError, RuntimeError: for what torch refuses, in its words.

    References:
        Clevert, Unterthiner and Hochreiter (2016), Fast and accurate deep network learning by
        exponential linear units (ELUs), arXiv:1511.07289.

    Example:
        >>> import torch, pyinit
        >>> pyinit.functional.elu(torch.tensor([-1.0, 3.0]))
        tensor([-0.6321,  3.0000])
    """
    output = None
    if isinstance(alpha, float | int):
        output = _activated(input, _ELU, alpha, inplace)
    return torchs.elu(input, alpha, inplace) if output is None else output


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """The scaled exponential linear unit: 1.0507 times ``elu`` with an alpha of 1.6733.

    Args:
        input: a tensor of any shape.
        inplace: whether to write the result into ``input``.

    Returns:
        A tensor of the shape and dtype of ``input``; ``input`` itself if ``inplace``.

    Raises:
        TypeError, RuntimeError: for what torch refuses, in its words.

    References:
        Klambauer, Unterthiner, Mayr and Hochreiter (2017), Self-normalizing neural networks,
        arXiv:1706.02515.

    Example:
        >>> import torch, pyinit
        >>> pyinit.functional.selu(torch.tensor([-1.0, 1.0]))
        tensor([-1.1113,  1.0507])
    """
    output = _activated(input, _SELU, 0.0, inplace)
    return _by_torch("selu", input, inplace) if output is None else output


def gelu(input: Tensor, *, approximate: Literal["none", "tanh"] = "none") -> Tensor:
    """The Gaussian error linear unit: x times the standard normal distribution function of x.

    Args:
        input: a tensor of any shape.
        approximate: ``"none"``, or ``"tanh"`` for x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x³))).

    Returns:
        A tensor of the shape and dtype of ``input``.

    Raises:
        TypeError, RuntimeError: for what torch refuses, in its words.

    References:
        Hendrycks and Gimpel (2016), Gaussian error linear units (GELUs), arXiv:1606.08415.

    Example:
        >>> import torch, pyinit
        >>> x = torch.tensor([-1.0, 0.0, 1.0])
        >>> pyinit.functional.gelu(x)
        tensor([-0.1587,  0.0000,  0.8413])
        >>> pyinit.functional.gelu(x, approximate="tanh")
        tensor([-0.1588,  0.0000,  0.8412])
    """
    activation = _GELUS.get(approximate) if type(approximate) is str else None
    output = None if activation is None else _activated(input, activation)
    return _torchs_gelu(input, approximate=approximate) if output is None else output


_torchs_gelu: Callable[..., Tensor] = torchs.gelu
_GELUS = {"none": _GELU, "tanh": _GELU_TANH}


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """The sigmoid-weighted linear unit, also called swish: x / (1 + exp(-x)).

    Args:
        input: a tensor of any shape.
        inplace: whether to write the result into ``input``.

    Returns:
        A tensor of the shape and dtype of ``input``; ``input`` itself if ``inplace``.

    Raises:
        TypeError, RuntimeError: for what torch refuses, in its words.

    References:
        Elfwing, Uchibe and Doya (2018), Sigmoid-weighted linear units for neural network function
        approximation in reinforcement learning, arXiv:1702.03118; Ramachandran, Zoph and Le (2017),
        Searching for activation functions, arXiv:1710.05941.

    Example:
        >>> import torch, pyinit
        >>> pyinit.functional.silu(torch.tensor([-1.0, 0.0, 1.0]))
        tensor([-0.2689,  0.0000,  0.7311])
    """
    output = _activated(input, _SILU, 0.0, inplace)
    return torchs.silu(input, inplace) if output is None else output


def sigmoid(input: Tensor) -> Tensor:
    """The logistic function: 1 / (1 + exp(-x)).

    Args:
        input: a tensor of any shape.

    Returns:
        A tensor of the shape and dtype of ``input``.

    Raises:
        TypeError, RuntimeError: for what torch refuses, in its words.

    References:
        Rumelhart, Hinton and Williams (1986), Learning representations by back-propagating errors.

    Example:
        >>> import torch, pyinit
        >>> pyinit.functional.sigmoid(torch.tensor([-1.0, 0.0, 1.0]))
        tensor([0.2689, 0.5000, 0.7311])
    """
    output = _activated(input, _SIGMOID)
    return torchs.sigmoid(input) if output is None else output


def tanh(input: Tensor) -> Tensor:
    """The hyperbolic tangent.

    Args:
        input: a tensor of any shape.

    Returns:
        A tensor of the shape and dtype of ``input``.

    Raises:
        TypeError, RuntimeError: for what torch refuses, in its words.

    References:
        LeCun, Bottou, Orr and Müller (1998), Efficient backprop.

    Example:
        >>> import torch, pyinit
        >>> pyinit.functional.tanh(torch.tensor([-1.0, 0.0, 1.0]))
        tensor([-0.7616,  0.0000,  0.7616])
    """
    output = _activated(input, _TANH)
    return torchs.tanh(input) if output is None else output


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """A smooth rectifier: log(1 + exp(``beta`` x)) / ``beta``.

    pyinit's kernel computes the default ``beta`` and ``threshold``; torch computes all others.

    Args:
        input: a tensor of any shape.
        beta: the inverse width of the bend at 0.
        threshold: where ``beta`` x is above it, the result is x.

    Returns:
        A tensor of the shape and dtype of ``input``.

    Raises:
        TypeError, RuntimeError: for what torch refuses, in its words.

    References:
        Dugas, Bengio, Bélisle, Nadeau and Garcia (2001), Incorporating second-order functional
        knowledge for better option pricing.

    Example:
        >>> import torch, pyinit
        >>> pyinit.functional.softplus(torch.tensor([-1.0, 0.0, 30.0]))
        tensor([ 0.3133,  0.6931, 30.0000])
    """
    output = None
    if (
        isinstance(beta, float | int)
        and isinstance(threshold, float | int)
        and beta == 1
        and threshold == 20
    ):
        output = _activated(input, _SOFTPLUS)
    return torchs.softplus(input, beta, threshold) if output is None else output
