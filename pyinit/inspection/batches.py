"""What a batch may be: the inputs of one pass through a model, and their target."""

import dataclasses
import inspect
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pyinit._random.generators import global_states_kept
from pyinit.datasets.dataset import Dataset


class Batch(NamedTuple):
    """What a model is called with, ``model(*args, **kwargs)``, and the target, if there is one."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    target: Any


def read_batch(model: nn.Module, source: Any, target: Any = None) -> Batch:
    """One batch for a model.

    Args:
        model: the model, whose ``forward`` decides what is an input and what a target
        source: one of

            * a tensor, or any object that is none of the following: the only input;
            * a dataclass or a named tuple (a ``PackedSequence``, say): the only input;
            * a mapping (a dict, a ``ModelOutput``, a tokenizer's ``BatchEncoding``): inputs by name
              if ``forward`` takes these names, otherwise the only input;
            * a tuple or list: the inputs, in order, and last the target. All are inputs if
              ``target`` is given, and if ``forward`` needs as many or takes any number. The inputs
              of ``(inputs, target)`` may be a tuple or a mapping themselves;
            * a ``DataLoader`` or something else to iterate over: its first batch, which is one of
              the above. Generators that it draws from are put back;
            * an iterator: its next batch, which is taken from it;
            * a function without arguments: the batch that it returns. The global generators are put
              back.
        target: the target, if it does not come with the batch

    Returns:
        The batch. Its tensors are those given, on their devices, and not copied.

    Raises:
        TypeError: for a data set (of torch or pyinit), a NumPy array, a string or None.
        ValueError: for a source without a (further) batch, a batch that does not fit ``forward``, one
            without samples, on the meta device, or with a NaN. (Infinite values are taken: masks of
            attention have them.) Everything that is computed from a NaN is NaN, so nothing could be
            said of a layer, and what is written from such statistics would ruin its weights.

    Example:
        >>> import torch
        >>> from pyinit.inspection.batches import read_batch
        >>> batch = read_batch(torch.nn.Linear(3, 2), (torch.ones(4, 3), torch.zeros(4)))
        >>> [tuple(x.shape) for x in batch.args], tuple(batch.target.shape)
        ([(4, 3)], (4,))
    """
    value = _one(source)
    batch = _inputs(model, value, target)
    _refuse_misfit(model, batch)
    _refuse_values(batch)
    return batch


@contextmanager
def batches_of(source: Any) -> Iterator[Iterator[Any]]:
    """All batches of a source, one after the other, before ``read_batch`` has read them.

    What can be iterated over begins again at its end, a function is called each time, and a batch is
    given again and again. An iterator ends. Generators are put back when the context ends.

    Raises:
        TypeError, ValueError: as ``read_batch``.

    Example:
        >>> from itertools import islice
        >>> from pyinit.inspection.batches import batches_of
        >>> with batches_of(torch.utils.data.DataLoader([1, 2])) as batches:
        ...     [int(each) for each in islice(batches, 3)]
        [1, 2, 1]
    """
    with ExitStack() as stack:
        stack.enter_context(global_states_kept())
        for generator in _generators(source):
            stack.callback(generator.set_state, generator.get_state())
        batches = _all(source)
        stack.callback(batches.close)
        yield batches


def gives_several(source: Any) -> bool:
    """Whether a source may give different batches one after the other, and is not a batch itself."""
    return not _is_value(source) and (_is_iterable(source) or callable(source))


def _all(source: Any) -> Generator[Any, None, None]:
    if isinstance(source, Iterator):
        yield from source
        return
    while True:
        if _is_value(source) or not _is_iterable(source):
            yield _one(source)
            continue
        batches = iter(source)
        yield _first(batches, f"the {type(source).__name__} has no batch: it is empty")
        yield from batches


def further(model: nn.Module, batches: Iterator[Any]) -> Iterator[Batch]:
    """The batches after the first one of a source, each read when it is asked for.

    Raises:
        ValueError: if another one is asked for at the end.
    """
    count = 1
    for count, value in enumerate(batches, 2):  # noqa: B007
        yield read_batch(model, value)
    raise ValueError(f"the data ended after {count} batches: give more of them, or fewer steps")


def named_tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors in what goes into a module or comes out of it, and where they are in it."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from named_tensors(each, f"{name}[{key!r}]")
    elif isinstance(value, (tuple, list)):
        for i, each in enumerate(value):
            yield from named_tensors(each, f"{name}[{i}]")
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from named_tensors(getattr(value, field.name, None), f"{name}.{field.name}")


def described(value: Any) -> str:
    """A value in an error: shapes, dtypes and devices of tensors, the types of everything else."""
    if isinstance(value, Tensor):
        shape = "nested" if value.is_nested else tuple(value.shape)
        return f"{shape} {str(value.dtype).removeprefix('torch.')} on {value.device}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {described(each)}" for key, each in value.items()) + "}"
    if isinstance(value, (tuple, list)) and len(value) <= 8:
        return "(" + ", ".join(map(described, value)) + ")"
    return type(value).__name__


# ---- one batch of a source -----------------------------------------------------------------------


def _one(source: Any) -> Any:
    if _is_value(source):
        return source
    if isinstance(source, Iterator):
        return _first(source, "the iterator has no further batch: it is exhausted")
    with ExitStack() as stack:
        stack.enter_context(global_states_kept())
        for generator in _generators(source):
            stack.callback(generator.set_state, generator.get_state())
        if isinstance(source, torch.utils.data.Dataset) and not _is_iterable(source):
            raise TypeError(
                f"a batch must not be a data set, got {type(source).__name__}: give a DataLoader of it"
            )
        if _is_iterable(source):
            return _first(iter(source), f"the {type(source).__name__} has no batch: it is empty")
        if callable(source) and not isinstance(source, nn.Module):
            _refuse_arguments(source)
            made = source()
            if not _is_value(made):
                raise TypeError(f"the function must return one batch, got {type(made).__name__}")
            return made
    if source is None or isinstance(source, nn.Module):
        raise TypeError(f"a batch must be data, got {type(source).__name__}")
    return source


def _refuse_arguments(source: Any) -> None:
    try:
        inspect.signature(source).bind()
    except TypeError as error:
        name = getattr(source, "__name__", type(source).__name__)
        raise TypeError(f"a batch's function must take no arguments: {name}: {error}") from None
    except ValueError:  # of code that tells nothing about itself
        pass


def _is_value(source: Any) -> bool:
    """Whether it is a batch itself, and not something that gives one."""
    if type(source).__module__ == "numpy":
        raise TypeError("a batch must not be a NumPy array: give torch.from_numpy(array)")
    if isinstance(source, (str, bytes)):
        raise TypeError(f"a batch must not be a string, got {source[:40]!r}")
    if isinstance(source, Dataset):
        raise TypeError(
            f"a batch must not be a data set, got that of {source.name!r}: give its inputs, or "
            "(data.inputs, data.target)"
        )
    is_data = isinstance(source, (Tensor, Mapping, tuple, list))
    return is_data or (dataclasses.is_dataclass(source) and not isinstance(source, type))


def _is_iterable(source: Any) -> bool:
    return hasattr(type(source), "__iter__")


def _first(batches: Iterator[Any], otherwise: str) -> Any:
    try:
        return next(batches)
    except StopIteration:
        raise ValueError(otherwise) from None


def _generators(loader: Any) -> list[torch.Generator]:
    """Those that a DataLoader and its samplers draw from, if not the global ones."""
    sampler, batches = getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None)
    holders = (loader, sampler, batches, getattr(batches, "sampler", None))
    found = (getattr(holder, "generator", None) for holder in holders)
    return [generator for generator in found if isinstance(generator, torch.Generator)]


# ---- inputs and target ---------------------------------------------------------------------------


def _inputs(model: nn.Module, value: Any, target: Any) -> Batch:
    if isinstance(value, Mapping):
        by_name = all(isinstance(key, str) for key in value) and _fits(model, (), dict(value))
        if by_name or not _fits(model, (value,)):
            return Batch((), {str(key): each for key, each in value.items()}, target)
        return Batch((value,), {}, target)
    if not isinstance(value, (tuple, list)) or hasattr(value, "_fields"):
        return Batch((value,), {}, target)
    if not value:
        raise ValueError("the batch is empty: a tuple or list of nothing")
    if target is None and len(value) > 1 and not _takes_all(model, tuple(value)):
        return _pair(model, tuple(value))
    whole = not _fits(model, tuple(value)) and _fits(model, (value,))  # a list of images, say
    return Batch((value,) if whole else tuple(value), {}, target)


def _pair(model: nn.Module, items: tuple[Any, ...]) -> Batch:
    """Of inputs and a target."""
    if len(items) == 2:
        return _inputs(model, *items)
    return Batch(items[:-1], {}, items[-1]) if _fits(model, items[:-1]) else Batch(items, {}, None)


def _takes_all(model: nn.Module, items: tuple[Any, ...]) -> bool:
    """Whether a tuple has inputs alone, and no target."""
    parameters = _parameters(model)
    if any(each.kind is each.VAR_POSITIONAL for each in parameters):
        return True
    first = items[0]
    if len(items) == 2 and (
        (isinstance(first, Mapping) and _fits(model, (), dict(first)))
        or (isinstance(first, (tuple, list)) and _fits(model, tuple(first)))
    ):
        return False
    needed = sum(
        each.default is each.empty
        and each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
        for each in parameters
    )
    return needed >= len(items)


def _parameters(model: nn.Module) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):  # of code that tells nothing about itself
        return []


def _fits(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None) -> bool:
    return _misfit(model, args, kwargs or {}) is None


def _misfit(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):
        return None
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        return f"{type(model).__name__}.forward{signature}: {error}"
    return None


# ---- refusals ------------------------------------------------------------------------------------


def _refuse_misfit(model: nn.Module, batch: Batch) -> None:
    misfit = _misfit(model, batch.args, batch.kwargs)
    if misfit is not None:
        got = described(batch.kwargs or batch.args)
        raise ValueError(
            f"the batch {got} does not fit {misfit}; a dict gives inputs by name, "
            "(inputs, target) a target"
        )


def _refuse_values(batch: Batch) -> None:
    inputs = [
        *named_tensors(batch.args, "inputs"),
        *named_tensors(batch.kwargs, "inputs"),
    ]
    if inputs and inputs[0][1].numel() == 0:
        name, tensor = inputs[0]
        raise ValueError(f"the batch has no samples: {name} is {described(tensor)}")
    for name, tensor in (*inputs, *named_tensors(batch.target, "target")):
        if tensor.is_meta:
            raise ValueError(f"the batch has no values: {name} is on the meta device")
        if tensor.dtype.is_floating_point or tensor.dtype.is_complex:
            count = int(torch.isnan(tensor).sum()) if tensor.layout is torch.strided else 0
            if count:
                raise ValueError(f"the batch has NaN: {count} of {tensor.numel()} values of {name}")
