"""Convolutions of one input channel a group: values, layouts, and bits that depend on neither threads nor machine."""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from layouts import Layout, channels_last, wide_rows, with_gaps
from poison import poisoned_like
from targets import target
from torch import Tensor
from torch.nn import functional

from pyinit import _core
from pyinit._functional.activations import ACTIVATIONS

CONVOLUTIONS = {
    1: torch.nn.functional.conv1d,
    2: torch.nn.functional.conv2d,
    3: torch.nn.functional.conv3d,
}
Call = tuple[int, float]
NONE: Call = (0, 0.0)  # an activation's code, and its parameter
RELU: Call = (1, 0.0)

pytestmark = pytest.mark.usefixtures("one_thread")  # for the references


class Depthwise(NamedTuple):
    batch: int
    channels: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    multiplier: int = 1

    @property
    def numbers(self) -> tuple[Any, ...]:
        return self.stride, self.padding, self.dilation, self.channels

    @property
    def fits(self) -> bool:
        return min(self.out_size) > 0

    @property
    def out_size(self) -> list[int]:
        return [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(
                self.size, self.kernel, self.stride, self.padding, self.dilation, strict=True
            )
        ]


def square(batch: int, channels: int, *sides: int) -> Depthwise:
    """Size, kernel, stride, padding and, if given, dilation: the same along both dimensions."""
    size, kernel, stride, padding, dilation = ((x, x) for x in (*sides, 1)[:5])
    return Depthwise(batch, channels, size, kernel, stride, padding, dilation)


CASES = [
    *(
        case
        for size in (1, 7, 17)
        for kernel in (1, 3, 5)
        for stride in (1, 2, 3)
        for padding in {0, kernel // 2, kernel}
        if (case := square(2, 3, size, kernel, stride, padding)).fits
    ),
    *(
        case
        for dilation in (2, 3)
        for stride in (1, 2, 3)
        if (case := square(1, 18, 14, 3, stride, 2, dilation)).fits
    ),
    *(square(1, channels, 7, 3, 1, 1) for channels in (1, 2, 8, 15, 16, 17, 33, 260)),
    # Small planes of many channels, which are turned.
    *(
        case
        for size in (1, 2, 3, 5, 7, 9)
        for kernel, stride, padding in ((3, 1, 1), (3, 2, 1), (5, 3, 0), (5, 1, 4), (2, 2, 2))
        if (case := square(3, 20, size, kernel, stride, padding)).fits
    ),
    square(5, 144, 28, 3, 2, 1),
    square(70, 16, 7, 3, 1, 1),
    square(2, 16, 6, 3, 2, 3, 2),
    Depthwise(2, 18, (5, 6, 7), (3, 3, 3), (1, 2, 1), (1, 1, 1), (1, 1, 1)),
    Depthwise(2, 35, (6,), (3,), (1,), (1,), (1,)),
    Depthwise(2, 5, (40,), (4,), (1,), (3,), (1,)),
    Depthwise(1, 1, (17_011,), (7,), (2,), (3,), (3,)),
    Depthwise(2, 4, (5, 6, 9), (3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1)),
    Depthwise(1, 9, (6, 5, 7), (2, 3, 1), (2, 1, 3), (1, 0, 0), (1, 2, 1)),
    Depthwise(1, 1, (10, 40, 30), (3, 3, 3), (2, 2, 2), (1, 1, 1), (1, 1, 1)),
    Depthwise(2, 6, (9, 20), (5, 2), (2, 1), (1, 2), (1, 3)),
    Depthwise(1, 2, (130, 150), (3, 3), (1, 1), (1, 1), (1, 1)),
    Depthwise(1, 1, (131, 149), (3, 3), (2, 2), (1, 1), (1, 1)),
    Depthwise(1, 3, (16, 16), (4, 4), (4, 4), (0, 0), (1, 1)),
    Depthwise(1, 3, (9, 9), (1, 1), (3, 3), (0, 0), (1, 1)),
    Depthwise(2, 3, (9, 10), (3, 3), (1, 1), (1, 1), (1, 1), multiplier=2),
    Depthwise(1, 4, (9, 10), (3, 4), (2, 3), (1, 2), (2, 1), multiplier=3),
    Depthwise(0, 3, (4, 4), (3, 3), (1, 1), (1, 1), (1, 1)),
]

LAYOUTS: dict[str, Layout] = {
    "contiguous": lambda x: x.contiguous(),
    "channels_last": channels_last,
    "gaps": with_gaps,
    "wide rows": wide_rows,
}


class Data(NamedTuple):
    """All of a convolution in float64, as torch computes it, from values that float32 has, too."""

    x: Tensor
    w: Tensor
    b: Tensor
    y: Tensor
    dy: Tensor
    dx: Tensor
    dw: Tensor

    def to(self, dtype: torch.dtype) -> "Data":
        return Data(*(t.to(dtype, copy=True) for t in self))


@functools.cache
def data(case: Depthwise) -> Data:
    g = torch.Generator().manual_seed(7)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g).double()

    x = normal(case.batch, case.channels, *case.size).requires_grad_()
    w = normal(case.channels * case.multiplier, 1, *case.kernel).requires_grad_()
    b = normal(case.channels * case.multiplier)
    y = CONVOLUTIONS[len(case.size)](x, w, b, *case.numbers)
    dy = normal(*y.shape)
    dx, dw = torch.autograd.grad(y, (x, w), dy)
    return Data(x.detach(), w.detach(), b, y.detach(), dy, dx, dw)


