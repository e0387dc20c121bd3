"""Fixtures that every test may use."""

import functools
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from cuda_emulation import NoEmulationError, build

import pyinit
from pyinit import _core

# Also on a busy machine: what tests say about threads they say about threads that run.
_core.set_threads_at_any_loss(True)


@pytest.fixture(autouse=True)
def _known_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test starts from the default generator choice, the same seed and an empty folder.

    The folder matters to processes that tests start: at the root of the sources they would import
    the package from there, without its extension.
    """
    monkeypatch.chdir(tmp_path)
    chosen = pyinit.get_rng()
    pyinit.set_rng("philox")
    torch.manual_seed(2024)
    yield
    pyinit.set_rng(chosen)


@pytest.fixture(params=_core.available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test with each instruction set of this machine."""
    usual = _core.isa()
    _core.set_isa(request.param)
    yield request.param
    _core.set_isa(usual)


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    """``torch.set_num_threads``, undone after the test."""
    usual = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(usual)


@pytest.fixture(scope="module")
def compiler() -> Callable[..., Any]:
    """torch's compiler, loaded with whatever it warns about on the way."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch._dynamo  # noqa: PLC0415
    torch._dynamo.reset()
    return functools.partial(torch.compile, backend="eager")


@pytest.fixture(scope="session")
def emulation(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The CUDA kernels, compiled for the CPU."""
    try:
        return build(tmp_path_factory.mktemp("emulation"))
    except NoEmulationError as missing:
        pytest.skip(str(missing))
