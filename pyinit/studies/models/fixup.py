"""Residual networks without norms or with them, as deep as one likes."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut: with BatchNorm, or with the scalars of Fixup.

    Args:
        width: channels
        batch_norm: whether there is BatchNorm behind each convolution
    """

    def __init__(self, width: int, batch_norm: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.batch_norm = batch_norm
        if batch_norm:
            self.bn1, self.bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        else:
            self.bias1a, self.bias1b = _scalar(0.0), _scalar(0.0)
            self.bias2a, self.bias2b = _scalar(0.0), _scalar(0.0)
            self.scale = _scalar(1.0)

    def branch(self, x: Tensor) -> Tensor:
        """The residual branch alone."""
        if self.batch_norm:
            out: Tensor = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        else:
            out = functional.relu(self.conv1(x + self.bias1a) + self.bias1b)
            out = self.conv2(out + self.bias2a) * self.scale + self.bias2b
        return out

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.branch(x))


def _scalar(value: float) -> nn.Parameter:
    return nn.Parameter(torch.full((1,), value))


class Residual(nn.Module):
    """A stem that halves both sides, blocks of the same width, and a linear layer.

    Args:
        depth: how many layers have weights: two of each block, and two more
        width: channels
        batch_norm: whether the blocks have BatchNorm; else they have the scalars of Fixup
        channels: channels of a sample
        side: height and width of a sample, in pixels
        classes: outputs
    """

    def __init__(
        self, depth: int, width: int, batch_norm: bool, *, channels: int, side: int, classes: int
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, 2, padding=1, bias=not batch_norm)
        self.norm = nn.BatchNorm2d(width) if batch_norm else nn.Identity()
        self.blocks = nn.Sequential(*(Block(width, batch_norm) for _ in range((depth - 2) // 2)))
        self.fc = nn.Linear(width * (side // 2) ** 2, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(functional.relu(self.norm(self.stem(x))))
        out: Tensor = self.fc(x.flatten(1))
        return out


def residual(
    depth: int = 10,
    width: int = 16,
    batch_norm: bool = False,
    *,
    channels: int = 1,
    side: int = 8,
    classes: int = 10,
) -> Residual:
    """A residual CNN of any depth (Zhang et al. 2019, figure 3).

    Args:
        depth: how many layers have weights: two of each block, and two more
        width: channels
        batch_norm: whether the blocks have BatchNorm; else they have the scalars of Fixup
        channels: channels of a sample
        side: height and width of a sample, in pixels
        classes: outputs

    Returns:
        The network.

    Example:
        >>> from pyinit.studies.models.fixup import residual
        >>> len(residual(depth=10, width=4).blocks)
        4
    """
    return Residual(depth, width, batch_norm, channels=channels, side=side, classes=classes)
