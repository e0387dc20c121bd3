"""A convolution's gradients by weight and bias: torch's, as accurate, and the same bits however they are made."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
import torch
from layouts import LAYOUTS, channels_last
from poison import poisoned
from targets import target
from torch import Tensor

from pyinit import _core
from pyinit import functional as our

CODES = {torch.float32: _core.FLOAT32, torch.float64: _core.FLOAT64}


class Sizes(NamedTuple):
    """Sizes of a convolution; channels are those of a group."""

    batch: int
    groups: int
    channels: tuple[int, int]
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    def output(self) -> tuple[int, ...]:
        sizes = zip(self.size, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        return tuple((x + 2 * p - (k - 1) * d - 1) // s + 1 for x, k, s, p, d in sizes)


def plane(
    batch: int,
    channels: tuple[int, int],
    size: int,
    kernel: int,
    *,
    stride: int = 1,
    padding: int = 0,
) -> Sizes:
    return Sizes(
        batch, 1, channels, (size,) * 2, (kernel,) * 2, (stride,) * 2, (padding,) * 2, (1, 1)
    )


CASES = {
    "lenet": plane(2, (1, 6), 28, 5, padding=2),
    "first": plane(2, (3, 16), 32, 3, padding=1),
    "stem": plane(1, (3, 8), 45, 7, stride=2, padding=3),
    "3x3": plane(3, (16, 24), 14, 3, padding=1),
    "3x3 of few pixels": plane(5, (40, 33), 7, 3, padding=1),
    "3x3 in steps": plane(2, (20, 17), 15, 3, stride=2, padding=1),
    "several tiles": plane(2, (150, 140), 9, 3, padding=1),
    "several parts": plane(4, (32, 32), 32, 3, padding=1),
    "1x1": plane(2, (130, 37), 12, 1),
    "1x1 in steps": plane(2, (12, 37), 13, 1, stride=2),
    "1x1 padded": plane(2, (5, 7), 6, 1, padding=1),
    "1x1 padded in steps": plane(1, (5, 7), 6, 1, stride=2, padding=1),
    "wider than a block": plane(1, (2, 3), 300, 2),
    "one pixel": plane(1, (9, 10), 3, 3),
    "one of all": plane(1, (1, 1), 1, 1),
    "line": Sizes(3, 1, (7, 9), (1000,), (5,), (1,), (2,), (1,)),
    "line, dilated": Sizes(1, 1, (4, 18), (57,), (3,), (2,), (4,), (3,)),
    "space": Sizes(2, 1, (5, 9), (6, 7, 8), (3, 2, 3), (1, 2, 1), (1, 0, 2), (1, 1, 2)),
    "uneven": Sizes(2, 1, (6, 11), (9, 23), (4, 3), (3, 2), (2, 0), (1, 3)),
    "far taps": Sizes(1, 1, (64, 8), (70, 90), (2, 2), (1, 1), (0, 40), (60, 80)),
    "groups": Sizes(2, 3, (5, 7), (10, 11), (3, 3), (1, 1), (1, 1), (1, 1)),
    "1x1 in groups": Sizes(2, 4, (8, 16), (9, 9), (1, 1), (1, 1), (0, 0), (1, 1)),
    "depthwise": Sizes(2, 20, (1, 1), (9, 10), (3, 3), (1, 2), (1, 1), (1, 1)),
}


def images(case: Sizes, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(hash(case) % 1000)
    i, o = (case.groups * channels for channels in case.channels)
    shapes = (case.batch, i, *case.size), (case.batch, o, *case.output())
    x, gradient = (torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes)
    return x, gradient


def poisoned_weight(case: Sizes, dtype: torch.dtype) -> Tensor:
    i, o = case.channels
    return poisoned((case.groups * o, i, *case.kernel), dtype)


def fill(case: Sizes, x: Tensor, gradient: Tensor, weight: Tensor, threads: int = 1) -> Tensor:
    _core.convolve_weight_gradient(
        target(x),
        target(gradient),
        target(weight),
        case.stride,
        case.padding,
        case.dilation,
        case.groups,
        threads,
    )
    return weight


def by_torch(case: Sizes, x: Tensor, gradient: Tensor, dtype: torch.dtype) -> Tensor:
    none = [0] * len(case.size)
    gradients = torch.ops.aten.convolution_backward(
        gradient.to(dtype),
        x.to(dtype),
        torch.zeros_like(poisoned_weight(case, dtype)),
        None,
        case.stride,
        case.padding,
        case.dilation,
        False,
        none,
        case.groups,
        [False, True, False],
    )
    result: Tensor = gradients[1]
    return result


def error(x: Tensor, exact: Tensor) -> float:
    return float((x.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("dtype", CODES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_is_torchs_gradient(name: str, dtype: torch.dtype, isa: str) -> None:
    case = CASES[name]
    x, gradient = images(case, dtype)
    weight = fill(case, x, gradient, poisoned_weight(case, dtype))
    exact = by_torch(case, x, gradient, torch.float64)
    assert error(weight, exact) < (1e-6 if dtype == torch.float32 else 1e-14)


@pytest.mark.parametrize("name", ["first", "3x3", "several parts", "1x1", "1x1 in steps", "line"])
def test_is_as_accurate_as_torch(name: str) -> None:
    case = CASES[name]
    x, gradient = images(case._replace(batch=16), torch.float32)
    exact = by_torch(case, x, gradient, torch.float64)
    weight = fill(case, x, gradient, poisoned_weight(case, torch.float32))
    assert error(weight, exact) <= error(by_torch(case, x, gradient, torch.float32), exact)


@pytest.mark.parametrize(
    "name", ["first", "3x3 in steps", "3x3 of few pixels", "1x1", "1x1 in steps", "space", "groups"]
)
@pytest.mark.parametrize("dtype", CODES, ids=str)
def test_takes_any_strides(name: str, dtype: torch.dtype, isa: str) -> None:
    case = CASES[name]
    x, gradient = images(case, dtype)
    for b in LAYOUTS.values():
        # Channels of the gradient that lie side by side may be summed in another order.
        expected = fill(case, x, b(gradient), poisoned_weight(case, dtype))
        assert error(expected, by_torch(case, x, gradient, torch.float64)) < (
            1e-6 if dtype == torch.float32 else 1e-14
        )
        for a, c in itertools.product(LAYOUTS.values(), repeat=2):
            weight = fill(case, a(x), b(gradient), c(poisoned_weight(case, dtype)))
            assert torch.equal(weight, expected)


@pytest.mark.parametrize("dtype", CODES, ids=str)
@pytest.mark.parametrize("batch_stride", [0, 1, 7, 1000])
def test_the_stride_of_a_batch_of_one_does_not_matter(
    batch_stride: int, dtype: torch.dtype, isa: str
) -> None:
    """torch 2.13's own gradient in float64 is a wrong one here, where the weight is channels_last."""
    case = Sizes(1, 3, (3, 4), (1, 3), (3, 5), (2, 3), (1, 7), (1, 1))
    x, gradient = images(case, dtype)
    strides = (batch_stride, *channels_last(x).stride()[1:])
    weight = channels_last(torch.randn(12, 3, 3, 5, dtype=dtype)).requires_grad_()
    out = our.conv2d(
        channels_last(x).as_strided(x.shape, strides), weight, None, (2, 3), (1, 7), 1, 3
    )
    (got,) = torch.autograd.grad(out, weight, gradient)
    columns = torch.nn.functional.unfold(x.double(), (3, 5), padding=(1, 7), stride=(2, 3))
    exact = torch.einsum("gop,gip->goi", gradient.double().view(3, 4, 5), columns.view(3, 45, 5))
    assert error(got, exact.reshape(12, 3, 3, 5)) < (1e-6 if dtype == torch.float32 else 1e-14)


