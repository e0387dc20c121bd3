"""Tensors as the extension's functions take them."""

from torch import Tensor

from pyinit import _core
from pyinit._torch.views import View


def target(tensor: Tensor) -> View:
    """Its address, dtype, shape and strides. The caller keeps the tensor alive."""
    memory = _core.dlpack_memory(tensor)
    assert memory is not None
    return memory
