"""Options that several commands have."""

from collections.abc import Callable
from pathlib import Path

import click

from pyinit.cli._model import DTYPES
from pyinit.reports.files import check_output

dtype = click.option(
    "--dtype", type=click.Choice(list(DTYPES)), help="The dtype of the parameters."
)
kwargs = click.option(
    "--kwargs", metavar="JSON", default="{}", help="The factory's arguments, as a JSON object."
)


def output_file(*suffixes: str) -> Callable[..., Path | None]:
    """Make a callback that accepts only paths at which a file of these formats can be written."""

    def check(_: click.Context, __: click.Parameter, path: Path | None) -> Path | None:
        try:
            if path is not None:
                check_output(path, *suffixes)
        except OSError as error:
            raise click.BadParameter(f"cannot write {path}: {error.strerror or error}") from None
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
        return path

    return check


def seed(of: str) -> Callable[..., Callable[..., object]]:
    return click.option(
        "--seed",
        type=click.IntRange(0, 2**64 - 1),
        default=0,
        show_default=True,
        help=f"The seed of {of}.",
    )
