"""The build links the OpenMP runtime that torch brings, by whichever compiler."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

GXX = shutil.which("g++")

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="torch's runtime on Linux"),
    pytest.mark.skipif(shutil.which("cmake") is None or GXX is None, reason="needs cmake and g++"),
]


def configured(
    folder: Path, compiler: str, libgomp: str
) -> tuple[subprocess.CompletedProcess[str], str]:
    """What CMake says, and how it then compiles, where the compiler says that it is this one and has this libgomp."""
    for name in ("core/parallel.cpp", "core/openmp.hpp"):
        copy = folder / "csrc" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "csrc" / name, copy)
    program = folder / "compiler"
    program.write_text(f"#!/bin/sh\necho {libgomp}\n")
    program.chmod(0o755)
    (folder / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.21)\n"
        "project(openmp LANGUAGES CXX)\n"
        "add_library(pyinit_flags INTERFACE)\n"
        f'set(CMAKE_CXX_COMPILER_ID "{compiler}")\n'
        + (f'set(CMAKE_CXX_COMPILER "{program}")\n' if compiler != "GNU" else "")
        + f'include("{ROOT / "cmake" / "openmp.cmake"}")\n'
    )
    done = subprocess.run(
        [
            "cmake",
            "-B",
            "build",
            f"-DCMAKE_CXX_COMPILER={GXX}",
            "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON",
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    commands = folder / "build" / "compile_commands.json"
    command = json.loads(commands.read_text())[0]["command"] if commands.exists() else ""
    return done, command


def test_gcc_compiles_openmp(tmp_path: Path) -> None:
    done, command = configured(tmp_path, "GNU", "")
    assert done.returncode == 0, done.stderr
    assert "-fopenmp" in command
    assert "PYINIT_CALLS_GOMP" not in command


def test_clang_links_gccs_runtime_and_not_its_own(tmp_path: Path) -> None:
    done, command = configured(tmp_path, "Clang", "/usr/lib/gcc/libgomp.so")
    assert done.returncode == 0, done.stderr
    assert "pyinit: OpenMP by /usr/lib/gcc/libgomp.so" in done.stdout
    assert "-DPYINIT_CALLS_GOMP" in command
    assert "openmp " not in command


def test_clang_without_gccs_runtime_is_refused_at_configuration(tmp_path: Path) -> None:
    done, _ = configured(tmp_path, "Clang", "libgomp.so")  # so compilers answer that have none
    assert done.returncode != 0
    message = " ".join(done.stderr.split())
    assert "Clang has no libgomp to link, the OpenMP runtime that torch uses on Linux" in message


def test_the_runtimes_own_entry_makes_a_team(tmp_path: Path) -> None:
    program = tmp_path / "team.cpp"
    program.write_text(
        '#include <atomic>\n#include "core/openmp.hpp"\n'
        "int main() {\n"
        "  std::atomic<int> sum{0};\n"
        "  pyinit::in_team(3, [&] { sum += 1 + 10 * omp_get_thread_num() + 100 * omp_get_num_threads(); });\n"
        "  return sum == 3 + 30 + 900 && omp_in_parallel() == 0 ? 0 : 1;\n"
        "}\n"
    )
    libgomp = subprocess.run(
        [str(GXX), "-print-file-name=libgomp.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    flags = ["-std=c++20", f"-I{ROOT / 'csrc'}", "-DPYINIT_CALLS_GOMP"]
    subprocess.run(
        [str(GXX), *flags, str(program), libgomp, "-o", "team"], cwd=tmp_path, check=True
    )
    subprocess.run([str(tmp_path / "team")], env={"OMP_DYNAMIC": "false"}, check=True)
