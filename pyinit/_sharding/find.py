"""Which tensors this process holds only in part, or holds where no kernel reaches."""

import torch
from torch import Tensor
from torch.nn import Parameter

from pyinit._device import fills as device_fills
from pyinit._random.rng import Key, Source
from pyinit._sharding.dtensor import of_dtensor
from pyinit._sharding.sharded import Find, Piece, Sharded
from pyinit._sharding.zero3 import of_partition
from pyinit._torch.views import DTYPES, is_transformed, overridden

_KINDS: tuple[Find, ...] = (of_dtensor, of_partition)


def sharded(tensor: Tensor) -> Sharded | None:
    """What this process holds of a tensor that is spread over several; None for one that is not.

    Raises:
        ValueError: for one whose elements cannot be told from what the process holds.
    """
    if type(tensor) is Parameter and not tensor.__dict__:  # all that are spread out bear marks
        return None
    return next((found for of in _KINDS if (found := of(tensor)) is not None), None)


def held(tensor: Tensor, source: Source = None) -> Sharded | None:
    """What this process holds of a tensor that no kernel writes as it is; None for what is torch's to fill.

    With a ``Key`` a tensor has the same numbers on any device, so a plain tensor on a device that
    pyinit has no kernels for counts, too: all of it is held.
    """
    if is_transformed():
        return None
    # A tensor of another kind is told by its type alone: it, and torch's modes, see all else that is asked.
    found = sharded(tensor)
    if found is None and type(source) is Key and _is_out_of_reach(tensor):
        found = Sharded(tuple(tensor.shape), (Piece(tensor.detach(), (0,) * tensor.dim()),))
    return None if found is None or tensor.dtype not in DTYPES else found


def _is_out_of_reach(tensor: Tensor) -> bool:
    """Whether a plain tensor has memory on a device that pyinit has no kernels for."""
    is_plain = (type(tensor) is Tensor or type(tensor) is Parameter) and not overridden(tensor)
    return (
        is_plain
        and not has_kernels(tensor)
        and not tensor.is_meta
        and tensor.layout is torch.strided
    )


def is_held(tensor: Tensor, source: Source) -> bool:
    """Whether ``held`` finds anything."""
    return held(tensor, source) is not None


def has_kernels(tensor: Tensor) -> bool:
    """Whether pyinit has kernels for the device on which a plain tensor is."""
    return tensor.is_cpu or device_fills.has_kernels_for(tensor)
