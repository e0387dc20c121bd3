"""The gradient of a convolution by its bias: sums over channels, for every small size and any layout."""

import itertools
import random
from collections.abc import Callable, Iterator

import pytest
import torch
from targets import target
from torch import Tensor

from pyinit import _core
from pyinit import functional as our
from pyinit import nn as our_nn

CODES = {torch.float32: _core.FLOAT32, torch.float64: _core.FLOAT64}
SIZES = range(1, 41)
Shape = tuple[int, int, int]
Strides = Callable[[Tensor, Shape], Tensor]

# Each makes a view, of a shape (batch, channels, length), of memory that holds at least twice as much of everything.
STRIDES: dict[str, Strides] = {
    "contiguous": lambda m, s: m.as_strided(s, (s[1] * s[2], s[2], 1)),
    "channels_last": lambda m, s: m.as_strided(s, (s[1] * s[2], 1, s[1])),
    "channels first of all": lambda m, s: m.as_strided(s, (s[2], s[0] * s[2], 1)),
    "reversed": lambda m, s: m.as_strided(s, (1, s[0], s[0] * s[1])),
    "one image": lambda m, s: m.as_strided(s, (0, s[2], 1)),
    "one channel": lambda m, s: m.as_strided(s, (s[2], 0, 1)),
    "one pixel": lambda m, s: m.as_strided(s, (s[1], 1, 0)),
    "one pixel, channels apart": lambda m, s: m.as_strided(s, (1, s[0], 0)),
    "one number": lambda m, s: m.as_strided(s, (0, 0, 0)),
    "longer lines": lambda m, s: m.as_strided(s, (s[1] * (s[2] + 3), s[2] + 3, 1)),
    "lines over one another": lambda m, s: m.as_strided(s, (5, 2, 1)),
    "images between channels": lambda m, s: m.as_strided(s, (s[2], 2 * s[0] * s[2], 1)),
    "every second": lambda m, s: m.as_strided(s, (2 * s[1] * s[2], 2 * s[2], 2)),
}


def sums(x: Tensor, threads: int = 1) -> Tensor:
    result = torch.full((x.shape[1],), torch.nan, dtype=x.dtype)
    _core.sum_channels(target(x), target(result), threads)
    return result


def shapes() -> Iterator[Shape]:
    """Every pair of sizes in each two places, with some size in the third."""
    numbers = random.Random(1)
    for a, b in itertools.product(SIZES, SIZES):
        shape = [a, b]
        shape.insert((a + b) % 3, numbers.choice(SIZES))
        yield tuple(shape)


def whole_numbers(dtype: torch.dtype) -> Tensor:
    """Whose sums are exact, in whatever order they are made."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(-8, 9, (2 * 43**3,), generator=generator).to(dtype)


@pytest.mark.parametrize("dtype", CODES, ids=str)
@pytest.mark.parametrize("layout", STRIDES)
def test_sums_of_every_small_size_are_exact(layout: str, dtype: torch.dtype, isa: str) -> None:
    memory = whole_numbers(dtype)
    for shape in shapes():
        x = STRIDES[layout](memory, shape)
        assert torch.equal(sums(x), x.sum((0, 2))), (shape, x.stride())


@pytest.mark.parametrize("dtype", CODES, ids=str)
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "longer lines"])
def test_sums_of_every_channel_and_line_are_exact(
    layout: str, batch: int, dtype: torch.dtype, isa: str
) -> None:
    memory = whole_numbers(dtype)
    for channels, length in itertools.product(SIZES, SIZES):
        x = STRIDES[layout](memory, (batch, channels, length))
        assert torch.equal(sums(x), x.sum((0, 2))), (channels, length)


@pytest.mark.parametrize("dtype", CODES, ids=str)
@pytest.mark.parametrize("layout", STRIDES)
def test_all_instruction_sets_and_threads_give_the_same_bits(
    layout: str, dtype: torch.dtype
) -> None:
    usual = _core.isa()
    memory = torch.randn(2 * 43**3, dtype=dtype)
    try:
        for shape in random.Random(2).sample(list(shapes()), 200):
            x = STRIDES[layout](memory, shape)
            found = []
            for isa in _core.available_isas():
                _core.set_isa(isa)
                found += [sums(x, threads) for threads in (1, 3)]
            assert all(torch.equal(other, found[0]) for other in found), shape
    finally:
        _core.set_isa(usual)


@pytest.mark.parametrize("dtype", CODES, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels first of all", "longer lines"])
def test_what_lies_behind_a_line_changes_nothing(layout: str, dtype: torch.dtype, isa: str) -> None:
    memory = whole_numbers(dtype)
    for shape in random.Random(3).sample(list(shapes()), 300):
        x = STRIDES[layout](memory, shape)
        alone = STRIDES[layout](torch.full_like(memory, torch.nan), shape).copy_(x)
        assert torch.equal(sums(alone), x.sum((0, 2))), shape


GRADIENTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "as it comes": lambda y, g: (y * g).sum(),
    "one for all": lambda y, g: y.sum() * g.flatten()[0],
    "one a channel": lambda y, g: (y.flatten(2).sum(2) * g.flatten(2)[:, :, 0]).sum(),
    "one an image": lambda y, g: (y.flatten(1).sum(1) * g.flatten(1)[:, 0]).sum(),
    "transposed": lambda y, g: (y.transpose(1, -1) * g.reshape(y.transpose(1, -1).shape)).sum(),
}
SPACES = [(1,), (2,), (3,), (7,), (1, 2), (3, 1), (2, 2), (3, 5), (1, 1, 3), (3, 1, 1), (2, 3, 2)]


@pytest.mark.parametrize("dtype", CODES, ids=str)
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_convolutions_have_torchs_gradient_by_the_bias(
    space: tuple[int, ...], gradient: str, dtype: torch.dtype, isa: str
) -> None:
    dims = len(space)
    for batch, channels in itertools.product((1, 2, 4), (1, 3, 6, 17)):
        x = torch.randn(batch, 3, *space, dtype=dtype)
        weight = torch.randn(channels, 3, *(1,) * dims, dtype=dtype)
        bias = torch.zeros(channels, dtype=dtype, requires_grad=True)
        weights = torch.randint(-8, 9, (batch, channels, *space)).to(dtype)
        GRADIENTS[gradient](getattr(our, f"conv{dims}d")(x, weight, bias), weights).backward()
        exact = torch.zeros(channels, dtype=torch.float64, requires_grad=True)
        torchs = getattr(torch.nn.functional, f"conv{dims}d")
        GRADIENTS[gradient](torchs(x.double(), weight.double(), exact), weights.double()).backward()
        assert bias.grad is not None
        assert exact.grad is not None
        assert torch.equal(bias.grad.double(), exact.grad)


@pytest.mark.parametrize("dtype", CODES, ids=str)
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_gradients_by_the_bias_alone_are_torchs(
    space: tuple[int, ...], dtype: torch.dtype, isa: str
) -> None:
    by_bias = getattr(our_nn.grad, f"conv{len(space)}d_bias")
    for batch, channels in itertools.product((1, 2, 4), (1, 3, 8, 17)):
        grad = torch.randn(batch, channels, *space, dtype=dtype)
        exact = grad.double().sum((0, *range(2, grad.dim())))
        size = grad.double().abs().sum((0, *range(2, grad.dim())))
        for layout in (grad, grad.movedim(1, -1).contiguous().movedim(-1, 1)):
            assert ((by_bias(layout) - exact).abs() <= 4 * torch.finfo(dtype).eps * size).all()
