"""Options that several commands have."""

from collections.abc import Callable
from pathlib import Path

import click
import torch

from pyinit.cli import _console
from pyinit.cli._model import DTYPES, bad_parameter, look_in_working_folder
from pyinit.datasets import DATASETS, Dataset
from pyinit.datasets import load as load_data
from pyinit.datasets.torchvision import FOLDER
from pyinit.reports.files import check_output

_BATCH = 256

dtype = click.option(
    "--dtype", type=click.Choice(list(DTYPES)), help="The dtype of the parameters."
)
kwargs = click.option(
    "--kwargs", metavar="JSON", default="{}", help="The factory's arguments, as a JSON object."
)

batch_size = click.option(
    "--batch",
    "size",
    metavar="N",
    type=click.IntRange(1),
    default=_BATCH,
    show_default=True,
    help="How many samples to take, at random.",
)


def data(what_for: str = "") -> Callable[..., Callable[..., object]]:
    """``--data``, as ``source``."""
    return click.option(
        "--data",
        "source",
        metavar="NAME|FILE|FOLDER|FUNCTION",
        help=f"{what_for}{', '.join(DATASETS)}; torchvision:NAME, from the folder {FOLDER}; a .npy or .npz "
        "file; a folder that has one of images for each class; or package.module:function, which returns a "
        "batch, or inputs and their target.",
    )


def _sizes(_: click.Context, __: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        sizes = tuple(map(int, text.split("x")))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise click.BadParameter(f"{text!r} is not sizes such as 3x224x224")
    return sizes


shape = click.option(
    "--shape",
    metavar="SIZES",
    callback=_sizes,
    help="Instead of data, normal random numbers: the sizes of one sample, such as 3x224x224.",
)


def noise(sizes: tuple[int, ...], size: int, seed: int, dtype: str | None) -> Dataset:
    """A batch of what ``--shape`` says."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(size, *sizes, generator=generator)
    return Dataset("normal random numbers", inputs.to(DTYPES[dtype or "float32"]))


def loaded(source: str, size: int, seed: int, dtype: str | None) -> Dataset:
    """A batch of what ``--data`` names."""
    look_in_working_folder()
    try:
        with _console.working(f"loading {source}"):
            found = load_data(source).batch(size, seed)
    except OSError as error:
        message = f"cannot read {source}: {error.strerror or error}"
        raise bad_parameter("--data", message) from error
    except (ImportError, RuntimeError, ValueError) as error:
        raise bad_parameter("--data", " ".join(str(error).split())) from error
    return found if dtype is None else found.to(DTYPES[dtype])


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
