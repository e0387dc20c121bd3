"""A context in which a model's forward may run, and which puts back all that the forward changes."""

import functools
import operator
import random
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pyinit._random.generators import cuda_in_use, python_seeded, torch_seeded

_SEED = 0


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """A context with the model in evaluation mode and with the same random numbers every time.

    At its end all that a forward has set is put back: the tensors that it wrote to, generators, and
    the attributes of modules and of the objects in these, with the lists, dictionaries and arrays
    there. ``eval()`` is not called, since a model may override it.
    """
    with ExitStack() as stack:
        stack.enter_context(torch_seeded(_SEED, cuda_in_use()))
        stack.enter_context(python_seeded(_SEED))
        held = list(_held(model))
        stack.enter_context(_restored(model, (), held))
        for one, kind in held:
            if kind.seed is not _nothing:
                kind.seed(one)
        set_training(model, False)
        yield


def set_training(model: nn.Module, training: bool) -> None:
    """The mode of all modules, not by ``train()``: a model may override it."""
    for module in model.modules():
        if "training" in vars(module):
            vars(module)["training"] = training


@contextmanager
def restored(model: nn.Module, *inputs: object) -> Iterator["RecordedWrites"]:
    """A context that puts back all that a pass sets: the tensors that it writes to, ``requires_grad``
    and ``grad``, the mode of automatic differentiation, and the attributes of modules and of the
    objects in these, with the lists, dictionaries, arrays and generators there; of its inputs, too."""
    with _restored(model, inputs, _held(model, *inputs)) as writes:
        yield writes


@contextmanager
def _restored(
    model: nn.Module, inputs: tuple[object, ...], held: "Iterable[_Held]"
) -> Iterator["RecordedWrites"]:
    with ExitStack() as stack:
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        stack.callback(torch.set_grad_enabled, torch.is_grad_enabled())
        stack.callback(_snapshot(held))
        stack.callback(_gradients(model, inputs))
        writes = RecordedWrites()
        stack.callback(writes.undo)
        stack.enter_context(writes)
        yield writes


def snapshot(*roots: object) -> Callable[[], None]:
    """Remember what objects hold, but not what is written in tensors; a call puts it back."""
    return _snapshot(_held(*roots))


def _snapshot(held: "Iterable[_Held]") -> Callable[[], None]:
    kept = [
        (kind.put_back, one, kind.copy(one)) for one, kind in held if kind.put_back is not _nothing
    ]

    def put_back() -> None:
        for put, one, before in kept:
            put(one, before)

    return put_back


def _gradients(model: nn.Module, inputs: object) -> Callable[[], None]:
    """Remember what a pass, forward and backward, does to leaves beside their values."""
    own = (
        tensor
        for module in model.modules()
        for tensors in (module._parameters, module._buffers)
        for tensor in tensors.values()
    )
    leaves = [
        (tensor, tensor.requires_grad, tensor.grad)
        for tensor in (*own, *tree_leaves(inputs))
        if isinstance(tensor, Tensor) and tensor.is_leaf
    ]

    def put_back() -> None:
        for tensor, requires_grad, grad in leaves:
            if tensor.is_leaf and tensor.requires_grad != requires_grad:
                tensor.requires_grad_(requires_grad)
            if tensor.is_leaf and tensor.grad is not grad:
                tensor.grad = grad

    return put_back


