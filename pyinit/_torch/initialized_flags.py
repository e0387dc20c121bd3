"""The mark by which transformers knows what holds its first values: its guarded functions leave that alone."""

from collections.abc import Iterable

from torch import Tensor, nn

FLAG = "_is_hf_initialized"


def set_initialized(tensors: Iterable[Tensor]) -> None:
    """Mark tensors."""
    for tensor in tensors:
        setattr(tensor, FLAG, True)


def is_initialized(tensor: Tensor) -> bool:
    """Whether a tensor is marked."""
    return getattr(tensor, FLAG, False) is True


def clear_initialized(model: nn.Module) -> None:
    """Take the marks away from a model's modules, parameters and buffers."""
    for module in model.modules():
        for holder in (module, *module._parameters.values(), *module._buffers.values()):
            if holder is not None:
                vars(holder).pop(FLAG, None)
