"""Arguments that several functions take, refused by name before anything runs."""

import operator
from typing import Any

from torch import nn


def check_model(model: object) -> None:
    """Refuse what is no module.

    Raises:
        TypeError: for anything else, a class of modules included.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {_described(model)}")


def check_function(name: str, value: object, takes: str) -> None:
    """Refuse what cannot be called with data; a class of modules would make a module of them.

    Raises:
        TypeError: if it is neither None nor a function.
    """
    if value is not None and (not callable(value) or _is_module_class(value)):
        raise TypeError(f"{name} must be a function of {takes}, got {_described(value)}")


def check_flag(name: str, value: object) -> None:
    """Refuse what is neither True nor False.

    Raises:
        TypeError: if it is something else.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")


def whole_number(name: str, value: Any, least: int, most: int | None = None) -> int:
    """An integer of any library's.

    Raises:
        TypeError: for what is no integer; True and False are none.
        ValueError: for one that is too small or too great.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if number < least or (most is not None and number > most):
        limit = f"at least {least}" if number < least else f"at most {most}"
        raise ValueError(f"{name} must be {limit}, got {number}")
    return number


def _is_module_class(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, nn.Module)


def _described(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
