"""What the order and names of modules say, where a forward cannot be traced."""

import re
from collections.abc import Iterable

from torch import nn

from pyinit._graph import activations
from pyinit._graph.graph import ActivationKind, Branch, Graph
from pyinit._graph.kinds import is_conv, is_expert_stack, is_layer, is_norm, is_state_space

# Names that libraries of models agree on.
_ENDS_BRANCH = re.compile(
    r"(^|\.)(c_proj|o_proj|out_proj|out_lin|down_proj|fc2|lin2|linear2|wo|w2|dense_4h_to_h|conv3"
    r"|to_out(\.0)?|(attn|attention|mlp|ffn)\.proj|output\.dense|\w*Attention\.o)$"
)
_ATTENDS = re.compile(
    r"(^|\.)((to_|W|w)?(q|k|v|qkv)|[qkv]_(proj|lin)|qkv_proj|c_attn|query|key|value"
    r"|query_key_value)$"
)
_IS_GATED = re.compile(r"(^|\.)(up_proj|w3|wi_1)$")


def completed(model: nn.Module, known: Graph) -> Graph:
    """The graph that is known from traces, with what order and names add to it: what follows the
    layers that no trace reached, and where branches end if no trace saw the whole model.
    """
    layers = [path for path, module in model.named_modules() if is_layer(module)]
    missing = {path for path in layers if path not in known.depth}
    is_whole = known.source == "torch.fx"
    if not layers or (is_whole and not missing):
        return known
    experts = tuple(path for path, module in model.named_modules() if is_expert_stack(module))
    activation: dict[str, ActivationKind] = {}
    norms: dict[str, str] = {}
    for path, parent in model.named_modules():
        _read_children(path, parent, layers[-1], activation, norms)
    activation = {path: found for path, found in activation.items() if path in missing}
    norms = {path: found for path, found in norms.items() if path in missing}
    ends = [
        path
        for path in layers
        if (path in missing or not is_whole)
        and _ENDS_BRANCH.search(path)
        and not _is_in_gate(model, path)
    ]
    streams = {stack(branch.layers[-1]): branch.stream for branch in known.branches}
    branches = known.branches + tuple(
        Branch((path,), norms.get(path), streams.get(stack(path), stack(path)))
        for path in (*ends, *experts)
        if _is_outside(path, known.branches)
    )
    heads = known.heads
    if not is_whole and layers[-1] not in activation and _is_outside(layers[-1], branches):
        heads = frozenset(layers[-1:])
    return Graph(
        "torch.fx in parts" if known.depth else "module order",
        {**known.activation, **activation},
        known.activation_before,
        {**known.norms, **norms},
        branches,
        heads,
        known.attention | {path for path in missing if _ATTENDS.search(path)},
        known.unscaled,
        known.head_mixers,
        known.routers,
        known.depth,
    )


def stack(path: str) -> str:
    """What the paths of all blocks of an encoder or decoder begin with: the path up to its first number."""
    return re.split(r"\d", path, maxsplit=1)[0]


def _is_in_gate(model: nn.Module, layer: str) -> bool:
    """Whether a layer's module ends in a sigmoid of its own, as squeeze and excitation does."""
    parent = model.get_submodule(layer.rpartition(".")[0])
    return any(isinstance(child, (nn.Sigmoid, nn.Hardsigmoid)) for child in parent.children())


def _is_outside(layer: str, branches: Iterable[Branch]) -> bool:
    return not any(layer in branch.layers for branch in branches)


def _read_children(
    path: str,
    parent: nn.Module,
    last: str,
    activation: dict[str, ActivationKind],
    norms: dict[str, str],
) -> None:
    """Note what follows the layers that a module itself holds.

    An activation that they share does not follow the model's ``last`` layer. In a state space it follows
    the convolution alone, and not the layers that choose the parameters.
    """
    children = [(f"{path}.{name}".lstrip("."), child) for name, child in parent.named_children()]
    shared = None if isinstance(parent, nn.Sequential) else _shared_activation(parent)
    layer = ""
    for name, child in children:
        if is_layer(child):
            layer = name
            is_followed = not _passes_by(name) and (is_conv(child) or not is_state_space(parent))
            if shared is not None and name != last and is_followed:
                activation[layer] = shared
        elif layer and is_norm(child):
            norms.setdefault(layer, name)
        elif layer and shared is None and activations.is_activation(child):
            found = activations.of_module(child)
            if found is not None:
                activation.setdefault(layer, found)
        if layer and (is_layer(child) or is_norm(child)):
            held = activations.held_by(child)
            if held and held[0] is not None:
                activation[layer] = held[0]


def _passes_by(layer: str) -> bool:
    """Whether the one activation of a module does not follow this layer, by the layer's name."""
    patterns = (_ENDS_BRANCH, _ATTENDS, _IS_GATED)
    return any(pattern.search(layer) for pattern in patterns) and not layer.endswith("conv3")


def _shared_activation(parent: nn.Module) -> ActivationKind | None:
    """The activation of a module that holds exactly one, be it a module or a function."""
    held = activations.held_by(parent)
    return held[0] if len(held) == 1 else None
