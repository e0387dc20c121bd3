"""The plan: what each parameter of a model gets, and why. Made and checked before anything is written."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pyinit import _core
from pyinit._torch.placement import refuse_elsewhere
from pyinit._torch.views import DTYPES, View, native_view, plain_memory
from pyinit.initializers import (
    KEEP,
    Blocks,
    Constant,
    DeltaOrthogonal,
    Drawn,
    Initializer,
    Keep,
    Normal,
    Orthogonal,
    Sparse,
    TruncNormal,
    Uniform,
    Weight,
)
from pyinit.whole_model.engine.shared_memory import same_memory
from pyinit.whole_model.network import Network, Site
from pyinit.whole_model.recipes.choices import with_padding
from pyinit.whole_model.recipes.registry import Choice, Choices, Recipe
from pyinit.whole_model.rules import Rules
from pyinit.whole_model.rules.patterns import Matcher, Predicate

_LARGEST = {dtype: torch.finfo(dtype).max for dtype in DTYPES}


class Entry:
    """A parameter, its initializer, why that one, and what it draws: no blocks where it is kept.

    view: where the parameter lies, if a kernel could write or measure it
    """

    __slots__ = ("blocks", "initializer", "site", "view", "why")

    def __init__(self, site: Site, initializer: Initializer, why: str, blocks: Blocks) -> None:
        self.site, self.initializer, self.why, self.blocks = site, initializer, why, blocks
        self.view: View | None = None

    @property
    def is_kept(self) -> bool:
        return isinstance(self.initializer, Keep)

    @property
    def is_left_out(self) -> bool:
        """Whether the caller wants nothing to do with it."""
        return self.why in _LEFT_OUT

    @property
    def is_unknown(self) -> bool:
        """Whether it is kept because the recipe does not know it."""
        return self.is_kept and self.why.endswith(_UNKNOWN)

    @property
    def is_same_memory(self) -> bool:
        """Whether it is kept because another one has its elements, and fills them."""
        return self.is_kept and self.why.startswith(_SAME_MEMORY)


_SAME_MEMORY = "the same memory as "
_UNKNOWN = "leaves it as it is"
_LEFT_OUT = ("not among only=", "among skip=")


def make_plan(
    network: Network, recipe: Recipe, rules: Rules, only: Matcher | None, skip: Matcher | None
) -> list[Entry]:
    """An entry for each parameter of the network, in its order.

    Raises:
        ValueError: for what cannot be done to a parameter.
    """
    for name, match in (("only", only), ("skip", skip)):
        _refuse_no_match(name, match, network)
    by_rule = rules.choose(network) if rules else {}
    left = {site.name: _reason_to_keep(site, by_rule, only, skip) for site in network.sites}
    refuse_elsewhere(
        "initialize_",
        (
            named
            for site in network.sites
            if left[site.name] is None and not _is_kept_by(by_rule.get(site.name))
            for named in site.named_parameters
        ),
        network.model,
    )
    by_recipe = recipe.choose(network)
    kept_by_recipe = Choice(KEEP, f"recipe {recipe.name} {_UNKNOWN}")
    plan = []
    # Layers of one kind share initializer and shape.
    resolved: dict[tuple[int, Weight, torch.dtype], Blocks] = {}
    for site in network.sites:
        reason = left[site.name]
        if reason is not None:
            chosen = Choice(KEEP, reason)
        else:
            chosen = by_rule.get(site.name) or _of(site, by_recipe, network) or kept_by_recipe
        same = id(chosen.initializer), site.weight, site.tensor.dtype
        blocks = resolved.get(same)
        if blocks is None:
            resolved[same] = blocks = _checked_blocks(site, chosen)
        plan.append(Entry(site, chosen.initializer, chosen.why, blocks))
    check(plan)
    return plan


def _refuse_no_match(name: str, match: Matcher | None, network: Network) -> None:
    # A function may well say no to all: what is missing from a checkpoint that lacks nothing.
    if match is None or isinstance(match, Predicate) or any(map(match, network.sites)):
        return
    raise ValueError(f"{name}={str(match)!r} matches no parameter; {match.near(network)}")


def _of(site: Site, by_recipe: Choices, network: Network) -> Choice | None:
    """What a recipe says: of a tied parameter, by any of its names."""
    chosen = by_recipe.get(site.name)
    if not site.tied:
        return chosen
    chosen = chosen or next(filter(None, map(by_recipe.get, site.tied)), None)
    return None if chosen is None else with_padding(chosen, site, network)


def _is_kept_by(chosen: Choice | None) -> bool:
    return chosen is not None and isinstance(chosen.initializer, Keep)


def _reason_to_keep(
    site: Site, by_rule: Choices, only: Matcher | None, skip: Matcher | None
) -> str | None:
    """Why a parameter stays as it is, whatever the recipe says."""
    tensor = site.tensor
    if only is not None and not only(site):
        return _LEFT_OUT[0]
    if skip is not None and skip(site):
        return _LEFT_OUT[1]
    if tensor.dtype not in DTYPES:
        chosen = by_rule.get(site.name)
        if chosen is not None and not _is_kept_by(chosen):
            raise ValueError(
                f"{chosen.why} cannot fill {site.name}: its dtype is {tensor.dtype}; it takes "
                f"{', '.join(map(str, DTYPES))}"
            )
        return f"of dtype {tensor.dtype}"
    if not tensor.requires_grad:
        return "frozen: requires no gradient"
    return None


def _checked_blocks(site: Site, choice: Choice) -> Blocks:
    try:
        blocks = choice.initializer.resolve(site.weight)
        for block in blocks:
            _check_range(block.drawn, site.tensor.dtype)
    except ValueError as error:
        raise ValueError(
            f"{choice.initializer} cannot fill {site.name} ({choice.why}): {error}"
        ) from None
    return blocks


# The numbers that must fit the dtype.
_NUMBERS: Mapping[type[Drawn], Callable[[Any], tuple[float, ...]]] = {
    Constant: lambda x: (x.val,) if math.isfinite(x.val) else (),
    Uniform: lambda x: (x.a, x.b, x.b - x.a),
    Normal: lambda x: (x.mean, x.std),
    TruncNormal: lambda x: (x.mean, x.std, max(x.a, 0.0), min(x.b, 0.0)),
    Sparse: lambda x: (x.std,),
    Orthogonal: lambda x: (x.gain,),
    DeltaOrthogonal: lambda x: (x.gain,),
}


def _check_range(drawn: Drawn, dtype: torch.dtype) -> None:
    numbers = _NUMBERS.get(type(drawn))
    if numbers is None or dtype not in _LARGEST:
        return
    for number in numbers(drawn):
        if not abs(number) <= _LARGEST[dtype]:
            raise ValueError(f"{number} is beyond the range of {dtype}")


def check(plan: Sequence[Entry]) -> None:
    """Keep what is an earlier parameter in all but name, and refuse what cannot be done.

    Raises:
        ValueError: for parameters on the meta device that nothing initializes, that share memory in
            part, or have elements that do.
        RuntimeError: for inference tensors, outside of inference mode.
    """
    _check_values(plan)
    entries, tensors, views = [], [], []
    for entry in plan:
        site = entry.site
        for tensor in (site.tensor,) if site.computed is None else site.computed.tensors():
            view = entry.view = view_of(entry, tensor)
            if view is not None:
                entries.append(entry)
                tensors.append(tensor)
                views.append(view)
    names = [entry.site.name for entry in entries]
    for i, earlier in same_memory(names, tensors, views).items():
        _fill_one(entries[earlier], entries[i])


def _fill_one(first: Entry, second: Entry) -> None:
    """Of two that are the same but for their names, the first; neither if one is to be kept."""
    is_firm = second.is_kept and not (second.is_unknown or second.is_same_memory)
    is_open = first.is_unknown or first.is_same_memory
    kept, other = (first, second) if is_firm or is_open else (second, first)
    if kept.is_unknown or kept.is_same_memory or not kept.is_kept:
        kept.initializer, kept.blocks = KEEP, ()
        kept.why = _SAME_MEMORY + other.site.name


def view_of(entry: Entry, tensor: Tensor) -> View | None:
    """Where a parameter lies, if a kernel could write it; refuses what nothing could write."""
    if tensor.is_meta:
        return None
    if entry.is_kept:
        return plain_memory(tensor)
    view = native_view(tensor)
    if view is None:
        _check_writable(entry.site.name, tensor)
    return view


def _check_values(plan: Sequence[Entry]) -> None:
    """Refuse to give parameters memory and no values."""
    without = [
        f"{entry.site.name} ({entry.why})"
        for entry in plan
        if entry.site.tensor.is_meta and entry.is_kept and not entry.is_left_out
    ]
    if without:
        shown = ", ".join(without[:10]) + (", ..." if len(without) > 10 else "")
        raise ValueError(
            f"{len(without)} parameters are on the meta device, without values, and nothing "
            f"initializes them; give rules for {shown}"
        )


def _check_writable(name: str, tensor: Tensor) -> None:
    if tensor.layout is not torch.strided:
        raise ValueError(f"parameter {name} is not strided but of layout {tensor.layout}")
    if not _core.non_overlapping(tuple(tensor.shape), tensor.stride()):
        raise ValueError(
            f"parameter {name} has elements that share memory: its strides are {tensor.stride()}"
        )
