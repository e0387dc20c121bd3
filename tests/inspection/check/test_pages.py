"""The pages of findings: their examples have the fault, their remedies have not, docs/check.md is made of them."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
from paths import ROOT

import pyinit
from pyinit.inspection.findings import KINDS

BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def findings_of(source: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> pyinit.Findings:
    """What an example finds, run as a module of its own, which another process can import."""
    name = f"example_{abs(hash(source))}"
    (folder / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, name, raising=False)
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    found = module.findings
    assert isinstance(found, pyinit.Findings)
    return found


@pytest.mark.parametrize("code", KINDS)
def test_a_page_has_an_example_with_the_fault_and_one_without(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault, remedy = (
        findings_of(block, tmp_path, monkeypatch) for block in BLOCK.findall(KINDS[code].page)
    )
    of_code = [finding for finding in fault if finding.code == code]
    assert of_code
    assert KINDS[code].is_informational or any(f in fault.failures for f in of_code)
    assert code not in remedy.codes
    assert not remedy.failures


def test_the_page_in_docs_is_made_of_the_findings_own() -> None:
    spec = importlib.util.spec_from_file_location("tool", ROOT / "tools/write_check_page.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    text = tool.PAGE.read_text(encoding="utf-8")
    assert text == tool.page(text) + "\n", "run python tools/write_check_page.py"


def test_codes_are_in_order_and_stand_for_one_kind_each() -> None:
    assert list(KINDS) == sorted(KINDS)
    assert len({kind.name for kind in KINDS.values()}) == len(KINDS)
    assert all(re.fullmatch(r"PI\d{3}", code) for code in KINDS)
