"""docs/studies.md and its pictures: of each of pyinit's own studies, with its question and its claims, from its runs."""

import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from paths import ROOT

from pyinit.studies import Study
from pyinit.studies.toml_files import presets

PAGE = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")


def section(name: str) -> str:
    found = re.search(rf"^### {name}\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert found, name
    return found[1]


@pytest.mark.parametrize("name", presets())
def test_each_study_is_shown_as_it_is(name: str) -> None:
    study, text = Study.load(name), section(name)
    assert text.lstrip().startswith(f"*{study.question}*")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")][1:]
    assert [row[0].removeprefix("| ") for row in rows] == [claim.text for claim in study.claims]
    assert all(row[2].startswith(str(each)) for row, each in zip(rows, study.claims, strict=True))
    assert f'<img src="studies/{name}.svg"' in text
    ET.parse(ROOT / "docs" / "studies" / f"{name}.svg")


def test_the_pictures_are_small_and_no_others() -> None:
    files = {path.stem: path.stat().st_size for path in (ROOT / "docs" / "studies").iterdir()}
    assert files.keys() == presets().keys()
    assert sum(files.values()) < 1_500_000


def drawn(folder: Path) -> "subprocess.CompletedProcess[str]":
    """What came of the tool."""
    tool = ROOT / "tools" / "draw_studies.py"
    command = [sys.executable, str(tool), str(folder)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_nothing_is_drawn_if_a_study_or_a_run_is_missing(tmp_path: Path) -> None:
    pictures = {path: path.read_bytes() for path in (ROOT / "docs").rglob("studies*/*")}
    told = drawn(tmp_path)
    assert told.returncode == 1
    assert "simple-cnn is missing: there is no" in told.stderr
    folder = tmp_path / "simple-cnn"
    folder.mkdir()
    (folder / "study.toml").write_text(Study.load("simple-cnn").to_toml(), encoding="utf-8")
    run = {"arm": "zeros", "seed": 0, "factors": {}, "lr": 0.01, "status": "finished"}
    (folder / "runs.jsonl").write_text(json.dumps(run) + "\n", encoding="utf-8")
    told = drawn(tmp_path)
    assert told.returncode == 1
    assert "simple-cnn lacks 19 of 20 runs" in told.stderr
    assert all(path.read_bytes() == content for path, content in pictures.items())
    assert (ROOT / "docs" / "studies.md").read_text(encoding="utf-8") == PAGE
