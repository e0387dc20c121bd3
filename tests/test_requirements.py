"""What ``import pyinit`` says where something that it is built on is missing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pyinit


def error_of(code: str, folder: Path) -> str:
    """The last line that a new process prints which runs in that folder."""
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    return done.stderr.splitlines()[-1]


def test_source_without_kernels_says_what_to_do(tmp_path):
    source = Path(pyinit.__file__).parent
    shutil.copytree(
        source, tmp_path / "pyinit", ignore=shutil.ignore_patterns("_core*", "__pycache__")
    )
    message = error_of("import pyinit", tmp_path)
    assert message.startswith(
        f"ImportError: {tmp_path}{os.sep} has pyinit's source without its compiled kernels"
    )


@pytest.mark.parametrize("version", ["2.8.1", "1.13.0+cpu", "2.8.0a0+git1234"])
def test_a_torch_that_is_too_old_is_named(version, tmp_path):
    sources = str(Path(pyinit.__file__).parents[1])
    code = f"import sys, torch; sys.path.insert(0, {sources!r}); torch.__version__ = {version!r}; import pyinit"
    assert error_of(code, tmp_path) == (
        f"ImportError: pyinit needs torch 2.9 or later, and here is torch {version}: pip install -U torch"
    )
