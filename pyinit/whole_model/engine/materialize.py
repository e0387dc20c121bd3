"""Memory for models that were built on the meta device."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from pyinit._torch.wrappers import named_modules


def materialize_(
    model: nn.Module, device: torch.device | str | None = None, skip: Iterable[Tensor] = ()
) -> None:
    """Give parameters and buffers on the meta device memory on ``device`` (default: torch's).

    Their values are not set. Tied ones stay tied. Those that have memory and those in ``skip`` stay
    as they are.
    """
    skipped = set(map(id, skip))
    device = torch.get_default_device() if device is None else torch.device(device)
    if device.type == "meta":
        device = torch.device("cpu")
    made: dict[int, Tensor] = {}
    for _, module in named_modules(model):
        for tensors in (module._parameters, module._buffers):
            for name, tensor in list(tensors.items()):
                if tensor is None or not tensor.is_meta or id(tensor) in skipped:
                    continue
                new = made.get(id(tensor))
                if new is None:
                    made[id(tensor)] = new = _with_memory(tensor, device)
                setattr(module, name, new)  # a recurrent layer lists its weights once more


def _with_memory(tensor: Tensor, device: torch.device) -> Tensor:
    new: Tensor = torch.empty_like(tensor, device=device)
    if isinstance(tensor, nn.Parameter):
        new = nn.Parameter(new, tensor.requires_grad)
        new.__dict__.update(tensor.__dict__)
    return new
