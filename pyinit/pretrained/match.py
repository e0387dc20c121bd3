"""Which tensor of a checkpoint goes to which tensor of a model."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pyinit import _core
from pyinit._messages import first_of
from pyinit._sharding.zero3 import refuse_gathered
from pyinit._torch.placement import refuse_elsewhere
from pyinit._torch.views import readable_view, refuse_inference
from pyinit.pretrained.adapt import Adaptation, Shapes, adaptations
from pyinit.pretrained.checkpoint import Checkpoint, model_names, renamer
from pyinit.pretrained.load_path import Extra, Target, take, targets
from pyinit.whole_model.engine.shared_memory import same_memory
from pyinit.whole_model.network import refuse_lazy


class Slot(NamedTuple):
    """A tensor of a model, with all of its names and its places in modules."""

    names: tuple[str, ...]
    places: tuple[Target, ...]

    @property
    def tensor(self) -> Tensor:
        return self.places[0].tensor


class Pair(NamedTuple):
    """A tensor of the source for a tensor of the model.

    name: the first name of the model's tensor
    source: the source's tensor
    adaptation: what makes it fit, if it does not as it is
    """

    name: str
    source: Tensor
    adaptation: Adaptation | None

    def value(self) -> Tensor:
        """The values for the model's tensor, before they are rounded to its dtype."""
        how = self.adaptation and self.adaptation.apply
        return self.source if how is None else how(self.source)


@dataclass(frozen=True)
class Match:
    """What goes where.

    slots: the tensors of the model, by their first names
    pairs: what is copied
    extras: what modules take besides tensors
    missing: names that the source lacks
    mismatched: tensors that do not fit as they are, with what is done about it, if anything
    unexpected: names of the source that the model lacks
    """

    slots: Mapping[str, Slot]
    pairs: list[Pair]
    extras: list[Extra]
    missing: list[str]
    mismatched: dict[str, tuple[Shapes, Adaptation | None]]
    unexpected: list[str]

    @property
    def filled(self) -> set[str]:
        """All names of the tensors that get values."""
        return {name for pair in self.pairs for name in self.slots[pair.name].names}

    @property
    def targets(self) -> list[Target]:
        """The places that get values."""
        return [place for pair in self.pairs for place in self.slots[pair.name].places]

    def tensors(self) -> dict[str, list[Tensor]]:
        """The tensors that get values, as they are now, by the names of their pairs."""
        return {
            pair.name: [place.tensor for place in self.slots[pair.name].places]
            for pair in self.pairs
        }

    def with_only(self, written: Mapping[str, list[Tensor]]) -> "Match":
        """The match without pairs whose tensors a hook has replaced since they were written."""
        there = {
            name
            for name, now in self.tensors().items()
            if all(one is other for one, other in zip(now, written[name], strict=True))
        }
        lost = [pair.name for pair in self.pairs if pair.name not in there]
        pairs = [pair for pair in self.pairs if pair.name in there]
        return replace(self, pairs=pairs, missing=[*self.missing, *lost])

    @property
    def coverage(self) -> float:
        """The percentage of all elements of parameters that get values."""
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
    """Pair tensors by name, and adapt those of another shape in the ways that ``kinds`` names.

    Raises:
        ValueError: For names that become one, different values for tied tensors, tensors that
            cannot be written, and modules whose load path cannot be followed.
    """
    slots = {slot.names[0]: slot for slot in _slots(model)}
    wanted = {name for slot in slots.values() for name in slot.names}
    values = checkpoint.values()
    renamed = renamer(values, wanted, prefix, rename)
    keys = model_names(values, renamed)
    metadata = {
        name.removesuffix("."): described
        for path, described in checkpoint.metadata.items()
        if (name := renamed(f"{path}." if path else "")) is not None
    }
    taken = take(model, {name: values[key] for name, key in keys.items()}, metadata)
    found = {
        first: value
        for first, slot in slots.items()
        if (value := _value(slot, taken.given, keys)) is not None
    }
    for first, value in found.items():
        _check_writable(slots[first], value)
    shapes = {
        first: Shapes(tuple(value.shape), tuple(slots[first].tensor.shape))
        for first, value in found.items()
    }
    other = {first: both for first, both in shapes.items() if both.source != both.model}
    adapted = adaptations(model, shapes, kinds)
    pairs = [
        Pair(first, value, adapted.get(first))
        for first, value in found.items()
        if first not in other or (first in adapted and adapted[first].apply)
    ]
    _check_shared(slots, pairs)
    return Match(
        slots,
        pairs,
        taken.extras,
        [*(first for first in slots if first not in found), *taken.missing],
        {
            first: (both, adapted.get(first))
            for first, both in shapes.items()
            if first in other or first in adapted
        },
        [keys.get(name, name) for name in taken.unexpected],
    )


