"""Arrays of NumPy, and of what speaks DLPack, as tensors in the same memory."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pyinit import _core
from pyinit._torch.placement import loaded
from pyinit._torch.views import DTYPES, Backwards, View, dtype_name, is_transformed

Array = npt.NDArray[Any]

_CODES = {dtype_name(dtype): code for dtype, code in DTYPES.items()}  # ml_dtypes has bfloat16


_CPU = 1  # kDLCPU of DLPack
# What an object copies it must not fill. NumPy before 2.1 cannot ask for that, and takes all for read-only.
_IN_PLACE: dict[str, Any] = (
    {"copy": False} if np.lib.NumpyVersion(np.__version__) >= "2.1.0" else {}
)


def writable_array(name: str, array: Array) -> View:
    """Where an array lies in memory, with its own steps, negative ones included.

    Args:
        name: what the array is called in errors
        array: the array

    Raises:
        TypeError: for a subclass of ``numpy.ndarray`` other than ``memmap``, or another dtype.
        ValueError: for an array that is read-only, not aligned, or has elements that share memory.
    """
    if type(array) is not np.ndarray and not isinstance(array, np.memmap):
        raise TypeError(f"{name} must be a plain numpy.ndarray, got {type(array).__name__}")
    code = _CODES.get(array.dtype.name) if array.dtype.isnative else None
    if code is None:
        *most, last = _CODES
        raise TypeError(
            f"{name} must have dtype {', '.join(most)} or {last} in native byte order, "
            f"got {array.dtype}"
        )
    if not array.flags.writeable:
        raise ValueError(f"{name} must be writable, got a read-only array")
    size = array.itemsize
    if not array.flags.aligned or any(stride % size for stride in array.strides):
        raise ValueError(
            f"{name} must be aligned to its elements, got byte strides {array.strides}"
        )
    strides = tuple(stride // size for stride in array.strides)
    if not _core.non_overlapping(array.shape, strides):
        raise ValueError(
            f"{name} must not have elements that share memory, got byte strides {array.strides}"
        )
    return View((array.ctypes.data, code, array.shape, strides))


def as_tensor(name: str, value: Any) -> Tensor:
    """A tensor in the memory of an array, or of an object of the CPU with ``__dlpack__``.

    Args:
        name: what the array is called in errors
        value: the array or object

    Raises:
        TypeError: for anything else, and for a dtype that kernels do not write.
        ValueError: for memory that is read-only, not aligned, or shared between elements.
        RuntimeError: under torch's transforms, tracing and dispatch modes, which see no arrays.
    """
    if is_transformed():
        raise RuntimeError(f"{name} must be a tensor inside of torch's transforms and modes")
    array = value if isinstance(value, np.ndarray) else _by_dlpack(name, value)
    view = writable_array(name, array)
    backwards = tuple(dim for dim, stride in enumerate(array.strides) if stride < 0)
    forwards = np.flip(array, backwards) if backwards else array
    if forwards.dtype.name == "bfloat16":
        tensor = torch.from_numpy(forwards.view(np.int16)).view(torch.bfloat16)
    else:
        tensor = torch.from_numpy(forwards)
    return Backwards.of(tensor, view, backwards) if backwards else tensor


def _by_dlpack(name: str, value: Any) -> Array:
    """The array in an object's memory. It is read-only unless the object says that it is not.

    NumPy 2.1 and later asks for DLPack 1.0, where an object can say so, and takes the others for read-only.
    """
    kind = type(value).__name__
    tracer = loaded("jax.core", "Tracer")
    if tracer is not None and isinstance(value, tracer):
        raise TypeError(
            f"{name} must have memory, got a JAX tracer, which stands for values to come"
        )
    if not hasattr(value, "__dlpack__"):
        raise TypeError(
            f"{name} must be a torch.Tensor, a numpy.ndarray, or an object of the CPU with "
            f"__dlpack__, got {kind}"
        )
    try:
        device, _ = map(int, value.__dlpack_device__())
    except Exception as error:
        raise TypeError(
            f"{name} must be an object that tells its device by __dlpack_device__, got {kind}: {error}"
        ) from error
    if device != _CPU:
        raise ValueError(
            f"{name} must be on the CPU, got an object ({kind}) on DLPack's device type {device}"
        )
    try:
        array = _in_place(value)
    except Exception as error:
        raise TypeError(
            f"{name} must be an object whose memory NumPy can reach by __dlpack__, got {kind}: {error}"
        ) from error
    if not array.flags.writeable:
        raise ValueError(
            f"{name} must be writable, got an object ({kind}) that is read-only, "
            "or does not say by DLPack 1.0 that it is writable"
        )
    return array


def _in_place(value: Any) -> Array:
    """The array, of which the object is asked to make no copy: what fills one would be lost.

    An object or a NumPy that does not know the question knows no DLPack 1.0 either, so that the array is
    read-only.
    """
    try:
        return np.from_dlpack(value, copy=False)
    except TypeError:
        return np.from_dlpack(value)