def test_takes_an_expanded_input() -> None:
    case = plane(3, (4, 5), 6, 3, padding=1)
    x, gradient = images(case, torch.float32)
    same, one = x[:1, :, :, :1].expand_as(x), gradient[:, :1].expand_as(gradient)
    expected = fill(case, same.contiguous(), one.contiguous(), poisoned_weight(case, torch.float32))
    assert torch.equal(fill(case, same, one, poisoned_weight(case, torch.float32)), expected)


def test_writes_no_other_memory() -> None:
    case = CASES["3x3"]
    x, gradient = images(case, torch.float32)
    memory = torch.full((2 * 24, 2 * 16, 6, 6), torch.nan)
    fill(case, x, gradient, memory[::2, ::2, ::2, ::2])
    assert int(memory.isfinite().sum()) == 24 * 16 * 9


@pytest.mark.parametrize("dtype", CODES, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize(
    "name",
    ["lenet", "first", "3x3 of few pixels", "several tiles", "several parts", "1x1", "groups"],
)
def test_threads_and_instruction_sets_give_the_same_bits(
    name: str, layout: str, dtype: torch.dtype, fused_isas: Sequence[str]
) -> None:
    case = CASES[name]._replace(batch=6)
    x, gradient = (LAYOUTS[layout](t) for t in images(case, dtype))
    expected = fill(case, x, gradient, poisoned_weight(case, dtype))
    for isa, threads in itertools.product(fused_isas, (1, 2, 3, 7)):
        _core.set_isa(isa)
        assert torch.equal(fill(case, x, gradient, poisoned_weight(case, dtype), threads), expected)


@pytest.fixture
def fused_isas() -> Any:
    """The instruction sets of this machine that promise the same bits: all but the baseline."""
    usual = _core.isa()
    yield [isa for isa in _core.available_isas() if isa != "baseline"] or [usual]
    _core.set_isa(usual)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_without_pixels_it_is_zero(layout: str) -> None:
    no_images = plane(0, (3, 4), 5, 3)
    no_pixels = plane(2, (3, 4), 5, 6)
    assert no_pixels.output() == (0, 0)
    for case in (no_images, no_pixels):
        weight = LAYOUTS[layout](poisoned_weight(case, torch.float32))
        fill(case, *images(case, torch.float32), weight)
        assert torch.equal(weight, torch.zeros_like(weight))


def test_a_weight_without_elements_stays_so() -> None:
    for case in (plane(2, (0, 4), 5, 3), plane(2, (3, 0), 5, 3)):
        assert (
            fill(case, *images(case, torch.float32), poisoned_weight(case, torch.float32)).numel()
            == 0
        )


def test_not_a_number_reaches_what_it_takes_part_in() -> None:
    case = plane(1, (2, 3), 6, 3)
    x, gradient = images(case, torch.float32)
    x[0, 1, 0, 0] = torch.nan  # which only the first tap takes
    expected = torch.zeros(3, 2, 3, 3, dtype=torch.bool)
    expected[:, 1, 0, 0] = True
    weight = fill(case, x, gradient, torch.zeros(3, 2, 3, 3))
    assert torch.equal(weight.isnan(), expected)


# Few output channels and rows of ten pixels or more: sums over pixels in lanes.
FEW = [
    Sizes(batch, groups, (channels, outputs), (height, width), kernel, stride, padding, (1, 1))
    for batch, groups, channels, outputs, height, width, kernel, stride, padding in [
        *((2, 1, 3, outputs, 5, 12, (3, 3), (1, 1), (1, 1)) for outputs in range(1, 18)),
        *((1, 1, channels, 4, 4, 11, (2, 3), (1, 1), (0, 1)) for channels in range(1, 8)),
        *((2, 1, 2, 5, 3, width, (3, 3), (1, 1), (1, 1)) for width in range(8, 36)),
        *((3, 1, 2, 7, 9, 24, (3, 3), stride, (1, 1)) for stride in [(2, 2), (1, 2), (3, 1)]),
        *((1, 1, 2, 3, 14, 14, (size, size), (1, 1), (0, 0)) for size in range(1, 6)),
        (70, 1, 6, 16, 14, 14, (5, 5), (1, 1), (0, 0)),
        (2, 1, 1, 6, 1, 2500, (1, 5), (1, 1), (0, 2)),
        (2, 8, 4, 4, 7, 13, (3, 3), (1, 1), (1, 1)),
        (9, 1, 1, 2, 70, 31, (3, 3), (1, 1), (1, 1)),
    ]
]


@pytest.mark.parametrize("dtype", CODES, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("case", FEW, ids=lambda case: f"{case.groups}x{case.channels}{case.size}")
def test_few_output_channels(case: Sizes, layout: str, dtype: torch.dtype, isa: str) -> None:
    x, gradient = images(case, dtype)
    exact = by_torch(case, x, gradient, torch.float64)
    x, gradient = LAYOUTS[layout](x), LAYOUTS[layout](gradient)
    weight = fill(case, x, gradient, poisoned_weight(case, dtype))
    assert error(weight, exact) < (1e-6 if dtype == torch.float32 else 1e-14)
    assert torch.equal(fill(case, x, gradient, poisoned_weight(case, dtype), 3), weight)


def test_few_output_channels_take_no_infinity_that_is_not_theirs() -> None:
    case = plane(2, (3, 4), 14, 3, padding=1)
    x, gradient = images(case, torch.float32)
    x[1, 2, 0, 0] = torch.inf  # which the last two taps of a row never take at the first pixel
    gradient[1, :, 0, 0] = gradient[1, :, 0, 1] = gradient[1, :, 1, 0] = gradient[1, :, 1, 1] = 0
    weight = fill(case, x, gradient, poisoned_weight(case, torch.float32))
    expected = by_torch(case, x, gradient, torch.float64)
    assert torch.equal(weight.isnan(), expected.isnan())
    assert 0 < int(weight.isnan().sum()) < weight.numel()
    assert error(weight[:, :2], expected[:, :2]) < 1e-6


SUMMED = [
    (1, 1, 1),
    (2, 3, 5),
    (3, 33, 7, 9),
    (2, 6, 28, 28),
    (1, 4, 9001),
    (40, 64, 1, 1),
    (30, 8, 2, 2),
    (3, 50, 7, 7),
    (2, 17, 3, 4, 5),
]


def sums(x: Tensor, threads: int = 1, step: int = 1) -> Tensor:
    result = torch.full((step * x.shape[1],), torch.nan, dtype=x.dtype)[::step]
    _core.sum_channels(target(x), target(result), threads)
    return result


@pytest.mark.parametrize("dtype", CODES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SUMMED, ids=str)
def test_channels_are_summed(
    shape: tuple[int, ...], layout: str, dtype: torch.dtype, isa: str
) -> None:
    x = torch.randn(shape, dtype=dtype)
    exact = x.double().sum([0, *range(2, x.dim())])
    size = x.double().abs().sum([0, *range(2, x.dim())])
    epsilon = torch.finfo(dtype).eps
    for step in (1, 3):
        assert ((sums(LAYOUTS[layout](x), step=step) - exact).abs() <= 4 * epsilon * size).all()


@pytest.mark.parametrize("dtype", CODES, ids=str)
@pytest.mark.parametrize("width", [1, 3, 7, 8, 33])
def test_sums_take_nothing_that_lies_between(width: int, dtype: torch.dtype, isa: str) -> None:
    memory = torch.randn(2, 5, 4, 40, dtype=dtype)
    expected = sums(memory[..., :width])
    memory[..., width:] = torch.nan
    assert torch.equal(sums(memory[..., :width]), expected)
    assert expected.isfinite().all()


@pytest.mark.parametrize("shape", [(0, 3, 5), (2, 3, 0, 4), (2, 0, 3)], ids=str)
def test_sums_of_no_pixels_are_zero(shape: tuple[int, ...]) -> None:
    assert torch.equal(sums(torch.empty(shape)), torch.zeros(shape[1]))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_long_sums_are_as_accurate_as_torchs(layout: str) -> None:
    x = LAYOUTS[layout](torch.rand(8, 5, 200, 300))
    exact = x.double().sum([0, 2, 3])
    assert error(sums(x), exact) <= error(x.sum([0, 2, 3]), exact)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sums_are_the_same_bits_on_all_threads_and_instruction_sets(layout: str) -> None:
    usual = _core.isa()
    x = LAYOUTS[layout](torch.randn(7, 37, 40, 41))
    expected = sums(x)
    for isa, threads in itertools.product(_core.available_isas(), (1, 2, 3, 7)):
        _core.set_isa(isa)
        try:
            assert torch.equal(sums(x, threads), expected)
        finally:
            _core.set_isa(usual)
