"""How values flow from layer to layer, and what that says of each layer."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pyinit._graph.structure import Activation, Branch, Graph
from pyinit._torch.once import once

# Kinds of steps.
LAYER = "layer"  # multiplies by a weight
RECURRENT = "recurrent"  # layers with a recurrence of their own
ACTIVATION = "activation"
NORM = "norm"
SUM = "sum"
PRODUCT = "product"  # of two values
MIX = "mix"  # attention and other products of matrices that are no weights
PASS = "pass"  # reshapes, pools, drops: what leaves values as they are, or nearly
SOURCE = "source"  # inputs, parameters, embeddings, shapes

_LAYERS = frozenset((LAYER, RECURRENT))
_ENDS = _LAYERS | {MIX}


class Step(NamedTuple):
    """A value: how it comes from values before it, and the path of the module, if one did it."""

    kind: str
    inputs: tuple[int, ...] = ()
    path: str = ""
    activation: Activation | None = None


class Flow:
    """Steps, each after its inputs."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._of_kinds: dict[tuple[str, ...], int] = {}

    def add(
        self,
        kind: str,
        inputs: Iterable[int] = (),
        path: str = "",
        activation: Activation | None = None,
    ) -> int:
        """Append a step; its number."""
        self.steps.append(Step(kind, tuple(inputs), path, activation))
        return len(self.steps) - 1

    @property
    def layers(self) -> Iterator[tuple[int, str]]:
        return ((i, step.path) for i, step in enumerate(self.steps) if step.kind in _LAYERS)

    @once
    def users(self) -> list[list[int]]:
        found: list[list[int]] = [[] for _ in self.steps]
        for i, step in enumerate(self.steps):
            for source in step.inputs:
                found[source].append(i)
        return found

    @once
    def ancestors(self) -> list[int]:
        """For each step a set of bits: itself, and the steps that it comes from."""
        found: list[int] = []
        for i, step in enumerate(self.steps):
            bits = 1 << i
            for source in step.inputs:
                bits |= found[source]
            found.append(bits)
        return found

    def all_of(self, *kinds: str) -> int:
        """The steps of some kinds, as bits."""
        if kinds not in self._of_kinds:
            bits = (1 << i for i, step in enumerate(self.steps) if step.kind in kinds)
            self._of_kinds[kinds] = sum(bits)
        return self._of_kinds[kinds]


def read(flow: Flow) -> Graph:
    """What the flow of a whole model says of its layers."""
    activation: dict[str, Activation] = {}
    before: dict[str, Activation] = {}
    norms: dict[str, str] = {}
    attention: set[str] = set()
    for i, path in flow.layers:
        follows = _first_after(flow, i, ACTIVATION)
        if follows is not None and follows.activation is not None:
            activation.setdefault(path, follows.activation)
        feeds = _activation_before(flow, i)
        if feeds is not None:
            before.setdefault(path, feeds)
        norm = _first_after(flow, i, NORM)
        if norm is not None and norm.path:
            norms.setdefault(path, norm.path)
        if follows is None and _first_after(flow, i, MIX) is not None:
            attention.add(path)
    return Graph(
        "torch.fx",
        activation,
        before,
        norms,
        tuple(_branches(flow)),
        frozenset(_heads(flow)),
        frozenset(attention),
        _depths(flow),
    )


def _first_after(flow: Flow, start: int, kind: str) -> Step | None:
    """The first step of a kind after a layer and before the next ones.

    It may stand behind one sum, as in a ResNet, but not behind two: those are later blocks'.
    """
    waiting = [(user, 0) for user in flow.users[start]]
    seen = set()
    for i, sums in waiting:
        step = flow.steps[i]
        if step.kind == kind:
            return step
        sums += step.kind == SUM  # noqa: PLW2901  it is a count of this way
        if step.kind in _ENDS or sums > 1 or i in seen:
            continue
        seen.add(i)
        waiting += [(user, sums) for user in flow.users[i]]
    return None


def _activation_before(flow: Flow, layer: int) -> Activation | None:
    step = flow.steps[layer]
    while step.inputs:
        step = flow.steps[step.inputs[0]]
        if step.kind != PASS:
            return step.activation
    return None


