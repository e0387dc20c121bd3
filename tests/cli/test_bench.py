"""``pyinit bench`` and the benchmark suite."""

import importlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from paths import ROOT
from programs import run_python
from torch import nn

from pyinit import _core
from pyinit.bench import (
    LIBRARIES,
    RESNET50,
    ActivationCase,
    Case,
    Convolution,
    Fill,
    Shapes,
    Statistics,
    activations,
    cases,
    convolutions,
    fills,
    looks,
    measure,
    models,
    usual_cases,
    usual_convolutions,
)
from pyinit.bench._convolutions import LAYERS, Layer
from pyinit.cli import main
from pyinit.models import resnet


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["bench", *arguments])


def test_cases_hold_the_promised_rows_once() -> None:
    names = [str(case) for case in usual_cases()]
    assert len(set(names)) == len(names)
    everything = [str(case) for case in cases()]
    assert len(set(everything)) == len(everything)
    assert set(names) <= set(everything)
    assert set(names) >= {
        "uniform_ float32 2^24",
        "normal_ float32 2^24",
        "trunc_normal_ float32 2^24",
        "trunc_normal_(std=0.02) float32 2^24",
        "trunc_normal_ bfloat16 2^22",
        "normal_ float32 64x64x32x32 channels_last",
        "kaiming_uniform_ float32 8x8",
        "kaiming_uniform_ float32 16x16",
        "kaiming_uniform_ float32 32x32",
        "dirac_ float32 512x512x3x3",
        "sparse_(sparsity=0.9) float32 4096x4096",
        "normal_ float32 2^26 fresh",
        "uniform_ float32 0",
        "constant_(val=0.5) float32 1",
        "orthogonal_ float32 8x8",
        "orthogonal_ float64 512x512",
        "orthogonal_many_ float32 resnet50",
        *(
            f"orthogonal_ float32 {size}{rng}"
            for size in ("64x64", "4096x4096", "512x512x3x3", "4096x1024", "50257x768")
            for rng in ("", " rng=torch")
        ),
    }


def test_resnet50_is_its_53_convolutions() -> None:
    with torch.device("meta"):
        network = resnet.ResNet()
    weights = [p for p in network.parameters() if p.dim() == 4]
    assert sorted(RESNET50.each) == sorted(tuple(weight.shape) for weight in weights)
    case = Fill("orthogonal_many_", RESNET50)
    assert (len(case.shapes), case.numel) == (53, 23_454_912)


SQUARE = 4 / 3 * 8**3
TALL = 2 * 30 * 8**2 - 2 / 3 * 8**3


@pytest.mark.parametrize(
    ("case", "flops"),
    [
        (Fill("orthogonal_", (8, 8)), SQUARE),
        (Fill("orthogonal_", (30, 8)), TALL),
        (Fill("orthogonal_", (8, 5, 3, 2)), TALL),
        (Fill("orthogonal_", (30, 8), rng="torch"), 2 * TALL),
        (Fill("orthogonal_many_", Shapes("two", ((8, 8), (8, 30)))), SQUARE + TALL),
        (Fill("normal_", (8, 8)), 0),
    ],
    ids=str,
)
def test_operations_are_counted(case: Fill, flops: float) -> None:
    assert case.flops == pytest.approx(flops)


@pytest.mark.parametrize("library", LIBRARIES)
def test_many_tensors_are_filled(library: str) -> None:
    case = Fill("orthogonal_many_", Shapes("two", ((8, 8), (4, 2, 3))))
    tensors = case.argument()
    case.function(library)(tensors)
    for tensor in tensors:
        rows = tensor.flatten(1)
        torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), rtol=0, atol=1e-5)


def test_matrices_are_rated_by_operations_and_fills_by_bytes() -> None:
    two = Shapes("two", ((8, 8), (4, 2, 3)))
    many = measure(Fill("orthogonal_many_", two, torch.float64), seconds=0)
    assert (many["size"], many["rate_unit"]) == ("two", "GF/s")
    assert measure(Fill("normal_", (8, 8)), seconds=0)["rate_unit"] == "GB/s"


def test_avx2_is_forced_where_a_better_isa_is_in_use() -> None:
    forced = {case.operation for case in fills() if case.isa == "avx2"}
    better = "avx2" in _core.available_isas() and _core.isa() != "avx2"
    assert forced == ({"uniform_", "normal_"} if better else set())


def test_forced_isa_lasts_for_the_case_only() -> None:
    usual = _core.isa()
    for isa in _core.available_isas():
        with Fill("uniform_", (4,), isa=isa).settings():
            assert _core.isa() == isa
        assert _core.isa() == usual


def test_case_makes_the_tensor_it_names() -> None:
    tensor = Fill("normal_", (2, 3, 4, 5), torch.float16, layout=torch.channels_last).argument()
    assert isinstance(tensor, torch.Tensor)
    assert (tensor.shape, tensor.dtype) == ((2, 3, 4, 5), torch.float16)
    assert tensor.is_contiguous(memory_format=torch.channels_last)


