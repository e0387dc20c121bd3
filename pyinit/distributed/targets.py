"""The parameters of models that are keyed, and which of them a tensor lies in."""

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided
from torch import Tensor, nn
from torch.overrides import has_torch_function_variadic

from pyinit._random.rng import Key, stream_of
from pyinit._sharding.find import sharded
from pyinit._sharding.sharded import Indices, Piece, Sharded
from pyinit._torch.placement import is_dtensor, is_fake
from pyinit._torch.views import is_placeholder


class Target:
    """A parameter of a keyed model.

    name: its qualified name, the first one if it has several
    parameter: the parameter
    calls: what was called on a DTensor, in words, which all ranks that share it must call alike
    twins: further parameters at exactly its memory
    key: from which the next call draws
    memory: where its elements lie that this process holds
    is_partitioned: whether DeepSpeed's ZeRO-3 has partitioned it, so that it may be gathered for a while
    is_reached: whether a call has written to it
    is_copied: whether values were copied or added to it after torch's generators had drawn, so that they may
        come from these
    is_lost: whether something was written to a slice of it that is a tensor of its own, as torch makes
        them of DTensors
    """

    __slots__ = (
        "_version",
        "calls",
        "is_copied",
        "is_lost",
        "is_partitioned",
        "is_reached",
        "key",
        "memory",
        "name",
        "parameter",
        "twins",
    )

    def __init__(self, name: str, parameter: Tensor, seed: int) -> None:
        self.name, self.parameter = name, parameter
        self.twins: list[Tensor] = []
        self.calls: list[str] = []
        self.key = Key(seed, stream_of(name))
        self.memory = Memory(self, local_of(parameter).detach(), sharded(parameter))
        self.is_partitioned = is_placeholder(parameter) or "ds_tensor" in vars(parameter)
        self.is_reached = self.is_copied = self.is_lost = False
        self._version = _version(parameter)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The parameter and its twins."""
        return self.parameter, *self.twins

    @property
    def is_written(self) -> bool:
        """Whether anything has written to it, as far as the calls and torch tell, or there is nothing here."""
        if self.is_reached or not self.memory.span:
            return True
        return not self.is_partitioned and _version(self.parameter) != self._version

    @property
    def memory_now(self) -> "Memory":
        """``memory``, or that of a partitioned parameter, which changes as it is gathered for a while."""
        if not self.is_partitioned:
            return self.memory
        return Memory(self, local_of(self.parameter).detach(), sharded(self.parameter))

    def note(
        self, tensor: Tensor, name: str, args: Iterable[Any], kwargs: Mapping[str, Any]
    ) -> None:
        """Note a call on a DTensor. What is called on the part that a rank holds is that rank's affair."""
        if is_dtensor(tensor):
            given = [f"{value}" for value in args] + [f"{key}={kwargs[key]}" for key in kwargs]
            self.calls.append(f"{name}({', '.join(each[:_SHOWN] for each in given)})")

    def drawn(self, place: "Place") -> None:
        """Have the next call draw from the next stream, now that one has drawn for this place."""
        self.is_copied &= place.offset is not None
        self.key = self.key.further(1)


_SHOWN = 80  # characters of an argument


def local_of(tensor: Tensor) -> Tensor:
    """The tensor that has a tensor's elements in this process: of most, the tensor itself."""
    whole: Any = tensor
    if is_placeholder(tensor):
        local: Tensor = whole.ds_tensor
        return local
    return getattr(whole, "_local_tensor", tensor)


def _version(tensor: Tensor) -> int:
    """How often torch has seen a tensor's elements here written to; not by way of ``.data``.

    A DTensor itself counts writes to its slices, too, which may be tensors of their own.
    """
    local = local_of(tensor)
    return 0 if local.is_inference() else local._version


