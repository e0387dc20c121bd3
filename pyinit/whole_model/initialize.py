"""``initialize_``: a whole model in one call."""

from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pyinit._random.generators import all_seeded, seeded
from pyinit._random.rng import Key, Source, checked_seed, get_rng, stream_of
from pyinit._sharding.fills import key_of
from pyinit._sharding.zero3 import settle_
from pyinit._torch.eager import eager
from pyinit._torch.garbage import uncollected
from pyinit._torch.initialized_flags import set_initialized
from pyinit._torch.placement import refuse_elsewhere
from pyinit._torch.views import dtype_name
from pyinit.initializers import OwnReset
from pyinit.reports.initialization import InitReport, Row
from pyinit.whole_model.engine.alike import agree_on
from pyinit.whole_model.engine.buffers import BufferReset, IsTouched, Sources, plan_resets
from pyinit.whole_model.engine.execute import Batch, Moments, measured
from pyinit.whole_model.engine.materialize import materialize_
from pyinit.whole_model.engine.plan import (
    Entry,
    make_plan,
    refuse_partitioned_without_keys,
    refuse_without_memory,
    view_of_entry,
)
from pyinit.whole_model.engine.undrawable import refuse_undrawable
from pyinit.whole_model.methods import Method, Start
from pyinit.whole_model.network import Network
from pyinit.whole_model.own_resets import OwnReset as OwnResetOf
from pyinit.whole_model.own_resets import fill_by_stand_ins, fills_in_place
from pyinit.whole_model.recipes.registry import Recipe
from pyinit.whole_model.recipes.registry import recipe as recipe_of
from pyinit.whole_model.reparametrized import Computed
from pyinit.whole_model.rules import Rules, as_rules, load_recipe, matcher


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
    data: Any = None,
    agree: bool = True,
) -> InitReport:
    """Initialize all parameters of a model in one native call, as suits each layer.

    With ``seed``, a parameter's values depend on the seed and its qualified name alone: adding,
    removing or moving layers changes no other one, and neither do the number of threads, the layout
    in memory or sharding. Everything is planned and checked before anything is written.

    Tied parameters are filled once. Those that a module computes (parametrizations,
    ``weight_norm``, ``spectral_norm``, pruning) are set through the parameters that they are
    computed from. Parameters that require no gradient, or whose dtype is not float16, bfloat16,
    float32 or float64, are left alone. Buffers are reset as their module does it.

    Of a DTensor this process fills what it holds, with the numbers that the whole has there. On the meta
    device DTensors are refused, except for a dry run: ``model.to_empty`` gives them memory.

    Args:
        model: The model. Its parameters on the meta device get memory first.
        recipe: The name of a recipe (``pyinit.recipes()`` lists them), a recipe with options
            (``pyinit.recipe``), or the path of a TOML or JSON file of rules.
        rules: Rules that go before the recipe; the first that matches a parameter wins. A list of
            ``Rule``, a mapping from name patterns to initializers, the path of a file, or the
            ``init_cfg`` of mmengine.
        seed: An integer in [0, 2^64). Without it, the key is drawn from torch's generator.
        only: What to initialize: a name pattern, a class of modules, a function of the ``Site``, or
            a list of these.
        skip: What to leave as it is, in the same forms.
        generator: The ``torch.Generator`` from which the key is drawn, if there is no ``seed``.
        device: Where parameters on the meta device get their memory; torch's default device if
            it is not given.
        dry_run: Report what would be done, and do nothing.
        data: A batch for the data-driven method that a recipe file names by ``after``: what
            ``pyinit.inspect`` takes.
        agree: Whether ranks that share parameters as DTensors first compare what they are about to do;
            if that differs, all of them raise the same error. Other models do not communicate.

    Returns:
        A report with a row for each parameter: what it got, why, and the mean, standard deviation,
        minimum and maximum of what it now holds.

    Raises:
        ValueError: For an unknown recipe or initializer, rules and patterns that match nothing or
            cannot apply, parameters without a shape (lazy modules) or with values elsewhere
            (partitioned, offloaded), parameters or buffers on the meta device that nothing
            initializes, and parameters that share a part of their memory.
        TypeError: For arguments of another type.
        RuntimeError: For inference tensors, or a ``device`` that is not there.

    Example:
        >>> import torch, pyinit
        >>> from torch.nn import Linear, ReLU, Sequential
        >>> model = Sequential(Linear(64, 32), ReLU(), Linear(32, 8))
        >>> normal = pyinit.initializers.Normal(std=0.01)
        >>> report = pyinit.initialize_(model, "kaiming", rules={"2.weight": normal}, seed=42)
        >>> report.summary
        'initialized 4 of 4 parameters, 2,344 of 2,344 elements (recipe kaiming, 1 rule, seed 42)'
        >>> for name in ("0.weight", "2.weight"):
        ...     row = report[name]
        ...     print(f"{row.initializer}: std {row.std:.4f}, meant {row.target_std:.4f}")
        kaiming_normal(nonlinearity=relu): std 0.1764, meant 0.1768
        normal(std=0.01): std 0.0092, meant 0.0100
        >>> wider = Sequential(Linear(64, 32), ReLU(), Linear(32, 9))
        >>> _ = pyinit.initialize_(wider, "kaiming", seed=42)
        >>> torch.equal(wider[0].weight, model[0].weight)  # the other layer changes nothing here
        True
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if any(each.__module__.partition(".")[0] == "keras" for each in type(model).__mro__):
        raise TypeError(
            f"model must be made of torch's modules, got Keras's {type(model).__name__}; its layers "
            "take the initializers of pyinit.keras"
        )
    _check_source(seed, generator)
    device = None if device is None else torch.empty(0, device=device).device
    if device is not None and device.type == "meta":
        raise ValueError("device must be one that has memory, got meta")
    chosen, by_rules, after = chosen_by(recipe, rules)
    if data is not None and after is None:
        raise ValueError(f"data is for a method, and recipe {chosen} names none by after=")
    if after is not None and not dry_run:
        start = Start(chosen, by_rules, only, skip, generator, device)
        report: InitReport = after.run(model, data, base=start, seed=seed).init
        return report
    with uncollected():
        network = Network(model)
        plan = make_plan(
            network,
            chosen,
            by_rules,
            None if only is None else matcher(only),
            None if skip is None else matcher(skip),
        )
        if not dry_run:
            refuse_without_memory("initialize_", plan)
        if get_rng() == "torch" or (generator is not None and generator.device.type != "cpu"):
            refuse_partitioned_without_keys("initialize_", plan)
        refuse_undrawable(plan, has_keys=seed is not None)
        resets = plan_resets(network.modules, IsTouched(plan), may_be_empty=network.has_dtensors)
        refuse_buffers_elsewhere("initialize_", network, resets)
        sources = _sources(seed, generator, dry_run)
        of_each = [sources(entry.site.name) for entry in plan]
        if agree and not dry_run:
            agree_on(plan, of_each, chosen, by_rules, seed)
        # From here on nothing is refused.
        moments = (
            [None] * len(plan)
            if dry_run
            else carry_out(network, plan, of_each, sources, resets, device)
        )
        return InitReport(
            rows=list(map(row_of, plan, of_each, moments)),
            recipe=str(chosen),
            rules=[str(rule) for rule in by_rules],
            seed=seed,
            rng=get_rng(),
            graph=network.graph.source if "graph" in vars(network) else None,
            buffers=[(path, how) for path, how, _ in resets],
            dry_run=dry_run,
            method="" if after is None else str(after),
        )


def _check_source(seed: object, generator: object) -> None:
    if seed is not None:
        checked_seed(seed)
        if generator is not None:
            raise ValueError("give seed or generator, not both")
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")


class Chosen(NamedTuple):
    """A recipe, the rules that go before it, and the method that comes after."""

    recipe: Recipe
    rules: Rules
    after: Method | None = None


def chosen_by(recipe: object, rules: Any = None) -> Chosen:
    """What a recipe, or the path of a recipe file, and rules that go before it ask for.

    Raises:
        TypeError, ValueError: if they are none.
        OSError: if a file cannot be read.
    """
    given = as_rules(rules)
    if isinstance(recipe, Recipe):
        return Chosen(recipe, given)
    if isinstance(recipe, PathLike) or (
        isinstance(recipe, str) and Path(recipe).suffix in (".toml", ".json")
    ):
        file = load_recipe(fspath(recipe))
        of_file = file.recipe or recipe_of("torch")
        return Chosen(of_file, Rules((*given, *file.rules)), file.after)
    if isinstance(recipe, str):
        return Chosen(recipe_of(recipe), given)
    raise TypeError(f"recipe must be a name, a Recipe or a file, got {type(recipe).__name__}")


def _sources(seed: int | None, generator: torch.Generator | None, dry_run: bool) -> Sources:
    """The sources of numbers: a key for each name, or torch's generator for all in their order."""
    if seed is None and not dry_run:
        drawn = key_of(generator)
        if drawn is None:
            return lambda _: generator
        seed = drawn[0]
    if seed is None:
        return lambda _: None
    key = seed
    return lambda name: Key(key, stream_of(name))


