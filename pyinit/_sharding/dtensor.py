"""What this process holds of a DTensor, by its mesh and placements."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from pyinit._sharding.sharded import Indices, Piece, Sharded
from pyinit._torch.placement import loaded

Span = tuple[int, int]
"""Indices of one dimension: the first, and the one after the last."""


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
    spans = held_spans(shape, whole.device_mesh.shape, whole.placements, coordinate)
    return Sharded(shape, tuple(_pieces(whole._local_tensor.detach(), spans)))


def ranks_of(tensor: Tensor) -> tuple[int, ...]:
    """The ranks of a DTensor's mesh; none for other tensors.

    Raises:
        ValueError: for a mesh of several, not all of which are in the process group.
    """
    if not is_dtensor(tensor):
        return ()
    whole: Any = tensor
    ranks = tuple(whole.device_mesh.mesh.flatten().tolist())
    group = torch.distributed.is_initialized() and torch.distributed.get_world_size()
    if len(ranks) > 1 and max(ranks) >= group:
        raise ValueError(
            f"a DTensor's mesh must consist of ranks of the process group, which has {int(group)}; it has "
            f"rank {max(ranks)}"
        )
    return ranks


def pieces_of(tensor: Tensor, rank: int) -> tuple[Piece, ...]:
    """The pieces that a rank of its mesh holds of a DTensor, on the meta device."""
    whole: Any = tensor
    mesh = whole.device_mesh
    (coordinate,) = (mesh.mesh == rank).nonzero().tolist()
    spans = held_spans(tuple(tensor.shape), mesh.shape, whole.placements, coordinate)
    sizes = [sum(last - first for first, last in each) for each in spans]
    return tuple(_pieces(torch.empty(sizes, device="meta"), spans))


def is_dtensor(tensor: object) -> bool:
    """Whether it is a DTensor. A program without any has not imported their module."""
    cls = loaded("torch.distributed.tensor", "DTensor")
    return cls is not None and isinstance(tensor, cls)


def held_spans(
    shape: Indices, sizes: Sequence[int], placements: Sequence[Any], coordinate: Sequence[int]
) -> list[list[Span]]:
    """For each dimension the indices that a process holds, in the order of its memory.

    sizes: the mesh's, of each of its dimensions
    coordinate: the process's place in the mesh

    Raises:
        ValueError: for placements that are neither ``Shard`` nor ``Replicate``.
    """
    spans = [[(0, size)] for size in shape]
    for placement, count, at in zip(placements, sizes, coordinate, strict=True):
        if placement.is_replicate():
            continue
        # A _StridedShard is split into so many chunks first, of which each is split over the mesh.
        chunks = getattr(placement, "split_factor", 1)
        dim = getattr(placement, "dim", None)
        if dim is None or placement.is_partial():
            raise ValueError(
                f"a DTensor must be placed by Shard and Replicate, got {placement}: its elements are "
                "sums over processes"
            )
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


def _pieces(local: Tensor, spans: list[list[Span]]) -> list[Piece]:
    """The blocks of a local tensor, which holds all combinations of the spans' indices."""
    pieces = []
    for block in product(*(list(_placed(each)) for each in spans)):
        part = local
        for dim, (at, (first, last)) in enumerate(block):
            part = part.narrow(dim, at, last - first)
        pieces.append(Piece(part, tuple(first for _, (first, _) in block)))
    return pieces


def _placed(spans: list[Span]) -> list[tuple[int, Span]]:
    """Each span with its place in the local tensor."""
    at, placed = 0, []
    for first, last in spans:
        placed.append((at, (first, last)))
        at += last - first
    return placed
