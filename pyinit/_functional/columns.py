"""Images as columns, and columns summed up to images: ``im2col`` and ``col2im``.

They are ``torch.nn.functional.unfold`` and ``fold``, for one to three spatial dimensions. torch's
functions take what the kernels do not take (other dtypes and devices, tensor subclasses, tracing), in
two dimensions; in one and three, where torch has no such functions, it is refused.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from pyinit import _core
from pyinit._device import fills as device_fills
from pyinit._functional.geometry import LARGEST_STEP, PerDimension, Shape
from pyinit._torch.eager import eager
from pyinit._torch.original import functional as torchs
from pyinit._torch.views import (
    FLOATS,
    MOST_ELEMENTS,
    is_transformed,
    overridden,
    readable_view,
    view_of,
)


class Unfolding(NamedTuple):
    """How images unfold into columns; each field has an integer for each spatial dimension."""

    size: Shape
    """The image's extents."""
    places: Shape
    """How many places the kernel has along each dimension."""
    kernel_size: Shape
    dilation: Shape
    padding: Shape
    stride: Shape

    @property
    def arguments(self) -> tuple[Shape, ...]:
        """The arguments of ``torch.nn.functional.unfold``."""
        return self[2:]


# ---- Arguments -----------------------------------------------------------------------------------


def _spatial_dims(name: str, value: PerDimension) -> int:
    """How many spatial dimensions an argument has integers for; torch takes a single one for two."""
    dims = len(value) if isinstance(value, (tuple, list)) else 2
    if not 1 <= dims <= 3:
        raise RuntimeError(f"{name} must be a number, or 1 to 3 of them, got {value!r}")
    return dims


