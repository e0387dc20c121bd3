"""The report of a data-driven method: what is needed to give the weights again, and what was measured."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, overload

from typing_extensions import Self

from pyinit.data_driven.pictures import About, paired, pictures
from pyinit.reports import table
from pyinit.reports.figure import figure
from pyinit.reports.files import check_output, read_report
from pyinit.reports.initialization import InitReport
from pyinit.reports.page import (
    SUFFIXES,
    Chart,
    Number,
    Page,
    Section,
    table_section,
    write_report,
)
from pyinit.reports.printed import Printed
from pyinit.reports.stored import read, read_as
from pyinit.reports.tensors import Tensors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FORMAT = 1
_NUMBER = "number"  # what a number that JSON lacks is under
_MODEL = "(model)"  # what a layer is called that is the model itself


@dataclass(frozen=True)
class Measured:
    """What a method measured of one layer; a method's own rows add numbers.

    Args:
        name: the layer's name
    """

    about: ClassVar[Mapping[str, About]] = {}
    """What the numbers are, for pictures, by what ``pictures.paired`` calls them."""

    name: str

    def to_record(self) -> dict[str, Any]:
        """The numbers by their names."""
        return asdict(self)

    def __str__(self) -> str:
        record = self.to_record()
        return f"{record.pop('name') or _MODEL}: " + ", ".join(
            f"{name} {_text(value)}" for name, value in record.items() if value not in (None, "")
        )


_Row = TypeVar("_Row", bound=Measured)


@dataclass(frozen=True)
class MethodReport(Printed, Sequence[_Row], Generic[_Row]):
    """What a data-driven method did: a sequence of rows, one for each layer.

    A method's own report is a subclass, whose further fields are the network's totals.

    Args:
        init: what ``replay_`` needs: initializers, adjustments, and what the parameters hold now
        layers: what was measured, layer by layer
        left: pairs of the name of a layer that stays as it was, and why
    """

    row: ClassVar[type[Measured]] = Measured

    init: InitReport
    layers: tuple[_Row, ...]
    left: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.layers)

    @overload
    def __getitem__(self, index: int) -> _Row: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[_Row, ...]: ...
    def __getitem__(self, index: int | slice) -> _Row | tuple[_Row, ...]:
        return self.layers[index]

    def of(self, name: str) -> _Row:
        """The row of a layer.

        Raises:
            KeyError: If no row has the name.
        """
        for row in self.layers:
            if row.name == name:
                return row
        raise KeyError(name)

    @property
    def totals(self) -> dict[str, Any]:
        """What was measured of the whole network, by name."""
        own = {field.name for field in fields(MethodReport)}
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in own}

    @property
    def summary(self) -> str:
        """What was done, in one line."""
        totals = "".join(
            f", {name.replace('_', ' ')} {_text(value)}" for name, value in self.totals.items()
        )
        count = len(self.layers)
        layers = "1 layer" if count == 1 else f"{count} layers"
        return f"{self.init.method}: {layers}{totals}"

    def __rich_console__(self, *_: Any) -> Iterator[Any]:
        names = [field.name for field in fields(self.row)]
        made = table.columns("layer", *(name.replace("_", " ") for name in names[1:]))
        for column in made.columns[1:]:
            column.justify = "right"
        for row in self.layers:
            name, *numbers = row.to_record().values()
            made.add_row(name or _MODEL, *map(_text, numbers))
        yield made
        yield ""
        for name, why in self.left:
            yield f"left as it was: {name or _MODEL}: {why}"
        yield self.summary

    def to_records(self) -> list[dict[str, Any]]:
        """A dictionary of plain numbers and texts for each row."""
        return [row.to_record() for row in self.layers]

    def to_frame(self) -> Any:
        """A ``pandas.DataFrame`` with a line for each row.

        Raises:
            ImportError: If pandas is not installed.
        """
        return table.frame(self.to_records())

    def plot(self) -> "Figure":
        """The pictures, by matplotlib: each number that the layers have, before and after, by depth.

        Returns:
            A ``matplotlib.figure.Figure``, which a notebook shows, and whose ``savefig`` writes it. It
            is none of pyplot's figures, and need not be closed.

        Raises:
            ImportError: If matplotlib is not installed.
        """
        return figure(self._pictures())

    def _pictures(self) -> list[Chart]:
        records = self.to_records()
        names = [record.pop("name") or _MODEL for record in records]
        return list(pictures(names, records, self.row.about))

    def page(self) -> Page:
        """The report as a page for a browser: pictures, what was measured, and all parameters."""
        of_init = self.init.page()
        names = [field.name.replace("_", " ") for field in fields(self.row)][1:]
        rows: list[list[str | Number]] = [
            [name or _MODEL, *map(_cell, values)]
            for name, *values in (row.to_record().values() for row in self.layers)
        ]
        totals = {
            (of or "measured").replace("_", " "): " \u2192 ".join(
                _fact(self.totals[name]) for name in several
            )
            for of, several in paired(list(self.totals)).items()
        }
        about_init = {name: fact for name, fact in of_init.facts.items() if name != "method"}
        charts = self._pictures()
        left = ((name or _MODEL, why) for name, why in self.left)
        return Page(
            title=f"Initialization from data: {self.init.method}",
            summary=f"pyinit {self.summary}",
            facts={"layers": f"{len(self):,}", **totals, **about_init},
            sections=[
                *table_section("Layers left as they were", ("layer", "why"), left),
                *([Section("By depth", charts)] if charts else []),
                *table_section("Layers", ("layer", *names), rows),
                *of_init.sections,
            ],
        )

    def to_dict(self) -> dict[str, Any]:
        """The report as values that JSON has; ``from_dict`` takes them back."""
        return {
            "format": _FORMAT,
            "report": type(self).__name__,
            "init": self.init.to_dict(),
            "layers": [_plain(record) for record in self.to_records()],
            "left": [list(pair) for pair in self.left],
            "totals": _plain(self.totals),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any], tensors: Mapping[str, Any] | None = None) -> Self:
        """The report that ``to_dict`` made the values from.

        Args:
            value: what ``to_dict`` gave
            tensors: the tensors of ``init``, which no dictionary has

        Raises:
            ValueError: If they are none.
        """
        if (value.get("format"), value.get("report")) != (_FORMAT, cls.__name__):
            raise ValueError(f"report: not a {cls.__name__} of format {_FORMAT}")
        try:
            return read(
                cls,
                {
                    **read_as(dict, _with_numbers(value["totals"]), "totals"),
                    "left": value["left"],
                },
                init=InitReport.from_dict(read_as(dict, value["init"], "init"), tensors),
                layers=tuple(
                    read(cls.row, row)
                    for row in read_as(list, _with_numbers(value["layers"]), "layers")
                ),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"report: not what to_dict gives: {error!r}") from None

    def save(self, path: str | PathLike[str]) -> None:
        """Write the report as a file, which is there whole or not at all.

        Tensors, if there are any, go to a safetensors file of the same name beside a JSON file.

        Args:
            path: The file's path; a file that is there is replaced. A name that ends in ``.html``
                makes it a page for a browser, any other a JSON file, which ``load`` reads.

        Raises:
            ValueError: If the name has the suffix of another format.
            OSError: If a file cannot be written.
        """
        if check_output(Path(path), *SUFFIXES) != ".html":
            Tensors(self.init.tensors).save_beside(Path(path))
        write_report(self, path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read a report that ``save`` wrote.

        Args:
            path: The path of the JSON file.

        Raises:
            ValueError: If the file holds none.
            OSError: If a file cannot be read.
        """
        return read_report(
            path,
            "a report",
            lambda value: cls.from_dict(value, Tensors.beside(Path(path), value.get("init"))),
        )


def _cell(value: Any) -> str | Number:
    """A value as a page's table has it: numbers, which are sorted, or a text."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number or value is None else str(value)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _fact(value: Any) -> str:
    return f"{value:,}" if type(value) is int else _text(value)


def _plain(value: Any) -> Any:
    """Values as JSON has them, which has neither NaN nor infinite numbers."""
    if isinstance(value, float) and not math.isfinite(value):
        return {_NUMBER: str(value)}
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _with_numbers(value: Any) -> Any:
    """What ``_plain`` made values of, with the numbers that JSON lacks."""
    if isinstance(value, dict):
        if list(value) == [_NUMBER]:
            return float(read_as(str, value[_NUMBER], _NUMBER))
        return {key: _with_numbers(each) for key, each in value.items()}
    return list(map(_with_numbers, value)) if isinstance(value, list) else value
