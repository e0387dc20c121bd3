"""The result of an inspection: rows, findings, and how they are printed and kept."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, overload

from pyinit.inspection.diagnosis import Diagnosis
from pyinit.inspection.pictures import AS_IT_IS, calls, pictures
from pyinit.inspection.rows import NAN, LayerRow
from pyinit.reports import table
from pyinit.reports.figure import figure
from pyinit.reports.files import read_report
from pyinit.reports.page import (
    Cell,
    Number,
    Page,
    Ridges,
    Section,
    Table,
    Text,
    shape_cell,
    table_section,
    write_report,
)
from pyinit.reports.printed import Printed
from pyinit.reports.stored import read_as

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FORMAT = 1


@dataclass(frozen=True)
class Inspection(Printed, Sequence[LayerRow]):
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
        return table.frame(self.to_records())

    @property
    def summary(self) -> str:
        """What was seen, in one line."""
        count = len(self.rows) // len(self.recipes)
        parts = [f"{count} call{'s' * (count != 1)} of layers"]
        if len(self.recipes) > 1:
            parts.append(f"under {len(self.recipes)} recipes")
        elif self.recipes != ("",):
            parts.append(f"under {self.recipes[0]}")
        losses = "".join(f"; {name} {value}" for name, value in _losses(self).items())
        count = len(self.findings)
        found = f"{count} finding{'s' * (count != 1)}" if count else "no findings"
        return " ".join(parts) + losses + f"; {found}"

    def __rich_console__(self, _: Any, options: Any) -> Iterator[Any]:
        names, numbers = _side_by_side(self) if len(self.recipes) > 1 else _of_one(self.rows)
        for part in table.in_parts(names, numbers, options.max_width):
            yield part
            yield ""
        for name, listed in (
            ("not called", self.unused),
            ("frozen", self.frozen),
            ("quantized", self.quantized),
        ):
            if listed:
                yield f"{name}: {_several(listed)}"
        yield from _in_words(self.findings)
        yield self.summary

    def plot(self) -> "Figure":
        """The pictures, by matplotlib.

        Standard deviations of outputs and gradients by depth, correlations between samples, Jacobians
        and updates if they were asked for, and histograms of outputs. Each recipe has a line.

        Returns:
            A ``matplotlib.figure.Figure``, which a notebook shows, and whose ``savefig`` writes it. It
            is none of pyplot's figures, and need not be closed.

        Raises:
            ImportError: If matplotlib is not installed.

        Example:
            >>> import torch, pyinit
            >>> report = pyinit.inspect(torch.nn.Linear(3, 2), torch.ones(4, 3))
            >>> figure = report.plot()  # doctest: +SKIP
            >>> figure.savefig("signals.png")  # doctest: +SKIP
        """
        return figure(pictures(self.rows, self.recipes))

    def page(self) -> Page:
        """The inspection as a page for a browser: findings, pictures, and all rows."""
        drawn = pictures(self.rows, self.recipes)
        histograms = [each for each in drawn if isinstance(each, Ridges)]
        charts = [each for each in drawn if not isinstance(each, Ridges)]
        lists = {
            "Layers that took no part": self.unused,
            "Frozen parameters": self.frozen,
            "Quantized modules": self.quantized,
        }
        found = [Text(text) for text in _in_words(self.findings)]
        return Page(
            title="Signals and gradients",
            summary=f"pyinit inspect: {self.summary}",
            facts={
                "calls of layers": f"{len(calls(self.rows)):,}",
                "recipes": ", ".join(recipe or AS_IT_IS for recipe in self.recipes),
                **_losses(self),
                "findings": f"{len(self.findings)}",
            },
            sections=[
                *([Section("Findings", found, warns=True)] if found else []),
                *([Section("By depth", charts)] if charts else []),
                *([Section("Histograms", histograms)] if histograms else []),
                *([Section("Calls of layers", [_table(self)])] if self.rows else []),
                *(
                    section
                    for title, names in lists.items()
                    for section in table_section(title, ("name",), ((name,) for name in names))
                ),
            ],
        )

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
            found = cls(
                rows=tuple(map(LayerRow.from_dict, value["rows"])),
                recipes=read_as(_TEXTS, value["recipes"], "recipes"),
                losses=read_as(tuple[float, ...], value["losses"], "losses"),
                findings=tuple(map(Diagnosis.from_dict, value["findings"])),
                **{name: read_as(_TEXTS, value[name], name) for name in _LISTS},
            )
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise ValueError(f"inspection: not what to_dict gives: {error!r}") from None
        recipes = set(found.recipes)
        if not recipes or not len(recipes) == len(found.recipes) == len(found.losses):
            raise ValueError("inspection: each recipe has a name of its own, and a loss")
        if not recipes.issuperset(row.recipe for row in found.rows):
            raise ValueError("inspection: a row is of a recipe that is not among them")
        return found

    def save(self, path: str | PathLike[str]) -> None:
        """Write the inspection as a file, which is there whole or not at all.

        Args:
            path: The file's path; a file that is there is replaced. A name that ends in ``.html``
                makes it a page for a browser, any other a JSON file, which ``load`` reads.

        Raises:
            ValueError: If the name has the suffix of another format.
            OSError: If the file cannot be written.
        """
        write_report(self, path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "Inspection":
        """Read an inspection that ``save`` wrote.

        Args:
            path: The path of the JSON file.

        Raises:
            ValueError: If the file holds none.
            OSError: If the file cannot be read.
        """
        return read_report(path, "an inspection", cls.from_dict)


_TEXTS = tuple[str, ...]
_LISTS = ("unused", "frozen", "quantized")


def _in_words(findings: Sequence[Diagnosis]) -> Iterator[str]:
    for finding in findings:
        yield (f"[{finding.recipe}] " if finding.recipe else "") + str(finding)


def _losses(report: Inspection) -> dict[str, str]:
    """The losses as a fact with its name, if there are any."""
    losses = [
        f"{loss:.4g}" + (f" ({recipe or AS_IT_IS})" if len(report.recipes) > 1 else "")
        for recipe, loss in zip(report.recipes, report.losses, strict=True)
        if math.isfinite(loss)
    ]
    return {"loss": ", ".join(losses)} if losses else {}


def _table(report: Inspection) -> Table:
    """All rows, with the columns that have a number somewhere."""
    shown = [
        (title, where)
        for title, where in (*((title, where) for title, where, _ in _COLUMNS), *_FURTHER)
        if any(not math.isnan(_value(row, where)) for row in report.rows)
    ]
    has_recipes = report.recipes != ("",)
    rows: list[list[str | Number | Cell]] = []
    for row in report.rows:
        values = (_value(row, where) for _, where in shown)
        rows.append(
            [
                row.label,
                *([row.recipe or AS_IT_IS] if has_recipes else []),
                row.activation or row.kind,
                shape_cell(row.shape),
                *(None if math.isnan(value) else value for value in values),
            ]
        )
    recipe = ["recipe"] if has_recipes else []
    return Table(["layer", *recipe, "kind", "shape", *(title for title, _ in shown)], rows)


_Columns = dict[str, list[str]]


def _of_one(rows: Sequence[LayerRow]) -> tuple[_Columns, _Columns]:
    """The columns of names and of numbers for one recipe."""
    numbers = {"shape": ["x".join(map(str, row.shape)) for row in rows]}
    for title, where, form in _COLUMNS:
        values = [_value(row, where) for row in rows]
        if any(map(math.isfinite, values)):
            numbers[title] = [_text(value, form) for value in values]
    return _names(rows), numbers


def _side_by_side(report: Inspection) -> tuple[_Columns, _Columns]:
    """The columns of names, and those of numbers under each recipe."""
    by_call = calls(report.rows).values()
    numbers = {
        f"{title} {recipe or AS_IT_IS}": [
            _text(_value(under[recipe], where), ".2e") if recipe in under else ""
            for under in by_call
        ]
        for recipe in report.recipes
        for title, where in (("std", "forward.std"), ("grad", "backward.std"))
    }
    return _names([next(iter(under.values())) for under in by_call]), numbers


def _names(rows: Sequence[LayerRow]) -> _Columns:
    return {
        "layer": [row.label for row in rows],
        "kind": [row.activation or row.kind for row in rows],
    }


# Title, where it stands, format.
_COLUMNS = (
    ("std", "forward.std", ".3g"),
    ("theory std", "forward.expected_std", ".3g"),
    ("zeros", "forward.zeros", ".0%"),
    ("saturated", "forward.saturated", ".0%"),
    ("dead", "forward.dead", ".0%"),
    ("cosine", "forward.mean_cosine", ".2f"),
    ("theory cosine", "forward.expected_cosine", ".2f"),
    ("chi", "forward.chi", ".3g"),
    ("rank", "forward.effective_rank", ".1f"),
    ("grad", "backward.std", ".2e"),
    ("jacobian", "backward.jacobian", ".3g"),
    ("weight", "weight.std", ".3g"),
    ("expected", "weight.expected_std", ".3g"),
    ("g/w", "weight.gradient_to_weight", ".1e"),
    ("sv max", "weight.largest", ".3g"),
    ("sv min", "weight.smallest", ".2g"),
    ("update", "weight.update_ratio", ".1e"),
    ("distance", "weight.distance", ".1e"),
)
# What a page has besides.
_FURTHER = (
    ("mean", "forward.mean"),
    ("min", "forward.min"),
    ("max", "forward.max"),
    ("not finite", "forward.nonfinite"),
)


def _value(row: LayerRow, where: str) -> float:
    part, name = where.split(".")
    value: float = getattr(getattr(row, part), name, NAN)
    return value


def _text(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)


def _several(names: Sequence[str]) -> str:
    more = len(names) - 8
    return ", ".join(names[:8]) + (f" and {more} more" if more > 0 else "")
