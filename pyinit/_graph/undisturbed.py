"""A context in which a model's forward may run, and which puts back all that the forward changes."""

import operator
import random
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pyinit._random.generators import cuda_in_use, python_seeded, torch_seeded

_SEED = 0


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """A context with the model in evaluation mode and with the same random numbers every time.

    At its end all that a forward has set is put back: the tensors that it wrote to, generators, and
    the attributes of modules and of the objects in these, with the lists, dictionaries and arrays
    there. ``eval()`` is not called, since a model may override it.
    """
    held = list(_held(model))
    with ExitStack() as stack:
        stack.enter_context(torch_seeded(_SEED, cuda_in_use()))
        stack.enter_context(python_seeded(_SEED))
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        stack.callback(torch.set_grad_enabled, torch.is_grad_enabled())
        stack.callback(_put_back, [(kind.put_back, one, kind.copy(one)) for one, kind in held])
        for module in model.modules():
            if "training" in vars(module):
                vars(module)["training"] = False
        stack.enter_context(_UndoneWrites())
        yield


def written_by(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    """The tensors that an operation of torch's dispatcher writes to."""
    if not func._schema.is_mutable:
        return
    for i, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            written = args[i] if i < len(args) else kwargs.get(argument.name)
            several = written if isinstance(written, (list, tuple)) else (written,)
            yield from (tensor for tensor in several if isinstance(tensor, Tensor))


class RecordedWrites(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode that copies the memory of a tensor before an operation writes to it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        for tensor in written_by(func, args, kwargs):
            if tensor.layout is torch.strided and not tensor.is_meta:
                storage = tensor.untyped_storage()
                if storage._cdata not in self._before:
                    self._before[storage._cdata] = storage, storage.clone()  # type: ignore[no-untyped-call]
        return func(*args, **kwargs)

    def undo(self) -> None:
        """Put back what was there before the writes."""
        for storage, before in self._before.values():
            storage.copy_(before)


class _UndoneWrites(RecordedWrites):  # type: ignore[no-untyped-call]
    """The same, where the writes are undone at the end."""

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self.undo()


class _Kind(NamedTuple):
    """How objects of a class are kept.

    copy: gives what to remember of an object
    put_back: sets an object to what was remembered
    inside: gives the objects that an object holds
    """

    copy: Callable[[Any], Any]
    put_back: Callable[[Any, Any], Any]
    inside: Callable[[Any], Iterable[Any]]


def _put_back(kept: list[tuple[Callable[[Any, Any], Any], Any, Any]]) -> None:
    for put_back, held, before in kept:
        put_back(held, before)


def _held(model: nn.Module) -> Iterator[tuple[Any, _Kind]]:
    """The objects of a model that are to be kept, each with how it is.

    They are the attributes of its modules and of the objects in these. What those objects hold in
    turn is left alone, for an object such as a trainer may hold anything.
    """
    waiting: list[tuple[Any, bool]] = [(model, True)]  # objects; whether their attributes are kept
    seen = {id(model)}
    for one, is_near in waiting:
        inside: Iterable[Any] = ()
        enters = is_near
        kind = next((_KINDS[cls] for cls in type(one).__mro__ if cls in _KINDS), None)
        if kind is not None:
            yield one, kind
            inside = kind.inside(one)
        elif is_near:
            inside = (_attributes(one),)
            enters = isinstance(one, nn.Module)
        for value in inside:
            if id(value) not in seen and not isinstance(value, _OPAQUE):
                seen.add(id(value))
                waiting.append((value, enters or isinstance(value, nn.Module)))


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


def _seeded_torch(held: torch.Generator) -> Tensor:
    before = held.get_state()
    held.manual_seed(_SEED)
    return before


def _seeded_numpy(held: np.random.Generator) -> Any:
    bits: Any = held.bit_generator
    before = bits.state
    bits.state = type(bits)(_SEED).state
    return before


def _put_back_numpy(held: np.random.Generator, before: Any) -> None:
    bits: Any = held.bit_generator
    bits.state = before


def _seeded_numpy_state(held: np.random.RandomState) -> Any:
    before = held.get_state()
    held.seed(_SEED)
    return before


def _seeded_random(held: random.Random) -> Any:
    before = held.getstate()
    held.seed(_SEED)
    return before


_KINDS: dict[type, _Kind] = {
    dict: _Kind(dict, _put_back_dict, dict.values),
    list: _Kind(list, _put_back_sequence, list.__iter__),
    deque: _Kind(list, _put_back_sequence, deque.__iter__),
    set: _Kind(set, _put_back_set, set.__iter__),
    tuple: _Kind(_nothing, _nothing, tuple.__iter__),
    frozenset: _Kind(_nothing, _nothing, frozenset.__iter__),
    np.ndarray: _Kind(np.copy, _put_back_array, _nothing),
    torch.Generator: _Kind(_seeded_torch, torch.Generator.set_state, _nothing),
    np.random.Generator: _Kind(_seeded_numpy, _put_back_numpy, _nothing),
    np.random.RandomState: _Kind(_seeded_numpy_state, np.random.RandomState.set_state, _nothing),
    random.Random: _Kind(_seeded_random, random.Random.setstate, _nothing),
}
