"""docs/tutorials/ has what the scripts in examples/tutorials/ are, and what they print."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree as ET

import pytest
from paths import ROOT

PAGES = ROOT / "docs" / "tutorials"
SCRIPTS = {path.stem: path for path in sorted((ROOT / "examples" / "tutorials").glob("*.py"))}
LIBRARIES = {
    "choose_a_start": ("sklearn", "loky"),
    "initialize_a_sharded_model": (),
    "move_from_other_libraries": ("keras", "timm"),
    "reproduce_a_comparison": ("sklearn", "loky", "pandas"),
    "training_does_not_start": ("sklearn",),
}
SLOW = ("choose_a_start", "reproduce_a_comparison")


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    path = ROOT / "tools" / "make_tutorials.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shown(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


def outputs(page: str) -> list[str]:
    """What each step of a page says that it prints."""
    _, *steps = re.split(r"^## ", page, flags=re.MULTILINE)
    found = [re.findall(r"^```text\n(.*?)\n```$", step, re.DOTALL | re.MULTILINE) for step in steps]
    return ["\n".join(each) for each in found]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_page_is_made_from_its_script(name: str, tool: ModuleType) -> None:
    page = shown(name)
    titles = {
        picture.name: tool.title_of(picture.read_text(encoding="utf-8"))
        for picture in PAGES.glob("*.svg")
    }
    assert tool.page(SCRIPTS[name], outputs(page), titles) == page, "run tools/make_tutorials.py"


def test_there_are_no_other_pages_and_pictures(tool: ModuleType) -> None:
    drawn = [
        file
        for path in SCRIPTS.values()
        for step in tool.read(path).steps
        for file in step.pictures
    ]
    pages = [f"{name}.md" for name in SCRIPTS]
    assert sorted(path.name for path in PAGES.iterdir()) == sorted(pages + drawn)
    for picture in PAGES.glob("*.svg"):
        ET.parse(picture)
    assert sum(path.stat().st_size for path in PAGES.iterdir()) < 500_000


def words(text: str) -> list[str]:
    """Without numbers, which may differ between machines, and without what depends on them."""
    return re.findall(r"[A-Za-z_]{2,}", re.sub(r"If these numbers[^-]*", "", text))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else pytest.mark.large)
        for name in SCRIPTS
    ],
)
def test_a_script_prints_what_its_page_says(name: str, tool: ModuleType, tmp_path: Path) -> None:
    for library in LIBRARIES[name]:
        pytest.importorskip(library)
    found = tool.run(SCRIPTS[name], tmp_path)
    for printed, expected in zip(found, outputs(shown(name)), strict=True):
        assert words(printed) == words(expected)
