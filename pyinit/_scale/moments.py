"""Moments of what an activation makes of normal pre-activations, and whether it is off centre.

An activation is off centre if the mean of its output makes up so much of the mean square that gradients
vanish whatever the scale of the weights. A layer with weights of variance w / n takes pre-activations of
variance 1 to those of variance w E[f(z)^2], and multiplies the mean square of a gradient by w E[f'(z)^2]
on the way back. Both can be 1 only if E[f'(z)^2] is at least E[f(z)^2], as random biases can make up the
rest. For a sigmoid it is a seventh of that. If the layer sees f(z) less its mean, though, E[f(z)^2]
becomes the variance of f(z), and that never exceeds E[f'(z)^2] (the Gaussian Poincare inequality).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from pyinit._scale.quadrature import Array

Function = Callable[[Array], Array]

_SHORT = (
    0.99  # of the mean square that a gradient keeps, at the most, where an activation is off centre
)
_LEAST_MEAN = 0.01  # the least part of the mean square that its squared mean is


class Moments(NamedTuple):
    """Of f(z), or of f(z) less its mean, where z is standard normal.

    mean: E[f(z)], in either case
    second: E[f(z)^2]
    derivative: E[f'(z)^2]
    noise: the variance of f(z)^2 over its squared mean
    halved: E[f(z)^2] at half the variance of z, over E[f(z)^2] at variance 1
    doubled: the same at twice the variance
    """

    mean: float
    second: float
    derivative: float
    noise: float
    halved: float
    doubled: float


def moments_of(function: Function, about_mean: bool = False) -> Moments:
    """The moments of a function of float64 arrays, or those about its mean at each variance of z."""

    def values(variance: float) -> Array:
        found = function(math.sqrt(variance) * _Z)
        return found - _mean(found) if about_mean else found

    raw = function(_Z)
    mean = _mean(raw)
    once = raw - mean if about_mean else raw
    second = _mean(once**2)
    return Moments(
        mean,
        second,
        _mean(np.gradient(once, _Z) ** 2),
        _mean(once**4) / second**2 - 1,
        _mean(values(0.5) ** 2) / second,
        _mean(values(2.0) ** 2) / second,
    )


def moments_if_off_centre(function: Function) -> Moments | None:
    """The moments about the mean of an activation that is off centre; None for any other."""
    once = function(_Z)
    mean, second = _mean(once), _mean(once**2)
    if _mean(np.gradient(once, _Z) ** 2) > _SHORT * second or mean**2 < _LEAST_MEAN * second:
        return None
    return moments_of(function, about_mean=True)


_Z = np.linspace(-10.0, 10.0, 20_001)
_DENSITY = np.exp(-0.5 * _Z * _Z)
_DENSITY /= _DENSITY.sum()


def _mean(x: Array) -> float:
    return float((x * _DENSITY).sum())
