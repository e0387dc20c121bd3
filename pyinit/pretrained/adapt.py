"""Pretrained tensors made to fit other shapes: of input channels, classes and images."""

import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from pyinit._graph.kinds import is_conv1d
from pyinit._messages import near

Shape = tuple[int, ...]


class Shapes(NamedTuple):
    """A tensor's shape in the source and in the model."""

    source: Shape
    model: Shape


class Adaptation(NamedTuple):
    """What makes a tensor of the source fit.

    how: what is done, in words for the report
    apply: the function that does it; None if the tensor is not used
    """

    how: str
    apply: Callable[[Tensor], Tensor] | None


Pairs = Mapping[str, Shapes]
"""The shapes of a parameter in source and model, by its name."""


def adaptations(model: nn.Module, pairs: Pairs, kinds: Iterable[str]) -> dict[str, Adaptation]:
    """Find how tensors that do not fit as they are can be adapted.

    Raises:
        ValueError: For a tensor of which it cannot be told whether it fits.
    """
    found: dict[str, Adaptation] = {}
    for kind in kinds:
        found |= _KINDS[kind](model, pairs)
    return found


def check_kinds(adapt: Iterable[str]) -> tuple[str, ...]:
    """The kinds of adaptation in ``adapt``, which is one name or several.

    Raises:
        ValueError: For an unknown kind.
    """
    kinds = (adapt,) if isinstance(adapt, str) else tuple(adapt)
    for kind in kinds:
        if kind not in _KINDS:
            raise ValueError(f"adapt: unknown kind {kind!r}; {near(kind, _KINDS)}")
    return kinds


def _differs(pairs: Pairs, name: str) -> bool:
    return name in pairs and pairs[name].source != pairs[name].model


# ---- Stems ---------------------------------------------------------------------------------------


def _first_conv(model: nn.Module, pairs: Pairs) -> dict[str, Adaptation]:
    """Adapt the first convolution that does not fit, if only its input channels differ."""
    for path, module in model.named_modules():
        name = f"{path}.weight" if path else "weight"
        if not isinstance(module, _ConvNd) or not _differs(pairs, name):
            continue
        source, target = pairs[name]
        fits = (
            len(source) == len(target)
            and source[0] == target[0]
            and source[2:] == target[2:]
            and min(source[1], target[1]) > 0
        )
        if not fits or module.groups != 1 or isinstance(module, _ConvTransposeNd):
            break
        how = f"{source[1]} to {target[1]} input channels"
        return {name: Adaptation(how, partial(with_channels, channels=target[1]))}
    return {}


def with_channels(weight: Tensor, channels: int) -> Tensor:
    """Change the number of input channels of a convolution's weight (out, in, ...).

    The sum over the input channels stays, and with it the response to an image whose channels are
    alike. If there are to be fewer, channel c of the source is added to channel c modulo the new
    number, so that a single channel is the sum of all. If there are to be more, the channels are
    repeated in turn, each divided by the number of its copies; for n a multiple of 3 that is the
    factor 3/n of timm (Wightman 2019).
    """
    wide = weight.to(torch.promote_types(weight.dtype, torch.float32))
    old = weight.shape[1]
    if channels <= old:
        folded = wide.new_zeros(weight.shape[0], channels, *weight.shape[2:])
        return folded.index_add_(1, torch.arange(old, device=weight.device) % channels, wide)
    copied = torch.arange(channels, device=weight.device) % old
    copies = torch.bincount(copied)[copied]
    return wide[:, copied] / copies.view(-1, *[1] * (weight.dim() - 2))


# ---- Heads ---------------------------------------------------------------------------------------


def _head(model: nn.Module, pairs: Pairs) -> dict[str, Adaptation]:
    """Make weight and bias of the last layer anew, if only its outputs differ."""
    layers = [(path, module) for path, module in model.named_modules() if _is_layer(module)]
    if not layers or not _may_be_head(layers[-1][1]):
        return {}
    path, module = layers[-1]
    prefix = path + "." if path else ""
    shapes = pairs.get(prefix + "weight")
    outputs = 1 if is_conv1d(module) else 0
    if shapes is None or shapes.source == shapes.model or not _differ_only_in(outputs, shapes):
        return {}
    how = f"head of {shapes.model[outputs]} outputs instead of {shapes.source[outputs]}, made anew"
    names = (prefix + "weight", prefix + "bias")
    return {name: Adaptation(how, None) for name in names if _differs(pairs, name)}


def _is_layer(module: nn.Module) -> bool:
    return isinstance(module, (nn.Linear, _ConvNd)) or is_conv1d(module)


def _may_be_head(layer: nn.Module) -> bool:
    """Whether a layer is linear, or a convolution that amounts to it."""
    if isinstance(layer, _ConvNd):
        return math.prod(layer.kernel_size) == 1 and layer.groups == 1 and not layer.transposed
    return True


