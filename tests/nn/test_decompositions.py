"""What exporters make of pyinit's convolutions: torch's operators, and ONNX."""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as torchs
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

import pyinit.functional as ours
from pyinit import nn as our_nn

pytestmark = pytest.mark.usefixtures("one_thread")


def equal(one: Any, other: Any) -> None:
    torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


# Arguments of a convolution behind the tensors: stride, padding, dilation, groups.
WINDOWS = [
    (1, 0, 1, 1),
    (2, 1, 1, 2),
    (3, 2, 2, 1),
    (1, "same", 1, 1),
    (1, "same", 3, 2),
    ([2], [0], [2], 4),
]
# And of a transposed one: stride, padding, output padding, groups, dilation.
TRANSPOSED_WINDOWS = [
    (1, 0, 0, 1, 1),
    (2, 1, 1, 2, 1),
    (3, 2, 0, 1, 2),
    (1, 1, 2, 1, 3),
    (2, 0, 2, 2, 3),
]


def operators(names: Any) -> list[str]:
    return [name for name in map(str, names) if "conv" in name]


def graph_of(function: Callable[..., Any], *tensors: Tensor) -> Any:
    return make_fx(function, decomposition_table=our_nn.decompositions())(*tensors)


def of_graph(graph: Any) -> list[str]:
    return operators(n.target for n in graph.graph.nodes if n.op == "call_function")


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("kind", ["conv", "conv_transpose"])
def test_a_convolution_and_its_gradients_in_torchs_operators(
    kind: str, kernel: int, dims: int, compiler: Callable[..., Any]
) -> None:
    for window in WINDOWS if kind == "conv" else TRANSPOSED_WINDOWS:
        groups = window[3]
        x = torch.randn(2, 4, *(9, 8, 7)[:dims], dtype=torch.float64)
        shape = (8, 4 // groups) if kind == "conv" else (4, 8 // groups)
        w = torch.randn(*shape, *(kernel, 2, 3)[:dims], dtype=torch.float64)

        function = partial(with_gradients, f"{kind}{dims}d", window)
        graph = graph_of(partial(function, ours), x, w)
        assert of_graph(graph)
        assert all(name.startswith("aten.convolution") for name in of_graph(graph))
        equal(graph(x, w), function(torchs, x, w))


def with_gradients(name: str, window: Any, module: Any, x: Tensor, w: Tensor) -> list[Tensor]:
    x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
    y = getattr(module, name)(x, w, None, *window)
    made = torch.autograd.grad(y.square().sum(), (x, w), create_graph=True)
    again = torch.autograd.grad(made[0].square().sum() + made[1].sin().sum(), (x, w))
    return [t.detach() for t in (y, *made, *again)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_decomposed_results_have_the_memory_format_of_the_operators(
    layout: torch.memory_format, compiler: Callable[..., Any]
) -> None:
    x = torch.randn(2, 4, 6, 5).contiguous(memory_format=layout)
    w = torch.randn(6, 4, 3, 3)
    graph = graph_of(lambda x, w: ours.conv2d(x, w, padding=1), x, w)
    assert graph(x, w).stride() == ours.conv2d(x, w, padding=1).stride()


def network() -> nn.Module:
    torch.manual_seed(4)
    plain = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 6, (2, 3), padding="same"),
        nn.GELU(),
        nn.ConvTranspose2d(6, 4, 2, stride=2, output_padding=1),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular", groups=2),
        nn.LeakyReLU(0.2),
        nn.Flatten(2),
        nn.Conv1d(4, 2, 3, bias=False),
    )
    return our_nn.convert_(plain.eval(), fuse=True)


def pictures(count: int = 2, height: int = 8) -> Tensor:
    return torch.randn(count, 3, height, 6, generator=torch.Generator().manual_seed(1))


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(
    ("strict", "dynamic"), [(False, ()), (False, (0, 2)), (True, ()), (True, (0,))]
)
def test_a_decomposed_program_has_torchs_operators_alone(
    strict: bool, dynamic: tuple[int, ...], compiler: Callable[..., Any]
) -> None:
    model = network()
    shapes = {"input": {i: torch.export.Dim(f"d{i}", min=4, max=64) for i in dynamic}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of its own code
        program = torch.export.export(model, (pictures(4),), dynamic_shapes=shapes, strict=strict)
        kept = program.run_decompositions({})
        made = program.run_decompositions(our_nn.decompositions())
    assert len(operators(n.target for n in kept.graph.nodes)) == 5
    names = {str(n.target) for n in made.graph.nodes if n.op == "call_function"}
    assert not {name for name in names if name.startswith("pyinit")}
    assert {"aten.convolution.default", "aten.relu.default", "aten.gelu.default"} <= names
    for sizes in ((5, 8), (6, 20))[: len(dynamic)] or ((4, 8),):
        x = pictures(*sizes)
        torch.testing.assert_close(made.module()(x), model(x), rtol=1e-4, atol=1e-5)


def test_the_table_may_be_changed() -> None:
    operator = torch.ops.pyinit.convolution.default
    table = our_nn.decompositions()
    del table[operator]
    assert operator in our_nn.decompositions()
    assert operator not in table
    assert torch.ops.aten.addcmul.default in table  # torch's own default ones are there, too


def test_compilers_keep_the_operators(compiler: Callable[..., Any]) -> None:
    seen: list[str] = []

    def record(graph: Any, _: Any) -> Any:
        seen.extend(of_graph(graph))
        return graph.forward

    backend = torch._dynamo.backends.common.aot_autograd(fw_compiler=record)
    for dynamic in (False, True):
        seen.clear()
        torch._dynamo.reset()
        torch.compile(network(), fullgraph=True, backend=backend, dynamic=dynamic)(pictures())
        assert sum(name.startswith("pyinit.convolution") for name in seen) >= 5
        assert not any(name.startswith("aten") for name in seen)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("batch", [2, 5])
@pytest.mark.parametrize("dynamo", [False, True])
def test_onnx(dynamo: bool, batch: int, tmp_path: Path, compiler: Callable[..., Any]) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model, x, path = network(), pictures(batch), str(tmp_path / "model.onnx")
    options: dict[str, Any] = (
        {"dynamic_shapes": {"input": {0: "batch"}}, "verbose": False}
        if dynamo
        else {"dynamic_axes": {"input": {0: "batch"}}, "input_names": ["input"]}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (pictures(),), path, dynamo=dynamo, **options)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (made,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(made), model(x).detach(), rtol=1e-4, atol=1e-5)
