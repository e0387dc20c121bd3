"""Memory for models that were built on the meta device."""

from collections.abc import Container

import torch
from torch import Tensor, nn


def materialize_(
    model: nn.Module,
    device: torch.device | str | None = None,
    names: Container[str] | None = None,
) -> None:
    """Give parameters and buffers on the meta device memory on ``device`` (default: torch's).

    Their values are not set. Tied ones stay tied; those that have memory stay where they are, and
    so do those that are not among ``names`` (default: all are).
    """
    device = torch.get_default_device() if device is None else torch.device(device)
    if device.type == "meta":
        device = torch.device("cpu")
    made: dict[int, Tensor] = {}
    for path, module in model.named_modules():
        prefix = path + "." if path else ""
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is None or not tensor.is_meta:
                    continue
                if names is not None and prefix + name not in names:
                    continue
                new = made.get(id(tensor))
                if new is None:
                    made[id(tensor)] = new = _with_memory(tensor, device)
                tensors[name] = new  # type: ignore[assignment]


def _with_memory(tensor: Tensor, device: torch.device) -> Tensor:
    new: Tensor = torch.empty_like(tensor, device=device)
    if isinstance(tensor, nn.Parameter):
        new = nn.Parameter(new, tensor.requires_grad)
        new.__dict__.update(tensor.__dict__)
    return new
