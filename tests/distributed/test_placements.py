"""Placements become the blocks of indices that torch's own distribution gives each process."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from on_ranks import fake_rank
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.distributed.tensor.placement_types import _StridedShard

from pyinit._sharding.dtensor import pieces_of
from pyinit._sharding.find import sharded


def held(tensor: Any) -> torch.Tensor:
    """What the blocks say that this process holds of a tensor that has numbers in their order."""
    whole = torch.arange(math.prod(tensor.shape)).view(tensor.shape)
    part = sharded(tensor)
    assert part is not None
    local = torch.full(tensor._local_tensor.shape, -1)
    # The pieces are views of the local tensor, so each finds its place by where it lies there.
    base = tensor._local_tensor.storage_offset()
    for piece in part.pieces:
        at = piece.tensor.storage_offset() - base
        local.as_strided(piece.tensor.shape, piece.tensor.stride(), at).copy_(whole[piece.place])
    return local


def check(mesh: Any, shape: Sequence[int], placements: Sequence[Any]) -> None:
    whole = torch.arange(math.prod(shape)).view(*shape)
    tensor = distribute_tensor(whole, mesh, placements, src_data_rank=None)
    assert torch.equal(held(tensor), tensor._local_tensor), (mesh, shape, placements)
    part = sharded(tensor)
    assert part is not None
    # What another rank is told of this one is the same.
    me = torch.distributed.get_rank()
    told = [(tuple(piece.tensor.shape), piece.start) for piece in pieces_of(tensor, me)]
    assert told == [(tuple(piece.tensor.shape), piece.start) for piece in part.pieces]


def meshes(rank: int, sizes: Sequence[int]) -> Any:
    return init_device_mesh("cpu", tuple(sizes))


ON_ONE_DIM = (
    Shard(0),
    Replicate(),
    _StridedShard(0, split_factor=2),
    _StridedShard(0, split_factor=3),
)


@pytest.mark.parametrize("count", range(1, 9))
def test_one_dimension_over_a_mesh_of_one(count: int) -> None:
    for rank in range(count):
        with fake_rank(rank, count):
            mesh = init_device_mesh("cpu", (count,))
            for size, placement in itertools.product(range(10), ON_ONE_DIM):
                check(mesh, (size,), [placement])


MESHES = [(2, 2), (2, 3), (3, 2), (2, 4), (4, 2), (1, 3), (8, 1), (2, 2, 2), (1, 2, 3)]


@pytest.mark.parametrize("sizes", MESHES, ids=str)
def test_one_dimension_over_a_mesh_of_several(sizes: tuple[int, ...]) -> None:
    for rank in range(math.prod(sizes)):
        with fake_rank(rank, math.prod(sizes)):
            mesh = init_device_mesh("cpu", sizes)
            for placements in itertools.product(ON_ONE_DIM[:3], repeat=len(sizes)):
                for size in range(10):
                    check(mesh, (size,), placements)


def shapes() -> Iterator[tuple[int, int, int]]:
    for first in range(10):
        yield first, (first * 7 + 3) % 10, (first * 3 + 1) % 5


@pytest.mark.parametrize("sizes", [(2, 2), (2, 3), (4, 2), (2, 2, 2)], ids=str)
def test_several_dimensions(sizes: tuple[int, ...]) -> None:
    one_each = (Shard(0), Shard(1), Shard(2), Replicate(), _StridedShard(1, split_factor=2))
    for rank in range(math.prod(sizes)):
        with fake_rank(rank, math.prod(sizes)):
            mesh = init_device_mesh("cpu", sizes)
            for placements in itertools.product(one_each, repeat=len(sizes)):
                for shape in shapes() if len(sizes) == 2 else [(7, 5, 4), (0, 3, 2), (1, 9, 8)]:
                    check(mesh, shape, placements)
