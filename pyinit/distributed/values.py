"""The values of a tensor, made piece by piece wherever they are functions of the index alone."""

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from pyinit import fill
from pyinit._random.generators import seeded
from pyinit._random.rng import Key, get_rng
from pyinit.initializers import Blocks, Constant, Drawn, Normal, TruncNormal, Uniform


class Values(Protocol):
    """What fills a tensor."""

    def fill_(self, out: Tensor, first: int) -> None:
        """Give ``out``, of one dimension, the elements of the flattened tensor from ``first`` on."""


# Distributions, whose numbers depend on key, stream and index alone.
_BY_INDEX: dict[type[Drawn], Callable[..., Any]] = {
    Constant: lambda x, out, **_: fill.constant(out, x.val),
    Uniform: lambda x, out, **place: fill.uniform(out, x.a, x.b, **place),
    Normal: lambda x, out, **place: fill.normal(out, x.mean, x.std, **place),
    TruncNormal: lambda x, out, **place: fill.trunc_normal(out, x.mean, x.std, x.a, x.b, **place),
}


def are_by_index(blocks: Blocks) -> bool:
    """Whether each element that the blocks fill depends on its index alone, in pyinit's own numbers."""
    return get_rng() == "philox" and all(type(block.drawn) in _BY_INDEX for block in blocks)


def values_of(blocks: Blocks, shape: tuple[int, ...], dtype: torch.dtype, key: Key) -> Values:
    """What an initializer that resolved to these blocks gives a tensor, as ``initialize_`` does it."""
    if are_by_index(blocks):
        return _ByIndex(blocks, shape, key)
    return Whole(lambda: _made(blocks, shape, dtype, key))


class _ByIndex:
    """Blocks of rows, each filled with numbers of a distribution."""

    def __init__(self, blocks: Blocks, shape: tuple[int, ...], key: Key) -> None:
        size = math.prod(shape)
        self._fills = []
        for block, at in _in_order(blocks, key):
            rows = size // max(1, shape[0]) if block.rows else 0
            begin, end = (rows * row for row in block.rows) if block.rows else (0, size)
            self._fills.append((block.drawn, at, begin, end))

    def fill_(self, out: Tensor, first: int) -> None:
        for drawn, (key, stream), begin, end in self._fills:
            low, high = max(first, begin), min(first + out.numel(), end)
            if low < high:
                _BY_INDEX[type(drawn)](
                    drawn,
                    out[low - first : high - first],
                    key=key,
                    stream=stream,
                    whole=(end - begin,),
                    start=(low - begin,),
                )


class Whole:
    """A tensor that is made whole when its first piece is asked for, and let go of with its last one."""

    def __init__(self, make: Callable[[], Tensor]) -> None:
        self._make = make
        self._flat: Tensor | None = None

    def fill_(self, out: Tensor, first: int) -> None:
        if self._flat is None:
            self._flat = self._make().detach().reshape(-1)
        end = first + out.numel()
        out.copy_(self._flat[first:end])
        if end == len(self._flat):
            self._flat = None


def _in_order(blocks: Blocks, key: Key) -> list[tuple[Any, Key]]:
    """Each block with its key, those of later waves last."""
    keyed = [(block, key.further(k)) for k, block in enumerate(blocks)]
    return sorted(keyed, key=lambda pair: pair[0].wave)


@torch.no_grad()
def _made(blocks: Blocks, shape: tuple[int, ...], dtype: torch.dtype, key: Key) -> Tensor:
    tensor = torch.empty(shape, dtype=dtype, device="cpu")
    for block, at in _in_order(blocks, key):
        with seeded(at, tensor.device):
            block.drawn.fill_(block.of(tensor), at)
    return tensor
