"""``_core.copy_checked``: copies that tell whether all of it is finite."""

import math

import pytest
import torch

from pyinit import _core
from pyinit._torch.views import DTYPES, view_of

COUNTS = [0, 1, 7, 31, 64, 1000, 4099, (1 << 20) + 13, (5 << 20) + 3]


def copied(source: torch.Tensor, target: torch.Tensor, threads: int = 2) -> bool:
    return _core.copy_checked(source.data_ptr(), view_of(target), threads)


def numbers(count: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(count)).to(dtype)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_copies_every_bit_and_nothing_around(dtype: torch.dtype, count: int, isa: str) -> None:
    for offset in (0, 1, 5):  # of the target from a border of vectors
        source = numbers(count, dtype)
        whole = torch.full((count + 16,), math.nan, dtype=dtype)
        assert copied(source, whole[offset : offset + count])
        assert torch.equal(whole[offset : offset + count], source)
        assert whole[:offset].isnan().all()
        assert whole[offset + count :].isnan().all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_tells_of_one_value_anywhere(dtype: torch.dtype, bad: float, isa: str) -> None:
    count = 1003
    for place_of_it in (0, 1, 2, 15, 16, 500, 501, 1001, 1002):
        source = numbers(count, dtype)
        source[place_of_it] = bad
        target = torch.empty_like(source)
        for threads in (1, 3):
            assert not copied(source, target, threads)
        assert torch.equal(target.nan_to_num(7.0), source.nan_to_num(7.0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_largest_and_the_smallest_numbers_are_finite(dtype: torch.dtype, isa: str) -> None:
    limits = torch.finfo(dtype)
    source = torch.tensor(
        [limits.max, limits.min, limits.tiny, limits.smallest_normal / 2, 0.0, -0.0] * 9,
        dtype=dtype,
    )
    target = torch.empty_like(source)
    assert copied(source, target)
    assert torch.equal(target, source)
