"""The distributions that kernels draw: the number of each, and the parameters that it takes."""

import math
from collections.abc import Callable
from typing import NamedTuple

Parameters = tuple[float, ...]

_MOST_PARAMETERS = 4


class Distribution(NamedTuple):
    """A distribution, as the kernels of all devices know it.

    code: the kernels' number for it
    takes: whether there is such a distribution, and a dtype can hold what it draws. The first argument
        is the largest finite number of the dtype (inf to ask about no dtype), the others are the
        parameters. NaN is taken as a constant only.
    """

    code: int
    takes: Callable[..., bool]


def _takes_constant(largest: float, value: float) -> bool:
    return not largest < abs(value) < math.inf


def _takes_uniform(largest: float, low: float, high: float) -> bool:
    return -largest <= low <= high <= largest and high - low <= largest


def _takes_normal(largest: float, mean: float, std: float) -> bool:
    return -largest <= mean <= largest and 0.0 <= std <= largest


def _takes_trunc_normal(largest: float, mean: float, std: float, low: float, high: float) -> bool:
    # Mean and std may be beyond the dtype's range, as long as the bounds leave room within it.
    return (
        abs(mean) < math.inf
        and 0.0 < std < math.inf
        and low <= high
        and low <= largest
        and high >= -largest
    )


def _takes_bernoulli(_: float, probability: float) -> bool:
    return 0.0 <= probability <= 1.0


CONSTANT = Distribution(0, _takes_constant)
UNIFORM = Distribution(1, _takes_uniform)
NORMAL = Distribution(2, _takes_normal)
TRUNC_NORMAL = Distribution(3, _takes_trunc_normal)
BERNOULLI = Distribution(4, _takes_bernoulli)


def padded(parameters: Parameters) -> tuple[float, float, float, float]:
    """The parameters as batches of fills hold them: four numbers, with zeros behind those in use."""
    a, b, c, d = *parameters, *(0.0,) * (_MOST_PARAMETERS - len(parameters))
    return a, b, c, d
