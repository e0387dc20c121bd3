"""What this process holds of a DTensor, by its mesh and placements."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import Any

import torch
from torch import Tensor

from pyinit._sharding.sharded import Indices, Piece, Sharded
from pyinit._torch.placement import is_dtensor

Span = tuple[int, int]
"""Indices of one dimension: the first, and the one after the last."""

Cut = tuple[int, int]
"""The dimension that is split over a dimension of a mesh, and the chunks that it is split into before."""

Block = tuple[tuple[tuple[int, int, int], ...], Indices]
"""A block of a local tensor: dimensions to narrow, with start and length, and its place in the whole."""


def of_dtensor(tensor: Tensor) -> Sharded | None:
    """What this process holds of a DTensor; None for other tensors.

    Raises:
        ValueError: for placements without elements of their own, as ``Partial`` has.
    """
    if not is_dtensor(tensor):
        return None
    whole: Any = tensor
    shape = tuple(tensor.shape)
    coordinate = whole.device_mesh.get_coordinate()
    if coordinate is None:  # the process is not in the mesh
        return Sharded(shape, ())
    blocks = _blocks(shape, whole.device_mesh.shape, _cuts(whole.placements), tuple(coordinate))
    return Sharded(shape, _pieces(whole._local_tensor.detach(), blocks))


def is_held_by_all(tensor: Tensor) -> bool:
    """Whether each rank of a DTensor's mesh holds elements of it: the last one has the fewest."""
    whole: Any = tensor
    mesh = whole.device_mesh
    last = [size - 1 for size in mesh.shape]
    return all(_held_spans(tuple(tensor.shape), mesh.shape, _cuts(whole.placements), last))


def ranks_of(tensor: Tensor) -> tuple[int, ...]:
    """The ranks of a DTensor's mesh; none for other tensors.

    Raises:
        ValueError: for a mesh of several, not all of which are in the process group.
    """
    if not is_dtensor(tensor):
        return ()
    whole: Any = tensor
    ranks = ranks_in(whole.device_mesh)
    group = torch.distributed.is_initialized() and torch.distributed.get_world_size()
    if len(ranks) > 1 and max(ranks) >= group:
        raise ValueError(
            f"a DTensor's mesh must consist of ranks of the process group, which has {int(group)}; it has "
            f"rank {max(ranks)}"
        )
    return ranks


def ranks_in(mesh: Any) -> tuple[int, ...]:
    """The ranks of a mesh, in its order."""
    return tuple(mesh.mesh.flatten().tolist())


def pieces_of(tensor: Tensor, rank: int) -> tuple[Piece, ...]:
    """The pieces that a rank of its mesh holds of a DTensor, on the meta device."""
    whole: Any = tensor
    mesh = whole.device_mesh
    (coordinate,) = (mesh.mesh == rank).nonzero().tolist()
    shape, cuts = tuple(tensor.shape), _cuts(whole.placements)
    spans = _held_spans(shape, mesh.shape, cuts, coordinate)
    sizes = [sum(last - first for first, last in each) for each in spans]
    local = torch.empty(sizes, device="meta")
    return _pieces(local, _blocks(shape, mesh.shape, cuts, tuple(coordinate)))


def _cuts(placements: Sequence[Any]) -> tuple[Cut | None, ...]:
    """How each dimension of a mesh splits a tensor; None where its processes hold the same.

    Raises:
        ValueError: for placements that are neither ``Shard`` nor ``Replicate``.
    """
    cuts: list[Cut | None] = []
    for placement in placements:
        if placement.is_replicate():
            cuts.append(None)
            continue
        dim = getattr(placement, "dim", None)
        if dim is None or placement.is_partial():
            raise ValueError(
                f"a DTensor must be placed by Shard and Replicate, got {placement}: its elements are "
                "sums over processes"
            )
        # A _StridedShard is split into so many chunks first, of which each is split over the mesh.
        cuts.append((dim, getattr(placement, "split_factor", 1)))
    return tuple(cuts)


def _held_spans(
    shape: Indices, sizes: Sequence[int], cuts: Sequence[Cut | None], coordinate: Sequence[int]
) -> list[list[Span]]:
    """For each dimension the indices that a process holds, in the order of its memory.

    sizes: the mesh's, of each of its dimensions
    coordinate: the process's place in the mesh
    """
    spans = [[(0, size)] for size in shape]
    for cut, count, at in zip(cuts, sizes, coordinate, strict=True):
        if cut is None:
            continue
        dim, chunks = cut
        whole = spans[dim]
        parts = [_chunk(whole, chunks, i) for i in range(chunks)] if chunks > 1 else [whole]
        spans[dim] = _joined([span for part in parts for span in _chunk(part, count, at)])
    return spans


def _chunk(spans: list[Span], count: int, at: int) -> list[Span]:
    """The indices that chunk ``at`` of ``count`` has, as ``torch.chunk`` splits them."""
    size = -(-sum(last - first for first, last in spans) // count)
    low, high = at * size, (at + 1) * size
    found = []
    before = 0
    for first, last in spans:
        begin, end = max(first, first + low - before), min(last, first + high - before)
        if begin < end:
            found.append((begin, end))
        before += last - first
    return found


def _joined(spans: list[Span]) -> list[Span]:
    joined: list[Span] = []
    for first, last in spans:
        if joined and joined[-1][1] == first:
            joined[-1] = joined[-1][0], last
        else:
            joined.append((first, last))
    return joined


@lru_cache(maxsize=4096)  # a model's parameters have few layouts
def _blocks(
    shape: Indices, sizes: Indices, cuts: tuple[Cut | None, ...], coordinate: Indices
) -> tuple[Block, ...]:
    """The blocks of a local tensor, which holds all combinations of the spans' indices."""
    spans = _held_spans(shape, sizes, cuts, coordinate)
    blocks = []
    for block in product(*(list(_placed(each)) for each in spans)):
        narrowed = tuple(
            (dim, at, last - first)
            for dim, (at, (first, last)) in enumerate(block)
            if len(spans[dim]) > 1
        )
        blocks.append((narrowed, tuple(first for _, (first, _) in block)))
    return tuple(blocks)


def _pieces(local: Tensor, blocks: tuple[Block, ...]) -> tuple[Piece, ...]:
    pieces = []
    for narrowed, start in blocks:
        part = local
        for dim, at, size in narrowed:
            part = part.narrow(dim, at, size)
        pieces.append(Piece(part, start))
    return tuple(pieces)


def _placed(spans: list[Span]) -> list[tuple[int, Span]]:
    """Each span with its place in the local tensor."""
    at, placed = 0, []
    for first, last in spans:
        placed.append((at, (first, last)))
        at += last - first
    return placed
