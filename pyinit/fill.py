"""Fills with a key that the caller gives: each number depends on key, stream and place alone.

``out`` is a tensor on the CPU or, where pyinit was built with CUDA kernels, on a CUDA device (float16,
bfloat16, float32, float64), or a NumPy array of these dtypes (ml_dtypes has bfloat16), of any shape
and strides.
It is filled in place and returned. If it is filled as a part of a larger tensor, ``out`` holds what
that tensor, filled at once, would hold there: ``whole`` is the larger tensor's shape, and ``start``
is the place of ``out``'s first element in it (default: the origin).

Under ``pyinit.rng("torch.func")`` the numbers are those that ``torch.func._random`` would give the larger
tensor. There are uniform and normal ones, on the CPU.

Everything is checked before anything is written. A wrong type is a ``TypeError``, a value out of
range is a ``ValueError``.
"""

import math
import operator
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from pyinit import _core
from pyinit._device import fills as device_fills
from pyinit._random import stateless
from pyinit._random.distributions import (
    BERNOULLI,
    CONSTANT,
    NORMAL,
    TRUNC_NORMAL,
    UNIFORM,
    Distribution,
    Parameters,
    trunc_normal_kernel,
)
from pyinit._random.rng import Key, as_key, get_rng, seed_and_offset
from pyinit._torch.arrays import writable_array
from pyinit._torch.eager import eager
from pyinit._torch.views import DTYPES, LARGEST, View, writable_view

__all__ = ["bernoulli", "constant", "normal", "trunc_normal", "uniform"]


def __dir__() -> list[str]:
    return sorted(__all__)


_Out = TypeVar("_Out", Tensor, np.ndarray[Any, Any])
_Place = Sequence[int] | None
_Block = tuple[tuple[int, ...], tuple[int, ...]] | tuple[None, None]


@eager
def uniform(
    out: _Out,
    low: float = 0.0,
    high: float = 1.0,
    *,
    key: int | Tensor,
    stream: int = 0,
    whole: _Place = None,
    start: _Place = None,
) -> _Out:
    """Fill with numbers drawn uniformly from [low, high).

    Args:
        out: the tensor or array to fill
        low: the lower bound, finite
        high: the upper bound, finite and at least ``low``; ``high - low`` must fit the dtype
        key: an integer in [0, 2^64), or a key of ``torch.func._random``
        stream: an integer in [0, 2^64); each stream of an integer key is independent of the others
        whole: the shape of the larger tensor that ``out`` is a block of (default: ``out`` is all of it)
        start: the index of ``out``'s first element in the larger tensor (default: the origin)

    Returns:
        ``out``.

    Raises:
        TypeError: for an ``out`` that cannot be filled, or an argument of a wrong type.
        ValueError: for parameters that the distribution or the dtype does not take, or a block that
            does not lie inside ``whole``.

    Example:
        >>> import numpy as np, torch, pyinit
        >>> table = pyinit.fill.uniform(torch.empty(50, 8), key=42)
        >>> shard = pyinit.fill.uniform(np.empty((10, 8), np.float32), key=42, whole=(50, 8), start=(30, 0))
        >>> np.array_equal(table[30:40], shard)
        True
    """
    view = _writable(out)
    low, high = _finite("low", low), _finite("high", high)
    largest = LARGEST[view.dtype]
    if low > high:
        raise ValueError(f"low must be at most high, got low={low} and high={high}")
    if max(abs(low), abs(high), high - low) > largest:
        raise ValueError(
            f"low, high and high - low must be at most {largest} for this dtype, "
            f"got low={low} and high={high}"
        )
    words = _words(key, stream)
    block = _block(view.shape, whole, start)
    if get_rng() == "torch.func":
        return _stateless(out, UNIFORM, view, (low, high), key, words, block)
    if _on_device(out, UNIFORM, view, (low, high), words, block):
        return out
    _core.fill_uniform(view, low, high, words, torch.get_num_threads(), *block)
    return _written(out)


