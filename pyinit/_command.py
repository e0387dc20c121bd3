"""Ctrl-C while the command ``pyinit`` imports torch, which takes seconds."""

import sys
from pathlib import Path
from types import TracebackType

_INTERRUPTED = 130  # as shells tell of Ctrl-C


def is_command() -> bool:
    """Whether the program is the command, and not one that imports pyinit."""
    if sys.argv[:1] == ["-m"]:  # while the package is imported whose module is to run
        return "pyinit" in sys.orig_argv
    return Path(*sys.argv[:1]).stem == "pyinit"


def end_when_interrupted(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Tell of an interrupt in a line, and of anything else as usual."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    print("\ninterrupted before anything was begun", file=sys.stderr)
    raise SystemExit(_INTERRUPTED)


if is_command():
    sys.excepthook = end_when_interrupted
