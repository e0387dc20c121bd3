"""Which activation a module or a call of a function is."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from torch import nn

from pyinit._graph.graph import ActivationKind
from pyinit._scale.gain import calculate_gain
from pyinit._scale.moments import moments_if_off_centre
from pyinit._scale.pointwise import Pointwise
from pyinit._torch.original import functional

# torch's activations by the name of the function or method, with its arguments and their defaults.
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

# Functions whose ``__name__`` differs from the name that torch has them under.
_KNOWN_AS = {"gelu_tanh": "gelu", "log_sigmoid": "logsigmoid", "_threshold": "threshold"}

# torch's modules that are activations, with the functions' names.
_MODULES: dict[type[nn.Module], str] = {
    cls: cls.__name__.lower()
    for cls in (
        *(nn.CELU, nn.ELU, nn.GELU, nn.GLU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish),
        *(nn.Hardtanh, nn.LogSigmoid, nn.Mish, nn.PReLU, nn.ReLU, nn.ReLU6, nn.RReLU, nn.SELU),
        *(nn.SiLU, nn.Sigmoid, nn.Softplus, nn.Softshrink, nn.Softsign, nn.Tanh, nn.Tanhshrink),
        nn.Threshold,
    )
} | {nn.LeakyReLU: "leaky_relu"}

# How classes of activations are named that torch does not have.
_LOOKS_LIKE = re.compile(
    r"relu|elu|silu|swish|mish|sigmoid|tanh|softplus|snake|sine|^act|activation", re.IGNORECASE
)

# The attributes under which modules hold an activation.
_HOLDS_ACTIVATION = re.compile(r"^(\w+_)?(act|act_fn|activation|activation_fn|nonlinearity)$")

# E[sigmoid(z)^2]: GLU multiplies half of its inputs by the sigmoid of the others.
_GLU_SECOND_MOMENT = 0.2933790359


def is_activation(module: nn.Module) -> bool:
    """Whether a module is one of torch's activations, or is named like one and holds nothing."""
    if type(module) in _MODULES:
        return True
    return (
        not module._modules
        and not module._parameters
        and bool(_LOOKS_LIKE.search(type(module).__name__))
    )


def of_module(module: nn.Module) -> ActivationKind | None:
    """Which activation a module is; None if its gain cannot be found."""
    name = _MODULES.get(type(module))
    if name is None:
        return _of_unknown(module)
    if isinstance(module, nn.PReLU):
        return ActivationKind("leaky_relu", float(module.init))
    if isinstance(module, nn.RReLU):
        return ActivationKind("leaky_relu", (module.lower + module.upper) / 2)
    return of_call(name, [getattr(module, argument) for argument in _FUNCTIONS[name]])


def is_activation_function(name: str) -> bool:
    """Whether torch has an activation of that name, as a function or a method."""
    return _KNOWN_AS.get(name, name) in _FUNCTIONS


def of_call(
    name: str, arguments: Sequence[Any] = (), named: Mapping[str, Any] = MappingProxyType({})
) -> ActivationKind | None:
    """Which activation a call of torch's function of that name is.

    arguments: the arguments after the first, in order
    named: the arguments that were given by name
    """
    name = _KNOWN_AS.get(name, name)
    defaults = _FUNCTIONS[name]
    given = {key: value for key, value in named.items() if key in defaults}
    given.update(zip(defaults, arguments, strict=False))
    given = {**defaults, **given}
    if name == "leaky_relu":
        slope = given["negative_slope"]
        return ActivationKind(name, float(slope)) if isinstance(slope, (int, float)) else None
    if name in _SPECIAL:
        return _SPECIAL[name]
    if given == defaults:
        return ActivationKind("relu" if name == "threshold" else name)
    function = getattr(functional, name)
    return _by_quadrature(lambda z: function(z, **given))


# PReLU's slope is a parameter that starts at 1/4; RReLU draws its slope from [1/8, 1/3].
_SPECIAL = {
    "glu": ActivationKind(1 / math.sqrt(_GLU_SECOND_MOMENT)),
    "prelu": ActivationKind("leaky_relu", 0.25),
    "rrelu": ActivationKind("leaky_relu", (1 / 8 + 1 / 3) / 2),
    "sin": ActivationKind(1 / math.sqrt((1 - math.exp(-2)) / 2)),
}


def held_by(module: nn.Module) -> list[ActivationKind | None]:
    """The activations that a module holds: as modules or functions, or else by their names."""
    held = [child for child in module.children() if is_activation(child)] if module._modules else []
    attributes = vars(module)
    own = attributes.keys() - _OF_ALL_MODULES
    named = {
        key: value
        for key, value in (attributes.items() if any(map(_HOLDS_ACTIVATION.search, own)) else ())
        if _HOLDS_ACTIVATION.search(key)
    }
    held += [value for value in named.values() if callable(value)]
    return [of_callable(one) for one in held] or [
        of_call(value, _parameter(module, key))
        for key, value in named.items()
        if isinstance(value, str) and is_activation_function(value)
    ]


_OF_ALL_MODULES = frozenset(vars(nn.Module()))


def _parameter(module: nn.Module, key: str) -> tuple[Any, ...]:
    """The parameter of an activation that is given by name, as in ``pyinit.nn``."""
    value = getattr(module, key + "_parameter", None)
    return () if value is None else (value,)


def of_callable(function: object) -> ActivationKind | None:
    """Which activation a module or function is that another module holds as an attribute."""
    if isinstance(function, nn.Module):
        return of_module(function)
    name = getattr(function, "__name__", "").rstrip("_")
    if is_activation_function(name):
        return of_call(name)
    return _by_quadrature(function) if callable(function) else None


@lru_cache(maxsize=64)
def scaled_silu(scale: float) -> ActivationKind | None:
    """The activation ``x * sigmoid(scale * x)``: SiLU for 1, QuickGELU for 1.702."""
    if scale == 1:
        return ActivationKind("silu")
    return _by_quadrature(lambda z: z * (scale * z).sigmoid())


@lru_cache(maxsize=64)
def squared(kind: ActivationKind) -> ActivationKind | None:
    """The activation whose values are the squares of those of one of torch's, as in Primer."""
    name, slope = kind.nonlinearity, kind.a
    if isinstance(name, float):
        return None
    if name == "leaky_relu":
        return _by_quadrature(lambda z: functional.leaky_relu(z, slope).square())
    function = getattr(functional, name)
    return _by_quadrature(lambda z: function(z).square())


def _by_quadrature(activation: Callable[..., Any] | nn.Module) -> ActivationKind | None:
    try:
        gain = calculate_gain(activation)
        return ActivationKind(gain, about_mean=moments_if_off_centre(Pointwise(activation).values))
    except Exception:  # noqa: BLE001  a user's code may raise anything
        return None


def _of_unknown(module: nn.Module) -> ActivationKind | None:
    """The activation of a class that torch does not have, by its gain.

    A gain is computed once for all modules of a class that have equal attributes.
    """
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
_found: dict[object, ActivationKind | None] = {}


def _named(found: ActivationKind | None, name: str) -> ActivationKind | None:
    """torch's activation of a name like this, if its gain is the one that was found.

    The gain of an approximation, such as GELU's by tanh, may differ a little.
    """
    if found is not None and isinstance(found.nonlinearity, float):
        for known in ("gelu", "silu", "mish"):
            gain = calculate_gain(getattr(functional, known))
            if known in name and math.isclose(gain, found.nonlinearity, rel_tol=1e-4):
                return ActivationKind(known)
    return found
