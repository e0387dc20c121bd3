"""The report of a load: which tensors have the source's values, and what became of all others."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain
from typing import Any, ClassVar, NamedTuple

from pyinit.reports import table
from pyinit.reports.initialization import InitReport
from pyinit.reports.page import Page, Section, shape_cell, table_section, write_report
from pyinit.reports.printed import Printed

_SHOWN = 10  # names of a kind


class Adapted(NamedTuple):
    """A tensor whose shape is not the source's, and what was done about it.

    name: the tensor's name in the model
    source: its shape in the source
    model: its shape in the model
    how: what was done
    """

    name: str
    source: tuple[int, ...]
    model: tuple[int, ...]
    how: str


class Mismatched(NamedTuple):
    """A tensor that the source has in a shape that does not fit.

    name: the tensor's name in the model
    source: its shape in the source
    model: its shape in the model
    """

    name: str
    source: tuple[int, ...]
    model: tuple[int, ...]


@dataclass(frozen=True)
class LoadReport(Printed):
    """What ``load_pretrained_`` did. Printed, it is a table of what did not fit and a summary.

    Args:
        source: Where the weights came from.
        coverage: How many of the elements of all parameters have the source's values, in percent.
        loaded: Names of the tensors that have the source's values as they are.
        extras: Names of what else modules took: extra states, and attributes that their own load
            sets.
        adapted: Tensors of another shape that something was done about, as ``Adapted``.
        mismatched: All other tensors of another shape, as ``Mismatched``.
        missing: Names that the source lacks; tied parameters count once.
        unexpected: Names in the source of what the model lacks.
        reinitialized: Names of the parameters that were initialized: missing, mismatched, heads.
        frozen: Names of the parameters that were frozen.
        nonfinite: The number of NaN and infinite values by the name of their tensor, for tensors
            that got any.
        initialized: The ``InitReport`` of the initialization; None if there was none.

    Example:
        >>> import torch, pyinit
        >>> model = torch.nn.Linear(3, 2)
        >>> report = pyinit.load_pretrained_(model, {"weight": torch.ones(2, 3), "scale": torch.ones(2)})
        >>> report.summary
        'state dict: 75.00 % of the parameters, 1 loaded, 1 missing, 1 unexpected, 1 reinitialized'
        >>> report.missing, report.unexpected, str(report.initialized["bias"].initializer)
        (('bias',), ('scale',), 'constant(val=0)')
    """

    width_as_text: ClassVar[int] = 100

    source: str
    coverage: float
    loaded: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    adapted: tuple[Adapted, ...] = ()
    mismatched: tuple[Mismatched, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    reinitialized: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    nonfinite: Mapping[str, int] = field(default_factory=dict)
    initialized: InitReport | None = None

    @property
    def summary(self) -> str:
        """What was done, in one line."""
        counted = (f.name for f in fields(self) if f.name not in ("source", "initialized"))
        counts = (
            f"{len(getattr(self, name))} {name}"
            for name in counted
            if name != "coverage" and getattr(self, name)
        )
        return ", ".join((f"{self.source}: {self.coverage:.2f} % of the parameters", *counts))

    def __rich_console__(self, *_: Any) -> Iterator[Any]:
        if self.adapted or self.mismatched:
            shapes = table.columns("", "name", "source", "model", "")
            for name, source, model, how in self.adapted:
                shapes.add_row("adapted", name, str(list(source)), str(list(model)), how)
            for name, source, model in self.mismatched:
                shapes.add_row("mismatched", name, str(list(source)), str(list(model)))
            yield shapes
            yield ""
        if self.missing or self.unexpected or self.nonfinite:
            names = table.columns("", "name")
            names.show_header = False
            counts = (f"{name} ({count} elements)" for name, count in self.nonfinite.items())
            for row in chain(
                _rows("missing", self.missing),
                _rows("unexpected", self.unexpected),
                _rows("not finite", tuple(counts)),
            ):
                names.add_row(*row)
            yield names
            yield ""
        yield self.summary

    def page(self) -> Page:
        """The report as a page for a browser: what did not fit first, then all of it."""
        shapes = ("tensor", "in the source", "in the model")
        mismatched = [
            (n, shape_cell(source), shape_cell(model)) for n, source, model in self.mismatched
        ]
        adapted = [
            (n, shape_cell(source), shape_cell(model), how)
            for n, source, model, how in self.adapted
        ]
        lists = ("loaded", "extras", "reinitialized", "frozen")
        kinds = (*("adapted", "mismatched", "missing", "unexpected"), *lists)
        return Page(
            title=f"Weights from {self.source}",
            summary=self.summary,
            facts={
                "source": self.source,
                "parameters that it covers": f"{self.coverage:.2f} %",
                **{kind: f"{len(getattr(self, kind)):,}" for kind in kinds},
            },
            sections=[
                *table_section("Mismatched: another shape", shapes, mismatched, warns=True),
                *_names("Missing: the source lacks them", self.missing, warns=True),
                *_names("Unexpected: the model lacks them", self.unexpected, warns=True),
                *table_section(
                    "Not finite", ("tensor", "elements"), list(self.nonfinite.items()), warns=True
                ),
                *table_section("Adapted to another shape", (*shapes, "how"), adapted),
                *(() if self.initialized is None else self.initialized.sections("Initialized")),
                *chain.from_iterable(
                    _names(kind.capitalize(), getattr(self, kind)) for kind in lists
                ),
            ],
        )

    def to_dict(self) -> dict[str, Any]:
        """The report as values that JSON has."""
        values = {f.name: _plain(getattr(self, f.name)) for f in fields(self)}
        if self.initialized is not None:
            values["initialized"] = self.initialized.to_dict()
        return values

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report as a file, which is there whole or not at all.

        Args:
            path: The file's path; a file that is there is replaced. A name that ends in ``.html``
                makes it a page for a browser, any other a JSON file.

        Raises:
            ValueError: If the name has the suffix of another format.
            OSError: If the file cannot be written.
        """
        write_report(self, path)


def _names(title: str, names: Sequence[str], *, warns: bool = False) -> Iterator[Section]:
    """A section of a page for tensors of these names, if there are any."""
    return table_section(title, ("tensor",), ((name,) for name in names), warns=warns)


def _rows(what: str, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Rows of a table for what happened to tensors of these names."""
    for name in names[:_SHOWN]:
        yield what, name
    if len(names) > _SHOWN:
        yield "", f"... and {len(names) - _SHOWN} more"


def _plain(value: Any) -> Any:
    if hasattr(value, "_asdict"):
        return {name: _plain(item) for name, item in value._asdict().items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value
