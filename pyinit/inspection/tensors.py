"""A model's parameters and buffers: by name, where their elements are, and what they hold."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from pyinit import _core
from pyinit._torch.placement import elsewhere
from pyinit._torch.views import plain_memory
from pyinit._torch.wrappers import named_modules

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
    tensor = tensor.detach()
    if tensor.dtype is torch.complex128:
        tensor = torch.view_as_real(tensor)
    for dim, stride in enumerate(tensor.stride()):
        if stride == 0 and tensor.shape[dim] > 1:
            tensor = tensor.narrow(dim, 0, 1)
    return tensor if tensor.dtype is torch.bool else tensor.view(_INTEGERS[tensor.element_size()])


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
    view = plain_memory(tensor)
    found = None if view is None else _core.digest(view, torch.get_num_threads())
    if found is not None:
        return found
    hashed = blake2b(digest_size=8)
    if tensor.numel():
        for part in parts(bits(tensor)):
            hashed.update(part.contiguous().cpu().numpy().tobytes())
    return int.from_bytes(hashed.digest(), "little")


@dataclass(frozen=True)
class Statistics:
    """What a tensor holds. Moments are NaN if not all elements are finite.

    low, high: elements at or beyond the bounds asked for
    """

    count: int
    mean: float
    std: float
    kurtosis: float
    min: float
    max: float
    zeros: int
    nonfinite: int
    low: int = 0
    high: int = 0

    @property
    def is_constant(self) -> bool:
        return self.count > 0 and self.min == self.max

    @property
    def z(self) -> float:
        """The mean in standard errors: how far it is from 0, for so many independent elements."""
        return self.mean / self.std * math.sqrt(self.count) if self.std > 0 else math.nan


_EVERYWHERE = (-math.inf, math.inf)


def described(
    tensors: Sequence[Tensor], bounds: Sequence[tuple[float, float]] | None = None
) -> list[Statistics | None]:
    """Of each; None of those without elements or that are not of real floating-point numbers."""
    bounds = [_EVERYWHERE] * len(tensors) if bounds is None else bounds
    found: list[Statistics | None] = [None] * len(tensors)
    views = [(i, plain_memory(t)) for i, t in enumerate(tensors) if t.numel()]
    native = [(i, view) for i, view in views if view is not None]
    rows = _core.describe_many(
        [view for _, view in native], [bounds[i] for i, _ in native], torch.get_num_threads()
    )
    for (i, _), (count, mean, squares, _, fourths, *rest) in zip(native, rows, strict=True):
        found[i] = _statistics(count, mean, squares, fourths, *rest)
    for i, view in views:
        if view is None and tensors[i].is_floating_point() and not tensors[i].is_meta:
            found[i] = _by_torch(tensors[i].detach(), *bounds[i])
    return found


def _statistics(
    count: int, mean: float, squares: float, fourths: float, *rest: float
) -> Statistics:
    least, most, zeros, nonfinite, low, high = rest
    kurtosis = fourths * count / squares**2 if squares > 0 else math.nan
    std = math.sqrt(squares / count) if squares >= 0 else math.nan
    counts = map(int, (zeros, nonfinite, low, high))
    return Statistics(count, mean, std, kurtosis, least, most, *counts)


def _by_torch(tensor: Tensor, low: float, high: float) -> Statistics:
    """Of dtypes and devices that the kernels do not reach."""
    values = tensor.float() if tensor.itemsize < 4 else tensor
    centred = (values - values.mean()).double()
    counts = ((values == 0), ~values.isfinite(), (values <= low), (values >= high))
    return _statistics(
        values.numel(),
        float(values.mean()),
        float(centred.square().sum()),
        float(centred.pow(4).sum()),
        float(values.min()),
        float(values.max()),
        *(int(count.sum()) for count in counts),
    )
