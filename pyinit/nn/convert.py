"""Conversion of a model's convolutions to those of pyinit."""

from typing import TypeVar

import torch
from torch.nn.modules.conv import _ConvNd

from pyinit._messages import warn
from pyinit.nn import modules

_NAMES = ("Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d")
_OURS = {getattr(torch.nn, name): getattr(modules, name) for name in _NAMES}

_Model = TypeVar("_Model", bound=torch.nn.Module)


def convert_(model: _Model) -> _Model:
    """Have pyinit compute the convolutions of a model, in place.

    Modules whose class is exactly ``torch.nn.Conv1d``, ``Conv2d``, ``Conv3d``, ``ConvTranspose1d``,
    ``ConvTranspose2d`` or ``ConvTranspose3d`` get the class of that name in ``pyinit.nn``. They stay
    the same objects, with their parameters, hooks and flags.

    Args:
        model: any module, which may itself be a convolution.

    Returns:
        The model itself.

    Raises:
        TypeError: if ``model`` is no module.

    Warns:
        UserWarning: if convolutions of other classes are left alone, with their names: lazy and
            parametrized ones, and subclasses, which may compute something else.

    References:
        docs/convolution.md says which tools of torch's take converted modules.

    Example:
        >>> import torch, pyinit
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU())
        >>> type(pyinit.nn.convert_(model)[0])
        <class 'pyinit.nn.modules.Conv2d'>
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
        warn(
            f"left alone because they are no plain torch convolutions: {', '.join(left)}",
            UserWarning,
        )
    return model
