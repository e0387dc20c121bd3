"""pyinit.functional's convolutions against torch's own."""

import itertools
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as torchs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layouts import READ_LAYOUTS, laid_out
from routes import counted_kernels
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.utils.flop_counter import FlopCounterMode

import pyinit.functional as ours
from pyinit import _core
from pyinit._torch import views

pytestmark = pytest.mark.usefixtures("one_thread")

FUNCTIONS = [f"conv{kind}{dims}d" for kind in ("", "_transpose") for dims in (1, 2, 3)]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torchs.relu,
    "leaky_relu": torchs.leaky_relu,
    "elu": torchs.elu,
    "selu": torchs.selu,
    "gelu": torchs.gelu,
    "gelu_tanh": lambda x: torchs.gelu(x, approximate="tanh"),
    "silu": torchs.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softplus": torchs.softplus,
}
KERNELS = (("convolve", "convolve_transposed"), ("convolve_transposed", "convolve"))
"""The kernels of the result and of the gradient by the input, of both kinds of convolution."""


@pytest.fixture(autouse=True, scope="module")
def _poisoned_outputs() -> Iterator[None]:
    """Memory that is not written stays NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True, scope="module")
def _same_with_even_kernels() -> Iterator[None]:
    """torch warns, once a process, of a copy that it makes for padding="same"."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using padding='same'")
        torchs.conv1d(torch.zeros(1, 1, 4), torch.zeros(1, 1, 2), padding="same")
        yield


class Case(NamedTuple):
    name: str
    input: Tensor
    weight: Tensor
    bias: Tensor | None
    options: dict[str, Any]

    def by(self, module: Any) -> Tensor:
        out: Tensor = getattr(module, self.name)(self.input, self.weight, self.bias, **self.options)
        return out

    def tensors(self) -> list[Tensor]:
        return [x for x in (self.input, self.weight, self.bias) if x is not None]


