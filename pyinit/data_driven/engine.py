"""What all data-driven methods stand on: a model at work, all or nothing, and what was found as values."""

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from pyinit._graph.undisturbed import snapshot
from pyinit._messages import first_of
from pyinit._random.generators import (
    all_seeded,
    global_states,
    global_states_kept,
    set_global_states,
)
from pyinit._random.rng import Key, stream_of
from pyinit._sharding.zero3 import refuse_gathered, settle_
from pyinit._torch.placement import refuse_elsewhere
from pyinit._torch.views import DTYPES
from pyinit._torch.wrappers import unwrapped
from pyinit.data_driven.adjustable import Adjustable, joined
from pyinit.data_driven.affine import Affine, affines_of
from pyinit.data_driven.layouts import output_dim
from pyinit.data_driven.ranks import ALONE, Ranks, together
from pyinit.initializers import Initializer
from pyinit.inspection.batches import Batch, read_batch
from pyinit.inspection.layers import refuse_unready
from pyinit.inspection.one_pass import run_eagerly
from pyinit.inspection.walk import Call, Walked, walk
from pyinit.reports.initialization import InitReport, Kept, Row
from pyinit.reports.tensors import Tensors
from pyinit.whole_model.engine.adjust import start_of
from pyinit.whole_model.engine.execute import measured
from pyinit.whole_model.engine.plan import checked_blocks, refuse_no_match
from pyinit.whole_model.initialize import initialize_
from pyinit.whole_model.methods import Method, Start, methods
from pyinit.whole_model.methods import method as method_of
from pyinit.whole_model.network import Network, Site
from pyinit.whole_model.recipes.choices import with_padding
from pyinit.whole_model.recipes.registry import Choice, Recipe
from pyinit.whole_model.rules.patterns import Matcher, matcher

Base = str | Recipe | PathLike[str] | Start | None
"""What a method begins with: a recipe, or None for the weights as they are."""

_AS_IT_IS = Recipe("as it is", lambda _: {}, "")


