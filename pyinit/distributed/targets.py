"""The parameters of models that are keyed, and which of them a tensor lies in."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.overrides import has_torch_function_variadic

from pyinit._random.rng import Key, stream_of

Indices = tuple[int, ...]


class Target:
    """A parameter of a keyed model.

    name: its qualified name, the first one if it has several
    parameter: the parameter
    twins: further parameters at exactly its memory
    key: from which the next call draws
    is_reached: whether a call has written to it
    """

    __slots__ = ("_version", "is_reached", "key", "memory", "name", "parameter", "twins")

    def __init__(self, name: str, parameter: Tensor, seed: int) -> None:
        self.name, self.parameter = name, parameter
        self.twins: list[Tensor] = []
        self.key = Key(seed, stream_of(name))
        self.memory = Memory(self, parameter)
        self.is_reached = False
        self._version = _version(parameter)

    def has_drawn(self) -> None:
        """Have the next call draw from the next stream."""
        self.key = Key(self.key.key, (self.key.stream + 1) % 2**64)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The parameter and its twins."""
        return self.parameter, *self.twins

    @property
    def is_written(self) -> bool:
        """Whether anything has written to it, as far as the calls and torch tell."""
        return self.is_reached or _version(self.parameter) != self._version


def _version(tensor: Tensor) -> int:
    """How often torch has seen a tensor, or a view of it, written to; not by way of ``.data``."""
    return 0 if tensor.is_inference() else tensor._version


class Memory:
    """Where a parameter lies.

    address: of its first byte
    end: of the first byte behind its last element
    shape, strides: as the tensor in it has them
    """

    __slots__ = ("address", "end", "shape", "span", "strides", "target", "tensor")

    def __init__(self, target: Target, tensor: Tensor) -> None:
        self.target, self.tensor = target, tensor.detach()
        self.shape, self.strides = tuple(tensor.shape), tensor.stride()
        self.span = span(self.shape, self.strides)
        self.address = tensor.data_ptr()
        self.end = self.address + self.span * tensor.itemsize

    def start_of(self, offset: int) -> Indices | None:
        """The index of the element that lies so many elements behind the first; None if there is none."""
        start = [0] * len(self.shape)
        for dim in self.dims():
            start[dim], offset = divmod(offset, self.strides[dim])
            if start[dim] >= self.shape[dim]:
                return None
        return None if offset else tuple(start)

    def dims(self) -> list[int]:
        """The dimensions of more than one element, from the longest stride to the shortest."""
        return sorted(
            (dim for dim, size in enumerate(self.shape) if size > 1),
            key=lambda dim: -self.strides[dim],
        )

    def block(self, tensor: Tensor, offset: int) -> "Block | None":
        """The tensor as a block of the one in this memory; None if it is no rectangular one."""
        start = self.start_of(offset)
        if start is None:
            return None
        extents = [1] * len(self.shape)
        by_stride = {self.strides[dim]: dim for dim in self.dims()}
        for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
            if size == 1:
                continue
            dim = by_stride.pop(stride, None)
            if dim is None or start[dim] + size > self.shape[dim]:
                return None
            extents[dim] = size
        laid_out = tensor.detach().as_strided(extents, self.strides)
        return Block(laid_out, start)

    def is_all_of(self, tensor: Tensor) -> bool:
        """Whether a tensor that lies in this memory has all of it, in the same order."""
        if tuple(tensor.shape) != self.shape:
            return False
        dims = zip(self.shape, self.strides, tensor.stride(), strict=True)
        return all(own == other for size, own, other in dims if size > 1)


class Block(NamedTuple):
    """A rectangular block of a tensor: its elements, and the index of the first of them."""

    tensor: Tensor
    start: Indices


class Place(NamedTuple):
    """Where a tensor lies: in which memory, and how many elements behind its start.

    offset: None for the parameter itself
    """

    memory: Memory
    offset: int | None


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
        # Those that reach over others' addresses are rare: how far back one has to look for them.
        self._reach = list(_reaches(self._memories))

    def find(self, tensor: Tensor) -> Place | None:
        """The parameter that a tensor is, or in whose memory it lies; None for any other tensor."""
        target = self._by_identity.get(id(tensor))
        if target is not None:
            return Place(target.memory, None)
        if has_torch_function_variadic(tensor):  # nobody is to see the questions
            with torch._C.DisableTorchFunction():
                return self._find(tensor)
        return self._find(tensor)

    def _find(self, tensor: Tensor) -> Place | None:
        try:
            address = tensor.data_ptr()
        except (RuntimeError, NotImplementedError):  # it has no address: sparse, fake, transformed
            return None
        if not address:
            return None
        for i in range(bisect_right(self._addresses, address) - 1, -1, -1):
            memory = self._memories[i]
            if address < memory.end:
                place = _place(memory, tensor, address)
                if place is not None:
                    return place
            if self._reach[i] <= address:
                break
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


def _reaches(memories: Sequence[Memory]) -> Iterator[int]:
    """Up to which address each memory, and those before it, reach."""
    furthest = 0
    for memory in memories:
        furthest = max(furthest, memory.end)
        yield furthest


def _place(memory: Memory, tensor: Tensor, address: int) -> Place | None:
    """The place of a tensor whose first element lies in a memory; None if not all of it does."""
    own = memory.tensor
    if tensor.device != own.device or memory.target.parameter.data_ptr() != memory.address:
        return None  # the parameter has other memory now
    offset, rest = divmod(address - memory.address, own.itemsize)
    end = address + span(tensor.shape, tensor.stride()) * tensor.itemsize
    if rest or end > memory.end or memory.start_of(offset) is None:
        return None
    return Place(memory, offset)


def targets_of(named: Iterable[tuple[str, Tensor]], seed: int) -> Targets:
    """The parameters of a model, each under its first name. Those at exactly the same memory are one."""
    found: dict[object, Target] = {}
    for name, parameter in named:
        place = parameter.data_ptr(), tuple(parameter.shape), parameter.stride(), parameter.device
        at = place if parameter.numel() else id(parameter)
        if at not in found:
            found[at] = Target(name, parameter, seed)
        elif parameter is not found[at].parameter:
            found[at].twins.append(parameter)
    return Targets(found.values())