@st.composite
def cases(draw: st.DrawFn, transposed: bool) -> Case:
    """Calls that torch takes."""
    integers = st.integers
    dims = draw(integers(1, 3))
    most = {1: 9, 2: 6, 3: 4}[dims]
    groups, taken, made = (draw(integers(1, 3)) for _ in range(3))
    numbers = lambda low, high: st.one_of(
        integers(low, high), st.tuples(*[integers(low, high)] * dims)
    )
    kernel = tuple(draw(integers(1, 3)) for _ in range(dims))
    dilation = draw(numbers(1, 2))
    options: dict[str, Any] = {"dilation": dilation, "groups": groups}
    each = lambda x: (x,) * dims if isinstance(x, int) else x
    reach = [d * (k - 1) + 1 for d, k in zip(each(dilation), kernel, strict=True)]
    if transposed:
        options["stride"] = stride = draw(numbers(1, 3))
        behind = [max(s, d) - 1 for s, d in zip(each(stride), each(dilation), strict=True)]
        options["output_padding"] = tuple(draw(integers(0, b)) for b in behind)
        padding = tuple(draw(integers(0, (r - 1) // 2)) for r in reach)
        options["padding"] = padding
        size = tuple(draw(integers(1, most)) for _ in range(dims))
        shape = (groups * taken, made, *kernel)
    else:
        padding = draw(st.one_of(st.sampled_from(["same", "valid"]), numbers(0, 2)))
        options["padding"] = padding
        options["stride"] = 1 if padding == "same" else draw(numbers(1, 3))
        both = (
            reach
            if padding == "same"
            else [2 * p for p in each(0 if padding == "valid" else padding)]
        )
        size = tuple(
            draw(integers(max(1, r - b), max(1, r - b) + most))
            for r, b in zip(reach, both, strict=True)
        )
        shape = (groups * made, taken, *kernel)
    batch = draw(integers(1, 3))
    torch.manual_seed(draw(integers(0, 2**30)))
    layout = st.sampled_from(list(READ_LAYOUTS))
    input = laid_out((batch, groups * taken, *size), draw(layout))
    if draw(st.booleans()) and batch == 1:
        input = input[0]
    weight = laid_out(shape, draw(layout))
    bias = laid_out((groups * made,), draw(st.sampled_from(["contiguous", "gaps"])))
    name = f"conv{'_transpose' * transposed}{dims}d"
    return Case(name, input, weight, bias if draw(st.booleans()) else None, options)


def equal_to_rounding(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)
    steps = zip(one.shape, one.stride(), other.stride(), strict=True)
    assert all(size == 1 or a == b for size, a, b in steps), (one.stride(), other.stride())


def check_against_torch(case: Case, layout: str) -> None:
    leaves = [x.detach().requires_grad_() for x in case.tensors()]
    case = Case(case.name, *leaves, *[None] * (3 - len(leaves)), case.options)
    with counted_kernels() as calls:
        made = case.by(ours)
        with torch.no_grad():
            assert torch.equal(case.by(ours), made)
        grad = laid_out(tuple(made.shape), layout)
        gradients = torch.autograd.grad(made, leaves, grad)
    forward, by_input = KERNELS["transpose" in case.name]
    assert calls.pop(forward) == 2
    assert calls == dict.fromkeys(
        (by_input, "convolve_weight_gradient", "sum_channels")[: len(leaves)], 1
    )
    expected = case.by(torchs)
    equal_to_rounding(made, expected)
    for ours_, theirs in zip(gradients, torch.autograd.grad(expected, leaves, grad), strict=True):
        equal_to_rounding(ours_, theirs)


@settings(
    max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
@given(cases(transposed=False), st.sampled_from(list(READ_LAYOUTS)))
def test_a_convolution_and_its_gradients_are_torchs_to_rounding(case: Case, layout: str) -> None:
    check_against_torch(case, layout)


@settings(
    max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
@given(cases(transposed=True), st.sampled_from(list(READ_LAYOUTS)))
def test_a_transposed_one_and_its_gradients_are_torchs_to_rounding(case: Case, layout: str) -> None:
    check_against_torch(case, layout)


def a_case(name: str, dtype: torch.dtype = torch.float64, layout: str = "contiguous") -> Case:
    dims = int(name[-2])
    generator = torch.manual_seed(5)
    del generator
    input = laid_out((2, 4, *(6, 5, 4)[:dims]), layout, dtype)
    weight = laid_out(
        (4, 3, *(3, 2, 3)[:dims]) if "transpose" in name else (6, 2, *(3, 2, 3)[:dims]),
        layout,
        dtype,
    )
    options = {"stride": 2, "padding": 1, "groups": 2}
    return Case(name, input, weight, torch.randn(6, dtype=dtype), options)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_is_as_exact_as_torch(name: str, native_calls: Counter[str]) -> None:
    case = a_case(name, torch.float32)
    exact = case._replace(
        input=case.input.double(), weight=case.weight.double(), bias=case.bias.double()
    ).by(torchs)
    error = (case.by(ours) - exact).abs().max()
    assert error <= 2 * (case.by(torchs) - exact).abs().max() + 1e-7
    assert native_calls.total() == 1


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_and_gradients_have_torchs_memory_format(name: str, dtype: torch.dtype) -> None:
    shapes = [x.shape for x in a_case(name).tensors()[:2]]
    for layouts in itertools.product(["contiguous", "channels_last", "gaps"], repeat=2):
        leaves = [
            laid_out(s, x, dtype).requires_grad_() for s, x in zip(shapes, layouts, strict=True)
        ]
        both = []
        for module in (ours, torchs):
            out = getattr(module, name)(*leaves, groups=2)
            both.append([x.stride() for x in (out, *torch.autograd.grad(out.sum(), leaves))])
        assert both[0] == both[1], layouts


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_of_first_and_second_order(name: str, native_calls: Counter[str]) -> None:
    dims = int(name[-2])
    is_transposed = "transpose" in name
    input = torch.randn(1, 2, *(4, 3, 2)[:dims], dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 1, *(2, 1, 2)[:dims], dtype=torch.float64, requires_grad=True)
    bias = torch.randn(2, dtype=torch.float64, requires_grad=True)
    function = getattr(ours, name)
    options: list[dict[str, Any]] = [
        {"stride": 2, "padding": 1},
        {"dilation": 2, "padding": 1 if is_transposed else 2},
    ]
    options.append({"stride": 2, "output_padding": 1} if is_transposed else {"padding": "same"})
    for option in options:
        call = lambda *x, o=option: function(*x, groups=2, **o)
        assert gradcheck(call, (input, weight, bias))
        assert gradgradcheck(call, (input, weight, bias))
        kernels = {"convolve", "convolve_transposed", "convolve_weight_gradient", "sum_channels"}
        assert native_calls.keys() == kernels
        native_calls.clear()


@pytest.mark.parametrize("wanted", list(itertools.product([False, True], repeat=3)))
@pytest.mark.parametrize("function", ["conv2d", "conv_transpose2d"])
def test_only_the_gradients_asked_for(
    function: str, wanted: tuple[bool, bool, bool], native_calls: Counter[str]
) -> None:
    case = a_case(function)
    leaves = [x.requires_grad_(w) for x, w in zip(case.tensors(), wanted, strict=True)]
    out = case.by(ours)
    forward, by_input = KERNELS["transpose" in function]
    assert native_calls == {forward: 1}
    native_calls.clear()
    assert out.requires_grad is any(wanted)
    if any(wanted):
        out.sum().backward()
    assert tuple(x.grad is not None for x in leaves) == wanted
    kernels = by_input, "convolve_weight_gradient", "sum_channels"
    assert native_calls == {name: 1 for name, w in zip(kernels, wanted, strict=True) if w}


def test_a_weight_changed_before_backward_is_noticed() -> None:
    case = a_case("conv2d")
    case.weight.requires_grad_()
    case.input.requires_grad_()
    out = case.by(ours)
    with torch.no_grad():
        case.weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("function", ["conv2d", "conv_transpose2d"])
def test_an_activation_is_torchs_after_the_convolution(
    function: str, name: str, native_calls: Counter[str]
) -> None:
    case = a_case(function)
    leaves = [x.requires_grad_() for x in case.tensors()]
    fused = case._replace(options=case.options | {"activation": name})
    expected = ACTIVATIONS[name](case.by(torchs))
    equal_to_rounding(fused.by(ours), expected)
    with torch.no_grad():
        equal_to_rounding(fused.by(ours), expected)
    grad = torch.randn_like(expected)
    for made, theirs in zip(
        torch.autograd.grad(fused.by(ours), leaves, grad),
        torch.autograd.grad(expected, leaves, grad),
        strict=True,
    ):
        equal_to_rounding(made, theirs)
    forward, by_input = KERNELS["transpose" in function]
    assert native_calls.pop(forward) == 3
    native_calls.pop("activate", None)  # test_routes.py says where it is a part of the kernel
    backward = "activate_backward", by_input, "convolve_weight_gradient", "sum_channels"
    assert native_calls == dict.fromkeys(backward, 1)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_second_derivatives_with_an_activation(name: str, native_calls: Counter[str]) -> None:
    tensors = [
        torch.randn(s, dtype=torch.float64, requires_grad=True)
        for s in ((1, 1, 4), (2, 1, 2), (2,))
    ]
    call = lambda *x: ours.conv1d(*x, activation=name)
    assert gradcheck(call, tensors)
    assert gradgradcheck(call, tensors)
    assert native_calls.keys() >= {"convolve", "convolve_transposed", "convolve_weight_gradient"}


@pytest.mark.parametrize(
    ("name", "parameter"), [("leaky_relu", 0.3), ("leaky_relu", -0.3), ("elu", 0.5)]
)
def test_an_activations_parameter(name: str, parameter: float, native_calls: Counter[str]) -> None:
    case = a_case("conv1d")
    case.input.requires_grad_()
    options = {"activation": name, "activation_parameter": parameter}
    made = case._replace(options=case.options | options).by(ours)
    expected = getattr(torchs, name)(case.by(torchs), parameter)
    equal_to_rounding(made, expected)
    equal_to_rounding(*(torch.autograd.grad(x.sum(), case.input)[0] for x in (made, expected)))
    is_fused = {} if parameter > 0 else {"activate": 1}
    assert native_calls == {
        "convolve": 1,
        "activate_backward": 1,
        "convolve_transposed": 1,
        **is_fused,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "swish"}, r"activation must be one of 'relu', .*, got 'swish'"),
        ({"activation": 1}, r"activation must be one of .*, got 1"),
        (
            {"activation": "relu", "activation_parameter": 1.0},
            r"activation_parameter: 'relu' has none",
        ),
        ({"activation_parameter": 1.0}, r"activation_parameter: there is no activation, got 1.0"),
    ],
)
def test_unknown_activations_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ours.conv1d(torch.ones(1, 1, 3), torch.ones(1, 1, 1), **options)


@pytest.mark.parametrize("parameter", ["a", "0.3", [0.3]])
def test_a_parameter_that_is_no_number_is_refused(parameter: Any) -> None:
    with pytest.raises(TypeError, match="activation_parameter must be a number, got "):
        ours.conv1d(
            torch.ones(1, 1, 3),
            torch.ones(1, 1, 1),
            activation="elu",
            activation_parameter=parameter,
        )


X, W, B = torch.ones(2, 4, 5, 5), torch.ones(6, 4, 3, 3), torch.ones(6)
WT = torch.ones(4, 6, 3, 3)
REFUSED: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "channels": ("conv2d", (X[:, :3], W), {}),
    "groups": ("conv2d", (X, W), {"groups": 3}),
    "no groups": ("conv2d", (X, W), {"groups": 0}),
    "groups of a float": ("conv2d", (X, W), {"groups": 1.0}),
    "input dimensions": ("conv2d", (X[0, 0], W), {}),
    "weight dimensions": ("conv2d", (X, W[0]), {}),
    "bias size": ("conv2d", (X, W, B[:5]), {}),
    "bias dimensions": ("conv2d", (X, W, B[None]), {}),
    "bias dtype": ("conv2d", (X, W, B.double()), {}),
    "weight dtype": ("conv2d", (X, W.double()), {}),
    "no weight": ("conv2d", (X, None), {}),
    "input of a list": ("conv2d", ([1.0], W), {}),
    "sparse input": ("conv2d", (X.to_sparse(), W), {}),
    "stride 0": ("conv2d", (X, W), {"stride": 0}),
    "stride of a float": ("conv2d", (X, W), {"stride": (1.0, 1)}),
    "stride of a bool": ("conv2d", (X, W), {"stride": True}),
    "three strides": ("conv2d", (X, W), {"stride": (1, 1, 1)}),
    "padding -1": ("conv2d", (X, W), {"padding": -1}),
    "unknown padding": ("conv2d", (X, W), {"padding": "full"}),
    "same and stride": ("conv2d", (X, W), {"padding": "same", "stride": 2}),
    "dilation 0": ("conv2d", (X, W), {"dilation": 0}),
    "kernel beyond the input": ("conv2d", (X[:, :, :2], W), {}),
    "dilated beyond the input": ("conv2d", (X, W), {"dilation": 3}),
    "beyond 64 bits": ("conv2d", (X, W), {"stride": 2**64}),
    "empty input": ("conv2d", (X[:, :, :0], W), {}),
    "empty kernel": ("conv2d", (X, W[:, :, :0]), {}),
    "transposed channels": ("conv_transpose2d", (X[:, :3], WT), {}),
    "transposed bias": ("conv_transpose2d", (X, WT, B[:5]), {}),
    "output padding of the stride": ("conv_transpose2d", (X, WT), {"output_padding": 1}),
    "output padding -1": ("conv_transpose2d", (X, WT), {"output_padding": -1, "stride": 2}),
    "transposed to nothing": ("conv_transpose2d", (X[:, :, :1], WT), {"padding": 2}),
    "transposed same": ("conv_transpose2d", (X, WT), {"padding": "same"}),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_torch_refuses_is_refused_with_its_words_and_the_arguments(what: str) -> None:
    name, tensors, options = REFUSED[what]
    # Its like, which is taken, comes first: nothing that was remembered of it may answer for this.
    if all(isinstance(x, Tensor) for x in tensors):
        getattr(ours, name)(X, W if name == "conv2d" else WT, stride=(1, 1))
    with pytest.raises((RuntimeError, TypeError, ValueError)) as theirs:
        getattr(torchs, name)(*tensors, **options)
    with pytest.raises(theirs.type) as raised:
        getattr(ours, name)(*tensors, **options)
    text = str(raised.value)
    assert str(theirs.value).splitlines()[0].split(" - got")[0] in text
    described = f"{list(tensors[0].shape)}" if isinstance(tensors[0], Tensor) else repr(tensors[0])
    assert f"input={described}" in text
    assert all(f"{key}={value}" in text for key, value in options.items())


@pytest.mark.parametrize(
    ("input", "weight", "padding"),
    [
        ((0, 4, 5, 5), (6, 4, 3, 3), 0),
        ((0, 4, 5, 5), (6, 4, 3, 3), "same"),
        ((2, 0, 5, 5), (6, 0, 3, 3), 0),
        ((0, 4, 1, 5), (6, 4, 3, 3), 1),
    ],
)
def test_empty_results_are_torchs(input: Any, weight: Any, padding: Any) -> None:
    tensors = torch.ones(input), torch.ones(weight)
    made = ours.conv2d(*tensors, padding=padding)
    assert made.shape == torchs.conv2d(*tensors, padding=padding).shape


class Subclass(Tensor):
    pass


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.complex64, torch.int64])
def test_other_dtypes_are_torchs(name: str, dtype: torch.dtype, native_calls: Counter[str]) -> None:
    case = a_case(name, torch.float32)
    tensors = [(4 * x).round().to(dtype) for x in case.tensors()]
    case = Case(name, *tensors, case.options)
    made = case.by(ours)
    assert made.dtype == dtype
    assert torch.equal(made, case.by(torchs))
    assert not native_calls


