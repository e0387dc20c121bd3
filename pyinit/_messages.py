"""Warnings that name the caller's line, and lists of names in messages."""

import sys
import warnings
from collections.abc import Collection
from itertools import islice

_PACKAGE = __name__.partition(".")[0]


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """``warnings.warn`` that points at the nearest caller outside the package."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def first_of(names: Collection[str], count: int = 10) -> str:
    """The first ``count`` names as text, with ", ..." after them if there are more."""
    more = ", ..." if len(names) > count else ""
    return (", ".join(islice(names, count)) or "none") + more
