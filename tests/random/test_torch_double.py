"""torch's normals in double have the bits of the C library's log, sine and cosine."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyinit import _core
from pyinit._torch.views import DTYPES

Steps = NDArray[np.uint64]  # of 2^-53
FUSED, SEPARATE = 1, 2  # the ways of rounding: codes of _core
WORDS = 608  # of a state of 624: 19 blocks of 16 numbers of two words
ONE = 2**53


def fill(
    state: Tensor, count: int, mean: float, std: float, arithmetic: int
) -> NDArray[np.float64]:
    filled = np.empty(count)
    view = (filled.ctypes.data, DTYPES[torch.float64], (count,), (1,))
    assert _core.torch_normal(view, mean, std, (state.data_ptr(), state.data_ptr()), arithmetic, 1)
    return filled


def untempered(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The words of MT19937's state that it gives out as these."""
    y = words ^ (words >> np.uint32(18))
    y = y ^ ((y << np.uint32(15)) & np.uint32(0xEFC60000))
    x = y
    for _ in range(4):
        x = y ^ ((x << np.uint32(7)) & np.uint32(0x9D2C5680))
    y = x
    for _ in range(2):
        x = y ^ (x >> np.uint32(11))
    return x


def state_that_draws(steps: Steps) -> Tensor:
    """The state of a generator whose next numbers are these many steps."""
    words = np.column_stack([steps >> np.uint64(32), steps & np.uint64(0xFFFFFFFF)]).ravel()
    assert len(words) == WORDS
    state = torch.Generator().get_state()
    raw = state.numpy()
    raw[8:12].view(np.int32)[0] = 1 + WORDS  # what is left
    raw[16:24].view(np.uint64)[0] = 624 - WORDS  # the next one
    raw[24 : 24 + 8 * 624].view(np.uint64)[-WORDS:] = untempered(words.astype(np.uint32))
    return state


def normals_of(first: Steps, second: Steps) -> NDArray[np.float64]:
    """What ``_core`` makes of pairs of numbers: rows of the two of a pair."""
    pairs = WORDS // 4
    padding = -len(first) % pairs
    made = []
    for a, b in zip(
        np.pad(first, (0, padding)).reshape(-1, pairs),
        np.pad(second, (0, padding)).reshape(-1, pairs),
        strict=True,
    ):
        steps = np.stack([a.reshape(-1, 8), b.reshape(-1, 8)], axis=1).ravel()
        blocks = fill(state_that_draws(steps), len(steps), 0.0, 1.0, FUSED).reshape(-1, 2, 8)
        made.append(blocks.transpose(0, 2, 1).reshape(-1, 2))
    return np.concatenate(made)[: len(first)]


def normals_of_libm(first: Steps, second: Steps) -> NDArray[np.float64]:
    """The same by the functions of the C library, which are those of ``math``."""
    rows = []
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        radius = math.sqrt(-2.0 * math.log(1.0 - a / ONE))
        theta = 2.0 * math.pi * (b / ONE)
        # Times one, plus zero: no negative zero.
        rows.append((radius * math.cos(theta) + 0.0, radius * math.sin(theta) + 0.0))
    return np.array(rows)


def assert_same_bits(got: NDArray[np.float64], wanted: NDArray[np.float64]) -> None:
    np.testing.assert_array_equal(got.view(np.uint64), wanted.view(np.uint64))


def test_random_numbers(isa: str) -> None:
    count = 1 << 19
    generator = torch.Generator().manual_seed(53)
    state = generator.get_state()
    fractions = torch.empty(count, dtype=torch.float64).uniform_(generator=generator).numpy()
    steps = (fractions * ONE).astype(np.uint64).reshape(-1, 2, 8)
    got = fill(state, count, 0.0, 1.0, FUSED).reshape(-1, 2, 8)
    wanted = normals_of_libm(steps[:, 0].ravel(), steps[:, 1].ravel())
    assert_same_bits(got.transpose(0, 2, 1).reshape(-1, 2), wanted)
    assert torch.equal(state, generator.get_state())


def test_numbers_at_borders(isa: str) -> None:
    """Of quadrants, table rows and binades, and where logarithm, sine or cosine vanish."""
    near = np.arange(-4, 5)
    rows = np.arange(0, ONE + 1, ONE // 512)
    powers = 2 ** np.arange(53)
    mantissas = np.arange(128, 256) << 45
    steps = np.concatenate(
        [
            np.arange(2000),
            ONE - 1 - np.arange(2000),
            (rows[:, None] + near).ravel(),
            (powers[:, None] + near).ravel(),
            (ONE - powers[:, None] + near).ravel(),
            (ONE - (mantissas[:, None] >> np.arange(0, 46, 3))).ravel(),
        ]
    )
    steps = steps[(steps >= 0) & (steps < ONE)].astype(np.uint64)
    others = np.random.default_rng(8).permutation(steps)
    assert_same_bits(normals_of(steps, others), normals_of_libm(steps, others))
    assert_same_bits(normals_of(others, steps), normals_of_libm(others, steps))


@pytest.mark.parametrize(("mean", "std"), [(0.3, 0.02), (-1e3, 1e-9), (0.1, 3.0)])
def test_mean_and_std(isa: str, mean: float, std: float) -> None:
    count = 2000
    state = torch.Generator().manual_seed(7).get_state()
    z = fill(state.clone(), count, 0.0, 1.0, FUSED)
    assert_same_bits(fill(state.clone(), count, mean, std, SEPARATE), z * std + mean)
    exact = [Fraction(x) * Fraction(std) + Fraction(mean) for x in z.tolist()]
    assert_same_bits(
        fill(state.clone(), count, mean, std, FUSED), np.array([float(x) for x in exact])
    )


@pytest.mark.parametrize("count", [16, 17, 31, 112, 127, 128, 129, 136, 1000, 100_003])
def test_any_count(isa: str, count: int) -> None:
    """The last blocks are as few as it takes: each has the numbers of a longer fill."""
    state = torch.Generator().manual_seed(count).get_state()
    long, short = fill(state.clone(), 100_016, 0.0, 1.0, FUSED), fill(state, count, 0.0, 1.0, FUSED)
    whole = count // 16 * 16 if count % 16 == 0 else count - 16
    assert_same_bits(short[:whole], long[:whole])
