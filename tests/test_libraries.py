"""Keras and JAX are imported by pyinit's modules for them, and by nothing else."""

import subprocess
import sys

import pytest


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_import_leaves_them_out() -> None:
    code = "import sys, pyinit; print({'keras', 'jax', 'tensorflow', 'ml_dtypes'} & {*sys.modules})"
    assert run(code).stdout.strip() == "set()"


@pytest.mark.parametrize("name", ["keras", "jax"])
def test_one_that_is_missing_is_named(name: str) -> None:
    hidden = f"import sys; sys.modules[{name!r}] = None; import pyinit; pyinit.{name}"
    stderr = run(hidden).stderr
    assert f"pip install {name}" in stderr or f"import of {name} halted" in stderr


@pytest.mark.parametrize("name", ["keras", "jax"])
def test_neither_is_a_part_of_import_star(name: str) -> None:
    code = f"from pyinit import *; import pyinit; print({name!r} in dir(), {name!r} in dir(pyinit))"
    assert run(code).stdout.strip() == "False False"