def _slots(model: nn.Module) -> Iterator[Slot]:
    """The tensors to load into, each memory once."""
    named = list(chain(model.named_parameters(), model.named_buffers()))
    for name, tensor in named:
        refuse_lazy(name, tensor)
    refuse_elsewhere("load_pretrained_", named, model)
    refuse_gathered("load_pretrained_", named)
    groups: dict[object, dict[str, Target]] = {}
    for name, target in targets(model).items():
        groups.setdefault(_identity(target.tensor), {})[name] = target
    for group in groups.values():
        yield Slot(tuple(group), tuple(group.values()))


def _identity(tensor: Tensor) -> object:
    if tensor.layout != torch.strided or not tensor.numel():
        return id(tensor)
    storage = tensor.untyped_storage()._cdata
    return storage, tensor.storage_offset(), tensor.shape, tensor.stride()


def _value(slot: Slot, given: Mapping[str, Tensor], keys: Mapping[str, str]) -> Tensor | None:
    """The source's tensor for a slot, if it has one."""
    found = [name for name in slot.names if name in given]
    if not found:
        return None
    first, *others = found
    for other in others:
        if not _is_same(given[first], given[other]):
            one, two = (keys.get(name, name) for name in (first, other))
            raise ValueError(
                f"{' and '.join(slot.names)} are one tensor in the model, but {one!r} and {two!r} "
                "of the source differ: rename the one that is not wanted"
            )
    return given[first]


def _is_same(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))


def _check_writable(slot: Slot, source: Tensor) -> None:
    name, tensor = slot.names[0], slot.tensor
    refuse_inference(tensor)
    if tensor.is_quantized:
        raise ValueError(f"{name} is quantized: it cannot be loaded")
    if tensor.layout == torch.strided and not _core.non_overlapping(
        tuple(tensor.shape), tensor.stride()
    ):
        raise ValueError(f"elements of {name} share memory: it cannot be loaded")
    if not _is_kept(source, tensor.dtype):
        raise ValueError(f"{name} is {tensor.dtype}, but {source.dtype} in the source")


def _is_kept(source: Tensor, dtype: torch.dtype) -> bool:
    """Whether a conversion changes values by no more than rounding."""
    if source.dtype == dtype or dtype.is_complex:
        return True
    if source.dtype.is_complex or dtype.is_floating_point:
        return not source.dtype.is_complex
    return torch.equal(source.to(dtype).to(source.dtype), source)


def _check_shared(slots: Mapping[str, Slot], pairs: Sequence[Pair]) -> None:
    """Raise ValueError if tensors that share memory would not all have their values."""
    placed = [
        (pair, tensor.detach(), view)
        for pair in pairs
        if (tensor := slots[pair.name].tensor).numel() and not tensor.is_meta
        if (view := readable_view(tensor)) is not None
    ]
    if not placed:
        return
    chosen, tensors, views = zip(*placed, strict=True)
    names = [pair.name for pair in chosen]
    for second, first in same_memory(names, tensors, views).items():
        one, other = tensors[first], tensors[second]
        whole = torch.empty_strided(one.shape, one.stride(), dtype=one.dtype)
        whole.copy_(chosen[first].value())
        wanted = chosen[second].value().to(other.dtype)
        if not _is_same(whole.as_strided(other.shape, other.stride()), wanted):
            raise ValueError(
                f"{names[first]} and {names[second]} are one memory in the model, but differ in "
                "the source: rename the one that is not wanted"
            )


def check_strict(matched: Match) -> None:
    """Raise RuntimeError unless names and shapes all agree."""
    mismatched = [
        f"{name} {list(shapes.source)} instead of {list(shapes.model)}"
        for name, (shapes, _) in matched.mismatched.items()
    ]
    faults = {
        "missing": matched.missing,
        "unexpected": matched.unexpected,
        "mismatched": mismatched,
    }
    texts = [f"{len(names)} {fault}: {first_of(names)}" for fault, names in faults.items() if names]
    if texts:
        raise RuntimeError(f"strict: source and model differ: {'; '.join(texts)}")


def check_not_empty(matched: Match, checkpoint: Checkpoint) -> None:
    """Raise ValueError if no parameter gets a value."""
    if matched.coverage == 0:
        raise ValueError(
            f"{checkpoint.description} has nothing of the name and shape of any parameter of the "
            f"model: it has {first_of(checkpoint.keys(), 3)}, the model has "
            f"{first_of(matched.slots, 3)}, {len(matched.mismatched)} of them in other shapes "
            "(allow_empty=True takes it)"
        )
