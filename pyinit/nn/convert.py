"""Conversion of a model's convolutions to those of pyinit, and back."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.nn.modules.conv import _ConvNd

from pyinit._graph.readers import sole_readers
from pyinit._messages import warn
from pyinit.nn import modules
from pyinit.nn.modules import Fused

_NAMES = ("Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d")
_OURS = {getattr(torch.nn, name): getattr(modules, name) for name in _NAMES}
_TORCHS = {ours: torchs for torchs, ours in _OURS.items()}

_GELUS = {"none": "gelu", "tanh": "gelu_tanh"}
_FUSABLE: dict[type[torch.nn.Module], Callable[[Any], tuple[str | None, float | None]]] = {
    torch.nn.ReLU: lambda _: ("relu", None),
    torch.nn.LeakyReLU: lambda module: ("leaky_relu", module.negative_slope),
    torch.nn.ELU: lambda module: ("elu", module.alpha),
    torch.nn.SELU: lambda _: ("selu", None),
    torch.nn.GELU: lambda module: (_GELUS.get(module.approximate), None),
    torch.nn.SiLU: lambda _: ("silu", None),
    torch.nn.Sigmoid: lambda _: ("sigmoid", None),
    torch.nn.Tanh: lambda _: ("tanh", None),
    torch.nn.Softplus: lambda module: (
        "softplus" if (module.beta, module.threshold) == (1, 20) else None,
        None,
    ),
}
"""How a convolution calls each activation, with its parameter; no name where it does not have it."""

_Model = TypeVar("_Model", bound=torch.nn.Module)


def convert_(model: _Model, fuse: bool = False) -> _Model:
    """Have pyinit compute the convolutions of a model, in place.

    Modules whose class is exactly ``torch.nn.Conv1d``, ``Conv2d``, ``Conv3d``, ``ConvTranspose1d``,
    ``ConvTranspose2d`` or ``ConvTranspose3d`` get the class of that name in ``pyinit.nn``. They stay
    the same objects, with their parameters, hooks and flags.

    Args:
        model: any module, which may itself be a convolution.
        fuse: whether a convolution also computes the activation that follows it, if that is the only
            module that reads its output, and neither of the two has hooks or is called twice. The
            activation's module stays where it is, as a ``Fused``, which gives its input. What
            reads what is found by following the forward of the model on stand-ins. Hooks that are
            added later see the activated output.

    Returns:
        The model itself.

    Raises:
        TypeError: if ``model`` is no module, or ``fuse`` is no bool.

    Warns:
        UserWarning: if convolutions of other classes are left alone, with their names: lazy and
            parametrized ones, and subclasses, which may compute something else. If the forward cannot
            be followed, so that no activation is fused, with the reason.

    References:
        docs/convolution.md says which tools of torch's take converted modules, and which activations
        are fused.

    Example:
        >>> import torch, pyinit
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU())
        >>> type(pyinit.nn.convert_(model)[0])
        <class 'pyinit.nn.modules.Conv2d'>
        >>> pyinit.nn.convert_(model, fuse=True)
        Sequential(
          (0): Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1), activation='relu')
          (1): Fused(ReLU())
        )
    """
    _check_model(model)
    if not isinstance(fuse, bool):
        raise TypeError(f"fuse must be a bool, got {type(fuse).__name__}")
    left = []
    for name, module in model.named_modules():
        if type(module) in _OURS:
            module.__class__ = _OURS[type(module)]
        elif isinstance(module, _ConvNd) and not isinstance(module, modules._Activated):
            left.append(_named(name, module))
    if left:
        warn(
            f"left alone because they are no plain torch convolutions: {', '.join(left)}",
            UserWarning,
        )
    kinds = set(map(type, model.modules()))
    if fuse and kinds & _TORCHS.keys() and kinds & _FUSABLE.keys():
        _fuse(model)
    return model


def unconvert_(model: _Model) -> _Model:
    """Undo ``convert_``: have torch compute the convolutions of a model again, in place.

    The convolutions of ``pyinit.nn`` get the classes of those names in ``torch.nn``, and activations that
    they compute are computed by their own modules again. All stay the same objects, with their
    parameters, hooks and flags.

    Args:
        model: any module, which may itself be a convolution. If it is a part of a model, and a
            convolution in it computes the activation of a module outside, that one is brought back, too.

    Returns:
        The model itself.

    Raises:
        TypeError: if ``model`` is no module.
        ValueError: if ``model`` has a ``Fused`` without the convolution that computes its activation.
            The model is then as it was.

    Warns:
        UserWarning: if convolutions of pyinit's are left alone, with their names: those with an
            activation of their own, which torch's do not have, and subclasses, such as parametrized ones.

    Example:
        >>> import torch, pyinit
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU())
        >>> pyinit.nn.unconvert_(pyinit.nn.convert_(model, fuse=True))
        Sequential(
          (0): Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1))
          (1): ReLU()
        )
    """
    _check_model(model)
    named = dict(model.named_modules())
    _refuse_parts(named)
    left = []
    for name, module in named.items():
        if not isinstance(module, modules._Activated):
            continue
        if type(module) not in _TORCHS or (module.activation is not None and not module._fused):
            left.append(_named(name, module))
            continue
        for activation in module._fused:
            _separate(module, activation)
        for attribute in ("activation", "activation_parameter"):
            module.__dict__.pop(attribute, None)
        module.__class__ = _TORCHS[type(module)]
    if left:
        warn(
            "left alone because they have an activation of their own, which torch's do not have, or "
            f"are of a class of their own: {', '.join(left)}",
            UserWarning,
        )
    return model


def _check_model(model: object) -> None:
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")


def _named(name: str, module: torch.nn.Module) -> str:
    return f"{name or 'the model'} ({type(module).__name__})"


def _fuse(model: torch.nn.Module) -> None:
    """Have convolutions compute the activations that alone read their output."""
    try:
        readers = sole_readers(model)
    except Exception as error:  # noqa: BLE001  a forward may raise anything on stand-ins
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        warn(
            "no activation is fused because the forward of the model cannot be followed for certain: "
            f"{reason}",
            UserWarning,
        )
        return
    for convolution, activation in readers.items():
        if type(convolution) in _TORCHS and type(activation) in _FUSABLE:
            _join(convolution, activation)


def _join(convolution: Any, activation: torch.nn.Module) -> None:
    name, parameter = _FUSABLE[type(activation)](activation)
    is_known = parameter is None or type(parameter) in (int, float)
    if name is None or not is_known or convolution.activation is not None:
        return
    convolution.activation, convolution.activation_parameter = name, parameter
    activation._unfused = type(activation)  # type: ignore[assignment]
    activation.__class__ = Fused
    convolution._fused = (activation,)


def _separate(convolution: Any, activation: Any) -> None:
    convolution.activation = convolution.activation_parameter = None
    del convolution._fused
    activation.__class__ = activation._unfused
    del activation._unfused


def _refuse_parts(named: dict[str, torch.nn.Module]) -> None:
    """Refuse activations that a convolution computes which is not among these modules."""
    computed = {one for module in named.values() for one in getattr(module, "_fused", ())}
    alone = [
        _named(name, module)
        for name, module in named.items()
        if isinstance(module, Fused) and module not in computed
    ]
    if alone:
        raise ValueError(
            "the convolutions that compute the activations of these modules are no part of the model: "
            + ", ".join(alone)
        )
