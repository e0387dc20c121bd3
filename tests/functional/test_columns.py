"""``im2col`` and ``col2im`` against torch's ``unfold`` and ``fold``; the convolution made of them."""

from collections import Counter
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import READ_LAYOUTS, laid_out
from routes import counted_kernels
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.functional import fold, unfold
from torchs_samples import torchs_samples

from pyinit import _core
from pyinit.functional import col2im, convolution_by_im2col, im2col

CONVOLUTIONS = (torch.conv1d, torch.conv2d, torch.conv3d)


def unfold_nd(image: Tensor, kernel: Any, dilation: Any, padding: Any, stride: Any) -> Tensor:
    """By indexing, pixel by pixel, for any number of dimensions."""
    around = [p for p in reversed(padding) for _ in range(2)]
    padded = torch.nn.functional.pad(image, around)
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    sizes = zip(padded.shape[2:], reach, stride, strict=True)
    places = [range(0, size - r + 1, s) for size, r, s in sizes]
    rows = []
    for channel, *tap in product(range(image.shape[1]), *map(range, kernel)):
        offsets = [t * d for t, d in zip(tap, dilation, strict=True)]
        pixels = [
            padded[(slice(None), channel, *(p + o for p, o in zip(place, offsets, strict=True)))]
            for place in product(*places)
        ]
        rows.append(torch.stack(pixels, dim=1))
    return torch.stack(rows, dim=1)


@st.composite
def windows(draw: st.DrawFn, dims: int) -> tuple[tuple[int, ...], dict[str, Any]]:
    """A size of images, and arguments that fit it: numbers or tuples."""

    def numbers(least: int, most: int) -> Any:
        each = st.integers(least, most)
        return draw(
            st.one_of(each, st.tuples(*[each] * dims)) if dims == 2 else st.tuples(*[each] * dims)
        )

    arguments = {
        "kernel_size": numbers(1, 4),
        "dilation": numbers(1, 3),
        "padding": numbers(0, 3),
        "stride": numbers(1, 4),
    }
    kernel, dilation, padding = (
        value if isinstance(value, tuple) else (value,) * dims
        for value in list(arguments.values())[:3]
    )
    least = [
        max(1, d * (k - 1) + 1 - 2 * p) for k, d, p in zip(kernel, dilation, padding, strict=True)
    ]
    size = tuple(n + draw(st.integers(0, 9)) for n in least)
    return size, arguments


kinds = st.tuples(
    st.sampled_from(list(READ_LAYOUTS)),
    st.sampled_from([torch.float32, torch.float64]),
    st.integers(0, 2**31),
)


@settings(max_examples=100, deadline=None)
@given(windows(dims=2), st.integers(0, 3), st.integers(1, 3), kinds)
def test_im2col_is_unfold(
    window: Any, batch: int, channels: int, kind: tuple[str, torch.dtype, int]
) -> None:
    size, arguments = window
    torch.manual_seed(kind[2])
    images = laid_out((batch, channels, *size), *kind[:2])
    with counted_kernels() as calls:
        columns = im2col(images, **arguments)
    assert calls == {"im2col": 1}
    assert torch.equal(columns, unfold(images, **arguments))
    assert columns.is_contiguous()
    assert all(torch.equal(im2col(x, **arguments), y) for x, y in zip(images, columns, strict=True))


