"""Pages for a browser: one file each that fetches nothing, with tables that sort and pictures.

A page is a value: sections of texts, tables and pictures. What it looks like is in
``page.html.jinja`` and ``page.css``, what it does in ``page_tables.js`` and ``page_pictures.js``.
"""

import math
import os
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol

from pyinit.reports.files import check_output, write_html, write_json

if TYPE_CHECKING:
    from typing import TypeGuard

    from jinja2 import Template

Number = float | None  # an int as well; None: there is none

SUFFIXES = (".json", ".html")  # of the files that reports are saved as
_LARGE = 40_000  # cells; with all digits, such a table would take megabytes


@dataclass(frozen=True)
class Text:
    """A paragraph.

    Args:
        text: Plain text; line breaks stay, and what stands between backticks is shown as code.
        warns: Whether it must not be missed.
        head: What stands above it, more strongly.
    """

    kind: ClassVar = "text"

    text: str
    warns: bool = False
    head: str = ""


class Cell(NamedTuple):
    """A cell of a table that is sorted by something other than its text.

    text: what is shown
    order: the number that it is sorted by
    """

    text: str
    order: float


@dataclass(frozen=True)
class Table:
    """A table that the reader can sort and filter. The first column names what a row is about.

    Args:
        columns: The columns' names.
        rows: For each row a value for each column. Floats are shown with four digits, and sorted by
            nine. A table of more than 40,000 cells has three, and is sorted by these.

    Raises:
        ValueError: If a row has another number of cells.
    """

    kind: ClassVar = "table"

    columns: Sequence[str]
    rows: Sequence[Sequence[str | Number | Cell]]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"rows: {row!r} has {len(row)} cells, not {len(self.columns)}")

    @property
    def numeric(self) -> list[bool]:
        """For each column whether it holds numbers."""
        return [
            any(isinstance(row[place], int | float) for row in self.rows)
            for place in range(len(self.columns))
        ]

    @property
    def cells(self) -> list[list[tuple[str, str]]]:
        """For each row pairs of a cell's text and what it is sorted by ("" for its text)."""
        return [[_cell(value, self.is_large) for value in row] for row in self.rows]

    @property
    def is_large(self) -> bool:
        """Whether the table must save space."""
        return len(self.rows) * len(self.columns) > _LARGE


class Series(NamedTuple):
    """The values of a chart that belong together.

    name: what the legend calls them
    y: a value for each ``x`` of the chart; None where there is none
    marks: how they are drawn: as a line, as points, or as short horizontal dashes
    scale: where their colour is on a scale from 0 to 1, such as that of depth; None for a colour
        that differs from the others'
    hue: the place of the series whose colour they take, if not their own
    low, high: for each value the ends of an interval around it, or nothing at all; a line gets a band,
        and points get bars
    """

    name: str
    y: Sequence[Number]
    marks: Literal["line", "points", "dashes"] = "line"
    scale: float | None = None
    hue: int | None = None
    low: Sequence[Number] = ()
    high: Sequence[Number] = ()


@dataclass(frozen=True)
class Chart:
    """A picture of series over a common axis.

    Zeros on a logarithmic axis, and values that are not finite, are drawn at the lower and upper
    edge.

    Args:
        title: What it shows, in a few words.
        x: The places of the values, as numbers.
        series: The values.
        x_label, y_label: What the axes are.
        log: Whether the vertical axis is logarithmic.
        names: A name for each place, such as a parameter's, which a tooltip shows.
        reference: A value that others are compared with, where a dashed line is drawn.
        note: What else the reader must know, in a sentence.

    Raises:
        ValueError: If a series, its intervals or ``names`` are not as long as ``x``.
    """

    kind: ClassVar = "picture"

    title: str
    x: Sequence[float]
    series: Sequence[Series]
    x_label: str = ""
    y_label: str = ""
    log: bool = False
    names: Sequence[str] = ()
    reference: float | None = None
    note: str = ""

    def __post_init__(self) -> None:
        lengths = [(one.name, len(one.y)) for one in self.series]
        for one in self.series:
            if one.low or one.high:
                lengths += [
                    (f"{one.name}, low", len(one.low)),
                    (f"{one.name}, high", len(one.high)),
                ]
        if self.names:
            lengths.append(("names", len(self.names)))
        for name, length in lengths:
            if length != len(self.x):
                raise ValueError(f"{name} has {length} values, and x has {len(self.x)}")

    @property
    def data(self) -> dict[str, Any]:
        """What the page's program draws, as values that JSON has."""
        return {
            "kind": "chart",
            "title": self.title,
            "x": _numbers(self.x),
            "names": list(self.names),
            "xLabel": self.x_label,
            "yLabel": self.y_label,
            "log": self.log,
            "reference": self.reference,
            "series": [
                {
                    "name": one.name,
                    "y": _numbers(one.y),
                    "marks": one.marks,
                    "scale": _number(one.scale),
                    "hue": place if one.hue is None else one.hue,
                    **({"low": _numbers(one.low), "high": _numbers(one.high)} if one.low else {}),
                }
                for place, one in enumerate(self.series)
            ],
        }


