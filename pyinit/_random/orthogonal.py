"""What the orthogonal initializers share: gains, the matrices that a call asks for, torch's own numbers."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyinit import _core
from pyinit._random import torch_stream
from pyinit._random.rng import Key, Source, as_key, is_torchs_key
from pyinit._torch.arrays import as_tensor
from pyinit._torch.views import DTYPES, ITEM_SIZES, View, whole_shape

_Place = tuple[int, ...] | None
Job = tuple[View, float, tuple[int, int], _Place, _Place]
"""One matrix to make: where it goes, its gain, its key, and, of a group, the whole's shape and its start."""

_DTYPES = {code: dtype for dtype, code in DTYPES.items()}
# The type that a matrix is computed in, and multiplied by its gain.
_COMPUTED_IN = dict.fromkeys(_DTYPES, torch.float32) | {_core.FLOAT64: torch.float64}
_LARGEST = {code: torch.finfo(dtype).max for code, dtype in _COMPUTED_IN.items()}


def checked_gain(gain: object, view: View) -> float | None:
    """The gain as a float that kernels take; None where torch has to multiply the finished matrix by it.

    Raises:
        ValueError: for a gain that would leave no finite matrix.
        Exception: what torch raises for a gain that it cannot multiply by.
    """
    number = _as_float(gain)
    if number is None:
        _refuse_unless_a_factor(gain, view)
    elif not abs(number) <= _LARGEST[view.dtype]:
        raise ValueError(f"gain must be finite in {_COMPUTED_IN[view.dtype]}, got {number}")
    return number


def _as_float(gain: object) -> float | None:
    if isinstance(gain, int):
        return float(gain) if -(2**63) <= gain < 2**63 else None  # torch refuses larger ones
    return float(gain) if isinstance(gain, (float, np.floating, np.integer, np.bool_)) else None


def _refuse_unless_a_factor(gain: Any, view: View) -> None:
    """Raise what torch raises where it cannot multiply such a tensor by the gain."""
    shape = view.shape if isinstance(gain, Tensor) and gain.dim() else (1,)
    with torch.no_grad():
        torch.empty(shape, dtype=_DTYPES[view.dtype], device="cpu").mul_(gain)


def jobs(view: View, gain: float | None, key: tuple[int, int], groups: int) -> list[Job]:
    """A matrix for each group of rows. It is made of the numbers that the whole matrix has there."""
    gain = 1.0 if gain is None else gain
    if groups == 1:
        return [(view, gain, key, None, None)]
    shape = view.shape
    parts = _rows_of_groups(view, groups)
    others = (0,) * (len(shape) - 1)
    return [(part, gain, key, shape, (g * part[2][0], *others)) for g, part in enumerate(parts)]


def _rows_of_groups(view: View, groups: int) -> list[View]:
    address, code, shape, strides = view
    rows = shape[0] // groups
    step = rows * strides[0] * ITEM_SIZES[code]
    return [View((address + g * step, code, (rows, *shape[1:]), strides)) for g in range(groups)]


# ---- Arguments of orthogonal_many_ ---------------------------------------------------------------


def listed_tensors(tensors: Iterable[Any]) -> tuple[list[Any], list[Tensor]]:
    """What is to be filled as a list, and the tensors in its memory, each of at least two dimensions."""
    if isinstance(tensors, (Tensor, np.ndarray)):
        kind = type(tensors).__name__
        raise TypeError(f"tensors must be an iterable of tensors, got a {kind}: did you mean [it]?")
    try:
        given = list(tensors)
    except TypeError:
        raise TypeError(f"tensors must be an iterable of tensors, got {tensors!r}") from None
    listed = [
        one if isinstance(one, Tensor) else as_tensor(f"tensors[{i}]", one)
        for i, one in enumerate(given)
    ]
    for i, tensor in enumerate(listed):
        if len(shape := whole_shape(tensor)) < 2:
            raise ValueError(
                "Only tensors with 2 or more dimensions are supported, "
                f"got tensors[{i}] of shape {shape}"
            )
    return given, listed


def listed_gains(gain: Any, count: int) -> list[Any]:
    """A gain for each tensor. Whether torch or a kernel can multiply by it is not known yet."""
    if _is_single(gain):
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
        if not _is_single(one):
            raise TypeError(f"gain[{i}] must be a number, got {one!r}")
    return listed


def _is_single(gain: object) -> bool:
    """Whether it is one gain, not a list of them: a tensor without dimensions counts, whatever it holds."""
    is_scalar = isinstance(gain, Tensor) and gain.dim() == 0
    return is_scalar or isinstance(gain, (float, int, np.floating, np.integer, np.bool_))


def listed_sources(generator: Source, tensors: list[Tensor]) -> list[Source]:
    """Where each tensor's numbers come from. With a key, tensor i has the stream numbered i higher."""
    if is_torchs_key(generator):
        generator = as_key(generator)
    if type(generator) is Key:
        return [generator.further(i) for i in range(len(tensors))]
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
    """Fill with the matrix that torch makes of its normals; False where torch has to draw them itself."""
    code, shape = view.dtype, view.shape
    if _DTYPES[code] is not _COMPUTED_IN[code]:
        return False  # torch has no factorization of the 16-bit types
    # The normals may stand where the matrix will be.
    gaussian = (
        tensor if tensor.is_contiguous() else torch.empty(shape, dtype=tensor.dtype, device="cpu")
    )
    count, address = tensor.numel(), gaussian.data_ptr()
    line = View((address, code, (count,), (1,)))
    if not torch_stream.normal(gaussian, line, 0.0, 1.0, generator):
        return False
    number = _as_float(gain)
    factor = None if number is None or abs(number) > _LARGEST[code] else number
    for g, rows in enumerate(_rows_of_groups(view, groups)):
        start = address + g * (count // groups) * ITEM_SIZES[code]
        _core.fill_orthonormalized(
            rows, start, 1.0 if factor is None else factor, torch.get_num_threads()
        )
    torch._C._increment_version((tensor,))
    if factor is None:
        with torch.no_grad():
            tensor.mul_(gain)
    return True
