"""The plan of an initialization: what each parameter gets, and why.

It is made and checked before anything is written.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from pyinit import _core
from pyinit._messages import first_of
from pyinit._sharding.find import sharded
from pyinit._sharding.zero3 import refuse_gathered
from pyinit._torch.placement import GATHER, is_dtensor, refuse_elsewhere, says_nothing
from pyinit._torch.views import (
    DTYPES,
    View,
    is_placeholder,
    readable_view,
    writable_flat_view,
    writable_flat_views,
)
from pyinit.initializers import (
    KEEP,
    Blocks,
    Constant,
    Dirac,
    Drawn,
    Eye,
    Hadamard,
    Initializer,
    Keep,
    Normal,
    OwnReset,
    Sparse,
    TruncNormal,
    Uniform,
    Weight,
)
from pyinit.reports.initialization import Kept
from pyinit.whole_model.engine.shared_memory import same_memory
from pyinit.whole_model.network import Network, Site
from pyinit.whole_model.recipes.choices import with_padding
from pyinit.whole_model.recipes.registry import Choice, Choices, Recipe
from pyinit.whole_model.rules import Rules
from pyinit.whole_model.rules.patterns import Matcher, Predicate

QUICK = (Constant, Uniform, Normal, TruncNormal, Dirac, Eye, Hadamard, Sparse)
"""What each process that holds a part of a tensor makes for itself."""

_LARGEST = {dtype: torch.finfo(dtype).max for dtype in DTYPES}


class Entry:
    """A parameter and what it gets: an initializer, resolved to blocks; no blocks if it is kept.

    why: the reason, for people to read; nothing is decided by it
    kept: what else must be known of it if it is kept
    view: where it lies in memory, if a kernel could write or measure it
    """

    __slots__ = ("blocks", "initializer", "kept", "site", "view", "why")

    def __init__(
        self,
        site: Site,
        initializer: Initializer,
        why: str,
        blocks: Blocks,
        kept: Kept | None = None,
    ) -> None:
        self.site, self.initializer, self.why, self.blocks = site, initializer, why, blocks
        self.kept = kept
        self.view: View | None = None

    @property
    def is_kept(self) -> bool:
        return isinstance(self.initializer, Keep)

    @property
    def is_left_out(self) -> bool:
        """Whether the caller wants nothing to do with it."""
        return self.kept is Kept.LEFT_OUT

    @property
    def is_open(self) -> bool:
        """Whether it is kept, but a parameter in the same memory may fill it."""
        return self.kept in (Kept.UNKNOWN, Kept.SAME_MEMORY)

    @property
    def is_fixed(self) -> bool:
        """Whether it is kept, and nothing may fill it."""
        return self.is_kept and not self.is_open


def make_plan(
    network: Network, recipe: Recipe, rules: Rules, only: Matcher | None, skip: Matcher | None
) -> list[Entry]:
    """Make an entry for each parameter of the network, in its order.

    Raises:
        ValueError: For an initializer that cannot fill its parameter, or a pattern without a match.
    """
    for name, match in (("only", only), ("skip", skip)):
        refuse_no_match(name, match, network)
    by_rule = rules.choose(network) if rules else {}
    untouched = {
        site.name: entry
        for site in network.sites
        if (entry := _untouched(site, network, by_rule, only, skip)) is not None
    }
    filled = (
        site
        for site in network.sites
        if site.name not in untouched and not _is_kept_by(by_rule.get(site.name))
    )
    refuse_sites_elsewhere("initialize_", filled, network)
    by_recipe = recipe.choose(network)
    plan = []
    # Layers of one kind share initializer and shape.
    resolved: dict[tuple[int, Weight, torch.dtype], Blocks] = {}
    for site in network.sites:
        entry = untouched.get(site.name)
        if entry is None:
            chosen = by_rule.get(site.name) or (
                _by_recipe(site, by_recipe, network) if site.tied else by_recipe.get(site.name)
            )
            if chosen is None:
                why = f"recipe {recipe.name} leaves it as it is"
                entry = Entry(site, KEEP, why, (), Kept.UNKNOWN)
            else:
                same = id(chosen.initializer), site.weight, site.tensor.dtype
                blocks = resolved.get(same)
                if isinstance(chosen.initializer, OwnReset):
                    _check_own_reset(site, chosen, network)
                if blocks is None:
                    resolved[same] = blocks = checked_blocks(site, chosen)
                entry = Entry(site, chosen.initializer, chosen.why, blocks)
        plan.append(entry)
    check(plan)
    return plan


def refuse_sites_elsewhere(call: str, sites: Iterable[Site], network: Network) -> None:
    """Refuse to fill parameters whose values are elsewhere, except for those that this process holds in part.

    Raises:
        ValueError: if there are such parameters.
    """
    named: list[tuple[str, Tensor]] = []
    for site in sites:
        if site.computed is not None:
            named += site.named_parameters
        elif not _is_sharded(call, site.name, site.tensor):
            named.append((site.name, site.tensor))
    refuse_elsewhere(call, named, network.model)


def _is_sharded(call: str, name: str, parameter: Tensor) -> bool:
    """Whether this process can fill what it holds of a parameter that is spread over several.

    Raises:
        ValueError: for one whose elements cannot be told from what it holds.
    """
    if says_nothing(parameter):
        return False
    refuse_gathered(call, ((name, parameter),))
    try:
        return sharded(parameter) is not None
    except ValueError as error:
        raise ValueError(f"{call} cannot fill {name}: {error}") from None


def refuse_without_memory(call: str, plan: Sequence[Entry]) -> None:
    """Refuse DTensors on the meta device: only their model's ``to_empty`` gives each process its memory.

    Raises:
        ValueError: if there are any.
    """
    without = [
        name
        for entry in plan
        if entry.view is None or entry.site.computed is not None  # with a view it has memory
        for name, parameter in entry.site.named_parameters
        if parameter.is_meta and is_dtensor(parameter) and not entry.is_left_out
    ]
    if without:
        raise ValueError(
            f"{call} takes parameters that have memory, got {len(without)} DTensors on the meta device: "
            f"{first_of(without)}; call model.to_empty(device=...) first"
        )


def refuse_no_match(name: str, match: Matcher | None, network: Network) -> None:
    """Refuse a pattern of ``only`` or ``skip`` that matches no parameter."""
    # A function may say no to all: "what the checkpoint lacks", for a checkpoint that lacks nothing.
    if match is None or isinstance(match, Predicate) or any(map(match, network.sites)):
        return
    raise ValueError(f"{name}={str(match)!r} matches no parameter; {match.near(network)}")


def _by_recipe(site: Site, by_recipe: Choices, network: Network) -> Choice | None:
    """What a recipe says of a tied parameter, by any of its names."""
    names = (site.name, *site.tied)
    chosen = next(filter(None, map(by_recipe.get, names)), None)
    return None if chosen is None else with_padding(chosen, site, network)


def _is_kept_by(chosen: Choice | None) -> bool:
    return chosen is not None and isinstance(chosen.initializer, Keep)


def _untouched(
    site: Site, network: Network, by_rule: Choices, only: Matcher | None, skip: Matcher | None
) -> Entry | None:
    """The entry of a parameter that stays as its model has it, whatever the recipe says."""
    tensor = site.tensor
    if only is not None and not only(site):
        return Entry(site, KEEP, "not among only=", (), Kept.LEFT_OUT)
    if skip is not None and skip(site):
        return Entry(site, KEEP, "among skip=", (), Kept.LEFT_OUT)
    if tensor.dtype not in DTYPES:
        chosen = by_rule.get(site.name)
        if chosen is not None and not _is_kept_by(chosen):
            raise ValueError(
                f"{chosen.why} cannot fill {site.name}: its dtype is {tensor.dtype}; it takes "
                f"{', '.join(map(str, DTYPES))}"
            )
        return Entry(site, KEEP, f"of dtype {tensor.dtype}", ())
    if not tensor.requires_grad:
        own = network.own_resets.of(site.path, site.leaf) if tensor.is_meta else None
        if own is not None:
            return Entry(site, OwnReset(), f"{own.words}: frozen, and without values", ())
        return Entry(site, KEEP, "frozen: requires no gradient", ())
    return None


def checked_blocks(site: Site, choice: Choice) -> Blocks:
    """What an initializer fills a parameter with.

    Raises:
        ValueError: if it cannot fill it.
    """
    try:
        blocks = choice.initializer.resolve(site.weight)
        for block in blocks:
            _check_range(block.drawn, site.tensor.dtype)
    except ValueError as error:
        raise ValueError(
            f"{choice.initializer} cannot fill {site.name} ({choice.why}): {error}"
        ) from None
    return blocks


def _check_own_reset(site: Site, choice: Choice, network: Network) -> None:
    if network.own_resets.of(site.path, site.leaf) is None:
        raise ValueError(
            f"{choice.initializer} cannot fill {site.name} ({choice.why}): {NO_OWN_RESET}"
        )


NO_OWN_RESET = "its model has no reset_parameters or _init_weights of its own that does"


def _check_range(drawn: Drawn, dtype: torch.dtype) -> None:
    if dtype in _LARGEST and not drawn.fits(_LARGEST[dtype]):
        raise ValueError(f"{drawn} is beyond the range of {dtype}")


def check(plan: Sequence[Entry]) -> None:
    """Let only one of several entries fill the same elements, and refuse what cannot be done.

    Raises:
        ValueError: for parameters on the meta device that nothing initializes, that share memory in
            part, or have elements that do, and for partitions that take more than this process has.
        RuntimeError: for inference tensors, outside of inference mode.
    """
    _check_values(plan)
    _check_partitioned(plan)
    entries, tensors, views = [], [], []
    ordinary = writable_flat_views([entry.site.tensor for entry in plan])
    for entry, known in zip(plan, ordinary, strict=True):
        site = entry.site
        for tensor in (site.tensor,) if site.computed is None else site.computed.tensors():
            is_known = known is not None and tensor is site.tensor and bool(entry.blocks)
            view = entry.view = known if is_known else view_of_entry(entry, tensor)
            if view is not None:
                entries.append(entry)
                tensors.append(tensor)
                views.append(view)
    names = [entry.site.name for entry in entries]
    for i, earlier in same_memory(names, tensors, views).items():
        _keep_one(entries[earlier], entries[i])


def _keep_one(first: Entry, second: Entry) -> None:
    """Let only one of two entries fill the elements that they have in common.

    The second one is kept, unless the first one gets no values; if either is fixed, both are kept.
    """
    kept, other = (first, second) if second.is_fixed or first.is_open else (second, first)
    if not kept.is_fixed:
        kept.initializer, kept.blocks, kept.kept = KEEP, (), Kept.SAME_MEMORY
        kept.why = f"the same memory as {other.site.name}"


def view_of_entry(entry: Entry, tensor: Tensor) -> View | None:
    """Where a parameter lies, if a kernel could write it, or measure it if it is kept.

    Raises:
        ValueError: For a parameter that nothing could write.
    """
    if tensor.is_meta:
        return None
    if entry.is_kept:
        return readable_view(tensor)
    view = writable_flat_view(tensor)
    if view is None:
        check_writable(entry.site.name, tensor)
    return view


def _check_values(plan: Sequence[Entry]) -> None:
    """Refuse to give parameters memory but no values."""
    without = [
        f"{entry.site.name} ({entry.why})"
        for entry in plan
        if not entry.blocks
        and entry.site.tensor.is_meta
        and entry.is_kept
        and not entry.is_left_out
    ]
    if without:
        raise ValueError(
            f"{len(without)} parameters are on the meta device, without values, and nothing "
            f"initializes them; give rules for {first_of(without)}"
        )


def _check_partitioned(plan: Sequence[Entry]) -> None:
    """Refuse what ZeRO-3 has partitioned where processes would have to hand parts around."""
    for entry in plan:
        if not entry.blocks or says_nothing(entry.site.tensor):
            continue
        if is_placeholder(entry.site.tensor) and not all(
            type(drawn) in QUICK for drawn, _, _ in entry.blocks
        ):
            raise ValueError(
                f"{entry.initializer} cannot fill {entry.site.name} ({entry.why}), since its elements "
                f"depend on each other and DeepSpeed's ZeRO-3 has partitioned it: {GATHER}"
            )


def refuse_partitioned_without_keys(call: str, plan: Sequence[Entry]) -> None:
    """Refuse to draw from anything but keys for what ZeRO-3 has partitioned, as torch would write nothing.

    Raises:
        ValueError: if there is such a parameter.
    """
    names = [e.site.name for e in plan if e.blocks and is_placeholder(e.site.tensor)]
    if names:
        raise ValueError(
            f"{call} fills what DeepSpeed's ZeRO-3 has partitioned by pyinit's own numbers alone, from "
            f"seed= or a generator on the CPU: {first_of(names)}"
        )


def check_writable(name: str, tensor: Tensor) -> None:
    """Raise ValueError for a parameter whose elements have no places of their own in memory."""
    if tensor.layout is not torch.strided:
        raise ValueError(f"parameter {name} is not strided but of layout {tensor.layout}")
    if not _core.non_overlapping(tuple(tensor.shape), tensor.stride()):
        raise ValueError(
            f"parameter {name} has elements that share memory: its strides are {tensor.stride()}"
        )