class Work:
    """A model while a method works on it. ``working`` makes it.

    model: the model, without torch's wrappers
    batch: the batch, read once; None if there is no data
    left: layers and parameters that stay as the base has them, and why
    ranks: who works on replicas of it, each with a batch of its own
    """

    def __init__(  # noqa: PLR0917
        self,
        method: Method,
        model: nn.Module,
        batch: Batch | None,
        network: Network,
        selects: Callable[[Site], bool],
        seed: int | None,
        verbose: bool,
        ranks: Ranks = ALONE,
    ) -> None:
        self.model, self.batch, self.left = model, batch, dict[str, str]()
        self.ranks = ranks
        self._method, self._network, self._seed, self._verbose = method, network, seed, verbose
        self._selects = selects
        self._sites = {
            name: site
            for site in network.sites
            for name in (site.name, *site.tied, *site.originals)
        }
        self._undo = Undo(model)
        self._rows: dict[str, Row] = {}
        self._report: InitReport | None = None
        self._made: dict[tuple[str, int, int], Adjustable] = {}
        self._settled: dict[str, list[range]] = {}
        self._hooked = {
            module
            for module in model.modules()
            if module._forward_hooks or module._forward_pre_hooks
        }
        self.tensors = Tensors()

    # ---- what a method uses -----------------------------------------------------------------------

    def walk(self, visit: Callable[[Call], object] | None = None, **arguments: Any) -> Walked:
        """``pyinit.inspection.walk.walk`` on the batch, with each module in its own mode; but a batch norm
        that has seen no batch yet takes the statistics of this one. Random numbers come from the seed."""
        batch = self.batch
        if batch is None:
            raise ValueError(f"{self._method.name} has no data to run")
        arguments.setdefault("target", batch.target)
        with self._reproducible(), _norms_by_batch(self.model):
            return walk(self.model, batch.kwargs or batch.args, visit, **arguments)

    @contextmanager
    def passes(self) -> Iterator[None]:
        """For passes that the method runs itself, with ``torch.func.functional_call``: as ``walk`` has it
        with generators, norms and compiled parts, and all attributes put back at the end."""
        with ExitStack() as stack:
            stack.enter_context(global_states_kept())
            stack.enter_context(self._reproducible())
            stack.callback(snapshot(self.model))
            stack.enter_context(_norms_by_batch(self.model))
            stack.enter_context(run_eagerly())
            yield

    def affines(self, call: Call, *, is_last: bool = True) -> Iterator[Affine]:
        """The affine maps of a call that are to be settled now, in order: each weight at its first call.

        What was changed when the next one is asked for, or at the end, is computed again, if the method
        has not done so; so the pass goes on from what the weights now give.

        is_last: whether nothing of these is set afterwards, so that their bases need not be kept
        """
        for each in affines_of(call, self.at, self._hooked, self.leave):
            site, rows = each.weight.site, each.weight.rows
            if self._is_settled(site, rows):
                continue
            if not self.is_free(site):
                self.leave(each.name, self._why_not(site) or "")
                continue
            each.ranks = self.ranks
            self._settle(each.weight)
            if each.bias is not None:
                if self._is_settled(each.bias.site, each.bias.rows):  # as that of another weight
                    each.fix_bias()
                else:
                    self._settle(each.bias)
            yield each
            each.finish(is_last=is_last)

    def seen(self, call: Call) -> Iterator[Affine]:
        """All affine maps of a call, to look at and not to change: frozen and settled ones among them."""
        for each in affines_of(call, self.at, self._hooked, lambda *_: None):
            each.ranks = self.ranks
            yield each

    @contextmanager
    def looking_at(self, model: nn.Module) -> Iterator["Work"]:
        """Another model and the same batch, for ``walk`` and ``seen``: nothing of it is changed."""
        with unwrapped(model) as plain:
            refuse_unready(plain)
            network, nothing = Network(plain), lambda _: False
            yield Work(
                self._method, plain, self.batch, network, nothing, self._seed, False, self.ranks
            )

    def at(self, name: str, rows: range | None = None, dim: int | None = None) -> Adjustable | None:
        """A parameter by any of its names, or some output channels of it; None if the model has none."""
        site = self._sites.get(name)
        if site is None:
            return None
        made = Adjustable(self, site, rows, output_dim(site) if dim is None else dim)
        return self._made.setdefault((site.name, made.rows.start, made.rows.stop), made)

    def parameters(self) -> list[Adjustable]:
        """All parameters that the method may change: chosen by ``layers``, floating-point, and trained."""
        found = (self.at(site.name) for site in self._network.sites if self.is_free(site))
        return [each for each in found if each is not None]

    def chosen(self, part: Adjustable, initializer: Initializer, why: str) -> Choice:
        """An initializer for a parameter, which keeps a padding of zeros.

        Raises:
            ValueError: if it cannot fill the parameter.
        """
        choice = with_padding(Choice(initializer, why), part.site, self._network)
        checked_blocks(part.site, choice)
        return choice

    def initialize_(self, part: Adjustable, choice: Choice) -> None:
        """Give a parameter another base: what an initializer makes of its key."""
        row = self._rows[part.name]
        self.set_row(row._replace(initializer=choice.initializer, why=choice.why, mean=None))
        part.redraw_(part.drawn)

    def say(self, what: object) -> None:
        """With ``verbose``, print a line."""
        if self._verbose:
            print(what)

    def refuse_idle(self, is_idle: bool = False, what: str = "layer that it could work on") -> None:
        """Refuse a model none of whose layers ``affines`` gave, or the method could take.

        Args:
            is_idle: whether the method could take none of those that ``affines`` gave
            what: what the method looked for

        Raises:
            ValueError: It says why there is none.
        """
        if self._settled and not is_idle:
            return
        alike: dict[str, list[str]] = {}
        for name, why in self.left.items():
            alike.setdefault(why, []).append(name or "the model")
        reasons = "; ".join(f"{first_of(names)}: {why}" for why, names in alike.items())
        raise ValueError(f"{self._method.name} met no {what} ({reasons or 'none was called'})")

    def leave(self, name: str, why: str) -> None:
        """Note that a layer stays as the base has it."""
        if why:
            self.left.setdefault(name, why)

    def report(self) -> InitReport:
        """What a replay needs, and what the parameters hold now."""
        assert self._report is not None
        rows = []
        for site in self._network.sites:
            row = self._rows[site.name]
            pieces = [each for each in self._made.values() if each.site is site]
            adjustment = joined(pieces)
            if adjustment is not None or row.mean is None:
                mean, std, least, most = measured(_value_of(site)) or (None, None, None, None)
                row = row._replace(adjustment=adjustment, mean=mean, std=std, min=least, max=most)
            rows.append(row)
        named = {row.adjustment.values for row in rows if row.adjustment is not None}
        return replace(
            self._report,
            rows=rows,
            method=str(self._method),
            tensors=Tensors({name: self.tensors[name] for name in named if name}),
            dry_run=False,
        )

    # ---- what Adjustable uses ---------------------------------------------------------------------

    def is_free(self, site: Site) -> bool:
        return self._why_not(site) is None

    def row_of(self, site: Site) -> Row:
        return self._rows[site.name]

    def set_row(self, row: Row) -> None:
        self._rows[row.name] = row

    def keep(self, tensor: Tensor) -> Tensor:
        """Copy what is about to be written, once. The copy."""
        return self._undo.keep(tensor)

    @property
    def has_base(self) -> bool:
        """Whether a recipe has written the base, so that copies made before are not it."""
        return self._report is not None and self._report.recipe != str(_AS_IT_IS)

    # ---- before and after -------------------------------------------------------------------------

    def begin(self, base: Base) -> None:
        """Give the parameters their base, and refuse what no method could work on."""
        if not any(len(a.site.shape) > 1 for a in self.parameters()):
            frozen = "; all of its weights are frozen or left out" if self._network.sites else ""
            raise ValueError(
                f"{self._method.name} needs a layer with a weight that it may change, and "
                f"{type(self.model).__name__} has none{frozen}"
            )
        start = base if isinstance(base, Start) else Start(_AS_IT_IS if base is None else base)  # type: ignore[arg-type]
        arguments: dict[str, Any] = {
            "rules": start.rules,
            "only": self._only(start.only),
            "skip": start.skip,
            "generator": start.generator,
            "device": start.device,
            "seed": self._seed,
        }
        planned = initialize_(self.model, start.recipe, **{**arguments, "dry_run": True})
        if planned.method:
            raise ValueError(
                f"base names the method {planned.method} itself: give a recipe without after="
            )
        starts = {
            row.name: start_of(self._sites[row.name])
            for row in planned
            if row.is_kept and row.kept is not Kept.SAME_MEMORY
        }
        if base is not None:
            for row in planned:
                if not row.is_kept:
                    for tensor in self._sites[row.name].parameters:
                        self.keep(tensor)
            for path, _ in planned.buffers:
                for buffer in self._network.modules[path]._buffers.values():
                    if buffer is not None:
                        self.keep(buffer)
            planned = initialize_(self.model, start.recipe, **arguments)
        self._report = planned
        self._rows = {row.name: row._replace(start=starts.get(row.name)) for row in planned}

    def compare(self, when: str) -> None:
        """Raise on all ranks if their parameters do not hold the same, or their calls were not the same."""
        if not self.ranks.are_several:
            return
        self.ranks.at(f"{self._method} {when}, seed {self._seed}")
        is_drawn = self.has_base and self._seed is None
        own = ", from a key that each rank has drawn (give seed=)," if is_drawn else ""
        self.ranks.meet(
            {f"{site.name} {when}{own}": f"{start_of(site):016x}" for site in self._network.sites}
        )

    def undo(self) -> None:
        self._undo.undo()

    # ---- the rest ---------------------------------------------------------------------------------

    def _only(self, only: Any) -> Any:
        if only is None:
            return self._selects
        chosen = matcher(only)
        refuse_no_match("only", chosen, self._network)
        return lambda site: chosen(site) and self._selects(site)

    @contextmanager
    def _reproducible(self) -> Iterator[None]:
        if self._seed is None:
            yield
            return
        device = next((each.device for each in self.model.parameters()), torch.device("cpu"))
        with all_seeded(Key(self._seed, stream_of(self._method.name)), device):
            yield

    def _settle(self, part: Adjustable) -> None:
        self._settled.setdefault(part.name, []).append(part.rows)

    def _is_settled(self, site: Site, rows: range) -> bool:
        return any(
            rows.start < done.stop and done.start < rows.stop
            for done in self._settled.get(site.name, ())
        )

    def _why_not(self, site: Site) -> str | None:
        """Why a parameter may not be changed, in words; "" for what the caller left out."""
        if not self._selects(site):
            return ""
        if site.tensor.dtype not in DTYPES:
            return f"of dtype {site.tensor.dtype}"
        if not site.tensor.requires_grad:
            return "frozen: requires no gradient"
        row = self._rows.get(site.name)
        if row is not None and row.kept in (Kept.SAME_MEMORY, Kept.LEFT_OUT):
            return row.why if row.kept is Kept.SAME_MEMORY else ""
        return None


