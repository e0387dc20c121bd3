"""Python's search for reference cycles, put off while many objects are made that stay."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """A context in which Python does not look for reference cycles.

    It looks after so many new objects, and each time goes over old ones, those of the whole process: what
    a model's modules take one by one would cost more, the more of them there are.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
