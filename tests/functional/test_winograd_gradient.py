"""Gradients by weights of 3x3 taps by Winograd's minimal filtering: which ones, values, bits, errors and the switch."""

import itertools
import math
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest
import torch
from layouts import LAYOUTS, channels_last
from poison import poisoned, poisoned_like
from torch import Tensor
from torch.nn.grad import conv2d_weight as torchs_conv2d_weight

import pyinit.functional as ours
from pyinit import _core
from pyinit._torch.views import view_of
from pyinit.nn.grad import conv2d_weight


@contextmanager
def off() -> Iterator[None]:
    ours.set_winograd(False)
    try:
        yield
    finally:
        ours.set_winograd(True)


class Layer(NamedTuple):
    """A layer of nine taps; channels are those of a group, and the size is that of the gradient by the output."""

    inputs: int
    outputs: int
    size: tuple[int, int]
    batch: int = 2
    padding: int = 1
    groups: int = 1

    @property
    def weight(self) -> tuple[int, int, int, int]:
        return self.groups * self.outputs, self.inputs, 3, 3

    def images(self) -> tuple[Tensor, Tensor]:
        pixels = [size + 2 - 2 * self.padding for size in self.size]
        x = torch.randn(self.batch, self.groups * self.inputs, *pixels)
        return x, torch.randn(self.batch, self.groups * self.outputs, *self.size)

    def gradient(
        self, x: Tensor, y: Tensor, weight: Tensor | None = None, threads: int = 2
    ) -> Tensor:
        """In the memory of a poisoned weight."""
        weight = poisoned(self.weight) if weight is None else weight
        around, ones = (self.padding, self.padding), (1, 1)
        views = view_of(x), view_of(y), view_of(weight)
        _core.convolve_weight_gradient(*views, ones, around, ones, self.groups, threads)
        return weight

    def exact(self, x: Tensor, y: Tensor) -> Tensor:
        window = {"padding": self.padding, "groups": self.groups}
        return torchs_conv2d_weight(x.double(), self.weight, y.double(), **window)


def goes_by_winograd(layer: Layer) -> bool:
    """As only their last bits tell."""
    x, y = layer.images()
    by_default = layer.gradient(x, y)
    with off():
        return not torch.equal(layer.gradient(x, y), by_default)


# ---- Which ones ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "batch", "size", "expected"),
    [
        ((16, 16), 1, (8, 8), True),
        ((15, 16), 1, (28, 28), False),
        ((16, 15), 1, (28, 28), False),
        ((16, 16), 1, (6, 8), False),  # 12 tiles
        ((16, 16), 2, (6, 8), True),
        ((16, 16), 3, (4, 4), False),
        ((16, 16), 4, (4, 4), True),
        ((16, 16), 15, (2, 2), False),
        ((16, 16), 16, (2, 2), True),
        ((16, 40), 8, (7, 8), True),  # 7 of 8 of the tiles' pixels
        ((40, 23), 8, (7, 7), False),
        ((24, 24), 8, (7, 7), True),
        ((24, 24), 8, (3, 8), True),  # 3 of 4
        ((24, 24), 8, (3, 9), False),
        ((24, 24), 8, (5, 5), False),
        ((24, 24), 2, (1, 60), False),
        ((300, 140), 1, (7, 7), True),
        ((3, 64), 1, (32, 32), False),
    ],
)
def test_sizes_say_whether(
    channels: tuple[int, int], batch: int, size: tuple[int, int], expected: bool
) -> None:
    for groups in (1, 2):
        layer = Layer(*channels, size, batch, padding=0, groups=groups)
        assert goes_by_winograd(layer) == expected


@pytest.mark.parametrize(
    ("dtype", "kernel", "window"),
    [
        (torch.float64, (3, 3), (1, 1, 1)),
        (torch.float32, (3, 1), (1, 0, 1)),
        (torch.float32, (5, 5), (1, 2, 1)),
        (torch.float32, (3, 3), (2, 1, 1)),
        (torch.float32, (3, 3), (1, 2, 2)),
    ],
    ids=["float64", "3x1", "5x5", "strided", "dilated"],
)
def test_others_go_the_old_way(
    dtype: torch.dtype, kernel: tuple[int, int], window: tuple[int, int, int]
) -> None:
    x, w = torch.randn(2, 16, 32, 32, dtype=dtype), torch.randn(16, 16, *kernel, dtype=dtype)
    y = torch.randn_like(torch.nn.functional.conv2d(x, w, None, *window))
    by_default = conv2d_weight(x, w.shape, y, *window)
    with off():
        assert torch.equal(conv2d_weight(x, w.shape, y, *window), by_default)


def test_volumes_of_flat_taps_do(isa: str) -> None:
    x, y = torch.randn(2, 16, 3, 9, 8), torch.randn(2, 20, 3, 9, 8)
    by_planes = [conv2d_weight(a, (20, 16, 3, 3), b, padding=1) for a, b in _planes(x, y)]
    window = (1, 1, 1), (0, 1, 1), (1, 1, 1)
    w = poisoned((20, 16, 1, 3, 3))
    _core.convolve_weight_gradient(view_of(x), view_of(y), view_of(w), *window, 1, 2)
    torch.testing.assert_close(w[:, :, 0], sum(by_planes), rtol=1e-4, atol=1e-4)
    without = poisoned_like(w)
    with off():
        _core.convolve_weight_gradient(view_of(x), view_of(y), view_of(without), *window, 1, 2)
    assert not torch.equal(w, without), isa


