"""A bar for what takes longer than two seconds."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

_PATIENCE = 2.0  # seconds


class Progress:
    """Steps of a long work: shown on a terminal, once the work has taken two seconds."""

    def __init__(self) -> None:
        self._start = monotonic()
        self._bar: Any = None

    def step(self, what: str) -> None:
        """Say what begins."""
        if self._bar is None and monotonic() - self._start > _PATIENCE:
            self._bar = _bar()
            self._bar.start()
            self._task = self._bar.add_task(what, total=None)
        elif self._bar is not None:
            self._bar.update(self._task, description=what)

    def stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()


@contextmanager
def progress() -> Iterator[Progress]:
    """A ``Progress`` that is gone at the end, however that comes."""
    made = Progress()
    try:
        yield made
    finally:
        made.stop()


def _bar() -> Any:
    from rich import progress as bars  # noqa: PLC0415  it takes long to import
    from rich.console import Console  # noqa: PLC0415

    console = Console(stderr=True)
    return bars.Progress(
        bars.BarColumn(),
        bars.TimeElapsedColumn(),
        bars.TextColumn("{task.description}", markup=False),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
