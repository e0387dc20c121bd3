"""The numbers are what their distributions say: fixed keys, computed p-values.

Run ``python tests/test_statistics.py`` to print every p-value.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from pyinit import fill, init
from pyinit._random.rng import Key

SMALLEST_P = 1e-4  # with about a hundred tests, a fair generator fails one in a hundred suites
KEY = 20240607
Sample = NDArray[np.float64]


class Distribution(NamedTuple):
    fill: Callable[..., torch.Tensor]
    args: tuple[float, ...]
    exact: stats.rv_continuous


DISTRIBUTIONS = {
    "uniform": Distribution(fill.uniform, (-1.0, 3.0), stats.uniform(-1, 4)),
    "normal": Distribution(fill.normal, (0.5, 2.0), stats.norm(0.5, 2)),
    "trunc_normal": Distribution(fill.trunc_normal, (0.0, 1.0, -2.0, 2.0), stats.truncnorm(-2, 2)),
    "trunc_normal_wide": Distribution(
        fill.trunc_normal, (0.0, 0.02, -2.0, 2.0), stats.truncnorm(-100, 100, 0, 0.02)
    ),
    "trunc_normal_lopsided": Distribution(
        fill.trunc_normal, (1.0, 2.0, -3.0, 1.5), stats.truncnorm(-2, 0.25, 1, 2)
    ),
    "trunc_normal_tail": Distribution(
        fill.trunc_normal, (0.0, 1.0, 9.0, 12.0), stats.truncnorm(9, 12)
    ),
}
DTYPES = {"float32": torch.float32, "float64": torch.float64}
each_distribution = pytest.mark.parametrize("name", DISTRIBUTIONS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def sample(name: str, dtype: str, count: int, key: int = KEY, stream: int = 0) -> Sample:
    out = torch.full((count,), torch.nan, dtype=DTYPES[dtype])
    distribution = DISTRIBUTIONS[name]
    distribution.fill(out, *distribution.args, key=key, stream=stream)
    return out.double().numpy()


def p_of_moments(name: str, dtype: str) -> float:
    """Mean, variance, third and fourth central moment, each against its exact standard error."""
    x = sample(name, dtype, 1 << 20)
    exact = DISTRIBUTIONS[name].exact
    mean, std = exact.mean(), exact.std()
    z = (x - mean) / std
    moments = [exact.expect(lambda t, k=k: ((t - mean) / std) ** k) for k in range(1, 9)]
    scores = [
        (np.mean(z**k) - moments[k - 1])
        / np.sqrt((moments[2 * k - 1] - moments[k - 1] ** 2) / len(z))
        for k in range(1, 5)
    ]
    return min(1.0, 4 * stats.norm.sf(np.max(np.abs(scores))) * 2)  # Bonferroni


def p_of_kolmogorov_smirnov(name: str, dtype: str) -> float:
    return stats.kstest(sample(name, dtype, 1 << 20), DISTRIBUTIONS[name].exact.cdf).pvalue


def p_of_chi_square(name: str, dtype: str) -> float:
    """Counts in 4096 equally likely cells."""
    u = DISTRIBUTIONS[name].exact.cdf(sample(name, dtype, 1 << 20))
    counts = np.bincount(np.minimum((u * 4096).astype(int), 4095), minlength=4096)
    return stats.chisquare(counts).pvalue


def p_of_pairs(name: str, dtype: str) -> float:
    """Neighbours (i, i + 1) in a grid of 64 by 64 equally likely cells."""
    u = DISTRIBUTIONS[name].exact.cdf(sample(name, dtype, 1 << 20))
    cell = np.minimum((u * 64).astype(int), 63)
    return stats.chisquare(np.bincount(cell[0::2] * 64 + cell[1::2], minlength=4096)).pvalue


LAGS = [1, 2, 3, 4, 5, 7, 8, 15, 16, 31, 32, 63, 64, 128, 1000, 1024, 4096, 65536]


def p_of_lag_correlations(name: str, dtype: str) -> float:
    x = sample(name, dtype, 1 << 20)
    z = (x - x.mean()) / x.std()
    scores = [np.dot(z[:-lag], z[lag:]) / np.sqrt(len(z) - lag) for lag in LAGS]
    return stats.chi2.sf(np.sum(np.square(scores)), len(LAGS))


def p_of_neighbouring_streams(name: str, dtype: str) -> float:
    """Keys and streams that differ in one bit are uncorrelated."""
    count = 1 << 18
    base = sample(name, dtype, count)
    others = [(KEY ^ 1 << bit, 0) for bit in (0, 31, 32, 63)]
    others += [(KEY, 1 << bit) for bit in (0, 31, 32, 63)]
    scores = [
        np.corrcoef(base, sample(name, dtype, count, key, stream))[0, 1] * np.sqrt(count)
        for key, stream in others
    ]
    return stats.chi2.sf(np.sum(np.square(scores)), len(scores))


TESTS = [
    p_of_moments,
    p_of_kolmogorov_smirnov,
    p_of_chi_square,
    p_of_pairs,
    p_of_lag_correlations,
    p_of_neighbouring_streams,
]


@each_distribution
@each_dtype
@pytest.mark.parametrize("p_value", TESTS, ids=lambda test: test.__name__[5:])
def test_distribution(name: str, dtype: str, p_value: Callable[[str, str], float]) -> None:
    assert p_value(name, dtype) > SMALLEST_P


def p_of_bits(dtype: str) -> float:
    """Each bit of the fraction is as often one as zero, and independent of the bit below."""
    bits = 24 if dtype == "float32" else 53
    out = torch.empty(1 << 20, dtype=DTYPES[dtype])
    x = fill.uniform(out, key=KEY).double().numpy()
    integers = (x * 2.0**bits).astype(np.uint64)
    columns = [(integers >> np.uint64(b)) & np.uint64(1) for b in range(bits)]
    n = len(integers)
    ones = np.array([2 * (c.sum() - n / 2) / np.sqrt(n) for c in columns])
    flips = np.array([2 * ((a ^ b).sum() - n / 2) / np.sqrt(n) for a, b in pairwise(columns)])
    return stats.chi2.sf(np.sum(ones**2) + np.sum(flips**2), len(ones) + len(flips))


@each_dtype
def test_bits(dtype: str) -> None:
    assert p_of_bits(dtype) > SMALLEST_P


TAIL_COUNT = 1 << 28
THRESHOLDS = [3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0]


def chunks(name: str, args: tuple[float, ...]) -> Iterator[torch.Tensor]:
    """2^28 elements of one float32 tensor, made in parts."""
    size = 1 << 22
    part = torch.empty(size)
    for start in range(0, TAIL_COUNT, size):
        function: Callable[..., torch.Tensor] = getattr(fill, name)
        yield function(part, *args, key=KEY, whole=(TAIL_COUNT,), start=(start,))


def tail_counts(name: str, args: tuple[float, ...]) -> dict[float, int]:
    """How many of 2^28 lie beyond each threshold, on both sides together."""
    counts = dict.fromkeys(THRESHOLDS, 0)
    for part in chunks(name, args):
        beyond = part[part.abs() > THRESHOLDS[0]].abs()
        for threshold in THRESHOLDS:
            counts[threshold] += int((beyond > threshold).sum())
    return counts


def tail_p_values(counts: dict[float, int]) -> dict[float, float]:
    return {
        threshold: stats.binomtest(count, TAIL_COUNT, 2 * stats.norm.sf(threshold)).pvalue
        for threshold, count in counts.items()
    }


@pytest.mark.parametrize(
    ("name", "args"), [("normal", (0.0, 1.0)), ("trunc_normal", (0.0, 1.0, -100.0, 100.0))]
)
def test_tails_of_2_to_the_28_samples(name: str, args: tuple[float, ...]) -> None:
    p_values = tail_p_values(tail_counts(name, args))
    assert min(p_values.values()) > SMALLEST_P, p_values


def test_truncation_leaves_nothing_outside_and_nothing_piled_up() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        out = fill.trunc_normal(torch.empty(1 << 20, dtype=dtype), 0, 1, -2, 2, key=KEY)
        assert out.min() >= -2
        assert out.max() <= 2
        # The value at each end stands for half a spacing of the dtype.
        half_spacing = 2 * torch.finfo(dtype).eps / 2
        expected = 2 * stats.truncnorm(-2, 2).pdf(2) * half_spacing * len(out)
        at_ends = int((out.abs() == 2).sum())
        assert stats.poisson.sf(at_ends - 1, expected + 1e-12) > SMALLEST_P


def test_sparse_chooses_rows_uniformly_and_independently() -> None:
    rows, columns, zeros = 64, 20_000, 16
    matrix = init.sparse_(torch.empty(rows, columns), zeros / rows, generator=Key(KEY))
    chosen = (matrix == 0).double()
    assert (chosen.sum(0) == zeros).all()
    # The rows' counts: negatively correlated, which the factor (rows - 1) / rows accounts for.
    share = zeros / rows
    scores = (chosen.sum(1) - columns * share) ** 2 / (columns * share * (1 - share))
    assert stats.chi2.sf(float(scores.sum()) * (rows - 1) / rows, rows - 1) > SMALLEST_P
    # Pairs of rows are chosen together as often as without replacement.
    together = (chosen @ chosen.T)[np.triu_indices(rows, 1)]
    p = share * (zeros - 1) / (rows - 1)
    z = (together - columns * p) / (columns * p * (1 - p)) ** 0.5
    assert stats.norm.sf(float(z.abs().max())) * 2 * len(z) > SMALLEST_P


if __name__ == "__main__":
    for case in DISTRIBUTIONS:
        for kind in DTYPES:
            values = [f"{test.__name__[5:]} {test(case, kind):.3f}" for test in TESTS]
            print(f"{case} {kind}: " + ", ".join(values))
    print(", ".join(f"bits {kind} {p_of_bits(kind):.3f}" for kind in DTYPES))
    for case, parameters in (("normal", (0.0, 1.0)), ("trunc_normal", (0.0, 1.0, -100.0, 100.0))):
        beyond_thresholds = tail_counts(case, parameters)
        for limit, p in tail_p_values(beyond_thresholds).items():
            exact_count = TAIL_COUNT * 2 * stats.norm.sf(limit)
            print(
                f"{case} 2^28 samples beyond {limit} sigma: {beyond_thresholds[limit]}, "
                f"expected {exact_count:.1f}, p {p:.3f}"
            )
