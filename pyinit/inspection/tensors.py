"""A model's parameters and buffers: by name, where their elements are, and what they hold."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from pyinit._torch.placement import elsewhere
from pyinit._torch.wrappers import named_modules
from pyinit.inspection.statistics import Bounds, Statistics, describe_many

_SAMPLE = 4096  # elements


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


def sample(tensor: Tensor) -> Tensor:
    """The first elements, where they lie side by side; otherwise all."""
    return tensor.detach().view(-1)[:_SAMPLE] if tensor.is_contiguous() else tensor.detach()


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
