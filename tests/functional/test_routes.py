"""Which way each documented call takes: to the kernels, to an operator, or to torch.

docs/convolution.md promises it. Results alone would not tell, because torch's are as good.
"""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from routes import counted_kernels, counted_routes
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from torch_versions import VERSION

import pyinit.functional as ours
from pyinit import nn as our_nn
from pyinit._functional.activations import ACTIVATIONS
from pyinit._functional.geometry import LARGEST_STEP

DIMS = pytest.mark.parametrize("dims", [1, 2, 3])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
SIZE, TAPS = (6, 5, 4), (3, 2, 2)
Call = Callable[[], Any]


def image(dims: int = 2, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(2, 4, *SIZE[:dims], dtype=dtype)


def filters(dims: int = 2, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(4, 4, *TAPS[:dims], dtype=dtype)


X, W, B = image(), filters(), torch.randn(4)


def route(call: Call) -> dict[str, int]:
    """How often each kernel, the operators and torch's function were called."""
    with counted_routes() as calls:
        call()
    return dict(calls)


def kernels(call: Call) -> dict[str, int]:
    """How often each kernel was called, also where the call is compiled."""
    with counted_kernels() as calls:
        call()
    return dict(calls)


@pytest.fixture(autouse=True)
def _one_thread(set_threads: Callable[[int], None]) -> None:
    """The tensors are tiny: more threads would wait for each other most of the time."""
    set_threads(1)


# ---- Kernels -------------------------------------------------------------------------------------

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.movedim(1, -1).contiguous().movedim(-1, 1),
    "sliced": lambda x: torch.stack([x, x], -1)[..., 0],
    "transposed": lambda x: x.transpose(-1, -2).contiguous().transpose(-1, -2),
    "expanded": lambda x: x[:1].expand(x.shape),
    "parameter": nn.Parameter,
}


@DIMS
@DTYPES
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_goes_to_the_kernels(layout: str, dtype: torch.dtype, dims: int) -> None:
    x, w = (LAYOUTS[layout](t).detach() for t in (image(dims, dtype), filters(dims, dtype)))
    bias = torch.randn(8, dtype=dtype)[::2]
    forward, transposed = (getattr(ours, f"conv{kind}{dims}d") for kind in ("", "_transpose"))
    assert route(lambda: forward(x, w, bias)) == {"convolve": 1}
    assert route(lambda: forward(x[0], w)) == {"convolve": 1}
    assert route(lambda: transposed(x, w, bias)) == {"convolve_transposed": 1}
    assert route(lambda: transposed(x[0], w)) == {"convolve_transposed": 1}


NUMBERS: dict[str, dict[str, Any]] = {
    "a stride": {"stride": 2},
    "a stride for each": {"stride": (2, 1)},
    "a list": {"stride": [1, 2]},
    "a size": {"stride": torch.Size([1, 2])},
    "padding": {"padding": (2, 1)},
    "dilation": {"dilation": 2, "padding": 2},
    "same": {"padding": "same"},
    "valid": {"padding": "valid"},
    "strides beyond the image": {"stride": LARGEST_STEP},
    "padding beyond the image": {"padding": 1000, "stride": 500},
}


@pytest.mark.parametrize("numbers", NUMBERS.values(), ids=NUMBERS)
def test_any_integers_go_to_the_kernels(numbers: dict[str, Any]) -> None:
    assert route(lambda: ours.conv2d(X, W, B, **numbers)) == {"convolve": 1}


@pytest.mark.parametrize("groups", [2, 4], ids=["groups", "depthwise"])
def test_groups_go_to_the_kernels(groups: int) -> None:
    w = W[:, : 4 // groups]
    assert route(lambda: ours.conv2d(X, w, groups=groups)) == {"convolve": 1}
    transposed = lambda: ours.conv_transpose2d(X, w, groups=groups, stride=2, output_padding=1)
    assert route(transposed) == {"convolve_transposed": 1}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize(
    ("function", "kernel"), [("conv2d", "convolve"), ("conv_transpose2d", "convolve_transposed")]
)
def test_an_activation_is_part_of_the_kernel(function: str, kernel: str, name: str) -> None:
    call = lambda x: getattr(ours, function)(x, W, B, activation=name)
    assert route(lambda: call(X)) == {kernel: 1}
    with torch.no_grad():
        assert route(lambda: call(X.clone().requires_grad_())) == {kernel: 1}
    is_fused = ACTIVATIONS[name].from_output
    in_training = route(lambda: call(X.clone().requires_grad_()))
    assert in_training == ({kernel: 1} if is_fused else {kernel: 1, "activate": 1})
    out = call(X.clone().requires_grad_())
    backward = route(lambda: out.sum().backward())
    other = {"convolve": "convolve_transposed", "convolve_transposed": "convolve"}[kernel]
    assert backward == {"activate_backward": 1, other: 1}


@pytest.mark.parametrize("name", ["leaky_relu", "elu"])
def test_a_negative_parameter_is_fused_where_nothing_is_differentiated(name: str) -> None:
    call = lambda x: ours.conv2d(x, W, activation=name, activation_parameter=-0.5)
    assert route(lambda: call(X)) == {"convolve": 1}
    assert route(lambda: call(X.clone().requires_grad_())) == {"convolve": 1, "activate": 1}


GRADIENTS = {
    "conv": ("convolve_transposed", "convolve_weight_gradient", "sum_channels"),
    "conv_transpose": ("convolve", "convolve_weight_gradient", "sum_channels"),
}


@DIMS
@DTYPES
@pytest.mark.parametrize("kind", GRADIENTS)
def test_gradients_go_to_the_kernels(kind: str, dtype: torch.dtype, dims: int) -> None:
    tensors = image(dims, dtype), filters(dims, dtype), torch.randn(4, dtype=dtype)
    leaves = [x.requires_grad_() for x in tensors]
    out = getattr(ours, f"{kind}{dims}d")(*leaves, padding=1)
    assert route(lambda: out.sum().backward()) == dict.fromkeys(GRADIENTS[kind], 1)


def test_second_derivatives_go_to_the_kernels() -> None:
    leaves = [x.clone().requires_grad_() for x in (X, W)]
    first = torch.autograd.grad(ours.conv2d(*leaves).square().sum(), leaves, create_graph=True)
    # By each of the two gradients: what depends on the image, the weight and the gradient of the result.
    calls = route(lambda: torch.autograd.grad([x.sum() for x in first], leaves))
    assert "torch" not in calls
    assert "operator" not in calls
    assert set(calls) == {"convolve", "convolve_transposed", "convolve_weight_gradient"}


@DIMS
@DTYPES
def test_gradients_by_one_tensor_go_to_the_kernels(dtype: torch.dtype, dims: int) -> None:
    x, w = image(dims, dtype), filters(dims, dtype)
    grad = getattr(ours, f"conv{dims}d")(x, w)
    by = lambda name, *args: getattr(our_nn.grad, f"conv{dims}d_{name}")(*args)
    assert route(lambda: by("input", x.shape, w, grad)) == {"convolve_transposed": 1}
    assert route(lambda: by("weight", x, w.shape, grad)) == {"convolve_weight_gradient": 1}
    assert route(lambda: by("bias", grad)) == {"sum_channels": 1}
    half = grad.half()
    assert route(lambda: by("input", x.shape, w.half(), half)) == {}
    assert route(lambda: by("weight", x.half(), w.shape, half)) == {}
    assert route(lambda: by("bias", half)) == {}


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@DIMS
def test_modules_go_to_the_kernels(dims: int, mode: str) -> None:
    layer = getattr(our_nn, f"Conv{dims}d")(4, 4, 3, padding=1, padding_mode=mode)
    converted = our_nn.convert_(getattr(nn, f"Conv{dims}d")(4, 4, 3, padding=1, padding_mode=mode))
    transposed = getattr(our_nn, f"ConvTranspose{dims}d")(4, 4, 3, stride=2)
    x = image(dims)
    assert route(lambda: layer(x)) == route(lambda: converted(x)) == {"convolve": 1}
    assert route(lambda: transposed(x)) == {"convolve_transposed": 1}


def test_a_packed_weight_goes_to_the_kernel() -> None:
    packed = ours.pack_weight(W)
    for x in (X, X.to(memory_format=torch.channels_last)):
        assert route(lambda x=x: ours.conv2d(x, packed)) == {"convolve": 1}


def test_a_device_context_changes_no_route() -> None:
    with torch.device("cpu"):
        assert route(lambda: ours.conv2d(X, W)) == {"convolve": 1}
    with torch.inference_mode():
        assert route(lambda: ours.conv2d(X, W)) == {"convolve": 1}


# ---- Operators -----------------------------------------------------------------------------------


def test_vmap_sees_an_operator_and_ends_in_the_kernel() -> None:
    many = torch.randn(3, *X.shape)
    calls = route(lambda: torch.vmap(ours.conv2d, (0, None))(many, W))
    assert calls.pop("operator") >= 1
    assert calls == {"convolve": 1}


def test_function_gradients_see_operators_and_end_in_the_kernels() -> None:
    total = lambda x, w: ours.conv2d(x, w).sum()
    for transform in (torch.func.grad, torch.func.jacrev):
        calls = route(lambda t=transform: t(total, (0, 1))(X, W))
        assert calls.pop("operator") >= 3
        assert "torch" not in calls
        assert set(calls) == {"convolve", "convolve_transposed", "convolve_weight_gradient"}


def test_batched_gradients_end_in_the_kernels_one_by_one() -> None:
    leaves = [x.clone().requires_grad_() for x in (X, W)]
    out = ours.conv2d(*leaves)
    grads = torch.randn(3, *out.shape)
    calls = route(lambda: torch.autograd.grad(out, leaves, grads, is_grads_batched=True))
    assert calls.pop("operator") >= 2
    assert calls == {"convolve_transposed": 3, "convolve_weight_gradient": 3}


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_calls_end_in_the_kernels(backend: str, compiler: Callable[..., Any]) -> None:
    compiled = torch.compile(ours.conv2d, fullgraph=True, backend=backend)
    leaves = [x.clone().requires_grad_() for x in (X, W)]
    compiled(*leaves)
    out: list[Tensor] = []
    assert kernels(lambda: out.append(compiled(*leaves))) == {"convolve": 1}
    backward = {"convolve_transposed": 1, "convolve_weight_gradient": 1}
    assert kernels(lambda: out[0].sum().backward()) == backward


def test_exported_and_traced_programs_end_in_the_kernels(compiler: Callable[..., Any]) -> None:
    layer = our_nn.Conv2d(4, 4, 3)
    exported = torch.export.export(layer, (X,)).module()
    graph = make_fx(lambda x: ours.conv2d(x, W))(X)
    for program in (exported, graph):
        assert route(lambda p=program: p(X)) == {"convolve": 1}


# ---- torch ---------------------------------------------------------------------------------------


class Subclass(Tensor):
    pass


class Passing(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class Dispatching(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def under(mode: Any, call: Call) -> Any:
    with mode:
        return call()


def converted(to: Callable[[Tensor], Tensor]) -> Call:
    return lambda: ours.conv2d(to(X), to(W))


def forward_mode() -> Any:
    with torch.autograd.forward_ad.dual_level():
        return ours.conv2d(torch.autograd.forward_ad.make_dual(X, X), W)


def jit_trace() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(lambda x: ours.conv2d(x, W), X, check_trace=False)


TORCHS: dict[str, Call] = {
    "float16": converted(Tensor.half),
    "bfloat16": converted(Tensor.bfloat16),
    "complex": converted(lambda x: x.to(torch.complex64)),
    "integers": converted(Tensor.int),
    "meta": converted(lambda x: x.to("meta")),
    "mkldnn": lambda: ours.conv2d(X.to_mkldnn(), W.to_mkldnn()),
    "subclass": converted(lambda x: x.as_subclass(Subclass)),
    "negative view": converted(torch._neg_view),
    "function mode": lambda: under(Passing(), converted(lambda x: x)),
    "dispatch mode": lambda: under(Dispatching(), converted(lambda x: x)),
    "flop counter": lambda: under(FlopCounterMode(display=False), converted(lambda x: x)),
    "autocast": lambda: under(torch.autocast("cpu"), converted(lambda x: x)),
    "forward mode": forward_mode,
    "jvp": lambda: torch.func.jvp(lambda x: ours.conv2d(x, W), (X,), (X,)),
    "torch.jit.trace": jit_trace,
    "empty batch": lambda: ours.conv2d(X[:0], W),
    "no channels": lambda: ours.conv2d(X[:, :0], W[:, :0]),
    "transposed, empty batch": lambda: ours.conv_transpose2d(X[:0], W),
}
if VERSION >= (2, 13):
    TORCHS["a stride of a tensor"] = lambda: ours.conv2d(X, W, stride=torch.tensor(2))
REFUSED: dict[str, Call] = {
    "a stride of a bool": lambda: ours.conv2d(X, W, stride=True),
    "a stride of a float": lambda: ours.conv2d(X, W, stride=1.0),
    "a stride of 0": lambda: ours.conv2d(X, W, stride=0),
    "no outputs": lambda: ours.conv2d(X, W[:0]),
    "channels": lambda: ours.conv2d(X[:, :3], W),
    "dtypes": lambda: ours.conv2d(X, W.double()),
    "bias": lambda: ours.conv2d(X, W, B[:3]),
    "kernel beyond the image": lambda: ours.conv2d(X, W, dilation=9),
    "a stride beyond 64 bits": lambda: ours.conv2d(X, W, stride=2**64),
    "a result beyond memory": lambda: ours.conv2d(X, W, padding=2**30),
    "sparse": lambda: ours.conv2d(X.to_sparse(), W),
}


@pytest.mark.parametrize("case", TORCHS)
@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
def test_what_goes_to_torch(case: str) -> None:
    assert route(TORCHS[case]) == {"torch": 1}


@pytest.mark.parametrize("case", REFUSED)
def test_what_torch_refuses_goes_to_torch(case: str) -> None:
    def refused() -> None:
        with pytest.raises((RuntimeError, TypeError, ValueError)):
            REFUSED[case]()

    assert route(refused) == {"torch": 1}


def test_transforms_inside_a_compiled_call_are_torchs(compiler: Callable[..., Any]) -> None:
    gradient = torch.func.grad(lambda x: ours.conv2d(x, W).sum())
    compiled = torch.compile(gradient, backend="aot_eager")
    assert kernels(lambda: compiled(X)) == {}


def test_a_float64_volume_in_channels_last_goes_to_the_kernel() -> None:
    x = image(3, torch.float64).contiguous(memory_format=torch.channels_last_3d)
    assert route(lambda: ours.conv3d(x, filters(3, torch.float64))) == {"convolve": 1}
