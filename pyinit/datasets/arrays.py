"""NumPy arrays as the tensors that models take."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LARGEST = 4 * 2**30  # bytes of inputs that are read from many files or samples
_PART = 2**24  # values that are counted at once, so that counting takes little memory


def standardized(values: NDArray[Any]) -> Tensor:
    """Whole numbers from 0 to 255 as float32, with mean 0 and standard deviation 1 over all of them.

    About so LeCun et al. 1998 ("Gradient-based learning applied to document recognition") scale the
    images of MNIST. The sums are exact, and so the bits are the same on every machine.
    """
    pixels = np.ascontiguousarray(values, np.uint8)
    parts = np.array_split(pixels.ravel(), pixels.size // _PART + 1)
    counts = sum(np.bincount(part, minlength=256) for part in parts)
    levels = np.arange(256)
    mean = int((levels * counts).sum()) / pixels.size
    std = (int((levels * levels * counts).sum()) / pixels.size - mean**2) ** 0.5
    return torch.from_numpy(((levels - mean) / (std or 1)).astype(np.float32)[pixels])


def as_inputs(name: str, array: NDArray[Any]) -> Tensor:
    """Floating-point numbers and booleans as float32, bytes as float32 from 0 to 1, integers as int64.

    Raises:
        ValueError: For an array of anything else.
    """
    _refuse_others(name, "inputs", array)
    if array.dtype == np.uint8:
        return torch.from_numpy(array.astype(np.float32) / np.float32(255))
    if array.dtype.kind in "iu":
        return torch.from_numpy(array.astype(np.int64))
    return _as_float32(name, "inputs", array)


def as_target(name: str, array: NDArray[Any]) -> Tensor:
    """Floating-point numbers as float32, integers and booleans as int64.

    Raises:
        ValueError: For an array of anything else.
    """
    _refuse_others(name, "a target", array)
    if array.dtype.kind == "f":
        return _as_float32(name, "a target", array)
    return torch.from_numpy(array.astype(np.int64))


def _as_float32(name: str, what: str, array: NDArray[Any]) -> Tensor:
    with np.errstate(over="ignore"):
        found = array.astype(np.float32)
    if np.isinf(found).sum() > np.isinf(array).sum():
        raise ValueError(f"{name} has {what} of more than float32's greatest number, 3.4e38")
    return torch.from_numpy(found)


def count_classes(target: Any) -> int | None:
    """How many classes there are, if the target is a tensor of their numbers."""
    if not isinstance(target, Tensor) or target.is_floating_point() or target.is_complex():
        return None
    if target.numel() == 0 or int(target.min()) < 0:
        return None
    return int(target.max()) + 1


def _refuse_others(name: str, what: str, array: NDArray[Any]) -> None:
    if array.dtype.kind not in "iubf" or array.dtype == np.uint64:
        raise ValueError(
            f"{name} has {what} of {array.dtype}; what can be taken are floating-point numbers, booleans, "
            "and integers of at most 63 bits"
        )
