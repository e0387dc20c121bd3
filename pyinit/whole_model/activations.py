"""Which activation a module or a call of a function is."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from pyinit._gain import calculate_gain
from pyinit.whole_model.structure import Activation

# Functions of torch, and methods of tensors, with one meaning under one name.
_FUNCTIONS = frozenset(
    (
        *(
            "celu",
            "elu",
            "gelu",
            "hardshrink",
            "hardsigmoid",
            "hardswish",
            "hardtanh",
            "logsigmoid",
        ),
        *("mish", "relu", "relu6", "selu", "sigmoid", "sin", "silu", "softplus", "softshrink"),
        *("softsign", "tanh", "tanhshrink"),
    )
)
_IRRELEVANT = frozenset(("inplace", "approximate"))

# Modules, and the arguments with which they are the function of their name.
_MODULES: dict[type[nn.Module], tuple[str, Mapping[str, float]]] = {
    nn.CELU: ("celu", {"alpha": 1.0}),
    nn.ELU: ("elu", {"alpha": 1.0}),
    nn.GELU: ("gelu", {}),
    nn.Hardshrink: ("hardshrink", {"lambd": 0.5}),
    nn.Hardsigmoid: ("hardsigmoid", {}),
    nn.Hardswish: ("hardswish", {}),
    nn.Hardtanh: ("hardtanh", {"min_val": -1.0, "max_val": 1.0}),
    nn.LogSigmoid: ("logsigmoid", {}),
    nn.Mish: ("mish", {}),
    nn.ReLU: ("relu", {}),
    nn.ReLU6: ("relu6", {}),
    nn.SELU: ("selu", {}),
    nn.SiLU: ("silu", {}),
    nn.Sigmoid: ("sigmoid", {}),
    nn.Softplus: ("softplus", {"beta": 1.0, "threshold": 20.0}),
    nn.Softshrink: ("softshrink", {"lambd": 0.5}),
    nn.Softsign: ("softsign", {}),
    nn.Tanh: ("tanh", {}),
    nn.Tanhshrink: ("tanhshrink", {}),
}

# Names of classes of activations that torch does not have.
_LOOKS_LIKE = re.compile(
    r"relu|elu|silu|swish|mish|sigmoid|tanh|softplus|snake|sine|^act|activation", re.IGNORECASE
)

# Half of the outputs times the sigmoid of the other half.
_GLU_SIGMOID_SECOND_MOMENT = 0.2933790359


def of_module(module: nn.Module) -> Activation | None:
    """The activation that a module is; None for one whose gain cannot be found."""
    if isinstance(module, nn.LeakyReLU):
        return Activation("leaky_relu", float(module.negative_slope))
    if isinstance(module, nn.PReLU):
        return Activation("leaky_relu", float(module.init))
    if isinstance(module, nn.RReLU):
        return Activation("leaky_relu", (module.lower + module.upper) / 2)
    if isinstance(module, nn.GLU):
        return _glu()
    name, arguments = _MODULES.get(type(module), ("", {}))
    if name and all(getattr(module, key) == value for key, value in arguments.items()):
        return Activation(name)
    return _unknown(module)


def is_activation(module: nn.Module) -> bool:
    """Whether it is one: of torch's, or by the name of its class and having nothing inside."""
    if isinstance(module, (nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.GLU)) or type(module) in _MODULES:
        return True
    return (
        not module._modules
        and not module._parameters
        and bool(_LOOKS_LIKE.search(type(module).__name__))
    )


def is_activation_function(name: str) -> bool:
    return name in _FUNCTIONS or name in ("leaky_relu", "rrelu", "prelu", "glu")


def of_call(
    name: str, rest: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
) -> Activation | None:
    """The activation that a call of torch's function of that name is.

    rest: the arguments after the first
    """
    kwargs = {key: value for key, value in (kwargs or {}).items() if key not in _IRRELEVANT}
    if name == "leaky_relu":
        slope = rest[0] if rest else kwargs.get("negative_slope", 0.01)
        return Activation(name, float(slope)) if isinstance(slope, (int, float)) else None
    if name == "prelu":  # the slope is a parameter; this is where it starts
        return Activation("leaky_relu", 0.25)
    if name == "rrelu":
        return Activation("leaky_relu", (1 / 8 + 1 / 3) / 2)
    if name == "glu":
        return _glu()
    rest = tuple(value for value in rest if not isinstance(value, (bool, str)))
    function = getattr(functional, name, None)
    if function is not None and not rest and not kwargs:
        return Activation(name)
    function = function or getattr(torch, name)
    return _by_quadrature(lambda z: function(z, *rest, **kwargs))


def of_callable(function: object) -> Activation | None:
    """The activation that a module or function held as an attribute is."""
    if isinstance(function, nn.Module):
        return of_module(function)
    name = getattr(function, "__name__", "").rstrip("_")
    if is_activation_function(name):
        return of_call(name)
    return _by_quadrature(function) if callable(function) else None


def _glu() -> Activation:
    return Activation(1 / math.sqrt(_GLU_SIGMOID_SECOND_MOMENT))


def _by_quadrature(activation: Callable[..., Any] | nn.Module) -> Activation | None:
    try:
        return Activation(calculate_gain(activation))
    except Exception:  # noqa: BLE001  a user's code may raise anything
        return None


def _unknown(module: nn.Module) -> Activation | None:
    """Of a class that torch does not have. Modules of one class with equal attributes are one."""
    attributes = tuple(item for item in vars(module).items() if item[0][0] != "_")
    key = (type(module), attributes)
    try:
        if key not in _found:
            _found[key] = _named(_by_quadrature(module), type(module).__name__.lower())
        return _found[key]
    except TypeError:  # an attribute without a hash
        return _by_quadrature(module)


_found: dict[object, Activation | None] = {}


def _named(found: Activation | None, name: str) -> Activation | None:
    """One that is called as torch's and has its gain, but for an approximation, is torch's."""
    if found is not None and isinstance(found.nonlinearity, float):
        for known in ("gelu", "silu", "mish"):
            gain = calculate_gain(getattr(functional, known))
            if known in name and math.isclose(gain, found.nonlinearity, rel_tol=1e-4):
                return Activation(known)
    return found