def test_other_tensors_are_torchs() -> None:
    case = a_case("conv2d", torch.float32)
    expected = case.by(torchs)
    meta = Case("conv2d", *(x.to("meta") for x in case.tensors()), case.options).by(ours)
    assert meta.shape == expected.shape
    assert meta.is_meta
    assert type(case._replace(input=case.input.as_subclass(Subclass)).by(ours)) is Subclass
    flipped = case._replace(input=torch._neg_view(case.input)).by(ours)
    torch.testing.assert_close(flipped, case._replace(input=-case.input).by(torchs))
    ints = case._replace(options=case.options | {"stride": torch.tensor(2)})
    torch.testing.assert_close(ints.by(ours), expected)


def test_modes_and_tracers_see_torchs_own_function() -> None:
    case = a_case("conv2d", torch.float32)
    with FlopCounterMode(display=False) as mode:
        case.by(ours)
    flops = mode.get_total_flops()
    with FlopCounterMode(display=False) as mode:
        case.by(torchs)
    assert flops == mode.get_total_flops() > 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(lambda x: ours.conv2d(x, case.weight, **case.options), case.input)
    assert "aten::_convolution" in str(traced.graph)


def test_fx_records_torchs_own_function() -> None:
    case = a_case("conv2d", torch.float32)
    traced = torch.fx.symbolic_trace(lambda x: ours.conv2d(x, case.weight, **case.options))
    assert [x.target for x in traced.graph.nodes if x.op == "call_function"] == [torch.conv2d]


