"""What pyinit says to its user: warnings that name the caller's line, names in messages, missing libraries."""

import difflib
import importlib
import sys
import warnings
from collections.abc import Collection, Iterable
from itertools import islice
from typing import Any

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


def is_near(name: str, known: Iterable[str]) -> bool:
    """Whether a name is like one of the known ones."""
    return bool(_close(name, list(known)))


def _close(name: str, known: list[str]) -> list[str]:
    begun = [each for each in known if len(name) > 1 and each.startswith(name)]
    if begun:
        return begun[:3]
    alike = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    same = [each for each in known if each.lower() == name.lower() and each not in alike]
    return (same + alike)[:3]


def near(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the known names that are like it, or all of them."""
    listed = list(known)
    if not listed:
        return "there are none"
    close = _close(name, listed)
    return (
        f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(sorted(listed))}"
    )


def needed(module: str, what: str, library: str, install: str) -> Any:
    """A module of a library that only a part of pyinit needs.

    Args:
        module: the module, which is imported
        what: what needs it
        library: the library's name
        install: what pip is to install

    Raises:
        ImportError: if the library is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing, wanted = ((error.name or "").partition(".")[0], module.partition(".")[0])
        if missing != wanted:
            raise  # it is there, and something that it needs is not
        raise ImportError(f"{what} needs {library}: pip install {install}", name=wanted) from error
