"""Data that a function of the user's gives."""

import importlib
from operator import attrgetter
from typing import Any

from pyinit.datasets import values
from pyinit.datasets.dataset import Dataset


def load(spec: str) -> Dataset:
    """What ``module:function`` returns: inputs; or inputs and their target, as a tuple of two; or a torch
    Dataset of either.

    Raises:
        ValueError: If there is no such function, or it returns nothing.
        RuntimeError: If it fails.
    """
    function = _function(spec)
    try:
        made = function()
    except Exception as error:
        raise RuntimeError(f"{spec} raised {type(error).__name__}: {error}") from error
    if made is None:
        raise ValueError(f"{spec} returned None, and no data")
    return values.load(spec, made)


def _function(spec: str) -> Any:
    module, _, attribute = spec.partition(":")
    try:
        found = attrgetter(attribute)(importlib.import_module(module))
    except Exception as error:
        raise ValueError(f"cannot import {spec!r}: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ValueError(f"{spec!r} is not a function but {type(found).__name__}")  # noqa: TRY004  a text is wrong
    return found
