"""``pyinit bench``."""

import re
import signal
from statistics import geometric_mean

import click
from rich.table import Table

from pyinit._machine import info
from pyinit.bench import Case, Result, cases, measure, usual_cases
from pyinit.cli import _console

_QUICK_SECONDS = 0.2


def _chosen(_: click.Context, __: click.Parameter, pattern: str | None) -> list[Case]:
    if pattern is None:
        return usual_cases()
    try:
        chosen = [case for case in cases() if re.search(pattern, str(case))]
    except re.error as error:
        raise click.BadParameter(f"{pattern!r} is not a regular expression: {error}") from None
    if not chosen:
        begun = dict.fromkeys(re.split(r"[ (]", str(case))[0] for case in cases())
        known = ", ".join(begun)
        raise click.BadParameter(f"no case matches {pattern!r}; cases begin with {known}")
    return chosen


@click.command()
@click.argument("chosen", metavar="[PATTERN]", required=False, callback=_chosen)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--quick", is_flag=True, help=f"Measure each case for {_QUICK_SECONDS} s.")
def bench(as_json: bool, chosen: list[Case], quick: bool) -> None:
    """Time initializers, convolutions, activations and whole models against torch.

    PATTERN is a regular expression, and all cases run whose name has a match of it, as for 'normal_
    float32 2^24'. Without it a selection runs. 'activation' runs every activation, and
    'initialize_' all whole models. 'statistics|inspect' compares statistics with the same numbers
    by torch's functions, and inspect with a plain pass forward and backward. 'conv' runs all layers
    of ResNet-50, VGG-16, MobileNetV2 (depthwise), LeNet-5 and a ResNet for CIFAR, forward and
    backward, in both layouts and in batches of 1 (b1), 16 and 64, except those of more than 20
    thousand million operations or 256 MiB a tensor; 'conv2d forward .* resnet50 .* b1$' runs some
    of these. Geometric means of the ratios, by groups, stand under the table.

    torch and pyinit are called in turn. The ratio is the median over the pairs of calls, and the
    times are medians. The rate is that of the shortest time, and "of peak" compares it with the
    most that the machine did: for GB/s, zeroing the same memory, or reading it for statistics; for
    GF/s (billions of additions and multiplications a second), fused multiply-adds on one thread,
    times the number of threads.

    After Ctrl-C the table has the cases that were measured until then. Where stderr is no terminal,
    each case is a line there as soon as it is measured.
    """
    results, is_whole = _measured(chosen, quick)
    if as_json:
        _console.print_json({"machine": info(), "cases": results})
    elif results:
        _print(results)
    if not is_whole:
        click.echo(f"Interrupted after {len(results)} of {len(chosen)} cases.", err=True)
        raise SystemExit(128 + signal.SIGINT)


def _measured(chosen: list[Case], quick: bool) -> tuple[list[Result], bool]:
    """The results of the cases until Ctrl-C, and whether they are all."""
    results: list[Result] = []
    with _console.progress() as progress:
        task = progress.add_task("", total=len(chosen))
        try:
            for number, case in enumerate(chosen, 1):
                progress.update(task, description=str(case))
                results.append(measure(case, _QUICK_SECONDS if quick else case.seconds))
                progress.advance(task)
                if progress.disable:  # a bar would fill a file
                    click.echo(
                        f"{number}/{len(chosen)} {case}: {results[-1]['ratio']:.2f}x", err=True
                    )
        except KeyboardInterrupt:
            return results, False
    return results, True


def _print(results: list[Result]) -> None:
    machine = info()
    console = _console.stdout()
    console.print(
        f"pyinit {machine['version']}, torch {machine['torch']}, "
        f"{machine['threads']} threads, {machine['isa']}"
    )
    console.print(_table(results))
    if any(result["group"] for result in results):
        console.print("", _means(results), "", sep="\n")
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


def _means(results: list[Result]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("group", overflow="fold")
    for name in ("cases", "geometric mean", "least"):
        table.add_column(name, justify="right", no_wrap=True)
    groups: dict[str, list[float]] = {}
    for result in results:
        if result["group"] is not None:
            groups.setdefault(result["group"], []).append(result["ratio"])
    for group, ratios in groups.items():
        mean = geometric_mean(ratios)
        table.add_row(group, str(len(ratios)), f"{mean:.2f}x", f"{min(ratios):.2f}x")
    return table


def _time(seconds: float) -> str:
    unit, scale = next(
        (u, s) for u, s in (("s", 1.0), ("ms", 1e3), ("us", 1e6)) if seconds * s >= 1 or u == "us"
    )
    return f"{seconds * scale:.3g} {unit}"
