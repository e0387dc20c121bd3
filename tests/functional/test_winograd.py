"""Convolutions of 3x3 taps by Winograd's minimal filtering: which ones, values, bits, errors and the switch."""

import itertools
import math
import statistics
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
import torch
from layouts import LAYOUTS
from poison import poisoned_like
from torch import Tensor
from torch.nn import functional as torchs
from torch.nn.grad import conv2d_input as torchs_conv2d_input

import pyinit.functional as ours
from pyinit import _core
from pyinit._torch.views import View, view_of
from pyinit.nn.grad import conv2d_input

POINTS = 2
Packed = tuple[View, _core.PackedWeight]


@pytest.fixture
def off() -> Iterator[None]:
    ours.set_winograd(False)
    yield
    ours.set_winograd(True)


class Layer(NamedTuple):
    """A layer with square images and nine taps; channels are those of a group."""

    inputs: int
    outputs: int
    pixels: int
    padding: int = 1
    groups: int = 1
    batch: int = 2

    def tensors(self, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
        x = torch.randn(self.batch, self.inputs * self.groups, self.pixels, self.pixels)
        w = torch.randn(self.outputs * self.groups, self.inputs, 3, 3)
        return x.to(dtype), w.to(dtype), torch.randn(self.outputs * self.groups).to(dtype)


def packing(x: Tensor, w: Tensor, y: Tensor, *window: tuple[int, ...]) -> int:
    stride, padding, dilation = window if window else ((1, 1),) * 3
    groups = x.shape[1] // w.shape[1]
    return _core.packing(view_of(x), view_of(w), view_of(y), stride, padding, dilation, groups)


def goes_by_winograd(inputs: int, outputs: int, height: int, width: int, groups: int = 1) -> bool:
    x = torch.empty(1, inputs * groups, height, width)
    w = torch.empty(outputs * groups, inputs, 3, 3)
    return packing(x, w, torch.empty(1, outputs * groups, height, width)) == POINTS


# ---- Which ones ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((12, 12, 7, 7), True),
        ((11, 12, 7, 7), False),
        ((12, 11, 7, 7), False),
        ((12, 12, 6, 8), False),  # 12 tiles
        ((12, 12, 2, 31), True),
        ((12, 12, 2, 30), False),
        ((12, 12, 1, 99), False),  # only three taps meet the image
        ((256, 256, 7, 7), True),
        ((257, 256, 7, 7), False),
        ((257, 256, 10, 12), False),  # 30 tiles
        ((257, 256, 11, 12), True),
        ((512, 512, 7, 7), False),
        ((512, 512, 14, 14), True),
        ((3, 64, 224, 224), False),
    ],
)
def test_sizes_say_whether(sizes: tuple[int, int, int, int], expected: bool) -> None:
    assert goes_by_winograd(*sizes) == expected
    assert goes_by_winograd(*sizes, groups=2) == expected


@pytest.mark.parametrize(
    ("dtype", "kernel", "window"),
    [
        (torch.float64, (3, 3), ((1, 1), (1, 1), (1, 1))),
        (torch.float32, (3, 1), ((1, 1), (1, 0), (1, 1))),
        (torch.float32, (5, 5), ((1, 1), (2, 2), (1, 1))),
        (torch.float32, (3, 3), ((2, 1), (1, 1), (1, 1))),
        (torch.float32, (3, 3), ((1, 1), (2, 2), (2, 2))),
    ],
    ids=["float64", "3x1", "5x5", "strided", "dilated"],
)
def test_others_go_the_old_way(
    dtype: torch.dtype, kernel: tuple[int, ...], window: tuple[tuple[int, ...], ...]
) -> None:
    x, w = torch.randn(2, 16, 32, 32, dtype=dtype), torch.randn(16, 16, *kernel, dtype=dtype)
    y = torchs.conv2d(x, w, None, *window)
    assert packing(x, w, y, *window) != POINTS


def test_neither_batch_nor_layout_nor_isa_nor_threads_say_whether(isa: str) -> None:
    for batch, layout in itertools.product((1, 2, 64), LAYOUTS.values()):
        x, w = layout(torch.empty(batch, 16, 7, 7)), torch.empty(16, 16, 3, 3)
        assert packing(x, w, layout(torch.empty(batch, 16, 7, 7))) == POINTS, isa


@pytest.mark.usefixtures("off")
def test_none_does_when_it_is_switched_off() -> None:
    assert not ours.get_winograd()
    assert not goes_by_winograd(64, 64, 56, 56)


