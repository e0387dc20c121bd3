"""Packages that have data: an extra, imported when their data is asked for."""

import importlib
from typing import Any


def imported(module: str, *, of: str, needs: str) -> Any:
    """Import a module that a data set comes from.

    Raises:
        ImportError: If it is not installed; the message says what to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f'the data set {of} needs {needs}: pip install "pyinit[data]"', name=error.name
        ) from error