def _planes(x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(x.unbind(2), y.unbind(2), strict=True)


# ---- Values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "gaps"])
def test_equals_float64_at_every_small_size(layout: str, isa: str) -> None:
    """Gradients are poisoned, and so is what lies between their elements where they are strided."""
    to_layout = LAYOUTS[layout]
    for i, size in enumerate(itertools.product(range(1, 21), range(1, 21))):
        layer = Layer(1 + i % 37, 1 + i * 7 % 41, size, 1 + i % 5, i % 3, 1 + i % 2)
        if min(size) + 2 - 2 * layer.padding < 1:
            continue
        x, y = layer.images()
        weight = to_layout(poisoned(layer.weight))
        layer.gradient(to_layout(x), to_layout(y), weight)
        tolerance = 2e-5 * math.sqrt(layer.batch * size[0] * size[1])
        torch.testing.assert_close(weight.double(), layer.exact(x, y), rtol=1e-4, atol=tolerance)


LAYERS = [
    Layer(16, 16, (32, 32)),
    Layer(64, 64, (8, 8), batch=19),
    Layer(32, 64, (26, 26), padding=0),
    Layer(130, 20, (15, 18), padding=2),
    Layer(300, 150, (13, 13)),
    Layer(17, 33, (28, 28), groups=3),
    Layer(24, 40, (3, 250)),
    Layer(24, 16, (2, 2), batch=300, padding=0),
]


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_values_and_bits(layer: Layer) -> None:
    """The bits depend on no layout, number of threads, or instruction set with multiply-adds."""
    x, y = layer.images()
    assert goes_by_winograd(layer)
    first = layer.gradient(x, y)
    tolerance = 2e-5 * math.sqrt(y.numel() / y.shape[1])
    torch.testing.assert_close(first.double(), layer.exact(x, y), rtol=1e-4, atol=tolerance)
    before = _core.isa()
    with_multiply_adds = [name for name in _core.available_isas() if name != "baseline"]
    try:
        for name, threads in itertools.product(with_multiply_adds, (1, 2, 3, 5, 16)):
            _core.set_isa(name)
            for to_layout in LAYOUTS.values():
                weight = to_layout(poisoned(layer.weight))
                assert torch.equal(layer.gradient(to_layout(x), y, weight, threads), first)
                assert torch.equal(layer.gradient(x, to_layout(y), None, threads), first)
    finally:
        _core.set_isa(before)


def test_images_may_be_expanded() -> None:
    layer = Layer(16, 24, (20, 20), batch=3)
    x, y = (
        torch.randn(1, 1, 20, 1).expand(3, 16, 20, 20),
        torch.randn(24, 20, 20).expand(3, -1, -1, -1),
    )
    torch.testing.assert_close(
        layer.gradient(x, y).double(), layer.exact(x, y), rtol=1e-4, atol=1e-3
    )


def test_autograd_takes_it() -> None:
    layer = Layer(16, 24, (20, 20))
    x, y = layer.images()
    w = torch.randn(layer.weight, requires_grad=True)
    ours.conv2d(x, w, padding=1).backward(y)
    assert w.grad is not None
    assert torch.equal(w.grad, layer.gradient(x, y))


@pytest.mark.parametrize(
    "to_layout", [torch.Tensor.contiguous, channels_last], ids=["contiguous", "channels_last"]
)
def test_errors_are_not_above_torchs(to_layout: Callable[[Tensor], Tensor]) -> None:
    logarithms = []
    of_few_pixels = itertools.product(((16, 32), (32, 16), (64, 8)), (1, 16, 64))
    of_many = itertools.product(((64, 56), (128, 28), (256, 14)), (1,))
    for (inputs, pixels), batch in (*of_few_pixels, *of_many, ((256, 14), 16)):
        layer = Layer(inputs, inputs, (pixels, pixels), batch)
        x, y = layer.images()
        exact = layer.exact(x, y)
        x, y = to_layout(x), to_layout(y)
        theirs = (torchs_conv2d_weight(x, layer.weight, y, padding=1) - exact).square().mean()
        mine = (layer.gradient(x, y) - exact).square().mean()
        logarithms.append(math.log(mine / theirs))
    assert statistics.fmean(logarithms) <= 0


# ---- The exceptions that docs/convolution.md names -------------------------------------------------


def test_an_infinity_makes_nan_of_its_channels_weights_only() -> None:
    layer = Layer(16, 20, (20, 20))
    x, y = layer.images()
    plain = layer.gradient(x, y)
    x[0, 3, 9, 9] = math.inf
    of_input = layer.gradient(x, y)
    assert of_input[:, 3].isnan().any()
    others = torch.arange(16) != 3
    assert torch.equal(of_input[:, others], plain[:, others])
    x, y = layer.images()
    plain = layer.gradient(x, y)
    y[0, 3, 9, 9] = math.inf
    of_output = layer.gradient(x, y)
    assert of_output[3].isnan().any()
    others = torch.arange(20) != 3
    assert torch.equal(of_output[others], plain[others])


def test_without_it_an_infinity_stays_one() -> None:
    layer = Layer(16, 20, (20, 20))
    x, y = layer.images()
    x[0, 3, 9, 9] = math.inf
    with off():
        weight = layer.gradient(x, y)
    assert weight[:, 3].isinf().all()
    assert not weight.isnan().any()