@pytest.mark.parametrize("enabled", [0, 1, None, "off"])
def test_the_switch_takes_bools(enabled: object) -> None:
    with pytest.raises(TypeError, match="enabled: takes a bool, got"):
        ours.set_winograd(enabled)  # type: ignore[arg-type]
    assert ours.get_winograd()


# ---- Values --------------------------------------------------------------------------------------


def run(
    transposed: bool, padding: int, tensors: tuple[Tensor, Tensor, Tensor], out: Tensor
) -> None:
    """With ReLU, which is activation 1."""
    function = _core.convolve_transposed if transposed else _core.convolve
    window = (1, 1), (padding, padding), (1, 1), 1
    function(*map(view_of, (*tensors, out)), *window, 1, 0.0, 2)


@pytest.mark.parametrize("transposed", [False, True], ids=["forward", "transposed"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "gaps"])
def test_equals_float64_at_every_small_size(layout: str, transposed: bool, isa: str) -> None:
    """The outputs are poisoned, and so is what lies between them where they are strided."""
    to_layout = LAYOUTS[layout]
    for i, (height, width) in enumerate(itertools.product(range(1, 19), range(1, 19))):
        inputs, outputs, padding = 12 + i % 7, 12 + i % 23, i % 3
        shape = height + 2 - 2 * padding, width + 2 - 2 * padding
        if min(shape) < 1 or divided(height) * divided(width) < 16:
            continue
        of_weight = (inputs, outputs) if transposed else (outputs, inputs)
        if transposed:
            shape = height - 2 + 2 * padding, width - 2 + 2 * padding
            if min(shape) < 1:
                continue
        x, w = torch.randn(2, inputs, *shape), torch.randn(*of_weight, 3, 3)
        bias = torch.randn(outputs)
        by_torch = torchs.conv_transpose2d if transposed else torchs.conv2d
        expected = by_torch(x.double(), w.double(), bias.double(), padding=padding).relu()
        out = poisoned_like(to_layout(expected.float()))
        run(transposed, padding, (to_layout(x), w, bias), out)
        torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=1e-4)


def divided(size: int) -> int:
    return (size + 1) // 2


LAYERS = [
    Layer(16, 16, 32),
    Layer(32, 64, 26, padding=0),
    Layer(130, 20, 15, padding=2),
    Layer(300, 70, 13),
    Layer(17, 33, 28, groups=3),
    Layer(64, 600, 8, batch=3),
    Layer(64, 64, 8, batch=19),
]


@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize("transposed", [False, True], ids=["forward", "transposed"])
def test_values_and_bits(
    layer: Layer, transposed: bool, set_threads: Callable[[int], None]
) -> None:
    """The bits depend on no layout, batch, number of threads, or instruction set with multiply-adds."""
    x, w, bias = layer.tensors()
    if transposed:
        w = w.unflatten(0, (layer.groups, -1)).transpose(1, 2).flatten(0, 1).contiguous()
    call = ours.conv_transpose2d if transposed else ours.conv2d
    by_torch = torchs.conv_transpose2d if transposed else torchs.conv2d

    def convolved(x: Tensor, w: Tensor = w) -> Tensor:
        return call(x, w, bias, padding=layer.padding, groups=layer.groups)

    expected = by_torch(
        x.double(), w.double(), bias.double(), padding=layer.padding, groups=layer.groups
    )
    first = convolved(x)
    torch.testing.assert_close(first.double(), expected, rtol=1e-4, atol=1e-4)
    with_multiply_adds = [name for name in _core.available_isas() if name != "baseline"]
    before = _core.isa()
    try:
        for name, threads in itertools.product(with_multiply_adds, (1, 2, 5)):
            _core.set_isa(name)
            set_threads(threads)
            for to_layout in LAYOUTS.values():
                assert torch.equal(convolved(to_layout(x)), first)
                assert torch.equal(convolved(x, to_layout(w)), first)
            assert torch.equal(convolved(x[1:2]), first[1:2])
    finally:
        _core.set_isa(before)


