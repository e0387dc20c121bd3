"""``pyinit check``."""

import json
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file

from pyinit.cli import main

USER_MODULE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.layer = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def start(self):
        nn.init.xavier_uniform_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def fail(self):
        raise OSError("no such file")

def init(model):
    model.start()
    model.norm.reset_parameters()

number = 3
"""


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "checked_by_user.py").write_text(USER_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "checked_by_user", raising=False)
    return "checked_by_user"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["check", *arguments])


GPT2 = '{"width": 32, "layers": 1, "heads": 2, "vocab": 64, "context": 16}'


def test_a_clean_model_exits_with_0(user_module: str) -> None:
    for arguments in ((), ("--init", f"{user_module}:init"), ("--init", "reset_parameters")):
        result = run(f"{user_module}:Net", *arguments)
        assert result.exit_code == 0, result.output
        last = result.output.splitlines()[-1]
        assert last == f"{user_module}:Net: 4 parameters and buffers, 0 findings"


def test_findings_are_a_table_and_exit_with_1(user_module: str) -> None:
    result = run(f"{user_module}:Net", "--init", "start")
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0].split() == ["code", "parameter", "found", "expected", "why", "sure"]
    assert lines[1].startswith("PI001  norm.weight")
    assert lines[-1].endswith("2 findings")


def test_findings_are_json(user_module: str) -> None:
    result = run(f"{user_module}:Net", "--init", "start", "--json", "--kwargs", '{"width": 8}')
    assert result.exit_code == 1
    found = json.loads(result.output)
    assert found["checked"] == f"{user_module}:Net"
    assert [f["parameter"] for f in found["findings"]] == ["norm.weight", "norm.bias"]
    assert found["findings"][0]["found"] == "init writes none of 8 elements; the constructor does"


def test_what_is_ignored_fails_no_more(user_module: str) -> None:
    arguments = (f"{user_module}:Net", "--init", "start")
    assert run(*arguments, "--ignore", "PI001=norms are the trainer's").exit_code == 0
    assert run(*arguments, "--ignore", "norm.*=the trainer's").exit_code == 0
    assert run(*arguments, "--ignore", "norm.weight=the trainer's").exit_code == 1


def test_a_built_in_model_is_what_its_constructors_draw() -> None:
    for arguments in ((), ("--init", "pyinit:initialize_"), ("--dtype", "bfloat16")):
        result = run("gpt2", "--kwargs", GPT2, *arguments)
        assert result.exit_code == 0, result.output


def test_it_comes_out_the_same_in_another_process(user_module: str) -> None:
    result = run(f"{user_module}:Net", "--init", f"{user_module}:init", "--reproducible")
    assert result.exit_code == 0, result.output
    assert "not compared" not in result.output


def test_a_file_of_weights_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a.weight": torch.full((4, 4), torch.nan)}, path)
    result = run(str(path))
    assert result.exit_code == 1
    assert "PI101" in result.output
    assert run(str(path), "--init", "start").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere:build",), "cannot import 'nowhere:build'"),
        (("gpt3",), "is neither package.module:factory nor one of"),
        (("none.safetensors",), "cannot read none.safetensors: No such file or directory"),
        (("runs/none",), "cannot read runs/none: No such file or directory"),
        (("nowhere.py:build",), "; a module goes by its name, package.module, not by its path"),
        (("./models/nowhere.py:build",), "not by its path"),
        (("{}:Net", "--init", "nothing"), "Net has no method 'nothing'"),
        (("{}:Net", "--init", "fail"), "init fail raised OSError: no such file"),
        (("{}:Net", "--init", "{}:number"), "'{}:number' is not a function but int"),
        (("{}:Net", "--init", "{}:nothing"), "cannot import '{}:nothing'"),
        (("{}:Net", "--ignore", "PI001"), "is not CODE=REASON or PATTERN=REASON"),
        (("{}:Net", "--ignore", "PI999=why"), "no finding has the code PI999"),
        (("{}:Net", "--kwargs", '{{"depth": 3}}'), "does not take"),
    ],
)
def test_bad_input_is_named(user_module: str, arguments: tuple[str, ...], message: str) -> None:
    result = run(*(argument.format(user_module) for argument in arguments))
    assert result.exit_code == 2
    assert result.output.startswith(("Usage:", "Error:"))
    assert message.format(user_module) in " ".join(result.output.split())
