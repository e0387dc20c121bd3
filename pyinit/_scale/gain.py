"""Gains: those that torch has by name, and by quadrature those of any other activation."""

import copy
import math
from collections.abc import Callable, Hashable
from types import BuiltinFunctionType, FunctionType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pyinit._functional import activations
from pyinit._torch.eager import eager
from pyinit._torch.original import functional as F  # noqa: N812  its usual name
from pyinit._torch.original import operations

Nonlinearity = str | Callable[[Tensor], Tensor] | nn.Module | type[nn.Module]

_Array = NDArray[np.float64]
_Values = Callable[[_Array], _Array]

_LINEAR = (
    "linear",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
)
_NAMED: dict[str, float] = {
    **dict.fromkeys(_LINEAR, 1),
    "sigmoid": 1,
    "tanh": 5.0 / 3,
    "relu": math.sqrt(2.0),
    "selu": 3.0 / 4,
}
_MODULE_NAMES: dict[type[nn.Module], str] = {
    nn.Identity: "linear",
    nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh",
    nn.ReLU: "relu",
    nn.SELU: "selu",
}
_FUNCTION_NAMES: dict[Hashable, str] = {
    **{getattr(F, name): name for name in _LINEAR},
    **{getattr(F, name): name for name in ("sigmoid", "tanh", "relu", "selu")},
    **{getattr(operations, name): name for name in ("sigmoid", "tanh", "relu", "selu")},
    **{getattr(operations, name + "_"): name for name in ("sigmoid", "tanh", "relu", "selu")},
    **{getattr(Tensor, name): name for name in ("sigmoid", "tanh", "relu")},
    F.relu_: "relu",
    F.selu_: "selu",
    F.leaky_relu: "leaky_relu",
    F.leaky_relu_: "leaky_relu",
    # pyinit's own functions, which may stand in the places of torch's.
    **{
        getattr(activations, name): name
        for name in ("sigmoid", "tanh", "relu", "selu", "leaky_relu")
    },
}

_REACH = 16.0
"""Standard deviations to integrate over. Further out the normal density is below 1e-55."""

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)
_PANEL_TOLERANCE = 1e-13  # as a part of the whole integral
_WORST = 1e-6
_ROUNDS = 64
_MOST_PANELS = 1 << 14
_FEW = 64


@eager
def calculate_gain(nonlinearity: Nonlinearity, param: float | None = None) -> float:
    r"""The gain that keeps the scale of a signal through a nonlinearity.

    ================= ===========================================
    nonlinearity      gain
    ================= ===========================================
    linear, conv      1
    sigmoid           1
    tanh              5/3
    relu              :math:`\sqrt{2}`
    leaky_relu        :math:`\sqrt{2 / (1 + \text{slope}^2)}`
    selu              3/4
    any other         :math:`1 / \sqrt{E[f(z)^2]}`, z standard normal
    ================= ===========================================

    An activation that torch has a name for gets the gain of the name. Every other one gets the
    second-moment gain, with which unit variance in gives unit mean square out. The expectation is
    computed by adaptive Gauss-Legendre quadrature, to a relative error of 1e-10 where the activation
    computes in float64 and is smooth but for a few kinks or jumps; a result with an estimated error
    above 1e-6 is never returned. For torch's own functions and modules it is computed once for each
    set of arguments and parameters.

    Args:
        nonlinearity: one of torch's names, or an activation: a module, its class, or a function of a
            tensor. It must work element by element, give finite numbers and be the same at each
            call. A module is copied and run in float64 and evaluation mode
        param: the negative slope of ``"leaky_relu"`` or ``F.leaky_relu`` (0.01 if None). A module
            brings its own

    Returns:
        The factor on the standard deviation of the weights before the nonlinearity.

    Raises:
        ValueError: for an unknown name, a slope that is no number, or an activation that has no
            finite second moment above zero, is not element-wise, or is too rough to integrate.
        TypeError: if the activation does not return a real tensor.

    References:
        He et al. (2015), `Delving deep into rectifiers`. Poole et al. (2016), `Exponential
        expressivity in deep neural networks through transient chaos`, for the second moment.

    Example:
        >>> import torch, pyinit
        >>> round(pyinit.calculate_gain("relu"), 4), round(pyinit.calculate_gain(torch.nn.GELU()), 4)
        (1.4142, 1.5335)
    """
    if not isinstance(nonlinearity, str):
        return _gain_of(nonlinearity, param)
    if nonlinearity == "leaky_relu":
        if param is None:
            param = 0.01
        elif isinstance(param, bool) or not isinstance(param, (int, float)):
            raise ValueError(f"negative_slope {param} not a valid number")
        return math.sqrt(2.0 / (1 + param**2))
    gain = _NAMED.get(nonlinearity)
    if gain is None:
        raise ValueError(f"Unsupported nonlinearity {nonlinearity}")
    return gain


