"""Activation functions, with the signatures and the meaning of ``torch.nn.functional``.

Plain float32 and float64 tensors on the CPU go to the kernels, everything else to torch's own
functions: other dtypes and devices, tensor subclasses, function and dispatch modes, ``torch.func``
transforms, forward-mode differentiation, tracing, ``torch.compile``, arguments that torch would
refuse, and in-place calls that autograd has to record. ``docs/activations.md`` has the errors.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import has_torch_function_unary

from pyinit import _core
from pyinit._torch.original import functional as torchs
from pyinit._torch.original import operations
from pyinit._torch.views import (
    View,
    is_transformed,
    native_view,
    overridden,
    place,
    plain_memory,
)

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "elu",
    "gelu",
    "leaky_relu",
    "log_softmax",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
]

_aten = torch.ops.aten
_FLOATS = (_core.FLOAT32, _core.FLOAT64)
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def _silu_gradient(grad: Tensor, x: Tensor, _: float, __: bool) -> Tensor:
    """``silu_backward`` itself has no derivative."""
    s: Tensor = _aten.sigmoid(x)
    return grad * (s * (1 + x * (1 - s)))


class Activation(NamedTuple):
    """An activation function as kernels know it."""

    code: int
    """That of ``csrc/activation/activation.hpp``."""
    parameter: float
    """Its default: the slope of leaky_relu, alpha of elu, and nothing to others."""
    from_output: bool
    """Whether the derivative follows from the output (with a parameter that is not negative)."""
    saves_output: bool
    """Whether torch's own function, and so the one here, saves its output for it."""
    gradient: Callable[[Tensor, Tensor, float, bool], Tensor]
    """torch's, which is differentiable: of the gradient by the output, what is saved, the parameter,
    and whether what is saved is the output."""


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
"""By name. The names are those that a convolution takes for its ``activation``."""

_RELU, _LEAKY_RELU, _ELU, _SELU, _GELU, _GELU_TANH, _SILU, _SIGMOID, _TANH, _SOFTPLUS = (
    ACTIVATIONS.values()
)


_is_compiling = torch.compiler.is_compiling
_grad_enabled = torch.is_grad_enabled
_threads = torch.get_num_threads
_increment_version = torch._C._increment_version


def _readable(tensor: Tensor) -> View | None:
    """Where a plain tensor of float32 or float64 lies; None where torch has to take the call."""
    if overridden(tensor) or is_transformed() or forward_ad._current_level >= 0:
        return None
    view = plain_memory(tensor)
    return view if view is not None and view[1] in _FLOATS else None


def _computed(view: View, input: Tensor, activation: Activation, parameter: float) -> Tensor:
    output = torch.empty_like(input)
    _core.activate(view, place(output), activation.code, parameter, _threads())
    return output


def _overwritten(input: Tensor, activation: Activation, parameter: float) -> Tensor | None:
    view = native_view(input)
    if view is None:
        return None
    _core.activate(view, view, activation.code, parameter, _threads())
    _increment_version((input,))
    return input


def gradient_of(
    activation: Activation, parameter: float, grad: Tensor, saved: Tensor, is_output: bool
) -> Tensor:
    """The gradient by the input, from that by the output, and from the output or the input."""
    grad_view, saved_view = _readable(grad), _readable(saved)
    # What is differentiated once more, or is not plain, is made of torch's own operations.
    if _grad_enabled() or grad_view is None or saved_view is None:
        return activation.gradient(grad, saved, parameter, is_output)
    result = torch.empty_like(saved)
    made = place(result)
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
    """The result; None where torch has to take the call."""
    view = None if _is_compiling() else _readable(input)
    if view is None:
        return None
    recorded = input.requires_grad and _grad_enabled()
    if inplace:
        return None if recorded else _overwritten(input, activation, parameter)
    if recorded:
        return _recorded(input, view, activation, parameter)
    return _computed(view, input, activation, parameter)


