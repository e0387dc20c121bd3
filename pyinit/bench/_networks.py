"""Small networks that are trained on images, in plain torch with a module for each activation."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn


class Network(NamedTuple):
    """A network with ten classes. ``channels`` and ``pixels`` are those of its square images."""

    name: str
    make: Callable[[], nn.Module]
    channels: int
    pixels: int

    def __str__(self) -> str:
        return f"{self.name} {self.pixels}px"


def _lenet5() -> nn.Module:
    """LeCun et al. (1998), with ReLU and the greatest of 2x2 pixels, as it is trained today."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )


def _cnn() -> nn.Module:
    """The network of torch's own example for MNIST, without its dropout."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(9216, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def _normalized(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """A convolution that keeps the image's size but for its stride, and a batch norm."""
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]


class _Residual(nn.Module):
    """The sum of a branch and a shortcut, with an activation."""

    def __init__(self, branch: list[nn.Module], shortcut: list[nn.Module], end: nn.Module) -> None:
        super().__init__()
        self.branch = nn.Sequential(*branch)
        self.shortcut = nn.Sequential(*shortcut)
        self.end = end

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.end(self.branch(x) + self.shortcut(x))
        return result


def _resnet20() -> nn.Module:
    """He et al. (2015), section 4.2; shortcuts between stages are 1x1 convolutions."""
    layers = [*_normalized(3, 16, 3), nn.ReLU()]
    inputs = 16
    for outputs in (16, 32, 64):
        for _ in range(3):
            stride = 1 if inputs == outputs else 2
            first = _normalized(inputs, outputs, 3, stride=stride)
            shortcut = [] if stride == 1 else _normalized(inputs, outputs, 1, stride=stride)
            branch = [*first, nn.ReLU(), *_normalized(outputs, outputs, 3)]
            layers.append(_Residual(branch, shortcut, nn.ReLU()))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def _mobilenet_v2() -> nn.Module:
    """A short network of the blocks of Sandler et al. (2018), `MobileNetV2`, for small images."""
    layers = [*_normalized(3, 32, 3), nn.ReLU6()]
    inputs = 32
    for factor, outputs, blocks, first in (
        (1, 16, 1, 1),
        (6, 24, 2, 1),
        (6, 32, 2, 2),
        (6, 64, 2, 2),
        (6, 96, 1, 1),
    ):
        for block in range(blocks):
            stride, width = (1 if block else first), factor * inputs
            branch = [] if factor == 1 else [*_normalized(inputs, width, 1), nn.ReLU6()]
            branch += [*_normalized(width, width, 3, stride=stride, groups=width), nn.ReLU6()]
            branch += _normalized(width, outputs, 1)
            is_residual = stride == 1 and inputs == outputs
            layers += [_Residual(branch, [], nn.Identity())] if is_residual else branch
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))


NETWORKS = (
    Network("lenet5", _lenet5, 1, 28),
    Network("cnn-32-64", _cnn, 1, 28),
    Network("resnet20", _resnet20, 3, 32),
    Network("mobilenet_v2-small", _mobilenet_v2, 3, 32),
)