def forward(
    case: Depthwise, d: Data, layout: Layout, activation: Call = NONE, threads: int = 1
) -> Tensor:
    out, x = layout(poisoned_like(d.y)), layout(d.x)
    _core.convolve(
        target(x),
        target(d.w),
        target(d.b),
        target(out),
        *case.numbers,
        *activation,
        threads,
    )
    return out


def data_gradient(
    case: Depthwise, d: Data, layout: Layout, activation: Call = NONE, threads: int = 1
) -> Tensor:
    out, dy = layout(poisoned_like(d.dx)), layout(d.dy)
    _core.convolve_transposed(
        target(dy), target(d.w), None, target(out), *case.numbers, *activation, threads
    )
    return out


def weight_gradient(case: Depthwise, d: Data, layout: Layout, threads: int = 1) -> Tensor:
    out, x, dy = poisoned_like(d.dw), layout(d.x), layout(d.dy)
    _core.convolve_weight_gradient(target(x), target(dy), target(out), *case.numbers, threads)
    return out


PASSES: dict[str, tuple[Callable[..., Tensor], str]] = {
    "forward": (forward, "y"),
    "data gradient": (data_gradient, "dx"),
    "weight gradient": (weight_gradient, "dw"),
}


def tolerance(dtype: torch.dtype, expected: Tensor) -> float:
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    return (4e-6 if dtype == torch.float32 else 4e-15) * max(scale, 1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", PASSES)
def test_matches_torch_in_float64(name: str, layout: str, dtype: torch.dtype, isa: str) -> None:
    run, result = PASSES[name]
    for case in CASES:
        exact = data(case)
        got = run(case, exact.to(dtype), LAYOUTS[layout])
        expected = getattr(exact, result)
        error = (got.double() - expected).abs().max() if got.numel() else torch.zeros(())
        assert error <= tolerance(dtype, expected), (case, isa)


LAYERS = [
    square(2, 32, 28, 3, 1, 1),
    square(2, 32, 28, 3, 2, 1),
    square(3, 160, 14, 3, 1, 1),
    square(3, 160, 14, 5, 2, 2),
    square(2, 40, 7, 3, 1, 1),
    Depthwise(2, 24, (15, 15), (3, 3), (1, 1), (1, 1), (1, 1), multiplier=2),
]


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("name", PASSES)
def test_bits_depend_on_neither_threads_nor_instruction_set(
    name: str, layout: str, isa: str
) -> None:
    run, _ = PASSES[name]
    for case in LAYERS:
        d = data(case).to(torch.float32)
        one = run(case, d, LAYOUTS[layout])
        for threads in (2, 4):
            assert torch.equal(one, run(case, d, LAYOUTS[layout], threads=threads)), (case, threads)
        if isa != "baseline":
            _core.set_isa(_core.available_isas()[-1])
            assert torch.equal(one, run(case, d, LAYOUTS[layout])), case
            _core.set_isa(isa)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("name", PASSES)
def test_errors_are_no_larger_than_torchs(name: str, layout: str) -> None:
    run, result = PASSES[name]
    ratios = []
    for case in LAYERS:
        exact = data(case)
        single = exact.to(torch.float32)
        x, dy = LAYOUTS[layout](single.x), LAYOUTS[layout](single.dy)
        gradients = torch.ops.aten.convolution_backward(
            dy,
            x,
            single.w,
            None,
            *case.numbers[:3],
            False,
            [0, 0],
            case.channels,
            [True, True, False],
        )
        theirs = {
            "y": torch.nn.functional.conv2d(x, single.w, single.b, *case.numbers),
            "dx": gradients[0],
            "dw": gradients[1],
        }[result]
        expected = getattr(exact, result)
        ours = (run(case, single, LAYOUTS[layout]).double() - expected).square().mean().sqrt()
        ratios.append((ours / (theirs.double() - expected).square().mean().sqrt()).item())
    # In the mean over layers; in a single one the order of its few products makes a difference, and torch's
    # order depends on the machine.
    assert sum(ratios) / len(ratios) <= 1.05, ratios
    assert max(ratios) <= 1.6, ratios


TORCHS = {
    "relu": torch.relu,
    "leaky_relu": functools.partial(functional.leaky_relu, negative_slope=0.3),
    "elu": functools.partial(functional.elu, alpha=0.7),
    "selu": torch.selu,
    "gelu": functional.gelu,
    "gelu_tanh": functools.partial(functional.gelu, approximate="tanh"),
    "silu": functional.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softplus": functional.softplus,
}
PARAMETERS = {"leaky_relu": 0.3, "elu": 0.7}
ACTIVATED = [
    square(2, 5, 9, 3, 1, 1),
    square(1, 19, 10, 3, 2, 1),
    square(1, 3, 11, 3, 3, 0),
    square(1, 2, 14, 3, 2, 2, 2),
    Depthwise(1, 2, (9, 10), (3, 4), (2, 3), (1, 2), (2, 1), multiplier=3),
    Depthwise(1, 2, (700,), (5,), (2,), (2,), (1,)),
    Depthwise(1, 3, (5, 6, 7), (3, 2, 3), (2, 1, 2), (1, 1, 1), (1, 1, 1)),
    Depthwise(1, 1, (131, 149), (3, 3), (2, 2), (1, 1), (1, 1)),
]


def test_every_activation_is_tested() -> None:
    assert list(TORCHS) == list(ACTIVATIONS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_are_applied_to_all_sums(
    activation: str, layout: str, dtype: torch.dtype
) -> None:
    call = (ACTIVATIONS[activation].code, PARAMETERS.get(activation, 0.0))
    for case in ACTIVATED:
        exact = data(case)
        single = exact.to(dtype)
        for run, sums in ((forward, exact.y), (data_gradient, exact.dx)):
            got = run(case, single, LAYOUTS[layout], call, threads=2)
            error = (got.double() - TORCHS[activation](sums)).abs().max()
            assert error <= 2 * tolerance(dtype, sums), (case, run)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_relu_is_applied_to_sums_with_their_bias_and_keeps_nan(layout: str, isa: str) -> None:
    for case in LAYERS:
        d = data(case).to(torch.float32)
        plain = forward(case, d, LAYOUTS[layout])
        assert torch.equal(forward(case, d, LAYOUTS[layout], RELU), plain.relu()), isa
        d.x[0, 0, 3, 3] = torch.nan
        assert forward(case, d, LAYOUTS[layout], RELU)[0, 0].isnan().any()


@pytest.mark.parametrize("activation", [RELU, (9, 0.0)], ids=["relu", "tanh"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [32, 40])
def test_images_of_a_long_batch_are_those_that_each_gives_alone(
    channels: int, stride: int, activation: Call, isa: str
) -> None:
    """More than 8 MiB, which may go to memory in another way."""
    case = square(5, channels, 130 * stride, 3, stride, 1)
    x, w, b = (
        torch.randn(5, channels, *case.size),
        torch.randn(channels, 1, 3, 3),
        torch.randn(channels),
    )

    def run(images: Tensor, threads: int) -> Tensor:
        d = Data(images, w, b, torch.empty(len(images), channels, 130, 130), x, x, x)
        return forward(case, d, channels_last, activation, threads)

    alone = torch.cat([run(image[None], 1) for image in x])
    assert 4 * alone.numel() > 8 << 20 > 4 * alone[0].numel()
    assert torch.equal(run(x, 2), alone), isa


def test_outputs_that_no_input_reaches_are_the_bias() -> None:
    case = Depthwise(1, 2, (7, 7), (1, 1), (3, 3), (0, 0), (1, 1))
    d = data(case).to(torch.float32)
    for layout in LAYOUTS.values():
        out = layout(poisoned_like(d.x))
        dy, bias = layout(d.dy), torch.tensor([2.0, -3.0])
        _core.convolve_transposed(
            target(dy), target(d.w), target(bias), target(out), *case.numbers, *NONE, 1
        )
        assert torch.equal(out[0, :, 1, 2], bias)
        assert torch.allclose(out, d.dx + bias[:, None, None])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", PASSES)
def test_values_that_are_not_finite_stay_in_their_channel(name: str, layout: str, isa: str) -> None:
    run, _ = PASSES[name]
    for case in (square(2, 20, 7, 3, 1, 1), square(2, 20, 7, 3, 2, 1), square(2, 3, 40, 3, 1, 1)):
        d = data(case).to(torch.float32)
        clean = run(case, d, LAYOUTS[layout])
        d.x[:, 1], d.dy[:, 1] = torch.nan, torch.inf
        got = run(case, d, LAYOUTS[layout])
        where = 0 if name == "weight gradient" else 1
        assert not got.select(where, 1).isfinite().any(), isa
        for other in (0, 2):
            assert torch.equal(got.select(where, other), clean.select(where, other)), (case, isa)


@pytest.mark.parametrize("value", [torch.nan, torch.inf], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_that_are_not_finite_reach_the_taps_that_take_them(
    layout: str, value: float, isa: str
) -> None:
    cases = (
        square(2, 3, 5, 3, 1, 0),
        square(2, 3, 6, 3, 2, 1),
        Depthwise(2, 3, (4, 5), (2, 3), (1, 1), (1, 0), (1, 2), multiplier=2),
        Depthwise(2, 2, (2, 3, 4), (2, 2, 2), (1, 1, 1), (0, 1, 0), (1, 1, 1)),
    )
    for case in cases:
        clean = data(case)
        ones = clean.dy.abs() + 1
        for pixel in itertools.product(*map(range, case.size)):
            place = (1, 1, *pixel)
            d = clean.to(torch.float32)
            d.x[place] = value
            got = weight_gradient(case, d._replace(dy=ones.float()), LAYOUTS[layout])
            alone = torch.zeros_like(clean.x)
            alone[place] = 1
            weight = clean.w.clone().requires_grad_()
            out = CONVOLUTIONS[len(case.size)](alone, weight, None, *case.numbers)
            (reached,) = torch.autograd.grad(out, weight, ones)
            assert torch.equal(~got.isfinite(), reached != 0), (case, pixel)
            out = CONVOLUTIONS[len(case.size)](clean.x, weight, None, *case.numbers)
            (expected,) = torch.autograd.grad(out, weight, ones)
            rest = reached == 0
            assert (got - expected)[rest].abs().max() <= tolerance(torch.float32, expected)


@pytest.mark.parametrize("value", [torch.nan, torch.inf], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_that_are_not_finite_meet_no_taps_outside_the_image(
    layout: str, value: float, isa: str
) -> None:
    for case in (square(2, 3, 5, 3, 1, 1), square(2, 17, 3, 3, 1, 1), square(2, 17, 6, 3, 2, 2)):
        clean = data(case)
        ones = clean.x.abs() + 1
        for pixel in itertools.product(*map(range, clean.dy.shape[2:])):
            d = clean.to(torch.float32)._replace(x=ones.float())
            d.dy[(1, 1, *pixel)] = value
            alone = torch.zeros_like(clean.dy)
            alone[(1, 1, *pixel)] = 1
            weight = clean.w.clone().requires_grad_()
            out = CONVOLUTIONS[len(case.size)](ones, weight, None, *case.numbers)
            (reached,) = torch.autograd.grad(out, weight, alone)
            got = weight_gradient(case, d, LAYOUTS[layout])
            assert torch.equal(~got.isfinite(), reached != 0), (case, pixel)


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("expanded", [(2,), (3,), (2, 3), (0, 2, 3)], ids=str)
def test_images_of_channels_side_by_side_that_are_the_same_along_a_dimension(
    expanded: tuple[int, ...], kernel: int, isa: str
) -> None:
    # The gradient that ``.sum((2, 3))`` sends back: strides are 0, and channels lie side by side.
    def same(x: Tensor) -> Tensor:
        first = x[tuple(slice(1) if i in expanded else slice(None) for i in range(4))]
        return first.contiguous(memory_format=torch.channels_last).expand(x.shape)

    case = square(2, 20, 9, kernel, 1, kernel // 2)
    exact = data(case)
    w = exact.w.clone().requires_grad_()
    x = same(exact.x).clone().requires_grad_()
    dy = same(exact.dy)
    y = torch.nn.functional.conv2d(x, w, exact.b, *case.numbers)
    dx, dw = torch.autograd.grad(y, (x, w), dy)
    d = Data(exact.x, exact.w, exact.b, y.detach(), exact.dy, dx, dw)
    for name, (run, result) in PASSES.items():
        expected = getattr(d, result)
        single = d.to(torch.float32)

        def layout(t: Tensor, single: Data = single) -> Tensor:
            if t is single.x or t is single.dy:
                return same(t)
            return t.contiguous(memory_format=torch.channels_last)

        got = run(case, single, layout)
        error = (got.double() - expected).abs().max()
        assert error <= tolerance(torch.float32, expected), (name, isa)


def test_weight_gradient_goes_to_any_layout() -> None:
    case = LAYERS[2]
    d = data(case).to(torch.float32)
    for layout in LAYOUTS.values():
        out = with_gaps(poisoned_like(d.dw))
        x, dy = layout(d.x), layout(d.dy)
        _core.convolve_weight_gradient(target(x), target(dy), target(out), *case.numbers, 1)
        assert torch.equal(out, weight_gradient(case, d, layout))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", ["forward", "data gradient"])
def test_a_few_planes_have_the_bits_that_they_have_among_many(
    name: str, dtype: torch.dtype, layout: str, isa: str
) -> None:
    """A few small ones take a way of their own."""
    run, _ = PASSES[name]
    many = 9
    for case in CASES:
        if case.batch == 0 or case.channels > 8:
            continue
        d = data(case).to(dtype)
        among = d._replace(**{k: torch.cat([getattr(d, k)] * many) for k in ("x", "y", "dy", "dx")})
        for activation in (NONE, RELU, (7, 0.0)):
            alone = run(case, d, LAYOUTS[layout], activation)
            all_of_them = run(case, among, LAYOUTS[layout], activation)
            for i in range(many):
                some = all_of_them[i * case.batch : (i + 1) * case.batch]
                assert torch.equal(some, alone), case


def test_weights_beside_the_image_count_where_they_are_not_finite(isa: str) -> None:
    """Zeros around the image are multiplied as any pixel is, in a few planes and in many."""
    x, w = torch.ones(12, 1, 4, 4), torch.ones(1, 1, 3, 3)
    w[..., 0, 0] = float("inf")
    case = Depthwise(12, 1, (4, 4), (3, 3), (1, 1), (1, 1), (1, 1))
    outs = []
    for batch in (1, 12):
        out = torch.empty(batch, 1, 4, 4)
        _core.convolve(target(x[:batch]), target(w), None, target(out), *case.numbers, 0, 0.0, 1)
        outs.append(out[:1])
    assert torch.equal(outs[0].nan_to_num(7, 8, 9), outs[1].nan_to_num(7, 8, 9))
    assert outs[0][0, 0, 0].isnan().all()
