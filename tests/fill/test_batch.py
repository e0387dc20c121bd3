"""Many fills in one native call: the bits of one call each, and the moments of what they wrote."""

import math
from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
import pytest
import torch
from bits import same_bits
from poison import poisoned_like
from torch import Tensor

from pyinit import _core, fill
from pyinit._torch.views import DTYPES, View, writable_view

Moments = tuple[float, float, float, float] | None

THREADS = (1, 2, 3, 7)
LARGE = (1 << 20) + 3

TENSORS: dict[str, Callable[[torch.dtype], Tensor]] = {
    "no elements": lambda dtype: torch.empty(3, 0, 2, dtype=dtype),
    "no dimensions": lambda dtype: torch.empty((), dtype=dtype),
    "one element": lambda dtype: torch.empty(1, 1, 1, dtype=dtype),
    "a few": lambda dtype: torch.empty(17, dtype=dtype),
    "odd": lambda dtype: torch.empty(127, 65, dtype=dtype),
    "transposed": lambda dtype: torch.empty(31, 43, dtype=dtype).t(),
    "channels last": lambda dtype: torch.empty(
        6, 5, 3, 3, dtype=dtype, memory_format=torch.channels_last
    ),
    "rows apart": lambda dtype: torch.empty(40, 300, dtype=dtype)[::2, 5:-7],
    "columns apart": lambda dtype: torch.empty(70, 33, dtype=dtype)[:, ::4],
    "beyond a block": lambda dtype: torch.empty(LARGE, dtype=dtype),
}

# Code of the distribution, parameters, and the same as a fill of its own.
FILLS: dict[str, tuple[int, tuple[float, ...], Callable[..., Tensor]]] = {
    "constant": (0, (0.375,), lambda t, **_: fill.constant(t, 0.375)),
    "uniform": (1, (-0.5, 2.0), lambda t, **key: fill.uniform(t, -0.5, 2.0, **key)),
    "normal": (2, (0.25, 1.5), lambda t, **key: fill.normal(t, 0.25, 1.5, **key)),
    "truncated": (
        3,
        (0.0, 1.0, -0.5, 2.0),
        lambda t, **key: fill.trunc_normal(t, 0.0, 1.0, -0.5, 2.0, **key),
    ),
    "tail": (3, (0.0, 1.0, 8.0, 9.0), lambda t, **key: fill.trunc_normal(t, 0, 1, 8, 9, **key)),
}


def view_of(tensor: Tensor) -> View:
    view = writable_view(tensor)
    assert view is not None
    return view


def padded(parameters: tuple[float, ...]) -> tuple[float, float, float, float]:
    return (*parameters, 0.0, 0.0, 0.0, 0.0)[:4]


def moments(tensor: Tensor) -> Moments:
    (found,) = _core.measure_many([view_of(tensor)], 1)
    return found


