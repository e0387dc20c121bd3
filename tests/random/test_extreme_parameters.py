"""Distributions whose parameters are so large or so small that products of them are beyond any float."""

import functools
import math

import mpmath
import pytest
import reference
import torch
from dtypes import FLOATS
from mpmath import mp, mpf

import pyinit
from pyinit import fill

KEY = 20
COUNT = 48
INF = math.inf
LARGEST = torch.finfo(torch.float64).max
VERY_FAR = 1e8  # upper tails go as exp(-x^2 / 2) there, but for a factor of 1 + O(x^-2)
Numbers = tuple[float, float, float, float]
versions = pytest.mark.parametrize("version", [1, 2])


def fractions(is_double: bool, first: int = 0) -> list[mpf]:
    """The probabilities at which elements are quantiles: the middles of steps of their words."""
    if is_double:
        words = reference.double_words(KEY, 0, first // 2, COUNT)
        return [(int(w >> 11) + mpf(0.5)) / 2**53 for w in words]
    return [(int(w >> 1) + mpf(0.5)) / 2**31 for w in reference.words(KEY, 0, first, COUNT)]


def upper_tail(x: mpf) -> mpf:
    if x == INF:
        return mpf(0)
    if x < 0:
        return 1 - upper_tail(-x)
    if x * x < 6 * mp.dps + 100:
        return mpmath.erfc(x / mpmath.sqrt(2)) / 2
    # mpmath takes no larger ones; the asymptotic series ends below the precision.
    term = total = mpf(1)
    k = 1
    while abs(term) > mpf(10) ** -mp.dps:
        term *= -k / (x * x)
        total += term
        k += 2
    return density(x) / x * total


def density(x: mpf) -> mpf:
    return mpmath.exp(-x * x / 2) / mpmath.sqrt(2 * mpmath.pi)


def quantile(p: mpf, low: mpf, high: mpf) -> mpf:
    """Of the standard normal cut to [low, high], by Newton's method on the logarithm of the upper tail."""
    if low < 0 and (high <= 0 or upper_tail(low) - p * (upper_tail(low) - upper_tail(high)) > 0.5):
        return -quantile(1 - p, -high, -low)
    if low > VERY_FAR:
        rest = mpmath.exp(-(high - low) * (high + low) / 2) if high < INF else mpf(0)
        twice = -2 * mpmath.log(1 - p + p * rest)
        return low + twice / (mpmath.sqrt(low * low + twice) + low)
    target = mpmath.log((1 - p) * upper_tail(low) + p * upper_tail(high))
    x = max(low, mpf(0))
    x = mpmath.sqrt(x * x + 2 * max(0, mpmath.log(upper_tail(x)) - target))
    for _ in range(400):
        tail = upper_tail(x)
        step = (mpmath.log(tail) - target) * tail / density(x)
        x += step
        if abs(step) <= abs(x) * mpf(10) ** (10 - mp.dps):
            return x
    raise AssertionError("Newton's method does not converge")


@functools.cache
def exact(numbers: Numbers, is_double: bool, version: int) -> list[mpf]:
    """What the elements are in exact arithmetic."""
    mean, std, low, high = map(mpf, numbers)
    if low == high:
        return [low] * COUNT
    narrow = std / (high - low) if max(-low, high) < INF else mpf(1)
    outside = max(low - mean, mean - high) / std
    # Enough for differences of what is nearly the same.
    lost = sum(int(mpmath.log10(max(x, 1))) for x in (narrow, outside, outside))
    with mp.workdps(40 + lost):
        alpha, beta = (low - mean) / std, (high - mean) / std
        if version == 2 and is_seldom_cut(numbers, alpha, beta, is_double):
            normals = reference.normal(KEY, 0, COUNT, double=is_double).tolist()
            anew = fractions(is_double, first=2**65)
            each = [
                z if alpha <= z <= beta else quantile(p, alpha, beta)
                for z, p in zip(normals, anew, strict=True)
            ]
            return [mean + std * z for z in each]
        return [mean + std * quantile(p, alpha, beta) for p in fractions(is_double)]


def is_seldom_cut(numbers: Numbers, alpha: mpf, beta: mpf, is_double: bool) -> bool:
    mean, std, *_ = numbers
    is_in_lanes = is_double or max(abs(mean), std) < 2.0**127
    return is_in_lanes and upper_tail(alpha) - upper_tail(beta) >= mpf(0.92)


def check(numbers: Numbers, dtype: torch.dtype, version: int) -> None:
    tensor = torch.full((COUNT,), torch.nan, dtype=dtype)
    with pyinit.rng("philox", version):
        got = fill.trunc_normal(tensor, *numbers, key=KEY).double().tolist()
    lanes = torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32)
    info, (low, high) = torch.finfo(dtype), numbers[2:]
    expected = exact(numbers, dtype == torch.float64, version)
    spread = max(expected) - min(expected)
    for x, y in zip(got, expected, strict=True):
        assert low <= x <= high
        if abs(y) > info.max and x in (math.copysign(INF, y), math.copysign(info.max, y)):
            continue
        # Distances from the near end of a narrow interval are known to half the digits of the lanes.
        slack = 4 * mpf(info.eps) * abs(y) + mpf(lanes.eps) ** 0.5 * spread
        assert abs(x - y) <= slack + mpf(info.smallest_normal) * info.eps, (x, y)


