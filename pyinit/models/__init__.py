"""Built-in architectures: well-known networks that need nothing but torch."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from pyinit.models.gpt2 import GPT2
from pyinit.models.lenet import LeNet5
from pyinit.models.llama import Llama
from pyinit.models.resnet import ResNet
from pyinit.models.vit import VisionTransformer

MODELS: dict[str, Callable[..., nn.Module]] = {
    "gpt2": GPT2,
    "lenet5": LeNet5,
    "resnet50": ResNet,
    "vit-b16": VisionTransformer,
    "llama-1b": Llama,
}


class _SkipDraws(TorchFunctionMode):
    """Skip the random draws of module constructors; constants and buffers are set as always."""

    # Names shared by torch.nn.init's functions, their replacements, and the tensor's methods.
    drawing = frozenset(("uniform_", "normal_", "kaiming_uniform_"))

    def __torch_function__(
        self,
        func: Callable[..., Any],
        _types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in self.drawing:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def build(name: str, dtype: torch.dtype = torch.float32, **config: Any) -> nn.Module:
    """Build a built-in architecture, and leave its random parameters undrawn.

    Args:
        name: A key of ``MODELS``.
        dtype: The dtype of parameters and floating-point buffers.
        **config: Arguments of the network's constructor.
    """
    previous = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with _SkipDraws():
            return MODELS[name](**config)
    finally:
        torch.set_default_dtype(previous)
