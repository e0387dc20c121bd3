"""The switch of Winograd's minimal filtering."""

from pyinit import _core


def set_winograd(enabled: bool) -> None:
    """Say whether float32 convolutions of 3x3 taps may be computed by Winograd's minimal filtering.

    They may from the start, and so may their gradients by input and weight. It takes 16 multiplications
    instead of 36 for four outputs, and is used where it is faster, which docs/convolution.md describes. Without it a convolution is one chain of
    multiply-adds after the other: results differ in the last bits, and an infinity in the input or the
    weight stays one, where the tiles of Winograd can make NaN of it.

    Args:
        enabled: whether it may be used from now on, by all threads.

    Raises:
        TypeError: if ``enabled`` is no bool.

    References:
        Lavin and Gray (2016), Fast algorithms for convolutional neural networks, arXiv:1509.09308.

    Example:
        >>> import torch, pyinit.functional as F
        >>> x, weight = torch.randn(1, 16, 32, 32), torch.randn(16, 16, 3, 3)
        >>> y = F.conv2d(x, weight)
        >>> F.set_winograd(False)
        >>> torch.allclose(y, F.conv2d(x, weight), atol=1e-4)
        True
        >>> F.set_winograd(True)
    """
    if type(enabled) is not bool:
        raise TypeError(f"enabled: takes a bool, got {enabled!r}")
    _core.set_winograd(enabled)


def get_winograd() -> bool:
    """Whether convolutions of 3x3 taps may be computed by Winograd's minimal filtering.

    Returns:
        What ``set_winograd`` said last; True if it has not been called.

    References:
        Lavin and Gray (2016), Fast algorithms for convolutional neural networks, arXiv:1509.09308.

    Example:
        >>> import pyinit.functional as F
        >>> F.get_winograd()
        True
    """
    return _core.winograd()
