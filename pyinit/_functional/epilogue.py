"""Activations that end a convolution."""

from collections.abc import Callable
from typing import Literal, NamedTuple, SupportsFloat

from torch import Tensor

from pyinit._functional import activations
from pyinit._functional.activations import ACTIVATIONS, Activation

ActivationName = Literal[
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "gelu",
    "gelu_tanh",
    "silu",
    "sigmoid",
    "tanh",
    "softplus",
]

_PARAMETRIZED: dict[str, Callable[[Tensor, float], Tensor]] = {
    "leaky_relu": activations.leaky_relu,
    "elu": activations.elu,
}


class Epilogue(NamedTuple):
    """The activation that a kernel applies to a convolution's sums."""

    name: str
    code: int
    parameter: float
    in_training: bool
    """Whether a kernel can apply it in training, too: if its derivative follows from the output."""

    @property
    def activation(self) -> Activation:
        return ACTIVATIONS[self.name]

    def apply(self, x: Tensor) -> Tensor:
        """The activation on its own."""
        if self.name in _PARAMETRIZED:
            return _PARAMETRIZED[self.name](x, self.parameter)
        if self.name == "gelu_tanh":
            return activations.gelu(x, approximate="tanh")
        function: Callable[[Tensor], Tensor] = getattr(activations, self.name)
        return function(x)


def epilogue_of(name: str | None, parameter: float | None) -> Epilogue | None:
    """The epilogue with that activation and parameter; None for no activation.

    Raises:
        ValueError: if the name is unknown, or a parameter is given for an activation without one.
        TypeError: if the parameter is no number.
    """
    if name is None:
        if parameter is None:
            return None
        raise ValueError(f"activation_parameter: there is no activation, got {parameter!r}")
    known = ACTIVATIONS.get(name) if isinstance(name, str) else None
    if known is None:
        names = ", ".join(map(repr, ACTIVATIONS))
        raise ValueError(f"activation must be one of {names}, got {name!r}")
    if parameter is None:
        return _USUAL[name]
    if name not in _PARAMETRIZED:
        raise ValueError(f"activation_parameter: {name!r} has none, got {parameter!r}")
    if not isinstance(parameter, SupportsFloat):  # which a string is not
        raise TypeError(f"activation_parameter must be a number, got {parameter!r}")
    return _epilogue(name, float(parameter))


def _epilogue(name: str, parameter: float) -> Epilogue:
    known = ACTIVATIONS[name]
    return Epilogue(name, known.code, parameter, known.from_output and parameter >= 0)


_USUAL = {name: _epilogue(name, known.parameter) for name, known in ACTIVATIONS.items()}
