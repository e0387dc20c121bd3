"""What the output of a layer is like, what it should be like, and how far that is apart."""

import math
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from pyinit._messages import near
from pyinit.data_driven.affine import Affine
from pyinit.data_driven.distances import (
    DISTANCES,
    check_samples,
    four_moments,
    mmd,
    moments,
    moments_apart,
    sliced_wasserstein2,
    some_of,
)
from pyinit.data_driven.engine import Work
from pyinit.data_driven.over_ranks import moments_of_channels, total_variance
from pyinit.inspection.walk import Call

_MOST = 2048  # positions of an output that a distance is taken from, if moments are not enough
_TOGETHER = (sliced_wasserstein2, mmd)  # take the channels together, and a seed

_Found = TypeVar("_Found")


class Goal(NamedTuple):
    """What an output should be like.

    moments: mean, variance, skewness and excess kurtosis, as columns for each channel or one for all
    samples: samples x channels; None for N(0, 1), and where moments are enough
    """

    moments: Tensor
    samples: Tensor | None = None

    @property
    def width(self) -> int:
        return self.moments.shape[1]


_NORMAL = Goal(torch.tensor([[0.0], [1.0], [0.0], [0.0]], dtype=torch.float64))


class Seen(NamedTuple):
    """What an output was like.

    moments: mean, variance, skewness and excess kurtosis, as columns for each channel
    spread: whether a channel has variance
    total_variance: the sum over its units of their variance over the samples
    samples: some of it, as samples x channels; None where moments are enough
    """

    moments: Tensor
    spread: Tensor
    total_variance: float
    samples: Tensor | None

    @property
    def is_finite(self) -> bool:
        return bool(self.moments.isfinite().all())


class Measure:
    """A distance, and what has to be known of an output for it.

    is_joint: whether it takes the channels together
    """

    def __init__(self, name: str, seed: int) -> None:
        function = DISTANCES[name]
        self.is_joint = function in _TOGETHER
        self._takes_samples = function is not moments
        self._distance = partial(function, seed=seed) if self.is_joint else function
        self._seed = seed

    def look(self, affine: Affine) -> Seen:
        """What an output is like."""
        output, channel = affine.output.detach(), channel_of(affine)
        whole = output.unsqueeze(0) if channel == 0 else output
        rows, size, total = moments_of_channels(affine.ranks, affine.name, whole, max(channel, 1))
        total = total_variance(affine.ranks, affine.name, whole, total)
        spread = rows[1].sqrt() > torch.finfo(output.dtype).eps * size
        rows = torch.cat([rows[:2], torch.where(spread, rows[2:], 0.0)])
        samples = self._some(output, channel) if self._takes_samples else None
        return Seen(rows, spread, total, samples)

    def goal(self, samples: Tensor) -> Goal:
        """That an output should be like samples."""
        held = samples.detach()
        return Goal(
            four_moments(held.double().cpu().contiguous()), held if self._takes_samples else None
        )

    def __call__(self, seen: Seen, goal: Goal, scale: Tensor, shift: Tensor) -> Tensor:
        """The distance of ``output * scale + shift`` from a goal, with gradients."""
        if seen.samples is None:
            mean, variance, *shape = seen.moments
            moved = torch.stack([mean * scale + shift, variance * scale**2, *shape])
            return moments_apart(moved, goal.moments)
        there = seen.samples.device
        samples = seen.samples * scale.to(there) + shift.to(there)
        if goal.samples is None:
            return self._distance(samples)
        return self._distance(samples, goal.samples.to(there).expand(-1, samples.shape[1]))

    def now(self, seen: Seen, goal: Goal) -> float:
        """The distance of the output as it is; infinite if the output is not finite."""
        if not seen.is_finite:
            return math.inf
        one = torch.ones(seen.moments.shape[1], dtype=torch.float64, device="cpu")
        return float(self(seen, goal, one, torch.zeros_like(one)))

    def _some(self, output: Tensor, channel: int) -> Tensor:
        last = output.movedim(channel, -1)
        shape = last.shape[:-1]
        places = some_of(math.prod(shape), _MOST, self._seed)
        if places is None:
            return last.reshape(-1, last.shape[-1]).double()
        return last[torch.unravel_index(places.to(output.device), shape)].double()


