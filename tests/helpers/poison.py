"""Tensors full of NaN, so that a test sees which elements a call has not written."""

import torch
from torch import Tensor, nn


def poisoned(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.full(shape, torch.nan, dtype=dtype)


def poisoned_like(tensor: Tensor) -> Tensor:
    return torch.full_like(tensor, torch.nan)


def poisoned_model(model: nn.Module) -> nn.Module:
    """The same model, its floating-point parameters overwritten with NaN."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.fill_(torch.nan)
    return model
