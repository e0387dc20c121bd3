"""Makes tensors whole, each on one of the processes that hold it, and hands the others their slices."""

import math
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyinit._sharding.dtensor import pieces_of
from pyinit._sharding.sharded import Piece, Sharded

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for another, which may be making a large matrix meanwhile."""


class Made(NamedTuple):
    """A tensor whose elements depend on each other, so that it has to be made whole.

    tensor: the tensor
    part: what this process holds of it
    cost: how much work it is, beside the others
    make: makes the whole
    ranks: those that share the work, in the same order on each; without any, each process does it all
    """

    tensor: Tensor
    part: Sharded
    cost: float
    make: Callable[[], Tensor]
    ranks: tuple[int, ...] = ()


def cost_of(shape: tuple[int, ...]) -> float:
    """About how much work a matrix of the shape is, beside others: that of making it orthogonal."""
    count = math.prod(shape)
    rows = shape[0] if shape else 1
    return float(count) * min(rows, count // max(1, rows))


_WORTH = 1e7
"""The cost from which on slices are worth sending: about a matrix of 215 x 215."""


def fill_made(listed: Sequence[Made]) -> None:
    """Fill what this process holds of each.

    All processes that hold parts of them must call this with the same tensors in the same order. Each
    makes some of them, about as much work as the others, one at a time. Small ones each makes for itself:
    to hand them out would take longer.
    """
    by_ranks: dict[tuple[int, ...], list[Made]] = {}
    for one in listed:
        by_ranks.setdefault(one.ranks if one.cost >= _WORTH else (), []).append(one)
    for ranks, some in by_ranks.items():
        if len(ranks) <= 1:
            for one in some:
                _take(one.part, one.make())
        else:
            _fill_together(some, ranks)


@torch.no_grad()
def _take(part: Sharded, whole: Tensor) -> None:
    part.take_(whole)


def _fill_together(listed: Sequence[Made], ranks: tuple[int, ...]) -> None:
    me = torch.distributed.get_rank()
    for turn in _turns(listed, ranks):
        _fill_in_turn(turn, me)


def _turns(listed: Sequence[Made], ranks: tuple[int, ...]) -> Iterator[dict[int, Made]]:
    """Who makes what: in each turn a rank makes at most one tensor."""
    shares: dict[int, list[Made]] = {rank: [] for rank in ranks}
    loads = dict.fromkeys(ranks, 0.0)
    for one in sorted(listed, key=lambda one: -one.cost):
        rank = min(ranks, key=lambda rank: loads[rank])
        shares[rank].append(one)
        loads[rank] += one.cost
    for turn in range(max(map(len, shares.values()))):
        yield {rank: share[turn] for rank, share in shares.items() if turn < len(share)}


@torch.no_grad()
def _fill_in_turn(turn: dict[int, Made], me: int) -> None:
    arriving = []
    for rank, one in turn.items():
        if rank != me and one.part.pieces:
            buffer = _buffer(one.part.pieces)
            work = _begun(torch.distributed.irecv, buffer, "make", rank)
            arriving.append((rank, one.part.pieces, buffer, work))
    if me in turn:
        one = turn[me]
        whole = one.make()
        for rank in one.ranks:
            pieces = pieces_of(one.tensor, rank)
            if rank == me:
                one.part.take_(whole)
            elif pieces:
                slices = [whole[piece.place].reshape(-1) for piece in pieces]
                buffer = slices[0] if len(slices) == 1 else torch.cat(slices)
                _wait(_begun(torch.distributed.isend, buffer, "take", rank), "take", rank)
    for rank, pieces, buffer, work in arriving:
        _wait(work, "make", rank)
        _take_from(buffer, pieces)


def _buffer(pieces: Sequence[Piece]) -> Tensor:
    """Memory for the elements of all pieces: that of the only one, if these lie one after the other there."""
    first = pieces[0].tensor
    if len(pieces) == 1 and first.is_contiguous():
        return first.view(-1)
    count = sum(piece.tensor.numel() for piece in pieces)
    return torch.empty(count, dtype=first.dtype, device=first.device)


def _take_from(buffer: Tensor, pieces: Sequence[Piece]) -> None:
    if buffer.data_ptr() == pieces[0].tensor.data_ptr():
        torch._C._increment_version([pieces[0].tensor])
        return
    sizes = [piece.tensor.numel() for piece in pieces]
    for (tensor, _), values in zip(pieces, torch.split(buffer, sizes), strict=True):
        tensor.copy_(values.view(tensor.shape))


def _bytes(buffer: Tensor) -> Tensor:
    """The same memory as bytes, which all process groups send."""
    return buffer.contiguous().view(torch.uint8)


def _begun(start: Callable[..., Any], buffer: Tensor, what: str, rank: int) -> Any:
    try:
        return start(_bytes(buffer), rank)
    except RuntimeError as error:  # of a connection that has ended before
        raise RuntimeError(f"rank {rank} cannot {what} its matrices: {error}") from error


def _wait(work: Any, what: str, rank: int) -> None:
    try:
        done = work.wait(TIMEOUT)
    except RuntimeError as error:
        raise RuntimeError(
            f"rank {rank} did not {what} its matrices within {TIMEOUT}, or is gone: {error}"
        ) from error
    if done is False:
        raise RuntimeError(f"rank {rank} did not {what} its matrices within {TIMEOUT}")
