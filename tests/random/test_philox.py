"""The word stream is Philox4x32-10, and elements are the documented functions of its words."""

from collections.abc import Callable

import numpy as np
import pytest
import reference
import torch

import pyinit
from pyinit import _core, fill

KEY, STREAM = 0x0123456789ABCDEF, 0xFEDCBA9876543210

# Random123's kat_vectors for philox4x32 10: counter, key, result.
RANDOM123 = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (
        (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), RANDOM123)
def test_a_block_is_random123s(
    counter: tuple[int, ...], key: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    assert _core.philox4x32(counter, key) == expected


@pytest.mark.parametrize("start", [0, 1, 7, 2**34 - 6, 2**63 - 40])
def test_words_follow_the_documented_counter_and_key_order(start: int) -> None:
    got = _core.philox_words(KEY, STREAM, start, 25)
    np.testing.assert_array_equal(got, reference.words(KEY, STREAM, start, 25))


def drawn(
    function: Callable[..., torch.Tensor], dtype: torch.dtype, count: int, *args: float
) -> np.ndarray:
    out = torch.full((count,), torch.nan, dtype=dtype)
    return function(out, *args, key=KEY, stream=STREAM).numpy()


COUNT = 100_003


def test_uniform_float32_takes_24_bits_of_one_word(isa: str) -> None:
    expected = (reference.words(KEY, STREAM, 0, COUNT) >> np.uint32(8)) * 2.0**-24
    np.testing.assert_array_equal(drawn(fill.uniform, torch.float32, COUNT), expected)


def test_uniform_float64_takes_53_bits_of_two_words(isa: str) -> None:
    expected = (reference.double_words(KEY, STREAM, 0, COUNT) >> np.uint64(11)) * 2.0**-53
    np.testing.assert_array_equal(drawn(fill.uniform, torch.float64, COUNT), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bernoulli_compares_the_word(isa: str, dtype: torch.dtype) -> None:
    w = (
        reference.words(KEY, STREAM, 0, COUNT) / 2.0**32
        if dtype is torch.float32
        else reference.double_words(KEY, STREAM, 0, COUNT) / 2.0**64
    )
    np.testing.assert_array_equal(drawn(fill.bernoulli, dtype, COUNT, 0.3), w < 0.3)


@pytest.mark.parametrize(
    ("dtype", "epsilon"), [(torch.float32, 2.0**-24), (torch.float64, 2.0**-53)]
)
def test_normal_is_box_muller_of_word_pairs(isa: str, dtype: torch.dtype, epsilon: float) -> None:
    expected = reference.normal(KEY, STREAM, COUNT + 1, double=dtype is torch.float64)
    got = drawn(fill.normal, dtype, COUNT)
    radius = np.repeat(np.hypot(expected[0::2], expected[1::2]), 2)[:COUNT]
    # Rounding u1 by epsilon moves the radius by epsilon / radius; the rest is a few roundings of it.
    slack = epsilon * (8 * radius + 1 / np.maximum(radius, epsilon**0.5))
    assert (np.abs(got - expected[:COUNT]) <= slack).all()


# The interval in standard deviations; right, left and two-sided, near and beyond the tails' border.
INTERVALS = [
    (-2.0, 2.0),
    (-100.0, 100.0),
    (-np.inf, np.inf),
    (-1.5, 0.25),
    (-0.001, 0.001),
    (-0.001, 5.0),
    (1.0, np.inf),
    (2.0, 3.0),
    (-7.5, -6.0),
    (7.9, 9.0),
    (8.0, 12.0),
    (-np.inf, -8.1),
    (-30.0, -9.0),
    (24.9, 26.0),
    (25.0, 30.0),
    (1000.0, 1001.0),
    (0.0, 0.5),
    (-0.5, 0.0),
]


def fractions(dtype: torch.dtype) -> tuple[np.ndarray, np.ndarray]:
    """How far each word lies from zero and from the largest word, in the steps of the dtype."""
    if dtype is torch.float32:
        steps, bits = reference.words(KEY, STREAM, 0, COUNT) >> np.uint32(1), 31
    else:
        steps, bits = reference.double_words(KEY, STREAM, 0, COUNT) >> np.uint64(11), 53
    return (steps + 0.5) * 2.0**-bits, (steps.dtype.type(2**bits - 1) - steps + 0.5) * 2.0**-bits


# What scipy's ndtri_exp reaches in float64: little near the median, and far out.
REFERENCE_LIMITS = {(-0.001, 0.001): 2e-13, (1000.0, 1001.0): 1e-12}


@pytest.mark.parametrize("interval", INTERVALS, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 4e-7), (torch.float64, 3e-15)])
def test_trunc_normal_is_the_inverse_cdf(
    isa: str, interval: tuple[float, float], dtype: torch.dtype, tolerance: float
) -> None:
    low, high = interval
    expected = np.clip(reference.truncated_normal(*fractions(dtype), low, high), low, high)
    with pyinit.rng("philox", version=1):  # in version 2, where bounds are narrow
        got = drawn(fill.trunc_normal, dtype, COUNT, 0.0, 1.0, low, high).astype(np.float64)
    error = np.abs(got - expected) / np.maximum(np.abs(expected), min(1.0, high - low))
    assert error.max() <= max(tolerance, REFERENCE_LIMITS.get(interval, 0.0))
    assert got.min() >= low
    assert got.max() <= high
