"""What each shard of a model holds, and what makes it, found out without memory for the model."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from pyinit._messages import first_of
from pyinit._random.rng import Key, get_rng, stream_of
from pyinit._torch.views import dtype_name
from pyinit.distributed.layout import balanced
from pyinit.distributed.manifest import Manifest, Recorded, described
from pyinit.distributed.own_code import (
    Latest,
    OwnCode,
    by_modules,
    by_resets,
    has_persistent_buffers,
    owner_of,
)
from pyinit.distributed.safetensors_file import Item, check_name, takes
from pyinit.distributed.values import Values, Whole, values_of
from pyinit.initializers import OwnReset
from pyinit.reports.initialization import InitReport
from pyinit.whole_model.engine.buffers import IsTouched, plan_resets
from pyinit.whole_model.engine.plan import Entry, make_plan
from pyinit.whole_model.engine.undrawable import refuse_undrawable
from pyinit.whole_model.initialize import chosen_by, row_of
from pyinit.whole_model.network import Network


class Plan(NamedTuple):
    """A folder of shards that is to be written.

    manifest: what it will hold
    values: what makes each tensor, by the tensor's name
    report: what each parameter gets, and why
    """

    manifest: Manifest
    values: Mapping[str, Values]
    report: InitReport


class _Stored(NamedTuple):
    """A tensor of a state dict, once whatever its names."""

    names: list[str]
    tensor: Tensor


def plan_shards(model: nn.Module, recipe: str, seed: int, shards: int, name: str) -> Plan:
    """Plan the shards of a model that is on the meta device, or in memory.

    Args:
        model: the model, whose tensors are not written
        recipe: the name of a recipe, or the path of a file of rules
        seed: an integer in [0, 2^64)
        shards: the number of files
        name: what the manifest calls the model

    Raises:
        ValueError: for what ``initialize_`` refuses, what no file of the format holds, what only a
            constructor in memory can make, and more shards than there are tensors.
    """
    chosen, rules, after = chosen_by(recipe)
    if after is not None:
        raise ValueError(
            f"the file names the method {after.name}, which needs all of the model in memory"
        )
    network = Network(model)
    stored = _stored(model)
    if not 0 < shards <= len(stored):
        raise ValueError(
            f"shards must be in [1, {len(stored)}], since the model has {len(stored)} tensors, got {shards}"
        )
    entries = make_plan(network, chosen, rules, None, None)
    refuse_undrawable(entries, has_keys=True)
    made = _Makers(network, entries, seed)
    report = InitReport(
        rows=[row_of(entry, made.source(entry.site.name), None) for entry in entries],
        recipe=str(chosen),
        rules=[str(rule) for rule in rules],
        seed=seed,
        rng=get_rng(),
        graph=network.graph.source if "graph" in vars(network) else None,
        buffers=[(path, how) for path, how, _ in made.resets],
        dry_run=True,
    )
    values: dict[str, Values] = {}
    recorded: list[Recorded] = []
    sizes = [Item("", each.tensor.dtype, tuple(each.tensor.shape)).size for each in stored]
    for number, run in enumerate(balanced(sizes, shards), 1):
        file = f"model-{number:05}-of-{shards:05}.safetensors"
        for each in stored[run.start : run.stop]:
            makes, by, fields = made.of(each)
            first, *tied = each.names
            values[first] = makes
            dtype, shape = dtype_name(each.tensor.dtype), tuple(each.tensor.shape)
            recorded.append(Recorded(first, file, dtype, shape, by, tuple(tied), **fields))
    made.refuse_lost()
    manifest = Manifest(
        model=name,
        recipe=str(chosen),
        rules=tuple(report.rules),
        seed=seed,
        rng=get_rng(),
        shards=shards,
        tensors=tuple(recorded),
    )
    return Plan(manifest, values, report)


def _stored(model: nn.Module) -> list[_Stored]:
    """The tensors of the model's state dict, in its order.

    Raises:
        ValueError: for what no file holds.
    """
    state = model.state_dict()
    others = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise ValueError(f"safetensors files hold only tensors, not {', '.join(others)}")
    found: dict[_Place, _Stored] = {}
    of_storage: dict[int, _Stored] = {}
    for name, tensor in state.items():
        check_name(name)
        if not takes(tensor.dtype):
            raise ValueError(f"safetensors files hold no {tensor.dtype}, as {name} is")
        place = _place(tensor)
        if place in found:
            found[place].names.append(name)
            continue
        found[place] = _Stored([name], tensor)
        same = of_storage.setdefault(place[0], found[place])
        if same is not found[place]:
            raise ValueError(f"{same.names[0]} and {name} share a part of their memory")
    return list(found.values())


_Place = tuple[int, int, tuple[int, ...], tuple[int, ...]]


def _place(tensor: Tensor) -> _Place:
    """What two tensors have in common that are the same one, with or without memory."""
    storage: int = tensor.untyped_storage()._cdata
    return storage, int(tensor.storage_offset()), tuple(tensor.shape), tensor.stride()


class _Makers:
    """What makes each tensor of a model."""

    def __init__(self, network: Network, entries: Sequence[Entry], seed: int) -> None:
        self._network, self._seed = network, seed
        touched = IsTouched(entries)
        self.resets = plan_resets(
            network.modules,
            lambda path, module: touched(path, module) and has_persistent_buffers(module),
        )
        resets = (entry for entry in entries if isinstance(entry.initializer, OwnReset))
        computed = (entry for entry in entries if entry.site.computed is not None and entry.blocks)
        latest = Latest()
        self._by_resets = by_resets(network, resets, self.source, latest)
        self._by_modules = by_modules(network, computed, self.resets, self.source, latest)
        self._how = {path: how for path, how, _ in self.resets}
        self._entries: dict[_Place, Entry] = {}
        self._places: dict[_Place, tuple[str, str]] = {}
        for entry in entries:
            for tensor in entry.site.parameters:
                known = self._entries.get(_place(tensor))
                if known is None or known.is_kept:  # of the same elements
                    self._entries[_place(tensor)] = entry
        for path, module in network.modules.items():
            for tensors in (module._parameters, module._buffers):
                for leaf, each in tensors.items():
                    if each is not None:
                        self._places.setdefault(_place(each), (path, leaf))
        self._lost: list[str] = []

    def source(self, name: str) -> Key:
        return Key(self._seed, stream_of(name))

    def of(self, stored: _Stored) -> tuple[Values, str, dict[str, Any]]:
        """What makes a tensor, what that is in words, and its fields in the manifest."""
        place = _place(stored.tensor)
        entry = self._entries.get(place)
        path, leaf = self._places.get(place, ("", ""))
        if entry is not None and isinstance(entry.initializer, OwnReset):
            return self._by_code(self._by_resets[entry.site.name], path, leaf, entry.why)
        if entry is not None and entry.blocks:
            site, key = entry.site, self.source(entry.site.name)
            by = str(entry.initializer)
            if site.computed is not None:
                return self._by_code(
                    self._by_modules[site.path], path, leaf, f"{by}, for {site.name}"
                )
            fields = described(entry.initializer, site.weight, key)
            return values_of(entry.blocks, site.shape, site.tensor.dtype, key), by, fields
        owner = owner_of(path)
        if entry is None and leaf and path in self._how:
            return self._by_code(self._by_modules[owner], path, leaf, self._how[path])
        if stored.tensor.is_meta:
            self._lost.append(stored.names[0])
        return Whole(partial(_as_it_is, stored.tensor)), "as its constructor made it", {}

    @staticmethod
    def _by_code(
        code: OwnCode, path: str, leaf: str, by: str
    ) -> tuple[Values, str, dict[str, Any]]:
        return Whole(partial(code.value, path, leaf)), by, {}

    def refuse_lost(self) -> None:
        """Refuse tensors without values that nothing makes."""
        if self._lost:
            raise ValueError(
                "tensors on the meta device whose values only their module's constructor knows: "
                f"{first_of(self._lost)}; build them outside of torch.device('meta')"
            )


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu()
