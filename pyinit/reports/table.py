"""Tables of reports: a line for each parameter, or for all repeated blocks together.

rich is imported where something is printed: it takes longer to import than all of pyinit.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import groupby
from typing import TYPE_CHECKING, Any

from pyinit._messages import needed
from pyinit.reports.adjustment import Span

if TYPE_CHECKING:
    from rich.table import Table


_GAP = 2  # between columns


@dataclass(frozen=True)
class Pooled:
    """Count, mean and sum of squared deviations of the elements of one parameter or several.

    The sums of two are combined as in Chan, Golub & LeVeque 1979.
    """

    count: int = 0
    mean: float = math.nan
    squares: float = math.nan

    def __add__(self, other: "Pooled") -> "Pooled":
        if not (self.count and other.count):
            return self if self.count else other
        count = self.count + other.count
        shift = other.mean - self.mean
        return Pooled(
            count,
            self.mean + shift * other.count / count,
            self.squares + other.squares + shift**2 * self.count * other.count / count,
        )

    @property
    def std(self) -> float:
        return math.sqrt(self.squares / self.count) if self.count else math.nan


@dataclass(frozen=True)
class Line:
    """A line of the table of an initialization."""

    name: str
    shape: tuple[int, ...]
    initializer: str
    why: str
    elements: Pooled = Pooled()
    adjusted: Span | None = None


def grouped(lines: Iterable[Line]) -> list[Line]:
    """Merge lines of one shape, initializer and reason whose names differ in numbers only.

    ``h.0.w`` and ``h.1.w`` become ``h.{0-1}.w``. Numbers are merged one place after the other, so
    a merged line stands for exactly the combinations that its name shows.
    """
    split = [(_split(line.name), line) for line in lines]
    for place in range(1, max((len(parts) for parts, _ in split), default=0), 2):
        same: dict[Any, list[tuple[Parts, Line]]] = {}
        for parts, line in split:
            rest = parts[:place], parts[place + 1 :]
            key = rest, line.shape, line.initializer, line.why, line.adjusted is None
            same.setdefault(key, []).append((parts, line))
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
    total = reduce(Pooled.__add__, (line.elements for _, line in members))
    spans = [line.adjusted for _, line in members if line.adjusted is not None]
    adjusted = reduce(Span.__add__, spans) if spans else None
    merged = replace(line, elements=total, adjusted=adjusted)
    return (*parts[:place], numbers, *parts[place + 1 :]), merged


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


def columns(*names: str) -> "Table":
    """An empty table with columns of these names."""
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def frame(records: list[dict[str, Any]]) -> Any:
    """A ``pandas.DataFrame`` of records.

    Raises:
        ImportError: If pandas is not installed.
    """
    install = '"pyinit[data]"; to_records gives the same as dicts'
    pandas = needed("pandas", "to_frame", "pandas", install)
    return pandas.DataFrame(records)


def in_parts(
    names: Mapping[str, Sequence[str]], numbers: Mapping[str, Sequence[str]], width: int
) -> "list[Table]":
    """A table of names and numbers, in as many parts as the width needs; each has all the names.

    Where it is narrow, a title of several words stands in two lines, and names are folded. A number
    never is. Columns are given as their texts, by title.
    """
    wide = {title: _widest(title, *texts) + _GAP for title, texts in {**names, **numbers}.items()}
    if sum(wide.values()) - _GAP > width:
        numbers = {title.replace(" ", "\n", 1): texts for title, texts in numbers.items()}
    room = max(width - sum(wide[title] for title in names), width // 2)
    parts: list[list[str]] = [[]]
    left = room
    for title, texts in numbers.items():
        taken = _widest(*title.split("\n"), *texts) + _GAP
        if parts[-1] and taken - _GAP > left:
            parts.append([])
            left = room
        parts[-1].append(title)
        left -= taken
    return [_part(names, {title: numbers[title] for title in part}) for part in parts]


def _part(names: Mapping[str, Sequence[str]], numbers: Mapping[str, Sequence[str]]) -> "Table":
    made = columns(*names)
    for title in numbers:
        made.add_column(title, justify="right", no_wrap=True)
    for row in zip(*names.values(), *numbers.values(), strict=True):
        made.add_row(*row)
    return made


def _widest(*texts: str) -> int:
    return max(map(len, texts))


def of_lines(lines: Iterable[Line]) -> "Table":
    """The table of an initialization; repeated blocks stand indented under the name they share."""
    from rich.table import Table  # noqa: PLC0415

    lines = list(lines)
    is_adjusted = any(line.adjusted is not None for line in lines)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("parameter", overflow="fold")
    table.add_column("shape", no_wrap=True)
    table.add_column("initializer", overflow="fold")
    table.add_column("why", overflow="fold")
    if is_adjusted:
        table.add_column("adjusted", overflow="fold")
    table.add_column("mean", justify="right", no_wrap=True)
    table.add_column("std", justify="right", no_wrap=True)
    for block, members in groupby(lines, lambda line: _block(line.name)):
        if block:
            table.add_row(block.removesuffix("."))
        for line in members:
            known = line.elements.count > 0
            table.add_row(
                ("  " if block else "") + line.name.removeprefix(block),
                "x".join(map(str, line.shape)),
                line.initializer,
                line.why,
                *((str(line.adjusted or ""),) if is_adjusted else ()),
                f"{line.elements.mean:.2g}" if known else "",
                f"{line.elements.std:.3g}" if known else "",
            )
    return table


def _block(name: str) -> str:
    """The part of a merged name up to its first block, ``h.{0-11}.`` of ``h.{0-11}.attn.weight``.

    It is empty where nothing is merged.
    """
    start, brace, rest = name.partition("{")
    numbers, closed, rest = rest.partition("}")  # the numbers may be 2,4,...,16
    end, dot, _ = rest.partition(".")
    return start + brace + numbers + closed + end + dot if closed and dot else ""
