"""What a load did: which tensors have the source's values, and what became of all others."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from pyinit.whole_model.files import write_atomically
from pyinit.whole_model.report import InitReport

_WIDTH = 100
_SHOWN = 10


class Adapted(NamedTuple):
    """A tensor whose shape is not the source's, and what was done about it."""

    name: str
    source: tuple[int, ...]
    model: tuple[int, ...]
    how: str


class Mismatched(NamedTuple):
    """A tensor that the source has in a shape that does not fit."""

    name: str
    source: tuple[int, ...]
    model: tuple[int, ...]


@dataclass(frozen=True)
class LoadReport:
    """What ``load_pretrained_`` did.

    source: where the weights came from
    coverage: of all elements of parameters, those that have the source's values, in %
    loaded: names of the tensors that have the source's values as they are
    adapted, mismatched: tensors of other shapes, those that something was done about and all others
    missing: names that the source lacks; tied parameters count once
    unexpected: the source's own names of what the model lacks
    reinitialized: names of the parameters that were initialized anew: missing, mismatched, heads
    frozen: names of the parameters that were frozen
    nonfinite: name of each tensor whose source has NaN or infinite values, and how many
    initialized: the report of the initialization, an ``InitReport``; None if there was none
    """

    source: str
    coverage: float
    loaded: tuple[str, ...] = ()
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

    def __rich_console__(self, _: Console, __: ConsoleOptions) -> RenderResult:
        if self.adapted or self.mismatched:
            table = _table("", "name", "source", "model", "")
            for name, source, model, how in self.adapted:
                table.add_row("adapted", name, str(list(source)), str(list(model)), how)
            for name, source, model in self.mismatched:
                table.add_row("mismatched", name, str(list(source)), str(list(model)))
            yield table
            yield ""
        if self.missing or self.unexpected or self.nonfinite:
            table = _table("", "name")
            table.show_header = False
            counts = (f"{name} ({count} elements)" for name, count in self.nonfinite.items())
            _add(table, "missing", self.missing)
            _add(table, "unexpected", self.unexpected)
            _add(table, "not finite", tuple(counts))
            yield table
            yield ""
        yield self.summary

    def __str__(self) -> str:
        console = Console(width=_WIDTH, highlight=False, markup=False, color_system=None)
        with console.capture() as capture:
            console.print(self)
        return capture.get()

    def to_dict(self) -> dict[str, Any]:
        """Everything, as values that JSON has."""
        values = {f.name: _plain(getattr(self, f.name)) for f in fields(self)}
        if self.initialized is not None:
            values["initialized"] = self.initialized.to_dict()
        return values

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON; the file is there whole or not at all."""
        write_atomically(Path(path), json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _add(table: Table, what: str, names: Sequence[str]) -> None:
    for name in names[:_SHOWN]:
        table.add_row(what, name)
    if len(names) > _SHOWN:
        table.add_row("", f"... and {len(names) - _SHOWN} more")


def _plain(value: Any) -> Any:
    if hasattr(value, "_asdict"):
        return {name: _plain(item) for name, item in value._asdict().items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value
