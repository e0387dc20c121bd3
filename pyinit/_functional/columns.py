"""Images as columns, columns summed up to images, and the convolution made of them.

``im2col`` and ``col2im`` are ``torch.nn.functional.unfold`` and ``fold``, for one to three spatial
dimensions. What the kernels do not take (other dtypes and devices, tensor subclasses, tracing) goes
to these in two dimensions, and is refused in others, which torch does not have.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.autograd import forward_ad

from pyinit import _core
from pyinit._device import fills as device_fills
from pyinit._torch.eager import eager
from pyinit._torch.original import functional as torchs
from pyinit._torch.views import MOST_ELEMENTS, is_transformed, overridden, place, plain_memory

Numbers: TypeAlias = int | Sequence[int]

_FLOATS = (_core.FLOAT32, _core.FLOAT64)
_LARGEST = 2**31 - 1


class _Geometry(NamedTuple):
    """The kernel's places on an image: one number of each for each spatial dimension."""

    size: tuple[int, ...]
    places: tuple[int, ...]
    kernel_size: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def window(self) -> tuple[tuple[int, ...], ...]:
        """The arguments of ``torch.nn.functional.unfold``."""
        return self[2:]


# ---- Arguments -----------------------------------------------------------------------------------


def _spatial_dims(name: str, value: Numbers) -> int:
    """As many as there are numbers; of a single one 2, as torch."""
    dims = len(value) if isinstance(value, (tuple, list)) else 2
    if not 1 <= dims <= 3:
        raise RuntimeError(f"{name} must be a number, or 1 to 3 of them, got {value!r}")
    return dims