IN_DOUBLES: list[Numbers] = [
    # All of it at the mean.
    (0.1, 1e-160, -2.0, 2.0),
    (0.0, 1e-160, -2.0, 2.0),
    (0.0, 5e-324, -1.0, 1.0),
    (-3.0, 1e-310, -INF, INF),
    (0.0, 1e-160, 0.0, 1.0),
    (0.0, 1e-300, 0.0, INF),
    (1.0, 1e-170, -1.0, 1.0),
    # Bounds that are as good as none.
    (0.0, 1.0, -1.7e308, 2.0),
    (0.7, 1.0, -1.7e308, 1.7e308),
    (0.7, 1.0, -LARGEST, LARGEST),
    (0.7, 1.0, -INF, LARGEST),
    (0.7, 1e-3, -LARGEST, INF),
    # The mean outside: an exponential tail of scale std^2 / distance.
    (-1.0, 1e-155, 0.0, 1.0),
    (-1.0, 1e-160, 0.0, 1.0),
    (1.0, 1e-160, -1.0, 0.0),
    (-1e308, 1e152, 0.0, INF),
    (1e308, 1e152, -INF, 0.0),
    (1e308, 1e152, -LARGEST, 0.0),
    (-1.7e308, 3e152, 1e-5, 1.0),
    (-1.7e308, 1e154, 1.7e308, INF),
    (-1e-10, 1e-165, 0.0, 1.0),
    (-1e10, 1e-320, 3.0, 4.0),
    # Differences of bounds and mean beyond a double.
    (1e308, 1e308, -1.7e308, 1.7e308),
    (-1.7e308, 1e308, 1e308, 1.7e308),
    (-1.7e308, 1e307, 1.7e308, INF),
    (0.0, 1.7e308, -1.7e308, 1.7e308),
    (0.0, LARGEST, -LARGEST, LARGEST),
    # The same density everywhere.
    (0.0, 1e308, -1.0, 1.0),
    (0.0, 1.7e308, -1e-300, 1e-300),
    (0.0, 1e300, -1e-10, 2e-10),
    (-30.0, 1.0, 0.0, 1e-9),
    (30.0, 1.0, -1e-15, 0.0),
    (-25.0, 1.0, 0.0, 1e-20),
    (-30.0, 1.0, 0.0, 1e-3),
    # One number.
    (0.0, 1.0, 0.5, 0.5),
    (0.0, 1e-200, 0.5, 0.5),
    (0.5, 1e-200, 0.5, 0.5),
]
IN_FLOATS: list[Numbers] = [
    (0.1, 1e-160, -2.0, 2.0),
    (0.0, 1e-42, -2.0, 2.0),
    (0.7, 1.0, -1.7e308, 1.7e308),
    (0.5, 2.0, -INF, LARGEST),
    (-1.0, 1e-160, 0.0, 1.0),
    (-1e308, 1e152, 0.0, INF),
    (1e308, 1e152, -INF, 0.0),
    (-1e30, 1e12, 0.5, 1.0),
    (-1e39, 1e21, 0.0, 1.0),
    # Mean or standard deviation beyond the lanes.
    (0.0, 1e39, -2.0, 2.0),
    (0.0, 1e28, -2.0, 2.0),
    (0.0, 1e300, -2.0, 3.0),
    (-1e39, 1e39, -1.0, 1.0),
    (-1e300, 1e290, 0.0, 1.0),
    (-1e200, 1e101, 0.0, 3.0),
    (-1e45, 1e24, 0.0, INF),
    # The same density everywhere.
    (-8.0, 1.0, 0.0, 1e-8),
    (9.0, 1.0, -1e-4, 0.0),
    (-9.0, 1.0, 0.0, 1e-3),
    (0.0, 1.0, 0.5, 0.5),
]
BEYOND_HALVES: list[Numbers] = [
    (1e39, 1e38, -3e38, 3e38),
    (-1e39, 2e38, -3e38, 3e38),
    (0.0, 4e38, -3e38, 3e38),
    (0.0, 1e80, -3e38, 3e38),
    (0.0, 1e39, -INF, INF),
    (-1e41, 3e40, -1e39, 1.0),
    (1e41, 3e39, -3e38, 1e39),
]


