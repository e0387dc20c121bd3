"""Convolutions whose taps, padding or strides go far beyond the image: values, memory and work.

The reference knows no geometry: along each dimension it is a table of which pixel a tap touches at
which place, and the convolution is a product with these tables.
"""

import ctypes
import mmap
import random
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from layouts import LAYOUTS
from torch import Tensor
from torch.nn import functional as torchs

import pyinit.nn.grad
from pyinit import functional

LARGEST = 2**31 - 1


class Geometry(NamedTuple):
    """Channels are those of the weight as torch takes it: its first two sizes."""

    size: tuple[int, ...]
    weight: tuple[int, ...]
    stride: int | tuple[int, ...] = 1
    padding: int | tuple[int, ...] = 0
    dilation: int | tuple[int, ...] = 1
    groups: int = 1
    transposed: bool = False
    output_padding: int | tuple[int, ...] = 0


CASES = {
    "beside the image": Geometry((2, 2), (4, 4, 2, 2), padding=2**30 - 1, dilation=LARGEST),
    "beside the image, 3d": Geometry(
        (2, 2, 2), (4, 4, 2, 2, 2), padding=2**21 - 1, dilation=2**22 - 1
    ),
    "beside the image, depthwise": Geometry(
        (2, 2), (4, 1, 2, 2), padding=2**30 - 1, dilation=LARGEST, groups=4
    ),
    "beside the image, transposed": Geometry(
        (2, 2), (4, 4, 2, 2), padding=2**30 - 1, dilation=LARGEST, transposed=True
    ),
    "one tap left": Geometry((8, 8), (20, 16, 3, 3), padding=4096, dilation=4096),
    "one tap left, 1d": Geometry((5,), (3, 2, 3), padding=LARGEST, dilation=LARGEST),
    "one tap left, strided": Geometry((5, 7), (3, 2, 3, 3), 2, padding=1000, dilation=1000),
    "last taps left": Geometry((9, 9), (6, 5, 3, 3), padding=(0, 12), dilation=(4, 8)),
    "some taps beside": Geometry((6, 7), (13, 4, 4, 5), padding=(15, 30), dilation=(10, 15)),
    "some taps beside, depthwise": Geometry(
        (6, 7), (5, 1, 4, 5), padding=(15, 30), dilation=(10, 15), groups=5
    ),
    "same tap, other side": Geometry((4, 4), (5, 3, 2, 2), padding=6, dilation=9),
    "far apart": Geometry((40, 50), (14, 6, 3, 3), padding=17, dilation=17),
    "far apart, strided": Geometry((60, 41), (14, 6, 3, 3), (7, 3), 20, (20, 19)),
    "far apart, depthwise": Geometry((900,), (3, 1, 3), padding=400, dilation=400, groups=3),
    "stride beyond the image": Geometry((3, 4), (6, 5, 2, 3), LARGEST, 1),
    "stride beyond the kernel": Geometry((70, 65), (18, 7, 2, 1), (32, 31), 1),
    "places in the padding": Geometry((3, 1), (6, 4, 2, 2), 2**29, 2**30, 2**29 + 1),
    "places in the padding, depthwise": Geometry(
        (3, 1), (4, 1, 2, 2), 2**29, 2**30, 2**29 + 1, groups=4
    ),
    "transposed, stride beyond the kernel": Geometry(
        (2, 3), (6, 5, 3, 2), (40, 9), (1, 0), transposed=True
    ),
    "transposed, one pixel": Geometry((1, 1), (4, 4, 3, 3), 4000, transposed=True),
    "transposed, largest stride": Geometry(
        (1, 1), (4, 4, 2, 2), LARGEST, transposed=True, output_padding=(0, 40)
    ),
    "transposed, depthwise": Geometry(
        (1, 2), (4, 2, 2, 2), 200, groups=4, transposed=True, output_padding=7
    ),
    "transposed, dilated": Geometry((4, 5), (7, 3, 4, 4), (4, 6), 8, (9, 5), transposed=True),
    "transposed, volume": Geometry((1, 1, 1), (2, 3, 1, 2, 1), (90, 30, 60), transposed=True),
    "transposed, many phases": Geometry((2,), (3, 2, 1100), 1100, 0, 1, transposed=True),
    "transposed, taps of many inputs": Geometry((7, 7), (30, 2, 8, 8), 8, 30, 9, transposed=True),
}


