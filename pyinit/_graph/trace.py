"""What follows each layer of a model: activations, norms, residual branches."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

from torch import nn

from pyinit._graph import flow, module_order, tracing
from pyinit._graph.structure import Activation, Branch, Graph
from pyinit._torch.wrappers import on_plain_model

__all__ = ["Activation", "Branch", "Graph", "trace"]

_Value = TypeVar("_Value")


@on_plain_model
def trace(model: nn.Module) -> Graph:
    """The graph of a model, by the first of these that works: a symbolic trace of all of it; traces
    of its parts; the order and names of its modules. The model stays as it is.
    """
    known = _traced(model)
    if known is None:
        known = Graph()
        for path, part in _parts(model, ""):
            known = _joined(known, _placed(part, path + "."))
    return module_order.completed(model, known)


def _traced(module: nn.Module) -> Graph | None:
    try:
        return flow.read(tracing.trace(module))
    except Exception:  # noqa: BLE001  a forward may raise anything on stand-ins
        return None


def _parts(module: nn.Module, path: str) -> Iterator[tuple[str, Graph]]:
    """The largest submodules with layers inside that can be traced."""
    for name, child in module.named_children():
        if tracing.is_layer(child) or not any(map(tracing.is_layer, child.modules())):
            continue
        place = f"{path}.{name}".lstrip(".")
        part = None if type(child).forward is nn.Module.forward else _traced(child)
        if part is None:
            yield from _parts(child, place)
        else:
            yield place, part


def _placed(part: Graph, prefix: str) -> Graph:
    """The graph of a part, with paths in the whole."""

    def keys(mapping: Mapping[str, _Value]) -> dict[str, _Value]:
        return {prefix + path: value for path, value in mapping.items()}

    return Graph(
        part.source,
        keys(part.activation),
        keys(part.before),
        {prefix + path: prefix + norm for path, norm in part.norms.items()},
        tuple(
            Branch(
                tuple(prefix + path for path in branch.layers),
                None if branch.last_norm is None else prefix + branch.last_norm,
            )
            for branch in part.branches
        ),
        frozenset(prefix + path for path in part.heads),
        frozenset(prefix + path for path in part.attention),
        keys(part.depth),
    )


def _joined(first: Graph, second: Graph) -> Graph:
    return replace(
        first,
        activation={**first.activation, **second.activation},
        before={**first.before, **second.before},
        norms={**first.norms, **second.norms},
        branches=first.branches + second.branches,
        attention=first.attention | second.attention,
        depth={**first.depth, **second.depth},
    )
