"""How two reports of an initialization differ."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, overload

from pyinit.reports import table
from pyinit.reports.printed import Printed


class Difference(NamedTuple):
    """Something that two reports do not have alike.

    name: the parameter's name; "" for what is said of all of them
    what: what differs, such as ``"initializer"``
    first: what the first report has, as text; "" if it lacks the parameter
    second: what the second has
    """

    name: str
    what: str
    first: str
    second: str


@dataclass(frozen=True)
class Differences(Printed, Sequence[Difference]):
    """All differences of two reports, in the order of the first; empty if there are none.

    Printed, it is a table, in which repeated blocks share a line.
    """

    differences: tuple[Difference, ...] = ()

    @overload
    def __getitem__(self, index: int) -> Difference: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Difference]: ...
    def __getitem__(self, index: int | slice) -> Difference | Sequence[Difference]:
        return self.differences[index]

    def __len__(self) -> int:
        return len(self.differences)

    def __rich_console__(self, *_: Any) -> Iterator[Any]:
        if not self:
            yield "no difference"
            return
        listed = table.columns("parameter", "what", "first", "second")
        lines = [
            table.Line(each.name, (), each.first, f"{each.what}\n{each.second}") for each in self
        ]
        for line in table.grouped(lines):
            what, second = line.why.split("\n", 1)
            listed.add_row(line.name or "(all)", what, line.initializer, second)
        yield listed


# What is compared of two reports, and of the two rows of a parameter.
_OF_ALL: dict[str, Callable[[Any], Any]] = {
    "recipe": lambda report: report.recipe,
    "rules": lambda report: "; ".join(report.rules),
    "method": lambda report: report.method,
    "seed": lambda report: "from torch's generator" if report.seed is None else report.seed,
    "random numbers": lambda report: report.rng,
    "stream version": lambda report: report.stream_version,
    "pyinit": lambda report: report.version,
    "torch": lambda report: report.torch,
}
_OF_ROW: dict[str, Callable[[Any], Any]] = {
    "shape": lambda row: "x".join(map(str, row.shape)) or "scalar",
    "dtype": lambda row: row.dtype,
    "tied to": lambda row: ", ".join(row.tied),
    "initializer": lambda row: row.initializer,
    "groups": lambda row: row.weight.groups,
    "adjustment": lambda row: row.adjustment or "",
    "key": lambda row: "" if row.key is None else row.key,
    "stream": lambda row: "" if row.stream is None else row.stream,
}
# What differs as a consequence of those.
_OF_VALUES: dict[str, Callable[[Any], Any]] = {
    "mean": lambda row: "" if row.mean is None else f"{row.mean:.6g}",
    "std": lambda row: "" if row.std is None else f"{row.std:.6g}",
}


def differences(first: Any, second: Any) -> Differences:
    """How two ``InitReport``s differ: what they say of all parameters, then of each."""
    found = [*_unlike("", _OF_ALL, first, second)]
    there = {name: row for row in second for name in (row.name, *row.tied)}
    here = {name for row in first for name in (row.name, *row.tied)}
    for row in first:
        other = there.get(row.name)
        if other is None:
            found.append(Difference(row.name, "parameter", _described(row), ""))
        else:
            causes = [*_unlike(row.name, _OF_ROW, row, other)]
            found += causes or _unlike(row.name, _OF_VALUES, row, other)
    found += [
        Difference(row.name, "parameter", "", _described(row))
        for row in second
        if row.name not in here
    ]
    return Differences(tuple(found))


def _unlike(
    name: str, compared: dict[str, Callable[[Any], Any]], first: Any, second: Any
) -> Iterator[Difference]:
    for what, of in compared.items():
        here, there = of(first), of(second)
        if here != there:
            yield Difference(name, what, str(here), str(there))


def _described(row: Any) -> str:
    return f"{_OF_ROW['shape'](row)}, {row.initializer}"
