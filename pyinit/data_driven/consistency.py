"""Consistency-aware initialization: layer by layer, outputs made as like a target distribution as they get."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from pyinit._messages import near
from pyinit._torch.eager import eager
from pyinit.data_driven.affine import Affine
from pyinit.data_driven.distances import DISTANCES
from pyinit.data_driven.engine import Base, Work, working
from pyinit.data_driven.goals import Goal, Goals, Measure, Seen, at_first_calls, goals_of, in_words
from pyinit.data_driven.pictures import About
from pyinit.data_driven.results import Measured, MethodReport
from pyinit.inspection.walk import Call
from pyinit.whole_model.methods import register_method

_FIRST_STEP = 0.1  # of logarithms


@dataclass(frozen=True)
class ConsistencyLayer(Measured):
    """What ``consistency_aware_`` measured of a layer that it changed, with the input that it has now.

    Args:
        name: the layer's name
        before: the distance of its output from the target, with the base's weights
        after: that with its weights now
        scale: what its channels were multiplied by, on average
        shift: what was added to them, on average
        candidate: which draw of the weights was kept; 0 is the base's
        tried: how many draws were tried
    """

    about: ClassVar[Mapping[str, About]] = {
        "": About("distance of the output from the target"),
        "scale": About("factor on the channels, on average", 1.0),
        "shift": About("summand of the channels, on average", 0.0),
    }

    before: float
    after: float
    scale: float
    shift: float
    candidate: int
    tried: int


@dataclass(frozen=True)
class ConsistencyReport(MethodReport[ConsistencyLayer]):
    """What ``consistency_aware_`` did: a row for each layer that it changed, in the order of execution.

    The totals are of the whole network, by a pass before and a pass after: distances are sums over the
    layers that have a target, the rest are means over these layers.

    Args:
        init: what ``replay_`` needs, the scale and the shift of each channel among it
        layers: the rows
        left: pairs of the name of a layer that stays as it was, and why
        distance_before: the distance from the target with the base's weights
        distance_after: that with the weights now
        mean_and_variance_before: the part of the moments' distance that means and variances have
        mean_and_variance_after: that with the weights now
        mean_before: the mean of the outputs
        mean_after: that with the weights now
        variance_before: the variance of all values of an output
        variance_after: that with the weights now
        total_variance_before: the sum over an output's units of their variance over the samples
        total_variance_after: that with the weights now

    Example:
        >>> import torch, pyinit
        >>> x = torch.randn(256, 64, generator=torch.Generator().manual_seed(0))
        >>> report = pyinit.consistency_aware_(torch.nn.Linear(64, 32), x, seed=0)
        >>> print(report[0])
        (model): before 0.09221, after 0.06026, scale 1.005, shift -0.01717, candidate 0, tried 1
        >>> report.distance_after == report[0].after
        True
        >>> pyinit.ConsistencyReport.from_dict(report.to_dict()) == report
        True
    """

    row: ClassVar[type[Measured]] = ConsistencyLayer

    distance_before: float = 0.0
    distance_after: float = 0.0
    mean_and_variance_before: float = 0.0
    mean_and_variance_after: float = 0.0
    mean_before: float = 0.0
    mean_after: float = 0.0
    variance_before: float = 0.0
    variance_after: float = 0.0
    total_variance_before: float = 0.0
    total_variance_after: float = 0.0

    @property
    def summary(self) -> str:
        """What the whole network gained, in one line."""
        totals = self.totals
        kinds = [name.removesuffix("_before") for name in totals if name.endswith("_before")]
        changes = (
            f"{kind.replace('_', ' ')} {totals[kind + '_before']:.4g} -> {totals[kind + '_after']:.4g}"
            for kind in kinds
        )
        count = len(self.layers)
        layers = "1 layer" if count == 1 else f"{count} layers"
        return f"{self.init.method}: {layers} changed; {', '.join(changes)}"


@eager
@register_method("consistency_aware", source="pyinit's own definition")
def consistency_aware_(
    model: nn.Module,
    data: Any,
    *,
    target: Tensor | Mapping[str, Tensor] | nn.Module | None = None,
    distance: str = "moments",
    base: Base = "auto",
    candidates: int = 1,
    refine: int = 0,
    tolerance: float = 0.001,
    seed: int | None = None,
    layers: Any = None,
    verbose: bool = False,
) -> ConsistencyReport:
    """Make each layer's output, in the order of execution, as like a target distribution as it gets.

    One pass runs through the model. At each layer the distance of the output from the target is
    measured; then the weights are scaled and the biases shifted, channel by channel, so that means and
    variances are the target's (variances alone without a bias). Of several candidates for the weight, the one
    with the least distance after that is kept. A change is kept only if the distance falls; the pass goes
    on from the new output. Two more passes measure the whole network before and after.

    Layers are those that ``lsuv_`` has: projections of ``nn.MultiheadAttention`` and gates of recurrent
    layers one by one. Whatever is raised, ``KeyboardInterrupt`` included, the model is afterwards as it
    was before.

    Args:
        model: the model
        data: a batch, as ``pyinit.inspect`` takes it
        target: what outputs should be like:

            * None: N(0, 1), for each channel of each layer;
            * a tensor of samples x channels, for all layers; of one dimension or one channel, for each
              channel (but with distances that take the channels together, for layers of one channel);
            * a mapping from layers' names to such tensors; other layers stay as the base has them;
            * a model: what its layers of the same names give for the same batch.
        distance: a name in ``pyinit.distances.DISTANCES``. "moments" takes all values; the others take at
            most 2048 positions of an output
        base: what the weights begin with: a recipe; or None for the weights as they are
        candidates: how many draws of each weight are tried: the base's, and further ones of the same
            initializer from consecutive streams, so that more candidates include fewer. A weight that is
            not drawn from a key of its own (constants, ``base=None``, projections and gates that share a parameter)
            has one
        refine: how many gradient steps on the distance follow for each candidate, along the logarithms of two
            common scales, of the weight and of the bias. A step that does not lower the distance is
            taken back, and the next one is shorter
        tolerance: the distance at which a layer is good enough: it is not changed, or no further
            candidate is tried
        seed: the seed of the base, of what the model draws when it runs, and of the distances
        layers: which layers to initialize and change, as ``only=`` of ``initialize_`` says it; names of
            modules will do, too
        verbose: print a line for each layer

    Returns:
        The report, which ``replay_`` takes.

    Raises:
        TypeError, ValueError: for arguments that are none of these, a target of another width than its
            layer's, a batch that ends early or has NaN, and models without a layer that may be changed.
        RuntimeError: where the model fails, naming the layer.

    References:
        The articles on consistency-aware initialization give no algorithm; this is pyinit's definition, which
        docs/data_driven.md states. The correction is that of Krähenbühl, Doersch, Donahue & Darrell 2016, "Data-dependent
        initializations of convolutional neural networks", arXiv:1511.06856.

    Example:
        >>> import torch, pyinit
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8))
        >>> x = torch.randn(256, 64, generator=torch.Generator().manual_seed(0))
        >>> report = pyinit.consistency_aware_(model, x, candidates=4, seed=0)
        >>> for row in report:
        ...     print(row.name, f"{row.before:.2f} -> {row.after:.2f}, draw {row.candidate}")
        0 1.36 -> 0.08, draw 0
        2 0.74 -> 0.12, draw 3
        >>> again = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8))
        >>> _ = pyinit.replay_(again, report)
        >>> torch.equal(again[2].weight, model[2].weight)
        True
    """
    if distance not in DISTANCES:
        raise ValueError(f"unknown distance {distance!r}; {near(str(distance), DISTANCES)}")
    for name, least in (("candidates", 1), ("refine", 0)):
        value = locals()[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    if not (isinstance(tolerance, (int, float)) and 0 <= tolerance < math.inf):
        raise ValueError(f"tolerance must be a number of at least 0, got {tolerance!r}")
    if refine and torch.is_inference_mode_enabled():
        raise ValueError("refine cannot differentiate in torch.inference_mode()")
    if target is model:
        raise ValueError("target must be another model, got the model itself")
    options = {
        "target": in_words(target),
        "distance": distance,
        "candidates": candidates,
        "refine": refine,
        "tolerance": tolerance,
    }
    found: list[ConsistencyLayer] = []
    with working(
        "consistency_aware",
        options,
        model,
        data,
        over_ranks=True,
        base=base,
        seed=seed,
        layers=layers,
        verbose=verbose,
    ) as work:
        if work.ranks.are_several and distance != "moments":
            raise ValueError(
                f"distance={distance!r} takes the values of one process, and this model is in "
                f"DistributedDataParallel on {work.ranks.count} ranks: distance='moments' takes several"
            )
        if candidates > 1 and not any(each.is_drawn for each in work.parameters()):
            raise ValueError(
                f"candidates={candidates} draws weights again, and base={base!r} has drawn none from a key"
            )
        measure = Measure(distance, seed or 0)
        goals = goals_of(target, measure, work)
        before = _of_network(goals, measure, work)
        goals.refuse_unmet(before)
        search = _Search(measure, candidates, refine, tolerance)

        def visit(call: Call) -> None:
            for affine in work.affines(call):
                goal = goals.of(affine)
                row = goals.why_none(affine) if goal is None else search(affine, goal)
                if isinstance(row, str):
                    work.leave(affine.name, row)
                    work.say(f"{affine.name}: left as it was: {row}")
                else:
                    found.append(row)
                    work.say(row)

        work.walk(visit)
        work.refuse_idle()
        after = _of_network(goals, measure, work)
        totals = {**_totals(before.values(), "before"), **_totals(after.values(), "after")}
        return ConsistencyReport(work.report(), tuple(found), tuple(work.left.items()), **totals)


# ---- one layer -----------------------------------------------------------------------------------


class _Place(NamedTuple):
    """How a map's output is moved, and how far it is from its goal then.

    scale: the weight's, for each channel
    added: what the bias is then
    """

    distance: float
    scale: Tensor
    added: Tensor


class _Search(NamedTuple):
    """Looks for the change of a layer that brings its output nearest to its goal."""

    measure: Measure
    candidates: int
    refine: int
    tolerance: float

    def __call__(self, affine: Affine, goal: Goal) -> ConsistencyLayer | str:
        """Change a layer. What was measured; or why it has its base, in words."""
        weight, seen = affine.weight, self.measure.look(affine)
        if not seen.is_finite:
            return "its output is not finite"
        if not bool(seen.spread.any()):
            return "its output has no variance"
        before = self.measure.now(seen, goal)
        if before <= self.tolerance:
            return f"its distance from the target, {before:.4g}, is within the tolerance"
        count = self.candidates if weight.is_drawn else 1
        best, chosen, tried = self._placed(affine, seen, goal), 0, 1
        while tried < count and best.distance > self.tolerance:
            weight.redraw_(tried)
            affine.again()
            found = self._placed(affine, self.measure.look(affine), goal)
            if found.distance < best.distance:
                best, chosen = found, tried
            tried += 1
        if weight.drawn != chosen:
            weight.redraw_(chosen)
        shift = torch.zeros_like(best.scale)
        if affine.bias is not None:
            shift = best.added - best.scale * _offset(affine)
        affine.set_(best.scale, shift)
        affine.again()
        after = self.measure.now(self.measure.look(affine), goal)
        if after < before:
            scale, moved = float(best.scale.mean()), float(shift.mean())
            return ConsistencyLayer(affine.name, before, after, scale, moved, chosen, tried)
        if weight.drawn:
            weight.redraw_(0)
        affine.set_()
        return f"its distance from the target, {before:.4g}, does not fall by scale and shift"

    def _placed(self, affine: Affine, seen: Seen, goal: Goal) -> _Place:
        """The better one of what the weight gives as it is, and with the moments of the goal."""
        offset = _offset(affine)
        one = torch.ones_like(offset)
        if not seen.is_finite:
            return _Place(math.inf, one, offset)
        mean, variance, *_ = seen.moments
        wanted_mean, wanted_variance, *_ = goal.moments
        ratio = (wanted_variance / variance).sqrt()
        scale = torch.where(seen.spread & ratio.isfinite() & (ratio > 0), ratio, one)
        added = offset if affine.bias is None else wanted_mean - scale * (mean - offset)
        places = [(one, offset), (scale, added)]
        found = [self._place(affine, seen, goal, *place) for place in places]
        best = min(found, key=lambda place: place.distance)
        return self._refined(affine, seen, goal, best) if self.refine else best

    def _place(
        self, affine: Affine, seen: Seen, goal: Goal, scale: Tensor, added: Tensor
    ) -> _Place:
        shift = added - scale * _offset(affine)
        return _Place(float(self.measure(seen, goal, scale, shift)), scale, added)

    def _refined(self, affine: Affine, seen: Seen, goal: Goal, start: _Place) -> _Place:
        """Gradient descent along the logarithms of the weight's and the bias's common scales."""
        offset = _offset(affine)

        def moved(logs: Tensor) -> tuple[Tensor, Tensor]:
            weight, bias = logs.exp()
            return start.scale * weight, start.added * (1 if affine.bias is None else bias)

        def distance(logs: Tensor) -> Tensor:
            scale, added = moved(logs)
            return self.measure(seen, goal, scale, added - scale * offset)

        logs, best = torch.zeros(2, dtype=torch.float64), start.distance
        step, direction = _FIRST_STEP, _downhill(distance, logs)
        for _ in range(self.refine):
            if direction is None:
                break
            there = logs + step * direction
            found = float(distance(there))
            if found < best:
                logs, best, step = there, found, 1.5 * step
                direction = _downhill(distance, logs)
            else:
                step /= 2
        return _Place(best, *moved(logs))


def _downhill(distance: Callable[[Tensor], Tensor], logs: Tensor) -> Tensor | None:
    """The direction in which the distance falls fastest; None where it is flat."""
    point = logs.clone().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(distance(point), point)
    size = gradient.norm()
    return -gradient / size if 0 < float(size) < math.inf else None


def _offset(affine: Affine) -> Tensor:
    """What the base's bias adds to each channel."""
    offset = affine.offset
    if offset is None:
        return torch.zeros(affine.channels, dtype=torch.float64)
    return offset.detach().double().cpu()


