"""Parameters as DeepSpeed's ZeRO-3 leaves them: a partition of the flattened parameter, and an empty tensor in its place."""

import enum
from collections.abc import Callable
from typing import Any

import torch
from on_ranks import fake_rank
from torch import Tensor, nn


class Status(enum.Enum):
    """DeepSpeed's, of a parameter and of a partition."""

    AVAILABLE = 1
    NOT_AVAILABLE = 2
    INFLIGHT = 3


def partition(parameter: Any, group: Any = None) -> None:
    """Partition a parameter over a process group, of all ranks if none is given."""
    values = parameter.detach().reshape(-1)
    ranks = torch.distributed.get_world_size(group)
    first = torch.distributed.get_rank(group) * (size := -(-len(values) // ranks))
    held: Any = torch.full((size,), torch.nan, dtype=values.dtype)
    some = values[first : first + size]
    held[: len(some)] = some
    held.ds_numel, held.status, held.final_location = size, Status.AVAILABLE, None
    parameter.ds_shape, parameter.ds_numel = parameter.shape, parameter.numel()
    parameter.ds_tensor, parameter.ds_secondary_tensor = held, None
    parameter.ds_process_group = group or torch.distributed.group.WORLD
    parameter.ds_persist = False
    free(parameter)


def free(parameter: Any) -> None:
    parameter.data = torch.empty(0, dtype=parameter.dtype)
    parameter.ds_status = Status.NOT_AVAILABLE


def partition_all(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        partition(parameter)
    return module


def held_by_ranks(ranks: int, make: Callable[[], Any]) -> list[Any]:
    """What each of so many ranks makes, one after the other: none can wait for another."""
    made = []
    for rank in range(ranks):
        with fake_rank(rank, ranks):
            made.append(make())
    return made


def gathered(parameters: list[Any]) -> Tensor:
    """A parameter as its ranks hold it, whose padding must be zero."""
    first = parameters[0]
    flat = torch.cat([parameter.ds_tensor for parameter in parameters])
    assert not flat[first.ds_numel :].any()
    return flat[: first.ds_numel].view(first.ds_shape)