class Recorded(Fill):
    """Writes down which library is called."""

    def __init__(self) -> None:
        super().__init__("normal_", (1 << 18,))
        object.__setattr__(self, "heard", [])

    def function(self, library: str) -> Callable[[Any], Any]:
        return lambda _: self.heard.append(library)


def test_torch_and_pyinit_are_called_in_turn() -> None:
    case = Recorded()
    assert measure(case, seconds=0)["pairs"] == 3
    assert case.heard == ["torch", "pyinit"] * 4


# ---- Convolutions and activations ----------------------------------------------------------------

DIRECTIONS = ("forward", "fused", "backward-data", "backward-weights")
FORMATS = (torch.contiguous_format, torch.channels_last)


def test_layers_of_resnet50_are_those_of_the_model() -> None:
    seen = set()

    def hear(module: nn.Module, arguments: tuple[torch.Tensor], _: torch.Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        window = module.kernel_size[0], module.stride[0], module.padding[0]
        channels = module.in_channels, module.out_channels
        seen.add(Layer("resnet50", *channels, *window, arguments[0].shape[-1], module.groups))

    with torch.device("meta"):
        network = resnet.ResNet()
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(hear)
        network(torch.empty(1, 3, 224, 224))
    assert {layer for layer in LAYERS if layer.network == "resnet50"} == seen


def test_networks_have_their_layers() -> None:
    count = {
        "resnet50": 23,
        "vgg16": 9,
        "mobilenet_v2": 10,
        "lenet5": 2,
        "cnn-32-64": 2,
        "cifar-resnet": 6,
    }
    for network, layers in count.items():
        assert sum(layer.network == network for layer in LAYERS) == layers
    assert len(LAYERS) == sum(count.values())
    assert all(layer.is_depthwise == (layer.network == "mobilenet_v2") for layer in LAYERS)
    assert [layer.network for layer in LAYERS if layer.is_first] == [
        "resnet50",
        "vgg16",
        "lenet5",
        "cnn-32-64",
        "cifar-resnet",
    ]


def test_usual_convolutions_fit_a_table_and_are_of_every_kind() -> None:
    usual = usual_convolutions()
    assert len(usual) <= 25
    assert {case.direction for case in usual} == set(DIRECTIONS)
    promised = {
        "ResNet-50 forward, batch 1",
        "ResNet-50 forward, batch 16",
        "CIFAR / LeNet forward",
        "backward-data",
        "backward-weights",
        "first layers, backward-data",
        "depthwise, forward and backward",
        "fused: convolution, bias, ReLU",
    }
    assert {case.group for case in usual} == promised
    others = {"ResNet-50 forward, batch 64", "VGG-16 forward"}
    assert {case.group for case in convolutions()} == promised | others


def test_every_layer_is_there_in_batches_and_both_layouts() -> None:
    names = {str(case) for case in convolutions()}
    assert all(
        str(Convolution(layer, direction, 1, layout)) in names
        for layer in LAYERS
        for direction in DIRECTIONS
        for layout in FORMATS
    )
    assert "conv2d forward float32 resnet50 64>64 3x3 56px b64" in names
    assert "conv2d fused float32 lenet5 6>16 5x5 14px b16 channels_last" in names
    # Too long, and too large.
    assert "conv2d forward float32 vgg16 512>512 3x3 28px b16" not in names
    assert "conv2d forward float32 vgg16 3>64 3x3 224px b64" not in names


STRIDED = Layer("tiny", 6, 4, 3, 2, 1, 9, groups=2)


@pytest.mark.parametrize("layout", FORMATS, ids=str)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    "layer", [STRIDED, LAYERS[-1], Layer("tiny", 3, 3, 5, 1, 0, 8, 3)], ids=str
)
def test_both_libraries_compute_the_same(layer: Layer, direction: Any, layout: Any) -> None:
    case = Convolution(layer, direction, 2, layout, torch.float64)
    operands = case.argument()
    assert operands.images.is_contiguous(memory_format=layout)
    theirs, ours = (case.function(library)(operands) for library in LIBRARIES)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert ours.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("case", activations(), ids=str)
def test_both_libraries_compute_the_same_activation(case: ActivationCase) -> None:
    small = replace(case, shape=(6, 5)[: len(case.shape)])
    operands = small.argument()
    theirs, ours = (small.function(library)(operands) for library in LIBRARIES)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_operations_of_a_convolution_are_counted() -> None:
    # 5x5 places of 4 channels for 3 images, each of 3 channels and 3x3 taps.
    assert Convolution(STRIDED, "forward", 3).work == 2 * (3 * 4 * 25) * (3 * 9)


def test_groups_are_summed_up_under_the_table() -> None:
    result = run("--quick", "conv2d (forward|fused) .*lenet5 1>6 .* b1$")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    (start,) = (i for i, line in enumerate(lines) if line.startswith("group "))
    assert lines[start].split() == ["group", "cases", "geometric", "mean", "least"]
    for line, group in (
        (lines[start + 1], "CIFAR / LeNet forward"),
        (lines[start + 2], "fused: convolution, bias, ReLU"),
    ):
        *name, count, mean, least = line.split()
        assert (" ".join(name), count, mean) == (group, "1", least)


