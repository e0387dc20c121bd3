"""Truncated normals of stream version 2: normals, drawn anew where they lie outside."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import reference
import torch
from dtypes import FLOATS
from numpy.typing import NDArray
from scipy import stats

import pyinit
from pyinit import _core, fill

KEY, STREAM = 0x0123456789ABCDEF, 77
COUNT = 100_003
INF = math.inf
FURTHER = 2**65  # from the words of elements to their further words
LEAST_INSIDE = 0.92
SMALLEST_P = 1e-4
Numbers = tuple[float, float, float, float]

at_threshold = stats.norm.ppf(0.96)  # which as many normals lie within as are worth drawing
SELDOM_CUT: list[Numbers] = [
    (0.0, 1.0, -2.0, 2.0),
    (1.0, 2.0, -3.0, 5.5),
    (0.5, 3.0, -INF, 5.0),
    (0.0, 0.02, -0.06, 0.05),
    (-7.0, 0.25, -7.4, INF),
    (0.0, 1.0, -at_threshold - 1e-6, at_threshold + 1e-6),
]
OFTEN_CUT: list[Numbers] = [
    (0.0, 1.0, -at_threshold + 1e-6, at_threshold - 1e-6),
    (0.0, 1.0, -1.0, 1.0),
    (0.0, 1.0, 0.0, INF),
    (0.0, 1.0, 2.0, 3.0),
    (0.0, 1.0, -30.0, -9.0),
    (5.0, 0.1, 0.0, 1.0),
    (0.0, 1.0, 0.5, 0.5),
    (0.0, 1e5, -1e-3, 1e-3),
]
NEVER_CUT: list[Numbers] = [
    (0.0, 0.02, -2.0, 2.0),
    (0.5, 2.0, -INF, INF),
    (0.5, 2.0, 0.5 - 2 * 9.1, 0.5 + 2 * 9.1),
    (1e4, 1e-4, 1e4 - 1, 1e4 + 1),
    (0.0, 1e-160, -2.0, 2.0),
]
numbers_seldom_cut = pytest.mark.parametrize("numbers", SELDOM_CUT, ids=str)
dtypes = pytest.mark.parametrize("dtype", FLOATS, ids=str)


def drawn(
    numbers: Numbers,
    dtype: torch.dtype,
    shape: tuple[int, ...] = (COUNT,),
    version: int = 2,
    **place: tuple[int, ...],
) -> torch.Tensor:
    out = torch.full(shape, torch.nan, dtype=dtype)
    with pyinit.rng("philox", version):
        return fill.trunc_normal(out, *numbers, key=KEY, stream=STREAM, **place)


def normal(numbers: Numbers, dtype: torch.dtype, count: int = COUNT) -> torch.Tensor:
    return fill.normal(torch.empty(count, dtype=dtype), *numbers[:2], key=KEY, stream=STREAM)


def limits(numbers: Numbers) -> tuple[float, float]:
    mean, std, low, high = numbers
    return (low - mean) / std, (high - mean) / std


def expected(numbers: Numbers, is_double: bool) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """In float64, and which elements are drawn anew."""
    mean, std, *_ = numbers
    alpha, beta = limits(numbers)
    z = reference.normal(KEY, STREAM, COUNT + 1, double=is_double)[:COUNT]
    if is_double:
        words = reference.double_words(KEY, STREAM, FURTHER // 2, COUNT)
        below, above = (((w >> np.uint64(11)) + 0.5) * 2.0**-53 for w in (words, ~words))
    else:
        words = reference.words(KEY, STREAM, FURTHER, COUNT)
        below, above = (((w >> np.uint32(1)) + 0.5) * 2.0**-31 for w in (words, ~words))
    outside = (z < alpha) | (z > beta)
    return mean + std * np.where(
        outside, reference.truncated_normal(below, above, alpha, beta), z
    ), outside


def words_of(key: int, stream: int, block: int) -> tuple[int, ...]:
    counter = [block & 0xFFFFFFFF, block >> 32, stream & 0xFFFFFFFF, stream >> 32]
    return _core.philox4x32(counter, [key & 0xFFFFFFFF, key >> 32])


def test_further_words_are_those_of_the_same_block_with_the_counters_top_bit() -> None:
    for index in (0, 5, 2**34 + 1):
        word = reference.words(KEY, STREAM, index + FURTHER, 1)[0]
        assert word == words_of(KEY, STREAM, index // 4 + 2**63)[index % 4]


@dtypes
@numbers_seldom_cut
def test_elements_are_those_of_the_definition(
    isa: str, numbers: Numbers, dtype: torch.dtype
) -> None:
    """Computed in float64 by other functions: within the errors of the elementary functions."""
    got = drawn(numbers, dtype).double().numpy()
    exact, outside = expected(numbers, dtype == torch.float64)
    mean, std, low, high = numbers
    assert 0 < outside.mean() <= 1 - LEAST_INSIDE + 0.01
    assert low <= got.min() <= got.max() <= high
    unit = torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps
    # Normals near 0 are the logarithm of a number near 1.
    lanes = std * np.where(outside, 64 * unit, 1e-14 if dtype == torch.float64 else 2e-5)
    rounding = torch.finfo(dtype).eps * (np.abs(exact) + abs(mean))
    assert (np.abs(got - exact) <= lanes + rounding).all()


@dtypes
@numbers_seldom_cut
def test_normals_within_the_bounds_are_those_of_normal(
    isa: str, numbers: Numbers, dtype: torch.dtype
) -> None:
    got, normals = drawn(numbers, dtype), normal(numbers, dtype)
    _, outside = expected(numbers, dtype == torch.float64)
    alpha, beta = limits(numbers)
    z = reference.normal(KEY, STREAM, COUNT + 1, double=dtype == torch.float64)[:COUNT]
    is_clear = torch.from_numpy((np.abs(z - alpha) > 1e-4) & (np.abs(z - beta) > 1e-4))
    kept = is_clear & ~torch.from_numpy(outside)
    low, high = (torch.tensor(x, dtype=torch.float64).clamp(-1e300, 1e300) for x in numbers[2:])
    is_within = (normals.double() >= low) & (normals.double() <= high)
    assert torch.equal(got[kept & is_within], normals[kept & is_within])
    anew = is_clear & torch.from_numpy(outside)
    assert (got[anew] != normals[anew]).double().mean() > 0.99


@dtypes
@pytest.mark.parametrize("numbers", NEVER_CUT, ids=str)
def test_without_cuts_all_are_those_of_normal(
    isa: str, numbers: Numbers, dtype: torch.dtype
) -> None:
    assert torch.equal(drawn(numbers, dtype), normal(numbers, dtype))


@dtypes
def test_all_that_no_normal_reaches_are_alike(isa: str, dtype: torch.dtype) -> None:
    """Whether the kernel compares, or knows that there is nothing to compare with."""
    count = 1 << 20
    by_comparison, by_knowledge = (
        drawn((0.0, 1.0, -end, end), dtype, (count,)) for end in (6.9, 9.5)
    )
    assert torch.equal(by_comparison, by_knowledge)
    assert torch.equal(by_comparison, normal((0.0, 1.0, 0.0, 0.0), dtype, count))


@dtypes
@pytest.mark.parametrize("numbers", OFTEN_CUT, ids=str)
def test_narrow_bounds_have_the_numbers_of_version_1(
    isa: str, numbers: Numbers, dtype: torch.dtype
) -> None:
    assert torch.equal(drawn(numbers, dtype), drawn(numbers, dtype, version=1))


@dtypes
@pytest.mark.parametrize("numbers", [*SELDOM_CUT, *NEVER_CUT[:3]], ids=str)
def test_wide_bounds_have_other_numbers_than_in_version_1(
    numbers: Numbers, dtype: torch.dtype
) -> None:
    old, new = drawn(numbers, dtype, version=1), drawn(numbers, dtype)
    assert (old == new).double().mean() < 0.1


@pytest.mark.parametrize("numbers", [(0.0, 1e39, -INF, INF), (1e38, 2e38, -INF, INF)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_parameters_beyond_the_lanes_have_the_numbers_of_version_1(
    numbers: Numbers, dtype: torch.dtype
) -> None:
    assert torch.equal(drawn(numbers, dtype), drawn(numbers, dtype, version=1))


# ---- The same element wherever it is ---------------------------------------------------------------


@dtypes
@pytest.mark.parametrize("numbers", [SELDOM_CUT[0], SELDOM_CUT[2], SELDOM_CUT[5]], ids=str)
def test_a_block_holds_what_the_whole_does(isa: str, numbers: Numbers, dtype: torch.dtype) -> None:
    whole = drawn(numbers, dtype, (5000,))
    for count in (*range(1, 70), 127, 128, 129, 1000, 1023, 1024, 1025, 2047, 4000):
        for start in (0, 1, 2, 3, 5, 63, 64, 127, 777, 1000):
            piece = drawn(numbers, dtype, (count,), whole=(5000,), start=(start,))
            assert torch.equal(piece, whole[start : start + count]), (count, start)


@dtypes
@pytest.mark.parametrize("width", [1, 3, 4, 9, 63, 64, 130, 700, 1100, 2100])
def test_rows_of_a_block_hold_what_those_of_the_whole_do(
    isa: str, width: int, dtype: torch.dtype
) -> None:
    numbers, whole = SELDOM_CUT[0], (41, 2117)
    table = drawn(numbers, dtype, whole)
    for row, column in ((0, 0), (3, 5), (9, 17)):
        block = drawn(numbers, dtype, (30, width), whole=whole, start=(row, column))
        assert torch.equal(block, table[row : row + 30, column : column + width])


@dtypes
def test_strides_and_threads_make_no_difference(
    isa: str, dtype: torch.dtype, set_threads: Callable[[int], None]
) -> None:
    set_threads(1)
    numbers, shape = SELDOM_CUT[0], (301, 5, 211)
    plain = drawn(numbers, dtype, shape)
    for threads in (1, 2, 5):
        set_threads(threads)
        assert torch.equal(drawn(numbers, dtype, shape), plain)
        for order in ((0, 2, 1), (2, 1, 0), (1, 0, 2)):
            strided = torch.empty([shape[d] for d in order], dtype=dtype)
            strided = strided.permute(*np.argsort(order).tolist())
            assert strided.shape == shape
            assert torch.equal(fill.trunc_normal(strided, *numbers, key=KEY, stream=STREAM), plain)
        gaps = torch.empty(301, 5, 422, dtype=dtype)[:, :, ::2]
        assert torch.equal(fill.trunc_normal(gaps, *numbers, key=KEY, stream=STREAM), plain)


def test_the_last_index_is_reached(isa: str) -> None:
    """Where counters are largest, words and further words are still apart."""
    for dtype, one in ((torch.float32, 4), (torch.float64, 2)):
        first = 2**62 - 1000
        got = drawn(SELDOM_CUT[0], dtype, (1000,), whole=(2**62,), start=(first,))
        z = fill.normal(
            torch.empty(1000, dtype=dtype), key=KEY, stream=STREAM, whole=(2**62,), start=(first,)
        )
        outside = (z.abs() > 2).nonzero().flatten().tolist()
        for i in outside:
            block = words_of(KEY, STREAM, (first + i) // one + 2**63)
            at = (first + i) % one
            below = (
                ((block[at] >> 1) + 0.5) * 2.0**-31
                if dtype == torch.float32
                else (((block[2 * at] | block[2 * at + 1] << 32) >> 11) + 0.5) * 2.0**-53
            )
            assert got[i].item() == pytest.approx(stats.truncnorm(-2, 2).ppf(below), abs=1e-5)
        assert len(outside) > 10


# ---- Bounds ----------------------------------------------------------------------------------------


@dtypes
@pytest.mark.parametrize("ends", [(-2.0, 2.0), (-2.0001, 1.9999), (-1.8, 1.801)], ids=str)
def test_nothing_is_outside_and_nothing_piled_up(
    isa: str, ends: tuple[float, float], dtype: torch.dtype
) -> None:
    got = drawn((0.0, 1.0, *ends), dtype, (1 << 19,)).double()
    assert ends[0] <= got.min()
    assert got.max() <= ends[1]
    for end in ends:
        # The values at an end, and what is nearer to the last value inside than to the next.
        eps = torch.finfo(dtype).eps * 2
        near = int(((got - end).abs() < eps).sum())
        truncated = stats.truncnorm(*ends)
        width = abs(truncated.cdf(end + 1.6 * eps) - truncated.cdf(end - 1.6 * eps))
        assert stats.poisson.sf(near - 1, len(got) * width + 1e-12) > SMALLEST_P


def test_a_mean_with_few_digits_behind_it_keeps_its_distribution() -> None:
    """All values are a few steps of the dtype apart, and bounds lie between steps."""
    mean, std = 1000.0, 2e-4
    step = 2.0**-14
    low, high = mean - 1.7 * std, mean + 1.9 * std
    got = drawn((mean, std, low, high), torch.float32, (1 << 20,)).double().numpy()
    assert low <= got.min() <= got.max() <= high
    values = np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step
    edges = np.concatenate([[low], (values[1:] + values[:-1]) / 2, [high]])
    exact = np.diff(stats.truncnorm(-1.7, 1.9, mean, std).cdf(edges))
    counts = np.array([(got == value).sum() for value in values])
    assert counts.sum() == len(got)
    assert stats.chisquare(counts, exact * len(got)).pvalue > SMALLEST_P


def test_bounds_beyond_the_dtype_leave_its_largest_numbers() -> None:
    got = drawn((0.0, 4e4, -8e4, 8e4), torch.float16)
    assert got.isfinite().all()
    assert got.max() == -got.min() == 65504
    assert torch.equal(got, drawn((0.0, 4e4, -8e4, 8e4), torch.float32).clamp(-65504, 65504).half())


# ---- Distribution -----------------------------------------------------------------------------------

STATISTICAL: list[Numbers] = [
    *SELDOM_CUT,
    OFTEN_CUT[0],
    (0.0, 1.0, -3.0, 3.0),
    (0.0, 1.0, -2.5, 1.5),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("numbers", STATISTICAL, ids=str)
def test_all_of_them_and_both_kinds_have_the_distribution(
    numbers: Numbers, dtype: torch.dtype
) -> None:
    mean, std, *_ = numbers
    exact = stats.truncnorm(*limits(numbers), mean, std)
    got = drawn(numbers, dtype, (1 << 20,)).double().numpy()
    assert stats.kstest(got, exact.cdf).pvalue > SMALLEST_P
    counts = np.histogram(exact.cdf(got), 1024, (0, 1))[0]
    assert stats.chisquare(counts).pvalue > SMALLEST_P
    anew = got != normal(numbers, dtype, 1 << 20).double().numpy()
    assert stats.kstest(got[anew], exact.cdf).pvalue > SMALLEST_P
    if numbers in SELDOM_CUT:
        assert stats.kstest(got[~anew], exact.cdf).pvalue > SMALLEST_P


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("numbers", SELDOM_CUT[:3], ids=str)
def test_elements_drawn_anew_depend_on_nothing_around_them(
    numbers: Numbers, dtype: torch.dtype
) -> None:
    """Not on neighbours, the other element of a pair included, nor on each other, nor on what was refused."""
    count = 1 << 20
    mean, std, *_ = numbers
    exact = stats.truncnorm(*limits(numbers), mean, std)
    got = drawn(numbers, dtype, (count,)).double().numpy()
    normals = normal(numbers, dtype, count).double().numpy()
    anew = np.flatnonzero(got != normals)
    anew = anew[(anew >= 8) & (anew < count - 8)]
    u = exact.cdf(got)
    others = {
        "refused": stats.norm(mean, std).cdf(normals[anew]),
        "pair": u[anew ^ 1],
        **{f"at distance {d}": u[anew + d] for d in (-8, -4, -3, -2, -1, 1, 2, 3, 4, 8)},
        "next drawn anew": np.roll(u[anew], 1),
    }
    for name, other in others.items():
        p = stats.spearmanr(u[anew], other).pvalue
        assert p > SMALLEST_P / len(others), name
        table, *_ = np.histogram2d(u[anew], stats.rankdata(other), (8, 8))
        assert stats.chi2_contingency(table).pvalue > SMALLEST_P / len(others), name


def test_keys_and_streams_draw_anew_independently() -> None:
    numbers = SELDOM_CUT[0]
    base = drawn(numbers, torch.float32)
    anew = (normal(numbers, torch.float32).abs() > 2).numpy()
    for key, stream in ((KEY + 1, STREAM), (KEY, STREAM + 1)):
        other = fill.trunc_normal(torch.empty(COUNT), *numbers, key=key, stream=stream)
        assert stats.spearmanr(base[anew], other[anew]).pvalue > SMALLEST_P


# ---- Versions ---------------------------------------------------------------------------------------


def test_the_version_in_force_is_that_of_every_way_to_draw() -> None:
    def all_ways() -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(3)
        weight = torch.empty(64, 64)
        layer = torch.nn.Linear(64, 64, bias=False)
        pyinit.initialize_(
            layer, rules={"*": pyinit.initializers.TruncNormal(0.0, 1.0, -2.0, 2.0)}, seed=KEY
        )
        key = int(torch.empty((), dtype=torch.int64).random_(-(2**63), None, generator=generator))
        generator.manual_seed(3)
        pyinit.trunc_normal_(weight, generator=generator)
        keyed = fill.trunc_normal(torch.empty(64, 64), key=key % 2**64)
        assert torch.equal(weight, keyed)
        return [weight, layer.weight.detach().clone()]

    latest = all_ways()
    with pyinit.rng("philox", version=1):
        first = all_ways()
    pyinit.set_rng("philox", version=1)
    assert all(map(torch.equal, first, all_ways()))
    with pyinit.rng("philox"):
        assert all(map(torch.equal, first, all_ways()))
    with pyinit.rng("philox", version=2):
        assert all(map(torch.equal, latest, all_ways()))
    pyinit.set_rng("philox")
    assert all(map(torch.equal, first, all_ways()))
    pyinit.set_rng("philox", version=2)
    assert all(map(torch.equal, latest, all_ways()))
    assert not any(map(torch.equal, latest, first))


@pytest.mark.parametrize("version", [0, 3, -1, "1", True, 1.5])
def test_unknown_versions_are_refused(version: object) -> None:
    for choose in (pyinit.rng, pyinit.set_rng):
        with pytest.raises(ValueError, match=r"version must be one of 1, 2, got"):
            choose("philox", version)
    assert torch.equal(drawn(SELDOM_CUT[0], torch.float32), drawn(SELDOM_CUT[0], torch.float32))


def test_torchs_own_numbers_have_no_version() -> None:
    results = []
    for version in (1, 2):
        torch.manual_seed(5)
        with pyinit.rng("torch", version):
            results.append(pyinit.trunc_normal_(torch.empty(1000)))
    torch.manual_seed(5)
    assert torch.equal(results[0], torch.nn.init.trunc_normal_(torch.empty(1000)))
    assert torch.equal(*results)