@pytest.fixture
def every_way() -> Iterator[Iterator[int]]:
    """Numbers of threads, for each instruction set in turn."""

    def ways() -> Iterator[int]:
        for isa, threads in product(_core.available_isas(), THREADS):
            _core.set_isa(isa)
            yield threads

    usual = _core.isa()
    yield ways()
    _core.set_isa(usual)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_batch_has_the_bits_of_single_fills_however_it_is_carried_out(
    dtype: torch.dtype, every_way: Iterator[int]
) -> None:
    # The largest layout with one distribution each, for the time that it takes.
    cases = [
        (layout, name) for layout in TENSORS if layout != "beyond a block" for name in FILLS
    ] + [("beyond a block", "normal"), ("beyond a block", "constant")]
    expected = []
    for number, (layout, name) in enumerate(cases):
        alone = FILLS[name][2]
        expected.append(alone(poisoned_like(TENSORS[layout](dtype)), key=9, stream=number))
    assert not any(t.isnan().any() for t in expected)
    # Products are rounded before they are summed where there is no fused multiply-add.
    known: dict[bool, list[Moments]] = {}
    for threads in every_way:
        tensors = [poisoned_like(TENSORS[layout](dtype)) for layout, _ in cases]
        fills = [
            (view_of(t), FILLS[name][0], padded(FILLS[name][1]), (9, number), None, None)
            for number, (t, (_, name)) in enumerate(zip(tensors, cases, strict=True))
        ]
        returned = _core.fill_many(fills, threads)
        assert all(map(same_bits, tensors, expected)), (_core.isa(), threads)
        measured = _core.measure_many([view_of(t) for t in tensors], threads)
        first = known.setdefault(_core.isa() == "baseline", [*returned, *measured])
        assert [*returned, *measured] == first, (_core.isa(), threads)
        # Taken in other pieces, so not the same bits.
        for one, other in zip(returned, measured, strict=True):
            assert one is other is None or one == pytest.approx(other, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("dtype", DTYPES)
def test_blocks_in_a_batch_hold_what_the_whole_has_there(
    dtype: torch.dtype, every_way: Iterator[int]
) -> None:
    whole = (37, 1030)
    blocks = [((0, 0), (5, 1030)), ((5, 3), (31, 7)), ((36, 1029), (1, 1)), ((20, 40), (0, 9))]
    expected = {name: FILLS[name][2](torch.empty(whole, dtype=dtype), key=9) for name in FILLS}
    cases = [(name, *block) for name in FILLS for block in blocks]
    for threads in every_way:
        tensors = [poisoned_like(torch.empty(shape, dtype=dtype)) for _, _, shape in cases]
        _core.fill_many(
            [
                (view_of(t), FILLS[name][0], padded(FILLS[name][1]), (9, 0), whole, start)
                for t, (name, start, _) in zip(tensors, cases, strict=True)
            ],
            threads,
        )
        for tensor, (name, (row, column), (rows, columns)) in zip(tensors, cases, strict=True):
            part = expected[name][row : row + rows, column : column + columns]
            assert same_bits(tensor, part), (name, row, column, threads)


def test_what_lies_between_the_elements_of_a_target_stays() -> None:
    memory = torch.full((40, 300), 7.0)
    inner = memory[1:-1:2, 5:-7]
    _core.fill_many([(view_of(inner), 2, (0.0, 1.0, 0.0, 0.0), (1, 1), None, None)], 3)
    inner.fill_(7.0)
    assert (memory == 7.0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", TENSORS)
def test_moments_are_those_that_numpy_finds_in_double_precision(
    layout: str, dtype: torch.dtype
) -> None:
    tensor = fill.normal(TENSORS[layout](dtype), 0.5, 2.0, key=3)
    found = moments(tensor)
    if not tensor.numel():
        assert found is None
        return
    values = tensor.double().numpy()
    mean, std, least, most = found or ()
    assert (least, most) == (values.min(), values.max())
    # Up to 4096 elements are summed in float32, beyond that in float64.
    close = 1e-13 if dtype is torch.float64 else 1e-6
    assert mean == pytest.approx(values.mean(), rel=close, abs=close)
    assert std == pytest.approx(values.std(), rel=close, abs=close)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_small_spread_about_a_large_mean_is_not_lost(dtype: torch.dtype) -> None:
    tensor = fill.normal(torch.empty(300_001, dtype=dtype), 1e4, 0.01, key=3)
    values = tensor.double().numpy()
    mean, std, _, _ = moments(tensor) or ()
    assert mean == pytest.approx(values.mean(), rel=1e-9)
    assert std == pytest.approx(values.std(), rel=1e-5)


@pytest.mark.parametrize("value", [0.1, -3.0, 0.0, 1e-30, 60000.0])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 7, 4096, LARGE])
def test_the_std_of_a_constant_is_exactly_zero(
    value: float, dtype: torch.dtype, count: int
) -> None:
    tensor = torch.empty(count, dtype=dtype)
    expected = torch.full((1,), value, dtype=dtype).item()
    returned = _core.fill_many(
        [(view_of(tensor), 0, (value, 0.0, 0.0, 0.0), (0, 0), None, None)], 2
    )
    assert returned == [(expected, 0.0, expected, expected)]
    assert _core.measure_many([view_of(tensor)], 2) == returned


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 12_345, LARGE - 1])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_one_element_that_is_not_finite_makes_all_moments_nan(
    bad: float, place: int, dtype: torch.dtype, isa: str
) -> None:
    tensor = torch.ones(LARGE, dtype=dtype)
    tensor[place] = bad
    ones = torch.ones(3)
    found, sound = _core.measure_many([view_of(tensor), view_of(ones)], 2)
    assert found is not None
    assert all(map(math.isnan, found)), isa
    assert sound == (1.0, 0.0, 1.0, 1.0)


def test_squares_that_overflow_make_all_moments_nan() -> None:
    tensor = torch.tensor([1e300, -1e300], dtype=torch.float64)
    found = moments(tensor)
    assert found is not None
    assert all(map(math.isnan, found))


def test_nothing_to_fill_is_nothing() -> None:
    assert _core.fill_many([], 2) == []
    assert _core.measure_many([], 2) == []


def test_thousands_of_small_targets_beside_large_ones_each_get_their_own_numbers() -> None:
    memory = np.full(200_000, np.nan, np.float32)
    whole = torch.from_numpy(memory)
    ends = np.cumsum(np.arange(600) % 321 + 1)
    ends = ends[ends < len(memory)].tolist()
    parts = [whole[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    large = [torch.full((LARGE,), torch.nan) for _ in range(2)]
    targets = [large[0], *parts, large[1]]
    _core.fill_many(
        [(view_of(t), 2, (0.0, 1.0, 0.0, 0.0), (5, i), None, None) for i, t in enumerate(targets)],
        3,
    )
    for i, t in enumerate(targets):
        assert same_bits(t, fill.normal(torch.empty_like(t), key=5, stream=i)), i
    assert whole[ends[-1] :].isnan().all()