def _integers(name: str, value: Any, dims: int, least: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * dims
    if len(values) != dims:
        raise RuntimeError(f"{name} must be a number, or {dims} of them, got {value!r}")
    for number in values:
        if type(number) is bool or not hasattr(number, "__index__"):
            raise TypeError(f"{name} must be an int or a tuple of ints, got {value!r}")
        if not least <= number <= LARGEST_STEP:
            raise RuntimeError(f"{name} must be from {least} to {LARGEST_STEP}, got {value!r}")
    return values


def unfolding_of(
    size: Shape,
    kernel_size: PerDimension,
    dilation: PerDimension,
    padding: PerDimension,
    stride: PerDimension,
) -> Unfolding:
    """How images of that size unfold; raises where the kernel has no place on them."""
    dims = len(size)
    kernel_size = _integers("kernel_size", kernel_size, dims, least=1)
    dilation = _integers("dilation", dilation, dims, least=1)
    padding = _integers("padding", padding, dims, least=0)
    stride = _integers("stride", stride, dims, least=1)
    places = tuple(
        [
            (extent + 2 * around - distance * (taps - 1) - 1) // step + 1
            for extent, taps, distance, around, step in zip(
                size, kernel_size, dilation, padding, stride, strict=True
            )
        ]
    )
    if min(places) < 1:
        raise RuntimeError(
            f"kernel_size must fit into the image, got {kernel_size} with dilation {dilation} "
            f"for one of size {size} with padding {padding}"
        )
    if math.prod(places) * math.prod(kernel_size) > MOST_ELEMENTS:
        raise RuntimeError(
            f"columns of {places} places by {kernel_size} taps are more than memory can hold, "
            f"got padding {padding} and stride {stride} for an image of size {size}"
        )
    return Unfolding(size, places, kernel_size, dilation, padding, stride)


def _check_shape(tensor: Tensor, sizes: int, takes: str) -> None:
    """Raise unless the tensor has so many dimensions, none of them empty, or one more for a batch."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"input must be a torch.Tensor, got {type(tensor).__name__}")
    shape = tuple(tensor.shape)
    if len(shape) not in {sizes, sizes + 1} or 0 in shape[-sizes:]:
        raise RuntimeError(
            f"input must have {sizes} sizes ({takes}), or one more in front for a batch, which alone "
            f"may be 0, got shape {shape}"
        )


# ---- The maps and their gradients ----------------------------------------------------------------


def has_kernel(tensor: Tensor) -> bool:
    """Whether a kernel takes the tensor: a plain one of float32 or float64, outside of transforms."""
    if overridden(tensor) or is_transformed():
        return False
    view = device_fills.writable_view(tensor) if tensor.is_cuda else readable_view(tensor)
    return view is not None and view.dtype in FLOATS


def _refuse_unless_2d(tensor: Tensor, unfolding: Unfolding) -> None:
    """Raise for a tensor that only torch could take, in dimensions that torch does not have."""
    dims = len(unfolding.size)
    if dims != 2:
        kind = f"{type(tensor).__name__} of {tensor.dtype} on {tensor.device}"
        raise NotImplementedError(
            f"input must be a plain tensor of float32 or float64 on the CPU (or on CUDA, where its "
            f"kernels were built), outside of transforms and tracing, for {dims} spatial dimensions, "
            f"got a {kind}"
        )


def _is_differentiated(tensor: Tensor) -> bool:
    return (tensor.requires_grad and torch.is_grad_enabled()) or forward_ad._current_level >= 0


def _run(kernel: str, source: Tensor, target: Tensor, unfolding: Unfolding) -> Tensor:
    _, places, kernel_size, dilation, padding, stride = unfolding
    numbers = kernel_size, places, stride, padding, dilation
    if source.is_cuda:
        device_fills.columns(kernel, source, target, *numbers)
    else:
        threads = torch.get_num_threads()
        getattr(_core, kernel)(view_of(source), view_of(target), *numbers, threads)
    return target


def _to_columns(images: Tensor, unfolding: Unfolding) -> Tensor:
    if images.stride(-1) != 1:
        images = images.contiguous()  # each pixel is read once for each tap
    batch, channels = images.shape[:2]
    rows = channels * math.prod(unfolding.kernel_size)
    columns = images.new_empty((batch, rows, math.prod(unfolding.places)))
    return _run("im2col", images, columns, unfolding)


def _to_images(columns: Tensor, unfolding: Unfolding) -> Tensor:
    batch, rows, _ = columns.shape
    channels = rows // math.prod(unfolding.kernel_size)
    images = columns.new_empty((batch, channels, *unfolding.size))
    return _run("col2im", columns, images, unfolding)


class _Im2col(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, unfolding: Unfolding) -> Tensor:
        ctx.unfolding = unfolding
        return _to_columns(images, unfolding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _images(gradient, ctx.unfolding), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return _columns(tangent, ctx.unfolding)


class _Col2im(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, columns: Tensor, unfolding: Unfolding) -> Tensor:
        ctx.unfolding = unfolding
        return _to_images(columns, unfolding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _columns(gradient, ctx.unfolding), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return _images(tangent, ctx.unfolding)


def _columns(images: Tensor, unfolding: Unfolding) -> Tensor:
    if not has_kernel(images):
        _refuse_unless_2d(images, unfolding)
        columns: Tensor = torchs.unfold(images, *unfolding.arguments)
        return columns
    if _is_differentiated(images):
        return _Im2col.apply(images, unfolding)  # type: ignore[no-untyped-call, no-any-return]
    return _to_columns(images, unfolding)


def _images(columns: Tensor, unfolding: Unfolding) -> Tensor:
    if not has_kernel(columns):
        _refuse_unless_2d(columns, unfolding)
        images: Tensor = torchs.fold(columns, unfolding.size, *unfolding.arguments)
        return images
    if _is_differentiated(columns):
        return _Col2im.apply(columns, unfolding)  # type: ignore[no-untyped-call, no-any-return]
    return _to_images(columns, unfolding)


# ---- Public --------------------------------------------------------------------------------------


@eager
def im2col(
    input: Tensor,
    kernel_size: PerDimension,
    dilation: PerDimension = 1,
    padding: PerDimension = 0,
    stride: PerDimension = 1,
) -> Tensor:
    """Write out the pixels that lie under a kernel at each of its places: ``torch.nn.functional.unfold``.

    A kernel that reaches over the image's border meets zeros there. The number of spatial dimensions
    is that of the integers in ``kernel_size``, or two if it is a single integer. Every other argument
    is one integer for all of them, or a tuple with one for each.

    Args:
        input: images of shape ``(N, C, *)`` or ``(C, *)``, with 1 to 3 spatial dimensions.
        kernel_size: the kernel's extents, in taps.
        dilation: the distance between taps, in pixels.
        padding: how far the kernel may reach over each border of the image, in pixels.
        stride: the distance between the kernel's places, in pixels.

    Returns:
        A tensor of shape ``(N, C * taps, L)``, without ``N`` where ``input`` has none: a row for each
        channel and each of the kernel's taps, and a column for each of the ``L`` places, both in
        row-major order.

    Raises:
        TypeError: if an argument has another type.
        RuntimeError: if shapes and integers do not fit together, or the image has no place for the
            kernel.
        NotImplementedError: in one or three dimensions, for dtypes, devices and subclasses that the
            kernels do not take; in two, torch takes them.

    References:
        Chellapilla, Puri and Simard (2006), High performance convolutional neural networks for
        document processing.

    Example:
        >>> import torch, pyinit
        >>> image = torch.arange(9.0).reshape(1, 3, 3)
        >>> pyinit.functional.im2col(image, kernel_size=2)
        tensor([[0., 1., 3., 4.],
                [1., 2., 4., 5.],
                [3., 4., 6., 7.],
                [4., 5., 7., 8.]])
    """
    dims = _spatial_dims("kernel_size", kernel_size)
    _check_shape(input, dims + 1, "channels and spatial dimensions")
    shape = input.shape
    unfolding = unfolding_of(tuple(shape[-dims:]), kernel_size, dilation, padding, stride)
    if len(shape) == dims + 1:
        return _columns(input.unsqueeze(0), unfolding).squeeze(0)
    return _columns(input, unfolding)


@eager
def col2im(
    input: Tensor,
    output_size: PerDimension,
    kernel_size: PerDimension,
    dilation: PerDimension = 1,
    padding: PerDimension = 0,
    stride: PerDimension = 1,
) -> Tensor:
    """Sum columns up to images, the transposed map of ``im2col``: ``torch.nn.functional.fold``.

    Each pixel is the sum of the elements that ``im2col`` would copy it to, in the order of taps. The
    number of spatial dimensions is that of the integers in ``output_size``, or two if it is a single
    integer.

    Args:
        input: columns of shape ``(N, C * taps, L)``, as ``im2col`` gives them, or without ``N``.
        output_size: the images' extents, in pixels.
        kernel_size: the kernel's extents, in taps.
        dilation: the distance between taps, in pixels.
        padding: how far the kernel may reach over each border of the image, in pixels.
        stride: the distance between the kernel's places, in pixels.

    Returns:
        A tensor of shape ``(N, C, *)``, without ``N`` where ``input`` has none.

    Raises:
        TypeError: if an argument has another type.
        RuntimeError: if shapes and integers do not fit together.
        NotImplementedError: in one or three dimensions, for dtypes, devices and subclasses that the
            kernels do not take; in two, torch takes them.

    References:
        Chellapilla, Puri and Simard (2006), High performance convolutional neural networks for
        document processing.

    Example:
        >>> import torch, pyinit
        >>> columns = torch.ones(4, 4)
        >>> pyinit.functional.col2im(columns, output_size=3, kernel_size=2)
        tensor([[[1., 2., 1.],
                 [2., 4., 2.],
                 [1., 2., 1.]]])
    """
    dims = _spatial_dims("output_size", output_size)
    size = _integers("output_size", output_size, dims, least=1)
    unfolding = unfolding_of(size, kernel_size, dilation, padding, stride)
    _check_shape(input, 2, "channels times taps, and places")
    rows, columns = input.shape[-2:]
    if rows % math.prod(unfolding.kernel_size):
        raise RuntimeError(
            f"input must have channels times taps in dimension {input.dim() - 2}, "
            f"got {rows} for kernel_size {unfolding.kernel_size}"
        )
    if columns != math.prod(unfolding.places):
        raise RuntimeError(
            f"input must have the places of the kernel in dimension {input.dim() - 1}, "
            f"got {columns} for {unfolding.places}, of output_size {size}, "
            f"kernel_size {unfolding.kernel_size}, dilation {unfolding.dilation}, "
            f"padding {unfolding.padding} and stride {unfolding.stride}"
        )
    if input.dim() == 2:
        return _images(input.unsqueeze(0), unfolding).squeeze(0)
    return _images(input, unfolding)
