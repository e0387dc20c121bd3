"""The table of a report: a line for each parameter, or for all repeated blocks together."""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from pyinit.reports.initialization import InitReport, Row
    from pyinit.reports.loading import LoadReport

_WIDTH = 140  # of tables that are made into text
_SHOWN = 10  # names of a kind


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations; sums combine as in Chan et al. 1979."""

    count: int = 0
    mean: float = math.nan
    squares: float = math.nan

    def __add__(self, other: "Moments") -> "Moments":
        if not (self.count and other.count):
            return self if self.count else other
        count = self.count + other.count
        shift = other.mean - self.mean
        return Moments(
            count,
            self.mean + shift * other.count / count,
            self.squares + other.squares + shift**2 * self.count * other.count / count,
        )

    @property
    def std(self) -> float:
        return math.sqrt(self.squares / self.count) if self.count else math.nan


@dataclass(frozen=True)
class Line:
    name: str
    shape: tuple[int, ...]
    initializer: str
    why: str
    moments: Moments = Moments()


def rendered(report: "InitReport") -> Iterator[Any]:
    """What rich prints of a report."""
    yield table(grouped(line for row in report for line in lines(row)))
    yield ""
    if report.skipped:
        skipped = _plain_table("not given again", "why")
        for name, why in report.skipped:
            skipped.add_row(name, why)
        yield skipped
        yield ""
    yield report.summary


def rendered_load(report: "LoadReport") -> Iterator[Any]:
    """What rich prints of the report of a load."""
    if report.adapted or report.mismatched:
        table = _plain_table("", "name", "source", "model", "")
        for name, source, model, how in report.adapted:
            table.add_row("adapted", name, str(list(source)), str(list(model)), how)
        for name, source, model in report.mismatched:
            table.add_row("mismatched", name, str(list(source)), str(list(model)))
        yield table
        yield ""
    if report.missing or report.unexpected or report.nonfinite:
        table = _plain_table("", "name")
        table.show_header = False
        counts = (f"{name} ({count} elements)" for name, count in report.nonfinite.items())
        _add(table, "missing", report.missing)
        _add(table, "unexpected", report.unexpected)
        _add(table, "not finite", tuple(counts))
        yield table
        yield ""
    yield report.summary


def _plain_table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _add(table: Table, what: str, names: Sequence[str]) -> None:
    for name in names[:_SHOWN]:
        table.add_row(what, name)
    if len(names) > _SHOWN:
        table.add_row("", f"... and {len(names) - _SHOWN} more")


def as_text(report: Any, width: int = _WIDTH) -> str:
    """What ``print`` shows of a report of any kind."""
    console = Console(width=width, highlight=False, markup=False, color_system=None)
    with console.capture() as capture:
        console.print(report)
    return capture.get()


def lines(row: "Row") -> Iterator[Line]:
    """A row, and a line for each of its further names."""
    moments = Moments()
    if row.mean is not None and row.std is not None:
        moments = Moments(row.elements, row.mean, row.elements * row.std**2)
    yield Line(row.name, row.shape, str(row.initializer), row.why, moments)
    for name in row.tied:
        yield Line(name, row.shape, "", f"tied to {row.name}")


def grouped(lines: Iterable[Line]) -> list[Line]:
    """Merges lines of one shape and initializer whose names differ in numbers only.

    ``h.0.w`` and ``h.1.w`` become ``h.{0-1}.w``. Numbers are merged one place after the other, so
    a merged line stands for exactly the combinations that its name shows.
    """
    split = [(_split(line.name), line) for line in lines]
    for place in range(1, max((len(parts) for parts, _ in split), default=0), 2):
        same: dict[Any, list[tuple[Parts, Line]]] = {}
        for parts, line in split:
            rest = parts[:place], parts[place + 1 :]
            same.setdefault((rest, line.shape, line.initializer, line.why), []).append(
                (parts, line)
            )
        split = [_merge(members, place) for members in same.values()]
    return [replace(line, name="".join(map(_text, parts))) for parts, line in split]


# The text of a name and the numbers in it, by turns.
Parts = tuple[str | frozenset[str], ...]


def _split(name: str) -> Parts:
    pieces = enumerate(re.split(r"(\d+)", name))
    return tuple(frozenset((piece,)) if i % 2 else piece for i, piece in pieces)


def _merge(members: list[tuple[Parts, Line]], place: int) -> tuple[Parts, Line]:
    parts, line = members[0]
    if len(members) == 1:
        return parts, line
    numbers = frozenset[str]().union(*(parts[place] for parts, _ in members))
    total = reduce(Moments.__add__, (line.moments for _, line in members))
    return (*parts[:place], numbers, *parts[place + 1 :]), replace(line, moments=total)


def _text(part: str | frozenset[str]) -> str:
    if isinstance(part, str):
        return part
    numbers = sorted(part, key=int)
    if len(numbers) == 1:
        return numbers[0]
    values = [int(number) for number in numbers]
    first, second, last = values[0], values[1], values[-1]
    if values == list(range(first, last + 1)):
        return f"{{{first}-{last}}}"
    if len(numbers) > 3 and values == list(range(first, last + 1, second - first)):
        return f"{{{first},{second},...,{last}}}"
    return f"{{{','.join(numbers)}}}"


def table(lines: Iterable[Line]) -> Table:
    """Repeated blocks stand indented under the name they share."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("parameter", overflow="fold")
    table.add_column("shape", no_wrap=True)
    table.add_column("initializer", overflow="fold")
    table.add_column("why", overflow="fold")
    table.add_column("mean", justify="right", no_wrap=True)
    table.add_column("std", justify="right", no_wrap=True)
    for block, members in groupby(lines, lambda line: _block(line.name)):
        if block:
            table.add_row(block.removesuffix("."))
        for line in members:
            known = line.moments.count > 0
            table.add_row(
                ("  " if block else "") + line.name.removeprefix(block),
                "x".join(map(str, line.shape)),
                line.initializer,
                line.why,
                f"{line.moments.mean:.2g}" if known else "",
                f"{line.moments.std:.3g}" if known else "",
            )
    return table


def _block(name: str) -> str:
    """``h.{0-11}.`` of ``h.{0-11}.attn.weight``; empty where nothing is merged."""
    start, brace, rest = name.partition("{")
    end, dot, _ = rest.partition(".")
    return start + brace + end + dot if brace and dot else ""
