"""Norms of many tensors, summed in double precision."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


def norms(tensors: Iterable[Tensor]) -> list[float]:
    """The Euclidean norm of each tensor, one after the other. Each device is waited for once."""
    by_device: dict[torch.device, dict[int, Tensor]] = {}
    for i, tensor in enumerate(tensors):
        wide = torch.float32 if tensor.device.type == "mps" else torch.float64
        norm = torch.linalg.vector_norm(_dense(tensor), dtype=wide)
        by_device.setdefault(norm.device, {})[i] = norm
    found: dict[int, float] = {}
    for here in by_device.values():
        found |= zip(here, torch.stack([*here.values()]).tolist(), strict=True)
    return [found[i] for i in range(len(found))]


def norms_of_gradients(parameters: Mapping[str, Tensor]) -> dict[str, float]:
    """The norm of the gradient of each parameter that has one, by the parameter's name."""
    named = {name: each.grad for name, each in parameters.items() if each.grad is not None}
    return dict(zip(named, norms(each.detach() for each in named.values()), strict=True))


def together(parts: Iterable[float]) -> float | None:
    """The norm of a vector whose parts have these norms; None if it has no parts."""
    listed = list(parts)
    return math.hypot(*listed) if listed else None


def ratio(change: float | None, size: float | None) -> float | None:
    """One norm over another. A change from nothing is infinite, and none of nothing is no number."""
    if change is None or size is None:
        return None
    if size == 0:
        return math.nan if change == 0 or math.isnan(change) else math.inf
    return change / size


def _dense(tensor: Tensor) -> Tensor:
    """The values of a tensor: the gradient of an embedding may be sparse."""
    return tensor.coalesce().values() if tensor.is_sparse else tensor
