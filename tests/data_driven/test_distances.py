"""``pyinit.distances``: against SciPy, closed forms and plain loops; symmetric, 0 on itself, with gradients."""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from pyinit import distances

NAMES = list(distances.DISTANCES)
JOINT = ["sliced_wasserstein2", "mmd"]


def sample(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_it_is_exactly_0_on_itself(name: str, dtype: torch.dtype) -> None:
    x = sample(700, 5).to(dtype)
    assert float(distances.DISTANCES[name](x, x.clone())) == 0


@pytest.mark.parametrize("name", NAMES)
def test_it_does_not_depend_on_where_numbers_lie_in_memory(name: str) -> None:
    distance, x, y = distances.DISTANCES[name], sample(3000, 5), sample(900, 5, seed=1)
    other = x.T.contiguous().T
    assert float(distance(x, other)) == 0
    assert torch.equal(distance(x), distance(other))
    assert torch.equal(distance(x, y), distance(other, y))
    first = x[:1].expand(3000, 5)
    assert torch.equal(distance(first), distance(first.contiguous()))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sizes", [(30, 30), (31, 12), (1, 6), (600, 40)])
def test_it_is_symmetric_and_not_0_between_others(name: str, sizes: tuple[int, int]) -> None:
    x, y = sample(sizes[0], 4), 2 * sample(sizes[1], 4, seed=1) + 1
    there, back = distances.DISTANCES[name](x, y), distances.DISTANCES[name](y, x)
    torch.testing.assert_close(there, back, rtol=1e-12, atol=1e-14)
    assert there > 0


@pytest.mark.parametrize("name", NAMES)
def test_samples_whose_squares_are_infinite_are_not_near(name: str) -> None:
    x = 1e200 * sample(20, 3)
    assert float(distances.DISTANCES[name](x, 2 * x)) != 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [1, 2])
def test_gradients_are_those_of_differences(name: str, count: int) -> None:
    samples = [(i + 1) * sample(7 - 2 * i, 3, seed=i).requires_grad_() for i in range(count)]
    leaves = [each.detach().requires_grad_() for each in samples]
    assert torch.autograd.gradcheck(distances.DISTANCES[name], leaves)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("where", ["itself", "equal values", "one sample", "far away"])
def test_gradients_are_finite_where_a_root_or_a_ratio_has_none(name: str, where: str) -> None:
    x = torch.ones(4, 3) if where == "equal values" else sample(4, 3)
    x = x[:1] if where == "one sample" else x * 1e6 if where == "far away" else x
    x = x.clone().requires_grad_()
    others = (x.detach(),) if where == "itself" else ()
    (gradient,) = torch.autograd.grad(distances.DISTANCES[name](x, *others), x)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", JOINT)
def test_a_seed_gives_the_same_number_and_another_one_another(name: str) -> None:
    distance, x, y = distances.DISTANCES[name], sample(1000, 6), sample(900, 6, seed=1) + 0.3
    state = torch.get_rng_state()
    assert distance(x, y, seed=3) == distance(x, y, seed=3)
    assert distance(x, y, seed=3) != distance(x, y, seed=4)
    assert torch.equal(torch.get_rng_state(), state)


# ---- moments -------------------------------------------------------------------------------------


def test_moments_are_those_of_scipy() -> None:
    x, y = sample(50, 3) ** 3, sample(30, 3, seed=1).exp()

    def rows(z: Tensor) -> Any:
        values = z.numpy()
        return np.stack([values.mean(0), values.var(0), stats.skew(values), stats.kurtosis(values)])

    normal = np.array([[0.0], [1.0], [0.0], [0.0]])
    for other, wanted in ((None, normal), (y, rows(y))):
        found = distances.moments(x, other)
        np.testing.assert_allclose(found, ((rows(x) - wanted) ** 2).sum(0).mean(), rtol=1e-10)


def test_a_channel_of_equal_values_has_no_skewness_and_no_kurtosis() -> None:
    assert float(distances.moments(torch.full((5, 2), 0.1, dtype=torch.float64))) == pytest.approx(
        1.01
    )


# ---- Wasserstein ---------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(9, 9), (10, 4), (7, 5), (1, 8)])
def test_wasserstein1_is_that_of_scipy(sizes: tuple[int, int]) -> None:
    x, y = sample(sizes[0], 3), sample(sizes[1], 3, seed=1) * 2
    wanted = np.mean([stats.wasserstein_distance(x[:, c], y[:, c]) for c in range(3)])
    assert float(distances.wasserstein1(x, y)) == pytest.approx(wanted, rel=1e-12)


def test_wasserstein1_from_the_normal_is_the_area_between_the_distribution_functions() -> None:
    x = 2 * sample(6) + 1
    points = sorted(x.tolist())

    def apart(t: float) -> float:
        return abs(
            float(np.searchsorted(points, t, side="right")) / len(points) - stats.norm.cdf(t)
        )

    ends = [-12.0, *points, 12.0]
    parts = pairwise(ends)
    area = sum(integrate.quad(apart, a, b, limit=200)[0] for a, b in parts)
    assert float(distances.wasserstein1(x)) == pytest.approx(area, rel=1e-6)


