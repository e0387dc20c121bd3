"""What is known of a model: which activation and norm each layer has, and the residual branches."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from pyinit._scale.moments import Moments


class ActivationKind(NamedTuple):
    """Which activation a module or a call is; the first two are arguments of ``initializers.gain_of``.

    nonlinearity: the name that torch has for the activation, or else the activation's gain
    a: the slope of a ``"leaky_relu"``
    about_mean: the moments about its mean of an activation that is known by its gain, if it is off centre
    """

    nonlinearity: str | float
    a: float = 0.0
    about_mean: Moments | None = None


class Branch(NamedTuple):
    """A residual branch.

    layers: the paths of its layers, in order
    last_norm: the path of the norm at its end, if there is one
    """

    layers: tuple[str, ...]
    last_norm: str | None = None


@dataclass(frozen=True)
class Graph:
    """What is known of the order in which a model's layers run.

    source: how it was found: ``"torch.fx"``, ``"torch.fx in parts"`` or ``"module order"``
    activation: the activation that follows each layer before the next one, by the layer's path;
        a layer without one is left out
    activation_before: the activation whose output each layer takes, with no norm or sum between
        them, by the layer's path
    norms: the path of the norm that is next to each layer (after it, or before the next layer)
    branches: the residual branches, in order
    heads: the paths of the layers whose output no other layer takes
    attention: the paths of the layers that make queries, keys and values
    depth: how many layers stand in a row with each layer, itself included, without a norm or a
        residual sum between them
    """

    source: str = "module order"
    activation: Mapping[str, ActivationKind] = field(default_factory=dict)
    activation_before: Mapping[str, ActivationKind] = field(default_factory=dict)
    norms: Mapping[str, str] = field(default_factory=dict)
    branches: tuple[Branch, ...] = ()
    heads: frozenset[str] = frozenset()
    attention: frozenset[str] = frozenset()
    depth: Mapping[str, int] = field(default_factory=dict)
