"""64 bits that tell whether a tensor holds what it held."""

from collections.abc import Iterator
from hashlib import blake2b

import torch
from torch import Tensor

from pyinit import _core
from pyinit._torch.views import readable_view

_CHUNK = 2**22  # elements whose temporary copies are made at once
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@torch.no_grad()
def digest(tensor: Tensor) -> int:
    """64 bits of its elements: the same for the same values in the same dtype, shape and layout."""
    view = readable_view(tensor)
    found = None if view is None else _core.digest(view, torch.get_num_threads())
    if found is not None:
        return found
    hashed = blake2b(digest_size=8)
    if tensor.numel():
        for part in parts(bits(tensor)):
            hashed.update(part.contiguous().cpu().numpy().tobytes())
    return int.from_bytes(hashed.digest(), "little")


def bits(tensor: Tensor) -> Tensor:
    """Its elements, each once, as integers of the same size (bool: as they are; complex128: as two)."""
    tensor = once_each(tensor)
    if tensor.dtype is torch.complex128:
        tensor = torch.view_as_real(tensor)
    return tensor if tensor.dtype is torch.bool else tensor.view(_INTEGERS[tensor.element_size()])


def once_each(tensor: Tensor) -> Tensor:
    """Its elements, each once: an expanded tensor as it was before."""
    tensor = tensor.detach()
    for dim, stride in enumerate(tensor.stride()):
        if stride == 0 and tensor.shape[dim] > 1:
            tensor = tensor.narrow(dim, 0, 1)
    return tensor


def parts(tensor: Tensor) -> Iterator[Tensor]:
    """Parts of a tensor, by rows, that are small enough to be copied."""
    if tensor.numel() <= _CHUNK or tensor.ndim == 0:
        yield tensor
        return
    rows = max(1, _CHUNK * tensor.shape[0] // tensor.numel())
    for part in torch.split(tensor, rows):
        if part.numel() <= _CHUNK:
            yield part
        else:  # a single row, longer than that
            yield from parts(part[0])