def _heads(flow: Flow) -> Iterator[str]:
    """Layers that lead to no other layer."""
    leads = [False] * len(flow.steps)
    taken = set()
    for i in reversed(range(len(flow.steps))):
        step = flow.steps[i]
        if step.kind in _LAYERS and leads[i]:
            taken.add(step.path)
        for source in step.inputs:
            leads[source] |= leads[i] or step.kind in _LAYERS
    return (path for _, path in flow.layers if path not in taken)


def _depths(flow: Flow) -> dict[str, int]:
    """Lengths of chains: the layers up to one, and those from it on, joined by what is plain."""
    plain = (LAYER, PASS, ACTIVATION)
    count = len(flow.steps)
    upto, onward = [0] * count, [0] * count
    for i, step in enumerate(flow.steps):
        if step.kind in plain:
            most = max((upto[source] for source in step.inputs), default=0)
            upto[i] = most + (step.kind == LAYER)
    for i in reversed(range(count)):
        step = flow.steps[i]
        if step.kind in plain:
            onward[i] += step.kind == LAYER
            for source in step.inputs:
                onward[source] = max(onward[source], onward[i])
    depths: dict[str, int] = {}
    for i, step in enumerate(flow.steps):
        if step.kind == LAYER:
            depths[step.path] = max(depths.get(step.path, 0), upto[i] + onward[i] - 1)
    return depths


def _branches(flow: Flow) -> Iterator[Branch]:
    """Of each sum with a skip, what is beside it."""
    trunk: dict[int, int] = {}  # of a residual sum: its skip
    for i, step in enumerate(flow.steps):
        if step.kind != SUM or len(step.inputs) != 2 or _goes_to_mix(flow, i):
            continue
        for skip, end in (step.inputs, step.inputs[::-1]):
            inside = _inside(flow, trunk, skip, end)
            if inside:
                trunk[i] = skip
                for side in _sides(flow, trunk, end):
                    layers = _bits(inside & flow.ancestors[side])
                    paths = tuple(dict.fromkeys(flow.steps[j].path for j in layers))
                    if paths:
                        yield Branch(paths, _last_norm(flow, side))
                break


def _goes_to_mix(flow: Flow, start: int) -> bool:
    """Whether a sum is one of scores and a mask, on the way to a softmax."""
    users = flow.users[start]
    kinds = [flow.steps[user].kind for user in users]
    return bool(users) and all(
        kind == MIX or (kind == PASS and _goes_to_mix(flow, user))
        for kind, user in zip(kinds, users, strict=True)
    )


def _inside(flow: Flow, trunk: dict[int, int], skip: int, end: int) -> int:
    """The layers, as bits, of the branch that ends there if the other side is its skip."""
    ancestors, layers = flow.ancestors, flow.all_of(*_LAYERS)
    origin = _origin(flow, trunk, skip, end)
    if origin is not None:
        return ancestors[end] & ~ancestors[origin] & layers
    # The skip may have one layer of its own, for a change of size, if the branch has several.
    inside, beside = ancestors[end] & ~ancestors[skip], ancestors[skip] & ~ancestors[end]
    is_skip = (
        (beside & layers).bit_count() == 1 < (inside & layers).bit_count()
        and not inside & flow.all_of(SUM)
        and ancestors[skip] & ancestors[end]
    )
    return inside & layers if is_skip else 0


def _sides(flow: Flow, trunk: dict[int, int], end: int) -> Iterator[int]:
    """The ends of the branches that are added before their sum goes to the skip, as in GPT-NeoX."""
    step = flow.steps[end]
    if step.kind == PASS and len(step.inputs) == 1:
        yield from _sides(flow, trunk, step.inputs[0])
    elif step.kind == SUM and end not in trunk:
        for side in step.inputs:
            yield from _sides(flow, trunk, side)
    else:
        yield end


def _origin(flow: Flow, trunk: dict[int, int], skip: int, end: int) -> int | None:
    """The step that both come from, where nothing but other branches' sums lie on the skip."""
    while not flow.ancestors[end] >> skip & 1:
        step = flow.steps[skip]
        if skip in trunk:
            skip = trunk[skip]
        elif step.kind in (PASS, NORM, ACTIVATION) and step.inputs:
            skip = step.inputs[0]
        else:
            return None
    return skip


def _last_norm(flow: Flow, end: int) -> str | None:
    step = flow.steps[end]
    while step.kind == PASS and step.inputs:
        step = flow.steps[step.inputs[0]]
    return step.path if step.kind == NORM else None


def _bits(bits: int) -> Iterator[int]:
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest
