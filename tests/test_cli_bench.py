"""``pyinit bench`` and the benchmark suite."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from pyinit import _core, bench
from pyinit.bench import Case, cases, measure
from pyinit.cli import main


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
    }


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
    tensor = Case("normal_", (2, 3, 4, 5), torch.float16, layout=torch.channels_last).tensor()
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
    result = run("--quick", "--json", "--only", r"^(uniform|kaiming_uniform)_ float32 (0|8x8)$")
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert answer["machine"]["isa"] == _core.isa()
    empty, small = answer["cases"]
    assert (empty["operation"], empty["dtype"], empty["size"]) == ("uniform_", "float32", "0")
    assert empty["gigabytes_per_second"] is None
    assert empty["share_of_memset"] is None
    assert small["size"] == "8x8"
    assert all(
        small[key] > 0
        for key in (
            "torch_seconds",
            "pyinit_seconds",
            "ratio",
            "gigabytes_per_second",
            "share_of_memset",
        )
    )


def test_table_names_threads_isa_and_cases() -> None:
    result = run("--quick", "--only", "^constant_.* 16$")
    assert result.exit_code == 0
    header, columns, row, summary = result.stdout.splitlines()
    assert f"{torch.get_num_threads()} threads, {_core.isa()}" in header
    assert columns.split()[:6] == ["operation", "dtype", "size", "torch", "pyinit", "ratio"]
    assert row.split()[:3] == ["constant_(val=0.5)", "float32", "16"]
    assert "of 1 cases at least as fast as torch" in summary


@pytest.mark.parametrize(("pattern", "message"), [("(", "regular expression"), ("zzz", "no case")])
def test_bad_pattern_is_refused(pattern: str, message: str) -> None:
    result = run("--only", pattern)
    assert result.exit_code == 2
    assert "'--only'" in result.stderr
    assert message in result.stderr


def test_benchmark_suite_measures_both_in_one_group() -> None:
    folder = Path(__file__).parents[1] / "bench"
    command = [sys.executable, "-m", "pytest", str(folder), "-p", "no:cacheprovider"]
    arguments = ["-k", "kaiming_uniform_ and 8x8 and cpu", "--benchmark-max-time=0.01"]
    result = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "benchmark 'kaiming_uniform_ float32 8x8 cpu': 2 tests" in result.stdout
    assert "2 passed" in result.stdout
