"""``pyinit bench``."""

import re

import click
from rich.table import Table

from pyinit._machine import info
from pyinit.bench import Case, Result, cases, measure
from pyinit.cli import _console

_SECONDS = 2.0
_QUICK_SECONDS = 0.2


def _matching(_: click.Context, __: click.Parameter, pattern: str) -> list[Case]:
    try:
        chosen = [case for case in cases() if re.search(pattern, str(case))]
    except re.error as error:
        raise click.BadParameter(f"{pattern!r} is not a regular expression: {error}") from None
    if not chosen:
        raise click.BadParameter(f"no case matches {pattern!r}")
    return chosen


@click.command()
@click.argument("chosen", metavar="[PATTERN]", default="", callback=_matching)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--quick", is_flag=True, help="Measure each case briefly.")
def bench(as_json: bool, chosen: list[Case], quick: bool) -> None:
    """Time the initializers against torch.nn.init.

    PATTERN, a regular expression, limits the run to the cases with a match of it in their name, as
    in 'normal_ float32 2^24'.

    The two are called in turn. The ratio is the median over the pairs of calls, times are medians,
    the rate is of the shortest time, and "of peak" compares it with the most that the machine did:
    in GB/s when zeroing the same memory; in GF/s, billions of additions and multiplications a
    second, with fused multiply-adds on one thread, times the number of threads.
    """
    results = []
    with _console.progress() as progress:
        task = progress.add_task("", total=len(chosen))
        for case in chosen:
            progress.update(task, description=str(case))
            results.append(measure(case, _QUICK_SECONDS if quick else _SECONDS))
            progress.advance(task)
    if as_json:
        _console.print_json({"machine": info(), "cases": results})
        return
    machine = info()
    console = _console.stdout()
    console.print(
        f"pyinit {machine['version']}, torch {machine['torch']}, "
        f"{machine['threads']} threads, {machine['isa']}"
    )
    console.print(_table(results))
    slowest = min(results, key=lambda result: result["ratio"])
    faster = sum(result["ratio"] >= 1 for result in results)
    console.print(
        f"{faster} of {len(results)} cases at least as fast as torch; least: "
        f"{slowest['operation']} {slowest['dtype']} {slowest['size']}, {slowest['ratio']:.2f}x"
    )


def _table(results: list[Result]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("operation", "dtype", "size"):
        table.add_column(name, overflow="fold")
    for name in ("torch", "pyinit", "ratio", "rate", "of peak"):
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        rate, share = result["rate"], result["share_of_peak"]
        table.add_row(
            result["operation"],
            result["dtype"],
            result["size"],
            _time(result["torch_seconds"]),
            _time(result["pyinit_seconds"]),
            f"{result['ratio']:.2f}x",
            "" if rate is None else f"{rate:.1f} {result['rate_unit']}",
            "" if share is None else f"{share:.0%}",
            style="red" if result["ratio"] < 1 else None,
        )
    return table


def _time(seconds: float) -> str:
    unit, scale = next(
        (u, s) for u, s in (("s", 1.0), ("ms", 1e3), ("us", 1e6)) if seconds * s >= 1 or u == "us"
    )
    return f"{seconds * scale:.3g} {unit}"