def _numbers(name: str, value: Any, dims: int, least: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * dims
    if len(values) != dims:
        raise RuntimeError(f"{name} must be a number, or {dims} of them, got {value!r}")
    for number in values:
        if type(number) is bool or not hasattr(number, "__index__"):
            raise TypeError(f"{name} must be an int or a tuple of ints, got {value!r}")
        if not least <= number <= _LARGEST:
            raise RuntimeError(f"{name} must be from {least} to {_LARGEST}, got {value!r}")
    return values


def _geometry(
    size: tuple[int, ...],
    kernel_size: Numbers,
    dilation: Numbers,
    padding: Numbers,
    stride: Numbers,
) -> _Geometry:
    dims = len(size)
    kernel_size = _numbers("kernel_size", kernel_size, dims, least=1)
    dilation = _numbers("dilation", dilation, dims, least=1)
    padding = _numbers("padding", padding, dims, least=0)
    stride = _numbers("stride", stride, dims, least=1)
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
    return _Geometry(size, places, kernel_size, dilation, padding, stride)


def _check_shape(tensor: Tensor, sizes: int, takes: str) -> None:
    """It takes as many sizes, none of them 0, and may have a batch of any size in front."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"input must be a torch.Tensor, got {type(tensor).__name__}")
    shape = tuple(tensor.shape)
    if len(shape) not in {sizes, sizes + 1} or 0 in shape[-sizes:]:
        raise RuntimeError(
            f"input must have {sizes} sizes ({takes}), or one more in front for a batch, which alone "
            f"may be 0, got shape {shape}"
        )


# ---- The maps and their gradients ----------------------------------------------------------------


def _is_native(tensor: Tensor) -> bool:
    if overridden(tensor) or is_transformed():
        return False
    view = device_fills.view_of(tensor) if tensor.is_cuda else plain_memory(tensor)
    return view is not None and view[1] in _FLOATS


def _refuse_unless_2d(tensor: Tensor, geometry: _Geometry) -> None:
    """Raise for a tensor that only torch could take, in dimensions that torch does not have."""
    dims = len(geometry.size)
    if dims != 2:
        kind = f"{type(tensor).__name__} of {tensor.dtype} on {tensor.device}"
        raise NotImplementedError(
            f"input must be a plain tensor of float32 or float64 on the CPU (or on CUDA, where its "
            f"kernels were built), outside of transforms and tracing, for {dims} spatial dimensions, "
            f"got a {kind}"
        )


def _is_differentiated(tensor: Tensor) -> bool:
    return (tensor.requires_grad and torch.is_grad_enabled()) or forward_ad._current_level >= 0


def _run(kernel: str, source: Tensor, target: Tensor, geometry: _Geometry) -> Tensor:
    _, places, kernel_size, dilation, padding, stride = geometry
    numbers = kernel_size, places, stride, padding, dilation
    if source.is_cuda:
        device_fills.columns(kernel, source, target, *numbers)
    else:
        threads = torch.get_num_threads()
        getattr(_core, kernel)(place(source), place(target), *numbers, threads)
    return target


def _to_columns(images: Tensor, geometry: _Geometry) -> Tensor:
    if images.stride(-1) != 1:
        images = images.contiguous()  # each pixel is read once for each tap
    batch, channels = images.shape[:2]
    rows = channels * math.prod(geometry.kernel_size)
    columns = images.new_empty((batch, rows, math.prod(geometry.places)))
    return _run("im2col", images, columns, geometry)


def _to_images(columns: Tensor, geometry: _Geometry) -> Tensor:
    batch, rows, _ = columns.shape
    channels = rows // math.prod(geometry.kernel_size)
    images = columns.new_empty((batch, channels, *geometry.size))
    return _run("col2im", columns, images, geometry)


class _Im2col(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, geometry: _Geometry) -> Tensor:
        ctx.geometry = geometry
        return _to_columns(images, geometry)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _images(gradient, ctx.geometry), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return _columns(tangent, ctx.geometry)


class _Col2im(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, columns: Tensor, geometry: _Geometry) -> Tensor:
        ctx.geometry = geometry
        return _to_images(columns, geometry)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _columns(gradient, ctx.geometry), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return _images(tangent, ctx.geometry)


def _columns(images: Tensor, geometry: _Geometry) -> Tensor:
    if not _is_native(images):
        _refuse_unless_2d(images, geometry)
        columns: Tensor = torchs.unfold(images, *geometry.window)
        return columns
    if _is_differentiated(images):
        return _Im2col.apply(images, geometry)  # type: ignore[no-untyped-call, no-any-return]
    return _to_columns(images, geometry)


def _images(columns: Tensor, geometry: _Geometry) -> Tensor:
    if not _is_native(columns):
        _refuse_unless_2d(columns, geometry)
        images: Tensor = torchs.fold(columns, geometry.size, *geometry.window)
        return images
    if _is_differentiated(columns):
        return _Col2im.apply(columns, geometry)  # type: ignore[no-untyped-call, no-any-return]
    return _to_images(columns, geometry)


# ---- Public --------------------------------------------------------------------------------------


@eager
def im2col(
    input: Tensor,
    kernel_size: Numbers,
    dilation: Numbers = 1,
    padding: Numbers = 0,
    stride: Numbers = 1,
) -> Tensor:
    r"""Write out what lies under a kernel at each of its places: ``torch.nn.functional.unfold``.

    Each of the numbers is an int or a tuple of one for each spatial dimension, of which there are as
    many as numbers in ``kernel_size``; of a single one, 2. Where the kernel reaches over the image's
    border there are zeros.

    Args:
        input: images of shape :math:`(N, C, *)` or :math:`(C, *)`, with 1 to 3 spatial dimensions
        kernel_size: the kernel's extents, in taps
        dilation: the distance between taps, in pixels
        padding: how far the kernel reaches over the image on both sides, in pixels
        stride: the distance between the kernel's places, in pixels

    Returns:
        A tensor of shape :math:`(N, C \prod \text{kernel}, L)`, without :math:`N` where ``input``
        has none: channels times taps, in this order, and the :math:`L` places, both row-major.

    Raises:
        TypeError: for an argument of another type.
        RuntimeError: for shapes and numbers that do not fit, or an image that has no place for the
            kernel.
        NotImplementedError: for dtypes, devices or subclasses that only torch could take, unless in
            two dimensions, which it gets.
    """
    dims = _spatial_dims("kernel_size", kernel_size)
    _check_shape(input, dims + 1, "channels and spatial dimensions")
    shape = input.shape
    geometry = _geometry(tuple(shape[-dims:]), kernel_size, dilation, padding, stride)
    if len(shape) == dims + 1:
        return _columns(input.unsqueeze(0), geometry).squeeze(0)
    return _columns(input, geometry)


@eager
def col2im(
    input: Tensor,
    output_size: Numbers,
    kernel_size: Numbers,
    dilation: Numbers = 1,
    padding: Numbers = 0,
    stride: Numbers = 1,
) -> Tensor:
    r"""Sum columns up to images, the transposed map of ``im2col``: ``torch.nn.functional.fold``.

    Each pixel is the sum, in the order of taps, of the elements that ``im2col`` would make of it.
    There are as many spatial dimensions as numbers in ``output_size``; of a single one, 2.

    Args:
        input: columns of shape :math:`(N, C \prod \text{kernel}, L)` or without :math:`N`
        output_size: the images' extents, in pixels
        kernel_size: as ``im2col`` takes it
        dilation: as ``im2col`` takes it
        padding: as ``im2col`` takes it
        stride: as ``im2col`` takes it

    Returns:
        A tensor of shape :math:`(N, C, *)`, without :math:`N` where ``input`` has none.

    Raises:
        TypeError, RuntimeError, NotImplementedError: as ``im2col``.
    """
    dims = _spatial_dims("output_size", output_size)
    size = _numbers("output_size", output_size, dims, least=1)
    geometry = _geometry(size, kernel_size, dilation, padding, stride)
    _check_shape(input, 2, "channels times taps, and places")
    rows, columns = input.shape[-2:]
    if rows % math.prod(geometry.kernel_size):
        raise RuntimeError(
            f"input must have channels times taps in dimension {input.dim() - 2}, "
            f"got {rows} for kernel_size {geometry.kernel_size}"
        )
    if columns != math.prod(geometry.places):
        raise RuntimeError(
            f"input must have the places of the kernel in dimension {input.dim() - 1}, "
            f"got {columns} for {geometry.places}, of output_size {size}, "
            f"kernel_size {geometry.kernel_size}, dilation {geometry.dilation}, "
            f"padding {geometry.padding} and stride {geometry.stride}"
        )
    if input.dim() == 2:
        return _images(input.unsqueeze(0), geometry).squeeze(0)
    return _images(input, geometry)


def convolution_by_im2col(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Numbers = 1,
    padding: Numbers = 0,
    dilation: Numbers = 1,
    groups: int = 1,
) -> Tensor:
    r"""Convolve by explicit ``im2col`` and matrix products: a reference, of no use but to compare.

    It shares no code with pyinit's other convolutions, and takes as many times the image's memory as
    the kernel has taps. Of one to three spatial dimensions, as ``torch.nn.functional.conv1d``,
    ``conv2d`` and ``conv3d``, with their arguments.

    Args:
        input: images of shape :math:`(N, C, *)` or :math:`(C, *)`
        weight: filters of shape :math:`(C', C / \text{groups}, *)`, whose dimensions count
        bias: of shape :math:`(C')`, or None
        stride: a number, or one for each spatial dimension
        padding: a number, or one for each spatial dimension
        dilation: a number, or one for each spatial dimension
        groups: of channels that know nothing of each other; it divides :math:`C` and :math:`C'`

    Returns:
        A tensor of shape :math:`(N, C', *)`, without :math:`N` where ``input`` has none.

    Raises:
        TypeError, RuntimeError, NotImplementedError: as ``im2col``, and where shapes do not fit.
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
    geometry = _geometry(size, kernel, dilation, padding, stride)
    columns = im2col(input, *geometry.window)
    # A product for each image and group.
    filters = weight.reshape(groups, outputs // groups, channels * math.prod(kernel))
    filters = filters.expand(*batch, *filters.shape).flatten(end_dim=-3)
    sums = _product(filters, columns.reshape(*filters.shape[::2], columns.shape[-1]))
    output = sums.reshape(*batch, outputs, *geometry.places)
    return output if bias is None else output + bias.view(-1, *(1 for _ in size))


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        c = a.new_empty(a.shape[0], a.shape[1], b.shape[2])
        _core.gemm(place(a), place(b), place(c), 1.0, 0.0, torch.get_num_threads())
        return c

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        a, b = ctx.saved_tensors
        return _product(gradient, b.mT), _product(a.mT, gradient)


def _product(a: Tensor, b: Tensor) -> Tensor:
    if a.is_cuda or not (_is_native(a) and _is_native(b)):
        return torch.bmm(a, b)
    return _Product.apply(a, b)  # type: ignore[no-untyped-call, no-any-return]
