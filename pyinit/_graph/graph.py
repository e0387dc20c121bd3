"""What is known of a model: which activation and norm each layer has, and the residual branches."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
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
    stream: a name that the branches of one residual stream share: those of an encoder, for example.
        It is empty in the first one
    """

    layers: tuple[str, ...]
    last_norm: str | None = None
    stream: str = ""


_EXPERT = re.compile(r"(?<=experts\.)\d+\.")


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
    unscaled: the paths of the layers in ``attention`` whose products are scores that nothing scales
        before the softmax
    head_mixers: the paths of the layers that mix the scores or weights of attention among heads
    routers: the paths of the layers whose softmax multiplies other values, as that of a mixture does
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
    unscaled: frozenset[str] = frozenset()
    head_mixers: frozenset[str] = frozenset()
    routers: frozenset[str] = frozenset()
    depth: Mapping[str, int] = field(default_factory=dict)

    def branches_of_streams(self) -> Mapping[str, int]:
        """The number of branches of each residual stream. The experts of a mixture count as one."""
        return count_by_stream(self.branches)


def count_by_stream(branches: Iterable[Branch]) -> Mapping[str, int]:
    """The number of these branches in each residual stream. The experts of a mixture count as one."""
    ends = [
        (branch.stream, branch.layers[-1], _EXPERT.sub("", branch.layers[-1]))
        for branch in branches
    ]
    experts = {(stream, shared) for stream, end, shared in ends if end != shared}
    others = [stream for stream, end, shared in ends if end == shared]
    return Counter([*others, *(stream for stream, _ in experts)])
