"""The versions of Python and torch that pyproject.toml promises are those that wheels are built for and tests run with."""

import re
import sys

from paths import ROOT

from pyinit import _requirements

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PYTHONS = [
    version
    for line in PROJECT["project"]["classifiers"]
    for version in re.findall(r"^Programming Language :: Python :: (3\.\d+)$", line)
]
WORKFLOW = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
(TORCH,) = (
    need.removeprefix("torch>=") for need in PROJECT["project"]["dependencies"] if "torch" in need
)


def test_wheels_are_built_for_every_python() -> None:
    built = PROJECT["tool"]["cibuildwheel"]["build"].split()
    tags = [f"cp{version.replace('.', '')}-*" for version in PYTHONS]
    assert built == [*tags, f"{tags[-1][:-2]}t-*"]
    assert PROJECT["project"]["requires-python"] == f">={PYTHONS[0]}"


def test_the_workflow_tests_every_python() -> None:
    (listed,) = re.findall(r"python: \[(.*)\]", WORKFLOW)
    assert re.findall(r'"(.*?)"', listed) == PYTHONS


def test_the_oldest_torch_is_the_one_that_imports_ask_for_and_tests_run_with() -> None:
    assert ".".join(map(str, _requirements._LEAST_TORCH)) == TORCH
    assert f'python: "{PYTHONS[0]}", torch: "{TORCH}.*"' in WORKFLOW
    assert f'"{TORCH}.*"' in (ROOT / ".ci" / "matrix").read_text(encoding="utf-8")
