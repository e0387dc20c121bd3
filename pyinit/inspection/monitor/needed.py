"""Libraries that only some of the results need."""

import importlib
from typing import Any


def needed(what: str, module: str) -> Any:
    """A module of another library.

    Raises:
        ImportError: if the library is not installed; it says what needs it, and how to get it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        library = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != library:
            raise  # it is there, and something that it needs is not
        raise ImportError(f"{what} needs {library}: pip install {library}", name=library) from error
