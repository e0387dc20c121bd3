"""The kernels of convolution and transposed convolution: values, bits, and memory."""

import ctypes
import math
import mmap
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from layouts import LAYOUTS
from poison import poisoned_like
from torch import Tensor
from torch.nn import functional

from pyinit import _core
from pyinit._torch.views import DTYPES

TORCHS: dict[int, Callable[..., Tensor]] = {
    1: functional.conv1d,
    2: functional.conv2d,
    3: functional.conv3d,
}


class Layer(NamedTuple):
    batch: int
    inputs: int
    outputs: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0)
    dilation: tuple[int, ...] = (1, 1)
    groups: int = 1

    @property
    def window(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]:
        return self.stride, self.padding, self.dilation, self.groups

    def tensors(self, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
        x = torch.randn(self.batch, self.inputs, *self.size, dtype=dtype)
        w = torch.randn(self.outputs, self.inputs // self.groups, *self.kernel, dtype=dtype)
        return x, w, torch.randn(self.outputs, dtype=dtype)


LAYERS = {
    "3x3": Layer(2, 5, 7, (9, 8), (3, 3), padding=(1, 1)),
    "one pixel": Layer(1, 3, 4, (1, 1), (1, 1)),
    "kernel larger than image": Layer(2, 2, 3, (2, 3), (5, 5), padding=(2, 2)),
    "more than a chain": Layer(1, 83, 20, (7, 7), (3, 3), padding=(1, 1)),
    "more than a block": Layer(1, 3, 70, (40, 41), (3, 2), padding=(1, 0)),
    "many pixels, few outputs": Layer(2, 4, 2, (64, 64), (3, 3), padding=(1, 1)),
    "rows of 28": Layer(3, 2, 6, (28, 28), (5, 5), padding=(2, 2)),
    "images share panels": Layer(9, 40, 33, (7, 7), (3, 3), padding=(1, 1)),
    "tiny images": Layer(21, 5, 40, (2, 3), (1, 1)),
    "stem": Layer(1, 3, 16, (30, 31), (7, 7), (2, 2), (3, 3)),
    "stride 3x2": Layer(2, 6, 9, (13, 16), (3, 4), (3, 2), (1, 2)),
    "stride beyond the kernel": Layer(2, 4, 5, (11, 14), (2, 1), (4, 3)),
    "patches": Layer(2, 3, 24, (16, 16), (8, 8), (8, 8)),
    "dilated": Layer(1, 6, 8, (15, 14), (3, 3), (1, 1), (3, 2), (3, 2)),
    "dilated and strided": Layer(2, 3, 13, (15, 14), (3, 3), (2, 3), (2, 3), (2, 3)),
    "pointwise": Layer(3, 33, 50, (10, 9), (1, 1)),
    "pointwise, strided": Layer(2, 12, 20, (9, 9), (1, 1), (2, 2)),
    "groups": Layer(2, 12, 18, (9, 9), (3, 3), (1, 1), (1, 1), (1, 1), 3),
    "groups of 16": Layer(1, 34, 32, (9, 9), (3, 3), (1, 1), (1, 1), (1, 1), 2),
    "short rows, many products": Layer(3, 12, 16, (10, 11), (3, 3), padding=(1, 1)),
    "short rows, strided": Layer(3, 32, 48, (11, 12), (3, 3), (2, 2), (1, 1)),
    "short rows, few outputs": Layer(5, 6, 5, (14, 14), (5, 5)),
    "short rows, dilated": Layer(1, 20, 96, (17, 16), (3, 3), (1, 1), (6, 6), (6, 6)),
    "pointwise, many pixels": Layer(4, 20, 33, (17, 17), (1, 1)),
    "dilated beyond the image": Layer(1, 9, 40, (33, 33), (3, 3), (1, 1), (36, 36), (36, 36)),
    "line": Layer(2, 3, 16, (700,), (5,), (1,), (2,), (1,)),
    "long kernel": Layer(1, 2, 3, (1000,), (401,), (2,), (7,), (1,)),
    "volume": Layer(2, 4, 6, (5, 6, 7), (3, 2, 3), (1, 2, 1), (1, 0, 1), (1, 1, 2)),
}


def memory(x: Tensor) -> tuple[int, int, tuple[int, ...], tuple[int, ...]]:
    return x.data_ptr(), DTYPES[x.dtype], tuple(x.shape), x.stride()


def run(
    layer: Layer,
    transposed: bool,
    tensors: tuple[Tensor, Tensor, Tensor | None],
    out: Tensor,
    *,
    threads: int = 2,
    activation: int = 0,
) -> Tensor:
    x, w, bias = tensors
    function = _core.convolve_transposed if transposed else _core.convolve
    of_bias = None if bias is None else memory(bias)
    function(memory(x), memory(w), of_bias, memory(out), *layer.window, activation, 0.0, threads)
    return out


def torchs(
    layer: Layer, transposed: bool, tensors: tuple[Tensor, Tensor, Tensor], like: Tensor
) -> Tensor:
    """By torch; the transposed one as a gradient, which takes every shape."""
    x, w, bias = tensors
    stride, padding, dilation, groups = layer.window
    if not transposed:
        return TORCHS[len(stride)](x, w, bias, stride, padding, dilation, groups)
    none = [0] * len(stride)
    backward = torch.ops.aten.convolution_backward(
        x,
        like.to(x.dtype),
        w,
        None,
        stride,
        padding,
        dilation,
        False,
        none,
        groups,
        [True, False, False],
    )
    return backward[0] + bias.view(-1, *[1] * len(stride))


def problem(
    layer: Layer, transposed: bool, dtype: torch.dtype = torch.float64
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Arguments, and torch's result in float64. The transposed one goes back to the layer's input."""
    x, w, bias = layer.tensors(dtype)
    y = torchs(layer, False, (x.double(), w.double(), bias.double()), x)
    if not transposed:
        return (x, w, bias), y
    back = torch.randn(layer.inputs, dtype=dtype)
    y = y.to(dtype)
    expected = torchs(layer, True, (y.double(), w.double(), back.double()), x)
    return (y, w, back), expected


@pytest.mark.parametrize("transposed", [False, True], ids=["forward", "transposed"])
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_equals_torch(
    layer: Layer, layout: Callable[[Tensor], Tensor], transposed: bool, isa: str
) -> None:
    (x, w, bias), expected = problem(layer, transposed)
    for of_weight in (layout, Tensor.contiguous):
        out = poisoned_like(layout(expected))
        run(layer, transposed, (layout(x), of_weight(w), bias), out)
        torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("transposed", [False, True], ids=["forward", "transposed"])
@pytest.mark.parametrize("channels", [(3, 5), (12, 16)], ids=["3-5", "12-16"])
def test_every_width(channels: tuple[int, int], transposed: bool, isa: str) -> None:
    """Vectors of pixels begin and end at every place of a row."""
    for width in range(1, 41):
        for kernel, stride, padding in ((3, 1, 1), (3, 2, 1), (2, 1, 0), (1, 2, 0), (5, 1, 4)):
            if width < kernel - padding:
                continue
            layer = Layer(2, *channels, (3, width), (2, kernel), (1, stride), (1, padding))
            tensors, expected = problem(layer, transposed)
            out = run(layer, transposed, tensors, poisoned_like(expected))
            torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-11)
            single = (tensors[0].float(), tensors[1].float(), None)
            bias = tensors[2].view(-1, 1, 1)
            out = run(layer, transposed, single, poisoned_like(expected.float()))
            torch.testing.assert_close(out.double(), expected - bias, rtol=1e-4, atol=1e-4)


# The order of products tells which elements share a vector: taps of a channel come first where these are pixels, and
# channels of a tap where they are output channels.
BY_OUTPUTS = [
    Layer(2, 12, 16, (14, 14), (3, 3), (2, 2), (1, 1)),
    Layer(2, 6, 16, (14, 14), (5, 5)),
    Layer(2, 16, 96, (36, 36), (3, 3), (1, 1), (6, 6), (6, 6)),
]
BY_PIXELS = [
    Layer(2, 12, 20, (14, 14), (3, 3), (2, 2), (1, 1)),  # panels that are not full
    Layer(2, 3, 16, (14, 14), (5, 5)),  # few products
    Layer(2, 16, 96, (37, 37), (3, 3), (1, 1), (6, 6), (6, 6)),  # long rows
]


@pytest.mark.parametrize("layer", [*BY_OUTPUTS, *BY_PIXELS], ids=str)
def test_which_vectors_a_contiguous_image_has(layer: Layer, isa: str) -> None:
    (x, w, _), expected = problem(layer, False, torch.float32)
    results = [
        run(layer, False, (layout(x), w, None), poisoned_like(layout(expected.float())))
        for layout in (LAYOUTS["contiguous"], LAYOUTS["channels_last"])
    ]
    assert torch.equal(*results) == (layer in BY_OUTPUTS)


@pytest.mark.parametrize("transposed", [False, True], ids=["forward", "transposed"])
@pytest.mark.parametrize("name", ["3x3", "stem", "images share panels", "groups", "pointwise"])
def test_layouts_of_input_and_output_may_differ(name: str, transposed: bool) -> None:
    layer = LAYERS[name]
    (x, w, bias), expected = problem(layer, transposed)
    for of_input in LAYOUTS.values():
        for of_output in LAYOUTS.values():
            out = poisoned_like(of_output(expected))
            run(layer, transposed, (of_input(x), w, bias), out)
            torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("transposed", [False, True], ids=["forward", "transposed"])
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_bits_do_not_depend_on_threads(layer: Layer, layout: str, transposed: bool) -> None:
    (x, w, bias), expected = problem(layer, transposed, torch.float32)
    x, out = LAYOUTS[layout](x), LAYOUTS[layout](expected.float())
    one = run(layer, transposed, (x, w, bias), poisoned_like(out), threads=1)
    for threads in (2, 3, 7):
        assert torch.equal(
            run(layer, transposed, (x, w, bias), poisoned_like(out), threads=threads), one
        )


LONG_SUMS = [
    Layer(1, 83, 20, (7, 7), (3, 3), padding=(1, 1)),
    Layer(2, 64, 64, (28, 28), (3, 3), padding=(1, 1)),
    Layer(1, 256, 64, (14, 14), (3, 3), padding=(1, 1)),
    Layer(1, 512, 64, (7, 7), (3, 3), padding=(1, 1)),
    Layer(1, 1024, 256, (7, 7), (1, 1)),
    Layer(1, 3, 64, (56, 56), (7, 7), (2, 2), (3, 3)),
    Layer(4, 16, 16, (16, 16), (3, 3), padding=(1, 1)),
]


@pytest.mark.parametrize("transposed", [False, True], ids=["forward", "transposed"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_errors_are_not_above_torchs(layout: str, transposed: bool) -> None:
    """In the mean over layers: torch takes several ways, which differ by more than a factor of 2."""
    logarithms = []
    for layer in LONG_SUMS:
        (x, w, bias), expected = problem(layer, transposed, torch.float32)
        x, w = LAYOUTS[layout](x), LAYOUTS[layout](w)
        out = poisoned_like(LAYOUTS[layout](expected.float()))
        results = (
            run(layer, transposed, (x, w, bias), out),
            torchs(layer, transposed, (x, w, bias), expected),
        )
        errors = [(y.double() - expected).square().mean().sqrt().item() for y in results]
        logarithms.append(math.log(errors[0] / errors[1]))
    assert statistics.fmean(logarithms) <= 0


def test_bias_and_activation_come_after_the_sum(isa: str) -> None:
    layer = LAYERS["more than a chain"]
    (x, w, bias), expected = problem(layer, False)
    for layout in LAYOUTS.values():
        out = run(layer, False, (x, w, bias), poisoned_like(layout(expected)), activation=1)
        torch.testing.assert_close(out, expected.relu(), rtol=1e-12, atol=1e-11)
        plain = run(layer, False, (x, w, None), poisoned_like(layout(expected)))
        torch.testing.assert_close(plain, expected - bias.view(-1, 1, 1), rtol=1e-12, atol=1e-11)


def test_what_lies_outside_the_image_is_not_read() -> None:
    layer = LAYERS["3x3"]
    (x, w, _), _ = problem(layer, False)
    frame = torch.full((2, 7, 15, 16), float("nan"), dtype=x.dtype)
    inside = frame[:, 1:6, 3:12, 4:12].copy_(x)
    expected = functional.conv2d(x, w, None, *layer.window)
    torch.testing.assert_close(
        run(layer, False, (inside, w, None), poisoned_like(expected)), expected
    )


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_taps_outside_a_small_image_are_left_out(layout: str, isa: str) -> None:
    """An infinite weight makes no NaN of zeros that are not there."""
    x, w = torch.ones(3, 16, 7, 7).double(), torch.zeros(16, 16, 3, 3).double()
    w[:, :, 0, 0] = math.inf
    layer = Layer(3, 16, 16, (7, 7), (3, 3), padding=(1, 1))
    expected = torch.full((3, 16, 7, 7), math.inf).double()
    expected[:, :, 0, :] = expected[:, :, :, 0] = 0
    out = run(layer, False, (LAYOUTS[layout](x), w, None), poisoned_like(LAYOUTS[layout](expected)))
    assert torch.equal(out, expected)


@pytest.mark.skipif(sys.platform != "linux", reason="needs mmap's and mprotect's numbers")
def test_nothing_behind_an_expanded_image_is_read(isa: str) -> None:
    """A page that may not be read: behind the last row there are rows that lie before it."""
    libc, page = ctypes.CDLL(None, use_errno=True), mmap.PAGESIZE
    libc.mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    memory = mmap.mmap(-1, 2 * page)
    behind = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + page
    assert libc.mprotect(behind, page, 0) == 0
    try:
        for width in range(1, 34):
            x = torch.randn(2, width)
            row = torch.frombuffer(memory, dtype=torch.float32, count=page // 4)
            row[-2 * width :].copy_(x.flatten())
            images = row[-2 * width :].view(1, 2, width).expand(3, 2, width)
            w = torch.randn(2, 2, 1)
            layer = Layer(3, 2, 2, (width,), (1,), (1,), (0,), (1,))
            out = run(layer, False, (images, w, None), torch.full((3, 2, width), torch.nan))
            expected = functional.conv1d(images.double(), w.double())
            torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=1e-5)
    finally:
        libc.mprotect(behind, page, mmap.PROT_READ | mmap.PROT_WRITE)


def test_what_lies_between_the_outputs_stays() -> None:
    layer = LAYERS["pointwise"]
    (x, w, bias), expected = problem(layer, False)
    frame = torch.full((3, 60, 14, 15), 7.0, dtype=x.dtype)
    inside = frame[:, 4:54, 2:12, 3:12]
    run(layer, False, (x, w, bias), inside)
    torch.testing.assert_close(inside, expected, rtol=1e-12, atol=1e-11)
    inside.fill_(7.0)
    assert torch.equal(frame, torch.full_like(frame, 7.0))


@pytest.mark.large
def test_images_of_more_than_2_to_the_31_bytes() -> None:
    width = 2**29 + 9
    x = torch.zeros(1, 1, 1, width)  # pages that nothing is written to take no memory
    starts = (0, 2**28 - 20, 2**29 - 30)
    for start in starts:
        x[..., start : start + 30].uniform_(-1, 1)
    w = torch.tensor([[[[0.5, -2.0, 4.0]]]])
    out = torch.empty(1, 1, 1, width)
    layer = Layer(1, 1, 1, (1, width), (1, 3), padding=(0, 1))
    run(layer, False, (x, w, None), out)
    for start in starts:
        expected = functional.conv2d(x[..., start : start + 30], w)
        torch.testing.assert_close(out[..., start + 1 : start + 29], expected)
    assert torch.equal(out[..., 100:200], torch.zeros(1, 1, 1, 100))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_memory_does_not_grow_with_the_kernels_area() -> None:
    """At most 8 MiB a thread beyond input, weights and output. torch's unfold would take 300 MB here."""
    program = """
import sys
import torch
from pyinit import _core
channels_last = sys.argv[1] == "channels_last"
x, w, y = torch.ones(4, 64, 112, 112), torch.ones(64, 64, 5, 5), torch.ones(4, 64, 112, 112)
if channels_last:
    x, y = (t.to(memory_format=torch.channels_last) for t in (x, y))
def memory(x):
    return x.data_ptr(), _core.FLOAT32, tuple(x.shape), x.stride()
def peak():  # not ru_maxrss, which a child has from its parent
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
window = (1, 1), (2, 2), (1, 1), 1
small, out = torch.ones(1, 64, 32, 32), torch.ones(1, 64, 32, 32)
_core.convolve(memory(small), memory(w), None, memory(out), *window, 0, 0.0, 2)
before = peak()
_core.convolve(memory(x), memory(w), None, memory(y), *window, 0, 0.0, 2)
print(peak() - before)
"""
    for layout in ("contiguous", "channels_last"):
        grown = subprocess.run(
            [sys.executable, "-c", program, layout], check=True, capture_output=True, text=True
        ).stdout
        assert int(grown) <= 2 * 8 * 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
@pytest.mark.parametrize("call", ["sums of channels", "depthwise, by weight"])
def test_memory_does_not_grow_with_the_parts_of_sums(call: str) -> None:
    """Parts of sums are in double precision: of many channels, or many taps of each, there are fewer."""
    program = """
import sys
import torch
from pyinit import _core
def memory(x):
    return x.data_ptr(), _core.FLOAT32, tuple(x.shape), x.stride()
def peak():  # not ru_maxrss, which a child has from its parent
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
last = torch.channels_last
x, y = (torch.ones(4, 512, 14, 14).to(memory_format=last) for _ in range(2))
weight, images, sums = torch.ones(512, 1, 31, 31), torch.ones(64, 65536, 1, 1), torch.ones(65536)
_core.sum_channels(memory(x), memory(sums[:512]), 1)
before = peak()
if sys.argv[1] == "sums of channels":
    _core.sum_channels(memory(images), memory(sums), 1)
else:
    window = (1, 1), (15, 15), (1, 1), 512
    _core.convolve_weight_gradient(memory(x), memory(y), memory(weight), *window, 1)
print(peak() - before)
"""
    grown = subprocess.run(
        [sys.executable, "-c", program, call], check=True, capture_output=True, text=True
    ).stdout
    assert int(grown) <= 8 * 2**20


def test_nothing_to_sum_leaves_the_bias(isa: str) -> None:
    bias = torch.tensor([1.0, -2.0])
    out = poisoned_like(torch.empty(2, 2, 3, 4))
    layer = Layer(2, 0, 2, (3, 4), (1, 1))
    arguments: Any = (torch.empty(2, 0, 3, 4), torch.empty(2, 0, 1, 1), bias)
    run(layer, False, arguments, out, activation=1)
    assert torch.equal(out, bias.relu().view(1, 2, 1, 1).expand_as(out))