class Ridge(NamedTuple):
    """A histogram with bins of one width.

    name: of what, such as a layer
    low, high: the ends of the bins
    counts: how many values each bin has
    """

    name: str
    low: float
    high: float
    counts: Sequence[int]


@dataclass(frozen=True)
class Ridges:
    """Histograms below each other on a common axis, each as high as the others.

    Args:
        title: What they show, in a few words.
        ridges: The histograms, from top to bottom.
        x_label: What the axis is.
        note: What else the reader must know, in a sentence.

    Raises:
        ValueError: If a histogram's ends are not finite, or not in order.
    """

    kind: ClassVar = "picture"

    title: str
    ridges: Sequence[Ridge]
    x_label: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        for one in self.ridges:
            if not -math.inf < one.low <= one.high < math.inf:
                raise ValueError(f"ridges: {one.name} goes from {one.low} to {one.high}")

    @property
    def data(self) -> dict[str, Any]:
        """What the page's program draws, as values that JSON has."""
        return {
            "kind": "ridges",
            "title": self.title,
            "xLabel": self.x_label,
            "ridges": [
                {
                    "name": one.name,
                    "low": _number(one.low),
                    "high": _number(one.high),
                    "counts": [int(count) for count in one.counts],
                }
                for one in self.ridges
            ],
        }


@dataclass(frozen=True)
class Heat:
    """A table of numbers as coloured fields, with the numbers in them.

    Args:
        title: What it shows, in a few words.
        rows, columns: The names of the rows, from top to bottom, and of the columns.
        values: For each row a value for each column; None where there is none.
        row_label, column_label: What the rows and the columns are.
        label: What the numbers are.
        span: The numbers at the ends of the scale of colours, if it goes beyond those that are
            there, such as those of other pictures beside it.
        line: Points of a line over the fields: how many fields they are from the left, and from the top.
        note: What else the reader must know, in a sentence.

    Raises:
        ValueError: If there are more or fewer values than fields.
    """

    kind: ClassVar = "picture"

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[Number]]
    row_label: str = ""
    column_label: str = ""
    label: str = ""
    span: tuple[float, float] | None = None
    line: Sequence[tuple[float, float]] = ()
    note: str = ""

    def __post_init__(self) -> None:
        lengths = [len(row) for row in self.values]
        if lengths != [len(self.columns)] * len(self.rows):
            raise ValueError(
                f"values: rows of {lengths}, not {len(self.rows)} rows of {len(self.columns)}"
            )

    @property
    def levels(self) -> list[list[float | None]]:
        """Where each number is on the scale of colours, from 0 to 1; None for none."""
        found = [each for row in self.values for each in row if _is_finite(each)]
        low, high = self.span or (min(found, default=0.0), max(found, default=0.0))

        def level(value: Number) -> float | None:
            if value is None or not math.isfinite(value):
                return None
            return min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 0.5

        return [[level(value) for value in row] for row in self.values]

    @property
    def data(self) -> dict[str, Any]:
        """What the page's program draws, as values that JSON has."""
        return {
            "kind": "heat",
            "title": self.title,
            "rows": list(self.rows),
            "columns": list(self.columns),
            "values": [_numbers(row) for row in self.values],
            "levels": [_numbers(row) for row in self.levels],
            "rowLabel": self.row_label,
            "columnLabel": self.column_label,
            "label": self.label,
            "line": [_numbers(point) for point in self.line],
        }


Picture = Chart | Ridges | Heat


