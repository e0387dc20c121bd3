"""From the flow of a model to its graph: what follows each layer, and where branches lie."""

from collections.abc import Iterator

from pyinit._graph.flow import (
    ACTIVATION,
    LAYER,
    LAYERS,
    MIX,
    NORM,
    PASS,
    PRODUCT,
    SOFTMAX,
    SUM,
    Flow,
    Step,
)
from pyinit._graph.graph import ActivationKind, Branch, Graph

_MIXES = (MIX, SOFTMAX)
_LOOK_NO_FURTHER = LAYERS.union(_MIXES)


def graph_of(flow: Flow) -> Graph:
    """The graph of a model whose whole flow is known."""
    activation: dict[str, ActivationKind] = {}
    before: dict[str, ActivationKind] = {}
    norms: dict[str, str] = {}
    attention: set[str] = set()
    unscaled: set[str] = set()
    mixers: set[str] = set()
    routers: set[str] = set()
    gates = _layers_of_gates(flow)
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
        if _mixes_heads(flow, i):
            mixers.add(path)
        elif follows is None and _is_in_attention(flow, i):
            attention.add(path)
            if _is_unscaled(flow, i):
                unscaled.add(path)
        elif _routes(flow, i):
            routers.add(path)
    return Graph(
        "torch.fx",
        activation,
        before,
        norms,
        tuple(_branches(flow, gates)),
        frozenset(_heads(flow)),
        frozenset(attention),
        frozenset(unscaled),
        frozenset(mixers),
        frozenset(routers),
        _depths(flow, gates),
    )


def _first_after(flow: Flow, start: int, *kinds: str) -> Step | None:
    """The first step of these kinds after a layer and before the next ones.

    One sum may stand between the two, as in a ResNet. What stands behind two is a later block's.
    """
    waiting = [(user, 0) for user in flow.users[start]]
    seen = set()
    for i, sums in waiting:
        step = flow.steps[i]
        if step.kind in kinds:
            return step
        sums += step.kind == SUM  # noqa: PLW2901  the sums on the way to this step
        if step.kind in _LOOK_NO_FURTHER or sums > 1 or i in seen:
            continue
        seen.add(i)
        waiting += [(user, sums) for user in flow.users[i]]
    return None


def _activation_before(flow: Flow, layer: int) -> ActivationKind | None:
    """The activation whose output a layer takes."""
    before = _before(flow, layer)
    return None if before is None else before.activation


def _mixes_heads(flow: Flow, layer: int) -> bool:
    """Whether a layer stands right between a product and a softmax, as talking heads do."""
    before, after = _behind(flow, layer), _kinds_ahead(flow, layer)
    return after == {SOFTMAX} if before == MIX else before == SOFTMAX and after == {MIX}


def _before(flow: Flow, start: int) -> Step | None:
    """The step whose value a step takes, but for what only passes it on."""
    step = flow.steps[start]
    while step.inputs:
        step = flow.steps[step.inputs[0]]
        if step.kind != PASS:
            return step
    return None


def _behind(flow: Flow, start: int) -> str:
    """The kind of the step whose value a step takes, but for what only passes it on."""
    before = _before(flow, start)
    return "" if before is None else before.kind


def _ahead(flow: Flow, start: int) -> Iterator[int]:
    """The steps that take a step's value, but for what only passes it on."""
    waiting = list(flow.users[start])
    for user in waiting:
        if flow.steps[user].kind == PASS:
            waiting += flow.users[user]
        else:
            yield user


def _kinds_ahead(flow: Flow, start: int) -> set[str]:
    return {flow.steps[user].kind for user in _ahead(flow, start)}


def _is_in_attention(flow: Flow, layer: int) -> bool:
    """Whether a layer's output goes into a product with what is no softmax of a single layer.

    The softmax of scores is one of a product.
    """
    mix = _first_after(flow, layer, *_MIXES)
    return (
        mix is not None and mix.kind == MIX and not any(_is_of_router(flow, i) for i in mix.inputs)
    )


def _is_of_router(flow: Flow, start: int) -> bool:
    """Whether a value is the softmax of a layer's output, or what is chosen of it."""
    while flow.steps[start].kind == PASS and flow.steps[start].inputs:
        start = flow.steps[start].inputs[0]
    return flow.steps[start].kind == SOFTMAX and _behind(flow, start) in LAYERS


def _routes(flow: Flow, layer: int) -> bool:
    """Whether the softmax of a layer's output multiplies other values."""
    softmax = next((i for i in _ahead(flow, layer) if flow.steps[i].kind == SOFTMAX), None)
    return softmax is not None and PRODUCT in _kinds_ahead(flow, softmax)


