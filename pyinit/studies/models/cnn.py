"""Small CNNs, as articles on initialization train them."""

from collections import OrderedDict

from torch import nn

_PIXELS = 28  # a side of MNIST's images


def mnist_cnn(channels: int = 1, classes: int = 10) -> nn.Sequential:
    """Two convolutions, one pool and two linear layers, for images of 28x28 pixels.

    Args:
        channels: channels of a sample
        classes: outputs

    Returns:
        The network: 32 and 64 filters of 3x3, a pool of 2x2, and 128 units.

    Example:
        >>> from pyinit.studies.models.cnn import mnist_cnn
        >>> mnist_cnn().fc1
        Linear(in_features=9216, out_features=128, bias=True)
    """
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 32, 3),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(32, 64, 3),
            relu2=nn.ReLU(),
            pool=nn.MaxPool2d(2),
            flat=nn.Flatten(),
            fc1=nn.Linear(64 * 12 * 12, 128),
            relu3=nn.ReLU(),
            fc2=nn.Linear(128, classes),
        )
    )


def simple_cnn(channels: int = 1, side: int = _PIXELS, classes: int = 10) -> nn.Sequential:
    """One convolution, one pool and one linear layer.

    Args:
        channels: channels of a sample
        side: pixels of its sides, an even number
        classes: outputs

    Returns:
        The network: 16 filters of 3x3 with padding, and a pool of 2x2.

    Example:
        >>> from pyinit.studies.models.cnn import simple_cnn
        >>> simple_cnn(channels=3, side=32).fc
        Linear(in_features=4096, out_features=10, bias=True)
    """
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(channels, 16, 3, padding=1),
            relu=nn.ReLU(),
            pool=nn.MaxPool2d(2),
            flat=nn.Flatten(),
            fc=nn.Linear(16 * (side // 2) ** 2, classes),
        )
    )


def keras_cnn(channels: int = 1, classes: int = 10) -> nn.Sequential:
    """Two convolutions, each with a pool, and one linear layer, for images of 28x28 pixels.

    Args:
        channels: channels of a sample
        classes: outputs

    Returns:
        The network: 32 and 64 filters of 3x3, and pools of 2x2.

    Example:
        >>> from pyinit.studies.models.cnn import keras_cnn
        >>> keras_cnn().fc
        Linear(in_features=1600, out_features=10, bias=True)
    """
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 32, 3),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(32, 64, 3),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flat=nn.Flatten(),
            fc=nn.Linear(64 * 5 * 5, classes),
        )
    )


def transfer_cnn(channels: int = 3, side: int = 32, classes: int = 10) -> nn.Sequential:
    """A backbone of two convolutions and a linear layer, and a head.

    Args:
        channels: channels of a sample
        side: pixels of its sides, divisible by 4
        classes: outputs

    Returns:
        The network: ``backbone`` has 16 and 32 filters of 3x3, two pools and 64 units; ``head`` is linear.

    Example:
        >>> from pyinit.studies.models.cnn import transfer_cnn
        >>> transfer_cnn().head
        Linear(in_features=64, out_features=10, bias=True)
    """
    backbone = nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * (side // 4) ** 2, 64),
        nn.ReLU(),
    )
    return nn.Sequential(OrderedDict(backbone=backbone, head=nn.Linear(64, classes)))
