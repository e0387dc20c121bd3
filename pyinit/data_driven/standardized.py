"""Each channel of a layer's output brought to a mean and the standard deviation 1, by scale and shift."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pyinit.data_driven.affine import Affine
from pyinit.data_driven.over_ranks import moments_of_channels
from pyinit.inspection.statistics import describe_channels

_STEPS = 4  # roundings are corrected by measuring again
_EXACT = 1e-6
_FOLLOWS = 0.05  # how far an output may end from its goal, in 16 bits, too


class Moments(NamedTuple):
    """Mean, standard deviation, and largest absolute value of each channel, in float64."""

    mean: Tensor
    std: Tensor
    size: Tensor

    def moves(self, dtype: torch.dtype) -> Tensor:
        """Which channels have variance, beyond the rounding of their values."""
        return self.std > torch.finfo(dtype).eps * self.size


class Distance(NamedTuple):
    """How far the channels with variance are from the goal, at most.

    mean: of a channel's mean from the goal; None where there is no bias to move it
    std: of a channel's standard deviation from 1
    """

    mean: float | None
    std: float

    @property
    def largest(self) -> float:
        return max(self.mean or 0.0, self.std)


@dataclass(frozen=True)
class Standardized:
    """What was set, as numbers for each output channel, and how far it was and is from the goal.

    still: how many channels have no variance, and are not adjusted
    """

    scale: Tensor
    shift: Tensor
    before: Distance
    after: Distance
    still: int


def moments(affine: Affine) -> Moments:
    """The moments of each channel of a layer's output."""
    output = affine.output
    assert affine.channel is not None
    channel = affine.channel % output.dim()
    if channel == 0:  # without a dimension for samples
        output, channel = output.unsqueeze(0), 1
    if affine.ranks.are_several:
        found, size, _ = moments_of_channels(affine.ranks, affine.name, output, channel)
        return Moments(found[0], found[1].sqrt(), size)
    each_channel = describe_channels(output, channel).statistics
    numbers = [(each.mean, each.std, max(abs(each.min), abs(each.max))) for each in each_channel]
    return Moments(*torch.tensor(numbers, dtype=torch.float64).unbind(1))


def standardize(
    affine: Affine, goal: float = 0.0, values: Tensor | None = None
) -> Standardized | str:
    """Scale and shift each channel of a layer's output to the mean ``goal`` and the standard deviation 1.

    Without a bias channels are only scaled. A channel without variance is left.

    affine: the layer, which has its base
    values: weights that it is to have in place of its base

    Returns:
        What was set; or, in words, why the layer has its base.
    """
    if affine.channel is None:
        return "where its output channels stand cannot be told"
    first = now = moments(affine)
    if not bool(first.mean.isfinite().all() and first.std.isfinite().all()):
        return "its output is not finite"
    scale, shift = torch.ones_like(now.mean), torch.zeros_like(now.mean)
    if values is not None:
        set_(affine, scale, shift, values)
        affine.again()
        now = moments(affine)
    moves = now.moves(affine.output.dtype)
    if not bool(moves.any()):
        reset(affine)
        return "its output has no variance"
    before, best = _distance(affine, first, goal, moves), None
    for _ in range(_STEPS):
        factor = torch.where(moves, 1 / now.std, 1.0)
        scale = scale * factor
        if affine.bias is not None:
            shift = torch.where(moves, (shift - now.mean) * factor + goal, shift)
        if not bool(scale.isfinite().all() and shift.isfinite().all()):
            break
        set_(affine, scale, shift, values)
        affine.again()
        now = moments(affine)
        found = Standardized(
            scale, shift, before, _distance(affine, now, goal, moves), int((~moves).sum())
        )
        if best is not None and not found.after.largest < best.after.largest:
            set_(affine, best.scale, best.shift, values)
            affine.again()
            break
        best = found
        if best.after.largest <= _EXACT:
            break
    if best is not None and best.after.largest <= _FOLLOWS:
        return best
    reset(affine)
    return "its output does not follow its weight and bias"


def set_(affine: Affine, scale: Tensor, shift: Tensor, values: Tensor | None) -> None:
    """Write a scale and a shift of a layer's output, from its base or from values."""
    affine.weight.set_(scale=scale, values=values)
    if affine.bias is not None:
        affine.bias.set_(scale=scale, shift=shift)


def reset(affine: Affine) -> None:
    """Give a layer its base again."""
    affine.weight.set_()
    if affine.bias is not None:
        affine.bias.set_()


def _distance(affine: Affine, found: Moments, goal: float, moves: Tensor) -> Distance:
    std = float((found.std[moves] - 1).abs().max())
    if affine.bias is None:
        return Distance(None, std)
    return Distance(float((found.mean[moves] - goal).abs().max()), std)