@eager
def normal(
    out: _Out,
    mean: float = 0.0,
    std: float = 1.0,
    *,
    key: int | Tensor,
    stream: int = 0,
    whole: _Place = None,
    start: _Place = None,
) -> _Out:
    """Fill with numbers drawn from the normal distribution.

    Args:
        out: the tensor or array to fill
        mean: the mean, finite
        std: the standard deviation, finite and at least 0
        key: an integer in [0, 2^64), or a key of ``torch.func._random``
        stream: an integer in [0, 2^64); each stream of an integer key is independent of the others
        whole: the shape of the larger tensor that ``out`` is a block of (default: ``out`` is all of it)
        start: the index of ``out``'s first element in the larger tensor (default: the origin)

    Returns:
        ``out``.

    Raises:
        TypeError: for an ``out`` that cannot be filled, or an argument of a wrong type.
        ValueError: for parameters that the distribution or the dtype does not take, or a block that
            does not lie inside ``whole``.

    References:
        Box & Muller (1958), `A note on the generation of random normal deviates`.

    Example:
        >>> import torch, pyinit
        >>> table = pyinit.fill.normal(torch.empty(50, 8), 0.0, 0.02, key=42)
        >>> shard = pyinit.fill.normal(
        ...     torch.empty(10, 8), 0.0, 0.02, key=42, whole=(50, 8), start=(30, 0)
        ... )
        >>> torch.equal(table[30:40], shard)
        True
    """
    view = _writable(out)
    mean, std = _within("mean", mean, view), _within("std", std, view)
    if std < 0:
        raise ValueError(f"std must be at least 0, got {std}")
    words = _words(key, stream)
    block = _block(view.shape, whole, start)
    if get_rng() == "torch.func":
        return _stateless(out, NORMAL, view, (mean, std), key, words, block)
    if _on_device(out, NORMAL, view, (mean, std), words, block):
        return out
    _core.fill_normal(view, mean, std, words, torch.get_num_threads(), *block)
    return _written(out)


@eager
def trunc_normal(
    out: _Out,
    mean: float = 0.0,
    std: float = 1.0,
    low: float = -2.0,
    high: float = 2.0,
    *,
    key: int | Tensor,
    stream: int = 0,
    whole: _Place = None,
    start: _Place = None,
) -> _Out:
    """Fill with numbers drawn from the normal distribution within [low, high].

    Within ``pyinit.rng("philox", version=1)`` they are those of stream version 1.

    Args:
        out: the tensor or array to fill
        mean: the mean before truncation, finite
        std: the standard deviation before truncation, finite and above 0
        low: the lower bound; may be ``-inf``
        high: the upper bound, at least ``low``; may be ``inf``
        key: an integer in [0, 2^64), or a key of ``torch.func._random``
        stream: an integer in [0, 2^64); each stream of an integer key is independent of the others
        whole: the shape of the larger tensor that ``out`` is a block of (default: ``out`` is all of it)
        start: the index of ``out``'s first element in the larger tensor (default: the origin)

    Returns:
        ``out``.

    Raises:
        TypeError: for an ``out`` that cannot be filled, or an argument of a wrong type.
        ValueError: for parameters that the distribution or the dtype does not take, or a block that
            does not lie inside ``whole``.

    References:
        Devroye (1986), `Non-uniform random variate generation`, section II.2 (inversion).

    Example:
        >>> import torch, pyinit
        >>> tail = pyinit.fill.trunc_normal(torch.empty(1000), low=8.0, high=float("inf"), key=42)
        >>> 8.0 <= tail.min().item() < tail.mean().item() < 8.2
        True
    """
    view = _writable(out)
    mean, std = _finite("mean", mean), _finite("std", std)
    low, high = _real("low", low), _real("high", high)
    if std <= 0:
        raise ValueError(f"std must be above 0, got {std}")
    if not low <= high:
        raise ValueError(f"low must be at most high, got low={low} and high={high}")
    largest = LARGEST[view.dtype]
    if low > largest or high < -largest:
        raise ValueError(
            f"low and high must leave room within +-{largest} for this dtype, "
            f"got low={low} and high={high}"
        )
    words = _words(key, stream)
    block = _block(view.shape, whole, start)
    if get_rng() == "torch.func":
        stateless.refuse("trunc_normal")
    if _on_device(out, TRUNC_NORMAL, view, (mean, std, low, high), words, block):
        return out
    kernel = trunc_normal_kernel()
    kernel(view, mean, std, low, high, words, torch.get_num_threads(), *block)
    return _written(out)


