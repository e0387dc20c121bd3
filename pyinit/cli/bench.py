"""``pyinit bench``."""

import re
import signal
from collections.abc import Callable, Iterable
from statistics import geometric_mean

import click
from rich.table import Table

from pyinit._machine import info
from pyinit.bench import PEERS, Case, Result, cases, measure, usual_cases, versions
from pyinit.cli import _console
from pyinit.cli._model import bad_parameter

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


def _peers(_: click.Context, __: click.Parameter, text: str | None) -> dict[str, str]:
    """The versions of the peers that are named."""
    try:
        return {} if text is None else versions(text.split(","))
    except (ImportError, ValueError) as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.argument("chosen", metavar="[PATTERN]", required=False, callback=_chosen)
@click.option(
    "--peers",
    metavar="NAMES",
    callback=_peers,
    help=f"Time convolutions beside these, too: {', '.join(PEERS)}.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--quick", is_flag=True, help=f"Measure each case for {_QUICK_SECONDS} s.")
def bench(as_json: bool, chosen: list[Case], peers: dict[str, str], quick: bool) -> None:
    """Time initializers, convolutions, activations, networks and whole models against torch.

    PATTERN is a regular expression, and all cases run whose name has a match of it, as for 'normal_
    float32 2^24'. Without it a selection runs. 'activation' runs every activation, and
    'initialize_' all whole models. 'statistics|inspect' compares statistics with the same numbers
    by torch's functions, and inspect with a plain pass forward and backward. 'conv' runs all layers
    of ResNet-50, VGG-16, MobileNetV2 (depthwise), LeNet-5, a small CNN for MNIST and a ResNet for
    CIFAR, forward and backward, in both layouts and in batches of 1 (b1), 16 and 64, except those
    of more than 20 thousand million operations or 256 MiB a tensor; 'conv2d forward .* resnet50 .*
    b1$' runs some of these. 'network' runs steps of training and forward passes of small networks,
    in torch's modules and the same after pyinit.nn.convert_. Geometric means of the ratios, by
    groups, stand under the table.

    torch and pyinit are called in turn. The ratio is the median over the pairs of calls, and the
    times are medians. The rate is that of the shortest time, and "of peak" compares it with the
    most that the machine did: for GB/s, zeroing the same memory, or reading it for statistics; for
    GF/s (billions of additions and multiplications a second), fused multiply-adds on one thread,
    times the number of threads. "of sgemm" compares the rates of torch and of pyinit, in this
    order, with that of torch's products of large matrices.

    Peers are other libraries, which have to be installed. They compute convolutions forward, and
    these fused with bias and ReLU, in torch's usual layout and with as many threads as torch. Each
    takes turns with pyinit, for as long as torch does, and its column has the median of the ratios
    of its times to pyinit's. It is given a layer as a model, whose weights are constants: it may
    rearrange them before its time is taken, and its results all go to the same memory. torch and
    pyinit are given the weights at each call, and make a new tensor.

    After Ctrl-C the table has the cases that were measured until then. Where stderr is no terminal,
    each case is a line there as soon as it is measured.
    """
    if peers and not any(case.has_peers for case in chosen):
        raise bad_parameter(
            "--peers", "none of the cases can be timed beside peers; 'conv2d forward' has some"
        )
    results, is_whole = _measured(chosen, peers, quick)
    if as_json:
        _console.print_json({"machine": info(), "peers": peers, "cases": results})
    elif results:
        _print(results, peers)
    if not is_whole:
        click.echo(f"Interrupted after {len(results)} of {len(chosen)} cases.", err=True)
        raise SystemExit(128 + signal.SIGINT)


def _measured(chosen: list[Case], peers: Iterable[str], quick: bool) -> tuple[list[Result], bool]:
    """The results of the cases until Ctrl-C, and whether they are all."""
    results: list[Result] = []
    with _console.progress() as progress:
        task = progress.add_task("", total=len(chosen))
        try:
            for number, case in enumerate(chosen, 1):
                progress.update(task, description=str(case))
                results.append(measure(case, _QUICK_SECONDS if quick else case.seconds, peers))
                progress.advance(task)
                if progress.disable:  # a bar would fill a file
                    click.echo(
                        f"{number}/{len(chosen)} {case}: {results[-1]['ratio']:.2f}x", err=True
                    )
        except KeyboardInterrupt:
            return results, False
    return results, True


