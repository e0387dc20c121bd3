"""Arrays in NumPy's files, read as numbers: nothing in them is executed."""

import lzma
import os
import tokenize
import zlib
from collections.abc import Collection, Mapping
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from pyinit.datasets.arrays import as_inputs, as_target, count_classes
from pyinit.datasets.dataset import Dataset

SUFFIXES = (".npy", ".npz")
# What NumPy and zipfile raise at what they cannot read: RuntimeError where it is encrypted.
_DAMAGED = (
    *(ValueError, EOFError, OverflowError, RuntimeError, NotImplementedError),
    *(BadZipFile, zlib.error, lzma.LZMAError, tokenize.TokenError),
)
_INPUTS, _TARGET = ("x", "inputs"), ("y", "target")


def load(path: str) -> Dataset:
    """The array of a .npy file as inputs, or inputs and target of a .npz file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such file, or holds other arrays.
    """
    name = os.path.basename(path)
    arrays = _read(path)
    inputs = _one_of(_INPUTS, arrays, name)
    if inputs is None:
        raise ValueError(
            f"{name}: inputs must be named {' or '.join(_INPUTS)}, got {', '.join(arrays) or 'nothing'}"
        )
    found = _one_of(_TARGET, arrays, name)
    target = None if found is None else as_target(name, found)
    return Dataset(name, as_inputs(name, inputs), target, count_classes(target))


def _read(path: str) -> dict[str, Any]:
    """The arrays of a file, by name; None for those of other names, which are not read."""
    try:
        with open(path, "rb") as file:
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return {_INPUTS[0]: found}
            return {name: found[name] if name in _INPUTS + _TARGET else None for name in found}
    except MemoryError as error:
        raise ValueError(f"{path}: too large for the memory: {error}") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise _not_whole(path) from error  # so bz2 tells of what it cannot read
    except _DAMAGED as error:
        raise _not_whole(path) from error


def _not_whole(path: str) -> ValueError:
    return ValueError(
        f"{path}: not a whole .npy or .npz file of numbers (pickled objects are not loaded)"
    )


def _one_of(names: Collection[str], arrays: Mapping[str, Any], file: str) -> NDArray[Any] | None:
    there = [name for name in names if name in arrays]
    if len(there) > 1:
        raise ValueError(f"{file} has both {' and '.join(there)}")
    return np.asarray(arrays[there[0]]) if there else None  # what is no .npy file comes as bytes
