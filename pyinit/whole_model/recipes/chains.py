"""Deep plain chains: layers and activations with no norm and no sum that would hold the variance.

From layer to layer the mean square q of the pre-activations becomes w E[f(sqrt(q) z)^2] + b, where w
is the squared gain, b the variance of the biases and z standard normal (Poole et al. 2016). If
w E[f(z)^2] + b = 1, then q stays at 1, provided that deviations from 1 do not grow. Without biases
they grow where f grows faster than linearly around 1: for GELU by 14% a layer. Besides, a layer of n
units adds a deviation of its own, whose variance is (E[f(z)^4] / E[f(z)^2]^2 - 1) / n, and which
later layers have to forget. Biases damp both. But they damp gradients, too, which change by
w E[f'(z)^2] a layer (Schoenholz et al. 2017). So b is what makes that factor 1, and it is larger only
as far as the variance would not hold otherwise.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pyinit._graph.graph import ActivationKind

_Array = NDArray[np.float64]

DEEP = 8  # layers that a chain has at least
_SPREAD = math.log(2.0) / 3  # the largest standard deviation of log q at a chain's end
_LEAST = 0.8  # the weights keep that much of their share, so that gradients pass narrow chains, too


class Balance(NamedTuple):
    """What keeps a chain's pre-activations at variance 1.

    gain: the gain of the weights
    bias_std: the standard deviation of the biases
    """

    gain: float
    bias_std: float


class _Moments(NamedTuple):
    second: float  # E[f(z)^2]
    derivative: float  # E[f'(z)^2]
    noise: float  # the variance of f(z)^2 over its squared mean
    halved: float  # E[f(z)^2] at half the variance of z, over E[f(z)^2] at variance 1
    doubled: float  # the same at twice the variance


@lru_cache(maxsize=256)
def balance(activation: ActivationKind, depth: int, width: int | None) -> Balance | None:
    """The gain and the biases of a layer that takes the output of an activation.

    It is None if the activation is not known as a function.

    depth: the number of layers in the chain
    width: the number of units that feed the layer; None for images, whose places are many units
    """
    moments = _moments(activation)
    if moments is None:
        return None
    share = min(1.0, moments.second / moments.derivative)
    if not _holds(share, moments, depth, width):
        low = _LEAST * share
        for _ in range(30):
            middle = (low + share) / 2
            if _holds(middle, moments, depth, width):
                low = middle
            else:
                share = middle
        share = low
    return Balance(math.sqrt(share / moments.second), math.sqrt(1 - share))


def _holds(share: float, moments: _Moments, depth: int, width: int | None) -> bool:
    """Whether the variance stays within [1/2, 2] if this share of it comes from the weights."""
    rho = _kept(share, moments)
    if width is None:
        return rho <= 1 + 1e-9
    of_a_layer = share**2 * moments.noise / width
    return rho <= 1 + 1e-9 and of_a_layer * sum(rho ** (2 * k) for k in range(depth)) <= _SPREAD**2


def _kept(share: float, moments: _Moments) -> float:
    """How much of a deviation by a factor of 2 a layer hands on, on a scale of logarithms."""
    up = math.log2(share * moments.doubled + 1 - share)
    down = -math.log2(share * moments.halved + 1 - share)
    return max(up, down)


@lru_cache(maxsize=64)
def _moments(activation: ActivationKind) -> _Moments | None:
    function = _function(activation)
    if function is None:
        return None
    z = np.linspace(-10.0, 10.0, 20_001)
    density = np.exp(-0.5 * z * z)
    density /= density.sum()

    def values(variance: float) -> _Array:
        return function(torch.from_numpy(math.sqrt(variance) * z)).numpy()

    def mean(x: _Array) -> float:
        return float((x * density).sum())

    once = values(1.0)
    second = mean(once**2)
    return _Moments(
        second,
        mean(np.gradient(once, z) ** 2),
        mean(once**4) / second**2 - 1,
        mean(values(0.5) ** 2) / second,
        mean(values(2.0) ** 2) / second,
    )


def _function(activation: ActivationKind) -> Callable[[Tensor], Tensor] | None:
    name, slope = activation
    if name == "leaky_relu":
        return lambda z: functional.leaky_relu(z, slope)
    return getattr(functional, name) if isinstance(name, str) else None