def refuse_buffers_elsewhere(call: str, network: Network, resets: Sequence[BufferReset]) -> None:
    """Refuse to reset buffers whose values are elsewhere."""
    buffers = (
        (f"{path}.{name}" if path else name, buffer)
        for path, _, _ in resets
        for name, buffer in network.modules[path]._buffers.items()
        if buffer is not None
    )
    refuse_elsewhere(call, buffers, network.model)


def carry_out(  # noqa: PLR0917
    network: Network,
    plan: Sequence[Entry],
    of_each: Sequence[Source],
    sources: Sources,
    resets: Sequence[BufferReset],
    device: torch.device | str | None,
) -> list[Moments | None]:
    """Give parameters and buffers what the plan says, and return the moments of each parameter."""
    if network.is_on_meta:
        materialize_(network.model, device, _left_out(network, plan))
    _reset_by_modules(network, plan, sources)
    computed_of = {
        i: entry.site.computed for i, entry in enumerate(plan) if entry.site.computed is not None
    }
    plain = [i for i in range(len(plan)) if i not in computed_of]
    parameters = [plan[i].site.parameters[0] for i in plain]
    batch = Batch([plan[i] for i in plain], [of_each[i] for i in plain], parameters)
    moments = dict(zip(plain, batch.run(), strict=True))
    for i, computed in computed_of.items():
        if plan[i].blocks:
            set_computed(plan[i], computed, of_each[i])
    with torch.no_grad():
        for _, _, reset in resets:
            reset(sources)
    filled = [p for i, p in zip(plain, parameters, strict=True) if not plan[i].is_kept]
    filled += (p for i in computed_of if not plan[i].is_kept for p in plan[i].site.parameters)
    settle_(filled)
    set_initialized(filled)
    for i, computed in computed_of.items():
        moments[i] = measured(computed.value()) if computed.is_here else None
    return [moments[i] for i in range(len(plan))]


