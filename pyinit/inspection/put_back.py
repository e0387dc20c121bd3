"""All of a model put back bit for bit, whatever has written to it: kernels, optimizers, modules."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pyinit._graph.undisturbed import snapshot


@contextmanager
def put_back(model: nn.Module) -> Iterator[None]:
    """Copy a model's parameters and buffers, and at the end put them back, as ``requires_grad``,
    ``grad``, modes and attributes.

    They are copied whole: what was in them comes from nowhere else.
    """
    restore = snapshot(model)
    tensors = list({id(each): each for each in _tensors(model)}.values())
    leaves = [
        (each, each.requires_grad, each.grad, None if each.grad is None else each.grad.clone())
        for each in tensors
        if each.is_leaf
    ]
    places = [(each, each.detach()) for each in tensors]
    strided = [place for _, place in places if place.layout is torch.strided]
    storages = {s._cdata: s for s in (place.untyped_storage() for place in strided)}
    copies = [(storage, storage.clone()) for storage in storages.values()]  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        restore()
        for storage, before in copies:
            storage.copy_(before)
        for tensor, place in places:
            if place.layout is torch.strided and tensor.data_ptr() != place.data_ptr():
                tensor.data = place
        for tensor, requires_grad, grad, before in leaves:
            if tensor.requires_grad != requires_grad:
                tensor.requires_grad_(requires_grad)
            tensor.grad = grad
            if grad is not None and before is not None:
                with torch.no_grad():
                    grad.copy_(before)


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            yield from (each for each in held.values() if each is not None)
