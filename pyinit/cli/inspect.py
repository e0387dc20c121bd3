"""``pyinit inspect``."""

from pathlib import Path

import click
from torch import nn

from pyinit.cli import _console, _options, _output, _timed
from pyinit.cli._model import bad_parameter, imported, load, one_line
from pyinit.inspection.inspect import inspect as inspect_model
from pyinit.models import MODELS
from pyinit.reports.page import SUFFIXES

_AS_IT_IS = "none"


@click.command(
    help=f"""Show what happens to signals and gradients in MODEL, layer by layer, on a batch of data.

    MODEL is package.module:factory or one of {", ".join(MODELS)}. Several recipes stand side by side. What
    goes wrong is told below the table, with the first layer where it shows, and what helps, which has
    been tried.
    """
)
@click.argument("model")
@_options.data()
@_options.shape
@click.option(
    "--recipe",
    "recipes",
    metavar="NAME|FILE",
    multiple=True,
    help="Initialize by a recipe that pyinit init --list-recipes shows, or by a file of rules. Once for "
    f"each that is to be compared; {_AS_IT_IS} is what the factory draws, and what is looked at without "
    "this option.",
)
@click.option(
    "--report",
    "report_file",
    type=click.Path(path_type=Path),
    callback=_options.output_file(*SUFFIXES),
    help="Write the report to this file: as JSON (.json), or as a page for a browser (.html).",
)
@_options.batch_size
@_options.seed("weights and of the choice of samples")
@click.option(
    "--loss",
    metavar="FUNCTION",
    help="package.module:function of output and target. By default the cross-entropy for classes, the "
    "mean squared error for other targets, and the mean of the squared outputs without a target.",
)
@click.option(
    "--steps",
    metavar="N",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Take steps of Adam on the batch, too, to see how far weights go.",
)
@click.option(
    "--layers",
    metavar="PATTERN",
    multiple=True,
    help="Look at layers of these names, such as 'encoder.*', instead of those with parameters and "
    "activations.",
)
@click.option("--spectra", is_flag=True, help="Compute the extreme singular values of weights.")
@click.option("--jacobians", is_flag=True, help="Estimate the norm of each layer's Jacobian.")
@_options.dtype
@_options.kwargs
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def inspect(
    *,
    model: str,
    source: str | None,
    shape: tuple[int, ...] | None,
    recipes: tuple[str, ...],
    report_file: Path | None,
    size: int,
    seed: int,
    loss: str | None,
    steps: int,
    layers: tuple[str, ...],
    spectra: bool,
    jacobians: bool,
    dtype: str | None,
    kwargs: str,
    as_json: bool,
) -> None:
    if (source is None) == (shape is None):
        raise click.UsageError("Give either --data or --shape.")
    network = _built(model, recipes, dtype, kwargs, seed)
    criterion = None if loss is None else imported("--loss", loss)
    if shape is None:
        data = _options.loaded(source or "", size, seed, dtype)
    else:
        data = _options.noise(shape, size, seed, dtype)
    try:
        report = inspect_model(
            network,
            data.inputs,
            data.target,
            criterion,
            recipes=[None if each == _AS_IT_IS else each for each in recipes] or None,
            seed=seed,
            layers=list(layers) or None,
            steps=steps,
            spectra=spectra,
            jacobians=jacobians,
        )
    except Exception as error:
        raise click.ClickException(
            f"cannot inspect {model} on {data}: {one_line(error)}"
        ) from error
    if report_file is not None:
        _output.save_report(report, report_file)
    if as_json:
        described = {"model": model, "data": str(data), "seed": seed}
        _console.print_json({**described, **report.to_dict()})
        return
    console = _console.stdout(_console.WIDE)
    console.print(f"{model} on {data}\n")
    console.print(report)
    if report_file is not None:
        console.print(f"wrote {report_file}")


def _built(
    model: str, recipes: tuple[str, ...], dtype: str | None, kwargs: str, seed: int
) -> nn.Module:
    """The model, which all recipes can initialize."""
    if len(set(recipes)) < len(recipes):
        raise bad_parameter("--recipe", f"all must differ, got {', '.join(recipes)}")
    with _console.working(f"building {model}"):
        network = load(model, dtype, kwargs, seed, drawn=True)
    for recipe in recipes:
        if recipe != _AS_IT_IS:
            _timed.plan(network, recipe, seed)
    return network