def _print(results: list[Result], peers: dict[str, str]) -> None:
    machine = info()
    console = _console.stdout(_console.WIDE)
    libraries = {"pyinit": machine["version"], "torch": machine["torch"], **peers}
    named = ", ".join(f"{name} {version}" for name, version in libraries.items())
    console.print(f"{named}, {machine['threads']} threads, {machine['isa']}")
    console.print(_table(results, peers))
    if any(result["group"] for result in results):
        console.print("", _means(results, peers), "", sep="\n")
    slowest = min(results, key=lambda result: result["ratio"])
    faster = sum(result["ratio"] >= 1 for result in results)
    console.print(
        f"{faster} of {len(results)} cases at least as fast as torch; least: "
        f"{slowest['operation']} {slowest['dtype']} {slowest['size']}, {slowest['ratio']:.2f}x"
    )


_COLUMNS: dict[str, Callable[[Result], str]] = {
    "torch": lambda result: _time(result["torch_seconds"]),
    "pyinit": lambda result: _time(result["pyinit_seconds"]),
    "ratio": lambda result: f"{result['ratio']:.2f}x",
    "rate": lambda result: _rate(result["rate"], result["rate_unit"]),
    "of peak": lambda result: _shares(result["share_of_peak"]),
    "of sgemm": lambda result: _shares(result["torch_share_of_sgemm"], result["share_of_sgemm"]),
}


def _table(results: list[Result], peers: Iterable[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("operation", "dtype", "size"):
        table.add_column(name, overflow="fold")
    columns = {name: [text(result) for result in results] for name, text in _COLUMNS.items()}
    columns |= {name: [_ratio_to(name, result) for result in results] for name in peers}
    shown = {name: texts for name, texts in columns.items() if any(texts)}
    for name in shown:
        table.add_column(name, justify="right", no_wrap=True)
    for result, *texts in zip(results, *shown.values(), strict=True):
        table.add_row(
            result["operation"],
            result["dtype"],
            result["size"],
            *texts,
            style="red" if result["ratio"] < 1 else None,
        )
    return table


def _rate(rate: float | None, unit: str) -> str:
    return "" if rate is None else f"{rate:.1f} {unit}"


def _shares(*shares: float | None) -> str:
    """Percentages: ``78%``, ``63/69%``."""
    known = [f"{100 * share:.0f}" for share in shares if share is not None]
    return f"{'/'.join(known)}%" if known else ""


def _ratio_to(peer: str, result: Result) -> str:
    return f"{result['peers'][peer]['ratio']:.2f}x" if peer in result["peers"] else ""


def _means(results: list[Result], peers: Iterable[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("group", overflow="fold")
    means = (each for peer in peers for each in (peer, "least"))
    for name in ("cases", "geometric mean", "least", *means):
        table.add_column(name, justify="right", no_wrap=True)
    groups: dict[str, list[Result]] = {}
    for result in results:
        if result["group"] is not None:
            groups.setdefault(result["group"], []).append(result)
    for group, members in groups.items():
        by_torch = [result["ratio"] for result in members]
        by_peers = [
            [result["peers"][name]["ratio"] for result in members if name in result["peers"]]
            for name in peers
        ]
        cells = [cell for ratios in (by_torch, *by_peers) for cell in _mean_and_least(ratios)]
        table.add_row(group, str(len(members)), *cells)
    return table


def _mean_and_least(ratios: list[float]) -> tuple[str, str]:
    return (f"{geometric_mean(ratios):.2f}x", f"{min(ratios):.2f}x") if ratios else ("", "")


def _time(seconds: float) -> str:
    unit, scale = next(
        (u, s) for u, s in (("s", 1.0), ("ms", 1e3), ("us", 1e6)) if seconds * s >= 1 or u == "us"
    )
    return f"{seconds * scale:.3g} {unit}"
