"""Data-driven methods named on the command line."""

from typing import Any

import click
from torch import nn

from pyinit.cli import _console
from pyinit.cli._model import bad_parameter, one_line
from pyinit.cli._timed import Timed, check_recipe, plan, seconds_of
from pyinit.datasets import Dataset
from pyinit.whole_model.initialize import chosen_by
from pyinit.whole_model.methods import Method, Start
from pyinit.whole_model.methods import method as method_of


def named(network: nn.Module, name: str | None, recipe: str | None) -> Method | None:
    """The method that ``--method`` or a recipe file names.

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
        return method_of(name)
    except ValueError as error:
        raise bad_parameter("--method", str(error)) from None


def run(  # noqa: PLR0917
    network: nn.Module,
    model: str,
    method: Method,
    recipe: str | None,
    data: Dataset | None,
    seed: int,
) -> Timed:
    """Run a method; without a recipe it begins with its own."""
    common: dict[str, Any] = {"seed": seed}
    if recipe is not None:
        plan(network, recipe, seed)
        by = chosen_by(recipe)
        common["base"] = Start(by.recipe, by.rules)
    batch = None
    if data is not None:
        batch = data.inputs if data.target is None else (data.inputs, data.target)
    try:
        with _console.working(str(method)):
            seconds, report = seconds_of(lambda: method.run(network, batch, **common))
    except Exception as error:
        on = "" if data is None else f" on {data}"
        raise click.ClickException(
            f"method {method.name} cannot initialize {model}{on}: {one_line(error)}"
        ) from error
    return Timed(report, report.init.parameters, seconds)
