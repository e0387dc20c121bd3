"""``pyinit init``."""

from collections.abc import Callable
from pathlib import Path

import click
import torch
from rich.table import Table
from torch import nn

from pyinit._machine import Info, info
from pyinit.cli import _console, _options, _output, _timed
from pyinit.cli._model import bad_parameter, load, one_line
from pyinit.cli._timed import Timed
from pyinit.models import MODELS
from pyinit.reports.initialization import InitReport
from pyinit.reports.page import SUFFIXES
from pyinit.whole_model.recipes import recipes

_WIDTH_IN_FILES = 140  # of a report, which has more columns than other tables


def _list_recipes(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        table = Table("recipe", "what", "source", box=None, pad_edge=False, header_style="bold")
        for name, recipe in recipes().items():
            table.add_row(name, recipe.summary, recipe.source)
        _console.stdout(_WIDTH_IN_FILES).print(table)
        context.exit()


@click.command(
    help=f"""Build MODEL and initialize every parameter of it.

    MODEL is package.module:factory or one of {", ".join(MODELS)}. The report shows what each
    parameter got and why, its mean and standard deviation, and the time beside torch.nn.init's.
    """
)
@click.argument("model")
@click.option(
    "--recipe",
    metavar="NAME|FILE",
    default="auto",
    show_default=True,
    help="A name that --list-recipes shows, or a .toml or .json file of rules.",
)
@click.option(
    "--list-recipes",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_recipes,
    help="Show the recipes and exit.",
)
@_options.seed("all numbers")
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, path_type=Path),
    help="Take the weights that this file or folder has, and initialize the others.",
)
@click.option("--dry-run", is_flag=True, help="Report what would be done, without doing it.")
@click.option(
    "--report",
    "report_file",
    type=click.Path(path_type=Path),
    callback=_options.output_file(*SUFFIXES),
    help="Write the report to this file: as JSON (.json), or as a page for a browser (.html).",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    callback=_options.output_file(".safetensors"),
    help="Write the model to this safetensors file (.safetensors).",
)
@_options.dtype
@_options.kwargs
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def init(
    *,
    model: str,
    recipe: str,
    seed: int,
    source: Path | None,
    dry_run: bool,
    report_file: Path | None,
    out: Path | None,
    dtype: str | None,
    kwargs: str,
    as_json: bool,
) -> None:
    _check_together(dry_run, source, report_file, out)

    def build() -> nn.Module:
        with _console.working(f"building {model}"):
            return load(model, dtype, kwargs, seed)

    machine = info()
    if dry_run:
        report = _planned(build, recipe, seed)
        timed = Timed(report, report.parameters)
    else:
        network = build()
        if out is not None:
            _check_savable(network, out)
        if source is None:
            timed = _timed.initialize(network, recipe, seed)
        else:
            timed = _timed.load(network, source, recipe, seed)
        if out is not None:
            metadata = {
                "format": "pt",
                "model": model,
                "pyinit": machine["version"],
                "recipe": recipe,
                "rng": machine["rng"],
                "seed": str(seed),
                **({} if source is None else {"from": str(source)}),
            }
            _save(network, out, metadata)
    if report_file is not None:
        _output.save_report(timed.report, report_file)
    if as_json:
        described = {
            "model": model,
            "recipe": recipe,
            "seed": seed,
            "out": None if out is None else str(out),
        }
        _console.print_json({**described, **timed.to_dict(), "machine": machine})
    else:
        _print(timed, machine, out)


def _check_together(
    dry_run: bool, source: Path | None, report_file: Path | None, out: Path | None
) -> None:
    if dry_run and out is not None:
        raise bad_parameter("--dry-run", "it writes no model: leave out --out, or --dry-run")
    if dry_run and source is not None:
        raise bad_parameter("--dry-run", "it reads no weights: leave out --from, or --dry-run")
    if out and report_file and out.resolve() == report_file.resolve():
        raise bad_parameter("--report", f"--out writes {out}, too")


def _planned(build: Callable[[], nn.Module], recipe: str, seed: int) -> InitReport:
    """Plan on the meta device, where a model costs nothing, or else in memory.

    Factories that look at values, and parameters whose values only a constructor knows, need memory.
    """
    try:
        with torch.device("meta"):
            return _timed.plan(build(), recipe, seed)
    except click.BadParameter:
        return _timed.plan(build(), recipe, seed)


def _check_savable(model: nn.Module, path: Path) -> None:
    try:
        _output.check_savable(model)
    except Exception as error:
        raise bad_parameter("--out", f"cannot write {path}: {one_line(error)}") from error


def _save(model: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    try:
        with _console.working(f"writing {path}"), _output.ended_in_order():
            _output.save(model, path, metadata)
    except Exception as error:
        raise bad_parameter("--out", f"cannot write {path}: {one_line(error)}") from error


def _print(timed: Timed, machine: Info, out: Path | None) -> None:
    console = _console.stdout(_WIDTH_IN_FILES)
    console.print(timed.report)
    where = f"({machine['threads']} threads, {machine['isa']})"
    if timed.loaded is not None:
        console.print(f"loaded in {timed.seconds:.3f} s {where}")
    elif timed.ratio is not None and timed.speed is not None:
        console.print(
            f"pyinit {timed.seconds:.3f} s, torch.nn.init {timed.torch_seconds:.3f} s: "
            f"{timed.ratio:.1f}x, {timed.speed / 1e6:,.0f} million parameters/s {where}"
        )
    elif timed.torch_error is not None:
        console.print(f"pyinit {timed.seconds:.3f} s; torch.nn.init cannot: {timed.torch_error}")
    if out is not None:
        console.print(f"wrote {out}, {out.stat().st_size / 1e6:,.1f} MB")
