"""From the flow of a model to its graph: what follows each layer, and where branches lie."""

from collections.abc import Iterator

from pyinit._graph.flow import (
    ACTIVATION,
    LAYER,
    LAYERS,
    MIX,
    NORM,
    PASS,
    SUM,
    Flow,
    Step,
)
from pyinit._graph.graph import ActivationKind, Branch, Graph

_LOOK_NO_FURTHER = LAYERS | {MIX}


def graph_of(flow: Flow) -> Graph:
    """The graph of a model whose whole flow is known."""
    activation: dict[str, ActivationKind] = {}
    before: dict[str, ActivationKind] = {}
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

    One sum may stand between the two, as in a ResNet. What stands behind two is a later block's.
    """
    waiting = [(user, 0) for user in flow.users[start]]
    seen = set()
    for i, sums in waiting:
        step = flow.steps[i]
        if step.kind == kind:
            return step
        sums += step.kind == SUM  # noqa: PLW2901  the sums on the way to this step
        if step.kind in _LOOK_NO_FURTHER or sums > 1 or i in seen:
            continue
        seen.add(i)
        waiting += [(user, sums) for user in flow.users[i]]
    return None


def _activation_before(flow: Flow, layer: int) -> ActivationKind | None:
    """The activation whose output a layer takes."""
    step = flow.steps[layer]
    while step.inputs:
        step = flow.steps[step.inputs[0]]
        if step.kind != PASS:
            return step.activation
    return None


def _heads(flow: Flow) -> Iterator[str]:
    """The layers that lead to no other layer."""
    leads = [False] * len(flow.steps)
    taken = set()
    for i in reversed(range(len(flow.steps))):
        step = flow.steps[i]
        if step.kind in LAYERS and leads[i]:
            taken.add(step.path)
        for source in step.inputs:
            leads[source] |= leads[i] or step.kind in LAYERS
    return (path for _, path in flow.layers if path not in taken)


def _depths(flow: Flow) -> dict[str, int]:
    """The length of the longest plain chain that each layer is in."""
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
    """The branches that residual sums add to their skips."""
    trunk: dict[int, int] = {}  # the skip of each residual sum
    for i, step in enumerate(flow.steps):
        if step.kind != SUM or len(step.inputs) != 2 or _is_of_scores(flow, i):
            continue
        for skip, end in (step.inputs, step.inputs[::-1]):
            inside = _layers_of_branch(flow, trunk, skip, end)
            if inside:
                trunk[i] = skip
                for side in _ends_of_branches(flow, trunk, end):
                    layers = _bits(inside & flow.ancestors[side])
                    paths = tuple(dict.fromkeys(flow.steps[j].path for j in layers))
                    if paths:
                        yield Branch(paths, _last_norm(flow, side))
                break


def _is_of_scores(flow: Flow, start: int) -> bool:
    """Whether a sum adds a mask to scores: all that becomes of it goes into a softmax."""
    users = flow.users[start]
    kinds = [flow.steps[user].kind for user in users]
    return bool(users) and all(
        kind == MIX or (kind == PASS and _is_of_scores(flow, user))
        for kind, user in zip(kinds, users, strict=True)
    )


def _layers_of_branch(flow: Flow, trunk: dict[int, int], skip: int, end: int) -> int:
    """The layers of the branch that leads to ``end``, as bits; 0 if ``skip`` is no skip of it."""
    ancestors, layers = flow.ancestors, flow.all_of(*LAYERS)
    fork = _fork(flow, trunk, skip, end)
    if fork is not None:
        return ancestors[end] & ~ancestors[fork] & layers
    # A skip may have a layer of its own, which changes the size, beside a branch of several.
    inside, beside = ancestors[end] & ~ancestors[skip], ancestors[skip] & ~ancestors[end]
    is_skip = (
        (beside & layers).bit_count() == 1 < (inside & layers).bit_count()
        and not inside & flow.all_of(SUM)
        and ancestors[skip] & ancestors[end]
    )
    return inside & layers if is_skip else 0


def _ends_of_branches(flow: Flow, trunk: dict[int, int], end: int) -> Iterator[int]:
    """The ends of the branches in a sum that is then added to the skip, as in GPT-NeoX."""
    step = flow.steps[end]
    if step.kind == PASS and len(step.inputs) == 1:
        yield from _ends_of_branches(flow, trunk, step.inputs[0])
    elif step.kind == SUM and end not in trunk:
        for side in step.inputs:
            yield from _ends_of_branches(flow, trunk, side)
    else:
        yield end


def _fork(flow: Flow, trunk: dict[int, int], skip: int, end: int) -> int | None:
    """The step at which branch and skip part; None if more than sums of branches is on the skip."""
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
    """The path of the norm that a branch ends with, if it does."""
    step = flow.steps[end]
    while step.kind == PASS and step.inputs:
        step = flow.steps[step.inputs[0]]
    return step.path if step.kind == NORM else None


def _bits(bits: int) -> Iterator[int]:
    """The numbers of the bits that are set."""
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest
