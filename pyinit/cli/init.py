"""``pyinit init``."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import torch
from torch import nn

from pyinit._machine import Info, info
from pyinit.cli import _console, _method, _options, _output, _shards, _timed
from pyinit.cli._model import bad_parameter, load, one_line
from pyinit.cli._timed import Timed
from pyinit.models import MODELS
from pyinit.reports.files import check_output
from pyinit.reports.initialization import InitReport
from pyinit.reports.page import SUFFIXES
from pyinit.whole_model.methods import Method, methods
from pyinit.whole_model.recipes import recipes
from pyinit.whole_model.recipes.own_starts import WITHOUT_VALUES

_SHORT = 0.02  # seconds, of which planning is the greater part


def _list_recipes(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        _console.stdout(_console.WIDE).print(recipes())
        context.exit()


def _list_methods(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        _console.stdout(_console.WIDE).print(methods())
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
    show_default="auto, or what the method begins with",
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
@click.option(
    "--method",
    "method_name",
    metavar="NAME",
    help="Go over the weights by a data-driven method, a name that --list-methods shows. A file of rules may "
    "name one, too, with options.",
)
@click.option(
    "--list-methods",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_methods,
    help="Show the data-driven methods and exit.",
)
@click.option(
    "--option",
    "options",
    metavar="NAME=VALUE",
    multiple=True,
    help="An option of the method, such as tolerance=0.05. Once for each; a value is as in TOML, and what is "
    "none there is a text.",
)
@_options.data("What the method measures on: ")
@_options.shape
@_options.batch_size
@_options.seed("all numbers, and of the choice of samples")
@click.option(
    "--from",
    "weights",
    type=click.Path(exists=True, path_type=Path),
    help="Take the weights that this file or folder has, and initialize the others.",
)
@click.option(
    "--replay",
    "replayed",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Give the values that this report has keys for, bit for bit: a JSON file of --report.",
)
@click.option("--dry-run", is_flag=True, help="Report what would be done, and write no model.")
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
    help="Write the model to this safetensors file (.safetensors); with --shards, to this folder.",
)
@click.option(
    "--shards",
    type=click.IntRange(1),
    metavar="N",
    help="Write N safetensors files with an index, in memory for a part of one. Under torchrun, each process "
    "writes every WORLD_SIZE-th file.",
)
@_options.dtype
@_options.kwargs
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def init(
    *,
    model: str,
    recipe: str | None,
    method_name: str | None,
    options: tuple[str, ...],
    source: str | None,
    shape: tuple[int, ...] | None,
    size: int,
    seed: int,
    weights: Path | None,
    replayed: Path | None,
    dry_run: bool,
    report_file: Path | None,
    out: Path | None,
    shards: int | None,
    dtype: str | None,
    kwargs: str,
    as_json: bool,
) -> None:
    given = _given(source, shape)
    has_method = method_name is not None or given is not None
    if shards is not None:
        others = {
            "--method and its data": has_method,
            "--option": bool(options),
            "--from": weights is not None,
            "--replay": replayed is not None,
            "--dry-run": dry_run,
        }
        _shards.check(out, report_file, [other for other, is_given in others.items() if is_given])
        assert out is not None
        _shards.write(
            model=model,
            recipe=recipe or "auto",
            seed=seed,
            dtype=dtype,
            kwargs=kwargs,
            shards=shards,
            out=out,
            report_file=report_file,
            as_json=as_json,
        )
        return
    _check_out(out)
    if options and method_name is None:
        raise bad_parameter(
            "--option",
            "it is of a method: give --method; a file that names one has its options, too",
        )
    _check_together(dry_run, weights, report_file, out, has_method)
    if replayed is not None:
        _check_replay(recipe, weights, dry_run, has_method)

    def build() -> nn.Module:
        with _console.working(f"building {model}"):
            return load(model, dtype, kwargs, seed, drawn=has_method)

    machine = info()
    described = {"model": model, "recipe": recipe or "auto", "seed": seed}
    if dry_run and weights is None:
        report = _planned(build, recipe or "auto", seed)
        timed = Timed(report, report.parameters)
    else:
        network = build()
        if out is not None:
            _check_savable(network, out)
        method = None if replayed else _method.named(network, method_name, options, recipe)
        _check_method(method, given, weights, report_file, out)
        if method is None:
            timed, more = _by_recipe(network, recipe or "auto", seed, weights, replayed)
        else:
            data = _method.data_of(method, shape, source, size, seed, dtype)
            timed = _method.run(network, model, method, recipe, data, seed)
            more = _method.described(timed, method, recipe, data)
        described |= more
        if out is not None:
            texts = {name: str(value) for name, value in described.items()}
            versions = {"pyinit": machine["version"], "rng": machine["rng"]}
            _save(network, out, {"format": "pt", **texts, **versions, **_stream_version(timed)})
    if report_file is not None:
        _output.save_report(timed.report, report_file)
    if as_json:
        written = None if out is None else str(out)
        _console.print_json({**described, "out": written, **timed.to_dict(), "machine": machine})
    else:
        _print(timed, machine, out)


def _check_out(out: Path | None) -> None:
    if out is not None:
        try:
            check_output(out, ".safetensors")
        except OSError as error:
            raise bad_parameter("--out", f"cannot write {out}: {error.strerror or error}") from None
        except ValueError as error:
            raise bad_parameter("--out", str(error)) from None


def _check_together(
    dry_run: bool,
    weights: Path | None,
    report_file: Path | None,
    out: Path | None,
    has_method: bool,
) -> None:
    if dry_run and out is not None:
        raise bad_parameter("--dry-run", "it writes no model: leave out --out, or --dry-run")
    if dry_run and has_method:
        raise bad_parameter(
            "--dry-run", "it runs no method: leave out --method and its data, or --dry-run"
        )
    if weights is not None and has_method:
        raise bad_parameter(
            "--from", "a method begins with a recipe: leave out --method and its data, or --from"
        )
    if out and report_file and out.resolve() == report_file.resolve():
        raise bad_parameter("--report", f"--out writes {out}, too")


def _stream_version(timed: Timed) -> dict[str, str]:
    """The version of pyinit's own numbers that were drawn, as a file's metadata have it; none if all were loaded."""
    report = timed.initialization
    return {} if report is None else {"stream_version": str(report.stream_version)}


def _check_replay(
    recipe: str | None, weights: Path | None, dry_run: bool, has_method: bool
) -> None:
    """Refuse what would do something else than the report says."""
    others = {
        "--recipe": recipe is not None,
        "--method and its data": has_method,
        "--from": weights is not None,
        "--dry-run": dry_run,
    }
    for other, is_given in others.items():
        if is_given:
            raise bad_parameter("--replay", f"the report says all that is done: leave out {other}")


def _given(source: str | None, shape: tuple[int, ...] | None) -> str | None:
    """The option that gives data; None if none does."""
    if source is not None and shape is not None:
        raise click.UsageError("Give either --data or --shape.")
    return "--data" if source is not None else "--shape" if shape is not None else None


def _check_method(
    method: Method | None,
    given: str | None,
    weights: Path | None,
    report_file: Path | None,
    out: Path | None,
) -> None:
    """Refuse what does not go with a method, which a file of rules may have named."""
    if method is None:
        if given is not None:
            raise bad_parameter(
                given, "no method measures on it: give --method, or a file of rules with after="
            )
        return
    if weights is not None:
        raise bad_parameter(
            "--from", f"the method {method.name} begins with a recipe: leave out --from"
        )
    if given is None and method.needs_data:
        name = method.name
        if not method.takes_shape:
            raise bad_parameter("--data", f"the method {name} needs it to measure on")
        raise bad_parameter(
            "--shape",
            f"the method {name} needs the sizes of a sample, such as 3x224x224, or --data",
        )
    if out is None or report_file is None or check_output(report_file, *SUFFIXES) == ".html":
        return
    if out.resolve() == report_file.with_suffix(".safetensors").resolve():
        raise bad_parameter(
            "--report",
            f"tensors that belong to {report_file} go to {out}, which --out writes: give another name",
        )


def _by_recipe(
    network: nn.Module, recipe: str, seed: int, weights: Path | None, replayed: Path | None
) -> tuple[Timed, dict[str, Any]]:
    """Initialize a model without a method, and what more is to be told of it."""
    if replayed is not None:
        timed = _timed.replay(network, replayed)
        report = timed.initialization
        assert report is not None
        more = {"recipe": report.recipe, "seed": report.seed, "replay": str(replayed)}
        return timed, more
    if weights is not None:
        return _timed.load(network, weights, recipe, seed), {"from": str(weights)}
    return _timed.initialize(network, recipe, seed), {}


def _planned(build: Callable[[], nn.Module], recipe: str, seed: int) -> InitReport:
    """Plan on the meta device, where a model costs nothing, or else in memory.

    Factories that look at values, and parameters whose values only a constructor knows, need memory.
    """
    with suppress(click.BadParameter), torch.device("meta"):
        planned = _timed.plan(build(), recipe, seed)
        if not any(row.why.startswith(WITHOUT_VALUES) for row in planned):
            return planned
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
    console = _console.stdout(_console.WIDE)
    console.print(timed.report)
    where = f"({machine['threads']} threads, {machine['isa']})"
    if timed.by_method is not None:
        console.print(f"{timed.by_method.init.method} took {timed.seconds:.3f} s {where}")
    elif timed.loaded is not None:
        console.print(f"loaded in {timed.seconds:.3f} s {where}")
    elif timed.ratio is not None and timed.speed is not None:
        is_short = timed.torch_seconds is not None and timed.torch_seconds < _SHORT
        compared = (
            "too short to compare"
            if is_short
            else f"{timed.ratio:.1f}x, {timed.speed / 1e6:,.0f} million parameters/s"
        )
        console.print(
            f"pyinit {timed.seconds:.3f} s, torch.nn.init {timed.torch_seconds:.3f} s: {compared} {where}"
        )
    elif timed.torch_error is not None:
        console.print(f"pyinit {timed.seconds:.3f} s; torch.nn.init cannot: {timed.torch_error}")
    elif timed.seconds is not None:
        console.print(f"took {timed.seconds:.3f} s {where}")
    if out is not None:
        console.print(f"wrote {out}, {out.stat().st_size / 1e6:,.1f} MB")