def set_computed(entry: Entry, computed: Computed, source: Source) -> None:
    like = entry.site.parameters[0]
    value = torch.empty(entry.site.shape, dtype=entry.site.tensor.dtype, device=like.device)
    Batch([entry], [source], [value]).run()
    # Some parametrizations draw numbers in their inverses, too.
    with torch.no_grad(), seeded(source, value.device):
        computed.set_(value)


def _reset_by_modules(network: Network, plan: Sequence[Entry], sources: Sources) -> None:
    """Have the model's own code fill the parameters that it resets itself."""
    by_reset: dict[str, tuple[OwnResetOf, list[Entry]]] = {}
    for entry in plan:
        if isinstance(entry.initializer, OwnReset):
            own = network.own_resets.of(entry.site.path, entry.site.leaf)
            assert own is not None, entry.site.name  # make_plan and replay_ have refused it
            by_reset.setdefault(f"{own.path} {own.words}", (own, []))[1].append(entry)
    if not by_reset:
        return
    in_place = [network.modules[own.path] for own, _ in by_reset.values() if own.in_place]
    touched = {id(p) for module in in_place for p in module.parameters()}
    kept = (p for entry in plan if entry.is_kept for p in entry.site.parameters)
    saved = [(p, p.detach().clone()) for p in kept if id(p) in touched]
    for own, entries in by_reset.values():
        with all_seeded(sources(own.path), entries[0].site.parameters[0].device):
            try:
                _reset(network, own, entries)
            except Exception as error:
                raise RuntimeError(
                    f"{own.words}, for {own.path or 'the model'}, raised {type(error).__name__}: "
                    f"{error}; it did not when it was tried on stand-ins for the parameters"
                ) from error
    with torch.no_grad():
        for parameter, values in saved:
            parameter.copy_(values)
    for entry in plan:  # a module may have given its parameters other memory
        if entry.site.computed is None:
            entry.view = view_of_entry(entry, entry.site.parameters[0])


def _reset(network: Network, own: OwnResetOf, entries: Sequence[Entry]) -> None:
    if own.in_place and fills_in_place(network.modules[own.path]):
        own.call()
        return
    start = len(own.path) + 1 if own.path else 0
    filled = {entry.site.name[start:]: entry.site.parameters[0] for entry in entries}
    fill_by_stand_ins(network.modules[own.path], own.call, filled)


def _left_out(network: Network, plan: Sequence[Entry]) -> list[Tensor]:
    """The parameters that the caller leaves out, and the buffers beside them."""
    parameters = [p for entry in plan if entry.is_left_out for p in entry.site.parameters]
    if not parameters:
        return []
    is_touched = IsTouched(plan)
    untouched = (m for path, m in network.modules.items() if not is_touched(path, m))
    return parameters + [b for m in untouched for b in m._buffers.values() if b is not None]


def row_of(entry: Entry, source: Source, moments: Moments | None) -> Row:
    """The row of a report for an entry of the plan."""
    site = entry.site
    mean, std, least, most = moments or (None, None, None, None)
    key, stream = source if type(source) is Key and not entry.is_kept else (None, None)
    return Row(
        site.name,
        site.weight,
        dtype_name(site.tensor.dtype),
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
        entry.kept,
    )