def test_images_may_be_expanded_and_reversed_weights_sliced() -> None:
    x, w = (
        torch.randn(1, 1, 20, 1).expand(3, 16, 20, 20),
        torch.randn(32, 32, 3, 4)[::2, ::2, :, :3],
    )
    expected = torchs.conv2d(x.double(), w.double(), padding=1)
    torch.testing.assert_close(
        ours.conv2d(x, w, padding=1).double(), expected, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("to_layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("direction", ["forward", "by the image"])
def test_errors_are_not_above_torchs(direction: str, to_layout: Callable[[Tensor], Tensor]) -> None:
    logarithms = []
    for layer in (Layer(16, 16, 32), Layer(32, 32, 16), Layer(64, 64, 28), Layer(256, 256, 14)):
        x, w, _ = layer.tensors()
        x, w = to_layout(x), w / (9 * layer.inputs) ** 0.5
        errors = []
        for dtype, conv2d, by_image in (
            (torch.float64, torchs.conv2d, torchs_conv2d_input),
            (torch.float32, torchs.conv2d, torchs_conv2d_input),
            (torch.float32, ours.conv2d, conv2d_input),
        ):
            if direction == "forward":
                errors.append(conv2d(x.to(dtype), w.to(dtype), padding=1).double())
            else:
                errors.append(by_image(x.shape, w.to(dtype), x.to(dtype), padding=1).double())
        exact, theirs, mine = errors
        theirs, mine = (theirs - exact).square().mean(), (mine - exact).square().mean()
        logarithms.append(math.log(mine / theirs))
    assert statistics.fmean(logarithms) <= 0


# ---- The exceptions that docs/convolution.md names -------------------------------------------------


def test_an_infinity_becomes_nan_around_it_only() -> None:
    x, w = torch.randn(1, 16, 20, 20), torch.randn(16, 16, 3, 3)
    plain = ours.conv2d(x, w, padding=1)
    x[0, 3, 9, 9] = math.inf
    y = ours.conv2d(x, w, padding=1)
    touched = torch.zeros(20, 20, dtype=torch.bool)
    touched[8:12, 8:12] = True  # the tiles that take pixel (9, 9)
    assert y[..., touched].isnan().any()
    assert torch.equal(y[..., ~touched], plain[..., ~touched])


@pytest.mark.usefixtures("off")
def test_without_it_an_infinity_stays_one() -> None:
    x, w = torch.zeros(1, 16, 20, 20), torch.rand(16, 16, 3, 3) + 1
    x[0, 3, 9, 9] = math.inf
    y = ours.conv2d(x, w, padding=1)
    assert y[0, :, 8:11, 8:11].isposinf().all()
    assert not y.isnan().any()


# ---- Packed weights ------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", LAYERS[:5], ids=str)
def test_points_may_be_packed(layer: Layer, isa: str) -> None:
    x, w, bias = layer.tensors()
    packed = ours.pack_weight(w, layer.groups)
    for to_layout in LAYOUTS.values():
        by = [
            ours.conv2d(to_layout(x), weight, bias, padding=layer.padding, groups=layer.groups)
            for weight in (w, packed)
        ]
        assert torch.equal(*by), isa


def test_packed_points_are_read() -> None:
    """Told by a weight packed from other numbers, which no user can pass."""
    layer = Layer(16, 40, 12)
    x, w, _ = layer.tensors()
    other = torch.randn_like(w)
    out = torch.full((2, 40, 12, 12), math.nan)
    weight: Packed = (view_of(w), _core.PackedWeight(view_of(other), 1, 1, POINTS))
    ones = (1, 1)
    _core.convolve(view_of(x), weight, None, view_of(out), ones, ones, ones, 1, 0, 0.0, 1)
    torch.testing.assert_close(out, torchs.conv2d(x, other, padding=1), rtol=1e-4, atol=1e-4)


def test_a_packed_weight_follows_the_switch() -> None:
    x, w, _ = Layer(16, 40, 12).tensors()
    packed = ours.pack_weight(w)
    with_it = ours.conv2d(x, packed, padding=1)
    try:
        ours.set_winograd(False)
        without = ours.conv2d(x, packed, padding=1)
        assert torch.equal(without, ours.conv2d(x, w, padding=1))
    finally:
        ours.set_winograd(True)
    assert not torch.equal(with_it, without)
    assert torch.equal(ours.conv2d(x, packed, padding=1), with_it)


def test_only_nine_float32_taps_have_points() -> None:
    for w in (torch.randn(16, 16, 3, 2), torch.randn(16, 16, 3, 3).double()):
        with pytest.raises(
            ValueError, match="packing: takes panels, or points of 3 x 3 float32 taps"
        ):
            _core.PackedWeight(view_of(w), 1, 1, POINTS)