def written_by(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    """The tensors that an operation of torch's dispatcher writes to."""
    for i, name in _written_arguments(func):
        written = args[i] if i < len(args) else kwargs.get(name)
        several = written if isinstance(written, (list, tuple)) else (written,)
        yield from (tensor for tensor in several if isinstance(tensor, Tensor))


@functools.cache
def _written_arguments(func: Any) -> tuple[tuple[int, str], ...]:
    """Position and name. Batch norm's statistics are written although its declaration is silent."""
    schema = getattr(func, "_schema", None)
    if schema is None:  # of an operator of higher order
        return ()
    return tuple(
        (i, argument.name)
        for i, argument in enumerate(schema.arguments)
        if (argument.alias_info is not None and argument.alias_info.is_write)
        or (argument.name in ("running_mean", "running_var") and not schema.is_mutable)
    )


@functools.cache
def _makes_memory(func: Any) -> tuple[bool, ...]:
    """Of each result, whether it is no view of an argument."""
    schema = getattr(func, "_schema", None)
    return tuple(each.alias_info is None for each in schema.returns) if schema is not None else ()


class RecordedWrites(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode that copies the memory of a tensor before an operation writes to it, unless the memory is
    newer than the mode."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._marks: list[Mark] = [Mark(0, {})]
        self._born: dict[int, int] = {}
        self._time = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        for tensor in written_by(func, args, kwargs):
            if tensor.layout is torch.strided and not tensor.is_meta:
                self._remember(tensor.untyped_storage())
        result = func(*args, **kwargs)
        self._note_new(func, result)
        return result

    def mark(self) -> "Mark":
        """A point in time, to which ``undo`` can go back until it is released."""
        self._marks.append(Mark(self._time, {}))
        return self._marks[-1]

    def release(self, mark: "Mark") -> None:
        """Forget a mark, and those made since."""
        del self._marks[next(i for i, one in enumerate(self._marks) if one is mark) :]

    def holds(self, tensor: Tensor) -> bool:
        """Whether its memory was written since the mode was made."""
        return self._marks[0].holds((tensor,))

    def forget(self, tensor: Tensor) -> None:
        """What its memory holds now is what is to be put back."""
        for mark in self._marks:
            mark.before.pop(tensor.untyped_storage()._cdata, None)

    def undo(self, mark: "Mark | None" = None) -> None:
        """Put back what was there: at first, or at the mark."""
        for storage, before in (mark or self._marks[0]).before.values():
            storage.copy_(before)

    def _remember(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        born = self._born.get(key, 0)
        marks = [mark for mark in self._marks if born <= mark.time and key not in mark.before]
        if marks:
            copy = storage.clone()  # type: ignore[no-untyped-call]
            for mark in marks:
                mark.before[key] = storage, copy

    def _note_new(self, func: Any, result: Any) -> None:
        makes = _makes_memory(func)
        results = result if isinstance(result, (list, tuple)) else (result,)
        for i, tensor in enumerate(results if makes else ()):
            if (
                makes[min(i, len(makes) - 1)]  # one declared result may be a list
                and isinstance(tensor, Tensor)
                and tensor.layout is torch.strided
            ):
                self._time += 1
                self._born[tensor.untyped_storage()._cdata] = self._time


class Mark(NamedTuple):
    """A point in time, and memory written since, as it was then."""

    time: int
    before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]]

    def holds(self, tensors: Iterable[Tensor]) -> bool:
        """Whether memory of one of these was written since."""
        strided = (tensor for tensor in tensors if tensor.layout is torch.strided)
        return any(tensor.untyped_storage()._cdata in self.before for tensor in strided)


class _Kind(NamedTuple):
    """How objects of a class are kept.

    copy: gives what to remember of an object
    put_back: sets an object to what was remembered
    inside: gives the objects that an object holds
    seed: seeds a generator
    """

    copy: Callable[[Any], Any]
    put_back: Callable[[Any, Any], Any]
    inside: Callable[[Any], Iterable[Any]]
    seed: Callable[[Any], Any]


_Held: TypeAlias = tuple[Any, _Kind]


# How many objects deep attributes are kept.
_IN_MODULE = 2  # a module's and those of objects in it: a trainer, say, may hold anything
_IN_INPUT = 4  # a cache that layers change holds each layer's keys in an object of its own


def _held(*roots: object) -> Iterator[_Held]:
    """The objects of models and inputs that are to be kept, each with how it is."""
    waiting: list[tuple[Any, int]] = [(root, _IN_INPUT) for root in roots]
    seen = set(map(id, roots))
    for one, depth in waiting:
        inside: Iterable[Any] = ()
        kind, is_module, _ = _look_of(type(one))
        reach = _IN_MODULE if is_module else depth
        if kind is not None:
            yield one, kind
            inside = kind.inside(one)
        elif reach:
            inside = (_attributes(one),)
            reach -= 1
        for value in inside:
            if id(value) not in seen and not _look_of(type(value)).is_opaque:
                seen.add(id(value))
                waiting.append((value, reach))


class _Look(NamedTuple):
    """What the objects of a class are here."""

    kind: _Kind | None
    is_module: bool
    is_opaque: bool


def _look(cls: type) -> _Look:
    kind = next((_KINDS[base] for base in cls.__mro__ if base in _KINDS), None)
    return _Look(kind, issubclass(cls, nn.Module), issubclass(cls, _OPAQUE))


_look_of: Callable[[type], _Look] = functools.lru_cache(4096)(_look)

# Objects that cannot change or are not the model's own. Writes to tensors are seen as they happen.
_OPAQUE = (
    *(str, bytes, int, float, complex, type(None), Tensor, np.memmap),
    *(type, ModuleType, FunctionType, BuiltinFunctionType),
)


def _attributes(held: object) -> dict[str, Any] | None:
    """The attributes of an object. ``vars`` will not do: a class may define ``__dict__`` itself."""
    try:
        found = object.__getattribute__(held, "__dict__")
    except AttributeError:
        return None
    return found if type(found) is dict else None


def _nothing(*_: object) -> tuple[()]:
    return ()


def _put_back_dict(held: dict[Any, Any], before: dict[Any, Any]) -> None:
    if not held and not before:  # as most of a module's
        return
    if not _is_same(held, before) or not _is_same(held.values(), before.values()):
        held.clear()
        held.update(before)


def _put_back_sequence(held: Any, before: list[Any]) -> None:
    if not _is_same(held, before):
        held.clear()
        held.extend(before)


def _put_back_set(held: set[Any], before: set[Any]) -> None:
    held.clear()
    held.update(before)


def _is_same(held: Collection[Any], before: Collection[Any]) -> bool:
    return len(held) == len(before) and all(map(operator.is_, held, before))


def _put_back_array(held: Any, before: Any) -> None:
    if held.flags.writeable:
        held[...] = before


def _numpy_state(held: np.random.Generator) -> Any:
    return held.bit_generator.state


def _put_back_numpy(held: np.random.Generator, before: Any) -> None:
    held.bit_generator.state = before


def _seed_numpy(held: np.random.Generator) -> None:
    bits: Any = held.bit_generator
    bits.state = type(bits)(_SEED).state


def _seed(held: Any) -> None:
    held.seed(_SEED)


_KINDS: dict[type, _Kind] = {
    dict: _Kind(dict, _put_back_dict, dict.values, _nothing),
    list: _Kind(list, _put_back_sequence, list.__iter__, _nothing),
    deque: _Kind(list, _put_back_sequence, deque.__iter__, _nothing),
    set: _Kind(set, _put_back_set, set.__iter__, _nothing),
    tuple: _Kind(_nothing, _nothing, tuple.__iter__, _nothing),
    frozenset: _Kind(_nothing, _nothing, frozenset.__iter__, _nothing),
    np.ndarray: _Kind(np.copy, _put_back_array, _nothing, _nothing),
    torch.Generator: _Kind(
        torch.Generator.get_state,
        torch.Generator.set_state,
        _nothing,
        lambda held: held.manual_seed(_SEED),
    ),
    np.random.Generator: _Kind(_numpy_state, _put_back_numpy, _nothing, _seed_numpy),
    np.random.RandomState: _Kind(
        np.random.RandomState.get_state, np.random.RandomState.set_state, _nothing, _seed
    ),
    random.Random: _Kind(random.Random.getstate, random.Random.setstate, _nothing, _seed),
}
