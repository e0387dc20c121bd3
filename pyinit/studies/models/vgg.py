"""A thin VGG-11 without norms, and starts whose scale is off."""

from collections.abc import Sequence

import torch
from torch import nn

WIDTHS = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool")


class VGG(nn.Sequential):
    """A VGG.

    Args:
        layers: the layers
        scale: what ``off`` multiplies all weights by
    """

    def __init__(self, layers: Sequence[nn.Module], scale: float) -> None:
        super().__init__(*layers)
        self.scale = scale


def vgg11(
    thin: int = 8, scale: float = 1.0, channels: int = 3, classes: int = 10, hidden: int = 64
) -> VGG:
    """VGG-11 (Simonyan & Zisserman 2015) for 32x32 pictures, with a fraction of its channels and without norms.

    Args:
        thin: what its numbers of channels are divided by
        scale: what ``off`` multiplies all weights by
        channels: channels of a sample
        classes: outputs
        hidden: units of the two layers before the last

    Returns:
        The network: eight convolutions and three linear layers.

    Example:
        >>> import torch
        >>> from pyinit.studies.models.vgg import vgg11
        >>> vgg11()(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    layers: list[nn.Module] = []
    before = channels
    for each in WIDTHS:
        if isinstance(each, int):
            layers += [nn.Conv2d(before, each // thin, 3, padding=1), nn.ReLU()]
            before = each // thin
        else:
            layers.append(nn.MaxPool2d(2))
    layers.append(nn.Flatten())
    for width in (hidden, hidden):
        layers += [nn.Linear(before, width), nn.ReLU()]
        before = width
    return VGG([*layers, nn.Linear(before, classes)], scale)


def off(model: VGG) -> None:
    """Multiply all weights by the scale of the model, which makes a good start a bad one.

    Args:
        model: the network

    Example:
        >>> from pyinit.studies.models.vgg import off, vgg11
        >>> model = vgg11(scale=2.0)
        >>> before = model[0].weight.detach().clone()
        >>> off(model)
        >>> bool((model[0].weight == 2 * before).all())
        True
    """
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(model.scale)