def _by_torch(name: str, input: Tensor, inplace: object) -> Tensor:
    """torch's own relu or selu, which calls a function of ``torch`` by a name that may be replaced, too."""
    out: Tensor
    if has_torch_function_unary(input):
        out = getattr(torchs, name)(input, inplace)
    else:
        out = getattr(operations, name + "_" if inplace else name)(input)
    return out


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(0, x), of any shape; see :func:`torch.nn.functional.relu`."""
    output = _activated(input, _RELU, 0.0, inplace)
    return _by_torch("relu", input, inplace) if output is None else output


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where it is positive, ``negative_slope`` x elsewhere.

    See :func:`torch.nn.functional.leaky_relu`.
    """
    output = None
    if isinstance(negative_slope, float | int):
        output = _activated(input, _LEAKY_RELU, negative_slope, inplace)
    return torchs.leaky_relu(input, negative_slope, inplace) if output is None else output


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where it is positive, ``alpha`` (exp(x) - 1) elsewhere; see :func:`torch.nn.functional.elu`."""
    output = None
    if isinstance(alpha, float | int):
        output = _activated(input, _ELU, alpha, inplace)
    return torchs.elu(input, alpha, inplace) if output is None else output


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """elu with alpha 1.6733, times 1.0507; see :func:`torch.nn.functional.selu`."""
    output = _activated(input, _SELU, 0.0, inplace)
    return _by_torch("selu", input, inplace) if output is None else output


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x times the normal distribution function, or its ``"tanh"`` approximation.

    See :func:`torch.nn.functional.gelu`.
    """
    activation = _GELUS.get(approximate) if type(approximate) is str else None
    output = None if activation is None else _activated(input, activation)
    return torchs.gelu(input, approximate=approximate) if output is None else output


_GELUS = {"none": _GELU, "tanh": _GELU_TANH}


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x / (1 + exp(-x)), which is swish, too; see :func:`torch.nn.functional.silu`."""
    output = _activated(input, _SILU, 0.0, inplace)
    return torchs.silu(input, inplace) if output is None else output


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-x)); see :func:`torch.nn.functional.sigmoid`."""
    output = _activated(input, _SIGMOID)
    return torchs.sigmoid(input) if output is None else output


def tanh(input: Tensor) -> Tensor:
    """The hyperbolic tangent; see :func:`torch.nn.functional.tanh`."""
    output = _activated(input, _TANH)
    return torchs.tanh(input) if output is None else output


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta x)) / beta, and x where beta x is above ``threshold``.

    See :func:`torch.nn.functional.softplus`. Other than default numbers are torch's to take.
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


# ---- Softmax -------------------------------------------------------------------------------------


def _softmax_of(input: Tensor, dim: int, is_log: bool) -> Tensor:
    input = input.contiguous()
    output = torch.empty_like(input)
    _core.softmax(place(input), place(output), dim, is_log, _threads())
    return output


class _RecordedSoftmax(torch.autograd.Function):
    """Softmax, or its logarithm, that autograd records."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, dim: int, is_log: bool) -> Tensor:
        output = _softmax_of(input, dim, is_log)
        ctx.save_for_backward(output)
        ctx.call = dim, is_log
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (output,) = ctx.saved_tensors
        dim, is_log = ctx.call
        if _grad_enabled() or _readable(grad) is None or _readable(output) is None:
            gradient = _aten._log_softmax_backward_data if is_log else _aten._softmax_backward_data
            result = gradient(grad, output, dim, output.dtype)
        else:
            grad, result = grad.contiguous(), torch.empty_like(output)
            places = place(grad), place(output), place(result)
            _core.softmax_backward(*places, dim, is_log, _threads())
        return result, None, None


_recorded_softmax: Callable[[Tensor, int, bool], Tensor] = _RecordedSoftmax.apply


def _softmaxed(
    input: Tensor, dim: int | None, dtype: torch.dtype | None, is_log: bool
) -> Tensor | None:
    """The result; None where torch has to take the call."""
    if _is_compiling() or type(dim) is not int or (dtype is not None and dtype != input.dtype):
        return None
    view = _readable(input)
    if view is None:
        return None
    dims = len(view[2])
    if not -dims <= dim < dims:
        return None
    if dim < 0:
        dim += dims
    if _grad_enabled() and input.requires_grad:
        return _recorded_softmax(input, dim, is_log)
    return _softmax_of(input, dim, is_log)


def softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None
) -> Tensor:
    """exp(x) over its sum along ``dim``; see :func:`torch.nn.functional.softmax`."""
    output = _softmaxed(input, dim, dtype, False)
    return torchs.softmax(input, dim, _stacklevel + 1, dtype) if output is None else output


def log_softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None
) -> Tensor:
    """The logarithm of softmax; see :func:`torch.nn.functional.log_softmax`."""
    output = _softmaxed(input, dim, dtype, True)
    return torchs.log_softmax(input, dim, _stacklevel + 1, dtype) if output is None else output