@settings(max_examples=100, deadline=None)
@given(windows(dims=2), st.integers(0, 3), st.integers(1, 3), kinds)
def test_col2im_is_fold(
    window: Any, batch: int, channels: int, kind: tuple[str, torch.dtype, int]
) -> None:
    size, arguments = window
    shape = unfold(torch.empty(1, channels, *size), **arguments).shape[1:]
    torch.manual_seed(kind[2])
    columns = laid_out((batch, *shape), *kind[:2])
    with counted_kernels() as calls:
        images = col2im(columns, size, **arguments)
    assert calls == {"col2im": 1}
    assert torch.equal(images, fold(columns, size, **arguments))
    assert images.is_contiguous()
    assert all(
        torch.equal(col2im(x, size, **arguments), y) for x, y in zip(columns, images, strict=True)
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3).flatmap(windows), kinds)
def test_every_number_of_dimensions(window: Any, kind: tuple[str, torch.dtype, int]) -> None:
    size, arguments = window
    torch.manual_seed(kind[2])
    images = laid_out((2, 2, *size), *kind[:2])
    numbers = [v if isinstance(v, tuple) else (v,) * len(size) for v in arguments.values()]
    columns = im2col(images, **arguments)
    assert torch.equal(columns, unfold_nd(images, *numbers))
    # The transposed map: <A x, y> = <x, A' y>.
    other = torch.randn(columns.shape, dtype=torch.float64)
    one = (columns.double() * other).sum()
    two = (images.double() * col2im(other, size, **arguments)).sum()
    torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("layout", READ_LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_plain_tensors_are_not_left_to_torch(
    layout: str, dtype: torch.dtype, native_calls: Counter[str]
) -> None:
    im2col(laid_out((2, 3, 5, 6), layout, dtype), 3)
    col2im(laid_out((2, 27, 12), layout, dtype), (5, 6), 3)
    assert native_calls == {"im2col": 1, "col2im": 1}


def test_torchs_own_samples() -> None:
    op = torchs_samples()["nn.functional.unfold"]  # fold has none
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.complex64):
        for sample in op.sample_inputs("cpu", dtype):
            images, arguments = sample.input, sample.args
            columns = unfold(images, *arguments)
            size = images.shape[-2:]
            assert torch.equal(im2col(images, *arguments), columns)
            assert torch.equal(col2im(columns, size, *arguments), fold(columns, size, *arguments))


@pytest.mark.filterwarnings("ignore:`torch.jit.script`")  # torch's own use of it
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_gradients(dims: int, native_calls: Counter[str]) -> None:
    size, window = (
        (4, 3, 4)[:dims],
        ((2, 1, 3)[:dims], (2, 1, 1)[:dims], (1, 0, 2)[:dims], (1, 2, 2)[:dims]),
    )
    images = torch.randn(2, 2, *size, dtype=torch.float64, requires_grad=True)
    columns = im2col(images, *window).detach().requires_grad_()
    for function, x in (
        (lambda x: im2col(x, *window), images),
        (lambda x: col2im(x, size, *window), columns),
        (lambda x: im2col(x, *window), images[0].detach().requires_grad_()),
    ):
        assert gradcheck(function, x, check_forward_ad=True)
        assert gradgradcheck(function, x)
    assert native_calls.keys() == {"im2col", "col2im"}


def test_gradient_of_a_sum_which_has_no_strides(native_calls: Counter[str]) -> None:
    images = torch.randn(2, 3, 7, 6, requires_grad=True)
    (ours,) = torch.autograd.grad(im2col(images, 3, padding=1).sum(), images)
    (theirs,) = torch.autograd.grad(unfold(images, 3, padding=1).sum(), images)
    assert torch.equal(ours, theirs)
    assert native_calls == {"im2col": 1, "col2im": 1}


def test_bits_for_every_number_of_threads(set_threads: Callable[[int], None], isa: str) -> None:
    images = torch.randn(2, 37, 33, 35)
    columns = unfold(images, 3, 2, 3, 2)
    folded = fold(columns, (33, 35), 3, 2, 3, 2)
    for threads in (1, 2, 3, 7):
        set_threads(threads)
        assert torch.equal(im2col(images, 3, 2, 3, 2), columns)
        assert torch.equal(col2im(columns, (33, 35), 3, 2, 3, 2), folded)


@pytest.mark.large
def test_more_than_2_to_the_31_bytes() -> None:
    plane = torch.randn(1024, 1024)
    channels = 2**31 // plane.nbytes + 2
    columns = im2col(plane.expand(channels, -1, -1), 1)
    assert columns.nbytes > 2**31
    for channel in (0, channels - 2, channels - 1):
        assert torch.equal(columns[channel], plane.flatten())
    columns[-2] = 7
    images = col2im(columns, plane.shape, 1)
    assert torch.equal(images[-1], plane)
    assert torch.equal(images[-2], torch.full_like(plane, 7))


def test_whole_target_is_written() -> None:
    """Between the numbers that the kernels may write, nothing changes; of the numbers, all."""
    images = torch.randn(2, 3, 6, 5)
    columns = unfold(images, 3, 1, 2, 2)
    window = (3, 3), (4, 4), (2, 2), (2, 2), (1, 1), 2
    for source, expected, kernel in (
        (images, columns, _core.im2col),
        (columns, fold(columns, (6, 5), 3, 1, 2, 2), _core.col2im),
    ):
        memory = torch.full([2 * n for n in expected.shape], torch.nan)
        target = memory[tuple(slice(None, None, 2) for _ in expected.shape)]
        views = [
            (t.data_ptr(), _core.FLOAT32, tuple(t.shape), t.stride()) for t in (source, target)
        ]
        kernel(*views, *window)
        assert torch.equal(target, expected)
        assert memory.isnan().sum() == memory.numel() - target.numel()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.complex64])
