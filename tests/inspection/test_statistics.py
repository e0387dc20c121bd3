"""Statistics of tensors, against NumPy's extended precision, and however the work is carried out."""

import math
from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from pyinit import _core
from pyinit.inspection.statistics import (
    Statistics,
    channel_moments,
    describe,
    describe_channels,
    describe_many,
    describe_units,
)

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
THREADS = (1, 2, 3, 7)
EVERYWHERE = (-math.inf, math.inf)

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x.contiguous(),
    "channels last": lambda x: x.movedim(1, -1).contiguous().movedim(-1, 1),
    "channels first of all": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "every second element": lambda x: torch.stack([x, torch.full_like(x, math.nan)], -1)[..., 0],
    "broadcast samples": lambda x: x[:1].expand(x.shape),
}


def drawn(
    shape: tuple[int, ...], dtype: torch.dtype, mean: float = 0.0, std: float = 1.0
) -> Tensor:
    """Skewed values, of which some are zeros."""
    x = torch.randn(shape, dtype=torch.float64).exp() * std + mean
    return torch.where(torch.rand(shape) < 0.1, 0.0, x).to(dtype)


def expected(tensor: Tensor, bounds: tuple[float, float]) -> Statistics:
    x = tensor.double().numpy().astype(np.longdouble).ravel()
    lane = np.float64 if tensor.dtype is torch.float64 else np.float32
    low, high = (float(lane(bound)) for bound in bounds)
    mean = x.mean()
    std = np.sqrt(((x - mean) ** 2).mean())
    z = (x - mean) / std if std > 0 else x * math.nan
    return Statistics(
        count=x.size,
        mean=float(mean),
        std=float(std),
        skewness=float((z**3).mean()),
        kurtosis=float((z**4).mean() - 3),
        min=float(x.min()),
        max=float(x.max()),
        zeros=int((x == 0).sum()),
        nonfinite=0,
        low=int((x <= low).sum()),
        high=int((x >= high).sum()),
    )


def check(found: Statistics, tensor: Tensor, bounds: tuple[float, float] = EVERYWHERE) -> None:
    right = expected(tensor, bounds)
    exact = ("count", "min", "max", "zeros", "nonfinite", "low", "high")
    assert {name: getattr(found, name) for name in exact} == {
        name: getattr(right, name) for name in exact
    }
    close = 1e-10 if tensor.dtype is torch.float64 else 1e-5
    assert found.mean == pytest.approx(right.mean, rel=close, abs=close * right.std)
    assert found.std == pytest.approx(right.std, rel=close)
    # The standard deviation enters three and four times.
    far = 3 * close * (right.kurtosis + 3)
    assert found.skewness == pytest.approx(right.skewness, abs=far, nan_ok=True)
    assert found.kurtosis == pytest.approx(right.kurtosis, abs=far, nan_ok=True)


@pytest.fixture
def every_way(set_threads: Callable[[int], None]) -> Iterator[Iterator[None]]:
    """Each instruction set that has a fused multiply-add, with several numbers of threads."""

    def ways() -> Iterator[None]:
        for isa, threads in product(_core.available_isas(), THREADS):
            if isa == "baseline":
                continue
            _core.set_isa(isa)
            set_threads(threads)
            yield

    usual = _core.isa()
    yield ways()
    _core.set_isa(usual)


@pytest.mark.parametrize("dtype", DTYPES)
def test_statistics_of_every_small_size_are_those_of_extended_precision(
    dtype: torch.dtype, isa: str
) -> None:
    for count in (*range(1, 80), 4095, 4096, 4097, 70_001):
        x = drawn((count,), dtype, mean=-1.0)
        check(describe(x, (-0.5, 0.75)), x, (-0.5, 0.75))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_statistics_of_any_layout(layout: str, dtype: torch.dtype, isa: str) -> None:
    x = LAYOUTS[layout](drawn((5, 33, 9, 11), dtype))
    check(describe(x, (0.5, 2.0)), x, (0.5, 2.0))


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [
        (torch.float32, 1e-44),
        (torch.float32, 1e-38),
        (torch.float32, 1e-25),
        (torch.float32, 1e18),
        (torch.float32, 1e25),
        (torch.float32, 3e38),
        (torch.bfloat16, 1e-30),
        (torch.bfloat16, 1e30),
        (torch.float16, 5e4),
        (torch.float64, 1e-70),
        (torch.float64, 1e70),
    ],
)
@pytest.mark.parametrize("count", [5, 33, 1000, 5000])
def test_no_power_overflows_or_fades_out(
    dtype: torch.dtype, scale: float, count: int, isa: str
) -> None:
    """Gradients that have all but vanished are what people look for."""
    x = ((torch.rand(count, dtype=torch.float64) ** 3 * 2 - 1) * scale).to(dtype)
    check(describe(x), x)
    column = x[:, None].expand(count, 3).contiguous()
    for found in describe_channels(column).statistics:
        check(found, x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_small_spread_about_a_large_mean_is_not_lost(dtype: torch.dtype, isa: str) -> None:
    x = torch.randn(30_001, dtype=torch.float64).mul(0.05).add(1e3).to(dtype)
    found, right = describe(x), expected(x, EVERYWHERE)
    assert found.std == pytest.approx(right.std, rel=1e-4)
    assert found.kurtosis == pytest.approx(right.kurtosis, abs=1e-3)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 31, 32, 4097, 9999])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_value_that_is_not_finite_is_counted_and_makes_all_moments_nan(
    dtype: torch.dtype, place: int, bad: float, isa: str
) -> None:
    x = torch.ones(10_000, dtype=dtype)
    x[[1, 40, 5000]] = 0
    x[place] = bad
    found = describe(x, (0.0, 1.0))
    assert (found.count, found.zeros, found.nonfinite) == (10_000, 3, 1)
    assert (found.low, found.high) == (3 + (bad == -math.inf), 10_000 - 4 + (bad == math.inf))
    moments = (found.mean, found.std, found.skewness, found.kurtosis, found.min, found.max)
    assert all(map(math.isnan, moments))
    by_channel = describe_channels(x.reshape(100, 100)).statistics
    assert [s.nonfinite for s in by_channel] == [int(c == place % 100) for c in range(100)]
    assert [math.isnan(s.mean) for s in by_channel] == [c == place % 100 for c in range(100)]


