"""The distributions that kernels draw: the number of each, and the parameters that it takes."""

import math
from collections.abc import Callable
from typing import NamedTuple

from pyinit import _core
from pyinit._random.rng import VERSIONS, stream_version

Parameters = tuple[float, ...]

_MOST_PARAMETERS = 4


class Distribution(NamedTuple):
    """A distribution, as the kernels of all devices know it.

    codes: the kernels' numbers for it, by stream version
    takes: whether there is such a distribution, and a dtype can hold what it draws. The first argument
        is the largest finite number of the dtype (inf to ask about no dtype), the others are the
        parameters. NaN is taken as a constant only.
    """

    codes: tuple[int, ...]
    takes: Callable[..., bool]

    @property
    def code(self) -> int:
        """The kernels' number for it in the stream version that is in force."""
        return self.codes[stream_version() - 1]


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


CONSTANT = Distribution((0, 0), _takes_constant)
UNIFORM = Distribution((1, 1), _takes_uniform)
NORMAL = Distribution((2, 2), _takes_normal)
TRUNC_NORMAL = Distribution((5, 3), _takes_trunc_normal)
BERNOULLI = Distribution((4, 4), _takes_bernoulli)


def trunc_normal_kernel() -> Callable[..., None]:
    """What fills one tensor with truncated normals of the stream version that is in force."""
    is_last = stream_version() == VERSIONS[-1]
    return _core.fill_trunc_normal if is_last else _core.fill_trunc_normal_v1


def padded(parameters: Parameters) -> tuple[float, float, float, float]:
    """The parameters as batches of fills hold them: four numbers, with zeros behind those in use."""
    a, b, c, d = *parameters, *(0.0,) * (_MOST_PARAMETERS - len(parameters))
    return a, b, c, d
