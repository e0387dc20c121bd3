"""Which activation a module or a call of a function is."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torch import nn

from pyinit._graph.structure import Activation
from pyinit._scale.gain import calculate_gain
from pyinit._torch.original import functional

# torch's activations: the name of the function or method, its arguments and their defaults.
_FUNCTIONS: dict[str, Mapping[str, float]] = {
    **{
        name: {}
        for name in (
            *("gelu", "glu", "hardsigmoid", "hardswish", "logsigmoid", "mish", "prelu", "relu"),
            *("relu6", "rrelu", "selu", "sigmoid", "silu", "sin", "softsign", "tanh", "tanhshrink"),
        )
    },
    "celu": {"alpha": 1.0},
    "elu": {"alpha": 1.0},
    "hardshrink": {"lambd": 0.5},
    "hardtanh": {"min_val": -1.0, "max_val": 1.0},
    "leaky_relu": {"negative_slope": 0.01},
    "softplus": {"beta": 1.0, "threshold": 20.0},
    "softshrink": {"lambd": 0.5},
    "threshold": {"threshold": 0.0, "value": 0.0},
}

# Functions of torch that call themselves otherwise.
_CALLED = {"log_sigmoid": "logsigmoid", "_threshold": "threshold"}

# And its modules that are one of these.
_MODULES: dict[type[nn.Module], str] = {
    cls: cls.__name__.lower()
    for cls in (
        *(nn.CELU, nn.ELU, nn.GELU, nn.GLU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish),
        *(nn.Hardtanh, nn.LogSigmoid, nn.Mish, nn.PReLU, nn.ReLU, nn.ReLU6, nn.RReLU, nn.SELU),
        *(nn.SiLU, nn.Sigmoid, nn.Softplus, nn.Softshrink, nn.Softsign, nn.Tanh, nn.Tanhshrink),
        nn.Threshold,
    )
} | {nn.LeakyReLU: "leaky_relu"}

# Names of classes of activations that torch does not have.
_LOOKS_LIKE = re.compile(
    r"relu|elu|silu|swish|mish|sigmoid|tanh|softplus|snake|sine|^act|activation", re.IGNORECASE
)

# For halves of the outputs times the sigmoid of the other halves: E[sigmoid(z)^2].
_GLU_SECOND_MOMENT = 0.2933790359


def is_activation(module: nn.Module) -> bool:
    """Whether it is one: of torch's, or by the name of its class and having nothing inside."""
    if type(module) in _MODULES:
        return True
    return (
        not module._modules
        and not module._parameters
        and bool(_LOOKS_LIKE.search(type(module).__name__))
    )


def of_module(module: nn.Module) -> Activation | None:
    """The activation that a module is; None for one whose gain cannot be found."""
    name = _MODULES.get(type(module))
    if name is None:
        return _of_unknown(module)
    if isinstance(module, nn.PReLU):
        return Activation("leaky_relu", float(module.init))
    if isinstance(module, nn.RReLU):
        return Activation("leaky_relu", (module.lower + module.upper) / 2)
    return of_call(name, [getattr(module, argument) for argument in _FUNCTIONS[name]])


def is_activation_function(name: str) -> bool:
    """Whether torch has an activation of that name, as a function or a method."""
    return _CALLED.get(name, name) in _FUNCTIONS


def of_call(
    name: str, arguments: Sequence[Any] = (), named: Mapping[str, Any] = MappingProxyType({})
) -> Activation | None:
    """The activation that a call of torch's function of that name is.

    arguments: those after the first, in order
    """
    name = _CALLED.get(name, name)
    defaults = _FUNCTIONS[name]
    given = {key: value for key, value in named.items() if key in defaults}
    given.update(zip(defaults, arguments, strict=False))
    given = {**defaults, **given}
    if name == "leaky_relu":
        slope = given["negative_slope"]
        return Activation(name, float(slope)) if isinstance(slope, (int, float)) else None
    if name in _SPECIAL:
        return _SPECIAL[name]
    if given == defaults:
        return Activation("relu" if name == "threshold" else name)
    function = getattr(functional, name)
    return _by_quadrature(lambda z: function(z, **given))


# PReLU's slope is a parameter, which starts from 1/4; RReLU's is random, from 1/8 to 1/3.
_SPECIAL = {
    "glu": Activation(1 / math.sqrt(_GLU_SECOND_MOMENT)),
    "prelu": Activation("leaky_relu", 0.25),
    "rrelu": Activation("leaky_relu", (1 / 8 + 1 / 3) / 2),
    "sin": Activation(1 / math.sqrt((1 - math.exp(-2)) / 2)),
}


def of_callable(function: object) -> Activation | None:
    """The activation that a module or function held as an attribute is."""
    if isinstance(function, nn.Module):
        return of_module(function)
    name = getattr(function, "__name__", "").rstrip("_")
    if is_activation_function(name):
        return of_call(name)
    return _by_quadrature(function) if callable(function) else None


def _by_quadrature(activation: Callable[..., Any] | nn.Module) -> Activation | None:
    try:
        return Activation(calculate_gain(activation))
    except Exception:  # noqa: BLE001  a user's code may raise anything
        return None


def _of_unknown(module: nn.Module) -> Activation | None:
    """Of a class that torch does not have. Modules of one class with equal attributes are one."""
    attributes = tuple(item for item in vars(module).items() if item[0][0] != "_")
    if not all(
        value is None or callable(value) or isinstance(value, _PLAIN) for _, value in attributes
    ):
        return _by_quadrature(module)
    key = (type(module), attributes)
    if key not in _found:
        _found[key] = _named(_by_quadrature(module), type(module).__name__.lower())
    return _found[key]


_PLAIN = (bool, int, float, str)
_found: dict[object, Activation | None] = {}


def _named(found: Activation | None, name: str) -> Activation | None:
    """One that is called as torch's and has its gain, but for an approximation, is torch's."""
    if found is not None and isinstance(found.nonlinearity, float):
        for known in ("gelu", "silu", "mish"):
            gain = calculate_gain(getattr(functional, known))
            if known in name and math.isclose(gain, found.nonlinearity, rel_tol=1e-4):
                return Activation(known)
    return found
