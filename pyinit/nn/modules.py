"""torch's convolution modules, computed by ``pyinit.functional``."""

import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from pyinit import functional
from pyinit._functional.epilogue import ActivationName, epilogue_of
from pyinit._torch.original import functional as torchs

_REBUILDERS = ("torch.nn.utils.fusion", "torch.utils.mkldnn")
"""Modules of torch's that make another layer of a convolution's weight and bias, whatever its class."""


class Fused(torch.nn.Module):
    """An activation that the convolution in front of it computes: it gives its input as it is.

    ``convert_(model, fuse=True)`` makes an activation's module one of these, and ``unconvert_`` brings
    its class back. It stays the same object, with its attributes.
    """

    _unfused: type[torch.nn.Module]
    """The class that the module had."""

    def forward(self, input: Tensor) -> Tensor:
        return input

    def extra_repr(self) -> str:
        return f"{self._unfused.__name__}({self._unfused.extra_repr(self)})"


class _Activated(_ConvNd):
    """The base of all six, which adds an activation to torch's modules."""

    activation: str | None = None  # torch.jit.script reads no Literal
    activation_parameter: float | None = None
    _fused: tuple[Fused, ...] = ()
    """The module whose activation this one computes: in a tuple, in which it is no submodule."""
    _convolve: ClassVar[Callable[..., Tensor]]

    def __init__(
        self,
        *args: Any,
        activation: ActivationName | None = None,
        activation_parameter: float | None = None,
        device: Any = None,
        **kwargs: Any,
    ) -> None:
        epilogue_of(activation, activation_parameter)
        if (
            device is not None
        ):  # named in the signature because torch.nn.utils.skip_init looks there
            kwargs["device"] = device
        super().__init__(*args, **kwargs)
        self.activation = activation
        self.activation_parameter = activation_parameter

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "weight":
            self._refuse_rebuilding(sys._getframe(1))
        super().__setattr__(name, value)

    def _refuse_rebuilding(self, caller: FrameType) -> None:
        """Refuse tools that would lose or move the activation, at the first thing that they ask for."""
        tool = caller.f_globals.get("__name__")
        if self.activation is not None and tool in _REBUILDERS:
            raise RuntimeError(
                f"{tool} makes another layer of a convolution's weight and bias alone, but this one "
                f"ends in activation={self.activation!r}; "
                + (
                    "call pyinit.nn.unconvert_ first"
                    if self._fused
                    else "set its activation to None, and put the activation behind it as a module "
                    "of its own"
                )
            )

    def extra_repr(self) -> str:
        text: str = super().extra_repr()  # type: ignore[no-untyped-call]  # torch's has no types
        if self.activation is not None:
            text += f", activation={self.activation!r}"
        if self.activation_parameter is not None:
            text += f", activation_parameter={self.activation_parameter}"
        return text


class _Convolution(_Activated):
    def named_children(self) -> Iterator[tuple[str, torch.nn.Module]]:
        self._refuse_rebuilding(sys._getframe(1))
        return super().named_children()

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            around = self._reversed_padding_repeated_twice
            input, padding = torchs.pad(input, around, mode=self.padding_mode), 0
        return type(self)._convolve(
            input,
            weight,
            bias,
            self.stride,
            padding,
            self.dilation,
            self.groups,
            activation=self.activation,
            activation_parameter=self.activation_parameter,
        )


class _TransposedConvolution(_Activated, _ConvTransposeNd):
    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        behind: Callable[..., Any] = self._output_padding
        dims = len(self.kernel_size)
        output_padding = behind(
            input, output_size, self.stride, self.padding, self.kernel_size, dims, self.dilation
        )
        return type(self)._convolve(
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            output_padding,
            self.groups,
            self.dilation,
            activation=self.activation,
            activation_parameter=self.activation_parameter,
        )


