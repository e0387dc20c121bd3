"""Where runs are made: in this process, in processes of its own, or by an executor."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    wait,
)
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

from pyinit._messages import needed

_Task = TypeVar("_Task")
_Made = TypeVar("_Made")

_LOSSES = 3  # so often a task may be lost with its worker


class LostError(Exception):
    """A task's worker has died each time."""


def cores() -> int:
    """How many processor cores this process may use."""
    found: int = _loky().cpu_count()
    return found


def _loky() -> Any:
    return needed("loky", "a study in several processes", "loky", '"pyinit[study]"')


def in_processes(
    work: Callable[[_Task], _Made], tasks: Sequence[_Task], processes: int
) -> Iterator[tuple[_Task, _Made | LostError]]:
    """Do tasks in processes on this machine, which loky starts. If one dies, others take its place, and
    what was under way is done again."""
    loky = _loky()

    @contextmanager
    def pool() -> Iterator[Executor]:
        made = loky.ProcessPoolExecutor(max_workers=processes)
        try:
            yield made
        finally:
            made.shutdown(wait=True, kill_workers=True)

    return _Rounds(work, tasks, pool, processes, can_renew=True).run()


def by_executor(
    work: Callable[[_Task], _Made], tasks: Sequence[_Task], executor: Executor
) -> Iterator[tuple[_Task, _Made | LostError]]:
    """Do tasks by an executor of the user's, which stays open."""

    @contextmanager
    def pool() -> Iterator[Executor]:
        yield executor

    return _Rounds(work, tasks, pool, len(tasks), can_renew=False).run()


@contextmanager
def dask_executor(address: str, timeout: str = "10s") -> Iterator[Executor]:
    """The executor of a dask cluster.

    Raises:
        ValueError: if no scheduler answers there.
        ImportError: if dask.distributed is not installed.
    """
    distributed = needed("distributed", "a study on a cluster", "distributed", '"pyinit[dask]"')
    try:
        client = distributed.Client(address, timeout=timeout, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"no scheduler of dask answers at {address}: {error}") from error
    with client:
        yield client.get_executor(pure=False)


class _Rounds:
    """Tasks, and how often each was lost with a worker.

    In a round a pool is given tasks until one of its workers dies. Then it is not known whose fault it
    was, and each task that was under way is tried again alone.
    """

    def __init__(
        self,
        work: Callable[[Any], Any],
        tasks: Sequence[Any],
        pool: Callable[[], AbstractContextManager[Executor]],
        at_once: int,
        *,
        can_renew: bool,
    ) -> None:
        self._work, self._pool, self._at_once = work, pool, at_once
        self._can_renew = can_renew
        self._waiting = list(enumerate(tasks))
        self._losses = dict.fromkeys(range(len(tasks)), 0)

    def run(self) -> Iterator[tuple[Any, Any]]:
        """Do all tasks: each with what was made of it, in the order in which they end."""
        while self._waiting:
            with self._pool() as executor:
                yield from self._round(executor)

    def _round(self, executor: Executor) -> Iterator[tuple[Any, Any]]:
        running: dict[Future[Any], tuple[int, Any]] = {}
        is_broken = False
        try:
            while running or (self._waiting and not is_broken):
                if not is_broken:
                    self._submit(executor, running)
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    number, task = running.pop(future)
                    try:
                        made = future.result()
                    except Exception as error:
                        if not _is_loss(error):
                            raise
                        is_broken |= isinstance(error, BrokenExecutor)
                        yield from self._lose(number, task, error)
                    else:
                        yield task, made
        finally:
            for future in running:
                future.cancel()

    def _submit(self, executor: Executor, running: dict[Future[Any], tuple[int, Any]]) -> None:
        while self._waiting and len(running) < self._at_once:
            number, task = self._waiting[0]
            alone = self._losses[number] > 0
            if running and (alone or any(self._losses[other] for other, _ in running.values())):
                return
            running[executor.submit(self._work, task)] = self._waiting.pop(0)

    def _lose(self, number: int, task: Any, error: Exception) -> Iterator[tuple[Any, LostError]]:
        if not self._can_renew and isinstance(error, BrokenExecutor):
            raise RuntimeError("the executor is broken and can make no more runs") from error
        self._losses[number] += 1
        if self._losses[number] < _LOSSES:
            self._waiting.insert(0, (number, task))
        else:
            yield task, LostError(f"its worker died {_LOSSES} times: {type(error).__name__}")


def _is_loss(error: Exception) -> bool:
    return isinstance(error, (BrokenExecutor, CancelledError)) or type(error).__name__ in (
        "KilledWorker",
        "FutureCancelledError",
        "FutureLostError",
    )
