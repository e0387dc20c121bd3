"""Where output channels stand: in weights, in outputs, and in weights that hold several matrices."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from pyinit._graph.kinds import EMBEDDINGS, LSTMS, is_conv1d, nearest_base
from pyinit.whole_model.network import Site


class Layout(NamedTuple):
    """Where a layer's output channels stand.

    weight: the dimension of its weight
    output: the dimension of its output, counted from the end if negative
    """

    weight: int
    output: int


# The channels of a convolution's output stand in front of as many dimensions as its kernel has.
_IN_MODULES: tuple[tuple[Callable[[nn.Module], bool], Callable[[int], Layout]], ...] = (
    (lambda m: isinstance(m, _ConvTransposeNd), lambda dims: Layout(1, 1 - dims)),
    (lambda m: isinstance(m, _ConvNd), lambda dims: Layout(0, 1 - dims)),
    (lambda m: isinstance(m, EMBEDDINGS) or is_conv1d(m), lambda _: Layout(1, -1)),
    (lambda m: isinstance(m, (nn.Linear, nn.Bilinear)), lambda _: Layout(0, -1)),
    (lambda m: isinstance(m, nn.MultiheadAttention), lambda _: Layout(0, -1)),
)


def layout_in(module: nn.Module, dims: int) -> Layout | None:
    """The layout of a module's own weight of so many dimensions; None of a class that is not known."""
    return next((layout(dims) for is_so, layout in _IN_MODULES if is_so(module)), None)


def layout_by_shape(shape: Sequence[int], output: Tensor, kind: str) -> Layout | None:
    """The layout of a weight that a function takes, where the sizes leave no choice."""
    at = 1 - len(shape) if kind == "conv" else -1
    if kind not in ("linear", "conv", "embedding") or output.dim() < -at:
        return None
    if kind == "linear" and len(shape) != 2:
        return None
    dims = [dim for dim in (0, 1) if shape[dim] == output.shape[at]]
    return Layout(dims[0], at) if len(dims) == 1 else None


def output_dim(site: Site) -> int:
    """The dimension of a parameter in which output channels stand."""
    layout = layout_in(site.module, len(site.shape)) if len(site.shape) > 1 else None
    return 0 if layout is None else layout.weight


_GATES: dict[type, tuple[str, ...]] = {
    **dict.fromkeys(LSTMS, ("input", "forget", "cell", "output")),
    **dict.fromkeys((nn.GRU, nn.GRUCell), ("reset", "update", "new")),
    **dict.fromkeys((nn.RNN, nn.RNNCell), ("",)),
}


def gates_in(module: nn.Module) -> tuple[str, ...]:
    """The gates of a recurrent layer, in the order in which its weights hold them."""
    base = nearest_base(type(module), _GATES)
    return ("",) if base is None else _GATES[base]


PROJECTIONS = ("query", "key", "value")
"""What ``in_proj_weight`` of ``nn.MultiheadAttention`` holds, in this order."""


def matrices_in(site: Site, rows: range) -> list[tuple[str, range]]:
    """The matrices among some output channels of a weight: what they are called, and their channels."""
    if not isinstance(site.module, nn.MultiheadAttention) or site.leaf != "in_proj_weight":
        return [("", rows)]
    size = site.shape[0] // 3
    parts = ((name, range(i * size, (i + 1) * size)) for i, name in enumerate(PROJECTIONS))
    return [(name, part) for name, part in parts if part.start in rows]
