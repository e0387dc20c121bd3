"""``pyinit init --shards``: a model that is written without ever being in memory."""

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter

import click
import torch
from torch import nn

from pyinit._machine import info
from pyinit.cli import _console, _output
from pyinit.cli._model import bad_parameter, load, one_line
from pyinit.cli._timed import check_recipe
from pyinit.distributed.config import configs_of
from pyinit.distributed.plan import Plan, plan_shards
from pyinit.distributed.shards import Part, Written, whole_shards, write_shards


def check(out: Path | None, report_file: Path | None, others: Sequence[str]) -> None:
    """Refuse what does not go with ``--shards``."""
    if out is None:
        raise bad_parameter("--shards", "it needs the folder to write to: give --out")
    for other in others:
        raise bad_parameter(
            "--shards", f"it writes what a recipe gives from a seed: leave out {other}"
        )
    try:
        is_other = out.exists() and not out.is_dir()
    except OSError as error:  # such as a name that is too long
        raise bad_parameter("--out", one_line(error)) from None
    if is_other:
        raise bad_parameter("--out", f"{out} is no folder, which --shards needs")
    if out.suffix.lower() == ".safetensors" and not out.exists():
        raise bad_parameter(
            "--out", f"{out.name} is the name of a file, and --shards writes a folder: give another"
        )
    if report_file is not None and report_file.resolve().parent == out.resolve():
        raise bad_parameter("--report", f"give a place outside of {out}")


def write(
    *,
    model: str,
    recipe: str,
    seed: int,
    dtype: str | None,
    kwargs: str,
    shards: int,
    out: Path,
    report_file: Path | None,
    as_json: bool,
) -> None:
    """Write this process's part of the shards, and print what came of it."""
    try:
        part = Part.of_environment(os.environ)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    with _console.working(f"planning {model}"):
        built, plan = _planned(model, recipe, seed, dtype, kwargs, shards)
        others = configs_of(built)
    start = perf_counter()
    written = _written(plan, out, part, others)
    seconds = perf_counter() - start
    if report_file is not None and part.rank == 0:
        _output.save_report(plan.report, report_file)
    if as_json:
        _console.print_json(
            {
                "model": model,
                "recipe": recipe,
                "seed": seed,
                "out": str(out),
                "shards": shards,
                "rank": part.rank,
                "written": [file.name for file in written.written],
                "missing": list(written.missing),
                "seconds": seconds,
                "layers": [row.to_dict() for row in plan.report],
                "machine": info(),
            }
        )
        return
    console = _console.stdout(_console.WIDE)
    if part.rank == 0:
        console.print(plan.report)
    console.print(_told(written, plan, out, seconds), soft_wrap=True)


def _planned(  # noqa: PLR0917
    model: str, recipe: str, seed: int, dtype: str | None, kwargs: str, shards: int
) -> tuple[nn.Module, Plan]:
    try:
        with torch.device("meta"):
            built = load(model, dtype, kwargs, seed)
    except click.BadParameter as error:
        if error.__cause__ is None:
            raise
        device = "--shards builds it on the meta device, where it takes no memory"
        raise bad_parameter("MODEL", f"{error.message} ({device})") from error
    check_recipe(built, recipe)
    try:
        return built, plan_shards(built, recipe, seed, shards, model)
    except Exception as error:
        raise bad_parameter("--shards", f"cannot write {model} so: {one_line(error)}") from error


def _written(plan: Plan, out: Path, part: Part, others: Mapping[str, bytes]) -> Written:
    manifest = plan.manifest
    mine = part.of(manifest.by_file)
    total = sum(item.size for name in mine for item in manifest.by_file[name])
    with _console.progress() as bar, _output.ended_in_order():
        task = bar.add_task(f"writing {out}", total=total)
        try:
            return write_shards(
                plan, out, part, others, advance=lambda size: bar.advance(task, size)
            )
        except FileExistsError as error:
            raise bad_parameter("--out", str(error)) from None
        except OSError as error:
            where = error.filename or out
            raise click.ClickException(
                f"cannot write {where}: {error.strerror or error}; {_whole(plan, out)}"
            ) from None
        except KeyboardInterrupt as error:
            click.echo(f"stopped; {_whole(plan, out)}", err=True)
            if type(error) is KeyboardInterrupt:  # Ctrl-C, of which click would say more
                raise SystemExit(128 + signal.SIGINT) from None
            raise


def _whole(plan: Plan, out: Path) -> str:
    count, shards = len(whole_shards(plan, out)), plan.manifest.shards
    return f"{count} of {shards} shards are whole, and the same command makes the others"


def _told(written: Written, plan: Plan, out: Path, seconds: float) -> str:
    shards = plan.manifest.shards
    size = sum(file.size for file in written.written)
    made = f"wrote {len(written.written)} of {shards} shards to {out}"
    if not written.written and not written.missing:
        return f"all {shards} shards are in {out} already, and the checkpoint is complete; pyinit verify compares it"
    if written.written:
        made += f", {size / 1e6:,.1f} MB in {seconds:.3f} s ({size / 1e9 / seconds:.2f} GB/s)"
    if written.missing:
        return f"{made}; {len(written.missing)} are other processes' to write"
    return f"{made}; the checkpoint is complete"
