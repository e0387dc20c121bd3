"""Tensors compared as bits: NaN equals itself, and -0.0 is not 0.0."""

import hashlib

import torch
from torch import Tensor

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def bits(tensor: Tensor) -> Tensor:
    """The elements as integers of the same size."""
    if tensor.layout is torch.sparse_coo:
        tensor = tensor.to_dense()
    return tensor.detach().contiguous().view(_INTEGERS[tensor.element_size()])


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are alike in shape, dtype and every bit."""
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    return torch.equal(bits(one), bits(other).to(one.device))


def digest(*tensors: Tensor) -> str:
    """A checksum of all bits, in the order of the elements."""
    parts = [t.contiguous().view(torch.uint8).numpy().tobytes() for t in tensors]
    return hashlib.sha256(b"".join(parts)).hexdigest()