class Conv1d(_Convolution, torch.nn.Conv1d):
    """``torch.nn.Conv1d``, computed by ``pyinit.functional.conv1d``, with an optional activation.

    It is a ``torch.nn.Conv1d``: its parameters, their initial values, its ``state_dict``, its
    padding modes and its errors are torch's.

    Args:
        args: the positional arguments of ``torch.nn.Conv1d``: ``in_channels``, ``out_channels``,
            ``kernel_size`` and so on.
        activation: the name of the activation that ends the convolution, as
            ``pyinit.functional.conv1d`` takes it; None for none.
        activation_parameter: the slope of ``"leaky_relu"`` or alpha of ``"elu"``; None for the
            default.
        device: the device of the parameters.
        kwargs: the keyword arguments of ``torch.nn.Conv1d``.

    Attributes:
        activation: the activation's name, or None; it may be changed at any time.
        activation_parameter: its parameter, or None.

    Raises:
        ValueError: if the activation is unknown or has no parameter, and for what torch refuses.
        TypeError: if the parameter is no number.

    References:
        Dumoulin and Visin (2016), A guide to convolution arithmetic for deep learning,
        arXiv:1603.07285.

    Example:
        >>> import torch, pyinit
        >>> layer = pyinit.nn.Conv1d(3, 4, kernel_size=3, padding=1, activation="relu")
        >>> y = layer(torch.randn(2, 3, 8))
        >>> y.shape, bool((y >= 0).all())
        (torch.Size([2, 4, 8]), True)
    """

    _convolve = staticmethod(functional.conv1d)


class Conv2d(_Convolution, torch.nn.Conv2d):
    """``torch.nn.Conv2d``, computed by ``pyinit.functional.conv2d``, with an optional activation.

    It is a ``torch.nn.Conv2d``: its parameters, their initial values, its ``state_dict``, its
    padding modes and its errors are torch's.

    Args:
        args: the positional arguments of ``torch.nn.Conv2d``: ``in_channels``, ``out_channels``,
            ``kernel_size`` and so on.
        activation: the name of the activation that ends the convolution, as
            ``pyinit.functional.conv2d`` takes it; None for none.
        activation_parameter: the slope of ``"leaky_relu"`` or alpha of ``"elu"``; None for the
            default.
        device: the device of the parameters.
        kwargs: the keyword arguments of ``torch.nn.Conv2d``.

    Attributes:
        activation: the activation's name, or None; it may be changed at any time.
        activation_parameter: its parameter, or None.

    Raises:
        ValueError: if the activation is unknown or has no parameter, and for what torch refuses.
        TypeError: if the parameter is no number.

    References:
        Dumoulin and Visin (2016), A guide to convolution arithmetic for deep learning,
        arXiv:1603.07285.

    Example:
        >>> import torch, pyinit
        >>> layer = pyinit.nn.Conv2d(3, 4, kernel_size=3, padding=1, activation="relu")
        >>> y = layer(torch.randn(2, 3, 8, 8))
        >>> y.shape, bool((y >= 0).all())
        (torch.Size([2, 4, 8, 8]), True)
    """

    _convolve = staticmethod(functional.conv2d)


class Conv3d(_Convolution, torch.nn.Conv3d):
    """``torch.nn.Conv3d``, computed by ``pyinit.functional.conv3d``, with an optional activation.

    It is a ``torch.nn.Conv3d``: its parameters, their initial values, its ``state_dict``, its
    padding modes and its errors are torch's.

    Args:
        args: the positional arguments of ``torch.nn.Conv3d``: ``in_channels``, ``out_channels``,
            ``kernel_size`` and so on.
        activation: the name of the activation that ends the convolution, as
            ``pyinit.functional.conv3d`` takes it; None for none.
        activation_parameter: the slope of ``"leaky_relu"`` or alpha of ``"elu"``; None for the
            default.
        device: the device of the parameters.
        kwargs: the keyword arguments of ``torch.nn.Conv3d``.

    Attributes:
        activation: the activation's name, or None; it may be changed at any time.
        activation_parameter: its parameter, or None.

    Raises:
        ValueError: if the activation is unknown or has no parameter, and for what torch refuses.
        TypeError: if the parameter is no number.

    References:
        Dumoulin and Visin (2016), A guide to convolution arithmetic for deep learning,
        arXiv:1603.07285.

    Example:
        >>> import torch, pyinit
        >>> layer = pyinit.nn.Conv3d(3, 4, kernel_size=3, padding=1, activation="relu")
        >>> y = layer(torch.randn(2, 3, 8, 8, 8))
        >>> y.shape, bool((y >= 0).all())
        (torch.Size([2, 4, 8, 8, 8]), True)
    """

    _convolve = staticmethod(functional.conv3d)