# ---- the whole network ---------------------------------------------------------------------------


class _OfLayer(NamedTuple):
    """What the report's totals are made of."""

    distance: float
    mean_and_variance: float
    mean: float
    variance: float
    total_variance: float


def _of_network(goals: Goals, measure: Measure, work: Work) -> dict[str, _OfLayer | None]:
    """By a pass: that of each layer with a goal, at its first call; None of the others."""

    def look(affine: Affine) -> _OfLayer | None:
        goal = goals.of(affine)
        if goal is None:
            return None
        seen = measure.look(affine)
        if not seen.is_finite:
            return _OfLayer(*[math.inf] * len(_OfLayer._fields))
        mean, variance, *_ = seen.moments
        apart = ((seen.moments - goal.moments)[:2] ** 2).sum(0).mean()
        return _OfLayer(
            measure.now(seen, goal),
            float(apart),
            float(mean.mean()),
            float(variance.mean() + mean.var(correction=0)),
            seen.total_variance,
        )

    return at_first_calls(work, look)


def _totals(found: Iterable[_OfLayer | None], when: str) -> dict[str, float]:
    rows = [row for row in found if row is not None]
    if not rows:
        raise ValueError("target has nothing for any layer of the model")
    totals = {}
    for name, numbers in zip(_OfLayer._fields, zip(*rows, strict=True), strict=True):
        count = 1 if name in ("distance", "mean_and_variance") else len(rows)
        totals[f"{name}_{when}"] = math.fsum(numbers) / count
    return totals
