"""The result of an inspection: rows, findings, and how they are printed and kept."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, overload

from pyinit.inspection.diagnosis import Diagnosis
from pyinit.inspection.rows import NAN, LayerRow
from pyinit.reports import table
from pyinit.reports.files import write_json

_FORMAT = 1
_WIDTH = 140  # of an inspection as text
_AS_IT_IS = "as it is"


@dataclass(frozen=True)
class Inspection(Sequence[LayerRow]):
    """What ``inspect`` has seen: a row for each call of each layer, under each recipe.

    It is a sequence of rows, in the order of execution, one recipe after the other. Printed, it is a table
    with the recipes side by side, and the findings below it.

    Args:
        rows: the rows
        recipes: the recipes, in their order; "" for the weights as they were
        losses: the loss under each recipe; NaN if there was none
        findings: the faults, in words, each with a remedy that was tried where there is one
        unused: the layers that took no part
        frozen: the parameters that ask for no gradient
        quantized: the modules whose weights are stored in integers

    Example:
        >>> import torch, pyinit
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
        >>> x = torch.randn(128, 64, generator=torch.Generator().manual_seed(0))
        >>> report = pyinit.inspect(model, x, recipes=["torch", "auto"], seed=0)
        >>> [row.name for row in report.of("auto")]
        ['0', '1', '2']
        >>> for recipe in report.recipes:
        ...     print(recipe, round(report.of(recipe)[0].forward.std, 1))
        torch 0.6
        auto 1.7
        >>> report.findings
        ()
    """

    rows: tuple[LayerRow, ...]
    recipes: tuple[str, ...] = ("",)
    losses: tuple[float, ...] = (NAN,)
    findings: tuple[Diagnosis, ...] = ()
    unused: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    quantized: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> LayerRow: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[LayerRow, ...]: ...
    def __getitem__(self, index: int | slice) -> LayerRow | tuple[LayerRow, ...]:
        return self.rows[index]

    def of(self, recipe: str = "") -> tuple[LayerRow, ...]:
        """The rows under one recipe, by its name in ``recipes``.

        Raises:
            KeyError: If it is not among them.
        """
        if recipe not in self.recipes:
            raise KeyError(f"{recipe!r}: the recipes are {', '.join(map(repr, self.recipes))}")
        return tuple(row for row in self.rows if row.recipe == recipe)

    def to_records(self) -> list[dict[str, Any]]:
        """A dictionary of plain numbers and texts for each row."""
        return [row.to_record() for row in self.rows]

    def to_frame(self) -> Any:
        """A ``pandas.DataFrame`` with a line for each row.

        Raises:
            ImportError: If pandas is not installed.
        """
        try:
            import pandas  # noqa: PLC0415  an extra
        except ImportError as error:
            raise ImportError(
                'to_frame needs pandas: pip install "pyinit[data]"; to_records gives the same as dicts'
            ) from error
        return pandas.DataFrame(self.to_records())

    @property
    def summary(self) -> str:
        """What was seen, in one line."""
        calls = len(self.rows) // len(self.recipes)
        parts = [f"{calls} calls of layers"]
        if len(self.recipes) > 1:
            parts.append(f"under {len(self.recipes)} recipes")
        elif self.recipes != ("",):
            parts.append(f"under {self.recipes[0]}")
        losses = [
            f"{loss:.4g}" + (f" ({recipe or _AS_IT_IS})" if len(self.recipes) > 1 else "")
            for recipe, loss in zip(self.recipes, self.losses, strict=True)
            if math.isfinite(loss)
        ]
        loss = f"; loss {', '.join(losses)}" if losses else ""
        count = len(self.findings)
        found = f"{count} finding{'s' * (count != 1)}" if count else "no findings"
        return " ".join(parts) + loss + f"; {found}"

    def __rich_console__(self, *_: Any) -> Iterator[Any]:
        yield _side_by_side(self) if len(self.recipes) > 1 else _of_one(self.rows)
        yield ""
        for name, listed in (
            ("not called", self.unused),
            ("frozen", self.frozen),
            ("quantized", self.quantized),
        ):
            if listed:
                yield f"{name}: {_several(listed)}"
        for finding in self.findings:
            under = f"[{finding.recipe}] " if finding.recipe else ""
            yield f"{under}{finding}"
        yield self.summary

    def __str__(self) -> str:
        return table.as_text(self, _WIDTH).rstrip()

    def to_dict(self) -> dict[str, Any]:
        """The inspection as values that JSON has; ``from_dict`` takes them back."""
        return {
            "format": _FORMAT,
            "recipes": list(self.recipes),
            "losses": [loss if math.isfinite(loss) else None for loss in self.losses],
            "rows": [row.to_dict() for row in self.rows],
            "findings": [finding.to_dict() for finding in self.findings],
            **{name: list(getattr(self, name)) for name in _LISTS},
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Inspection":
        """The inspection that ``to_dict`` made the values from.

        Raises:
            ValueError: If they are none.
        """
        if value.get("format") != _FORMAT:
            raise ValueError(f"inspection: format must be {_FORMAT}, got {value.get('format')!r}")
        try:
            return cls(
                rows=tuple(map(LayerRow.from_dict, value["rows"])),
                recipes=tuple(value["recipes"]),
                losses=tuple(NAN if loss is None else loss for loss in value["losses"]),
                findings=tuple(map(Diagnosis.from_dict, value["findings"])),
                **{name: tuple(value[name]) for name in _LISTS},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"inspection: not what to_dict gives: {error!r}") from None

    def save(self, path: str | PathLike[str]) -> None:
        """Write the inspection as a JSON file, which is there whole or not at all.

        Args:
            path: The file's path; a file that is there is replaced.

        Raises:
            ValueError: If the name has the suffix of another format.
            OSError: If the file cannot be written.
        """
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "Inspection":
        """Read an inspection that ``save`` wrote.

        Args:
            path: The path of the JSON file.

        Raises:
            ValueError: If the file holds none.
            OSError: If the file cannot be read.
        """
        try:
            value = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: not JSON: {error}") from None
        if not isinstance(value, dict):
            raise ValueError(f"{path}: not an inspection")  # noqa: TRY004  the value of a file
        try:
            return cls.from_dict(value)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


_LISTS = ("unused", "frozen", "quantized")


def _of_one(rows: Sequence[LayerRow]) -> Any:
    shown = [
        column for column in _COLUMNS if any(math.isfinite(_value(row, column[1])) for row in rows)
    ]
    made = table.columns("layer", "kind", "shape", *(title for title, _, _ in shown))
    _right(made, 3)
    for row in rows:
        numbers = [_text(_value(row, where), form) for _, where, form in shown]
        kind = row.activation or row.kind
        made.add_row(row.label, kind, "x".join(map(str, row.shape)), *numbers)
    return made


def _side_by_side(report: Inspection) -> Any:
    titles = [
        f"{number} {recipe or _AS_IT_IS}" for recipe in report.recipes for number in ("std", "grad")
    ]
    made = table.columns("layer", "kind", *titles)
    _right(made, 2)
    by_call: dict[tuple[str, int], dict[str, LayerRow]] = {}
    for row in report.rows:
        by_call.setdefault((row.name, row.call), {})[row.recipe] = row
    for under in by_call.values():
        row = next(iter(under.values()))
        numbers = [
            _text(_value(under[recipe], where), ".2e") if recipe in under else ""
            for recipe in report.recipes
            for where in ("forward.std", "backward.std")
        ]
        made.add_row(row.label, row.activation or row.kind, *numbers)
    return made


# Title, where it stands, format.
_COLUMNS = (
    ("std", "forward.std", ".3g"),
    ("theory", "forward.expected_std", ".3g"),
    ("zeros", "forward.zeros", ".0%"),
    ("saturated", "forward.saturated", ".0%"),
    ("dead", "forward.dead", ".0%"),
    ("cosine", "forward.mean_cosine", ".2f"),
    ("theory", "forward.expected_cosine", ".2f"),
    ("chi", "forward.chi", ".2f"),
    ("rank", "forward.effective_rank", ".1f"),
    ("grad", "backward.std", ".2e"),
    ("jacobian", "backward.jacobian", ".2f"),
    ("weight", "weight.std", ".3g"),
    ("expected", "weight.expected_std", ".3g"),
    ("g/w", "weight.gradient_to_weight", ".1e"),
    ("sv max", "weight.largest", ".3g"),
    ("sv min", "weight.smallest", ".2g"),
    ("update", "weight.update_ratio", ".1e"),
    ("distance", "weight.distance", ".1e"),
)


def _value(row: LayerRow, where: str) -> float:
    part, name = where.split(".")
    value: float = getattr(getattr(row, part), name, NAN)
    return value


def _text(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)


def _right(made: Any, first: int) -> None:
    for column in made.columns[first:]:
        column.justify = "right"


def _several(names: Sequence[str]) -> str:
    more = len(names) - 8
    return ", ".join(names[:8]) + (f" and {more} more" if more > 0 else "")
