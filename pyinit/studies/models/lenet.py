"""LeNet-5 with ReLU, with BatchNorm or without, and deeper."""

from torch import nn

LEAST = 3  # convolutions


def lenet(
    depth: int = LEAST, batch_norm: bool = False, channels: int = 3, classes: int = 10
) -> nn.Sequential:
    """A network like LeNet-5 (LeCun et al. 1998), for images of 32x32 pixels.

    As the layers C1, C3 and C5 there, it has convolutions of 5x5 with 6, 16 and 120 filters, the first two
    with a pool, and then linear layers of 84 units and of the classes.

    Args:
        depth: how many convolutions there are; those beyond three have 16 filters of 3x3 and
            padding, before the last one
        batch_norm: whether there is BatchNorm behind each convolution
        channels: channels of a sample
        classes: outputs

    Returns:
        The network.

    Raises:
        ValueError: for fewer than three convolutions.

    Example:
        >>> import torch
        >>> from pyinit.studies.models.lenet import lenet
        >>> lenet(depth=5)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    if depth < LEAST:
        raise ValueError(f"depth must be at least {LEAST}, got {depth}")
    layers = [*_convolved(channels, 6, 5, batch_norm), nn.MaxPool2d(2)]
    layers += [*_convolved(6, 16, 5, batch_norm), nn.MaxPool2d(2)]
    for _ in range(depth - LEAST):
        layers += _convolved(16, 16, 3, batch_norm, padding=1)
    layers += _convolved(16, 120, 5, batch_norm)
    layers += [nn.Flatten(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, classes)]
    return nn.Sequential(*layers)


def _convolved(
    inputs: int, outputs: int, size: int, batch_norm: bool, padding: int = 0
) -> list[nn.Module]:
    norm: list[nn.Module] = [nn.BatchNorm2d(outputs)] if batch_norm else []
    return [nn.Conv2d(inputs, outputs, size, padding=padding), *norm, nn.ReLU()]
