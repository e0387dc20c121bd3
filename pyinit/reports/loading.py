"""What a load did: which tensors have the source's values, and what became of all others."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain
from typing import Any, NamedTuple

from pyinit.reports import table
from pyinit.reports.files import write_json
from pyinit.reports.initialization import InitReport

_WIDTH = 100  # of a report as text
_SHOWN = 10  # names of a kind


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
    extras: names of what modules took besides: their extra states, attributes of their own load
    adapted, mismatched: tensors of other shapes, those that something was done about and all others
    missing: names that the source lacks; tied parameters count once
    unexpected: the source's own names of what the model lacks
    reinitialized: names of the parameters that were initialized anew: missing, mismatched, heads
    frozen: names of the parameters that were frozen
    nonfinite: name of each tensor that got NaN or infinite values, and how many
    initialized: the report of the initialization, an ``InitReport``; None if there was none
    """

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

    def __str__(self) -> str:
        return table.as_text(self, _WIDTH)

    def to_dict(self) -> dict[str, Any]:
        """Everything, as values that JSON has."""
        values = {f.name: _plain(getattr(self, f.name)) for f in fields(self)}
        if self.initialized is not None:
            values["initialized"] = self.initialized.to_dict()
        return values

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON; the file is there whole or not at all.

        Raises:
            ValueError: if the name has the suffix of another format.
        """
        write_json(path, self.to_dict())


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
