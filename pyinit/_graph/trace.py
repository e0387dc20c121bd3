"""The graph of a model: activations, norms and residual branches around its layers."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

from torch import nn

from pyinit._graph import module_order
from pyinit._graph.flow_to_graph import graph_of
from pyinit._graph.graph import Branch, Graph
from pyinit._graph.kinds import is_layer
from pyinit._graph.model_to_flow import flow_of
from pyinit._torch.wrappers import on_plain_model

_Value = TypeVar("_Value")


@on_plain_model
def trace(model: nn.Module) -> Graph:
    """The graph of a model, which stays as it is.

    It comes from the first of these that works: a symbolic trace of the whole model, traces of its
    parts, or the order and names of its modules.
    """
    known = _traced(model)
    if known is None:
        known = Graph()
        for path, part in _parts(model, "", frozenset()):
            known = _joined(known, _placed(part, path + "."))
    return module_order.completed(model, known)


def _traced(module: nn.Module) -> Graph | None:
    try:
        return graph_of(flow_of(module))
    except Exception:  # noqa: BLE001  a forward may raise anything on stand-ins
        return None


def _parts(module: nn.Module, path: str, seen: frozenset[str]) -> Iterator[tuple[str, Graph]]:
    """The graphs of the largest submodules that hold layers and can be traced, with their paths.

    A trace may pass layers by, such as those that attend to an encoder's output, which is None by
    default. The largest submodules that hold only such layers are traced by themselves.
    """
    for name, child in module.named_children():
        place = f"{path}.{name}".lstrip(".")
        layers = {at for at, part in child.named_modules(prefix=place) if is_layer(part)}
        if is_layer(child) or layers <= seen:
            continue
        is_apart = layers.isdisjoint(seen) and type(child).forward is not nn.Module.forward
        part = _traced(child) if is_apart else None
        if part is not None:
            yield place, part
            seen |= {f"{place}.{layer}" for layer in part.depth}
        yield from _parts(child, place, seen)


def _placed(part: Graph, prefix: str) -> Graph:
    """The graph of a part, with the paths that its modules have in the whole."""

    def keys(mapping: Mapping[str, _Value]) -> dict[str, _Value]:
        return {prefix + path: value for path, value in mapping.items()}

    # The parts of one stack share its stream, as do layers that were traced by themselves.
    streams: dict[str, str] = {}
    for branch in part.branches:
        in_stack = module_order.stack(prefix + branch.layers[-1])
        streams.setdefault(branch.stream, in_stack + branch.stream)
    return Graph(
        part.source,
        keys(part.activation),
        keys(part.activation_before),
        {prefix + path: prefix + norm for path, norm in part.norms.items()},
        tuple(
            Branch(
                tuple(prefix + path for path in branch.layers),
                None if branch.last_norm is None else prefix + branch.last_norm,
                streams[branch.stream],
            )
            for branch in part.branches
        ),
        frozenset(prefix + path for path in part.heads),
        frozenset(prefix + path for path in part.attention),
        frozenset(prefix + path for path in part.unscaled),
        frozenset(prefix + path for path in part.head_mixers),
        frozenset(prefix + path for path in part.routers),
        keys(part.depth),
    )


def _joined(first: Graph, second: Graph) -> Graph:
    """The graph of two parts together. Neither knows where the whole model ends: there are no heads."""
    return replace(
        first,
        activation={**first.activation, **second.activation},
        activation_before={**first.activation_before, **second.activation_before},
        norms={**first.norms, **second.norms},
        branches=first.branches + second.branches,
        attention=first.attention | second.attention,
        unscaled=first.unscaled | second.unscaled,
        head_mixers=first.head_mixers | second.head_mixers,
        routers=first.routers | second.routers,
        depth={**first.depth, **second.depth},
    )