def _is_unscaled(flow: Flow, layer: int) -> bool:
    """Whether a layer's products with others go into a softmax, and nothing scales them on the way."""
    reaches_softmax = False
    waiting = [(user, 0) for user in flow.users[layer]]
    seen = set()
    for i, products in waiting:
        step = flow.steps[i]
        if step.kind == SOFTMAX:
            reaches_softmax |= products == 1
        elif step.kind == NORM or (step.kind == PASS and step.scale != 1):
            return False
        elif step.kind not in LAYERS and products + (step.kind == MIX) < 2 and i not in seen:
            seen.add(i)
            waiting += [(user, products + (step.kind == MIX)) for user in flow.users[i]]
    return reaches_softmax


def _layers_of_gates(flow: Flow) -> int:
    """The layers that compute, from a value, what the value is multiplied by, as bits: those of
    squeeze and excitation."""
    found, layers = 0, flow.all_of(*LAYERS)
    for step in flow.steps:
        if step.kind == PRODUCT:
            value, factor = _value_and_factor(flow, step)
            if value is not None:
                found |= flow.ancestors[factor] & ~flow.ancestors[value] & layers
    return found


def _value_and_factor(flow: Flow, product: Step) -> tuple[int | None, int]:
    """The value that a product multiplies by a gate, an activation of what is computed from the value;
    None if there is none."""
    for value, factor in (product.inputs, product.inputs[::-1]):
        kind = flow.steps[factor].kind
        is_gate = ACTIVATION in (kind, kind == PASS and _behind(flow, factor))
        if is_gate and flow.ancestors[factor] >> value & 1:
            return value, factor
    return None, -1


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


def _depths(flow: Flow, gates: int) -> dict[str, int]:
    """The length of the longest plain chain that each layer is in. A gate's layers are in none."""
    count = len(flow.steps)
    upto, onward = [0] * count, [0] * count

    def is_plain(i: int) -> bool:
        return flow.steps[i].kind in (LAYER, PASS, ACTIVATION) and not gates >> i & 1

    for i, step in enumerate(flow.steps):
        if is_plain(i):
            most = max((upto[source] for source in step.inputs), default=0)
            upto[i] = most + (step.kind == LAYER)
    for i in reversed(range(count)):
        step = flow.steps[i]
        if is_plain(i):
            onward[i] += step.kind == LAYER
            for source in step.inputs:
                onward[source] = max(onward[source], onward[i])
    depths: dict[str, int] = {}
    for i, step in enumerate(flow.steps):
        if step.kind == LAYER:
            depths[step.path] = max(depths.get(step.path, 1), upto[i] + onward[i] - 1)
    return depths


def _branches(flow: Flow, gates: int) -> Iterator[Branch]:
    """The branches that residual sums add to their skips, without the layers of gates."""
    trunk: dict[int, int] = {}  # the skip of each residual sum
    streams: dict[int, int] = {}  # the number of each residual sum's stream
    count = 0
    for i, step in enumerate(flow.steps):
        if step.kind != SUM or len(step.inputs) != 2 or _is_of_scores(flow, i):
            continue
        for skip, end in (step.inputs, step.inputs[::-1]):
            inside = _layers_of_branch(flow, trunk, skip, end)
            if inside:
                trunk[i] = skip
                before = _sum_before(flow, trunk, skip)
                if before is None:
                    streams[i], count = count, count + 1
                else:
                    streams[i] = streams[before]
                stream = str(streams[i] or "")
                for side in _ends_of_branches(flow, trunk, end):
                    layers = _bits(inside & flow.ancestors[side] & ~gates)
                    paths = tuple(dict.fromkeys(flow.steps[j].path for j in layers))
                    if paths:
                        yield Branch(paths, _last_norm(flow, side), stream)
                break


def _sum_before(flow: Flow, trunk: dict[int, int], skip: int) -> int | None:
    """The residual sum that a skip comes from; None at the start of a residual stream."""
    while skip not in trunk:
        inputs = flow.steps[skip].inputs
        if not inputs:
            return None
        skip = inputs[0]
    return skip


def _is_of_scores(flow: Flow, start: int) -> bool:
    """Whether a sum adds a mask to scores: all that becomes of it goes into a softmax."""
    users = flow.users[start]
    kinds = [flow.steps[user].kind for user in users]
    return bool(users) and all(
        kind in _MIXES or (kind == PASS and _is_of_scores(flow, user))
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
    while step.kind in (PASS, PRODUCT) and step.inputs:
        value = step.inputs[0] if step.kind == PASS else _value_and_factor(flow, step)[0]
        if value is None:
            return None
        step = flow.steps[value]
    return step.path if step.kind == NORM else None


def _bits(bits: int) -> Iterator[int]:
    """The numbers of the bits that are set."""
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest
