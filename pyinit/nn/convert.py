"""A model's convolutions, made pyinit's."""

from typing import TypeVar

import torch
from torch.nn.modules.conv import _ConvNd

from pyinit._messages import warn
from pyinit.nn import modules

_NAMES = ("Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d")
_OURS = {getattr(torch.nn, name): getattr(modules, name) for name in _NAMES}

_Model = TypeVar("_Model", bound=torch.nn.Module)


def convert_(model: _Model) -> _Model:
    """Have pyinit compute the convolutions of a model.

    Args:
        model: any module. Those in it, or itself, that are exactly ``torch.nn.Conv1d``, ``Conv2d``,
            ``Conv3d``, ``ConvTranspose1d``, ``ConvTranspose2d`` or ``ConvTranspose3d`` become the
            class of that name in ``pyinit.nn``. They stay the objects they are, with their
            parameters, hooks and flags.

    Returns:
        The model itself.

    Warns:
        UserWarning: names the convolutions of other classes, which are left alone: lazy and
            parametrized ones, and subclasses, which may compute something else.

    Raises:
        TypeError: if it is no module.
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    left = []
    for name, module in model.named_modules():
        if type(module) in _OURS:
            module.__class__ = _OURS[type(module)]
        elif isinstance(module, _ConvNd) and not isinstance(module, modules._Activated):
            left.append(f"{name or 'the model'} ({type(module).__name__})")
    if left:
        warn(f"left alone, being no plain torch convolutions: {', '.join(left)}", UserWarning)
    return model
