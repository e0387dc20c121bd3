"""What a graph says of a model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Activation(NamedTuple):
    """An activation as ``initializers.gain_of`` takes it: a name or the gain itself; the slope of
    ``"leaky_relu"``."""

    nonlinearity: str | float
    a: float = 0.0


class Branch(NamedTuple):
    """A residual branch: the paths of its layers in order, and of the norm at its end, if any."""

    layers: tuple[str, ...]
    last_norm: str | None = None


@dataclass(frozen=True)
class Graph:
    """What is known of the order in which a model's layers run.

    source: how it was found: ``"torch.fx"``, ``"torch.fx in parts"`` or ``"module order"``
    activation: the path of a layer (a module with a weight that multiplies: linear, convolution)
        to the activation that follows it before the next layer; a layer that none follows is not in it
    before: the path of a layer to the activation whose output it takes, with no norm or sum between
    norms: the path of a layer to that of the norm next to it (after it, or before the next layer)
    branches: the residual branches, in order
    heads: the paths of the layers whose output no other layer takes
    attention: the paths of the layers that make queries, keys and values
    depth: the path of a layer to the number of layers in a row without norm or residual sum that it
        is one of
    """

    source: str = "module order"
    activation: Mapping[str, Activation] = field(default_factory=dict)
    before: Mapping[str, Activation] = field(default_factory=dict)
    norms: Mapping[str, str] = field(default_factory=dict)
    branches: tuple[Branch, ...] = ()
    heads: frozenset[str] = frozenset()
    attention: frozenset[str] = frozenset()
    depth: Mapping[str, int] = field(default_factory=dict)