class ConvTranspose1d(_TransposedConvolution, torch.nn.ConvTranspose1d):
    """``torch.nn.ConvTranspose1d``, computed by ``pyinit.functional.conv_transpose1d``, with an optional activation.

    It is a ``torch.nn.ConvTranspose1d``: its parameters, their initial values, its ``state_dict``,
    its output sizes and its errors are torch's.

    Args:
        args: the positional arguments of ``torch.nn.ConvTranspose1d``: ``in_channels``,
            ``out_channels``, ``kernel_size`` and so on.
        activation: the name of the activation that ends the convolution, as
            ``pyinit.functional.conv_transpose1d`` takes it; None for none.
        activation_parameter: the slope of ``"leaky_relu"`` or alpha of ``"elu"``; None for the
            default.
        device: the device of the parameters.
        kwargs: the keyword arguments of ``torch.nn.ConvTranspose1d``.

    Attributes:
        activation: the activation's name, or None; it may be changed at any time.
        activation_parameter: its parameter, or None.

    Raises:
        ValueError: if the activation is unknown or has no parameter, and for what torch refuses.
        TypeError: if the parameter is no number.

    References:
        Dumoulin and Visin (2016), A guide to convolution arithmetic for deep learning,
        arXiv:1603.07285.

    Example:
        >>> import torch, pyinit
        >>> layer = pyinit.nn.ConvTranspose1d(3, 4, kernel_size=2, stride=2, activation="silu")
        >>> layer(torch.randn(2, 3, 8)).shape
        torch.Size([2, 4, 16])
    """

    _convolve = staticmethod(functional.conv_transpose1d)


class ConvTranspose2d(_TransposedConvolution, torch.nn.ConvTranspose2d):
    """``torch.nn.ConvTranspose2d``, computed by ``pyinit.functional.conv_transpose2d``, with an optional activation.

    It is a ``torch.nn.ConvTranspose2d``: its parameters, their initial values, its ``state_dict``,
    its output sizes and its errors are torch's.

    Args:
        args: the positional arguments of ``torch.nn.ConvTranspose2d``: ``in_channels``,
            ``out_channels``, ``kernel_size`` and so on.
        activation: the name of the activation that ends the convolution, as
            ``pyinit.functional.conv_transpose2d`` takes it; None for none.
        activation_parameter: the slope of ``"leaky_relu"`` or alpha of ``"elu"``; None for the
            default.
        device: the device of the parameters.
        kwargs: the keyword arguments of ``torch.nn.ConvTranspose2d``.

    Attributes:
        activation: the activation's name, or None; it may be changed at any time.
        activation_parameter: its parameter, or None.

    Raises:
        ValueError: if the activation is unknown or has no parameter, and for what torch refuses.
        TypeError: if the parameter is no number.

    References:
        Dumoulin and Visin (2016), A guide to convolution arithmetic for deep learning,
        arXiv:1603.07285.

    Example:
        >>> import torch, pyinit
        >>> layer = pyinit.nn.ConvTranspose2d(3, 4, kernel_size=2, stride=2, activation="silu")
        >>> layer(torch.randn(2, 3, 8, 8)).shape
        torch.Size([2, 4, 16, 16])
    """

    _convolve = staticmethod(functional.conv_transpose2d)


class ConvTranspose3d(_TransposedConvolution, torch.nn.ConvTranspose3d):
    """``torch.nn.ConvTranspose3d``, computed by ``pyinit.functional.conv_transpose3d``, with an optional activation.

    It is a ``torch.nn.ConvTranspose3d``: its parameters, their initial values, its ``state_dict``,
    its output sizes and its errors are torch's.

    Args:
        args: the positional arguments of ``torch.nn.ConvTranspose3d``: ``in_channels``,
            ``out_channels``, ``kernel_size`` and so on.
        activation: the name of the activation that ends the convolution, as
            ``pyinit.functional.conv_transpose3d`` takes it; None for none.
        activation_parameter: the slope of ``"leaky_relu"`` or alpha of ``"elu"``; None for the
            default.
        device: the device of the parameters.
        kwargs: the keyword arguments of ``torch.nn.ConvTranspose3d``.

    Attributes:
        activation: the activation's name, or None; it may be changed at any time.
        activation_parameter: its parameter, or None.

    Raises:
        ValueError: if the activation is unknown or has no parameter, and for what torch refuses.
        TypeError: if the parameter is no number.

    References:
        Dumoulin and Visin (2016), A guide to convolution arithmetic for deep learning,
        arXiv:1603.07285.

    Example:
        >>> import torch, pyinit
        >>> layer = pyinit.nn.ConvTranspose3d(3, 4, kernel_size=2, stride=2, activation="silu")
        >>> layer(torch.randn(2, 3, 8, 8, 8)).shape
        torch.Size([2, 4, 16, 16, 16])
    """

    _convolve = staticmethod(functional.conv_transpose3d)
