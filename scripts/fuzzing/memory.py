"""Where tensors lie: layouts as the text of programs, and guards that show what is written beside a tensor."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pyinit import _core

Shape = tuple[int, ...]

PLACES = ("contiguous", "shifted", "wide", "gaps", "channels_last", "reversed", "odd", "wide_last")
"""Layouts of tensors that may be written to."""
LAYOUTS = (
    *PLACES,
    "expanded",
    "expanded_first",
    "expanded_last",
    "expanded_spatial",
    "negated",
)
"""Layouts of tensors that are read."""

GUARD = 7.0
_AROUND = 64  # elements: a cache line and more, and the alignment stays


def strides_of(shape: Shape, layout: str) -> tuple[Shape, int]:
    """The strides of a layout, and the place of its first element."""
    dims = len(shape)
    order = list(range(dims))
    if layout == "reversed":
        order.reverse()
    elif layout in {"channels_last", "wide_last"} and dims > 2:
        order.append(order.pop(1))
    step, gap, more = 1, 1 + (layout == "gaps"), 3 if layout in {"wide", "wide_last"} else 0
    strides = [0] * dims
    for d in reversed(order):
        strides[d] = step * gap
        step = strides[d] * (max(shape[d], 1) + more)
    if layout == "odd":  # the stride of a dimension of size 1 means nothing
        strides = [
            (1, 77)[i % 2] if n == 1 else s
            for i, (n, s) in enumerate(zip(shape, strides, strict=True))
        ]
    offset = (
        sum(strides) if more else 0 if layout in {"contiguous", "channels_last", "reversed"} else 1
    )
    return tuple(strides), offset


def _extent(shape: Shape, strides: Shape) -> int:
    return (
        sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + 1 if 0 not in shape else 0
    )


def place(values: Tensor, strides: Shape, offset: int = 0) -> Tensor:
    """A tensor of these values at these strides, in memory that is NaN elsewhere."""
    extent = sum((n - 1) * s for n, s in zip(values.shape, strides, strict=True) if n)
    room = torch.full((offset + extent + 9,), torch.nan, dtype=values.dtype)
    return room.as_strided(values.shape, strides, offset).copy_(values)


def laid_out(values: Callable[[Shape], str], shape: Shape, layout: str) -> str:
    """The text of a tensor of that shape and layout; ``values`` gives the text of a dense one."""
    if layout == "contiguous":
        return values(shape)
    if layout == "negated":
        return f"torch._neg_view({values(shape)})"
    if layout.startswith("expanded"):
        which = {
            "expanded": range(len(shape)),
            "expanded_first": range(1),
            "expanded_last": range(len(shape))[-1:],
            "expanded_spatial": range(min(2, len(shape)), len(shape)),
        }[layout]
        few = tuple(min(n, 1) if i in which else n for i, n in enumerate(shape))
        return f"{values(few)}.expand({shape})"
    strides, offset = strides_of(shape, layout)
    return f"place({values(shape)}, {strides}, {offset})"


def dense(values: str, dtype: str) -> Callable[[Shape], str]:
    """The text of random numbers: normal ones, or ``dyadic`` ones, whose products have exact sums."""
    if values == "dyadic":
        return lambda shape: f"(torch.randint(-4, 5, {shape}, dtype=torch.{dtype}) / 4)"
    return lambda shape: f"torch.randn({shape}, dtype=torch.{dtype})"


# ---- Results -------------------------------------------------------------------------------------


def room_of(shape: Shape, layout: str, dtype: str, *, numpy: bool = False) -> list[str]:
    """Lines that make ``out`` within a larger ``room``. As a NumPy array it runs backwards along every dimension."""
    strides, offset = strides_of(shape, layout)
    size = offset + _extent(shape, strides) + _AROUND
    lines = [
        f"room = torch.full(({size + _AROUND},), {GUARD}, dtype=torch.{dtype})",
        f"out = room.as_strided({shape}, {strides}, {offset + _AROUND})",
    ]
    if numpy:
        lines.append(
            "out = out.numpy()" + (f"[{', '.join(['::-1'] * len(shape))}]" if shape else "")
        )
    return lines


def written_beside(names: dict[str, Any], shape: Shape, layout: str) -> bool:
    """Whether anything in ``room`` has changed outside ``out``."""
    strides, offset = strides_of(shape, layout)
    changed = names["room"] != GUARD
    changed.as_strided(shape, strides, offset + _AROUND).fill_(False)
    return bool(changed.any())


@contextmanager
def guarded_allocations() -> Iterator[list[str]]:
    """A context in which pyinit's results are NaN at first, and lie between guards.

    It yields a list, which tells at the end which guards were written to.
    """
    rooms: list[Tensor] = []
    wrong: list[str] = []

    def allocate(shape: Any, strides: Any, dtype: torch.dtype) -> Tensor:
        size = _extent(tuple(shape), tuple(strides))
        room = torch.full((size + 2 * _AROUND,), torch.nan, dtype=dtype)
        for guard in (room[:_AROUND], room[_AROUND + size :]):
            guard.fill_(GUARD)
        rooms.append(room)
        # To autograd the result must be a new tensor, not a view.
        return torch.empty(0, dtype=dtype).set_(
            room.untyped_storage(), _AROUND, tuple(shape), tuple(strides)
        )

    def dense_strides(shape: Any) -> Shape:
        strides = [1]
        for n in reversed(shape[1:]):
            strides.append(strides[-1] * max(n, 1))
        return tuple(reversed(strides))[: len(shape)] if len(shape) else ()

    def empty_strided(shape: Any, strides: Any, *, dtype: Any = None, **others: Any) -> Tensor:
        if dtype not in _FLOATS:
            return originals[0](shape, strides, dtype=dtype, **others)
        return allocate(shape, strides, dtype)

    def empty_like(x: Tensor, **others: Any) -> Tensor:
        like = originals[1](x, **others)
        return allocate(like.shape, like.stride(), like.dtype) if like.dtype in _FLOATS else like

    def new_empty(x: Tensor, *shape: Any, **others: Any) -> Tensor:
        sizes = tuple(shape[0]) if shape and not isinstance(shape[0], int) else shape
        if x.dtype not in _FLOATS or others:
            return originals[2](x, *shape, **others)
        return allocate(sizes, dense_strides(sizes), x.dtype)

    places = (torch, "empty_strided"), (torch, "empty_like"), (Tensor, "new_empty")
    originals = [getattr(owner, name) for owner, name in places]
    for (owner, name), ours in zip(places, (empty_strided, empty_like, new_empty), strict=True):
        setattr(owner, name, ours)
    _core.set_torch_functions(empty_like=empty_like)  # by which convolutions make their outputs
    try:
        yield wrong
    finally:
        _core.set_torch_functions(empty_like=originals[1])
        for (owner, name), original in zip(places, originals, strict=True):
            setattr(owner, name, original)
        wrong.extend(
            f"written beside a result of {len(room) - 2 * _AROUND} elements"
            for room in rooms
            if bool((room[:_AROUND] != GUARD).any() or (room[-_AROUND:] != GUARD).any())
        )


_FLOATS = (torch.float32, torch.float64)