@versions
@pytest.mark.parametrize("numbers", IN_DOUBLES, ids=str)
def test_truncated_normals_are_right_in_double(numbers: Numbers, version: int, isa: str) -> None:
    check(numbers, torch.float64, version)


@versions
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("numbers", IN_FLOATS, ids=str)
def test_truncated_normals_are_right_in_float(
    numbers: Numbers, dtype: torch.dtype, version: int, isa: str
) -> None:
    check(numbers, dtype, version)


@versions
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("numbers", BEYOND_HALVES, ids=str)
def test_truncated_normals_of_the_largest_floats_are_right(
    numbers: Numbers, dtype: torch.dtype, version: int, isa: str
) -> None:
    check(numbers, dtype, version)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("width", [1.0, 2.0**-100, 2.0**-110, 2.0**-126, 2.0**-140, 2.0**-147, 0.0])
def test_narrow_uniforms_are_uniform(width: float, dtype: torch.dtype, isa: str) -> None:
    double = dtype == torch.float64
    scale = 2.0**-890 if double else 1.0
    width = torch.tensor(width * scale, dtype=dtype).item()
    got = fill.uniform(torch.empty(COUNT, dtype=dtype), 0.0, width, key=KEY).double().tolist()
    smallest = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    for x, p in zip(got, fractions(double), strict=True):
        assert 0 <= x < width or x == width == 0
        assert abs(x - p * width) <= torch.finfo(dtype).eps * width + 1.5 * smallest


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_the_widest_uniforms_are_uniform(dtype: torch.dtype, isa: str) -> None:
    half = torch.finfo(dtype).max / 2
    got = fill.uniform(torch.empty(COUNT, dtype=dtype), -half, half, key=KEY).double().tolist()
    for x, p in zip(got, fractions(dtype == torch.float64), strict=True):
        assert abs(x - (2 * p - 1) * half) <= 2 * torch.finfo(dtype).eps * half


@pytest.mark.parametrize(
    ("numbers", "error"),
    [
        ((0.0, 0.0, -1.0, 1.0), ZeroDivisionError),
        ((0.0, 1.0, math.nan, 1.0), RuntimeError),
        ((0.0, 1.0, 1.0, math.nan), RuntimeError),
        ((0.0, 1.0, 2.0, 1.0), RuntimeError),
        ((math.nan, 1.0, -1.0, 1.0), ValueError),
        ((INF, 1.0, -1.0, 1.0), ValueError),
        ((0.0, math.nan, -1.0, 1.0), ValueError),
    ],
    ids=str,
)
def test_what_is_no_truncated_normal_is_refused(
    numbers: Numbers, error: type[Exception], isa: str
) -> None:
    tensor = torch.full((5,), 7.0)
    with pytest.raises(error):
        pyinit.trunc_normal_(tensor, *numbers)
    assert torch.equal(tensor, torch.full((5,), 7.0))


def test_a_uniform_wider_than_its_dtype_is_refused_as_torch_does() -> None:
    tensor = torch.full((5,), 7.0, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="uniform_ expects to-from") as theirs:
        torch.nn.init.uniform_(tensor, -1.7e308, 1.7e308)
    with pytest.raises(RuntimeError) as ours:
        pyinit.uniform_(tensor, -1.7e308, 1.7e308)
    assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("numbers", [(1e39, 1e39), (1e308, 1e39), (1e39, 1e308), (0.0, 1e-160)])
def test_torchs_own_numbers_are_torchs(numbers: tuple[float, float], dtype: torch.dtype) -> None:
    """Not those of other distributions, where torch's are NaN."""
    if dtype == torch.float32 and numbers[0] > 0:
        pytest.skip("torch refuses it")
    results = []
    for module, name in ((torch.nn.init, "philox"), (pyinit, "torch")):
        torch.manual_seed(3)
        with pyinit.rng(name):
            results.append(module.trunc_normal_(torch.empty(40, dtype=dtype), *numbers, -2.0, INF))
        results.append(torch.get_rng_state())
    torch.testing.assert_close(results[:2], results[2:], rtol=0, atol=0, equal_nan=True)