@eager
def bernoulli(
    out: _Out,
    probability: float = 0.5,
    *,
    key: int | Tensor,
    stream: int = 0,
    whole: _Place = None,
    start: _Place = None,
) -> _Out:
    """Fill with ones and zeros: 1 with the given probability.

    Args:
        out: the tensor or array to fill
        probability: the probability of a 1, in [0, 1]
        key: an integer in [0, 2^64), or a key of ``torch.func._random``
        stream: an integer in [0, 2^64); each stream of an integer key is independent of the others
        whole: the shape of the larger tensor that ``out`` is a block of (default: ``out`` is all of it)
        start: the index of ``out``'s first element in the larger tensor (default: the origin)

    Returns:
        ``out``.

    Raises:
        TypeError: for an ``out`` that cannot be filled, or an argument of a wrong type.
        ValueError: for parameters that the distribution or the dtype does not take, or a block that
            does not lie inside ``whole``.

    Example:
        >>> import torch, pyinit
        >>> mask = pyinit.fill.bernoulli(torch.empty(10000), 0.25, key=42)
        >>> round(mask.mean().item(), 1)
        0.2
    """
    view = _writable(out)
    probability = _real("probability", probability)
    if not BERNOULLI.takes(LARGEST[view.dtype], probability):
        raise ValueError(f"probability must be in [0, 1], got {probability}")
    words = _words(key, stream)
    block = _block(view.shape, whole, start)
    if get_rng() == "torch.func":
        stateless.refuse("bernoulli")
    if _on_device(out, BERNOULLI, view, (probability,), words, block):
        return out
    _core.fill_bernoulli(view, probability, words, torch.get_num_threads(), *block)
    return _written(out)


@eager
def constant(out: _Out, value: float) -> _Out:
    """Fill with one value.

    Args:
        out: the tensor or array to fill
        value: a number that the dtype can hold, an infinity or NaN

    Returns:
        ``out``.

    Raises:
        TypeError: for an ``out`` that cannot be filled, or a value that is no real number.
        ValueError: for a value beyond the range of the dtype.

    Example:
        >>> import numpy as np, pyinit
        >>> pyinit.fill.constant(np.empty(3), 0.5)
        array([0.5, 0.5, 0.5])
    """
    view = _writable(out)
    value = _real("value", value)
    if not CONSTANT.takes(LARGEST[view.dtype], value):
        raise _beyond_range("value", value, view)
    if _on_device(out, CONSTANT, view, (value,), (0, 0), (None, None)):
        return out
    _core.fill_constant(view, value, torch.get_num_threads())
    return _written(out)


def _writable(out: Any) -> View:
    """Where ``out`` lies in memory. Refuses what the kernels cannot write."""
    if isinstance(out, Tensor):
        return _writable_tensor(out)
    if isinstance(out, np.ndarray):
        return writable_array("out", out)
    raise TypeError(f"out must be a torch.Tensor or a numpy.ndarray, got {type(out).__name__}")


def _on_device(  # noqa: PLR0917
    out: Any,
    distribution: Distribution,
    view: View,
    parameters: Parameters,
    key: tuple[int, int],
    block: _Block,
) -> bool:
    """Fill a CUDA tensor; False for others."""
    if not (isinstance(out, Tensor) and out.is_cuda):
        return False
    device_fills.run([(view, distribution, parameters, key, *block)], out)
    return True


