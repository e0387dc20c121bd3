"""Fills of CUDA tensors: which tensors the kernels reach, the stream they run on, and their keys."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from pyinit import _core
from pyinit._device import orthogonal as device_orthogonal
from pyinit._random.distributions import NORMAL, Distribution, Parameters, padded
from pyinit._random.orthogonal import checked_gain
from pyinit._random.rng import Source, get_rng, take_key
from pyinit._torch.views import (
    DTYPES,
    LARGEST,
    View,
    is_placeholder,
    is_transformed,
    may_share_memory,
    overridden,
)

try:
    from pyinit import _cuda
except ImportError:  # built without nvcc
    _cuda = None  # type: ignore[assignment]

BUILD: str = "none" if _cuda is None else _cuda.BUILD

Queue = tuple[int, int]
"""A device's index, and the address of a CUDA stream there."""

Fill = tuple[
    View,
    Distribution,
    Parameters,
    tuple[int, int],
    tuple[int, ...] | None,
    tuple[int, ...] | None,
]
"""View, distribution and its parameters, key, and, of a block, the whole's shape and the start."""


def has_kernels_for(tensor: Tensor) -> bool:
    """Whether it is a plain CUDA tensor with its own memory and pyinit was built with CUDA kernels.

    Nothing is asked of tensors that are not plain: a subclass would be shown the question.
    """
    kind = type(tensor)
    return (
        _cuda is not None
        and (kind is Parameter or kind is Tensor)
        and not overridden(tensor)
        and tensor.is_cuda
        and not is_placeholder(tensor)
    )


def writable_view(tensor: Tensor) -> View | None:
    """Where a CUDA kernel may write the tensor; None where torch has to."""
    if not has_kernels_for(tensor):
        return None
    if (
        is_transformed()
        or tensor.is_neg()
        or tensor.layout != torch.strided
        or tensor.dtype not in DTYPES
    ):
        return None
    if tensor.is_inference() and not torch.is_inference_mode_enabled():
        return None
    shape, strides = tuple(tensor.shape), tensor.stride()
    if not _core.non_overlapping(shape, strides):
        return None
    view = View((tensor.data_ptr(), DTYPES[tensor.dtype], shape, strides))
    return view if _cuda.can_fill(view) else None


def queue_of(tensor: Tensor) -> Queue:
    """The tensor's device, and torch's current stream on it."""
    stream = torch.cuda.current_stream(tensor.device)
    return tensor.device.index, stream.cuda_stream


def launch(kernel: str, tensor: Tensor, *arguments: Any) -> None:
    """Call a kernel on the tensor's device, on torch's current stream there."""
    # torch's guard makes no context on a device that the thread does not use.
    with torch.cuda.device(tensor.get_device()):
        getattr(_cuda, kernel)(*arguments, queue_of(tensor))


def scratch_for(kernel: str, tensor: Tensor, *arguments: Any) -> Tensor:
    """Memory on the tensor's device for that kernel and those arguments to work in."""
    size = getattr(_cuda, f"{kernel}_scratch")(*arguments)
    return torch.empty(size, dtype=torch.uint8, device=tensor.device)


def key_for(tensor: Tensor, generator: Source) -> tuple[int, int] | None:
    """The key and the stream of one fill of a CUDA tensor; None where torch has to draw.

    Without a generator, and from a CPU generator, it is the key that a CPU tensor would get. A CUDA
    generator's key is made of its seed and its offset; the offset moves on by 4, as in torch's kernels.

    Raises:
        ValueError: for the generator of another CUDA device.
    """
    if get_rng() != "philox" or not isinstance(generator, torch.Generator):
        return take_key(generator)
    if generator.device.type != "cuda":
        return take_key(generator)
    if generator.device.index not in (None, tensor.device.index):
        raise ValueError(
            f"generator must be on the CPU or on {tensor.device}, got one on {generator.device}"
        )
    offset = generator.get_offset()
    low, high = _core.philox_words(generator.initial_seed() % 2**64, 0, offset, 2).tolist()
    generator.set_offset(offset + 4)
    return int(high << 32 | low), 0