def _gain_of(activation: object, param: float | None) -> float:
    if isinstance(activation, type) and issubclass(activation, nn.Module):
        activation = activation()
    if type(activation) is nn.LeakyReLU:
        return calculate_gain("leaky_relu", activation.negative_slope)
    name = None
    if isinstance(activation, nn.Module):
        name = _MODULE_NAMES.get(type(activation))
    elif isinstance(activation, Hashable):
        name = _FUNCTION_NAMES.get(activation)
    if name is not None:
        return calculate_gain(name, param)
    if not callable(activation):
        raise ValueError(f"Unsupported nonlinearity {activation}")  # noqa: TRY004  as torch
    key = _fixed(activation)
    if key is None:
        return 1.0 / math.sqrt(_second_moment(activation))
    if key not in _known_gains:
        _known_gains[key] = 1.0 / math.sqrt(_second_moment(activation))
    return _known_gains[key]


_known_gains: dict[Hashable, float] = {}


def _fixed(activation: Callable[[Tensor], Tensor]) -> Hashable | None:
    """All that one of torch's activations depends on; None for others, which may depend on anything."""
    if isinstance(activation, nn.Module):
        return _fixed_module(activation)
    is_function = isinstance(activation, (FunctionType, BuiltinFunctionType))
    is_torchs = str(getattr(activation, "__module__", "")).startswith("torch.")
    return activation if is_function and is_torchs else None


def _fixed_module(module: nn.Module) -> Hashable | None:
    """Class, arguments and parameters of one of torch's modules; None if it has hooks or many parameters."""
    attributes = vars(module)
    extras = ("forward", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks")
    if not type(module).__module__.startswith("torch.nn.modules.") or any(
        attributes.get(name) for name in extras
    ):
        return None
    if any(p.is_meta or p.numel() > _FEW for p in module.parameters()):
        return None
    values = tuple(tuple(p.detach().flatten().tolist()) for p in module.parameters())
    arguments = tuple(item for item in attributes.items() if item[0][0] != "_")
    key = (type(module), arguments, values)
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _second_moment(activation: Callable[[Tensor], Tensor]) -> float:
    """E[f(z)^2] for standard normal z.

    A panel whose two estimates (whole, and by halves) differ too much is halved, again and again,
    so a kink or a jump costs a few small panels wherever it is.
    """
    values = _evaluator(activation)
    edges = np.arange(-_REACH, _REACH + 0.25, 0.5)
    left, right = edges[:-1], edges[1:]
    whole = _integrals(values, left, right)
    _check_tails(whole)
    settled = doubt = 0.0
    for _ in range(_ROUNDS):
        middle = (left + right) / 2
        halves = _integrals(values, np.stack([left, middle]), np.stack([middle, right]))
        finer = halves.sum(0)
        error = np.abs(finer - whole)
        rough = error > _PANEL_TOLERANCE * (settled + finer.sum())
        settled += float(finer[~rough].sum())
        doubt += float(error[~rough].sum())
        if not rough.any():
            break
        if 2 * rough.sum() > _MOST_PANELS:
            settled += float(finer[rough].sum())
            doubt += float(error[rough].sum())
            break
        left, right = (
            np.append(left[rough], middle[rough]),
            np.append(middle[rough], right[rough]),
        )
        whole = halves[:, rough].ravel()
    else:
        settled += float(whole.sum())
        doubt += float(whole.sum())
    if settled == 0.0:
        raise ValueError(f"nonlinearity has second moment zero: no gain suits {activation!r}")
    if doubt > _WORST * settled:
        raise ValueError(f"nonlinearity is too rough to integrate: {activation!r}")
    return settled


def _integrals(values: _Values, left: _Array, right: _Array) -> _Array:
    """Integral of f(z)^2 times the normal density over each panel."""
    half_width = (right - left)[..., None] / 2
    z = (left + right)[..., None] / 2 + half_width * _NODES
    with np.errstate(over="ignore", under="ignore"):
        density = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
        integrand = values(z.ravel()).reshape(z.shape) ** 2 * density
    if not np.isfinite(integrand).all():
        raise ValueError("nonlinearity has no finite second moment")
    result: _Array = (integrand * _WEIGHTS * half_width).sum(-1)
    return result


def _check_tails(panels: _Array) -> None:
    if max(panels[0], panels[-1]) > _PANEL_TOLERANCE * panels.sum():
        raise ValueError("nonlinearity has no finite second moment: it grows too fast")


def _evaluator(activation: Callable[[Tensor], Tensor]) -> _Values:
    """The activation as a function of float64 arrays, leaving the given object as it is."""
    if isinstance(activation, nn.Module):
        activation = copy.deepcopy(activation).to("cpu", torch.float64).eval()

    def values(z: _Array) -> _Array:
        with torch.no_grad():
            out = activation(torch.from_numpy(z.copy()))
        if not isinstance(out, Tensor) or out.is_complex():
            raise TypeError(f"nonlinearity must return a real tensor, got {type(out).__name__}")
        if out.shape != z.shape:
            raise ValueError(
                f"nonlinearity must keep the shape: {z.shape} became {tuple(out.shape)}"
            )
        array = out.detach().to("cpu", torch.float64).numpy()
        if not np.isfinite(array).all():
            worst = z[~np.isfinite(array)][0]
            raise ValueError(f"nonlinearity must be finite, got {activation!r} at {worst:.4g}")
        return array

    _check_elementwise(values)
    return values


def _check_elementwise(values: _Values) -> None:
    z = np.linspace(-4.0, 4.0, 33)
    if not np.allclose(values(z)[:20], values(z[:20]), rtol=1e-5, atol=1e-12):
        raise ValueError("nonlinearity must act on each element alone, the same at each call")
