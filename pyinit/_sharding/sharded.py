"""What a process holds of a tensor that is larger than its memory here: blocks of it, and where they lie."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

Indices = tuple[int, ...]


class Piece(NamedTuple):
    """A rectangular block of a larger tensor.

    tensor: the block's elements, in memory of this process
    start: the index of its first element in the larger tensor
    """

    tensor: Tensor
    start: Indices

    @property
    def place(self) -> tuple[slice, ...]:
        """Its indices in the larger tensor."""
        sizes = zip(self.start, self.tensor.shape, strict=True)
        return tuple(slice(at, at + size) for at, size in sizes)

    def rows(self, first: int, last: int) -> "Piece | None":
        """What it has of these indices of dim 0, as a block of the tensor that consists of them."""
        begin, *others = self.start
        low, high = max(begin, first), min(begin + len(self.tensor), last)
        if low >= high:
            return None
        return Piece(self.tensor[low - begin : high - begin], (low - first, *others))


@dataclass(frozen=True)
class Sharded:
    """A tensor of which this process holds some blocks.

    shape: the shape of the whole
    pieces: the blocks that are held, none of which has elements in common with another
    is_flat: whether the pieces are blocks of the whole with all of its dimensions flattened to one
    padding: memory of this process that stands for no element of the whole
    """

    shape: Indices
    pieces: tuple[Piece, ...]
    is_flat: bool = False
    padding: Tensor | None = None

    @property
    def whole(self) -> Indices:
        """The shape of the tensor that the pieces are blocks of."""
        return (math.prod(self.shape),) if self.is_flat else self.shape

    def rows(self, first: int, last: int) -> "Sharded":
        """What is held of these indices of dim 0, as a tensor of its own."""
        shape = (last - first, *self.shape[1:])
        each = math.prod(self.shape[1:]) if self.is_flat else 1
        pieces = (piece.rows(first * each, last * each) for piece in self.pieces)
        held = tuple(piece for piece in pieces if piece is not None)
        return dataclasses.replace(self, shape=shape, pieces=held)

    def take_(self, whole: Tensor) -> None:
        """Copy the pieces from a tensor that has all elements."""
        source = whole.reshape(self.whole) if self.is_flat else whole
        for piece in self.pieces:
            piece.tensor.copy_(source[piece.place])
        if self.padding is not None:
            self.padding.zero_()


Find = Callable[[Tensor], Sharded | None]


def tiles(piece: Piece, most: int) -> Iterator[Piece]:
    """The piece in parts of about so many elements at most, along its first dimensions."""
    tensor, start = piece
    if tensor.numel() <= most:
        yield piece
        return
    dim = next(d for d, n in enumerate(tensor.shape) if n > 1)
    step = max(1, most * tensor.shape[dim] // tensor.numel())
    for low in range(0, tensor.shape[dim], step):
        part = tensor.narrow(dim, low, min(step, tensor.shape[dim] - low))
        place = tuple(at + low * (d == dim) for d, at in enumerate(start))
        yield from tiles(Piece(part, place), most)