def test_moments_by_channel_are_those_of_each_channel() -> None:
    x = torch.randn(50, 4, 7, generator=torch.Generator().manual_seed(0)).exp()
    found, (moments, size, total) = describe_channels(x), channel_moments(x)
    assert total == found.total_variance
    for i, each in enumerate(found.statistics):
        wanted = [each.mean, each.std**2, each.skewness, each.kurtosis]
        assert moments[:, i].tolist() == pytest.approx(wanted, rel=1e-12)
        assert size[i] == max(-each.min, each.max)


@pytest.mark.parametrize("value", [0.1, -3.0, 0.0, 1e-30, 6e4])
def test_equal_values_have_no_spread_and_no_shape(value: float, isa: str) -> None:
    for x in (torch.full((5000,), value), torch.full((7, 13), value)):
        found = describe(x)
        assert (found.mean, found.std) == (x.flatten()[0].item(), 0.0)
        assert math.isnan(found.skewness)
        assert math.isnan(found.kurtosis)


def test_no_values_have_no_statistics() -> None:
    found = describe(torch.empty(3, 0))
    assert (found.count, found.zeros) == (0, 0)
    assert all(map(math.isnan, (found.mean, found.std, found.min, found.max)))
    empty = describe_channels(torch.empty(0, 3))
    assert [s.count for s in empty.statistics] == [0, 0, 0]
    assert describe_many([]) == []


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_bits_depend_on_neither_threads_nor_instruction_set(
    dtype: torch.dtype, every_way: Iterator[None]
) -> None:
    inputs = [
        layout(drawn(shape, dtype))
        for shape in ((300_001, 2), (8, 40, 25, 31), (70, 3, 2))
        for layout in LAYOUTS.values()
    ]
    expected = None
    for _ in every_way:
        found = (
            [repr(one) for one in describe_many(inputs, [(0.0, 1.0)] * len(inputs))],
            [repr(describe_channels(x, bounds=(0.0, 1.0))) for x in inputs],
        )
        expected = expected or found
        assert found == expected


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("places", [(1, 9), (9, 1), (5, 1), (3, 1), (13, 5), (2, 33)])
def test_the_sign_of_a_zero_at_the_end_of_the_range_is_the_same_everywhere(
    dtype: torch.dtype, places: tuple[int, int], every_way: Iterator[None]
) -> None:
    plus, minus = places
    x = torch.ones(64, dtype=dtype)
    x[plus], x[minus] = 0.0, -0.0
    assert len({(repr(describe(x).min), repr(describe(-x).max)) for _ in every_way}) == 1


def test_mean_std_and_range_have_the_bits_of_reports(isa: str) -> None:
    for dtype, count in product(DTYPES, (1, 31, 4097, 200_003)):
        x = drawn((count,), dtype)
        found = describe(x)
        view = (x.data_ptr(), DTYPES.index(dtype), (count,), (1,))
        (reported,) = _core.measure_many([view], 2)
        assert (found.mean, found.std, found.min, found.max) == reported


