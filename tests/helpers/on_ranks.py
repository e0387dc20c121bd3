"""Functions of tests run by all ranks of a process group at once, each in a process of its own.

The processes are forked from a server that has imported torch and pyinit once, so that they start in
milliseconds. They talk by gloo on loopback, and have one thread each.
"""

import importlib.util
import inspect
import multiprocessing
import os
import pickle
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "torch._dynamo",  # DTensors import it when the first one is made
        "torch.distributed.checkpoint",
        "torch.distributed.fsdp",
        "torch.distributed.tensor.parallel",
        "pytest",
        "pyinit.whole_model",
    ]
)

_GRACE = 2.0  # seconds that the others have after a rank has failed: they may wait for it


def on_ranks(
    function: Callable[..., Any],
    size: int,
    *arguments: Any,
    timeout: float = 60,
    dying: Sequence[int] = (),
) -> list[Any]:
    """What a function of a test's module returns on each of so many ranks.

    timeout: seconds for all of it, and for each collective; no process outlives the call
    dying: the ranks that do not come to an end by themselves. Their result is None

    Raises:
        AssertionError: with what the ranks raised, or the ranks that did not come to an end.
    """
    path, name = inspect.getfile(function), function.__qualname__
    with tempfile.TemporaryDirectory() as folder:
        pipes, processes = [], []
        for rank in range(size):
            ours, theirs = _CONTEXT.Pipe(duplex=False)
            given = theirs, folder, rank, size, timeout, path, name, arguments
            process = _CONTEXT.Process(target=_be_rank, args=given, daemon=True)
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        try:
            answers = list(_answers(pipes, set(range(size)) - {*dying}, timeout))
        finally:
            for process in processes:
                process.kill()
                process.join()
    failed = [f"rank {rank}: {why}" for rank, (why, _) in enumerate(answers) if why is not None]
    assert not failed, "\n".join(failed)
    return [value for _, value in answers]


def _answers(
    pipes: Sequence[Connection], awaited: set[int], timeout: float
) -> Iterator[tuple[str | None, Any]]:
    """For each rank what went wrong, or None, and what its function returned."""
    end = time.monotonic() + timeout
    found: dict[int, tuple[str | None, Any]] = {}
    while missing := awaited - found.keys():
        ready = wait([pipes[rank] for rank in missing], max(0.0, end - time.monotonic()))
        for rank in missing:
            if pipes[rank] in ready:
                try:
                    found[rank] = pickle.loads(pipes[rank].recv_bytes())
                except EOFError:
                    found[rank] = "it died", None
        if any(why is not None for why, _ in found.values()):
            end = min(end, time.monotonic() + _GRACE)
        if not ready:
            found |= dict.fromkeys(missing, ("it was still waiting", None))
    for rank in range(len(pipes)):
        yield found.get(rank, (None, None))


def _be_rank(  # noqa: PLR0917
    pipe: Connection,
    folder: str,
    rank: int,
    size: int,
    timeout: float,
    path: str,
    name: str,
    arguments: Sequence[Any],
) -> None:
    here = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}  # libraries look for them
    here |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo", **here}
    os.chdir(folder)
    try:
        import torch  # noqa: PLC0415

        from pyinit._sharding import share  # noqa: PLC0415

        share._WORTH = 0.0  # small matrices are handed out, too
        torch.set_num_threads(1)
        torch.distributed.init_process_group(
            "gloo",
            init_method=f"file://{folder}/store",
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=timeout),
        )
        # Tensors by value: this process does not stay to share its memory.
        pipe.send_bytes(pickle.dumps((None, getattr(_module(Path(path)), name)(*arguments))))
    except BaseException:  # noqa: BLE001  whatever it is, the test has to tell
        pipe.send_bytes(pickle.dumps((traceback.format_exc(), None)))
    pipe.close()
    sys.stdout.flush()
    os._exit(0)  # without waiting for the others


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@contextmanager
def fake_rank(rank: int, size: int) -> Iterator[None]:
    """This process as one rank of several, of which the others do nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch warns of on the way
        import torch  # noqa: PLC0415
        from torch.distributed.tensor import debug  # noqa: PLC0415
        from torch.testing._internal.distributed.fake_pg import FakeStore  # noqa: PLC0415

        debug._clear_sharding_prop_cache()  # it has the meshes of the rank that this was before
        torch.distributed.init_process_group("fake", store=FakeStore(), rank=rank, world_size=size)
        try:
            yield
        finally:
            torch.distributed.destroy_process_group()