def test_other_dtypes_go_to_torch_in_two_dimensions_only(
    dtype: torch.dtype, native_calls: Counter[str]
) -> None:
    images = torch.randn(2, 3, 6, 5, dtype=dtype)
    columns = unfold(images, 3, padding=1)
    assert torch.equal(im2col(images, 3, padding=1), columns)
    assert torch.equal(col2im(columns, (6, 5), 3, padding=1), fold(columns, (6, 5), 3, padding=1))
    with pytest.raises(NotImplementedError, match=rf"input must be .* 3 spatial .*{dtype}"):
        im2col(torch.zeros(1, 1, 2, 2, 2, dtype=dtype), (2, 2, 2))
    assert not native_calls


def test_meta_and_transforms_go_to_torch(native_calls: Counter[str]) -> None:
    images = torch.randn(3, 2, 6, 5)
    assert im2col(images.to("meta"), 3).shape == (3, 18, 12)
    assert torch.equal(torch.vmap(lambda x: im2col(x, 3))(images), unfold(images, 3))
    gradient = torch.func.grad(lambda x: im2col(x, 3).square().sum())(images)
    expected = torch.func.grad(lambda x: unfold(x, 3).square().sum())(images)
    torch.testing.assert_close(gradient, expected)
    assert not native_calls


IMAGES, COLUMNS = torch.zeros(2, 3, 5, 6), torch.zeros(2, 12, 20)


