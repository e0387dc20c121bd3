"""What ``pyinit init`` does to a model, with the time that it takes beside torch's."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

from torch import nn

from pyinit.cli import _console
from pyinit.cli._model import bad_parameter, one_line
from pyinit.data_driven.results import MethodReport
from pyinit.initializers import fill_by_torch_
from pyinit.pretrained.load import load_pretrained_
from pyinit.reports.initialization import InitReport
from pyinit.reports.loading import LoadReport
from pyinit.whole_model.initialize import initialize_
from pyinit.whole_model.network import Network
from pyinit.whole_model.recipes import recipe as recipe_of
from pyinit.whole_model.replay import replay_
from pyinit.whole_model.rules import load_recipe

_T = TypeVar("_T")


@dataclass(frozen=True)
class Timed:
    """A report, and the times that belong to it.

    parameters: the number of elements of all parameters
    seconds: how long pyinit took; None if nothing was done
    torch_seconds: how long torch took for the same; None if there is nothing to compare with
    torch_error: why torch could not do it
    """

    report: InitReport | LoadReport | MethodReport[Any]
    parameters: int
    seconds: float | None = None
    torch_seconds: float | None = None
    torch_error: str | None = None

    @property
    def loaded(self) -> LoadReport | None:
        return self.report if isinstance(self.report, LoadReport) else None

    @property
    def by_method(self) -> MethodReport[Any] | None:
        return self.report if isinstance(self.report, MethodReport) else None

    @property
    def initialization(self) -> InitReport | None:
        """The report of the initialization; None if a file of weights had everything."""
        if isinstance(self.report, LoadReport):
            return self.report.initialized
        return self.report.init if isinstance(self.report, MethodReport) else self.report

    @property
    def initialized(self) -> int:
        """The number of elements of the parameters that were initialized."""
        return 0 if self.initialization is None else self.initialization.initialized

    @property
    def ratio(self) -> float | None:
        if self.seconds is None or self.torch_seconds is None:
            return None
        return self.torch_seconds / self.seconds

    @property
    def speed(self) -> float | None:
        """The number of elements that were initialized in a second."""
        if self.seconds is None or not isinstance(self.report, InitReport) or not self.initialized:
            return None
        return self.initialized / self.seconds

    def to_dict(self) -> dict[str, Any]:
        return {
            "parameters": self.parameters,
            "initialized": self.initialized,
            "pyinit_seconds": self.seconds,
            "torch_seconds": self.torch_seconds,
            "torch_error": self.torch_error,
            "ratio": self.ratio,
            "parameters_per_second": self.speed,
            "layers": [row.to_dict() for row in self.initialization or ()],
            **({} if self.loaded is None else {"loaded": self.loaded.to_dict()}),
            **({} if self.by_method is None else {"method": _measured(self.by_method)}),
        }


def _measured(report: MethodReport[Any]) -> dict[str, Any]:
    found = report.to_dict()
    found.pop("init")  # whose rows stand beside it
    return {"name": report.init.method, **found}


def plan(model: nn.Module, recipe: str, seed: int) -> InitReport:
    """Report what would be done to a model."""
    check_recipe(model, recipe)
    try:
        with _console.working("planning"):
            return initialize_(model, recipe, seed=seed, dry_run=True)
    except Exception as error:
        raise bad_parameter(
            "--recipe", f"{recipe} cannot initialize the model: {one_line(error)}"
        ) from error


def initialize(model: nn.Module, recipe: str, seed: int) -> Timed:
    """Fill a model with torch and then with pyinit, for both in memory that is already in use."""
    torch_seconds, torch_error = _by_torch(plan(model, recipe, seed), Network(model))
    try:
        with _console.working("initializing"):
            seconds, report = seconds_of(lambda: initialize_(model, recipe, seed=seed))
    except Exception as error:
        raise bad_parameter("MODEL", f"cannot initialize the model: {one_line(error)}") from error
    return Timed(report, report.parameters, seconds, torch_seconds, torch_error)


def load(model: nn.Module, source: Path, recipe: str, seed: int) -> Timed:
    """Load what a file of weights has, and initialize the rest of a model."""
    check_recipe(model, recipe)
    try:
        with _console.working(f"loading {source}"):
            seconds, loaded = seconds_of(
                lambda: load_pretrained_(model, source, init_missing=recipe, seed=seed)
            )
    except Exception as error:
        raise bad_parameter("--from", f"cannot load {source}: {one_line(error)}") from error
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Timed(loaded, parameters, seconds)


def replay(model: nn.Module, path: Path) -> Timed:
    """Give a model the values of a report in a file."""
    try:
        with _console.working(f"replaying {path}"):
            seconds, report = seconds_of(lambda: replay_(model, path))
    except Exception as error:
        raise bad_parameter("--replay", f"cannot replay {path}: {one_line(error)}") from error
    return Timed(report, report.parameters, seconds)


def check_recipe(model: nn.Module, recipe: str) -> None:
    """Tell a faulty model from a faulty recipe.

    This comes after the model is built, because its module may register the recipe.
    """
    try:
        Network(model)
    except ValueError as error:
        raise bad_parameter("MODEL", f"cannot initialize the model: {one_line(error)}") from error
    try:
        if Path(recipe).suffix in (".toml", ".json"):
            load_recipe(recipe)
        else:
            recipe_of(recipe)
    except OSError as error:
        raise bad_parameter(
            "--recipe", f"cannot read {recipe}: {error.strerror or error}"
        ) from error
    except ValueError as error:
        raise bad_parameter("--recipe", " ".join(str(error).split())) from error


def _by_torch(plan: InitReport, network: Network) -> tuple[float | None, str | None]:
    """The seconds that torch takes for the same fills, or the reason why it cannot do one."""
    rows = [(row, blocks) for row in plan if (blocks := row.initializer.resolve(row.weight))]
    seconds = 0.0
    with _console.progress() as progress:
        task = progress.add_task("", total=sum(row.elements for row, _ in rows))
        for row, blocks in rows:
            progress.update(task, description=f"torch.nn.init: {row.name}")
            tensor = network.by_name[row.name].tensor.detach()
            if tensor.is_meta:
                return None, f"{row.name}: it has no memory yet"
            try:
                tensor.zero_()
                seconds += seconds_of(partial(fill_by_torch_, tensor, blocks))[0]
            except (RuntimeError, ValueError) as error:
                return None, f"{row.name}: {one_line(error)}"
            progress.advance(task, row.elements)
    return (seconds if rows else None), None


def seconds_of(work: Callable[[], _T]) -> tuple[float, _T]:
    """How long some work takes, and what it returns."""
    start = perf_counter()
    result = work()
    return perf_counter() - start, result
