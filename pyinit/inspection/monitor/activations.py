"""What is measured of a layer's outputs, call by call, and pooled over calls."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor

from pyinit.inspection.batches import named_tensors
from pyinit.inspection.layers import Layer
from pyinit.inspection.layouts import Layouts
from pyinit.inspection.statistics import Statistics, describe, describe_units


class Moments(NamedTuple):
    """The number of values, their mean, and the sum of the squares of their distances from it."""

    number: int
    mean: float
    squares: float

    @property
    def variance(self) -> float:
        """The variance, by the number of values."""
        return self.squares / self.number if self.number else math.nan


@dataclass
class Call:
    """One call of a layer.

    moments: those of the output
    samples: the number of samples
    total_variance: the sum of the variances of all units over the samples
    dead: of each channel, whether all of it is zero
    gradient: moments of the gradient by the output, once the backward pass has brought it
    """

    moments: Moments
    samples: int
    total_variance: float
    dead: Tensor
    gradient: Moments | None = None


def first_measurable(output: Any) -> Tensor | None:
    """The first tensor in what a module returned that has values to measure."""
    return next((each for _, each in named_tensors(output) if _is_measurable(each)), None)


def _is_measurable(tensor: Tensor) -> bool:
    return (
        (type(tensor) is Tensor or type(tensor) is torch.nn.Parameter)
        and tensor.is_floating_point()
        and tensor.layout is torch.strided
        and not (tensor.is_meta or tensor.is_nested or tensor.is_quantized)
        and tensor.numel() > 0
        and not is_functorch_wrapped_tensor(tensor)
    )


def measured(layer: Layer, output: Tensor, layouts: Layouts) -> Call:
    """The measures of an output."""
    values = output.detach()
    if values.dim() < 2:
        values = values.reshape(1, -1)  # one sample
    samples, channel = layouts.of(layer, values)
    count = math.prod(values.shape[:samples])
    if not values.is_cpu:
        return Call(*_on_device(values, samples, channel, count))
    whole, dead, total_variance = describe_units(values, channel, samples)
    return Call(_moments(whole), count, total_variance, dead)


def _on_device(
    values: Tensor, samples: int, channel: int, count: int
) -> tuple[Moments, int, float, Tensor]:
    """The same by torch where the values are, since they are too many to move."""
    wide = values.float()
    variance, mean = torch.var_mean(wide, correction=0)
    total = wide.flatten(0, samples - 1).var(0, correction=0).sum()
    dead = (values == 0).movedim(channel, 0).flatten(1).all(1)
    mean_, variance_, total_ = torch.stack((mean, variance, total)).tolist()
    number = values.numel()
    return Moments(number, mean_, variance_ * number), count, total_, dead.cpu()


def moments_of(values: Tensor) -> Moments:
    """The moments of a tensor of any shape."""
    if values.is_cpu:
        return _moments(describe(values))
    variance, mean = torch.stack(torch.var_mean(values.float(), correction=0)).tolist()
    return Moments(values.numel(), mean, variance * values.numel())


def _moments(found: Statistics) -> Moments:
    return Moments(found.count, found.mean, found.std * found.std * found.count)


def pooled(some: Iterable[Moments]) -> Moments:
    """The moments of all values together (Chan et al. 1979)."""
    number, mean, squares = 0, 0.0, 0.0
    for each in some:
        if each.number:
            distance = each.mean - mean
            together = number + each.number
            mean += distance * each.number / together
            squares += each.squares + distance * distance * number * each.number / together
            number = together
    return Moments(number, mean, squares)


def of_calls(calls: Sequence[Call], scale: float) -> dict[str, float | None]:
    """What a record says of a layer's outputs, with gradients that were multiplied by ``scale``."""
    if not calls:
        return {}
    moments = pooled(call.moments for call in calls)
    samples = sum(call.samples for call in calls)
    gradients = [call.gradient for call in calls if call.gradient is not None]
    dead = calls[0].dead
    for call in calls[1:]:
        if call.dead.shape == dead.shape:
            dead = dead & call.dead
    return {
        "mean": moments.mean,
        "variance": moments.variance,
        "total_variance": sum(call.total_variance * call.samples for call in calls) / samples,
        "dead": dead.double().mean().item(),
        "output_gradient_std": math.sqrt(pooled(gradients).variance) / scale if gradients else None,
    }
