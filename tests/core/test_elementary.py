"""The elementary functions keep the errors stated in csrc/simd/math.hpp, over millions of points."""

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special

from pyinit import _core

# An 80-bit long double carries 11 bits more than a double: enough to measure its ulps.
Exact = NDArray[np.longdouble]
long_double = pytest.mark.skipif(
    np.finfo(np.longdouble).nmant < 63, reason="needs an 80-bit long double as reference"
)
TWO_PI = np.longdouble("6.283185307179586476925286766559")


def error_in_ulps(got: NDArray[np.floating], exact: Exact) -> float:
    ulp = np.spacing(np.abs(exact.astype(got.dtype))).astype(np.longdouble)
    return float(np.max(np.abs(got.astype(np.longdouble) - exact) / ulp))


def random_normal_numbers(dtype: type, count: int) -> NDArray[np.floating]:
    """Positive normal numbers, uniform over bit patterns."""
    rng = np.random.default_rng(1)
    info = np.finfo(dtype)
    bits = np.uint32 if dtype is np.float32 else np.uint64
    ends = np.array([info.tiny, info.max], dtype=dtype).view(bits)
    return rng.integers(ends[0], ends[1], count, dtype=bits, endpoint=True).view(dtype)


@long_double
@pytest.mark.parametrize(("dtype", "ulps"), [(np.float32, 1.1), (np.float64, 1.0)])
def test_log(isa: str, dtype: type, ulps: float) -> None:
    rng = np.random.default_rng(2)
    x = np.concatenate(
        [
            random_normal_numbers(dtype, 1_000_000),
            rng.uniform(0, 1, 1_000_000).astype(dtype),
            (1 + rng.uniform(-0.3, 0.45, 500_000)).astype(dtype),
            np.ones(1, dtype),
        ]
    )
    x = x[x > 0]
    assert error_in_ulps(_core.elementary("log", x), np.log(x.astype(np.longdouble))) <= ulps


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sqrt_is_correctly_rounded(isa: str, dtype: type) -> None:
    x = random_normal_numbers(dtype, 500_000)
    np.testing.assert_array_equal(_core.elementary("sqrt", x), np.sqrt(x))


@long_double
@pytest.mark.parametrize("name", ["sin", "cos"])
@pytest.mark.parametrize(("bits", "absolute"), [(32, 1.3e-7), (64, 2e-16)])
def test_sin_and_cos_of_a_turn(isa: str, name: str, bits: int, absolute: float) -> None:
    rng = np.random.default_rng(3)
    dtype = np.uint32 if bits == 32 else np.uint64
    octants = np.arange(8, dtype=np.uint64) << np.uint64(bits - 3)
    around = np.arange(-500, 500).astype(np.uint64)
    mask = np.uint64(2**bits - 1)
    w = np.concatenate(
        [
            rng.integers(0, 2**bits, 1_000_000, dtype=dtype),
            ((octants[:, None] + around) & mask).ravel().astype(dtype),
        ]
    )
    if bits == 64:  # 53 bits count: two for the quadrant, 51 below
        w &= ~np.uint64(0x7FF)
    exact = getattr(np, name)(w.astype(np.longdouble) * (TWO_PI / np.longdouble(2) ** bits))
    assert np.max(np.abs(_core.elementary(name, w) - exact)) <= absolute


def tail_probabilities(smallest: float, count: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(4)
    return np.concatenate(
        [
            rng.uniform(0, 0.5, count),
            np.exp(rng.uniform(np.log(smallest), np.log(0.5), count)),
            0.5 - np.exp(rng.uniform(np.log(1e-7), np.log(0.4), count)),
        ]
    )


def test_normal_quantile_float32(isa: str) -> None:
    p = tail_probabilities(2.0**-96, 1_000_000).astype(np.float32)
    p = p[p < 0.5]
    exact = special.ndtri(p.astype(np.float64))
    got = _core.elementary("normal_quantile", p).astype(np.float64)
    assert np.max(np.abs(got / exact - 1)) <= 4e-7


def test_normal_quantile_float64_against_scipy(isa: str) -> None:
    p = tail_probabilities(1e-300, 500_000)
    p = p[p < 0.5 - 1e-7]
    got = _core.elementary("normal_quantile", p)
    assert (
        np.max(np.abs(got / special.ndtri(p) - 1)) <= 4e-15
    )  # scipy's own error is 1e-15 and more


def test_normal_quantile_float64_against_mpmath() -> None:
    p = tail_probabilities(1e-300, 400)
    p = p[p < 0.5 - 1e-7]
    got = _core.elementary("normal_quantile", p)
    with mpmath.workdps(40):
        for probability, x in zip(p, got, strict=True):
            q = mpmath.mpf(probability)
            # The relative error of x is that of cdf(x) over x times the hazard.
            cdf = mpmath.ncdf(mpmath.mpf(x))
            error = (cdf - q) / (mpmath.npdf(x) * x)
            assert abs(error) <= 2e-15, (probability, x)


def test_both_halves_mirror(isa: str) -> None:
    p = np.arange(1, 4096, dtype=np.float64) / 8192  # 1 - p is exact
    for dtype in (np.float32, np.float64):
        low = _core.elementary("normal_quantile", p.astype(dtype))
        high = _core.elementary("normal_quantile", (1 - p).astype(dtype))
        np.testing.assert_array_equal(low, -high)


@pytest.mark.parametrize("name", ["log", "sqrt", "normal_quantile"])
def test_every_isa_gives_the_same_bits(name: str) -> None:
    usual = _core.isa()
    for dtype in (np.float32, np.float64):
        x = tail_probabilities(1e-30, 20_001).astype(dtype)
        results = []
        for isa in _core.available_isas():
            _core.set_isa(isa)
            results.append(_core.elementary(name, x).tobytes())
        _core.set_isa(usual)
        assert len(set(results)) == 1


def test_an_unknown_function_is_refused() -> None:
    with pytest.raises(ValueError, match="name: got 'tan'"):
        _core.elementary("tan", np.ones(3))
