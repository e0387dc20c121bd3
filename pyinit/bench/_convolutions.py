"""The convolutions of well-known networks, compared with ``torch.nn.functional.conv2d``."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from pyinit._torch.views import dtype_name
from pyinit.bench._case import Case, Unit, flops_per_second, products_per_second
from pyinit.bench._peers import PEERS
from pyinit.bench._peers.layer import ConvolutionLayer
from pyinit.functional import conv2d
from pyinit.init import normal_
from pyinit.nn.grad import conv2d_input, conv2d_weight

Direction: TypeAlias = Literal["forward", "fused", "backward-data", "backward-weights"]
"""The computation of a layer to measure; ``fused`` is the forward one with bias and ReLU."""

_LARGEST_WORK = 2e10  # additions and multiplications: half a second on a slow thread
_LARGEST_NUMEL = 2**26  # elements of the images, or of the outputs: 256 MiB
_CALLS_WORK = (
    2e7  # additions and multiplications of a sample, which is then long enough for the clock
)


class Layer(NamedTuple):
    """One convolution of a network, with square images and filters.

    ``kernel`` and ``pixels`` are the sides of the filters and of the input images.
    """

    network: str
    inputs: int
    outputs: int
    kernel: int
    stride: int
    padding: int
    pixels: int
    groups: int = 1

    @property
    def places(self) -> int:
        """The side of its output images, in pixels."""
        return (self.pixels + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def is_first(self) -> bool:
        return self.inputs <= 3

    @property
    def is_depthwise(self) -> bool:
        return self.groups == self.inputs > 1

    @property
    def arguments(self) -> tuple[int, int, int, int]:
        """Stride, padding, dilation and groups."""
        return self.stride, self.padding, 1, self.groups

    def __str__(self) -> str:
        channels = f"{self.inputs}>{self.outputs}"
        filters = f"{self.kernel}x{self.kernel}" + (f"/{self.stride}" if self.stride > 1 else "")
        groups = " depthwise" if self.is_depthwise else ""
        return f"{self.network} {channels} {filters}{groups} {self.pixels}px"


class Operands(NamedTuple):
    """The tensors of a layer's computations; ``gradient`` is the gradient by the output."""

    layer: Layer
    images: Tensor
    weight: Tensor
    bias: Tensor
    gradient: Tensor


# ---- What is timed -------------------------------------------------------------------------------


def _torch_gradient(which: int, x: Operands) -> Tensor:
    stride, padding, dilation, groups = x.layer.arguments
    gradients: Sequence[Tensor] = torch.ops.aten.convolution_backward(
        x.gradient,
        x.images,
        x.weight,
        None,
        (stride,) * 2,
        (padding,) * 2,
        (dilation,) * 2,
        False,
        (0, 0),
        groups,
        [i == which for i in range(3)],
    )
    return gradients[which]


_FUNCTIONS: dict[str, dict[Direction, Callable[[Operands], Tensor]]] = {
    "torch": {
        "forward": lambda x: torch.conv2d(x.images, x.weight, None, *x.layer.arguments),
        "fused": lambda x: torch.conv2d(x.images, x.weight, x.bias, *x.layer.arguments).relu_(),
        "backward-data": partial(_torch_gradient, 0),
        "backward-weights": partial(_torch_gradient, 1),
    },
    "pyinit": {
        "forward": lambda x: conv2d(x.images, x.weight, None, *x.layer.arguments),
        "fused": lambda x: conv2d(
            x.images, x.weight, x.bias, *x.layer.arguments, activation="relu"
        ),
        "backward-data": lambda x: conv2d_input(
            x.images.shape, x.weight, x.gradient, *x.layer.arguments
        ),
        "backward-weights": lambda x: conv2d_weight(
            x.images, x.weight.shape, x.gradient, *x.layer.arguments
        ),
    },
}