def each(value: int | tuple[int, ...], dims: int) -> tuple[int, ...]:
    return (value,) * dims if isinstance(value, int) else value


def reference(case: Geometry, x: Tensor, w: Tensor) -> Tensor:
    dims = len(case.size)
    stride, padding, dilation, behind = (
        each(value, dims)
        for value in (case.stride, case.padding, case.dilation, case.output_padding)
    )
    touches = []
    for i, kernel in enumerate(w.shape[2:]):
        span = dilation[i] * (kernel - 1) + 1
        if case.transposed:
            places = x.shape[2 + i]
            pixels = (places - 1) * stride[i] - 2 * padding[i] + span + behind[i]
        else:
            pixels = x.shape[2 + i]
            places = (pixels + 2 * padding[i] - span) // stride[i] + 1
        table = torch.zeros(pixels, kernel, places, dtype=torch.float64)
        for t in range(kernel):
            for p in range(places):
                pixel = p * stride[i] - padding[i] + t * dilation[i]
                if 0 <= pixel < pixels:
                    table[pixel, t, p] = 1
        touches.append(table)
    sums = x.reshape(x.shape[0], case.groups, -1, *x.shape[2:])
    filters = w.reshape(case.groups, -1, *w.shape[1:])
    taps, places, pixels = "rst"[:dims], "abc"[:dims], "xyz"[:dims]
    tables = [f"{x}{t}{p}" for x, t, p in zip(pixels, taps, places, strict=True)]
    before, after = (places, pixels) if case.transposed else (pixels, places)
    of_filters = f"gio{taps}" if case.transposed else f"goi{taps}"
    operands = [(f"ngi{before}", sums), (of_filters, filters), *zip(tables, touches, strict=True)]
    names = ",".join(name for name, _ in operands)
    out = torch.einsum(f"{names}->ngo{after}", *(operand for _, operand in operands))
    return out.flatten(1, 2)


