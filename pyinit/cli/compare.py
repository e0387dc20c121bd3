"""``pyinit compare``."""

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from pyinit.cli import _console
from pyinit.cli._model import bad_parameter, look_in_working_folder, one_line
from pyinit.cli._output import ended_in_order

_INTERRUPTED = 130  # as shells tell of Ctrl-C


def _rates(_: click.Context, __: click.Parameter, text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(map(float, text.split(",")))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not numbers such as 0.01,0.1") from None


def _factors(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in texts:
        name, is_given, values = text.partition("=")
        if not (name and is_given and values):
            raise click.BadParameter(f"{text!r} is not a factor and values such as depth=10,30")
        if name in found:
            raise click.BadParameter(f"{name} is given twice; give all values at once")
        found[name] = values.split(",")
    return found


def _list(context: click.Context, _: click.Parameter, is_asked: bool) -> None:
    if not is_asked:
        return
    from pyinit.studies import Study  # noqa: PLC0415  takes its time
    from pyinit.studies.toml_files import presets  # noqa: PLC0415

    console = _console.stdout(_console.WIDE)
    width = max(map(len, presets()), default=0)
    for name in presets():
        console.print(f"{name:<{width}}  {Study.load(name).question}")
    context.exit()


@click.command()
@click.argument("study")
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list,
    help="Show pyinit's own studies.",
)
@click.option("--seeds", metavar="N", type=click.IntRange(1), help="How often each arm is trained.")
@click.option(
    "--jobs",
    metavar="N",
    type=click.IntRange(1),
    help="How many processes train at the same time; by default one a processor core.",
)
@click.option(
    "--out",
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where all files go; by default a folder of the study's name. Runs that are there are "
    "not repeated.",
)
@click.option(
    "--lr",
    "rates",
    metavar="RATES",
    callback=_rates,
    help="Learning rates, such as 0.01,0.1. Of several, each arm is compared by the one with "
    "the least training loss.",
)
@click.option("--full", is_flag=True, help="The study at its full size, which can take hours.")
@click.option("--arms", metavar="NAMES", help="Only these arms, such as xavier,he.")
@click.option(
    "--factor",
    "factors",
    metavar="NAME=VALUES",
    multiple=True,
    callback=_factors,
    help="Only these of a factor's values, such as depth=10,30.",
)
@click.option(
    "--data-dir",
    metavar="FOLDER",
    type=click.Path(file_okay=False),
    help="The folder with the files of torchvision's data sets.",
)
@click.option("--download", is_flag=True, help="Let torchvision download what is not there.")
@click.option(
    "--dask",
    metavar="ADDRESS",
    help="Train on the cluster of the scheduler of dask at this address, such as "
    "tcp://scheduler:8786.",
)
def compare(  # noqa: PLR0917
    study: str,
    seeds: int | None,
    jobs: int | None,
    out: Path | None,
    rates: tuple[float, ...] | None,
    full: bool,
    arms: str | None,
    factors: dict[str, list[str]],
    data_dir: str | None,
    download: bool,
    dask: str | None,
) -> None:  # fmt: skip
    """Train models from several initializations, compare them, and judge what is claimed of them.

    STUDY is one of pyinit's own, which --list shows, or a TOML file.
    """
    look_in_working_folder()
    if Path(study).is_file():  # modules may also lie beside it
        sys.path.append(os.path.abspath(os.path.dirname(study)))
    try:
        chosen = _chosen(study, full=full)
        chosen = _restricted(chosen, None if arms is None else arms.split(","), factors)
        changes: dict[str, Any] = {"seeds": seeds, "data_dir": data_dir}
        chosen = replace(chosen, **{k: v for k, v in changes.items() if v is not None})
        if rates is not None:
            if "lr" in chosen.factors:
                raise bad_parameter("--lr", "lr is a factor of this study; choose by --factor lr=")
            lr = rates[0] if len(rates) == 1 else rates
            chosen = replace(chosen, training=replace(chosen.training, lr=lr))
    except OSError as error:
        raise bad_parameter("STUDY", f"cannot read {study}: {error.strerror or error}") from error
    except ValueError as error:
        raise bad_parameter("STUDY", str(error)) from error
    except KeyboardInterrupt:  # while the libraries are imported that a study needs
        click.echo("\ninterrupted before anything was begun", err=True)
        raise click.exceptions.Exit(_INTERRUPTED) from None
    folder = _folder_of(chosen.name) if out is None else out
    _run(chosen, folder, jobs=jobs, dask=dask, download=download)


def _folder_of(name: str) -> Path:
    """The folder in the working folder that has a study's name."""
    folder = Path(name)
    if name in (".", "..") or folder.name != name:
        raise bad_parameter("--out", f"is needed, since {name!r} is no name for a folder")
    if folder.exists() and not folder.is_dir():
        raise bad_parameter("--out", f"is needed, since {name!r} is a file")
    return folder


def _chosen(name: str, *, full: bool) -> Any:
    from pyinit.studies import Study  # noqa: PLC0415

    found = Study.load(name)
    return found.full_size() if full else found


def _restricted(study: Any, arms: list[str] | None, factors: dict[str, list[str]]) -> Any:
    """The study with these arms and values of factors, and the claims that are about no others."""
    from pyinit.studies.kinds import FieldError, inside, refuse_unknown  # noqa: PLC0415

    kept_arms = dict(study.arms)
    if arms is not None:
        with inside("arms"):
            refuse_unknown(arms, study.arms, "arm")
        kept_arms = {name: study.arms[name] for name in arms}
    kept = dict(study.factors)
    with inside("factors"):
        refuse_unknown(factors, study.factors, "factor")
    for name, texts in factors.items():
        by_text = {_as_text(value): value for value in study.factors[name]}
        chosen = [_as_text(_as_number(text)) if text not in by_text else text for text in texts]
        for text, each in zip(texts, chosen, strict=True):
            if each not in by_text:
                has = ", ".join(by_text)
                raise FieldError(("factors", name), f"is never {text}; it takes {has}")
        kept[name] = tuple(by_text[each] for each in chosen)
    claims = [
        claim
        for claim in study.claims
        if {*claim.arms} <= {*kept_arms}
        and all(value in kept[name] for place in claim.places for name, value in place.items())
    ]
    return replace(study, arms=kept_arms, factors=kept, claims=claims)


def _as_text(value: Any) -> str:
    """A factor's value as TOML has it; a number whatever its type."""
    if isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else repr(float(value)).removesuffix(".0")


def _as_number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _run(study: Any, out: Path, *, jobs: int | None, dask: str | None, download: bool) -> None:
    from pyinit.studies.runs import count_missing  # noqa: PLC0415

    try:
        with _executor(dask) as executor, ended_in_order():
            if download:
                _download(study)
            left, runs = count_missing(study, out)
            with _progress(study.name, runs, runs - left) as watch:
                result = study.run(jobs=jobs, out=out, executor=executor, watch=watch)
            written = result.write(out, shlex.join(["pyinit", *sys.argv[1:]]))
    except (KeyboardInterrupt, SystemExit) as error:
        left, runs = count_missing(study, out)
        click.echo(f"\ninterrupted: {runs - left} of {runs} runs are kept in {out}", err=True)
        click.echo(f"go on with: {_resume(out)}", err=True)
        code = error.code if isinstance(error, SystemExit) else _INTERRUPTED
        raise click.exceptions.Exit(code) from None  # type: ignore[arg-type]
    except OSError as error:
        message = f"cannot write {out}: {error.strerror or error}"
        raise click.ClickException(
            f"{message}\nwhat is there is kept; go on with: {_resume(out)}"
        ) from error
    except (ImportError, RuntimeError, TypeError, ValueError) as error:
        raise click.ClickException(one_line(error).partition(": ")[2]) from error
    console = _console.stdout(_console.WIDE)
    console.print(result)
    for path in written:
        console.print(f"wrote {path}")
    for arm in study.arms:
        of_arm = [record for record in result.records if record.arm == arm]
        if of_arm and all(record.status == "failed" for record in of_arm):
            raise click.ClickException(f"all runs of {arm} failed: {of_arm[0].error}")


@contextmanager
def _executor(dask: str | None) -> Iterator[Executor | None]:
    from pyinit.studies.executors import dask_executor  # noqa: PLC0415

    with nullcontext() if dask is None else dask_executor(dask) as executor:
        yield executor


def _download(study: Any) -> None:
    from pyinit.studies.data import data_of  # noqa: PLC0415

    for source in study.factors.get("data", (study.data,)):
        data_of(source, study.data_dir, download=True)


@contextmanager
def _progress(name: str, runs: int, done: int) -> Iterator[Callable[..., None]]:
    """A bar with the time that is left, and what has gone wrong above it."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(name, total=runs, completed=done)

        def watch(record: Any, _: int) -> None:
            if record.status == "failed":
                bar.console.print(f"{record.arm}, seed {record.seed}: {record.error}", markup=False)
            bar.advance(task)
            if bar.disable:  # a bar would fill a file
                line = (
                    f"{bar.tasks[0].completed:.0f} of {runs} runs: {record.arm}, seed {record.seed}"
                )
                click.echo(f"{line}, {record.status} after {record.seconds:.1f} s", err=True)

        yield watch


def _resume(out: Path) -> str:
    """The command that goes on where this one was."""
    given = sys.argv[1:]
    extra = [] if any(each.split("=")[0] == "--out" for each in given) else ["--out", str(out)]
    return shlex.join(["pyinit", *given, *extra])
