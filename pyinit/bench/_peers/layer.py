"""A layer as peers are given it."""

from typing import NamedTuple

from torch import Tensor


class ConvolutionLayer(NamedTuple):
    """A convolution of images, whose tensors are contiguous and have the dtype float32.

    With a bias, ReLU follows. ``output`` is the memory that the result is written to.
    """

    images: Tensor
    weight: Tensor
    bias: Tensor | None
    stride: int
    padding: int
    groups: int
    output: Tensor
