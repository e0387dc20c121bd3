"""The examples run, and do what their docstrings and docs/gallery.md say."""

import ast
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from paths import ROOT
from programs import run_python

FOLDER = ROOT / "examples"
# What each prints, as regular expressions.
PRINTED: dict[str, Sequence[str]] = {
    "compare_starts": [r"Xavier beats torch's default\. held", r"Identities beat Xavier\. \w+"],
    "fused_convolutions": [
        r"activation='relu'",
        r"outputs differ from torch's by \de-0[67]",
        r"gradients differ by \de-0[67]",
        r"modules are back: True",
        r"own bits: True",
    ],
    "inspect_start": [
        r"guessing is 6\.2",
        r"it, the model starts at [4-7]\d\.\d",
        r"starts at 6\.\d, and inspect finds nothing",
    ],
    "jax_parameters": [
        r"\(64, 128\): standard deviation 0\.17\d, aimed at 0\.177",
        r"finite: True",
        r"same key gives the same weights: True",
    ],
    "keras_layers": [
        r"deviation of 0\.1[78]\d",
        r"second is orthogonal: True",
        r"with that key: True",
        r"loaded model are from pyinit\.keras",
    ],
    "lsuv_own_activation": [
        r"kaiming: .* finite: False",
        r"LSUV: .* 1\.0\d",
        r"without the batch: True",
    ],
    "monitor_training": [
        r"rate 0\.1\n(  step .* [ \d]\d% .*\n){4}",
        r"rate 3\.0\n(.*\n)+  step 60: 100% of its units are dead",
    ],
    "orthogonal": [
        r"pyinit: .* at most \de-07.* from 0\.4\d to 0\.\d\d",
        r"groups=4 each gate is orthogonal, to within \de-0[67]",
    ],
    "own_initialization": [
        r"without keyed, an adapter leaves as they were: first\n",
        r"with keyed, an adapter leaves as they were: first, second, head\n",
    ],
    "patch": [r"94 of 94 parameters have the same bits", r"dropout is the same"],
    "pretrained": [
        r"0\.weight .*3 to 1 input channels",
        r"features of gray images are alike: True",
        r"frozen: 2\.weight, 2\.bias",
    ],
    "recipes": [r"c_proj\.weight +0\.\d+ +0\.\d+ +0\.0041", r"differ in \d+ of 148 parameters"],
    "rules_file": [r"deviation of 0\.0010", r"row for padding is zero: True"],
    "sharded_checkpoint": [
        r"3 shards: model-00001-of-00003\.safetensors",
        r"10 of 10 tensors are those",
        r"ended with status 0",
    ],
    "test_my_model": [r"2 passed"],
    "torch_numbers": [
        r"(\w+: the same bits\n){3}",
        r"the generator goes on alike: True",
        r"without rng\('torch'\) they are alike: False",
    ],
}
# Libraries without which an example is left out.
LIBRARIES = {"keras_layers": "keras", "jax_parameters": "jax"}
WARNINGS = ("error", "ignore:__array__ implementation:DeprecationWarning")  # Keras's on torch


PROCESSES = ("sharded_checkpoint",)  # those that start several


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.large] if n in PROCESSES else []) for n in PRINTED],
)
def test_an_example_prints_what_it_promises(name: str, tmp_path: Path) -> None:
    if name in LIBRARIES:
        pytest.importorskip(LIBRARIES[name])
    copy = tmp_path / f"{name}.py"  # beside which there are no settings of pytest
    copy.write_bytes((FOLDER / copy.name).read_bytes())
    with_pytest = ["-m", "pytest", "-q"] if name.startswith("test_") else []
    done = run_python(
        *(f"-W{each}" for each in WARNINGS),
        *with_pytest,
        str(copy),
        OMP_NUM_THREADS="2",
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for expected in PRINTED[name]:
        assert re.search(expected, done.stdout), f"no {expected} in\n{done.stdout}"


def examples() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.py"))


def test_every_example_is_run() -> None:
    assert examples() == sorted(PRINTED)


@pytest.mark.parametrize("name", examples())
def test_an_example_is_short_and_says_what_it_shows(name: str) -> None:
    source = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 60
    assert f" examples/{name}.py\n" in (ast.get_docstring(ast.parse(source)) or "")


def test_the_gallery_has_each_example_and_tutorial_once() -> None:
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    linked = re.findall(r"\]\(\.\./examples/(\w+)\.py\)|\]\(tutorials/(\w+)\.md\)", page)
    tutorials = [path.stem for path in (FOLDER / "tutorials").glob("*.py")]
    assert sorted(a or b for a, b in linked) == sorted(examples() + tutorials)