SHAPES = [
    (8, 3, 5, 7),
    (64, 100),
    (3, 17, 40, 40),
    (2, 1, 1, 1),
    (300, 5, 3),
    (1, 4, 9),
    (5, 1, 5000),
    (4, 33, 1),
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_channels_and_total_variance(
    dtype: torch.dtype, shape: tuple[int, ...], layout: str, isa: str
) -> None:
    x = LAYOUTS[layout](drawn(shape, dtype, mean=2.0))
    found = describe_channels(x, bounds=(1.0, 3.0))
    assert len(found.statistics) == shape[1]
    for channel, statistics in enumerate(found.statistics):
        check(statistics, x[:, channel], (1.0, 3.0))
    total = x.double().var(0, unbiased=False).sum().item()
    assert found.total_variance == pytest.approx(total, rel=1e-5, abs=1e-12)


def test_channels_of_a_sequence_are_its_last_dimension() -> None:
    x = drawn((4, 50, 24), torch.float32)
    found = describe_channels(x, channel=2, samples=2)
    for channel, statistics in enumerate(found.statistics):
        check(statistics, x[..., channel])
    assert found.total_variance == pytest.approx(
        x.double().flatten(0, 1).var(0, unbiased=False).sum().item(), rel=1e-5
    )


@pytest.mark.parametrize(
    "x",
    [
        drawn((40, 30), torch.float32).to_sparse(),
        torch.tensor([3, 0, -7, 2]),
        torch.tensor([True, False, True]),
        torch.nn.Parameter(torch.randn(5, 4)),
        torch.randn(5, 4).neg().requires_grad_().sigmoid(),
        torch._neg_view(torch.randn(33)),
    ],
    ids=["sparse", "int64", "bool", "parameter", "with a gradient", "negative view"],
)
def test_what_kernels_do_not_reach_has_the_same_statistics(x: Tensor) -> None:
    values = x.detach()
    dense = values.to_dense() if values.layout is torch.sparse_coo else values.clone()
    check(describe(x), dense.resolve_neg())


@pytest.mark.parametrize(
    "x", [torch.empty(3, 4, device="meta"), torch.ones(3, 4, dtype=torch.complex64)]
)
def test_tensors_without_real_values_are_refused(x: Tensor) -> None:
    with pytest.raises(ValueError, match="real tensors with values"):
        describe(x)
    with pytest.raises(ValueError, match="real tensors with values"):
        describe_channels(x)


@pytest.mark.parametrize(("channel", "samples"), [(0, 1), (2, 1), (1, 0), (1, 2), (-1, 1)])
def test_a_channel_that_is_no_dimension_is_refused(channel: int, samples: int) -> None:
    with pytest.raises(ValueError, match=r"got samples=.* and channel=.* for shape \(3, 4\)"):
        describe_channels(torch.ones(3, 4), channel, samples)


def test_statistics_of_all_units_are_those_of_the_whole_and_of_the_channels() -> None:
    tensor = torch.randn(6, 4, 5, generator=torch.Generator().manual_seed(0))
    tensor[:, 1] = 0
    tensor[:, 2] += 30
    whole, dead, total = describe_units(tensor, bounds=(-1.0, 1.0))
    assert dead.tolist() == [False, True, False, False]
    assert total == describe_channels(tensor).total_variance
    expected = describe(tensor, (-1.0, 1.0))
    for name, value in vars(expected).items():
        assert getattr(whole, name) == pytest.approx(value, rel=1e-6), name
    tensor[0, 0, 0] = torch.inf
    whole, _, _ = describe_units(tensor)
    assert whole.nonfinite == 1
    assert all(math.isnan(each) for each in (whole.mean, whole.std, whole.min, whole.max))


@pytest.mark.parametrize("scale", [2.0**-1000, 2.0**-530, 2.0**-330, 2.0**330, 2.0**530, 2.0**1000])
def test_moments_of_float64_beyond_the_range_of_their_powers(scale: float) -> None:
    x = torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = describe(x, (-1.0, 1.0))
    bounds = (-scale, scale)
    every = [describe(x * scale, bounds), describe_units(x * scale, bounds=bounds)[0]]
    for found in every:
        assert found.std / scale == pytest.approx(expected.std, rel=1e-12)
        assert found.mean / scale == pytest.approx(expected.mean, rel=1e-12)
        assert found.skewness == pytest.approx(expected.skewness, rel=1e-10)
        assert found.kurtosis == pytest.approx(expected.kurtosis, rel=1e-10)
        assert (found.min, found.max) == (expected.min * scale, expected.max * scale)
        assert (found.low, found.high) == (expected.low, expected.high)
    channels = describe_channels(x * scale).statistics
    for channel, one in zip(channels, describe_channels(x).statistics, strict=True):
        assert channel.std / scale == pytest.approx(one.std, rel=1e-12)


def test_the_least_and_the_greatest_number_of_float64_have_a_std() -> None:
    greatest = torch.finfo(torch.float64).max
    assert describe(torch.tensor([greatest, -greatest], dtype=torch.float64)).std == greatest
    least = torch.tensor([0.0, 5e-324], dtype=torch.float64)
    assert describe(least).kurtosis == pytest.approx(-2)


@pytest.mark.parametrize("shape", [(4, 0), (4, 0, 3), (0, 0)])
def test_no_channels_have_units_without_values(shape: tuple[int, ...]) -> None:
    found, all_zero, total_variance = describe_units(torch.zeros(shape))
    assert (found.count, len(all_zero), total_variance) == (0, 0, 0.0)
    assert math.isnan(found.mean)