@pytest.mark.parametrize("name", ["wasserstein1", "sliced_wasserstein2"])
def test_a_shift_is_its_size_and_a_far_sample_is_far(name: str) -> None:
    x = sample(40, 1)
    assert float(distances.DISTANCES[name](x, x + 3)) == pytest.approx(3)
    assert float(distances.DISTANCES[name](torch.full((3, 1), 1e6))) == pytest.approx(1e6, rel=1e-4)


def test_sliced_wasserstein2_of_one_channel_is_a_match_of_sorted_values() -> None:
    x, y = sample(30, 1), 2 * sample(30, 1, seed=1)
    wanted = (x.sort(0).values - y.sort(0).values).square().mean().sqrt()
    assert float(distances.sliced_wasserstein2(x, y)) == pytest.approx(float(wanted))
    repeated = x.repeat_interleave(3, 0), y.repeat_interleave(2, 0)
    assert float(distances.sliced_wasserstein2(*repeated)) == pytest.approx(float(wanted))


@pytest.mark.parametrize("against", ["sample", "normal"])
def test_sliced_wasserstein2_between_gaussians_is_the_closed_form(against: str) -> None:
    # In a direction u, N(mean, s^2 I) is N(u mean, s^2), and the mean over u of (u mean)^2 is |mean|^2 / C.
    mean, s = torch.tensor([1.0, -2.0, 0.0, 0.5]), 1.5
    x = s * sample(4000, 4) + mean
    y = None if against == "normal" else sample(3000, 4, seed=1)
    wanted = math.sqrt(float(mean.square().sum()) / 4 + (s - 1) ** 2)
    found = distances.sliced_wasserstein2(x, y, projections=500)
    assert float(found) == pytest.approx(wanted, rel=0.05)


# ---- MMD -----------------------------------------------------------------------------------------


def plain_mmd(x: Tensor, y: Tensor) -> float:
    """By loops over all pairs."""
    both = torch.cat([x, y]).tolist()
    squares = [[sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) for q in both] for p in both]
    pairs = sorted(squares[i][j] for i in range(len(both)) for j in range(i))
    bandwidth = pairs[(len(pairs) - 1) // 2]
    n = len(x)
    total = 0.0
    for i in range(len(both)):
        for j in range(len(both)):
            weight = (1 / n if i < n else -1 / len(y)) * (1 / n if j < n else -1 / len(y))
            total += weight * math.exp(-squares[i][j] / (2 * bandwidth))
    return math.sqrt(total)


@pytest.mark.parametrize("sizes", [(12, 12), (15, 8)])
def test_mmd_is_that_of_plain_loops(sizes: tuple[int, int]) -> None:
    x, y = sample(sizes[0], 3), 2 * sample(sizes[1], 3, seed=1) + 1
    assert float(distances.mmd(x, y)) == pytest.approx(plain_mmd(x, y), rel=1e-9)


def test_mmd_from_the_normal_is_that_from_many_normal_samples() -> None:
    x, y = 0.5 * sample(400, 3) + 1, sample(4000, 3, seed=1)
    bandwidth = (y[:2000] - y[2000:]).square().sum(1).median()  # of two samples of N(0, I)

    def mean(a: Tensor, b: Tensor) -> float:
        return float(torch.exp(-(torch.cdist(a, b) ** 2) / (2 * bandwidth)).mean())

    wanted = math.sqrt(mean(x, x) - 2 * mean(x, y) + mean(y, y))
    assert float(distances.mmd(x)) == pytest.approx(wanted, rel=0.02)


def test_mmd_takes_no_more_samples_than_it_is_told() -> None:
    x, y = sample(5000, 2), sample(5000, 2, seed=1) + 1
    found = float(distances.mmd(x, y, samples=500))
    assert found == pytest.approx(float(distances.mmd(x, y, samples=2000)), rel=0.15)
    assert found != distances.mmd(x, y, samples=501)
    few = x[:300], y[:300]
    assert distances.mmd(*few, samples=300) == distances.mmd(*few, samples=400, seed=9)


# ---- bad input -----------------------------------------------------------------------------------

BAD: dict[str, tuple[tuple[Any, ...], type[Exception], str]] = {
    "no tensor": (([1.0],), TypeError, "x must be a tensor"),
    "integers": ((torch.arange(3),), TypeError, "x must have real floating"),
    "another width": ((torch.ones(3, 2), torch.ones(3, 4)), ValueError, "y .* 2, got 4"),
    "three dimensions": ((torch.ones(3, 2, 2),), ValueError, r"x .*\(3, 2, 2\)"),
    "no samples": ((torch.ones(3, 2), torch.ones(0, 2)), ValueError, r"y .*\(0, 2\)"),
    "NaN": ((torch.full((3, 2), math.nan),), ValueError, "x must be finite"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("name", NAMES)
def test_bad_samples_are_refused_by_name(name: str, case: str) -> None:
    samples, error, message = BAD[case]
    with pytest.raises(error, match=message):
        distances.DISTANCES[name](*samples)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (partial(distances.sliced_wasserstein2, projections=0), "projections"),
        (partial(distances.mmd, samples=0), "samples"),
        (partial(distances.mmd, samples=True), "samples"),
        (partial(distances.sliced_wasserstein2, seed=-1), "seed"),
    ],
)
def test_bad_options_are_refused_by_name(call: Callable[..., Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(sample(8, 2))
