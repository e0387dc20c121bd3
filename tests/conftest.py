"""Fixtures that every test may use."""

import functools
import os
import signal
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

# A shell's background jobs ignore interrupts, and what tests start and interrupt would do so, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Several workers have as many threads as there are processors, each: those that wait leave theirs to the others.
# OpenMP reads this as torch loads it.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("KERAS_BACKEND", "torch")  # Keras reads it as it is imported

import hypothesis
import torch
from browser import CHROMIUM, Browser, browser
from cuda_emulation import NoEmulationError, build
from filelock import FileLock
from routes import counted_kernels

import pyinit
from pyinit import _core

# Also on a busy machine: what tests say about threads they say about threads that run.
_core.set_threads_at_any_loss(True)
IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ
if IS_WORKER:
    torch.set_num_threads(2)  # enough for work to be shared out, few enough for many workers

# The same examples in every run, on any machine.
hypothesis.settings.register_profile("pyinit", derandomize=True, deadline=None)
hypothesis.settings.load_profile("pyinit")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Files and single tests run in this process, which starts faster; folders in a worker for each processor."""
    chosen = [Path(config.invocation_params.dir, arg.split("::")[0]) for arg in config.args]
    return 0 if all(path.is_file() for path in chosen) else None


@pytest.fixture(scope="session", autouse=True)
def _away_from_the_sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Processes that fixtures of a module start would import the package from its sources, without its extension."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("away"))
        yield


@pytest.fixture(autouse=True)
def _known_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test starts from the default generator choice, the same seed and an empty folder."""
    monkeypatch.chdir(tmp_path)
    chosen = pyinit.get_rng()
    pyinit.set_rng("philox", version=2)
    torch.manual_seed(2024)
    yield
    pyinit.set_rng(chosen, version=2)


@pytest.fixture(params=_core.available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test with each instruction set of this machine."""
    usual = _core.isa()
    _core.set_isa(request.param)
    yield request.param
    _core.set_isa(usual)


@pytest.fixture
def native_calls() -> Iterator[Counter[str]]:
    """How often each of pyinit's kernels ran: what falls back to torch leaves no trace here."""
    with counted_kernels() as calls:
        yield calls


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    """``torch.set_num_threads``, undone after the test."""
    usual = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(usual)


@pytest.fixture
def one_thread(set_threads: Callable[[int], None]) -> None:
    """For tests of tiny tensors: more threads would wait for each other most of the time."""
    set_threads(1)


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
    folder = tmp_path_factory.getbasetemp()
    if IS_WORKER:
        folder = folder.parent  # that of all workers, the first of which compiles
    try:
        with FileLock(folder / "emulation.lock"):
            return build(folder)
    except NoEmulationError as missing:
        pytest.skip(str(missing))


@contextmanager
def _process_group(backend: str, store: Any, world_size: int) -> Iterator[None]:
    """A process group of this process alone, or, with the backend "fake", of which it plays one rank."""
    torch.distributed.init_process_group(backend, store=store, rank=0, world_size=world_size)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


@pytest.fixture
def process_group() -> Iterator[None]:
    """A gloo process group of one rank."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch warns of on the way
        with _process_group("gloo", torch.distributed.HashStore(), 1):
            yield


@pytest.fixture
def fake_ranks() -> Iterator[None]:
    """This process as the first of two ranks, of which the other does nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.distributed.fake_pg import FakeStore  # noqa: PLC0415

        with _process_group("fake", FakeStore(), 2):
            yield


@pytest.fixture
def mesh(process_group: None) -> Any:
    """A device mesh of one rank."""
    from torch.distributed.device_mesh import init_device_mesh  # noqa: PLC0415

    return init_device_mesh("cpu", (1,))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    with browser() as tab:
        yield tab
