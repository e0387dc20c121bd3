"""What this process holds of a parameter that DeepSpeed's ZeRO-3 has partitioned.

ZeRO-3 cuts the flattened parameter into partitions of one size, one for each rank of its process group,
with padding behind the parameter's end, and leaves an empty tensor in its place. Where the parameter is
gathered for a while, the partition is what lasts.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from pyinit._sharding.sharded import Piece, Sharded
from pyinit._torch.views import is_placeholder


def of_partition(tensor: Tensor) -> Sharded | None:
    """What this process holds of a partitioned parameter; None for other tensors, gathered ones included.

    Raises:
        ValueError: for a partition that is not in memory here, or to which a write would not last.
    """
    if not is_placeholder(tensor):
        return None
    _refuse(tensor, (*_BY_OTHERS, *_NOT_WRITABLE))
    return _held(tensor)


def refuse_gathered(call: str, named: Iterable[tuple[str, Tensor]]) -> None:
    """Refuse to write gathered parameters whose values will be replaced, whatever is written to them.

    call: the function that would write, for the error
    named: the names and tensors that it would write

    Raises:
        ValueError: with the name of the first, and the reason.
    """
    for name, tensor in named:
        if _is_gathered(tensor):
            try:
                _refuse(tensor, _BY_OTHERS)
            except ValueError as error:
                raise ValueError(f"{call} cannot fill {name}: {error}") from None


@torch.no_grad()
def settle_(tensors: Iterable[Tensor]) -> None:
    """Carry the values of gathered parameters over to this process's partitions of them, if writable.

    DeepSpeed drops the gathered values when it frees their memory, unless ``modifier_rank`` tells it
    that they have changed. For other tensors nothing is done.
    """
    for tensor in tensors:
        if (
            tensor.__dict__
            and _is_gathered(tensor)
            and not any(is_so(tensor) for is_so, _ in _NOT_WRITABLE)
        ):
            _held(tensor).take_(tensor.detach())


def _is_gathered(tensor: Tensor) -> bool:
    return tensor.__dict__.get("ds_tensor") is not None and not is_placeholder(tensor)


def _held(tensor: Any) -> Sharded:
    shape, partition = tuple(tensor.ds_shape), tensor.ds_tensor.detach()
    first = torch.distributed.get_rank(tensor.ds_process_group) * len(partition)
    count = min(max(math.prod(shape) - first, 0), len(partition))
    pieces = (Piece(partition[:count], (first,)),) if count else ()
    return Sharded(shape, pieces, is_flat=True, padding=partition[count:])


_Reasons = tuple[tuple[Callable[[Any], bool], str], ...]


def _refuse(tensor: Tensor, reasons: _Reasons) -> None:
    why = next((why for is_so, why in reasons if is_so(tensor)), None)
    if why is not None:
        raise ValueError(f"DeepSpeed's ZeRO-3 has partitioned it, and {why}")


def _status_of(tensor: Any, name: str) -> str:
    """The name of a status of DeepSpeed's; without one, it is as it should be."""
    status: str = getattr(getattr(tensor, name, None), "name", "AVAILABLE")
    return status


def _is_misfit(tensor: Any) -> bool:
    """Whether the partition is not what each rank of the process group has, as where its memory is freed."""
    partition, group = tensor.ds_tensor, tensor.ds_process_group
    ranks = torch.distributed.get_world_size(group)
    return (
        torch.distributed.get_rank(group) < 0
        or tuple(partition.shape) != (-(-math.prod(tensor.ds_shape) // ranks),)
        or partition.is_meta
    )


# In this order: what is told later need not make sense where something before is so.
_BY_OTHERS: _Reasons = (
    (
        lambda tensor: hasattr(tensor, "_z3_optimizer"),
        "its engine's optimizer may hold a copy: initialize the model before deepspeed.initialize",
    ),
)
_NOT_WRITABLE: _Reasons = (
    (
        lambda tensor: getattr(tensor, "ds_tensor", None) is None,
        "has no partition of it yet",
    ),
    (
        lambda tensor: getattr(tensor.ds_tensor, "final_location", None) == "nvme",
        "has offloaded the partition to NVMe",
    ),
    (
        lambda tensor: hasattr(tensor.ds_tensor, "ds_quant_scale"),
        "has quantized the partition",
    ),
    (
        lambda tensor: getattr(tensor, "ds_secondary_tensor", None) is not None,
        "has a secondary partition (zero_hpz_partition_size), which would keep its values",
    ),
    (
        lambda tensor: _status_of(tensor, "ds_status") == "INFLIGHT",
        "is gathering it",
    ),
    (
        lambda tensor: tensor.ds_tensor.dtype is not tensor.dtype,
        "has the partition in another dtype than the parameter's",
    ),
    (
        lambda tensor: _status_of(tensor.ds_tensor, "status") != "AVAILABLE" or _is_misfit(tensor),
        "has the partition elsewhere than in this process's memory",
    ),
)
