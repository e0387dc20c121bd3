"""Data that a function of the user's gives."""

import importlib
from operator import attrgetter
from typing import Any

import numpy as np

from pyinit.datasets.arrays import as_inputs, as_target, count_classes
from pyinit.datasets.dataset import Dataset


def load(spec: str) -> Dataset:
    """What ``module:function`` returns: inputs; or inputs and their target, as a tuple of two.

    Raises:
        ValueError: If there is no such function, or it returns nothing.
        RuntimeError: If it fails.
    """
    function = _function(spec)
    try:
        made = function()
    except Exception as error:
        raise RuntimeError(f"{spec} raised {type(error).__name__}: {error}") from error
    if isinstance(made, Dataset):
        return made
    if made is None:
        raise ValueError(f"{spec} returned None, and no data")
    is_pair = isinstance(made, tuple) and len(made) == 2 and not hasattr(made, "_fields")
    inputs, target = made if is_pair else (made, None)
    if isinstance(inputs, np.ndarray):
        inputs = as_inputs(spec, inputs)
    if isinstance(target, np.ndarray):
        target = as_target(spec, target)
    return Dataset(spec, inputs, target, count_classes(target))


def _function(spec: str) -> Any:
    module, _, attribute = spec.partition(":")
    try:
        found = attrgetter(attribute)(importlib.import_module(module))
    except Exception as error:
        raise ValueError(f"cannot import {spec!r}: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ValueError(f"{spec!r} is not a function but {type(found).__name__}")  # noqa: TRY004  a text is wrong
    return found
