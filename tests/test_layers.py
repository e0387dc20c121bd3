"""Imports run one way: down the layers that docs/architecture.md lists."""

import ast
import re
import subprocess
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
LINTER = Path(sys.executable).with_name("lint-imports")


def layers_of_the_page() -> list[set[str]]:
    """The names in the first column of the table in the section "Layers"."""
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    section = page.partition("\n## Layers\n")[2].partition("\n## ")[0]
    rows = (line.split("|")[1] for line in section.splitlines() if line.startswith("| `"))
    return [set(re.findall(r"`(\w+)`", names)) for names in rows]


def layers_of_the_contract() -> list[set[str]]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (layers,) = (one["layers"] for one in contracts if one["type"] == "layers")
    return [set(re.findall(r"\w+", layer)) for layer in layers]


def test_the_contract_has_the_layers_that_the_page_lists() -> None:
    assert layers_of_the_page() == layers_of_the_contract()
    assert len(layers_of_the_page()) > 5


def test_imports_keep_the_contracts(tmp_path: Path) -> None:
    command = [LINTER, "--no-cache", ROOT / "pyproject.toml"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 kept, 0 broken" in run.stdout


def taken_from_the_top(tree: ast.AST) -> list[str]:
    """What a module takes from ``pyinit/__init__.py``, which the contracts know no layer of."""
    modules = {path.stem for path in (ROOT / "pyinit").iterdir()} | {"_core", "_cuda"}
    taken = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            taken += [one.name for one in node.names if one.name == "pyinit"]
        elif isinstance(node, ast.ImportFrom) and node.module == "pyinit":
            taken += [one.name for one in node.names if one.name not in modules]
    return taken


def test_no_module_takes_anything_from_the_top() -> None:
    files = sorted((ROOT / "pyinit").rglob("*.py"))
    found = {
        path: taken_from_the_top(ast.parse(path.read_text(encoding="utf-8"))) for path in files
    }
    assert not {path: names for path, names in found.items() if names}


def test_what_is_taken_from_the_top_is_seen_inside_functions_too() -> None:
    source = (
        "def f():\n    import pyinit\n    from pyinit import init, normal_\n    import pyinit.init"
    )
    assert taken_from_the_top(ast.parse(source)) == ["pyinit", "normal_"]