@pytest.mark.parametrize(
    ("images", "arguments", "message"),
    [
        (IMAGES, {"kernel_size": 7}, r"kernel_size must fit .*\(7, 7\).*\(5, 6\)"),
        (IMAGES, {"kernel_size": 3, "dilation": 3}, r"kernel_size must fit .*dilation \(3, 3\)"),
        (IMAGES, {"kernel_size": (2,) * 4}, r"kernel_size must be .* 1 to 3 .*\(2, 2, 2, 2\)"),
        (IMAGES, {"kernel_size": 0}, "kernel_size must be from 1 .*got 0"),
        (IMAGES, {"kernel_size": 2, "padding": -1}, "padding must be from 0 .*got -1"),
        (IMAGES, {"kernel_size": 2, "stride": 0}, "stride must be from 1 .*got 0"),
        (IMAGES, {"kernel_size": 2, "dilation": (1, 0)}, r"dilation must be from 1 .*got \(1, 0\)"),
        (IMAGES, {"kernel_size": 2, "stride": (1, 1, 1)}, r"stride must be a number, or 2 of them"),
        (IMAGES[:, :0], {"kernel_size": 2}, r"input must have .*\(2, 0, 5, 6\)"),
        (IMAGES[:, :, :0], {"kernel_size": 2, "padding": 1}, r"input must have .*\(2, 3, 0, 6\)"),
        (IMAGES[None], {"kernel_size": 2}, r"input must have .*\(1, 2, 3, 5, 6\)"),
    ],
)
def test_im2col_refuses_what_unfold_refuses(
    images: Tensor, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(RuntimeError):
        unfold(images, **arguments)
    with pytest.raises(RuntimeError, match=message):
        im2col(images, **arguments)


@pytest.mark.parametrize(
    ("columns", "size", "kernel", "message"),
    [
        (COLUMNS, (5, 5), 2, r"dimension 2, got 20 for \(4, 4\), of output_size \(5, 5\)"),
        (COLUMNS, (5, 6), 3, r"dimension 1, got 12 for kernel_size \(3, 3\)"),
        (COLUMNS, (5, 6), (2, 2, 2), "kernel_size must be a number, or 2 of them"),
        (COLUMNS, (0, 6), 2, r"output_size must be from 1 .*got \(0, 6\)"),
        (COLUMNS, (1, 6), 2, r"kernel_size must fit .*\(1, 6\)"),
        (COLUMNS[0, 0], (5, 6), 2, r"input must have 2 sizes .*\(20,\)"),
        (COLUMNS[:, :0], (5, 6), 2, r"input must have 2 sizes .*\(2, 0, 20\)"),
        (COLUMNS[:, :, :0], (5, 6), 2, r"input must have 2 sizes .*\(2, 12, 0\)"),
    ],
)
def test_col2im_refuses_what_fold_refuses(
    columns: Tensor, size: Any, kernel: Any, message: str
) -> None:
    with pytest.raises(RuntimeError):
        fold(columns, size, kernel)
    with pytest.raises(RuntimeError, match=message):
        col2im(columns, size, kernel)


@pytest.mark.parametrize("value", [2.0, True, "2", None, (2, 1.0)])
def test_numbers_are_ints(value: Any) -> None:
    for name, others in (("stride", {"kernel_size": 2}), ("kernel_size", {})):
        with pytest.raises(TypeError, match=f"{name} must be an int or a tuple of ints"):
            im2col(IMAGES, **others, **{name: value})
    with pytest.raises(TypeError, match=r"input must be a torch\.Tensor, got list"):
        im2col([1.0], 2)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3).flatmap(windows),
    st.sampled_from([(1, 2, 3), (1, 1, 1), (2, 3, 1), (3, 1, 2)]),
    st.integers(0, 2),
    st.booleans(),
)
def test_reference_convolution_is_torchs(
    window: Any, channels: tuple[int, int, int], batch: int, with_bias: bool
) -> None:
    size, arguments = window
    groups, inputs, outputs = channels
    kernel = arguments.pop("kernel_size")
    kernel = kernel if isinstance(kernel, tuple) else (kernel,) * len(size)
    images = torch.randn(batch, groups * inputs, *size, dtype=torch.float64)
    weight = torch.randn(groups * outputs, inputs, *kernel, dtype=torch.float64)
    bias = torch.randn(groups * outputs, dtype=torch.float64) if with_bias else None
    convolve = CONVOLUTIONS[len(size) - 1]
    expected = convolve(images, weight, bias, groups=groups, **arguments)
    with counted_kernels() as calls:
        actual = convolution_by_im2col(images, weight, bias, groups=groups, **arguments)
    assert calls == {"im2col": 1, "gemm": 1}
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    for image, one in zip(images, expected, strict=True):
        actual = convolution_by_im2col(image, weight, bias, groups=groups, **arguments)
        torch.testing.assert_close(actual, one, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_reference_convolution_has_gradients(dims: int, native_calls: Counter[str]) -> None:
    shapes = (2, 4, *(4, 3, 2)[:dims]), (6, 2, *(2, 3, 1)[:dims]), (6,)
    tensors = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]

    def convolve(*tensors: Tensor) -> Tensor:
        return convolution_by_im2col(*tensors, stride=2, padding=1, groups=2)

    assert gradcheck(convolve, tensors)
    assert gradgradcheck(convolve, tensors)
    assert native_calls.keys() == {"im2col", "col2im", "gemm"}


@pytest.mark.parametrize(
    ("weight", "bias", "groups", "message"),
    [
        (torch.zeros(4, 3), None, 1, r"weight must have 3 to 5 dimensions, got shape \(4, 3\)"),
        (torch.zeros(4, 3, 2, 2), None, 3, "groups must divide the 4 filters of weight, got 3"),
        (torch.zeros(4, 3, 2, 2), None, 0, "groups must divide .*got 0"),
        (torch.zeros(4, 2, 2, 2), None, 1, r"input must have 2 channels .*\(2, 3, 5, 6\)"),
        (torch.zeros(4, 3, 2), None, 1, "input must have 3 channels and 1 spatial"),
        (torch.zeros(4, 3, 2, 2), torch.zeros(3), 1, r"bias must have shape \(4,\), got \(3,\)"),
        (torch.zeros(4, 3, 2, 2).double(), None, 1, "weight must be of input's .*float64"),
        (torch.zeros(4, 3, 7, 2), None, 1, r"kernel_size must fit .*\(7, 2\)"),
    ],
)
def test_reference_convolution_refuses_what_torch_refuses(
    weight: Tensor, bias: Tensor | None, groups: int, message: str
) -> None:
    if weight.dim() == 4:
        with pytest.raises((RuntimeError, ValueError)):
            torch.conv2d(IMAGES, weight, bias, groups=groups)
    with pytest.raises(RuntimeError, match=message):
        convolution_by_im2col(IMAGES, weight, bias, groups=groups)
