"""Models named on the command line."""

import inspect
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import click
import torch
from torch import nn

from pyinit._random.generators import seed_python
from pyinit._references import resolve
from pyinit._torch.views import dtype_name
from pyinit.models import MODELS, build

DTYPES = {
    dtype_name(dtype): dtype
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16)
}


def load(spec: str, dtype: str | None, kwargs: str, seed: int, *, drawn: bool = False) -> nn.Module:
    """Build the model that ``spec`` names: a built-in, or ``package.module:factory``.

    The same seed gives the same model, whatever its module draws while it is imported. A built-in has
    what its constructors draw only if that is asked for (``drawn``).
    """
    config = _config(kwargs)
    factory = MODELS[spec] if spec in MODELS else _user_factory(spec)
    try:
        inspect.signature(factory).bind(**config)
    except (TypeError, ValueError) as error:
        raise bad_parameter("--kwargs", f"{spec} does not take {kwargs}: {error}") from None
    if spec in MODELS:
        made = partial(_drawn, factory) if drawn else partial(build, spec)
        factory = partial(made, DTYPES[dtype or "float32"])
    _seed(seed)
    try:
        model = factory(**config)
    except Exception as error:
        raise bad_parameter("MODEL", f"{spec} failed: {one_line(error)}") from error
    if not isinstance(model, nn.Module):
        raise bad_parameter("MODEL", f"{spec} returned {type(model).__name__}, not an nn.Module")
    return model if dtype is None else model.to(DTYPES[dtype])


def _drawn(factory: Callable[..., nn.Module], dtype: torch.dtype, **config: Any) -> nn.Module:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return factory(**config)
    finally:
        torch.set_default_dtype(before)


def imported(option: str, spec: str, what: str = "function") -> Callable[..., Any]:
    """What is called that an option names, as ``package.module:function``."""
    look_in_working_folder()
    try:
        return resolve(spec, what)
    except ValueError as error:
        raise bad_parameter(option, str(error)) from error


def look_in_working_folder() -> None:
    """Import the user's modules from the working folder, too."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())


def _seed(seed: int) -> None:
    """Seed all generators, for parameters that the factory draws and the recipe leaves alone."""
    torch.manual_seed(seed)
    seed_python(seed)


def one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def bad_parameter(argument: str, message: str) -> click.BadParameter:
    return click.BadParameter(message, param_hint=f"'{argument}'")


def _config(text: str) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise bad_parameter("--kwargs", f"not JSON: {error}") from None
    if not isinstance(config, dict):
        raise bad_parameter("--kwargs", f"a JSON object is needed, not {text}")
    return config


def _user_factory(spec: str) -> Callable[..., Any]:
    module_name, colon, attribute = spec.partition(":")
    if not (module_name and colon and attribute):
        raise bad_parameter(
            "MODEL", f"{spec!r} is neither package.module:factory nor one of {', '.join(MODELS)}"
        )
    factory = imported("MODEL", spec, "factory")
    if isinstance(factory, nn.Module):
        raise bad_parameter("MODEL", f"{spec!r} is not a factory but {type(factory).__name__}")
    return factory
