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
from functools import lru_cache
from typing import NamedTuple

from torch.nn import functional

from pyinit._graph.graph import ActivationKind
from pyinit._scale.moments import Moments, moments_if_off_centre, moments_of
from pyinit._scale.pointwise import Pointwise
from pyinit.initializers import gain_of

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


@lru_cache(maxsize=256)
def balance(
    activation: ActivationKind, depth: int, width: int | None, centred: bool = False
) -> Balance | None:
    """The gain and the biases of a layer that takes the output of an activation.

    It is None if the activation is not known as a function.

    depth: the number of layers in the chain
    width: the number of units that feed the layer; None for images, whose places are many units
    centred: whether the layer's weights are centred, so that it does not see the activation's mean
    """
    moments = off_centre(activation) if centred else _moments(activation)
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


def gain_alone(activation: ActivationKind, centred: bool = False) -> Balance:
    """The gain of a layer that takes the output of an activation, without biases."""
    about_mean = off_centre(activation) if centred else None
    if about_mean is None:
        return Balance(gain_of(activation.nonlinearity, activation.a), 0.0)
    return Balance(1 / math.sqrt(about_mean.second), 0.0)


def gradient_kept(activation: ActivationKind, gain: float) -> float:
    """By what a layer of that gain multiplies gradients on their way through the activation before it.

    It is 1 if the activation is known by its gain alone.
    """
    known = off_centre(activation) or _moments(activation)
    return 1.0 if known is None else gain * math.sqrt(known.derivative)


def _holds(share: float, moments: Moments, depth: int, width: int | None) -> bool:
    """Whether the variance stays within [1/2, 2] if this share of it comes from the weights."""
    rho = _kept(share, moments)
    if width is None:
        return rho <= 1 + 1e-9
    of_a_layer = share**2 * moments.noise / width
    return rho <= 1 + 1e-9 and of_a_layer * sum(rho ** (2 * k) for k in range(depth)) <= _SPREAD**2


def _kept(share: float, moments: Moments) -> float:
    """How much of a deviation by a factor of 2 a layer hands on, on a scale of logarithms."""
    up = math.log2(share * moments.doubled + 1 - share)
    down = -math.log2(share * moments.halved + 1 - share)
    return max(up, down)


@lru_cache(maxsize=64)
def off_centre(activation: ActivationKind) -> Moments | None:
    """The moments about the mean of an activation that is off centre; None for any other."""
    if activation.about_mean is not None:
        return activation.about_mean
    function = _function(activation)
    return None if function is None else moments_if_off_centre(function.values)


@lru_cache(maxsize=64)
def _moments(activation: ActivationKind) -> Moments | None:
    function = _function(activation)
    return None if function is None else moments_of(function.values)


def _function(activation: ActivationKind) -> Pointwise | None:
    name, slope = activation.nonlinearity, activation.a
    if name == "leaky_relu":
        return Pointwise(lambda z: functional.leaky_relu(z, slope))
    return Pointwise(getattr(functional, name)) if isinstance(name, str) else None
