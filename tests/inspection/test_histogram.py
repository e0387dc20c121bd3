"""Histograms of outputs."""

import math

import pytest
import torch

from pyinit.inspection.histogram import histogram

LAYOUTS = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.mT,
    "channels last": lambda x: x.to(memory_format=torch.channels_last),
    "with gaps": lambda x: x[..., ::2],
    "expanded": lambda x: x[:1].expand(5, -1, -1, -1),
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_of_few_values_all_are_counted(layout: str, dtype: torch.dtype) -> None:
    x = LAYOUTS[layout](torch.randn(4, 5, 6, 8).to(dtype))
    found = histogram(x)
    assert found is not None
    low, high = x.min().item(), x.max().item()
    expected = torch.histogram(x.double().flatten(), 40, range=(low, high)).hist
    assert (found.low, found.high) == (low, high)
    assert sum(found.counts) == x.numel()
    moved = sum(abs(a - b) for a, b in zip(found.counts, expected.tolist(), strict=True))
    assert moved <= 0.02 * x.numel()  # values at the ends of bins are rounded to either


@pytest.mark.parametrize("layout", LAYOUTS)
def test_of_many_values_a_sample_has_their_distribution(layout: str) -> None:
    x = LAYOUTS[layout](torch.randn(8, 16, 64, 64))
    found = histogram(x)
    assert found is not None
    assert sum(found.counts) == 8192
    middles = found.low + (torch.arange(40) + 0.5) * (found.high - found.low) / 40
    shares = torch.tensor(found.counts) / 8192
    mean = (middles * shares).sum().item()
    std = ((middles - mean).square() * shares).sum().sqrt().item()
    assert abs(mean) < 0.05
    assert std == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("units", [8, 100, 512, 1000, 4096])
def test_the_sample_meets_all_units(units: int) -> None:
    each_its_own = torch.arange(units).float().expand(2**20 // units, -1)
    found = histogram(each_its_own.contiguous())
    assert found is not None
    bins = [count for count in found.counts if count]
    assert len(bins) == min(units, 40)
    assert max(bins) < 2 * min(bins) or units == 100  # 2 or 3 units a bin


def test_what_is_not_finite_is_left_out() -> None:
    found = histogram(torch.tensor([math.nan, 1.0, math.inf, 3.0, -math.inf]))
    assert found is not None
    assert (found.low, found.high, sum(found.counts)) == (1.0, 3.0, 2)
    assert histogram(torch.tensor([math.nan, math.inf])) is None
    assert histogram(torch.empty(0, 3)) is None


@pytest.mark.parametrize("value", [0.0, -2.5, 2.0**100])
def test_equal_values_have_one_bin(value: float) -> None:
    assert histogram(torch.full((3, 4), value)) == (value, value, (12,))


def test_extreme_values_are_no_error() -> None:
    x = torch.tensor([-1.7e308, 1.7e308, 0.0], dtype=torch.float64)
    found = histogram(x)
    assert found is not None
    assert sum(found.counts) == 3
    tiny = histogram(torch.tensor([0.0, 5e-324], dtype=torch.float64))
    assert tiny is not None
    assert sum(tiny.counts) == 2


def test_generators_and_values_stay_as_they_are() -> None:
    x = torch.randn(300, 300)
    before, state = x.clone(), torch.get_rng_state()
    histogram(x)
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_range_near_the_least_number_of_float64_is_one_bin() -> None:
    found = histogram(torch.tensor([0.0, 1e-307], dtype=torch.float64))
    assert found is not None
    assert found.counts == (2,)
