"""Whole models in one call, and the same again from its report."""

from collections.abc import Callable, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pyinit._dynamo import eager
from pyinit._rng import Key, Source, get_rng, seed_of, take_key
from pyinit.whole_model.buffers import BufferReset, plan_resets
from pyinit.whole_model.execute import Batch, Moments, stream_of
from pyinit.whole_model.initializers import KEEP, OwnReset
from pyinit.whole_model.materialize import materialize_
from pyinit.whole_model.network import Network, Site, computed
from pyinit.whole_model.plan import Entry, make_plan
from pyinit.whole_model.recipes.registry import Recipe
from pyinit.whole_model.recipes.registry import recipe as recipe_of
from pyinit.whole_model.report import InitReport, Row
from pyinit.whole_model.rules import Rules, as_rules, load_recipe, matcher

Sources = Callable[[str], Source]
"""Where the numbers of the parameter of that name come from."""


@eager
def initialize_(
    model: nn.Module,
    recipe: str | Recipe | PathLike[str] = "auto",
    *,
    rules: Any = None,
    seed: int | None = None,
    only: Any = None,
    skip: Any = None,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    dry_run: bool = False,
) -> InitReport:
    """Initialize all parameters of a model: in one native call, right for what each layer is.

    With ``seed``, a parameter's values depend on the seed and its qualified name alone: layers that
    are added, removed or moved change no other one; the number of threads, the layout in memory and
    sharding change nothing. Everything is planned and checked before anything is written.

    Args:
        model: the model. Parameters on the meta device get memory first. Tied parameters are filled
            once; parametrized ones (``weight_norm``, ``spectral_norm``, ``orthogonal``) through
            their parametrization. Parameters that require no gradient or are not of a
            floating-point dtype are left alone. Buffers are reset as their module does it
        recipe: the name of a recipe (``pyinit.recipes()``), one with options (``pyinit.recipe``),
            or a TOML or JSON file of rules
        rules: go before the recipe; the first that matches a parameter wins. A list of ``Rule``, a
            mapping from name patterns to initializers, a file, or mmengine's ``init_cfg``
        seed: an integer in [0, 2^64); None: the key is drawn from torch's generator
        only: what to initialize: a name pattern, a module type, a predicate, or several of them
        skip: what to leave as it is, likewise
        generator: the ``torch.Generator`` to draw the key from, without ``seed``
        device: where parameters on the meta device get their memory (default: torch's)
        dry_run: report what would be done, and do nothing

    Returns:
        A row for each parameter: what it got, and why.

    Raises:
        ValueError: for an unknown recipe or initializer, rules that match nothing or cannot apply,
            parameters without a shape (lazy modules), parameters or buffers on the meta device that
            nothing initializes, parameters that share a part of their memory.
        TypeError: for arguments of another type.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    _check_source(seed, generator)
    chosen, by_rules = _chosen(recipe, rules)
    network = Network(model)
    plan = make_plan(
        network,
        chosen,
        by_rules,
        None if only is None else matcher(only),
        None if skip is None else matcher(skip),
    )
    sources = _sources(seed, generator, dry_run)
    resets = plan_resets(network.modules, _is_touched(plan), sources)
    of_each = [sources(entry.site.name) for entry in plan]
    moments = (
        [None] * len(plan) if dry_run else _run(network, plan, of_each, sources, resets, device)
    )
    return InitReport(
        rows=list(map(_row, plan, of_each, moments)),
        recipe=str(chosen),
        rules=[str(rule) for rule in by_rules],
        seed=seed,
        rng=get_rng(),
        graph=network.graph.source if "graph" in vars(network) else None,
        buffers=[(path, how) for path, how, _ in resets],
        dry_run=dry_run,
    )


@eager
def replay_(model: nn.Module, report: InitReport) -> None:
    """Give a model the values that a report tells of: the same bits, from its keys.

    Args:
        model: with parameters of the names and shapes of the report's rows; it may be on the meta
            device
        report: what ``initialize_`` returned, or ``InitReport.load`` read

    Raises:
        ValueError: if the model has other parameters, or if numbers came from torch's generator.
        TypeError: for arguments of another type.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if not isinstance(report, InitReport):
        raise TypeError(f"report must be an InitReport, got {type(report).__name__}")
    network = Network(model)
    plan = [_again(network, row) for row in report]
    known = {entry.site.name for entry in plan}
    unknown = [site.name for site in network.sites if site.name not in known]
    if unknown:
        raise ValueError(f"the report has no row for parameter {unknown[0]}")
    keys = {row.name: Key(row.key, row.stream or 0) for row in report if row.key is not None}
    base = next(iter(keys.values()), Key(0)).key

    def sources(name: str) -> Source:
        return keys.get(name) or Key(base, stream_of(name))

    of_each = [sources(entry.site.name) for entry in plan]
    resets = plan_resets(network.modules, _is_touched(plan), sources)
    _run(network, plan, of_each, sources, resets, device=None)


def _again(network: Network, row: Row) -> Entry:
    site = network.by_name.get(row.name)
    if site is None:
        raise ValueError(f"the model has no parameter {row.name}, of which the report tells")
    if site.shape != row.shape:
        raise ValueError(f"parameter {row.name} has shape {site.shape}, the report's {row.shape}")
    if row.key is None and not row.is_kept:
        raise ValueError(
            f"the numbers of {row.name} came from torch's generator, not from a key: "
            "give initialize_ a seed to replay it"
        )
    return Entry(site, row.initializer, row.why, row.initializer.resolve(row.weight))


