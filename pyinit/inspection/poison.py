"""What an initialization writes: memory is filled with a byte that nobody writes, and looked at after.

Twice, with two different bytes: an element that bears both was never written. The second time is
left out where nothing bears the first byte.
"""

import ctypes
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pyinit import _core
from pyinit._random.distributions import CONSTANT, padded
from pyinit._sharding.fills import CpuFill
from pyinit._torch.digests import bits, once_each, parts
from pyinit._torch.views import View
from pyinit.inspection.statistics import Statistics
from pyinit.inspection.tensors import (
    described,
    examinable,
    not_examined,
    sample,
)

# 0xFF makes floating-point numbers NaN, so that what is computed from them is NaN, too, and integers
# -1. 0x7B makes them large and finite. Booleans are False, then True.
_BYTES = (0xFF, 0x7B)


class Writing(NamedTuple):
    """What became of a tensor's elements.

    elements: how many there are
    unwritten: how many were never written
    first: the index of the first of these
    computed: how many were computed from what was there before
    by_constructor: whether the constructor had written it; None without a factory
    is_kept: whether the initialization says that it leaves the tensor as it is
    """

    elements: int
    unwritten: int = 0
    first: tuple[int, ...] = ()
    computed: int = 0
    by_constructor: bool | None = None
    is_kept: bool = False


def poison_(tensors: Iterable[Tensor], run: int) -> None:
    """Fill their memory: of the first run (0) or the second (1)."""
    word = struct.unpack("<f", bytes([_BYTES[run]]) * 4)[0]
    fills: list[CpuFill] = []
    for memory in map(bits, tensors):
        address, size = memory.data_ptr(), memory.nbytes
        if not (memory.is_cpu and memory.is_contiguous() and memory.dtype is not torch.bool):
            memory.fill_(_pattern(memory.dtype, run))
        elif size < _LARGE or address % 4 or size % 4:
            ctypes.memset(address, _BYTES[run], size)
        else:  # all at once, by threads and in huge pages
            view = View((address, _core.FLOAT32, (size // 4,), (1,)))
            fills.append((view, CONSTANT.code, padded((word,)), (0, 0), None, None))
    _core.fill_many(fills, torch.get_num_threads())


_LARGE = 2**20  # bytes


def _pattern(dtype: torch.dtype, run: int) -> int:
    """The byte, repeated, as an integer."""
    if dtype is torch.bool:
        return run
    size = dtype.itemsize
    return int.from_bytes(bytes([_BYTES[run]]) * size, "little", signed=dtype is not torch.uint8)


class _Bearing(NamedTuple):
    """Which elements bear the poison: how many; and, part by part, how long a part is and which do,
    eight to a byte. Of all or none the number is enough."""

    bearers: int
    parts: tuple[tuple[int, NDArray[np.uint8]], ...] = ()


def _bearing(tensor: Tensor, run: int) -> _Bearing:
    memory = bits(tensor)
    pattern = _pattern(memory.dtype, run)
    is_double = tensor.dtype is torch.complex128  # whose elements are two each
    count, found = 0, []
    for part in parts(memory):
        same = part == pattern
        bears = (same.all(-1) if is_double else same).cpu().numpy().reshape(-1)
        count += int(np.count_nonzero(bears))
        found.append((len(bears), np.packbits(bears)))
    return _Bearing(count, () if count in (0, once_each(tensor).numel()) else tuple(found))


def _both(first: _Bearing, second: _Bearing) -> tuple[int, int]:
    """How many elements bear both poisons, and the number of the first of them."""
    if not first.bearers or not second.bearers:
        return 0, 0
    if not first.parts and not second.parts:
        return first.bearers, 0
    count, index, before = 0, -1, 0
    for (size, a), (_, b) in zip(
        first.parts or second.parts, second.parts or first.parts, strict=True
    ):
        together = np.unpackbits(a & b, count=size)
        if index < 0 and together.any():
            index = before + int(together.argmax())
        count += int(np.count_nonzero(together))
        before += size
    return count, index


class PoisonedAllocation(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Memory that is asked for and not filled comes filled with poison.

    only_sample: of long tensors only what ``untouched`` looks at
    """

    def __init__(self, run: int, *, only_sample: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.run, self.only_sample = run, only_sample

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        is_empty = func._overloadpacket.__name__ in _EMPTY
        if is_empty and not made.is_meta and made.numel() and not_examined(made) is None:
            poison_([sample(made) if self.only_sample else made], self.run)
        return made


_EMPTY = frozenset(
    ("empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided")
)


def untouched(model: nn.Module) -> set[str]:
    """The tensors that, by a sample, nobody has written since the memory was poisoned (run 0)."""
    names = set()
    for held in examinable(model):
        memory = bits(sample(held.tensor))
        if bool((memory == _pattern(memory.dtype, 0)).all()):
            names.add(held.name)
    return names


class Outcome(NamedTuple):
    """An initialized model.

    writings: by a tensor's name, what was written
    statistics: by name, of what the model holds, if they are known
    """

    model: nn.Module
    writings: Mapping[str, Writing]
    statistics: Mapping[str, Statistics | None]


def written(attempt: Callable[[int], nn.Module], step: Callable[[str], None]) -> Outcome:
    """What ``attempt`` writes: given a run, 0 or 1, it gives a model whose memory was poisoned for
    that run, and then initialized.
    """
    step("looking for what is never written")
    model = attempt(0)
    all_held = examinable(model)
    sizes = {held.name: once_each(held.tensor).numel() for held in all_held}
    found = described([held.tensor for held in all_held])
    statistics = dict(zip(sizes, found, strict=True))
    first = _suspicious({held.name: held.tensor for held in all_held}, statistics)
    if not first:
        return Outcome(model, {name: Writing(size) for name, size in sizes.items()}, statistics)
    del model, all_held  # before another one is built
    step("looking for what is never written, with another byte")
    model = attempt(1)
    second = {held.name: held.tensor for held in examinable(model)}
    writings = {name: Writing(once_each(tensor).numel()) for name, tensor in second.items()}
    for name, bearing in first.items():
        tensor = second.get(name)
        if tensor is None or once_each(tensor).numel() != sizes[name]:
            continue
        unwritten, place = _both(bearing, _bearing(tensor, 1))
        one, again = statistics[name], described([tensor])[0]
        # What is not finite in both runs is meant: a mask, say.
        computed = one.nonfinite - again.nonfinite - unwritten if one and again else 0
        index = np.unravel_index(place, once_each(tensor).shape) if unwritten else ()
        writings[name] = Writing(sizes[name], unwritten, tuple(map(int, index)), max(0, computed))
    return Outcome(model, writings, {})


def _suspicious(
    tensors: Mapping[str, Tensor], statistics: Mapping[str, Statistics | None]
) -> dict[str, _Bearing]:
    """The tensors that bear the first poison, or may have been computed from it, and where they bear
    it. Floating-point numbers that are all finite need no second look."""
    found = {}
    for name, tensor in tensors.items():
        one = statistics[name]
        if one is not None and one.nonfinite == 0:
            continue
        bearing = _bearing(tensor, 0)
        if bearing.bearers or one is not None:
            found[name] = bearing
    return found