def test_a_torch_without_dlpacks_exchange_interface(
    monkeypatch: pytest.MonkeyPatch, native_calls: Counter[str]
) -> None:
    case = a_case("conv2d", layout="gaps")
    expected = case.by(ours)
    monkeypatch.setattr(views, "_find_readable", views.readable_by_methods)
    assert torch.equal(case.by(ours), expected)
    assert native_calls == {"convolve": 2}


def test_autocast_computes_as_torch_does() -> None:
    case = a_case("conv2d", torch.float32)
    with torch.autocast("cpu"):
        made, expected = case.by(ours), case.by(torchs)
    assert made.dtype == torch.bfloat16
    assert torch.equal(made, expected)


def test_a_result_does_not_depend_on_threads_or_on_instruction_sets_with_fma(
    set_threads: Callable[[int], None],
) -> None:
    usual = _core.isa()
    for name in FUNCTIONS:
        case = a_case(name, torch.float32)
        leaves = [x.requires_grad_() for x in case.tensors()]
        results = []
        for isa in _core.available_isas():
            if isa == "baseline":
                continue
            _core.set_isa(isa)
            for threads in (1, 2, 5):
                set_threads(threads)
                out = case.by(ours)
                results.append([out, *torch.autograd.grad(out.sum(), leaves)])
        _core.set_isa(usual)
        for other in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_calls_from_several_python_threads(native_calls: Counter[str]) -> None:
    case = a_case("conv2d", torch.float32)
    expected = case.by(ours)
    results: list[Tensor] = []
    work = lambda: results.extend(case.by(ours) for _ in range(20))
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 80
    assert native_calls == {"convolve": 81}
    assert all(torch.equal(x, expected) for x in results)


