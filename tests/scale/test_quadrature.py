"""Expectations under the normal law are right wherever kinks and jumps are."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import norm

from pyinit._scale.quadrature import Function, Grid, UnboundedError

Array = NDArray[np.float64]

RNG = np.random.default_rng(0)
# Anywhere; at round numbers; and near middles and ends of panels, where plain nodes cannot see a jump.
PLACES = [*RNG.uniform(-4, 4, 60), 0.0, 1.0, -0.5, *(0.0955 + RNG.uniform(-1e-3, 1e-3, 20))]
PLACES += list(0.3455 + RNG.uniform(-1e-3, 1e-3, 20))


def step(place: float) -> Function:
    return lambda z: (z > place).astype(np.float64)


def ramp(place: float) -> Function:
    return lambda z: np.maximum(z - place, 0.0)


@pytest.mark.parametrize("place", PLACES)
def test_a_jump_is_found_wherever_it_is(place: float) -> None:
    grid = Grid.of([step(place)], 1.0)
    assert np.abs(grid.breaks - place).min() < 1e-12
    assert grid.mean_square(0) == pytest.approx(ndtr(-place), rel=1e-10)


@pytest.mark.parametrize("place", PLACES[:8])
def test_a_kink_costs_no_digits(place: float) -> None:
    expected = (1 + place**2) * ndtr(-place) - place * norm.pdf(place)
    assert Grid.of([ramp(place)], 1.0).mean_square(0) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("c", [-1.0, -0.7, 0.0, 0.3, 0.99, 1 - 1e-6])
def test_a_product_of_jumps_has_the_quadrants_probability(c: float) -> None:
    grid = Grid.of([step(0.0)], 1.0)
    expected = 0.25 + math.asin(c) / (2 * math.pi)
    assert grid.mean_product(0, c) == pytest.approx(expected, abs=1e-11)


@pytest.mark.parametrize("c", [-0.7, 0.0, 0.3, 0.99])
def test_the_derivative_by_the_covariance_sees_jumps(c: float) -> None:
    place = 0.4
    density = math.exp(-(place**2) / (1 + c)) / (2 * math.pi * math.sqrt(1 - c * c))
    grid = Grid.of([step(place)], 1.0)
    assert grid.mean_product(0, c, by_c=True) == pytest.approx(density, rel=1e-9)


def test_a_sharp_function_far_from_the_scale_of_z_is_not_missed() -> None:
    scale = 1e5
    grid = Grid.of([lambda z: np.exp(-(np.abs(scale * z) ** 2))], scale)
    assert grid.mean_square(0) == pytest.approx((1 + 4 * scale**2) ** -0.5, rel=1e-10)


def test_what_cannot_be_integrated_is_refused() -> None:
    with pytest.raises(UnboundedError, match="grows too fast"):
        Grid.of([lambda z: np.exp(z * z / 4)], 1.0)
    with pytest.raises(ValueError, match="too rough"):
        Grid.of([lambda z: np.sin(1e9 * z)], 1.0)
