"""The modules: torch's own, with their computation done here."""

import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from pyinit import functional
from pyinit._functional.epilogue import epilogue_of
from pyinit._torch.original import functional as torchs

_REBUILDERS = ("torch.nn.utils.fusion", "torch.utils.mkldnn")
"""Where torch makes another layer of a convolution's weight and bias, and asks for no exact class."""


class _Activated(_ConvNd):
    """What all six have beyond torch's: an activation that becomes part of the convolution."""

    activation: str | None = None
    activation_parameter: float | None = None
    _convolve: ClassVar[Callable[..., Tensor]]

    def __init__(
        self,
        *args: Any,
        activation: str | None = None,
        activation_parameter: float | None = None,
        device: Any = None,
        **kwargs: Any,
    ) -> None:
        epilogue_of(activation, activation_parameter)
        if (
            device is not None
        ):  # has a name of its own because torch.nn.utils.skip_init looks for it
            kwargs["device"] = device
        super().__init__(*args, **kwargs)
        self.activation = activation
        self.activation_parameter = activation_parameter

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "weight":
            self._refuse_rebuilding(sys._getframe(1))
        super().__setattr__(name, value)

    def _refuse_rebuilding(self, caller: FrameType) -> None:
        """Refuse what would lose or move the activation; these tools ask for nothing else first."""
        tool = caller.f_globals.get("__name__")
        if self.activation is not None and tool in _REBUILDERS:
            raise RuntimeError(
                f"{tool} makes another layer of a convolution's weight and bias alone, but this one "
                f"ends in activation={self.activation!r}; set its activation to None, and put the "
                "activation behind it as a module of its own"
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
    """``torch.nn.Conv1d`` on ``pyinit.functional.conv1d``; see ``Conv2d``."""

    _convolve = staticmethod(functional.conv1d)


class Conv2d(_Convolution, torch.nn.Conv2d):
    """``torch.nn.Conv2d`` on ``pyinit.functional.conv2d``.

    Args:
        args, kwargs: those of ``torch.nn.Conv2d``.
        activation: what ``pyinit.functional.conv2d`` takes, applied to the result.
        activation_parameter: its parameter, where it has one.

    It is a ``torch.nn.Conv2d``: parameters, their initial values, ``state_dict``, padding modes and
    what torch refuses are torch's.
    """

    _convolve = staticmethod(functional.conv2d)


class Conv3d(_Convolution, torch.nn.Conv3d):
    """``torch.nn.Conv3d`` on ``pyinit.functional.conv3d``; see ``Conv2d``."""

    _convolve = staticmethod(functional.conv3d)


class ConvTranspose1d(_TransposedConvolution, torch.nn.ConvTranspose1d):
    """``torch.nn.ConvTranspose1d`` on ``pyinit.functional.conv_transpose1d``; see ``Conv2d``."""

    _convolve = staticmethod(functional.conv_transpose1d)


class ConvTranspose2d(_TransposedConvolution, torch.nn.ConvTranspose2d):
    """``torch.nn.ConvTranspose2d`` on ``pyinit.functional.conv_transpose2d``; see ``Conv2d``."""

    _convolve = staticmethod(functional.conv_transpose2d)


class ConvTranspose3d(_TransposedConvolution, torch.nn.ConvTranspose3d):
    """``torch.nn.ConvTranspose3d`` on ``pyinit.functional.conv_transpose3d``; see ``Conv2d``."""

    _convolve = staticmethod(functional.conv_transpose3d)