@contextmanager
def working(
    name: str,
    options: Mapping[str, Any],
    model: nn.Module,
    data: Any,
    *,
    base: Base = None,
    seed: int | None = None,
    layers: Any = None,
    verbose: bool = False,
    over_ranks: bool = False,
) -> Iterator[Work]:
    """A model for a method to work on. Whatever is raised, all of it is put back.

    Args:
        name: the name of the method
        options: its options; those that are the defaults are not told in reports
        model: the model
        data: what ``read_batch`` takes; None for a method that needs none
        base: what the method begins with
        seed: that of the base, and of what the model draws when it runs
        layers: the layers to work on, as ``only=`` of ``initialize_`` has them; names of modules
            will do, too
        verbose: whether ``Work.say`` prints
        over_ranks: whether the method takes its statistics over all ranks that hold replicas; if not,
            models with replicas are refused

    Raises:
        TypeError, ValueError: for a model, a batch or ``layers`` that are none, before anything is
            written.
        ValueError, RuntimeError: where other ranks differ, have failed or do not come. All is put back.
    """
    method = _with_options(name, options)
    call = method.function.__name__
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    with together(call, model) as ranks, unwrapped(model) as plain:
        if data is None and method.needs_data:
            raise ValueError(f"method {method.name!r} measures on data, got None: give data=")
        if ranks.are_several and not over_ranks:
            raise ValueError(
                f"{call} works by the batch of one process, and this model is in DistributedDataParallel on "
                f"{ranks.count} ranks, whose replicas would no longer be the same: call it before the "
                "model is wrapped"
            )
        refuse_unready(plain)
        refuse_elsewhere(call, plain.named_parameters(remove_duplicate=False), plain)
        refuse_gathered(call, plain.named_parameters())
        with global_states_kept():
            batch = None if data is None else read_batch(plain, data)
        network = Network(plain)
        work = Work(method, plain, batch, network, _selected(network, layers), seed, verbose, ranks)
        try:
            work.begin(base)
            work.compare("at the start")
            yield work
            work.compare("at the end")
        except BaseException:
            work.undo()
            raise
        finally:
            settle_(plain.parameters())