def convolve(case: Geometry, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
    name = f"conv{'_transpose' if case.transposed else ''}{len(case.size)}d"
    last = (
        (case.output_padding, case.groups, case.dilation)
        if case.transposed
        else (case.dilation, case.groups)
    )
    out: Tensor = getattr(functional, name)(x, w, bias, case.stride, case.padding, *last)
    return out


def tensors(case: Geometry, batch: int = 2) -> tuple[Tensor, Tensor]:
    channels = case.weight[0] if case.transposed else case.weight[1] * case.groups
    x = torch.randn(batch, channels, *case.size, dtype=torch.float64)
    return x, torch.randn(case.weight, dtype=torch.float64)


def compare(case: Geometry, layout: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
    x, w = (t.to(dtype) for t in tensors(case))
    ours = [layout(t).requires_grad_() for t in (x, w)]
    exact = [t.double().requires_grad_() for t in (x, w)]
    out, expected = convolve(case, *ours), reference(case, *exact)
    of_out = torch.randn(expected.shape, dtype=torch.float64)
    made = [out, *torch.autograd.grad(out, ours, of_out.to(dtype))]
    right = [expected, *torch.autograd.grad(expected, exact, of_out)]
    close = 1e-11 if dtype == torch.float64 else 1e-4
    for a, b in zip(made, right, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=close, atol=close)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_result_and_gradients(
    case: Geometry, layout: Callable[[Tensor], Tensor], dtype: torch.dtype, isa: str
) -> None:
    compare(case, layout, dtype)


def random_case(rng: random.Random) -> Geometry:
    """Of at most some hundred outputs, whatever the numbers."""
    numbers = (1, 1, 2, 3, 4, 5, 7, 12, 100, 256, 4096, 2**22 - 1, 2**30, LARGEST)
    transposed, dims = rng.random() < 0.4, rng.choice((1, 2, 2, 3))
    groups = rng.choice((1, 1, 2, 5))
    first, second = rng.choice(((1, 1), (2, 1), (2, 3), (13, 4), (9, 20)))
    columns = []
    while len(columns) < dims:
        size, kernel = rng.randint(1, 9), rng.randint(1, 4)
        stride, dilation = rng.choice(numbers), rng.choice(numbers)
        span = dilation * (kernel - 1) + 1
        padding = rng.choice((0, rng.randint(0, 9), span // 2, max(span - size, 0) // 2 + 1))
        if transposed:
            made = (size - 1) * stride - 2 * padding + span
        else:
            made = (size + 2 * padding - span) // stride + 1
        if padding <= LARGEST and 1 <= made <= (400, 20, 8)[dims - 1]:
            columns.append((size, kernel, stride, padding, dilation))
    size, kernel, *window = zip(*columns, strict=True)
    return Geometry(size, (first * groups, second, *kernel), *window, groups, transposed)


@pytest.mark.parametrize("seed", range(40))
def test_random_geometry(seed: int, isa: str) -> None:
    rng = random.Random(seed)
    compare(random_case(rng), rng.choice(list(LAYOUTS.values())), torch.float64)


@pytest.mark.parametrize(
    "name", ["one tap left", "some taps beside", "some taps beside, depthwise"]
)
def test_outputs_without_taps_are_the_bias(name: str, isa: str) -> None:
    case = CASES[name]
    x, w = tensors(case)
    bias = torch.randn(case.weight[0], dtype=torch.float64)
    expected = reference(case, x, w) + bias.view(-1, 1, 1)
    torch.testing.assert_close(convolve(case, x, w, bias), expected)
    out = functional.conv2d(
        x, w, bias, case.stride, case.padding, case.dilation, case.groups, activation="tanh"
    )
    torch.testing.assert_close(out, expected.tanh())


@pytest.mark.parametrize("groups", [1, 4], ids=["dense", "depthwise"])
def test_pixels_without_taps_are_the_bias(groups: int, isa: str) -> None:
    case = Geometry((2, 3), (4, 4 // groups, 2, 1), 5, 1, 1, groups, transposed=True)
    x, w = tensors(case)
    bias = torch.randn(4, dtype=torch.float64)
    expected = reference(case, x, w) + bias.view(-1, 1, 1)
    for activation, function in (("relu", torch.relu), ("sigmoid", torch.sigmoid)):
        out = functional.conv_transpose2d(x, w, bias, 5, 1, groups=groups, activation=activation)
        torch.testing.assert_close(out, function(expected))


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("name", ["one tap left", "some taps beside", "far apart, strided"])
def test_bits_depend_on_neither_batch_nor_threads(
    name: str, layout: Callable[[Tensor], Tensor], set_threads: Callable[[int], None]
) -> None:
    case = CASES[name]
    x, w = (layout(t.float()) for t in tensors(case, batch=5))
    outs = []
    for threads in (1, 2, 5):
        set_threads(threads)
        outs.append(convolve(case, x, w))
    alone = torch.cat([convolve(case, image, w) for image in x.split(1)])
    assert all(torch.equal(out, alone) for out in outs)


def test_packed_weights_keep_their_bits_where_taps_are_dropped() -> None:
    case = CASES["one tap left"]
    x, w = (LAYOUTS["channels_last"](t.float()) for t in tensors(case))
    packed = functional.pack_weight(w)
    out = functional.conv2d(x, packed, None, case.stride, case.padding, case.dilation)
    assert torch.equal(out, convolve(case, x, w))


FRESH = """
import os, resource, sys
import torch
import pyinit.functional as F
import pyinit.nn.grad as G

torch.set_num_threads(1)
F.conv2d(torch.ones(1, 32, 4, 4), torch.ones(32, 32, 1, 1))

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def grown(functions, i):
    before = peak()
    out = functions[i]()
    return peak() - before - out.numel() * out.element_size()

def in_child(function):
    '''What it returns: each begins with the memory that all have.'''
    receive, send = os.pipe()
    if os.fork() == 0:
        try:
            os.write(send, str(function()).encode())
        finally:
            os._exit(0)
    os.close(send)
    os.wait()
    return os.read(receive, 1000).decode()
"""

MEMORY = """
def layer(x, w, stride=1, padding=0, dilation=1, groups=1, transposed=False):
    dims = len(x) - 2
    memory_format = torch.channels_last if channels_last and dims == 2 else torch.contiguous_format

    def ones(shape):
        return torch.empty(shape, memory_format=memory_format).fill_(1)

    x, w = ones(x), ones(w)
    if transposed:
        f = getattr(F, f"conv_transpose{dims}d")
        return [lambda: f(x, w, None, stride, padding, 0, groups, dilation)]
    window = tuple((n,) * dims for n in (stride, padding, dilation))
    torchs = getattr(torch.nn.functional, f"conv{dims}d")
    y = ones(torchs(x.to("meta"), w.to("meta"), None, *window, groups).shape)
    of_input, of_weight = (getattr(G, f"conv{dims}d_{name}") for name in ("input", "weight"))
    return [
        lambda: getattr(F, f"conv{dims}d")(x, w, None, *window, groups),
        lambda: of_input(x.shape, w, y, *window, groups),
        lambda: of_weight(x, w.shape, y, *window, groups),
    ]

channels_last = sys.argv[1] == "channels_last"
layers = [
    ((1, 64, 8, 8), (64, 64, 3, 3), 1, 1024, 1024),
    ((1, 256, 33, 33), (64, 256, 3, 3), 1, 24, 24),
    ((1, 16, 33, 700), (16, 16, 3, 3), 1, 300, 300),
    ((1, 160, 256, 64), (160, 160, 1, 1), 32),
    ((1, 16, 40, 40, 40), (16, 16, 3, 3, 3), 1, 18, 18),
    ((1, 64, 20000), (64, 64, 3), 1, 6000, 6000),
    ((1, 2, 900, 900), (2, 1, 3, 3), 1, 400, 400, 2),
    ((1, 2, 100, 100), (1024, 1, 3, 3), 1, 1, 1, 2),
    ((1, 160, 4, 4), (160, 2, 16, 16), 16, 0, 17, 1, True),
    ((1, 160, 3, 3, 3), (160, 2, 8, 8, 8), 8, 0, 9, 1, True),
]
for numbers in layers:
    for i in range(1 if numbers[-1] is True else 3):
        print(in_child(lambda: grown(layer(*numbers), i)), i, numbers)
"""


@pytest.mark.large
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_a_thread_takes_at_most_8_mib(layout: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", FRESH + MEMORY, layout], check=True, capture_output=True, text=True
    )
    lines = run.stdout.splitlines()
    assert len(lines) == 26
    assert [line for line in lines if int(line.split()[0]) > 8 * 2**20] == []


WORK = """
resource.setrlimit(resource.RLIMIT_CPU, (15, 15))
largest = 2**31 - 1
x, w = torch.ones(1, 4, 1, 1), torch.ones(4, 4, 3, 3)
F.conv_transpose2d(x, w, stride=1000)
F.conv_transpose2d(x, w[..., :1, :1], stride=largest)
F.conv_transpose2d(x, w[:, :1, :1, :1].contiguous(), stride=largest, groups=4)
for memory_format in (torch.contiguous_format, torch.channels_last):
    image = torch.ones(2, 4, 5, 5).to(memory_format=memory_format)
    for groups in (1, 4):
        for kernel in (1, 3):
            filters = torch.ones(4, 4 // groups, kernel, kernel)
            y = F.conv2d(image, filters, stride=largest, groups=groups)
            G.conv2d_input(image.shape, filters, y, stride=(largest,) * 2, groups=groups)
            G.conv2d_weight(image, filters.shape, y, stride=(largest,) * 2, groups=groups)
x, w = torch.ones(1, 4, 2, 2, 2), torch.ones(4, 4, 1, 1, 1)
for stride in (200, largest):
    G.conv3d_input(x.shape, w, torch.ones(1, 4, 1, 1, 1), stride=(stride,) * 3)
    G.conv3d_weight(x, w.shape, torch.ones(1, 4, 1, 1, 1), stride=(stride,) * 3)
F.im2col(torch.ones(1, 4, 5, 5), 3, stride=largest, dilation=2)
F.col2im(torch.ones(1, 36, 1), 5, 3, stride=largest, dilation=2)
F.im2col(torch.ones(1, 4, 2, 2), 2, padding=2**30 - 1, dilation=largest)
F.conv1d(torch.ones(1, 1, 4), torch.ones(1).expand(1, 1, 2**32), padding=largest)
"""


def test_work_is_bounded_by_image_kernel_and_result() -> None:
    """Some milliseconds of it. What loops over strides or the padding ends at the limit."""
    subprocess.run([sys.executable, "-c", FRESH + WORK], check=True, capture_output=True)


def test_results_beyond_any_memory_are_refused_by_torch() -> None:
    x, w = torch.ones(1, 4, 2, 2), torch.ones(4, 4, 2, 2)
    for name, numbers in (
        ("conv2d", {"padding": LARGEST}),
        ("conv_transpose2d", {"stride": LARGEST}),
    ):
        with pytest.raises(RuntimeError) as expected:
            getattr(torchs, name)(x, w, **numbers)
        with pytest.raises(RuntimeError) as error:
            getattr(functional, name)(x, w, **numbers)
        assert str(error.value).startswith(str(expected.value))
    with pytest.raises(RuntimeError, match="overflow"):
        pyinit.nn.grad.conv2d_input((1, 4, 2**31, 2**31), torch.ones(4, 4, 1, 1), x, LARGEST)


def test_columns_beyond_any_memory_are_refused() -> None:
    with pytest.raises(RuntimeError, match="more than memory can hold"):
        functional.im2col(torch.ones(1, 4, 2, 2), 1, padding=LARGEST)


@pytest.mark.skipif(sys.platform != "linux", reason="needs mmap's and mprotect's numbers")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_nothing_is_read_in_front_of_rows_that_are_all_the_same(
    dtype: torch.dtype, isa: str
) -> None:
    page = mmap.PAGESIZE
    libc = ctypes.CDLL(None)
    libc.mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    memory = mmap.mmap(-1, 3 * page)
    dense = torch.frombuffer(memory, dtype=dtype)[page // dtype.itemsize :]
    for width in range(1, 40):
        row = dense[: 2 * 13 * width].view(2, 13, 1, width)
        row.copy_(torch.randn(row.shape, dtype=dtype))
        images = row.expand(2, 13, 4, width)
        weight = torch.randn(5, 13, 1, 1, dtype=dtype)
        start = dense.data_ptr() - page
        assert libc.mprotect(start, page, 0) == 0, isa
        try:
            out = functional.conv2d(images, weight)
        finally:
            libc.mprotect(start, page, mmap.PROT_READ | mmap.PROT_WRITE)
        expected = torch.einsum("nchw,oc->nohw", images.double(), weight[:, :, 0, 0].double())
        assert torch.allclose(out.double(), expected, rtol=1e-4, atol=1e-4)