def _differ_only_in(dim: int, shapes: Shapes) -> bool:
    source, target = (list(shape) for shape in shapes)
    if len(source) != len(target):
        return False
    del source[dim], target[dim]
    return source == target


# ---- Position embeddings -------------------------------------------------------------------------

_POSITIONS = re.compile(r"pos(ition)?(al)?_emb(ed(ding)?s?)?(\.weight)?$")


Grid = tuple[int, int]
"""Rows and columns."""


def _pos_embed(model: nn.Module, pairs: Pairs) -> dict[str, Adaptation]:
    """Adapt position embeddings of images: (1, d, h, w), (1, n, d), or (n, d), with tokens before.

    A table of n positions does not say what grid they form. For the model a module of it may say
    so, else it is a square; for the source it is a square.
    """
    found = {}
    grids = set(_grids(model))
    for name, (source, target) in pairs.items():
        if not _POSITIONS.search(name) or len(source) != len(target):
            continue
        is_image = len(source) == 4
        how = _image(source, target) if is_image else _table(name, source, target, grids)
        if how:
            found[name] = how
    return found


def _image(source: Shape, target: Shape) -> Adaptation | None:
    if source[:2] != target[:2] or source == target:
        return None
    (h, w), (height, width) = source[2:], target[2:]
    how = f"grid {h} x {w} to {height} x {width}, bicubic"
    return Adaptation(how, partial(_resized, size=(height, width)))


def _table(name: str, source: Shape, target: Shape, grids: Collection[Grid]) -> Adaptation | None:
    before = source[:-2], target[:-2]
    if before not in (((), ()), ((1,), (1,))) or source[-1] != target[-1]:
        return None
    count, wanted = source[-2], target[-2]
    known: list[tuple[int, Grid | None]]
    known = [(n, grid) for grid in grids if (n := wanted - math.prod(grid)) in _TOKENS]
    if len(known) > 1:  # several parts of the model have grids
        return None
    if count == wanted and not known:
        how = f"{count} positions as they are: no module says of which grid"
        return Adaptation(how, lambda table: table)
    for tokens, new in known or [(n, _square(wanted - n)) for n in _TOKENS]:
        old = _square(count - tokens)
        if old is None or new is None or old == new:
            continue
        if count == wanted:
            raise ValueError(
                f"{name} has the grid {_text(new)} in the model, and {_text(old)} or {_text(new)} in the "
                "source, which does not say: leave pos_embed out of adapt to take it as it is"
            )
        how = f"grid {_text(old)} to {_text(new)}, bicubic, {tokens} tokens kept"
        return Adaptation(how, partial(resized_positions, tokens=tokens, old=old, new=new))
    return None


_TOKENS = range(3)  # before the grid: none, a class token, a class and a distillation token


def _square(places: int) -> Grid | None:
    side = math.isqrt(max(places, 0))
    return (side, side) if side > 0 and side * side == places else None


def _text(grid: Grid) -> str:
    return f"{grid[0]} x {grid[1]}"


def _grids(model: nn.Module) -> Iterator[Grid]:
    """The grids into which modules say that they cut images.

    They say so in attributes that timm, transformers and torchvision have.
    """
    for module in model.modules():
        for name in ("grid_size", "patches_resolution"):
            grid = _pair(getattr(module, name, None))
            if grid:
                yield grid
        image, patch = (_pair(getattr(module, f"{what}_size", None)) for what in ("image", "patch"))
        if image and patch:
            yield image[0] // patch[0], image[1] // patch[1]


def _pair(size: object) -> Grid | None:
    """A size as two positive numbers; None if a module has anything else under such a name."""
    both = (size, size) if isinstance(size, int) else size
    if not isinstance(both, (tuple, list)) or len(both) != 2:
        return None
    return (both[0], both[1]) if all(isinstance(n, int) and n > 0 for n in both) else None


def resized_positions(table: Tensor, tokens: int, old: Grid, new: Grid) -> Tensor:
    """Resize embeddings (..., tokens + h * w, d) to another grid; the tokens stay as they are."""
    d = table.shape[-1]
    rows = table.float().reshape(-1, d)
    kept, places = rows[:tokens], rows[tokens:]
    grid = places.T.reshape(1, d, *old)
    resized = _resized(grid, new).reshape(d, -1).T
    return torch.cat((kept, resized)).reshape(*table.shape[:-2], -1, d)


def _resized(grid: Tensor, size: tuple[int, int]) -> Tensor:
    return interpolate(grid.float(), size, mode="bicubic", antialias=True)


_KINDS: dict[str, Callable[[nn.Module, Pairs], dict[str, Adaptation]]] = {
    "first_conv": _first_conv,
    "head": _head,
    "pos_embed": _pos_embed,
}
