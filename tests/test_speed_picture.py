"""The picture of the speed in the README: drawn from numbers that are kept beside it, of cases that the bench has."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

from pyinit.bench import usual_cases

DRAW = ROOT / "tools" / "draw_speed.py"


@pytest.fixture
def kept() -> dict:
    return json.loads((ROOT / "docs" / "speed.json").read_text())


def test_the_picture_is_drawn_from_the_numbers_beside_it(tmp_path: Path) -> None:
    for folder, name in (("tools", "draw_speed.py"), ("docs", "speed.json")):
        copy = tmp_path / folder / name
        copy.parent.mkdir()
        copy.write_bytes((ROOT / folder / name).read_bytes())
    subprocess.run([sys.executable, tmp_path / "tools" / "draw_speed.py"], check=True)
    drawn, shown = (folder / "docs" / "speed.svg" for folder in (tmp_path, ROOT))
    assert drawn.read_text() == shown.read_text()


def test_the_bench_measures_what_the_picture_shows(kept: dict) -> None:
    printed = subprocess.run([sys.executable, DRAW, "--pattern"], check=True, capture_output=True)
    pattern = printed.stdout.decode().strip()
    measured = {str(case) for case in usual_cases() if re.search(pattern, str(case))}
    shown = {f"{case['operation']} {case['dtype']} {case['size']}" for case in kept["cases"]}
    assert measured == shown
