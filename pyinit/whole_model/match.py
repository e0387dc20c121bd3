"""Which tensor of a checkpoint goes to which tensor of a model."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from pyinit import _core
from pyinit._tensors import refuse_inference
from pyinit.whole_model.adapt import Adaptation, Shapes, adaptations
from pyinit.whole_model.checkpoint import Checkpoint, model_names


class Slot(NamedTuple):
    """A tensor of a model with all of its names in the state dict."""

    names: tuple[str, ...]
    tensor: Tensor


class Pair(NamedTuple):
    """The name of a tensor in the model and in the source, and what makes the one the other."""

    name: str
    key: str
    adaptation: Adaptation | None


@dataclass(frozen=True)
class Match:
    """pairs: what is copied; missing: slots that the source lacks; mismatched: of other shapes, with
    what is done about it, if anything; unexpected: names of the source that the model lacks."""

    slots: Mapping[str, Slot]
    pairs: list[Pair]
    missing: list[Slot]
    mismatched: dict[str, tuple[Shapes, Adaptation | None]]
    unexpected: list[str]

    @property
    def filled(self) -> set[str]:
        """All names of the tensors that get values."""
        return {name for pair in self.pairs for name in self.slots[pair.name].names}

    @property
    def coverage(self) -> float:
        """Of the elements of parameters, those that get values, in %."""
        total, filled = 0, self.filled
        got = 0
        for name, slot in self.slots.items():
            if isinstance(slot.tensor, nn.Parameter):
                total += slot.tensor.numel()
                got += slot.tensor.numel() if name in filled else 0
        return 100.0 * got / total if total else 100.0


def match(
    model: nn.Module,
    checkpoint: Checkpoint,
    prefix: str | None,
    rename: Iterable[tuple[str, str]],
    kinds: Collection[str],
) -> Match:
    """Pairs by name; what has another shape is adapted in those of the ways that ``kinds`` names.

    Raises:
        ValueError: for names that become one, different values for tied tensors, and tensors
            that cannot be written.
    """
    slots = {slot.names[0]: slot for slot in _slots(model)}
    every_name = {name for slot in slots.values() for name in slot.names}
    keys = model_names(checkpoint.keys(), every_name, prefix, rename)
    found = {first: key for first, slot in slots.items() if (key := _key(slot, keys, checkpoint))}
    for first, key in found.items():
        _check_writable(slots[first], key, checkpoint)
    shapes = {
        first: Shapes(checkpoint.shape(key), tuple(slots[first].tensor.shape))
        for first, key in found.items()
    }
    other = {first: both for first, both in shapes.items() if both.source != both.model}
    adapted = adaptations(model, other, kinds)
    return Match(
        slots,
        [
            Pair(first, key, adapted.get(first))
            for first, key in found.items()
            if first not in other or (first in adapted and adapted[first].apply)
        ],
        [slot for first, slot in slots.items() if first not in found],
        {first: (both, adapted.get(first)) for first, both in other.items()},
        [key for name, key in keys.items() if name not in every_name],
    )


def _slots(model: nn.Module) -> Iterator[Slot]:
    """Tensors of the state dict, those that are the same memory once."""
    groups: dict[object, list[str]] = {}
    state = model.state_dict(keep_vars=True)
    for name, tensor in state.items():
        if isinstance(tensor, Tensor):
            if is_lazy(tensor):
                raise ValueError(
                    f"parameter {name} has no shape yet: it is lazy; run a batch through the model first"
                )
            groups.setdefault(_identity(tensor), []).append(name)
    for names in groups.values():
        yield Slot(tuple(names), state[names[0]])


def _identity(tensor: Tensor) -> object:
    if tensor.layout != torch.strided or not tensor.numel():
        return id(tensor)
    storage = tensor.untyped_storage()._cdata
    return storage, tensor.storage_offset(), tensor.shape, tensor.stride()


def _key(slot: Slot, keys: Mapping[str, str], checkpoint: Checkpoint) -> str | None:
    """The source's name for a slot."""
    found = [keys[name] for name in slot.names if name in keys]
    if not found:
        return None
    first, *others = found
    for other in others:
        if not _is_same(checkpoint, first, other):
            raise ValueError(
                f"{' and '.join(slot.names)} are one tensor in the model, but {first!r} and {other!r} "
                "of the source differ: rename the one that is not wanted"
            )
    return first


def _is_same(checkpoint: Checkpoint, one: str, other: str) -> bool:
    if checkpoint.shape(one) != checkpoint.shape(other):
        return False
    a, b = (checkpoint.tensor(name).reshape(-1) for name in (one, other))
    return a.dtype == b.dtype and torch.equal(a.view(torch.uint8), b.view(torch.uint8))


def _check_writable(slot: Slot, key: str, checkpoint: Checkpoint) -> None:
    name, tensor = slot.names[0], slot.tensor
    refuse_inference(tensor)
    if tensor.layout == torch.strided and not _core.non_overlapping(
        tuple(tensor.shape), tensor.stride()
    ):
        raise ValueError(f"elements of {name} share memory: it cannot be loaded")
    if checkpoint.dtype(key).is_complex and not tensor.is_complex():
        raise ValueError(f"{name} is {tensor.dtype}, but {checkpoint.dtype(key)} in the source")


def check_strict(matched: Match) -> None:
    """Raises RuntimeError unless names and shapes all agree."""
    mismatched = [
        f"{name} {list(shapes.source)} instead of {list(shapes.model)}"
        for name, (shapes, _) in matched.mismatched.items()
    ]
    faults = {
        "missing": [slot.names[0] for slot in matched.missing],
        "unexpected": matched.unexpected,
        "mismatched": mismatched,
    }
    texts = [f"{len(names)} {fault}: {first_of(names)}" for fault, names in faults.items() if names]
    if texts:
        raise RuntimeError(f"strict: source and model differ: {'; '.join(texts)}")


def check_not_empty(matched: Match, checkpoint: Checkpoint) -> None:
    """Raises ValueError if no parameter gets a value."""
    if matched.coverage == 0:
        raise ValueError(
            f"{checkpoint.description} has nothing of the name and shape of any parameter of the "
            f"model: it has {first_of(checkpoint.keys(), 3)}, the model has "
            f"{first_of(matched.slots, 3)}, {len(matched.mismatched)} of them in other shapes "
            "(allow_empty=True takes it)"
        )


def first_of(names: Collection[str], count: int = 10) -> str:
    """Some names, and whether there are more."""
    more = ", ..." if len(names) > count else ""
    return (", ".join(islice(names, count)) or "none") + more
