"""Data that a function of the user's gives."""

from pyinit._references import resolve
from pyinit.datasets import values
from pyinit.datasets.dataset import Dataset


def load(spec: str) -> Dataset:
    """What ``module:function`` returns: inputs; or inputs and their target, as a tuple of two; or a torch
    Dataset of either.

    Raises:
        ValueError: If there is no such function, or it returns nothing.
        RuntimeError: If it fails.
    """
    function = resolve(spec)
    try:
        made = function()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise RuntimeError(f"{spec} raised {type(error).__name__}: {error}") from error
    if made is None:
        raise ValueError(f"{spec} returned None, and no data")
    return values.load(spec, made)