@dataclass(frozen=True)
class Section:
    """A part of a page under a heading.

    Args:
        title: The heading.
        parts: What stands under it, in order.
        warns: Whether it must not be missed.
        beside: Whether pictures stand side by side where there is room.
    """

    title: str
    parts: Sequence[Text | Table | Picture]
    warns: bool = False
    beside: bool = False


@dataclass(frozen=True)
class Page:
    """A page for a browser.

    Args:
        title: The page's title.
        summary: All of it in a sentence.
        sections: What it has.
        facts: Short facts by their names, which stand on top.

    Example:
        >>> page = Page(
        ...     "A page",
        ...     "Two layers.",
        ...     [Section("Layers", [Table(["layer", "std"], [["fc1", 0.5], ["fc2 <out>", 0.1]])])],
        ... )
        >>> "fc2 &lt;out&gt;" in page.html()
        True
    """

    title: str
    summary: str
    sections: Sequence[Section]
    facts: Mapping[str, str] = field(default_factory=dict)

    def html(self) -> str:
        """The page as text. The same page gives the same text."""
        style, script = _source("page.css"), _source("page_tables.js") + _source("page_pictures.js")
        return _template().render(
            page=self,
            style=style,
            script=script,
            style_hash=_hash(style),
            script_hash=_hash(script),
        )


class Report(Protocol):
    """What ``write_report`` can write."""

    def to_dict(self) -> dict[str, Any]:
        """The report as values that JSON has."""

    def page(self) -> Page:
        """The report as a page for a browser."""


def write_report(report: Report, path: str | os.PathLike[str]) -> None:
    """Write a report as a page if the name ends in ``.html``, and else as JSON.

    Raises:
        ValueError: If the name has the suffix of another format.
        OSError: If the file cannot be written.
    """
    if check_output(Path(path), *SUFFIXES) == ".html":
        write_html(path, report.page().html())
    else:
        write_json(path, report.to_dict())


def table_section(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str | Number | Cell]],
    *,
    warns: bool = False,
) -> Iterator[Section]:
    """Give a section with a table, if the table has rows."""
    if rows := list(rows):
        yield Section(title, [Table(columns, rows)], warns)


def evenly(count: int, most: int) -> list[int]:
    """At most so many of the numbers below ``count``, at even distances, with the first and last.

    Example:
        >>> evenly(3, 5), evenly(101, 5), evenly(4, 1)
        ([0, 1, 2], [0, 25, 50, 75, 100], [0])
    """
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / max(1, most - 1)) for i in range(most)]


def shape_cell(shape: Sequence[int]) -> Cell:
    """A tensor's shape, which is sorted by the number of elements."""
    return Cell("\u00d7".join(map(str, shape)) or "scalar", math.prod(shape))


def _cell(value: str | Number | Cell, is_large: bool) -> tuple[str, str]:
    if value is None:
        return "", ""
    if isinstance(value, str):
        return value, ""
    if isinstance(value, Cell):
        return value.text, f"{value.order:.17g}"
    if isinstance(value, int):
        return f"{value:,}", str(value)
    return (f"{value:.3g}", "") if is_large else (f"{value:.4g}", f"{value:.9g}")


def _is_finite(value: Number) -> "TypeGuard[float]":
    return value is not None and math.isfinite(value)


def _number(value: Number) -> Number | str:
    """A number with six digits; as text if it is not finite, as JSON has none of these."""
    if value is None or isinstance(value, int):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else str(float(value))


def _numbers(values: Sequence[Number]) -> list[Number | str]:
    return [_number(value) for value in values]


@cache
def _source(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _hash(source: str) -> str:
    """How a page's policy names the one style sheet and the one program that may act in it."""
    return f"'sha256-{b64encode(sha256(source.encode()).digest()).decode()}'"


def _breakable(name: str) -> str:
    """A qualified name as HTML that may be broken behind its dots and underscores."""
    from markupsafe import Markup, escape  # noqa: PLC0415

    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[._])", name))


def _with_code(text: str) -> str:
    """A text as HTML, what stands between backticks as code."""
    from markupsafe import Markup  # noqa: PLC0415

    parts = re.split(r"`([^`]+)`", text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else part
        for place, part in enumerate(parts)
    )


@cache
def _template() -> "Template":
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415  most runs write no page

    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters["breakable"] = _breakable
    environment.filters["with_code"] = _with_code
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment.from_string(_source("page.html.jinja"))
