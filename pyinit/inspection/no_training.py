"""Passes that are no training: a monitor of the model does not count them."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_runs: ContextVar[bool] = ContextVar("no training runs", default=False)


@contextmanager
def no_training() -> Iterator[None]:
    """Mark the passes inside as none of training."""
    token = _runs.set(True)
    try:
        yield
    finally:
        _runs.reset(token)


def is_no_training() -> bool:
    """Whether such a pass runs now."""
    return _runs.get()