class Memory:
    """Where the elements of a parameter lie that this process holds.

    address: of the first byte
    end: of the first byte behind the last element
    span: the elements between the two
    shape, strides: as the tensor in it has them
    part: what this process holds of the parameter
    is_whole: whether that is simply all of it
    """

    __slots__ = (
        "_dims",
        "address",
        "end",
        "is_whole",
        "part",
        "shape",
        "span",
        "strides",
        "target",
        "tensor",
    )

    def __init__(self, target: Target, tensor: Tensor, part: Sharded | None) -> None:
        self.target, self.tensor = target, tensor
        whole = Piece(tensor, (0,) * tensor.dim())
        self.part = part or Sharded(tuple(tensor.shape), (whole,))
        self.is_whole = part is None
        self.shape, self.strides = tuple(tensor.shape), tensor.stride()
        self.span = span(self.shape, self.strides)
        self.address = tensor.data_ptr()
        self.end = self.address + self.span * tensor.itemsize
        # The dimensions of more than one element, from the longest stride to the shortest.
        dims = (dim for dim, size in enumerate(self.shape) if size > 1)
        self._dims = sorted(dims, key=lambda dim: -self.strides[dim])

    @property
    def is_in_use(self) -> bool:
        """Whether the parameter has not been given other memory since."""
        return local_of(self.target.parameter).data_ptr() == self.address

    def reaches(self, address: int) -> bool:
        """Whether an address lies in it."""
        return self.address <= address < self.end

    def has(self, offset: int) -> bool:
        """Whether an element lies so many elements behind the first."""
        return self._start(offset) is not None

    def has_all_of(self, tensor: Tensor, offset: int) -> bool:
        """Whether no element of a tensor lies in a gap between elements of the parameter.

        tensor: what lies so many elements behind the first, and not behind the last
        """
        if self.span == math.prod(self.shape) or self.block(tensor, offset) is not None:
            return True
        is_own = np.zeros(self.span, bool)
        as_strided(is_own, self.shape, self.strides)[...] = True
        return bool(as_strided(is_own[offset:], tuple(tensor.shape), tensor.stride()).all())

    def block(self, tensor: Tensor, offset: int) -> Piece | None:
        """A tensor as a block of the one in this memory; None if it is no rectangular one.

        tensor: what lies so many elements behind the first
        """
        start = self._start(offset)
        if start is None:
            return None
        extents = [1] * len(self.shape)
        by_stride = {self.strides[dim]: dim for dim in self._dims}
        for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
            if size == 1:
                continue
            dim = by_stride.pop(stride, None)
            if dim is None or start[dim] + size > self.shape[dim]:
                return None
            extents[dim] = size
        return Piece(tensor.detach().as_strided(extents, self.strides), start)

    def is_all_of(self, tensor: Tensor) -> bool:
        """Whether a tensor that lies in this memory has all of it, in the same order."""
        if tuple(tensor.shape) != self.shape:
            return False
        dims = zip(self.shape, self.strides, tensor.stride(), strict=True)
        return all(own == other for size, own, other in dims if size > 1)

    def copied(self) -> tuple[Tensor, Sharded]:
        """New memory of the same layout, in one dimension, and the parameter's part with its pieces there."""
        own, part = self.tensor, self.part
        made = torch.zeros(self.span, dtype=own.dtype, device=own.device)
        pieces = tuple(
            Piece(
                made.as_strided(
                    piece.tensor.shape,
                    piece.tensor.stride(),
                    (piece.tensor.data_ptr() - self.address) // own.itemsize,
                ),
                piece.start,
            )
            for piece in part.pieces
        )
        return made, Sharded(part.shape, pieces, part.is_flat)

    def _start(self, offset: int) -> Indices | None:
        """The index of the element that lies so many elements behind the first; None if there is none."""
        start = [0] * len(self.shape)
        for dim in self._dims:
            start[dim], offset = divmod(offset, self.strides[dim])
            if start[dim] >= self.shape[dim]:
                return None
        return None if offset else tuple(start)


class Place(NamedTuple):
    """Where a tensor lies among the parameters.

    memory: in that of which parameter
    tensor: its elements in this process
    offset: how many elements behind the start of the memory; None for all of the parameter
    """

    memory: Memory
    tensor: Tensor
    offset: int | None

    @property
    def target(self) -> Target:
        return self.memory.target

    @property
    def is_view(self) -> bool:
        """Whether it is a part of the parameter, or its elements in another order."""
        return self.offset is not None and self.tensor.dtype == self.memory.tensor.dtype

    @property
    def block(self) -> Sharded | None:
        """The tensor as a block of the whole parameter; None if it is no rectangular one."""
        memory, part = self.memory, self.memory.part
        if self.offset is None or len(part.pieces) != 1:
            return None
        (piece,) = part.pieces
        found = memory.block(self.tensor, self.offset)
        if found is None or piece.tensor.data_ptr() != memory.address:
            return None
        ends = map(sum, zip(found.start, found.tensor.shape, strict=True))
        if any(end > size for end, size in zip(ends, piece.tensor.shape, strict=True)):
            return None
        start = tuple(map(sum, zip(found.start, piece.start, strict=True)))
        return Sharded(part.shape, (Piece(found.tensor, start),), part.is_flat)


def span(shape: Sequence[int], strides: Sequence[int]) -> int:
    """How many elements lie between the first and the last one of a tensor, both counted."""
    if 0 in shape:
        return 0
    return 1 + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))