def fill(
    tensor: Tensor, distribution: Distribution, parameters: Parameters, generator: Source
) -> bool:
    """Fill a CUDA tensor on torch's current stream; False where torch has to, or has to refuse."""
    view = writable_view(tensor)
    if view is None or not distribution.takes(LARGEST[view.dtype], *parameters):
        return False
    key = key_for(tensor, generator)
    if key is None:
        return False
    run([(view, distribution, parameters, key, None, None)], tensor)
    return True


def run(fills: list[Fill], *tensors: Tensor) -> None:
    """Launch fills of tensors that lie on one device."""
    batch = [
        (view, distribution.code, padded(parameters), key, whole, start)
        for view, distribution, parameters, key, whole, start in fills
    ]
    launch("fill_many", tensors[0], batch)
    torch._C._increment_version(tensors)


def _normals(lines: list[tuple[Tensor, tuple[int, int], int]]) -> None:
    """Fill lines with standard normal numbers, each from the given index of its stream on."""
    fills: list[Fill] = []
    for line, key, first in lines:
        count = line.numel()
        view = View((line.data_ptr(), DTYPES[line.dtype], (count,), (1,)))
        fills.append((view, NORMAL, (0.0, 1.0), key, (first + count,), (first,)))
    run(fills, *(line for line, _, _ in lines))


def fill_matrices(matrices: Iterable[device_orthogonal.Matrix]) -> None:
    """Fill CUDA tensors with random orthogonal matrices. Those of one shape are made together."""
    device_orthogonal.fill(matrices, _normals)


def orthogonal(tensor: Tensor, gain: Any, generator: Source, groups: int) -> bool:
    """Fill a CUDA tensor with a random orthogonal matrix; False where torch has to."""
    view = writable_view(tensor)
    if view is None or tensor.dim() < 2 or get_rng() != "philox":
        return False
    factor = checked_gain(gain, view)
    key = key_for(tensor, generator)
    if key is None:
        return False
    fill_matrices(device_orthogonal.matrices(tensor, factor, key, groups))
    if factor is None:
        with torch.no_grad():
            tensor.mul_(gain)
    return True


def orthogonal_many(tensors: list[Tensor], gains: list[Any], generators: list[Source]) -> bool:
    """Fill CUDA tensors with the matrices that ``orthogonal`` gives them one after the other.

    Matrices of one shape are made together. Where that cannot be, nothing is done, and the answer is
    False.
    """
    views = [writable_view(tensor) for tensor in tensors]
    found = [view for view in views if view is not None]
    if not found or len(found) < len(views) or get_rng() != "philox":
        return False
    factors = [checked_gain(gain, view) for gain, view in zip(gains, found, strict=True)]
    if None in factors or may_share_memory(found):
        return False
    matrices: list[device_orthogonal.Matrix] = []
    for tensor, factor, generator in zip(tensors, factors, generators, strict=True):
        key = key_for(tensor, generator) if tensor.numel() else None
        if key is not None:
            matrices += device_orthogonal.matrices(tensor, factor, key)
    fill_matrices(matrices)
    return True


def sparse(tensor: Tensor, zeros: int, std: float, generator: Source) -> bool:
    """Fill a CUDA matrix with normal numbers and zeros; False where torch has to."""
    view = writable_view(tensor)
    if view is None or not NORMAL.takes(LARGEST[view.dtype], 0.0, std):
        return False
    key = key_for(tensor, generator)
    if key is None:
        return False
    launch("fill_sparse", tensor, view, zeros, std, key)
    torch._C._increment_version((tensor,))
    return True


def columns(kernel: str, source: Tensor, target: Tensor, *numbers: tuple[int, ...]) -> None:
    """Call ``im2col`` or ``col2im`` for CUDA tensors, with the numbers that the CPU's kernel takes."""
    views = [(t.data_ptr(), DTYPES[t.dtype], tuple(t.shape), t.stride()) for t in (source, target)]
    launch(kernel, target, *views, *numbers)