def _check_source(seed: object, generator: object) -> None:
    if seed is not None:
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise TypeError(f"seed must be an int, got {seed!r}")
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed must be in [0, 2^64), got {seed}")
        if generator is not None:
            raise ValueError("give seed or generator, not both")
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")


def _chosen(recipe: object, rules: Any) -> tuple[Recipe, Rules]:
    given = as_rules(rules)
    if isinstance(recipe, Recipe):
        return recipe, given
    if isinstance(recipe, PathLike) or (
        isinstance(recipe, str) and Path(recipe).suffix in (".toml", ".json")
    ):
        of_file, further = load_recipe(fspath(recipe))
        return of_file or recipe_of("torch"), Rules((*given, *further))
    if isinstance(recipe, str):
        return recipe_of(recipe), given
    raise TypeError(f"recipe must be a name, a Recipe or a file, got {type(recipe).__name__}")


def _sources(seed: int | None, generator: torch.Generator | None, dry_run: bool) -> Sources:
    """A key for each parameter, by its name; or torch's generator for all, in their order."""
    if seed is None and not dry_run:
        drawn = take_key(generator)
        if drawn is None:
            return lambda _: generator
        seed = drawn[0]
    if seed is None:
        return lambda _: None
    key = seed
    return lambda name: Key(key, stream_of(name))


def _is_touched(plan: Sequence[Entry]) -> Callable[[str, nn.Module], bool]:
    """Whether a module's buffers are to be reset: it has a parameter that is initialized, or none
    while no parameter is left out."""
    initialized = {entry.site.path for entry in plan if not entry.is_kept}
    all_are_meant = not any(entry.is_left_out for entry in plan)

    def is_touched(path: str, module: nn.Module) -> bool:
        owner = path.partition(".parametrizations.")[0]
        if owner != path or module._parameters:
            return owner in initialized
        return all_are_meant

    return is_touched


def _run(  # noqa: PLR0917
    network: Network,
    plan: Sequence[Entry],
    of_each: Sequence[Source],
    sources: Sources,
    resets: Sequence[BufferReset],
    device: torch.device | str | None,
) -> list[Moments | None]:
    if network.is_on_meta:
        materialize_(network.model, device, [e.site.tensor for e in plan if e.is_left_out])
    plain = [i for i, entry in enumerate(plan) if not entry.site.originals]
    entries = [plan[i] for i in plain]
    tensors = [_current(entry.site) for entry in entries]
    batch = Batch(entries, [of_each[i] for i in plain], tensors)
    for i, same in batch.same.items():
        entries[i].initializer, entries[i].blocks = KEEP, ()
        entries[i].why = f"the same memory as {entries[same].site.name}"
    _reset_by_modules(plan, sources)
    moments: list[Moments | None] = [None] * len(plan)
    for i, measured in zip(plain, batch.run(), strict=True):
        moments[i] = measured
    for i, entry in enumerate(plan):
        if entry.site.originals:
            moments[i] = _through_parametrization(entry, of_each[i])
    with torch.no_grad():
        for _, _, reset in resets:
            reset()
    return moments


def _current(site: Site) -> Tensor:
    """The parameter, which may have got memory since it was planned."""
    tensor: Tensor = site.module._parameters[site.leaf]  # type: ignore[assignment]
    return tensor


def _through_parametrization(entry: Entry, source: Source) -> Moments | None:
    site = entry.site
    with torch.no_grad():
        value = computed(site.module, site.leaf).detach().clone()
        (moments,) = Batch([entry], [source], [value]).run()
        if entry.blocks:
            setattr(site.module, site.leaf, value)
    return moments


def _reset_by_modules(plan: Sequence[Entry], sources: Sources) -> None:
    """Call the ``reset_parameters`` of modules that fill their parameters themselves."""
    by_module: dict[str, list[Entry]] = {}
    for entry in plan:
        if isinstance(entry.initializer, OwnReset):
            by_module.setdefault(entry.site.path, []).append(entry)
    if not by_module:
        return
    kept = [e.site for e in plan if e.site.path in by_module and e.is_kept]
    saved = [(site, _current(site).detach().clone()) for site in kept]
    for path, entries in by_module.items():
        source = sources(path)
        module = entries[0].site.module
        reset: Any = getattr(module, "reset_parameters", None) or module._reset_parameters
        with torch.random.fork_rng(devices=[], enabled=type(source) is Key):
            if type(source) is Key:
                torch.manual_seed(seed_of(source))
            reset()
    with torch.no_grad():
        for site, values in saved:
            _current(site).copy_(values)


def _row(entry: Entry, source: Source, moments: Moments | None) -> Row:
    site = entry.site
    mean, std, least, most = moments or (None, None, None, None)
    key, stream = source if type(source) is Key and not entry.is_kept else (None, None)
    return Row(
        site.name,
        site.weight,
        str(site.tensor.dtype).removeprefix("torch."),
        type(site.module).__name__,
        entry.initializer,
        entry.why,
        key,
        stream,
        mean,
        std,
        least,
        most,
        site.tied,
        site.originals,
    )
