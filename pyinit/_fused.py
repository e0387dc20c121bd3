"""Activations that a convolution can apply to its sums."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as torchs
from torch import Tensor

_aten = torch.ops.aten
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


class Fused(NamedTuple):
    """An activation, its default parameter, and its derivative where that can be told from its output."""

    code: int
    """That of ``csrc/activation/activation.hpp``."""
    parameter: float
    function: Callable[[Tensor, float], Tensor]
    derivative: Callable[[Tensor, Tensor, float], Tensor] | None = None
    """From the gradient by the output, the output, and the parameter. It is differentiable."""

    def fuses(self, parameter: float, is_differentiated: bool) -> bool:
        """Whether a kernel applies it, and nothing but the output is needed for the derivative."""
        if self.code not in _IN_KERNELS:
            return False
        return not is_differentiated or (self.derivative is not None and parameter >= 0)


ACTIVATIONS = {
    "relu": Fused(
        1, 0.0, lambda x, _: torchs.relu(x), lambda g, y, _: _aten.threshold_backward(g, y, 0)
    ),
    "leaky_relu": Fused(
        2, 0.01, torchs.leaky_relu, lambda g, y, slope: _aten.leaky_relu_backward(g, y, slope, True)
    ),
    "elu": Fused(
        3, 1.0, torchs.elu, lambda g, y, alpha: _aten.elu_backward(g, alpha, 1.0, 1.0, True, y)
    ),
    "selu": Fused(
        4,
        0.0,
        lambda x, _: torchs.selu(x),
        lambda g, y, _: _aten.elu_backward(g, _SELU_ALPHA, _SELU_SCALE, 1.0, True, y),
    ),
    "gelu": Fused(5, 0.0, lambda x, _: torchs.gelu(x)),
    "gelu_tanh": Fused(6, 0.0, lambda x, _: torchs.gelu(x, approximate="tanh")),
    "silu": Fused(7, 0.0, lambda x, _: torchs.silu(x)),
    "sigmoid": Fused(
        8, 0.0, lambda x, _: torch.sigmoid(x), lambda g, y, _: _aten.sigmoid_backward(g, y)
    ),
    "tanh": Fused(9, 0.0, lambda x, _: torch.tanh(x), lambda g, y, _: _aten.tanh_backward(g, y)),
    "softplus": Fused(10, 0.0, lambda x, _: torchs.softplus(x)),
}

_IN_KERNELS = {1}


def chosen(name: str | None, parameter: float | None) -> tuple[Fused | None, float]:
    """The activation of a name, and its parameter.

    Raises:
        ValueError: for an unknown name, and for a parameter of what has none.
    """
    if name is None and parameter is None:
        return None, 0.0
    known = ACTIVATIONS.get(name) if isinstance(name, str) else None
    if known is None:
        names = ", ".join(map(repr, ACTIVATIONS))
        raise ValueError(f"activation must be one of {names}, got {name!r}")
    if parameter is None:
        return known, known.parameter
    if name not in ("leaky_relu", "elu"):
        raise ValueError(f"activation_parameter: {name!r} has none, got {parameter!r}")
    return known, float(parameter)