class Targets:
    """Parameters, found by themselves and by any tensor in their memory. It never changes."""

    def __init__(self, targets: Iterable[Target] = ()) -> None:
        self.all = tuple(targets)
        self._by_identity = {
            id(parameter): target for target in self.all for parameter in target.tensors
        }
        self._memories = sorted(
            (target.memory for target in self.all if target.memory.span),
            key=lambda memory: memory.address,
        )
        self._addresses = [memory.address for memory in self._memories]
        self._partitioned = [target for target in self.all if target.is_partitioned]
        # What has no elements here has no address; its storage tells it from others.
        self._without_elements = {
            _storage(target.memory.tensor): target.memory
            for target in self.all
            if not target.memory.span
        }
        # Those that reach over others' addresses are rare: how far back one has to look for them.
        self._reach = list(_reaches(self._memories))

    def find(self, tensor: Tensor) -> Place | None:
        """The parameter that a tensor is, or in whose memory it lies; None for any other tensor."""
        target = self._by_identity.get(id(tensor))
        if target is not None:
            return Place(target.memory_now, local_of(tensor), None)
        if has_torch_function_variadic(tensor):  # nobody is to see the questions
            with torch._C.DisableTorchFunction():
                return self._find(tensor)
        return self._find(tensor)

    def note_lost(self, tensor: Tensor) -> None:
        """Note that something is written to a tensor that is no parameter, if it is a slice of a DTensor that is."""
        if is_dtensor(tensor) and tensor._base is not None:
            origin = self.find(tensor._base)
            if origin is not None:
                origin.target.is_lost = True

    def _find(self, tensor: Tensor) -> Place | None:
        local = local_of(tensor)
        if type(local) is not Tensor and type(local) is not nn.Parameter and is_fake(local):
            return None
        try:
            address = local.data_ptr()
        except (RuntimeError, NotImplementedError):  # it has no address: sparse, transformed
            return None
        if not address:
            return self._without_address(local)
        for i in range(bisect_right(self._addresses, address) - 1, -1, -1):
            if self._reach[i] <= address:
                break
            place = _place(self._memories[i], local, address)
            if place is not None:
                return place
        memories = (target.memory_now for target in self._partitioned)
        places = (_place(memory, local, address) for memory in memories if memory.reaches(address))
        return next((place for place in places if place is not None), None)

    def _without_address(self, tensor: Tensor) -> Place | None:
        if not self._without_elements and not self._partitioned:
            return None
        storage = _storage(tensor)
        memory = self._without_elements.get(storage)
        if memory is not None:
            return Place(memory, tensor, None)
        for target in self._partitioned:
            if is_placeholder(target.parameter) and _storage(target.parameter) == storage:
                return Place(target.memory_now, local_of(target.parameter), None)
        return None

    def overlapping(self, others: "Targets") -> Iterator[Target]:
        """Those of others that share memory with these, or are the same."""
        for target in others.all:
            memory = target.memory
            i = bisect_right(self._addresses, memory.address) - 1
            shares = memory.span and (
                (i >= 0 and self._reach[i] > memory.address)
                or (i + 1 < len(self._addresses) and self._addresses[i + 1] < memory.end)
            )
            if shares or id(target.parameter) in self._by_identity:
                yield target


def _storage(tensor: Tensor) -> int:
    """The identity of the memory of a tensor. It lasts as long as the tensor."""
    return int(tensor.untyped_storage()._cdata)


def _reaches(memories: Sequence[Memory]) -> Iterator[int]:
    """Up to which address each memory, and those before it, reach."""
    furthest = 0
    for memory in memories:
        furthest = max(furthest, memory.end)
        yield furthest


def _place(memory: Memory, tensor: Tensor, address: int) -> Place | None:
    """The place of a tensor whose first element lies in a memory; None if not all of it does."""
    own = memory.tensor
    if tensor.device != own.device or not memory.is_in_use:
        return None
    offset, rest = divmod(address - memory.address, own.itemsize)
    end = address + span(tensor.shape, tensor.stride()) * tensor.itemsize
    if end > memory.end or not memory.has(offset):
        return None
    if (
        tensor.dtype != own.dtype
    ):  # it may begin inside of an element: an imaginary part, for instance
        return Place(memory, tensor, offset)
    if rest:
        return None
    if memory.is_all_of(tensor):
        return Place(memory, tensor, None)
    return Place(memory, tensor, offset) if memory.has_all_of(tensor, offset) else None


def targets_of(named: Iterable[tuple[str, Tensor]], seed: int) -> Targets:
    """The parameters of a model, each under its first name. Those at exactly the same memory are one."""
    found: dict[object, Target] = {}
    for name, parameter in named:
        target = Target(name, parameter, seed)
        memory = target.memory
        place = memory.address, memory.shape, memory.strides, memory.tensor.device
        at = place if memory.span else id(parameter)
        if at not in found:
            found[at] = target
        elif all(parameter is not one for one in found[at].tensors):
            found[at].twins.append(parameter)
    return Targets(found.values())