@dataclass(frozen=True)
class Convolution(Case):
    """One computation of a layer, whose images, filters and gradients have the given layout."""

    seconds: ClassVar[float] = 0.4

    layer: Layer
    direction: Direction
    batch: int = 1
    layout: torch.memory_format = torch.contiguous_format
    dtype: torch.dtype = torch.float32

    @property
    def labels(self) -> tuple[str, str, str]:
        layout = " channels_last" if self.layout == torch.channels_last else ""
        operation = f"conv2d {self.direction}"
        return operation, dtype_name(self.dtype), f"{self.layer} b{self.batch}{layout}"

    @property
    def group(self) -> str:
        if self.direction == "fused":
            return "fused: convolution, bias, ReLU"
        if self.layer.is_depthwise:
            return "depthwise, forward and backward"
        if self.direction == "forward":
            return _FORWARD_GROUPS[self.layer.network].format(batch=self.batch)
        if self.direction == "backward-data" and self.layer.is_first:
            return "first layers, backward-data"
        return self.direction

    @property
    def work(self) -> float:
        layer = self.layer
        sums = self.batch * layer.outputs * layer.places**2
        return 2 * sums * layer.inputs // layer.groups * layer.kernel**2

    @property
    def unit(self) -> Unit:
        return "GF/s"

    @property
    def calls(self) -> int:
        return max(1, int(_CALLS_WORK / self.work))

    @property
    def is_feasible(self) -> bool:
        """Whether a call takes little enough time and memory to be measured."""
        layer = self.layer
        numel = max(layer.inputs * layer.pixels**2, layer.outputs * layer.places**2) * self.batch
        return self.work <= _LARGEST_WORK and numel <= _LARGEST_NUMEL

    def argument(self) -> Operands:
        layer = self.layer
        return Operands(
            layer,
            self._tensor(self.batch, layer.inputs, layer.pixels, layer.pixels),
            self._tensor(layer.outputs, layer.inputs // layer.groups, layer.kernel, layer.kernel),
            normal_(torch.empty(layer.outputs, dtype=self.dtype)),
            self._tensor(self.batch, layer.outputs, layer.places, layer.places),
        )

    def _tensor(self, *shape: int) -> Tensor:
        return normal_(torch.empty(shape, dtype=self.dtype, memory_format=self.layout))

    def function(self, library: str) -> Callable[[Operands], Any]:
        return _FUNCTIONS[library][self.direction]

    def peak(self, argument: Operands) -> float:  # noqa: ARG002
        return flops_per_second(self.dtype)

    def products(self) -> float:
        return products_per_second(self.dtype)

    @property
    def has_peers(self) -> bool:
        """Models of peers compute forward, in float32, on images whose channels lie one after the other."""
        return (
            self.direction in ("forward", "fused")
            and self.dtype == torch.float32
            and self.layout == torch.contiguous_format
        )

    def by_peer(self, name: str, argument: Operands) -> Callable[[Any], Tensor]:
        output = torch.empty_like(argument.gradient)
        call = PEERS[name].compiled(
            ConvolutionLayer(
                argument.images,
                argument.weight,
                argument.bias if self.direction == "fused" else None,
                self.layer.stride,
                self.layer.padding,
                self.layer.groups,
                output,
            )
        )

        def run(_: Any) -> Tensor:
            call()
            return output

        return run


# ---- Layers --------------------------------------------------------------------------------------

_FORWARD_GROUPS = {
    "resnet50": "ResNet-50 forward, batch {batch}",
    "vgg16": "VGG-16 forward",
    "lenet5": "CIFAR / LeNet forward",
    "cnn-32-64": "CIFAR / LeNet forward",
    "cifar-resnet": "CIFAR / LeNet forward",
}


def _resnet50() -> Iterator[Layer]:
    """He et al. (2015), `Deep residual learning`, table 1, with the strides in the 3x3 filters."""
    layer = partial(Layer, "resnet50")
    yield layer(3, 64, 7, 2, 3, 224)
    inputs, pixels = 64, 56
    for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        outputs = 4 * width
        yield layer(inputs, width, 1, 1, 0, pixels)
        yield layer(width, width, 3, stride, 1, pixels)
        yield layer(inputs, outputs, 1, stride, 0, pixels)
        pixels //= stride
        yield layer(width, outputs, 1, 1, 0, pixels)
        yield layer(outputs, width, 1, 1, 0, pixels)
        yield layer(width, width, 3, 1, 1, pixels)
        inputs = outputs


def _vgg16() -> Iterator[Layer]:
    """Simonyan and Zisserman (2014), `Very deep convolutional networks`, table 1, D."""
    inputs = 3
    for outputs, pixels in ((64, 224), (128, 112), (256, 56), (512, 28), (512, 14)):
        yield Layer("vgg16", inputs, outputs, 3, 1, 1, pixels)
        yield Layer("vgg16", outputs, outputs, 3, 1, 1, pixels)
        inputs = outputs


def _mobilenet_v2() -> Iterator[Layer]:
    """The depthwise convolutions of Sandler et al. (2018), `MobileNetV2`, table 2."""
    strided = ((96, 112), (144, 56), (192, 28), (576, 14))
    plain = ((32, 112), (144, 56), (192, 28), (384, 14), (576, 14), (960, 7))
    for stride, layers in ((1, plain), (2, strided)):
        for channels, pixels in layers:
            yield Layer("mobilenet_v2", channels, channels, 3, stride, 1, pixels, channels)


def _lenet5() -> Iterator[Layer]:
    """LeCun et al. (1998), `Gradient-based learning applied to document recognition`, figure 2."""
    yield Layer("lenet5", 1, 6, 5, 1, 2, 28)
    yield Layer("lenet5", 6, 16, 5, 1, 0, 14)


def _cnn() -> Iterator[Layer]:
    """The network of torch's own example for MNIST."""
    yield Layer("cnn-32-64", 1, 32, 3, 1, 0, 28)
    yield Layer("cnn-32-64", 32, 64, 3, 1, 0, 26)


def _cifar_resnet() -> Iterator[Layer]:
    """He et al. (2015), section 4.2."""
    inputs = 3
    for outputs, pixels in ((16, 32), (32, 16), (64, 8)):
        stride = 2 if inputs > 3 else 1
        yield Layer("cifar-resnet", inputs, outputs, 3, stride, 1, pixels * stride)
        yield Layer("cifar-resnet", outputs, outputs, 3, 1, 1, pixels)
        inputs = outputs


LAYERS: tuple[Layer, ...] = tuple(
    dict.fromkeys(
        (*_resnet50(), *_vgg16(), *_mobilenet_v2(), *_lenet5(), *_cnn(), *_cifar_resnet())
    )
)

# A few layers that stand for all of them.
_STEM, _SMALL_STEM = (
    Layer("resnet50", 3, 64, 7, 2, 3, 224),
    Layer("cifar-resnet", 3, 16, 3, 1, 1, 32),
)
_LARGE = Layer("resnet50", 64, 64, 3, 1, 1, 56)
_POINTWISE = Layer("resnet50", 256, 64, 1, 1, 0, 56)
_STRIDED = Layer("resnet50", 128, 128, 3, 2, 1, 56)
_DEEP = Layer("resnet50", 512, 512, 3, 1, 1, 7)
_SMALL = Layer("cifar-resnet", 16, 16, 3, 1, 1, 32)
_LENET = Layer("lenet5", 1, 6, 5, 1, 2, 28)
_DEPTHWISE = Layer("mobilenet_v2", 144, 144, 3, 1, 1, 56, 144)

_USUAL: tuple[tuple[Direction, int, tuple[Layer, ...]], ...] = (
    ("forward", 1, (_STEM, _LARGE, _POINTWISE, _STRIDED, _DEEP, _DEPTHWISE)),
    ("forward", 16, (_LARGE, _POINTWISE, _SMALL, _LENET)),
    ("fused", 16, (_LARGE, _SMALL)),
    ("backward-data", 16, (_STEM, _SMALL_STEM, _LARGE, _POINTWISE, _STRIDED, _DEPTHWISE)),
    ("backward-weights", 16, (_LARGE, _POINTWISE, _DEEP, _SMALL, _DEPTHWISE)),
)


def usual_convolutions() -> list[Convolution]:
    """A few of ``convolutions()``: at least one of every kind."""
    return [
        *(Convolution(layer, how, batch) for how, batch, layers in _USUAL for layer in layers),
        Convolution(_LARGE, "forward", 16, torch.channels_last),
    ]


def convolutions() -> list[Convolution]:
    """Every layer, with every direction, batch size and layout that is feasible."""
    every = (
        Convolution(layer, direction, batch, layout)
        for direction in _FUNCTIONS["torch"]
        for layer in LAYERS
        for batch in (1, 16, 64)
        for layout in (torch.contiguous_format, torch.channels_last)
    )
    return [case for case in every if case.is_feasible]
