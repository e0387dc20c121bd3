"""Functions named as ``module:function``."""

import importlib
from collections.abc import Callable
from operator import attrgetter
from typing import Any


def resolve(reference: str, what: str = "function") -> Callable[..., Any]:
    """What ``module:function`` names; ``what`` is it called in messages.

    Raises:
        ValueError: for a name that leads to nothing that can be called, whatever its module raises.
    """
    module, _, attribute = reference.partition(":")
    if not (module and attribute):
        raise ValueError(f"cannot import {reference!r}: a {what} is named as package.module:{what}")
    try:
        found = attrgetter(attribute)(importlib.import_module(module))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        is_path = module.endswith(".py") or "/" in module
        hint = "; a module goes by its name, package.module, not by its path" if is_path else ""
        told = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(f"cannot import {reference!r}: {told}{hint}") from error
    if not callable(found):
        raise ValueError(f"{reference!r} is not a {what} but {type(found).__name__}")  # noqa: TRY004  a text is wrong
    made: Callable[..., Any] = found
    return made
