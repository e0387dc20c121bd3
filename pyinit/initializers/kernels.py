"""Kernels of Keras and JAX, (*window, in, out), filled by initializers that know torch's weights."""

import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy.typing as npt
import torch
from torch import Tensor

from pyinit._messages import needed
from pyinit._random.rng import Key
from pyinit._torch.views import DTYPES, dtype_name
from pyinit.initializers._base import Drawn, Initializer, Weight
from pyinit.initializers._drawn import DeltaOrthogonal, Eye, Orthogonal

_DTYPES = {dtype_name(dtype): dtype for dtype in DTYPES}


def checked_shape(shape: Any) -> tuple[int, ...]:
    """A shape as integers.

    Raises:
        TypeError: if it is no sequence of integers.
        ValueError: for a negative size.
    """
    try:
        sizes = tuple(map(operator.index, shape))
    except Exception as error:  # a tracer has errors of its own
        raise TypeError(f"shape must be a sequence of integers, got {shape!r}") from error
    if any(size < 0 for size in sizes):
        raise ValueError(f"shape must have no negative sizes, got {sizes}")
    return sizes


def checked_dtype(name: str) -> torch.dtype:
    """The dtype that kernels fill of that name.

    Raises:
        TypeError: for any other dtype.
    """
    if name not in _DTYPES:
        raise TypeError(f"dtype must be one of {', '.join(_DTYPES)}, got {name}")
    return _DTYPES[name]


def fans_of_axes(
    shape: Sequence[int], inputs: Sequence[int], outputs: Sequence[int]
) -> tuple[int, int]:
    """The products of the sizes of some axes."""
    fan_in, fan_out = (math.prod(shape[axis] for axis in axes) for axes in (inputs, outputs))
    return fan_in, fan_out


def keras_fans(shape: Sequence[int]) -> tuple[int, int]:
    """Fan in and fan out as Keras counts them: of a kernel, a vector, or a single number."""
    if len(shape) < 2:
        return (math.prod(shape),) * 2
    taps = math.prod(shape[:-2])
    return shape[-2] * taps, shape[-1] * taps


class Kernel(NamedTuple):
    """A kernel to be made: its shape, (*window, in, out), its dtype, and what draws it as which weight."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    drawn: Drawn
    weight: Weight

    def filled(self, key: Key) -> Tensor:
        """The kernel, on the CPU."""
        kernel = torch.empty(self.shape, dtype=self.dtype, device="cpu")
        as_drawn = kernel
        if isinstance(self.drawn, DeltaOrthogonal):
            as_drawn = kernel.movedim((-1, -2), (0, 1))
        elif isinstance(self.drawn, Orthogonal):
            as_drawn = kernel.view(self.weight.shape)
        if kernel.numel():
            self.drawn.fill_(as_drawn, key)
        return kernel


def planned(
    initializer: Initializer, shape: tuple[int, ...], dtype: torch.dtype, fans: tuple[int, int]
) -> Kernel:
    """The kernel that an initializer makes, with nothing drawn yet.

    A matrix that is orthogonal has a row for each tap and input, and a column for each output.

    Args:
        initializer: what draws the numbers
        shape: the kernel's shape, (*window, in, out)
        dtype: its dtype
        fans: what counts as its fan in and fan out

    Raises:
        ValueError: if the initializer cannot fill such a kernel.
    """
    if isinstance(initializer, DeltaOrthogonal):
        weight = Weight((*shape[:-3:-1], *shape[:-2]))
    elif isinstance(initializer, Orthogonal) and len(shape) > 1:
        weight = Weight((math.prod(shape[:-1]), shape[-1]))
    elif isinstance(initializer, (Eye, Orthogonal)):
        weight = Weight(shape)
    else:
        weight = Weight(fans[::-1])
    ((drawn, _, _),) = initializer.resolve(weight)
    if not drawn.fits(torch.finfo(dtype).max):
        raise ValueError(f"{drawn} is beyond the range of {dtype_name(dtype)}")
    return Kernel(shape, dtype, drawn, weight)


def as_numpy(tensor: Tensor) -> npt.NDArray[Any]:
    """The tensor's memory as an array. NumPy has bfloat16 from ml_dtypes, which JAX and TensorFlow bring."""
    if tensor.dtype is not torch.bfloat16:
        return tensor.numpy()
    bfloat16 = needed("ml_dtypes", "an array of bfloat16", "ml_dtypes", "ml_dtypes").bfloat16
    array: npt.NDArray[Any] = tensor.view(torch.int16).numpy().view(bfloat16)
    return array


def checked_key(name: str, value: int, stream: int = 0) -> Key:
    """The key of a fill.

    Raises:
        ValueError: for a number outside of [0, 2^64).
    """
    if not 0 <= value < 2**64:
        raise ValueError(f"{name} must be in [0, 2^64), got {value}")
    return Key(value, stream)
