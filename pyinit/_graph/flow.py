"""The flow of values through a model: steps, each of which takes the results of steps before it."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pyinit._graph.graph import ActivationKind
from pyinit._torch.once import once

# Kinds of steps.
LAYER = "layer"  # multiplies by a weight
RECURRENT = "recurrent"  # layers with a recurrence of their own
ACTIVATION = "activation"
NORM = "norm"
SUM = "sum"
PRODUCT = "product"  # of two values
MIX = "mix"  # products of matrices that are no weights, as in attention
SOFTMAX = "softmax"
PASS = "pass"  # leaves values nearly as they are: reshapes, pools, dropout, scales
SOURCE = "source"  # inputs, parameters, embeddings, shapes

LAYERS = frozenset((LAYER, RECURRENT))


class Step(NamedTuple):
    """A value, and where it comes from.

    kind: one of the kinds above
    inputs: the numbers of the steps whose values it takes
    path: the path of the module that made it, if a module did
    activation: which activation a step of that kind is; None if its gain is not known
    scale: the number by which a step of kind ``PASS`` multiplies its input; NaN if it is not known
    """

    kind: str
    inputs: tuple[int, ...] = ()
    path: str = ""
    activation: ActivationKind | None = None
    scale: float = 1.0


class Flow:
    """The steps of a model, each after its inputs."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._of_kinds: dict[tuple[str, ...], int] = {}

    def add(
        self,
        kind: str,
        inputs: Iterable[int] = (),
        path: str = "",
        activation: ActivationKind | None = None,
        scale: float = 1.0,
    ) -> int:
        """Append a step, and return its number."""
        self.steps.append(Step(kind, tuple(inputs), path, activation, scale))
        return len(self.steps) - 1

    @property
    def layers(self) -> Iterator[tuple[int, str]]:
        """The numbers and paths of the layers, in order."""
        return ((i, step.path) for i, step in enumerate(self.steps) if step.kind in LAYERS)

    @once
    def users(self) -> list[list[int]]:
        """For each step, the steps that take its value."""
        found: list[list[int]] = [[] for _ in self.steps]
        for i, step in enumerate(self.steps):
            for source in step.inputs:
                found[source].append(i)
        return found

    @once
    def ancestors(self) -> list[int]:
        """For each step, itself and all steps that it comes from, as a set of bits."""
        found: list[int] = []
        for i, step in enumerate(self.steps):
            bits = 1 << i
            for source in step.inputs:
                bits |= found[source]
            found.append(bits)
        return found

    def all_of(self, *kinds: str) -> int:
        """The steps of these kinds, as a set of bits."""
        if kinds not in self._of_kinds:
            bits = (1 << i for i, step in enumerate(self.steps) if step.kind in kinds)
            self._of_kinds[kinds] = sum(bits)
        return self._of_kinds[kinds]