def _with_options(name: str, options: Mapping[str, Any]) -> Method:
    known = inspect.signature(methods()[name].function).parameters
    return method_of(
        name, **{key: value for key, value in options.items() if value != known[key].default}
    )


class Undo:
    """What is needed to put a model back: its attributes, generators, and copies of what is written."""

    def __init__(self, model: nn.Module) -> None:
        self._attributes, self._states = snapshot(model), global_states()
        self._has_grad = torch.is_grad_enabled()
        self._copies: dict[int, tuple[Tensor, Tensor]] = {}

    def keep(self, tensor: Tensor) -> Tensor:
        """Copy a tensor, if that is not done yet. The copy."""
        if id(tensor) not in self._copies:
            self._copies[id(tensor)] = tensor, tensor.detach().clone()
        return self._copies[id(tensor)][1]

    def undo(self) -> None:
        torch.set_grad_enabled(self._has_grad)  # Ctrl-C may leave a no_grad of torch's half done
        self._attributes()
        with torch.no_grad():
            for tensor, before in self._copies.values():
                tensor.copy_(before)
        set_global_states(self._states)


@contextmanager
def _norms_by_batch(model: nn.Module) -> Iterator[None]:
    """Norms that have seen no batch take the statistics of the one that runs."""
    fresh = [
        module
        for module in model.modules()
        if isinstance(module, _NormBase)
        and not module.training
        and module.num_batches_tracked is not None
        and not module.num_batches_tracked
    ]
    with ExitStack() as stack:
        for module in fresh:
            stack.callback(setattr, module, "training", False)
            module.training = True
        yield


def _selected(network: Network, layers: Any) -> Callable[[Site], bool]:
    if layers is None:
        return _everything
    matches = matcher(layers)

    def selects(site: Site) -> bool:
        return matches(site) or matches(as_layer(site))

    if not any(map(selects, network.sites)):
        raise ValueError(f"layers={str(matches)!r} matches no layer; {_near(matches, network)}")
    return selects


def _near(matches: Matcher, network: Network) -> str:
    return matches.near(network)


def _everything(_: Site) -> bool:
    return True


def as_layer(site: Site) -> Site:
    """A site under its module's name."""
    found = copy.copy(site)
    found.name, found.tied, found.originals = site.path, (), ()
    return found


def _value_of(site: Site) -> Tensor:
    value = site.parameters[0] if site.computed is None else site.computed.value()
    return value.detach()
