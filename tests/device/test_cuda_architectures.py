"""The build compiles the CUDA kernels for the GPU architectures that it is asked for."""

import os
import shutil
import subprocess

import pytest
from paths import ROOT

SELECTION = ROOT / "cmake" / "cuda_architectures.cmake"
KNOWN = "75;80;86;89;90;100;120"

pytestmark = pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake")


def selected(folder, wanted="", torch_list="", gpus=""):
    """The list of architectures where ``nvidia-smi`` reports ``gpus``, one a line."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nprintf '{gpus}'\n")
    program.chmod(0o755)
    script = folder / "select.cmake"
    script.write_text(
        "cmake_minimum_required(VERSION 3.21)\n"
        f'include("{SELECTION}")\n'
        f'pyinit_cuda_architectures("{KNOWN}" architectures why)\n'
        'message("${architectures}")\n'
    )
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["cmake", f"-DPYINIT_CUDA_ARCHITECTURES={wanted}", "-P", str(script)],
        env={**os.environ, "PATH": path, "TORCH_CUDA_ARCH_LIST": torch_list},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr.split()[-1].split(";")


def test_one_architecture_and_ptx_where_nothing_is_asked(tmp_path):
    assert selected(tmp_path) == ["80-real", "75-virtual"]


def test_the_gpus_of_the_machine(tmp_path):
    assert selected(tmp_path, gpus="9.0\\n9.0\\n12.0\\n") == ["90-real", "120-real"]


def test_ptx_for_a_gpu_that_the_toolkit_does_not_know(tmp_path):
    assert selected(tmp_path, gpus="9.0\\n13.0\\n") == ["90-real", "75-virtual"]
    assert selected(tmp_path, gpus="13.0\\n") == ["80-real", "75-virtual"]


def test_what_torchs_variable_asks_for(tmp_path):
    assert selected(tmp_path, torch_list="8.0 8.6+PTX;Ampere,9.0a 3.5") == [
        "80-real",
        "86",
        "90-real",
    ]


def test_the_machines_gpus_come_before_torchs_variable(tmp_path):
    assert selected(tmp_path, torch_list="8.0", gpus="9.0\\n") == ["90-real"]


def test_an_explicit_choice_wins(tmp_path):
    choice = selected(tmp_path, wanted="80;90", torch_list="8.6", gpus="12.0\\n")
    assert choice == ["80-real", "90"]


def test_all_architectures_by_one_word(tmp_path):
    everything = [f"{number}-real" for number in (75, 80, 86, 89, 90, 100)]
    assert selected(tmp_path, wanted="all", gpus="9.0\\n") == [*everything, "120"]
