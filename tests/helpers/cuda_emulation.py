"""The CUDA kernels compiled for the CPU, to test them without a GPU: what they compute, not how fast."""

import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path
from types import ModuleType

import pybind11
from paths import ROOT

NAME = "_cuda_emulation"
SOURCES = ROOT / "csrc"
HOST_SOURCES = (
    "cuda/bind_cuda.cpp",
    "core/view.cpp",
    "random/distributions.cpp",
    "random/normal_cdf.cpp",
)


class NoEmulationError(Exception):
    """Says what is missing."""


def compiler() -> list[str]:
    command = shlex.split(os.environ.get("CXX", "c++"))
    if shutil.which(command[0]) is None:
        raise NoEmulationError(f"no C++ compiler {command[0]!r}")
    return command


def has_fma() -> bool:
    """Whether this is an x86-64 with fused multiply-add; without, std::fma is slow but right."""
    if platform.machine() != "x86_64":
        return False
    info = Path("/proc/cpuinfo")
    return info.exists() and " fma " in info.read_text()


def flags() -> list[str]:
    # A sanitizer's, say.
    more = shlex.split(os.environ.get("PYINIT_EMULATION_FLAGS", ""))
    return [
        *("-std=c++20", "-O1", "-fPIC", "-shared", "-fvisibility=hidden", "-ffp-contract=off"),
        *("-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"),
        *(["-mfma"] if has_fma() else []),
        *more,
        "-DPYINIT_CUDA_EMULATION",
        f"-DPYINIT_CUDA_MODULE={NAME}",
        *("-DPYINIT_NS=cuda", "-DPYINIT_NS_cuda"),
        *(f"-I{path}" for path in (SOURCES, pybind11.get_include())),
        # As the headers of others, whose warnings are not ours.
        *("-isystem", sysconfig.get_paths()["include"]),
    ]


def build(folder: Path) -> ModuleType:
    """The module, compiled into ``folder`` unless it is there; ``NoEmulationError`` where that cannot be."""
    if not SOURCES.is_dir():
        raise NoEmulationError("the C++ sources are not beside the tests")
    file = folder / f"{NAME}.so"
    if not file.exists():
        _compile(file)
    spec = importlib.util.spec_from_file_location(NAME, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _compile(file: Path) -> None:
    sources = [*map(SOURCES.joinpath, HOST_SOURCES), *sorted((SOURCES / "cuda").glob("*.cu"))]
    command = [*compiler(), *flags(), "-x", "c++", *map(str, sources), "-o", str(file)]
    # What is preloaded for the tests is not for the compiler.
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{shlex.join(command)}\n{done.stderr}")
