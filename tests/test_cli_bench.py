"""``pyinit bench`` and the benchmark suite."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from pyinit import _core, bench
from pyinit.bench import RESNET50, Case, Shapes, cases, measure
from pyinit.cli import main
from pyinit.models import resnet


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["bench", *arguments])


def test_cases_hold_the_promised_rows_once() -> None:
    names = [str(case) for case in cases()]
    assert len(set(names)) == len(names)
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
    case = Case("orthogonal_many_", RESNET50)
    assert (len(case.shapes), case.numel) == (53, 23_454_912)


SQUARE = 4 / 3 * 8**3
TALL = 2 * 30 * 8**2 - 2 / 3 * 8**3


@pytest.mark.parametrize(
    ("case", "flops"),
    [
        (Case("orthogonal_", (8, 8)), SQUARE),
        (Case("orthogonal_", (30, 8)), TALL),
        (Case("orthogonal_", (8, 5, 3, 2)), TALL),
        (Case("orthogonal_", (30, 8), rng="torch"), 2 * TALL),
        (Case("orthogonal_many_", Shapes("two", ((8, 8), (8, 30)))), SQUARE + TALL),
        (Case("normal_", (8, 8)), 0),
    ],
    ids=str,
)
def test_operations_are_counted(case: Case, flops: float) -> None:
    assert case.flops == pytest.approx(flops)


@pytest.mark.parametrize("library", bench.LIBRARIES)
def test_many_tensors_are_filled(library: str) -> None:
    case = Case("orthogonal_many_", Shapes("two", ((8, 8), (4, 2, 3))))
    tensors = case.argument()
    case.fill(library)(tensors)
    for tensor in tensors:
        rows = tensor.flatten(1)
        torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), rtol=0, atol=1e-5)


def test_matrices_are_rated_by_operations_and_fills_by_bytes() -> None:
    two = Shapes("two", ((8, 8), (4, 2, 3)))
    many = measure(Case("orthogonal_many_", two, torch.float64), seconds=0)
    assert (many["size"], many["rate_unit"]) == ("two", "GF/s")
    assert measure(Case("normal_", (8, 8)), seconds=0)["rate_unit"] == "GB/s"


def test_avx2_is_forced_where_a_better_isa_is_in_use() -> None:
    forced = {case.operation for case in cases() if case.isa == "avx2"}
    better = "avx2" in _core.available_isas() and _core.isa() != "avx2"
    assert forced == ({"uniform_", "normal_"} if better else set())


def test_forced_isa_lasts_for_the_case_only() -> None:
    usual = _core.isa()
    for isa in _core.available_isas():
        with Case("uniform_", (4,), isa=isa).settings():
            assert _core.isa() == isa
        assert _core.isa() == usual


def test_case_makes_the_tensor_it_names() -> None:
    tensor = Case("normal_", (2, 3, 4, 5), torch.float16, layout=torch.channels_last).argument()
    assert isinstance(tensor, torch.Tensor)
    assert (tensor.shape, tensor.dtype) == ((2, 3, 4, 5), torch.float16)
    assert tensor.is_contiguous(memory_format=torch.channels_last)


def test_torch_and_pyinit_are_called_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in bench.LIBRARIES:
        fake = type(name, (), {"normal_": staticmethod(lambda _, name=name: calls.append(name))})
        monkeypatch.setitem(bench.LIBRARIES, name, fake)
    result = measure(Case("normal_", (1 << 18,)), seconds=0)
    assert result["pairs"] == 3
    assert calls == ["torch", "pyinit"] * 4


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


@pytest.mark.parametrize(("pattern", "message"), [("(", "regular expression"), ("zzz", "no case")])
def test_bad_pattern_is_refused(pattern: str, message: str) -> None:
    result = run(pattern)
    assert result.exit_code == 2
    assert "'[PATTERN]'" in result.stderr
    assert message in result.stderr


def test_benchmark_suite_measures_both_in_one_group() -> None:
    folder = Path(__file__).parents[1] / "bench"
    command = [sys.executable, "-m", "pytest", str(folder), "-p", "no:cacheprovider"]
    arguments = ["-k", "kaiming_uniform_ and 8x8 and cpu", "--benchmark-max-time=0.01"]
    result = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "benchmark 'kaiming_uniform_ float32 8x8 cpu': 2 tests" in result.stdout
    assert "2 passed" in result.stdout
