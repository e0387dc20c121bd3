"""The same everywhere: in two runs, by way of the meta device, in another process."""

import functools
import itertools
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import pyinit

MODULE = """
import os
import torch
from torch import nn

def build():
    return nn.Linear(16, 16)

def by_process():
    model = nn.Linear(16, 16)
    nn.init.constant_(model.bias, float(os.getpid()))
    return model

def by_hash():
    model = nn.Linear(16, 16)
    for i, _ in enumerate({str(i) for i in range(100)}):
        if _ == "7":
            nn.init.constant_(model.bias, float(i))
    return model

def init(model):
    nn.init.xavier_uniform_(model.weight)
    nn.init.zeros_(model.bias)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "reproduced.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "reproduced", raising=False)
    import reproduced  # noqa: PLC0415  # type: ignore[import-not-found]

    return reproduced


def of_code(findings: pyinit.Findings) -> list[tuple[str, str]]:
    return [(f.code, f.parameter) for f in findings if f.code.startswith("PI2")]


def test_an_initialization_that_is_the_same_everywhere(module: Any) -> None:
    for init in (None, module.init, pyinit.initialize_):
        findings = pyinit.check(module.build, init, reproducible=True)
        assert not of_code(findings)
        assert not findings.failures


def test_what_differs_between_runs_is_named() -> None:
    numbers = itertools.count()

    def init(model: nn.Linear) -> None:
        model.reset_parameters()
        nn.init.constant_(model.bias, next(numbers))

    assert of_code(pyinit.check(nn.Linear(4, 4), init, reproducible=True)) == [("PI201", "bias")]


def test_what_differs_by_way_of_meta_is_named() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)
            self.scale = nn.Parameter(torch.ones(8))

    def init(model: nn.Module) -> None:
        model.layer.reset_parameters()  # type: ignore[operator, union-attr]

    findings = pyinit.check(Model, init, reproducible=True)
    assert ("PI202", "scale") in of_code(findings)
    assert ("PI202", "layer.weight") not in of_code(findings)


def test_a_factory_that_looks_at_values_is_said_not_to_be_built_on_meta() -> None:
    def build() -> nn.Module:
        assert float(torch.ones(())) == 1
        return nn.Linear(4, 4)

    found = [
        f for f in pyinit.check(build, "reset_parameters", reproducible=True) if f.code == "PI202"
    ]
    assert [f.parameter for f in found] == ["(the model)"]
    assert "cannot be built so" in found[0].found
    assert found[0].is_informational


@pytest.mark.parametrize("factory", ["by_process", "by_hash"])
def test_what_differs_between_processes_is_named(module: Any, factory: str) -> None:
    findings = pyinit.check(getattr(module, factory), reproducible=True)
    assert of_code(findings) == [("PI203", "bias")]
    assert findings.failures[-1].confidence == "certain"


def test_what_pickle_does_not_take_is_said_not_to_be_compared() -> None:
    findings = pyinit.check(lambda: nn.Linear(4, 4), reproducible=True)
    assert of_code(findings) == [("PI203", "(the model)")]
    assert "not compared" in findings[0].found
    assert not findings.failures


def test_another_process_starts_no_further_one(
    module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYINIT_CHECK_CHILD", "1")
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("a process was started"))
    assert not of_code(pyinit.check(module.by_process, reproducible=True))
    assert os.environ["PYINIT_CHECK_CHILD"] == "1"


def test_a_partial_of_a_class_is_a_factory() -> None:
    factory = functools.partial(nn.Linear, 16, 16)
    assert not pyinit.check(factory, pyinit.initialize_, reproducible=True).failures