def test_an_input_of_more_than_2_to_the_31_bytes(native_calls: Counter[str]) -> None:
    input = torch.from_numpy(np.zeros((1, 1, 2**29 + 8), np.float32))  # pages nobody has touched
    input[0, 0, :: 2**22] = torch.arange(129.0)
    weight = torch.tensor([[[3.0]]])
    assert torch.equal(ours.conv1d(input, weight, stride=2**22)[0, 0], 3 * torch.arange(129.0))
    far = ours.conv1d(input[..., 2**29 - 2 :], torch.ones(1, 1, 3), padding=1)
    assert far.flatten().tolist() == [0, 128, 128, 128, 0, 0, 0, 0, 0, 0]
    assert native_calls == {"convolve": 2}


@pytest.mark.parametrize("name", ["conv1d", "conv_transpose1d"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_dimensional_results_lie_as_torchs(name: str, dtype: torch.dtype) -> None:
    sizes = itertools.product((1, 2), (1, 3), (1, 4), (1, 5), (1, 2))  # batch, in, out, width, taps
    orders = list(itertools.permutations(range(3)))
    for batch, ins, outs, width, taps in sizes:
        if taps > width:
            continue
        kernel = (outs, ins, taps) if name == "conv1d" else (ins, outs, taps)
        for of_x, of_w in itertools.product(orders, repeat=2):
            x, weight = (
                torch.rand([shape[i] for i in order], dtype=dtype).permute(
                    [order.index(i) for i in range(3)]
                )
                for shape, order in (((batch, ins, width), of_x), (kernel, of_w))
            )
            wanted = getattr(torchs, name)(x, weight)
            result = getattr(ours, name)(x, weight)
            assert result.stride() == wanted.stride(), (x.shape, x.stride(), weight.stride())
            torch.testing.assert_close(result, wanted)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("other", [None, [1.0], np.ones((1, 1, 1)), "x", 3], ids=type)
def test_what_is_no_tensor_is_a_type_error_as_of_torch(name: str, other: Any) -> None:
    dims = int(name[-2])
    x, weight = torch.ones(1, 2, *(3,) * dims), torch.ones(2, 2, *(1,) * dims)
    calls = [(other, weight), (x, other), (other, other)]
    calls += [(x, weight, other)] if other is not None else []
    for call in calls:
        with pytest.raises(TypeError):
            getattr(torchs, name)(*call)
        with pytest.raises(TypeError, match="input="):
            getattr(ours, name)(*call)
