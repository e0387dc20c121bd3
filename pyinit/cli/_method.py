"""Data-driven methods named on the command line."""

from typing import Any

import click
from torch import nn

from pyinit.cli import _console, _options
from pyinit.cli._model import bad_parameter, one_line
from pyinit.cli._timed import Timed, check_recipe, plan, seconds_of
from pyinit.datasets import Dataset
from pyinit.whole_model.initialize import chosen_by
from pyinit.whole_model.methods import Method, Start
from pyinit.whole_model.methods import method as method_of
from pyinit.whole_model.rules.recipe_file import read_value

Data = Dataset | tuple[int, ...] | None


def named(
    network: nn.Module, name: str | None, options: tuple[str, ...], recipe: str | None
) -> Method | None:
    """The method that ``--method``, with ``--option``, or a recipe file names.

    This comes after the model is built, because its module may register the method.
    """
    in_file = None
    if recipe is not None:
        check_recipe(network, recipe)
        in_file = chosen_by(recipe).after
    if name is None:
        return in_file
    if in_file is not None:
        raise bad_parameter("--method", f"{recipe} names the method {in_file}, too: leave out one")
    try:
        method = method_of(name)
    except ValueError as error:
        raise bad_parameter("--method", str(error)) from None
    try:
        return method.of_file(_values(options))
    except ValueError as error:
        raise bad_parameter("--option", str(error)) from None


def _values(options: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for option in options:
        name, equals, text = option.partition("=")
        if not (name and equals):
            raise ValueError(f"{option!r} is not NAME=VALUE, such as tolerance=0.05")
        if name in found:
            raise ValueError(f"{name} is given twice")
        found[name] = read_value(text)
    return found


def data_of(  # noqa: PLR0917
    method: Method,
    shape: tuple[int, ...] | None,
    source: str | None,
    size: int,
    seed: int,
    dtype: str | None,
) -> Data:
    """What ``--shape`` or ``--data`` gives: random numbers as a shape, if the method draws them itself."""
    if shape is not None:
        if method.takes_shape:
            return (size, *shape)
        return _options.noise(shape, size, seed, dtype)
    return None if source is None else _options.loaded(source, size, seed, dtype)


def described(timed: Timed, method: Method, recipe: str | None, data: Data) -> dict[str, str]:
    """What was run, on what, for those who read the result."""
    begun = {} if timed.initialization is None else {"recipe": timed.initialization.recipe}
    on = {} if data is None else {"data": called(data)}
    return {**begun, **({} if recipe is None else {"recipe": recipe}), "method": str(method), **on}


def called(data: Data) -> str:
    """What the data are called: a data set, or the shape of random numbers."""
    if isinstance(data, tuple):
        return f"normal random numbers: {data[0]} samples of {'x'.join(map(str, data[1:]))}"
    return str(data)


def run(  # noqa: PLR0917
    network: nn.Module,
    model: str,
    method: Method,
    recipe: str | None,
    data: Data,
    seed: int,
) -> Timed:
    """Run a method; without a recipe it begins with its own."""
    common: dict[str, Any] = {"seed": seed}
    if recipe is not None:
        plan(network, recipe, seed)
        by = chosen_by(recipe)
        common["base"] = Start(by.recipe, by.rules)
    batch: Any = data
    if isinstance(data, Dataset):
        batch = data.inputs if data.target is None else (data.inputs, data.target)
    try:
        with _console.working(str(method)):
            seconds, report = seconds_of(lambda: method.run(network, batch, **common))
    except Exception as error:
        on = "" if data is None else f" on {called(data)}"
        raise click.ClickException(
            f"method {method.name} cannot initialize {model}{on}: {one_line(error)}"
        ) from error
    return Timed(report, report.init.parameters, seconds)
