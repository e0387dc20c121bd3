"""A convolution made of ``im2col`` and matrix products, to compare the others with."""

import math
from typing import Any

import torch
from torch import Tensor

from pyinit import _core
from pyinit._functional.columns import has_kernel, im2col, unfolding_of
from pyinit._functional.geometry import PerDimension
from pyinit._torch.views import view_of


def convolution_by_im2col(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: PerDimension = 1,
    padding: PerDimension = 0,
    dilation: PerDimension = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve by ``im2col`` and matrix products: a reference to compare other convolutions with.

    It shares no code with pyinit's other convolutions, and its memory is that of the input times the
    number of taps.

    Args:
        input: images of shape ``(N, C, *)`` or ``(C, *)``, with 1 to 3 spatial dimensions.
        weight: filters of shape ``(C', C / groups, *)``; its dimensions decide how many
            spatial ones there are.
        bias: a tensor of shape ``(C')``, or None.
        stride: the distance between the kernel's places, in pixels: one integer, or one for each
            spatial dimension.
        padding: how far the kernel may reach over each border of the image, in pixels, likewise.
        dilation: the distance between taps, in pixels, likewise.
        groups: the number of parts into which the ``C`` channels and the ``C'`` output
            channels are divided, and which are convolved separately.

    Returns:
        A tensor of shape ``(N, C', *)``, without ``N`` where ``input`` has none.

    Raises:
        TypeError: if an argument has another type.
        RuntimeError: if shapes, dtypes and integers do not fit together.
        NotImplementedError: in one or three dimensions, for dtypes, devices and subclasses that
            ``im2col`` does not take there.

    References:
        Chellapilla, Puri and Simard (2006), High performance convolutional neural networks for
        document processing.

    Example:
        >>> import torch, pyinit.functional as F
        >>> x, weight = torch.randn(1, 3, 8, 8), torch.randn(4, 3, 3, 3)
        >>> reference = F.convolution_by_im2col(x, weight, padding=1)
        >>> torch.allclose(F.conv2d(x, weight, padding=1), reference, atol=1e-4)
        True
    """
    outputs, channels, *kernel = weight.shape
    dims = len(kernel)
    if not 1 <= dims <= 3:
        raise RuntimeError(f"weight must have 3 to 5 dimensions, got shape {tuple(weight.shape)}")
    if groups < 1 or outputs % groups:
        raise RuntimeError(f"groups must divide the {outputs} filters of weight, got {groups}")
    if input.dim() not in {dims + 1, dims + 2} or input.shape[-dims - 1] != channels * groups:
        raise RuntimeError(
            f"input must have {channels * groups} channels and {dims} spatial dimensions, for a weight "
            f"of shape {tuple(weight.shape)} and {groups} groups, got shape {tuple(input.shape)}"
        )
    if bias is not None and bias.shape != (outputs,):
        raise RuntimeError(f"bias must have shape {(outputs,)}, got {tuple(bias.shape)}")
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None and tensor.dtype != input.dtype:
            raise RuntimeError(f"{name} must be of input's {input.dtype}, got {tensor.dtype}")
    batch, size = input.shape[: -dims - 1], tuple(input.shape[-dims:])
    unfolding = unfolding_of(size, kernel, dilation, padding, stride)
    columns = im2col(input, *unfolding.arguments)
    # A product for each image and group.
    filters = weight.reshape(groups, outputs // groups, channels * math.prod(kernel))
    filters = filters.expand(*batch, *filters.shape).flatten(end_dim=-3)
    sums = _product(filters, columns.reshape(*filters.shape[::2], columns.shape[-1]))
    output = sums.reshape(*batch, outputs, *unfolding.places)
    return output if bias is None else output + bias.view(-1, *(1 for _ in size))


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        c = a.new_empty(a.shape[0], a.shape[1], b.shape[2])
        _core.gemm(view_of(a), view_of(b), view_of(c), 1.0, 0.0, torch.get_num_threads())
        return c

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        a, b = ctx.saved_tensors
        return _product(gradient, b.mT), _product(a.mT, gradient)


def _product(a: Tensor, b: Tensor) -> Tensor:
    if a.is_cuda or not (has_kernel(a) and has_kernel(b)):
        return torch.bmm(a, b)
    return _Product.apply(a, b)  # type: ignore[no-untyped-call, no-any-return]
