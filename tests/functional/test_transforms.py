"""Convolutions under torch's compiler, exporters, tracers and function transforms."""

import functools
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as torchs
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torchs_samples import torchs_samples

import pyinit.functional as ours

pytestmark = pytest.mark.usefixtures("one_thread")

OPERATORS = torch.ops.pyinit


def layer(module: Any, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """A convolution, an activation, and a transposed convolution."""
    y = torchs.relu(module.conv2d(x, w, b, 1, (2, 1), 1, 2))
    return module.conv_transpose2d(y, w, None, 2, 1, 1, 2)


def fused(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    y = ours.conv2d(x, w, b, 1, (2, 1), 1, 2, activation="relu")
    return ours.conv_transpose2d(y, w, None, 2, 1, 1, 2)


expected = functools.partial(layer, torchs)


def total(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *x: function(*x).sin().sum()


@pytest.fixture
def tensors() -> list[Tensor]:
    shapes = (2, 4, 5, 4), (6, 2, 3, 2), (6,)
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def equal(one: Any, other: Any) -> None:
    torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_one_graph_of_torch_compile(
    backend: str, compiler: Callable[..., Any], tensors: list[Tensor]
) -> None:
    compiled = torch.compile(fused, fullgraph=True, backend=backend)
    made, theirs = compiled(*tensors), expected(*tensors)
    equal(made, theirs)
    equal(*(torch.autograd.grad(x.sin().sum(), tensors) for x in (made, theirs)))


def test_a_compiled_graph_holds_the_operators(
    compiler: Callable[..., Any], tensors: list[Tensor]
) -> None:
    names = []

    def record(graph: Any, _: Any) -> Any:
        names.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    torch.compile(fused, fullgraph=True, backend=record)(*tensors)
    assert sum(name.startswith("pyinit.convolution") for name in names) == 2


def test_symbolic_sizes(compiler: Callable[..., Any], tensors: list[Tensor]) -> None:
    compiled = torch.compile(fused, fullgraph=True, backend="aot_eager", dynamic=True)
    w, b = (x.detach() for x in tensors[1:])
    for batch, height in ((2, 5), (3, 7)):
        x = torch.randn(batch, 4, height, 4, dtype=torch.float64)
        equal(compiled(x, w, b), expected(x, w, b))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiled_memory_formats(
    layout: torch.memory_format, dtype: torch.dtype, compiler: Callable[..., Any]
) -> None:
    x = torch.randn(2, 4, 5, 4, dtype=dtype).contiguous(memory_format=layout)
    w = torch.randn(6, 4, 3, 3, dtype=dtype)
    compiled = torch.compile(ours.conv2d, fullgraph=True, backend="aot_eager")
    assert compiled(x, w).stride() == torchs.conv2d(x, w).stride()


def test_compiled_calls_for_torch(compiler: Callable[..., Any]) -> None:
    compiled = torch.compile(ours.conv2d, fullgraph=True, backend="aot_eager")
    x, w = torch.randn(1, 2, 4, 4), torch.randn(3, 2, 3, 3)
    assert torch.equal(
        compiled(x.bfloat16(), w.bfloat16()), torchs.conv2d(x.bfloat16(), w.bfloat16())
    )
    with torch.autocast("cpu"):
        assert compiled(x, w).dtype == torch.bfloat16


class Model(torch.nn.Module):
    def __init__(self, w: Tensor, b: Tensor) -> None:
        super().__init__()
        self.w, self.b = torch.nn.Parameter(w.detach()), torch.nn.Parameter(b.detach())

    def forward(self, x: Tensor) -> Tensor:
        return fused(x, self.w, self.b)


@pytest.mark.parametrize("strict", [True, False])
def test_export_with_a_symbolic_batch(
    strict: bool, compiler: Callable[..., Any], tensors: list[Tensor]
) -> None:
    x, w, b = (t.detach() for t in tensors)
    shapes = ({0: torch.export.Dim("batch", min=2, max=64)},)
    program = torch.export.export(Model(w, b), (x,), dynamic_shapes=shapes, strict=strict)
    assert str(program.graph).count("torch.ops.pyinit.convolution") == 2
    many = torch.cat([x, x, x])
    equal(program.module()(many), expected(many, w, b))


@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_make_fx_records_the_operators(
    mode: str, compiler: Callable[..., Any], tensors: list[Tensor]
) -> None:
    plain = [x.detach() for x in tensors]
    graph = make_fx(fused, tracing_mode=mode)(*plain)
    assert graph.code.count("torch.ops.pyinit.convolution") == 2
    equal(graph(*plain), expected(*plain))


@pytest.mark.parametrize(
    "dims", [(0, None, None), (1, None, None), (None, 0, None), (None, None, 0), (1, 2, 0)]
)
def test_vmap(
    dims: tuple[int | None, ...], tensors: list[Tensor], native_calls: Counter[str]
) -> None:
    many = [
        x.detach() if dim is None else torch.stack([torch.randn_like(x) for _ in range(3)], dim)
        for x, dim in zip(tensors, dims, strict=True)
    ]
    equal(torch.vmap(fused, dims)(*many).detach(), torch.vmap(expected, dims)(*many).detach())
    assert native_calls


def test_function_gradients(tensors: list[Tensor], native_calls: Counter[str]) -> None:
    both = [torch.func.grad(total(f), (0, 1, 2))(*tensors) for f in (fused, expected)]
    equal(*both)
    assert native_calls


def test_gradients_of_each_sample(tensors: list[Tensor], native_calls: Counter[str]) -> None:
    x, w, b = tensors
    samples = torch.randn(3, *x.shape, dtype=torch.float64)
    both = [
        torch.vmap(torch.func.grad(total(f), (0, 1, 2)), (0, None, None))(samples, w, b)
        for f in (fused, expected)
    ]
    equal(*both)
    assert native_calls


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own code
@pytest.mark.parametrize("transform", [torch.func.hessian, torch.func.jacrev])
def test_jacobians(transform: Any, tensors: list[Tensor]) -> None:
    x, w, b = (t.detach() for t in tensors)
    both = [transform(total(lambda b, f=f: f(x[:1], w, b)))(b) for f in (fused, expected)]
    equal(*both)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own code
def test_forward_derivatives(tensors: list[Tensor]) -> None:
    x, w, b = (t.detach() for t in tensors)
    both = [torch.func.jvp(lambda x, f=f: f(x, w, b), (x,), (x,)) for f in (fused, expected)]
    equal(*both)


def test_a_batch_of_gradients(tensors: list[Tensor], native_calls: Counter[str]) -> None:
    grads = torch.randn(3, *expected(*tensors).shape, dtype=torch.float64)
    both = [
        torch.autograd.grad(f(*tensors), tensors, grads, is_grads_batched=True)
        for f in (fused, expected)
    ]
    equal(*both)
    assert native_calls


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", ["convolution", "convolution_transposed", "convolution_weight"])
def test_operators_are_registered_as_torch_asks(
    name: str, channels_last: bool, compiler: Callable[..., Any]
) -> None:
    shapes = {"image": (2, 4, 6, 5), "weight": (6, 2, 3, 2), "result": (2, 6, 3, 4)}
    taken = {
        "convolution": ("image", "weight", "result"),
        "convolution_transposed": ("result", "weight", "image"),
        "convolution_weight": ("image", "result", "weight"),
    }[name]
    first, second = (torch.randn(shapes[x], requires_grad=True) for x in taken[:2])
    size = list(shapes[taken[2]][2:])
    window = [2, 1], [1, 0], [1, 1], 2, channels_last
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.library.opcheck(getattr(OPERATORS, name).default, (first, second, size, *window))


FUNCTIONS = [f"conv{kind}{dims}d" for kind in ("", "_transpose") for dims in (1, 2, 3)]


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_torchs_samples(name: str) -> None:
    count = 0
    for dtype in (torch.float32, torch.float64):
        for sample in torchs_samples()[f"nn.functional.{name}"].sample_inputs(
            "cpu", dtype, requires_grad=True
        ):
            both = []
            for module in (ours, torchs):
                out = getattr(module, name)(sample.input, *sample.args, **sample.kwargs)
                leaves = [x for x in (sample.input, *sample.args) if isinstance(x, Tensor)]
                both.append((out, *torch.autograd.grad(out.sum(), leaves)))
            tolerance = 1e-4 if dtype == torch.float32 else 1e-11
            torch.testing.assert_close(*both, rtol=tolerance, atol=10 * tolerance)
            count += 1
    assert count


@pytest.mark.parametrize("name", FUNCTIONS)
def test_torchs_samples_of_errors(name: str) -> None:
    entry = torchs_samples()[f"nn.functional.{name}"]
    for error in entry.error_inputs("cpu") if entry.error_inputs_func else ():
        sample = error.sample_input
        with pytest.raises(error.error_type, match=error.error_regex):
            getattr(ours, name)(sample.input, *sample.args, **sample.kwargs)
