"""Locks that a child made by ``fork`` finds free."""

import os
from threading import RLock


def fork_safe_lock() -> RLock:
    """A re-entrant lock that is free in a child, even if a thread of the parent held it.

    That thread does not exist in the child, so it could never give the lock back there.
    """
    lock = RLock()
    os.register_at_fork(after_in_child=lock._at_fork_reinit)  # type: ignore[attr-defined]  # typeshed lacks it
    return lock
