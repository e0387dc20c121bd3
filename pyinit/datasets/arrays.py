"""NumPy arrays as the tensors that models take."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def standardized(values: NDArray[Any]) -> Tensor:
    """Whole numbers as float32, with mean 0 and standard deviation 1 over all of them.

    About so LeCun et al. 1998 ("Gradient-based learning applied to document recognition") scale the
    images of MNIST. The sums are exact, and so the bits are the same on every machine.
    """
    whole = values.astype(np.int64)
    mean = int(whole.sum()) / whole.size
    std = (int((whole * whole).sum()) / whole.size - mean**2) ** 0.5
    return torch.from_numpy(((whole - mean) / std).astype(np.float32))


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