def test_mean_is_geometric() -> None:
    results = [{"group": "a", "ratio": 0.5}, {"group": "a", "ratio": 8.0}, {"group": None}]
    module = importlib.import_module("pyinit.cli.bench")  # whose name is the command's, too
    table = module._means(results, [])
    assert [list(column.cells) for column in table.columns] == [["a"], ["2"], ["2.00x"], ["0.50x"]]


# ---- The command ---------------------------------------------------------------------------------


def test_json_has_the_machine_and_a_row_a_case() -> None:
    result = run("--quick", "--json", r"^(uniform|kaiming_uniform)_ float32 (0|8x8)$")
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert answer["machine"]["isa"] == _core.isa()
    empty, small = answer["cases"]
    assert (empty["operation"], empty["dtype"], empty["size"]) == ("uniform_", "float32", "0")
    assert (empty["rate"], empty["rate_unit"], empty["share_of_peak"]) == (None, "GB/s", None)
    assert small["size"] == "8x8"
    assert all(
        small[key] > 0
        for key in ("torch_seconds", "pyinit_seconds", "ratio", "rate", "share_of_peak")
    )


def test_table_names_threads_isa_and_cases() -> None:
    result = run("--quick", "^constant_.* 16$")
    assert result.exit_code == 0
    header, columns, row, summary = result.stdout.splitlines()
    assert f"{torch.get_num_threads()} threads, {_core.isa()}" in header
    assert columns.split()[:6] == ["operation", "dtype", "size", "torch", "pyinit", "ratio"]
    assert columns.split()[6:] == ["rate", "of", "peak"]
    assert row.split()[:3] == ["constant_(val=0.5)", "float32", "16"]
    assert "GB/s" in row
    assert "of 1 cases at least as fast as torch" in summary


@pytest.mark.parametrize(
    ("pattern", "message"), [("(", "regular expression"), ("zzz", "cases begin with")]
)
def test_bad_pattern_is_refused(pattern: str, message: str) -> None:
    result = run(pattern)
    assert result.exit_code == 2
    assert "'[PATTERN]'" in result.stderr
    assert message in result.stderr


def test_benchmark_suite_measures_both_in_one_group() -> None:
    folder = ROOT / "bench"
    command = ["-m", "pytest", str(folder), "-p", "no:cacheprovider"]
    arguments = ["-k", "kaiming_uniform_ and 8x8 and cpu", "--benchmark-max-time=0.01"]
    result = run_python(*command, *arguments, PYTEST_XDIST_WORKER=None)  # it measures by itself
    assert result.returncode == 0, result.stdout + result.stderr
    assert "benchmark 'kaiming_uniform_ float32 8x8 cpu': 2 tests" in result.stdout
    assert "2 passed" in result.stdout


def test_pattern_chooses_from_more_than_the_usual_cases() -> None:
    (parameter,) = (p for p in main.commands["bench"].params if p.name == "chosen")
    choose = parameter.callback
    assert choose(None, parameter, None) == usual_cases()
    assert choose(None, parameter, "conv") == convolutions()
    assert choose(None, parameter, "activation") == activations()
    assert choose(None, parameter, "^initialize_") == models()
    assert choose(None, parameter, "^statistics|^inspect") == looks()
    orthogonal: list[Case] = choose(None, parameter, "^orthogonal")
    assert orthogonal == [case for case in fills() if "orthogonal" in case.operation]


def test_statistics_are_compared_with_the_same_numbers() -> None:
    case = Statistics(2**12)
    values = case.argument()
    values[:3] = 0
    found = case.function("pyinit")(values)
    theirs = [float(number) for number in case.function("torch")(values)]
    assert theirs[:6] == pytest.approx(
        [found.mean, found.std, found.skewness, found.kurtosis, found.min, found.max], abs=1e-4
    )
    assert theirs[6:] == [found.zeros, found.nonfinite, found.low, found.high] == [3, 0, 0, 0]
    assert measure(case, 0)["ratio"] > 0


CASES = "^kaiming_uniform_ float32 (8x8|16x16|32x32)$"


def test_each_case_is_a_line_where_no_bar_can_be() -> None:
    result = run("--quick", CASES)
    assert result.exit_code == 0
    lines = result.stderr.splitlines()
    assert [line.split()[0] for line in lines] == [
        f"{i}/{len(lines)}" for i in range(1, len(lines) + 1)
    ]
    assert all(line.endswith("x") for line in lines)


@pytest.mark.parametrize("as_json", [False, True])
def test_after_an_interrupt_the_cases_measured_so_far_are_there(
    as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("pyinit.cli.bench")
    measured = []

    def until_the_second(case: Case, seconds: float, peers: Any) -> Any:
        if measured:
            raise KeyboardInterrupt
        measured.append(case)
        return measure(case, seconds, peers)

    monkeypatch.setattr(module, "measure", until_the_second)
    result = run("--quick", CASES, *(["--json"] if as_json else []))
    assert result.exit_code == 130
    assert "Interrupted after 1 of 3 cases." in result.stderr
    if as_json:
        assert len(json.loads(result.stdout)["cases"]) == 1
    else:
        assert "1 of 1 cases" in result.stdout
