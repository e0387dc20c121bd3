"""A model's parameters and buffers: by name, where their elements are, and what they hold."""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from pyinit import _core
from pyinit._torch.placement import elsewhere
from pyinit._torch.views import readable_view
from pyinit._torch.wrappers import named_modules
from pyinit.inspection.statistics import Bounds, Statistics, describe_many

_SAMPLE = 4096  # elements
_CHUNK = 2**22  # elements whose temporary copies are made at once


class Held(NamedTuple):
    """A parameter or buffer of a model.

    name, tied: its qualified name, the first if it has several, and the further ones
    module: that owns it
    """

    name: str
    tensor: Tensor
    module: nn.Module
    is_parameter: bool
    tied: tuple[str, ...] = ()


def held_by(model: nn.Module) -> list[Held]:
    """All parameters and buffers, each once, parameters of a module before its buffers.

    Raises:
        ValueError: for a parameter without a shape.
    """
    found: dict[int, Held] = {}
    for path, module in named_modules(model):
        for tensors, is_parameter in ((module._parameters, True), (module._buffers, False)):
            for leaf, tensor in tensors.items():
                if tensor is None:
                    continue
                name = f"{path}.{leaf}" if path else leaf
                if is_lazy(tensor):
                    raise ValueError(
                        f"{name} has no shape yet: it is lazy; run a batch through the model first"
                    )
                known = found.get(id(tensor))
                found[id(tensor)] = (
                    Held(name, tensor, module, is_parameter)
                    if known is None
                    else known._replace(tied=(*known.tied, name))
                )
    return list(found.values())


def not_examined(tensor: Tensor) -> str | None:
    """Why nothing can be said of a tensor's elements, in words; None if they are here."""
    if tensor.is_quantized:
        return "quantized"
    if tensor.layout is not torch.strided or tensor.is_nested:
        return f"of layout {tensor.layout}"
    return elsewhere(tensor)


def examinable(model: nn.Module) -> list[Held]:
    """The parameters and buffers whose memory is here."""
    return [
        held
        for held in held_by(model)
        if not held.tensor.is_meta and held.tensor.numel() and not_examined(held.tensor) is None
    ]


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


_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def sample(tensor: Tensor) -> Tensor:
    """The first elements, where they lie side by side; otherwise all."""
    return tensor.detach().view(-1)[:_SAMPLE] if tensor.is_contiguous() else tensor.detach()


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


def described(
    tensors: Sequence[Tensor], bounds: Sequence[Bounds] | None = None
) -> list[Statistics | None]:
    """The statistics of each; None of those without elements here, or of other than real numbers with
    fractions."""
    known = [
        i
        for i, tensor in enumerate(tensors)
        if tensor.is_floating_point() and tensor.numel() and not tensor.is_meta
    ]
    limits = None if bounds is None else [bounds[i] for i in known]
    found: list[Statistics | None] = [None] * len(tensors)
    with torch.device("cpu"):  # whatever device is the default
        rows = describe_many([tensors[i] for i in known], limits)
    for i, one in zip(known, rows, strict=True):
        found[i] = one
    return found
