"""Gains: those that torch has by name, and by quadrature those of any other activation."""

import math
from collections.abc import Callable, Hashable
from types import BuiltinFunctionType, FunctionType
from typing import Literal, get_args

import numpy as np
from torch import Tensor, nn

from pyinit._functional import activations
from pyinit._messages import near
from pyinit._scale.pointwise import Pointwise
from pyinit._scale.quadrature import Array, integrate, normal_density, uniform_edges
from pyinit._torch.eager import eager
from pyinit._torch.original import functional as F  # noqa: N812  its usual name
from pyinit._torch.original import operations

_Linear = Literal[
    "linear",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
]
_Activation = Literal[
    "celu",
    "elu",
    "gelu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "logsigmoid",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softplus",
    "softshrink",
    "softsign",
    "tanh",
    "tanhshrink",
]
NonlinearityName = _Linear | _Activation
_Unnamed = float | Callable[[Tensor], Tensor] | nn.Module | type[nn.Module]
Nonlinearity = NonlinearityName | _Unnamed
AnyNonlinearity = str | _Unnamed
"""The same for code that has a name from elsewhere, which may be unknown."""

_LINEAR: tuple[str, ...] = get_args(_Linear)
_ACTIVATIONS: tuple[str, ...] = get_args(_Activation)
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

_FEW = 64


def activation_of(nonlinearity: AnyNonlinearity) -> Callable[[Tensor], Tensor]:
    """The function that a name stands for, or the activation itself, an instance of a given class.

    Raises:
        ValueError: for an unknown name, or what is no activation.
    """
    if isinstance(nonlinearity, str):
        if nonlinearity in _LINEAR:
            return Tensor.clone
        if nonlinearity not in _ACTIVATIONS:
            raise ValueError(
                f"Unsupported nonlinearity {nonlinearity}: {near(nonlinearity, (*_LINEAR, *_ACTIVATIONS))}"
            )
        function: Callable[[Tensor], Tensor] = getattr(F, nonlinearity)
        return function
    if isinstance(nonlinearity, type) and issubclass(nonlinearity, nn.Module):
        return _made(nonlinearity)
    if isinstance(nonlinearity, type) or not callable(nonlinearity):
        raise ValueError(  # noqa: TRY004  as torch
            f"Unsupported nonlinearity {nonlinearity}: it must be a name, a module, its class, or a "
            "function of a tensor"
        )
    return nonlinearity


def _made(kind: type[nn.Module]) -> nn.Module:
    """A module of that class, as it is without arguments."""
    try:
        return kind()
    except TypeError as error:
        raise ValueError(
            f"Unsupported nonlinearity {kind}: it takes arguments, so give a module ({error})"
        ) from error


@eager
def calculate_gain(nonlinearity: Nonlinearity, param: float | None = None) -> float:
    """The gain that keeps the scale of a signal through a nonlinearity.

        ================= ===========================================
        nonlinearity      gain
        ================= ===========================================
        linear, conv      1
        sigmoid           1
        tanh              5/3
        relu              ``sqrt(2)``
        leaky_relu        ``sqrt(2 / (1 + slope**2))``
        selu              3/4
        any other         ``1 / sqrt(E[f(z)**2])``, z standard normal
        ================= ===========================================

    An activation that torch has a name for gets the gain of the name. Every other one gets the
    second-moment gain, with which unit variance in gives unit mean square out. The expectation is
    computed by adaptive Gauss-Legendre quadrature, to a relative error of 1e-10 where the activation
    computes in float64 and is smooth but for a few kinks or jumps; a result with an estimated error
    above 1e-6 is never returned. For torch's own functions and modules it is computed once for each
    set of arguments and parameters.

    Args:
        nonlinearity: a name that torch has a gain for, the name of another activation in
            ``torch.nn.functional``, the gain itself as a number, or an activation: a module, its
            class, or a function of a tensor. It must work element by element, give finite numbers and
            be the same at each call. A module is copied and run in float64 and evaluation mode
        param: the negative slope of ``"leaky_relu"`` or ``F.leaky_relu`` (0.01 if None). A module
            brings its own

    Returns:
        The factor on the standard deviation of the weights before the nonlinearity.

    Raises:
        ValueError: for an unknown name, a slope that is no number, a gain that is not finite, or an
            activation that has no finite second moment above zero, is not element-wise, or is too
            rough to integrate.
        TypeError: if the activation does not return a real tensor.

    References:
        He et al. (2015), `Delving deep into rectifiers`. Poole et al. (2016), `Exponential
        expressivity in deep neural networks through transient chaos`, for the second moment.

    Example:
        >>> import torch, pyinit
        >>> round(pyinit.calculate_gain("relu"), 4), round(pyinit.calculate_gain(torch.nn.GELU()), 4)
        (1.4142, 1.5335)
    """
    return gain_of(nonlinearity, param)


def gain_of(nonlinearity: AnyNonlinearity, a: float | None = 0.0) -> float:
    """The gain of an activation, as ``calculate_gain`` gives it; ``"leaky_relu"`` is ReLU by default.

    Args:
        nonlinearity: what ``calculate_gain`` takes: a name, the gain itself, or an activation
        a: the negative slope of ``"leaky_relu"`` (0.01 if None)

    Returns:
        The gain.

    Raises:
        ValueError: for an unknown name, or an activation that has no gain.

    Example:
        >>> from pyinit.initializers import gain_of
        >>> gain_of("tanh"), gain_of(1.5), round(gain_of("gelu"), 4)
        (1.6666666666666667, 1.5, 1.5335)
    """
    if isinstance(nonlinearity, str):
        gain = _NAMED.get(nonlinearity)
        return _gain_of_name(nonlinearity, a) if gain is None else gain
    numbers = (int, float, np.integer, np.floating)
    if isinstance(nonlinearity, numbers) and not isinstance(nonlinearity, bool):
        return _finite(float(nonlinearity))
    return _gain_of_activation(activation_of(nonlinearity), a)


def _gain_of_name(name: str, param: float | None) -> float:
    """The gain of an activation whose gain depends on a slope, or follows from quadrature."""
    if name == "leaky_relu":
        if param is None:
            param = 0.01
        elif isinstance(param, bool) or not isinstance(param, (int, float)):
            raise ValueError(f"negative_slope {param} not a valid number")
        return math.sqrt(2.0 / (1 + param**2))
    return _gain_of_activation(activation_of(name), param)


def _finite(gain: float) -> float:
    if not math.isfinite(gain):
        raise ValueError(f"nonlinearity must be a finite number where it is the gain, got {gain}")
    return gain


def _gain_of_activation(activation: Callable[[Tensor], Tensor], param: float | None) -> float:
    if type(activation) is nn.LeakyReLU:
        return _gain_of_name("leaky_relu", activation.negative_slope)
    name = None
    if isinstance(activation, nn.Module):
        name = _MODULE_NAMES.get(type(activation))
    elif isinstance(activation, Hashable):
        name = _FUNCTION_NAMES.get(activation)
    if name is not None:
        return gain_of(name, param)
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
    """E[f(z)^2] for standard normal z."""
    function = Pointwise(activation)

    def integrand(z: Array) -> Array:
        values = function.values(z.ravel()).reshape(z.shape)
        return (values**2 * normal_density(z))[None]

    integral = integrate(integrand, uniform_edges())
    if integral.value[0] == 0.0:
        raise ValueError(f"nonlinearity has second moment zero: no gain suits {activation!r}")
    if integral.is_rough:
        raise ValueError(f"nonlinearity is too rough to integrate: {activation!r}")
    return float(integral.value[0])