class Goals:
    """What each layer's output should be like.

    named: by the layers' names
    rest: for all other layers; None if they have no goal
    is_joint: whether a goal of one channel does for one channel only
    must_meet: whether each name must be one of a layer that ran
    """

    def __init__(
        self,
        named: Mapping[str, Goal],
        rest: Goal | None = None,
        *,
        is_joint: bool = False,
        must_meet: bool = False,
    ) -> None:
        self._named, self._rest = named, rest
        self._is_joint, self._must_meet = is_joint, must_meet

    def of(self, affine: Affine) -> Goal | None:
        """That of a layer; None if it has none.

        Raises:
            ValueError: if it has another width than a layer that may be changed.
        """
        goal = self._named.get(affine.name, self._rest)
        if goal is None or affine.channel is None:
            return None
        width = affine.output.shape[channel_of(affine)]
        is_for_each = goal.samples is None or not self._is_joint
        if goal.width == width or (goal.width == 1 and is_for_each):
            return goal
        if affine.weight.is_free:
            raise ValueError(
                f"target has {goal.width} channels for {affine.name or 'the model'}, whose output "
                f"has {width}"
            )
        return None

    def why_none(self, affine: Affine) -> str:
        """Why a layer has none, in words."""
        if affine.channel is None:
            return "the channels of its output cannot be told"
        return "the target has nothing for it"

    def refuse_unmet(self, met: Collection[str]) -> None:
        """Refuse a name that no layer has.

        Raises:
            ValueError: for the first one.
        """
        for name in self._named if self._must_meet else ():
            if name not in met:
                raise ValueError(f"target has {name!r}, and no such layer ran; {near(name, met)}")


def goals_of(target: Any, measure: Measure, work: Work) -> Goals:
    """The goals that a target sets.

    Raises:
        TypeError, ValueError: for what is no target.
    """
    if target is None:
        return Goals({}, _NORMAL, is_joint=measure.is_joint)
    if isinstance(target, Tensor):
        rest = measure.goal(check_samples("target", target))
        return Goals({}, rest, is_joint=measure.is_joint)
    if isinstance(target, Mapping):
        named = {
            name: measure.goal(check_samples(f"target[{name!r}]", samples))
            for name, samples in target.items()
        }
        return Goals(named, is_joint=measure.is_joint, must_meet=True)
    if not isinstance(target, nn.Module):
        raise TypeError(
            "target must be None, samples, samples by the names of layers, or a model, got "
            f"{type(target).__name__}"
        )

    def look(affine: Affine) -> Goal | None:
        if affine.channel is None:
            return None
        seen = measure.look(affine)
        if not seen.is_finite:
            raise ValueError(f"target's layer {affine.name} gives infinite numbers or NaN")
        return Goal(seen.moments, seen.samples)

    with work.looking_at(target) as other:
        features = at_first_calls(other, look)
    return Goals({name: goal for name, goal in features.items() if goal}, is_joint=measure.is_joint)


def in_words(target: Any) -> str | None:
    """A target, as a report has it."""
    if target is None:
        return None
    if isinstance(target, nn.Module):
        return f"features of {type(target).__name__}"
    return "samples of layers" if isinstance(target, Mapping) else "samples"


def at_first_calls(work: Work, look: Callable[[Affine], _Found]) -> dict[str, _Found]:
    """By a pass: what is found of each affine map at its first call, by name."""
    found: dict[str, _Found] = {}

    def visit(call: Call) -> None:
        for affine in work.seen(call):
            if affine.name not in found:
                found[affine.name] = look(affine)

    work.walk(visit)
    return found


def channel_of(affine: Affine) -> int:
    """The dimension of a map's output in which its channels stand, counted from the front."""
    assert affine.channel is not None
    return affine.channel % affine.output.dim()
