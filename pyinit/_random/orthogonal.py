"""What the orthogonal initializers are made of: gains, groups, views, and torch's own way."""

from collections.abc import Iterable
from itertools import pairwise
from operator import mul
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyinit import _core
from pyinit._random import torch_stream
from pyinit._random.rng import Key, Source
from pyinit._torch.views import DTYPES, View

_Place = tuple[int, ...] | None
Job = tuple[View, float, tuple[int, int], _Place, _Place]

_DTYPES = {code: dtype for dtype, code in DTYPES.items()}
SIZES = {code: dtype.itemsize for code, dtype in _DTYPES.items()}
# The type that a matrix is computed in, and multiplied by its gain.
_LANES = dict.fromkeys(SIZES, torch.float32) | {_core.FLOAT64: torch.float64}
_LARGEST = {code: torch.finfo(dtype).max for code, dtype in _LANES.items()}


def factor(gain: object, view: View) -> float | None:
    """The gain as a float; None for what is no plain number, to multiply by once the matrix is there.

    Refuses what would leave no finite matrix, and what torch cannot multiply by.
    """
    number = _plain(gain)
    if number is None:
        _refuse_factor(gain, view)
    elif not abs(number) <= _LARGEST[view[1]]:
        raise ValueError(f"gain must be finite in {_LANES[view[1]]}, got {number}")
    return number


def _plain(gain: object) -> float | None:
    if isinstance(gain, int):
        return float(gain) if -(2**63) <= gain < 2**63 else None  # torch refuses larger ones
    return float(gain) if isinstance(gain, (float, np.floating, np.integer, np.bool_)) else None


def _refuse_factor(gain: Any, view: View) -> None:
    """Raise what torch raises where it cannot multiply such a tensor by the gain."""
    shape = view[2] if isinstance(gain, Tensor) and gain.dim() else (1,)
    with torch.no_grad():
        torch.empty(shape, dtype=_DTYPES[view[1]], device="cpu").mul_(gain)


def jobs(view: View, factor: float | None, key: tuple[int, int], groups: int) -> list[Job]:
    """One matrix for each group of rows, of the numbers that the whole matrix would have there."""
    gain = 1.0 if factor is None else factor
    if groups == 1:
        return [(view, gain, key, None, None)]
    shape = view[2]
    parts = _parts(view, groups)
    others = (0,) * (len(shape) - 1)
    return [(part, gain, key, shape, (g * part[2][0], *others)) for g, part in enumerate(parts)]


def _parts(view: View, groups: int) -> list[View]:
    """The rows of each group."""
    address, code, shape, strides = view
    rows = shape[0] // groups
    step = rows * strides[0] * SIZES[code]
    return [(address + g * step, code, (rows, *shape[1:]), strides) for g in range(groups)]


def centre_of(view: View) -> View:
    """The matrix (out, in) at the centre tap of a convolution's weight."""
    address, code, shape, strides = view
    taps = zip(shape[2:], strides[2:], strict=True)
    offset = sum(size // 2 * stride for size, stride in taps)
    return address + offset * SIZES[code], code, shape[:2], strides[:2]


def extent(view: View) -> int:
    """Bytes from a view's first element to behind its last; 0 without elements."""
    _, code, shape, strides = view
    if len(shape) == 1 and strides[0] == 1:
        return SIZES[code] * shape[0]
    return 0 if 0 in shape else SIZES[code] * (1 + sum(map(mul, shape, strides)) - sum(strides))


def may_share_memory(views: Iterable[View]) -> bool:
    """Whether any two reach over the same memory, though they may share no element."""
    spans = sorted((view[0], view[0] + extent(view)) for view in views)
    return any(end > start for (_, end), (start, _) in pairwise(spans))


# ---- Many at once --------------------------------------------------------------------------------


def listed_tensors(tensors: Iterable[Tensor]) -> list[Tensor]:
    if isinstance(tensors, Tensor):
        raise TypeError("tensors must be an iterable of tensors, got a Tensor: did you mean [it]?")
    try:
        listed = list(tensors)
    except TypeError:
        raise TypeError(f"tensors must be an iterable of tensors, got {tensors!r}") from None
    for i, tensor in enumerate(listed):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"tensors[{i}] must be a torch.Tensor, got {type(tensor).__name__}")
        if tensor.dim() < 2:
            raise ValueError(
                "Only tensors with 2 or more dimensions are supported, "
                f"got tensors[{i}] of shape {tuple(tensor.shape)}"
            )
    return listed


def listed_gains(gain: Any, count: int) -> list[Any]:
    if _is_number(gain):
        return [gain] * count
    try:
        listed = list(gain)
    except TypeError:
        raise TypeError(f"gain must be a number, or one for each tensor, got {gain!r}") from None
    if len(listed) != count:
        raise ValueError(
            f"gain must be a number, or one for each tensor, got {len(listed)} gains "
            f"for {count} tensors"
        )
    for i, one in enumerate(listed):
        if not _is_number(one):
            raise TypeError(f"gain[{i}] must be a number, got {one!r}")
    return listed


def _is_number(value: object) -> bool:
    is_scalar = isinstance(value, Tensor) and value.dim() == 0
    return is_scalar or isinstance(value, (float, int, np.floating, np.integer, np.bool_))


def listed_sources(generator: Source, tensors: list[Tensor]) -> list[Source]:
    """Where each tensor's numbers come from: with a ``Key`` from one stream after the other."""
    if type(generator) is Key:
        key, stream = generator
        return [Key(key, (stream + i) % 2**64) for i in range(len(tensors))]
    if generator is not None:
        if not isinstance(generator, torch.Generator):
            raise TypeError(f"generator must be a torch.Generator, got {generator!r}")
        for i, tensor in enumerate(tensors):
            if not tensor.is_meta and tensor.device.type != generator.device.type:
                raise ValueError(
                    f"generator must be on the device of tensors[{i}], {tensor.device}, "
                    f"got one on {generator.device}"
                )
    return [generator] * len(tensors)


# ---- torch's own numbers -------------------------------------------------------------------------


def fill_from_torchs_numbers(
    tensor: Tensor, view: View, gain: Any, generator: Source, groups: int
) -> bool:
    """Fill with the matrix that torch makes of its normals; False where it must draw them itself."""
    code, shape = view[1:3]
    if _DTYPES[code] is not _LANES[code]:
        return False  # torch has no factorization of the 16-bit types
    # The normals may stand where the matrix will be.
    is_own = tensor.is_contiguous()
    gaussian = tensor if is_own else torch.empty(shape, dtype=tensor.dtype, device="cpu")
    count, address = tensor.numel(), gaussian.data_ptr()
    line = address, code, (count,), (1,)
    if not torch_stream.normal(gaussian, line, 0.0, 1.0, generator):
        return False
    number = _plain(gain)
    factor = None if number is None or abs(number) > _LARGEST[code] else number
    for g, part in enumerate(_parts(view, groups)):
        start = address + g * (count // groups) * SIZES[code]
        _core.fill_orthonormalized(
            part, start, 1.0 if factor is None else factor, torch.get_num_threads()
        )
    torch._C._increment_version((tensor,))
    if factor is None:
        with torch.no_grad():
            tensor.mul_(gain)
    return True