def _stateless(  # noqa: PLR0917
    out: _Out,
    distribution: Distribution,
    view: View,
    parameters: Parameters,
    key: int | Tensor,
    words: Key,
    block: _Block,
) -> _Out:
    """Fill with the numbers of ``torch.func._random``."""
    if isinstance(out, Tensor) and out.is_cuda:
        raise ValueError(
            f"out must be on the CPU under pyinit.rng('torch.func'), got device {out.device}"
        )
    from_torch = seed_and_offset(key) if isinstance(key, Tensor) else stateless.folded(words)
    stateless.fill_block(distribution, view, parameters, from_torch, *block)
    return _written(out)


def _writable_tensor(out: Tensor) -> View:
    view = (
        device_fills.writable_view(out) if device_fills.has_kernels_for(out) else writable_view(out)
    )
    if view is not None:
        return view
    if out.dtype not in DTYPES:
        names = ", ".join(map(str, DTYPES))
        raise TypeError(f"out must have one of the dtypes {names}, got {out.dtype}")
    if out.device.type != "cpu" and not (out.is_cuda and device_fills.BUILD != "none"):
        kernels = "" if not out.is_cuda else "; this pyinit was built without CUDA kernels"
        raise ValueError(f"out must be on the CPU, got device {out.device}{kernels}")
    if out.layout is not torch.strided:
        raise ValueError(f"out must be strided, got layout {out.layout}")
    if type(out) is Tensor and not _core.non_overlapping(tuple(out.shape), out.stride()):
        raise ValueError(
            f"out must not have elements that share memory, got strides {out.stride()}"
        )
    raise TypeError(
        "out must be a plain tensor, outside of transforms, tracing and torch modes, "
        f"got {type(out).__name__}"
    )


def _written(out: _Out) -> _Out:
    if isinstance(out, Tensor):
        torch._C._increment_version((out,))
    return out


def _real(name: str, value: object) -> float:
    if isinstance(value, (bool, np.bool_)) or not isinstance(
        value, (float, int, np.floating, np.integer)
    ):
        raise TypeError(f"{name} must be a real number, got {value!r}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} must fit a double, got {value}") from None


def _finite(name: str, value: object) -> float:
    number = _real(name, value)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {number}")
    return number


def _within(name: str, value: object, view: View) -> float:
    number = _finite(name, value)
    if abs(number) > LARGEST[view.dtype]:
        raise _beyond_range(name, number, view)
    return number


def _beyond_range(name: str, number: float, view: View) -> ValueError:
    return ValueError(f"{name} must be within +-{LARGEST[view.dtype]} for this dtype, got {number}")


def _words(key: int | Tensor, stream: int) -> Key:
    """The key and the stream of a fill."""
    if not isinstance(key, Tensor):
        return Key(_word("key", key), _word("stream", stream))
    if stream != 0:
        raise ValueError(f"stream is for keys that are integers, got a key of torch and {stream=}")
    return as_key(key, "key")


def _word(name: str, value: object) -> int:
    number = _index(name, value)
    if not 0 <= number < 2**64:
        raise ValueError(f"{name} must be in [0, 2^64), got {number}")
    return number


def _index(name: str, value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None


def _block(shape: tuple[int, ...], whole: _Place, start: _Place) -> _Block:
    """The shape of the larger tensor and the block's place in it, checked."""
    if whole is None:
        if start is not None:
            raise ValueError(f"start={start!r} needs whole, the shape of the larger tensor")
        return None, None
    sizes = _indices("whole", whole, len(shape))
    origin = (0,) * len(shape) if start is None else _indices("start", start, len(shape))
    for first, extent, size in zip(origin, shape, sizes, strict=True):
        if first < 0 or first + extent > size:
            raise ValueError(
                f"the block of shape {shape} at start={origin} must lie inside whole={sizes}"
            )
    if math.prod(sizes) >= 2**63:
        raise ValueError(f"whole must have fewer than 2^63 elements, got {sizes}")
    return sizes, origin


def _indices(name: str, values: Any, length: int) -> tuple[int, ...]:
    try:
        listed = tuple(values)
    except TypeError:
        raise TypeError(f"{name} must be a sequence of integers, got {values!r}") from None
    if len(listed) != length:
        raise ValueError(f"{name} must have {length} entries, as out has, got {listed}")
    return tuple(_index(name, value) for value in listed)
