"""The report of an initialization: a row for each parameter."""

import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache, cached_property
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from pyinit._messages import near
from pyinit._random.rng import NAMES, VERSIONS, RngName, stream_version
from pyinit.initializers import Initializer, Keep, Weight, from_dict
from pyinit.reports import table
from pyinit.reports.adjustment import Adjustment, Span
from pyinit.reports.difference import Differences, differences
from pyinit.reports.figure import figure
from pyinit.reports.files import check_output, read_report
from pyinit.reports.page import (
    SUFFIXES,
    Cell,
    Chart,
    Page,
    Section,
    Series,
    Table,
    Text,
    shape_cell,
    table_section,
    write_report,
)
from pyinit.reports.printed import Printed
from pyinit.reports.stored import read, read_as
from pyinit.reports.tensors import Tensors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FORMAT = 1
_ABOUT_SPREAD = (
    "Of each parameter, in the model's order from the first to the last. Those that hold a single "
    "value are left out."
)

_ADJUSTED = "What a data-driven method has adjusted is where the method put it."


class Kept(Enum):
    """What else ``initialize_`` and ``replay_`` must know of a parameter that stays as it is.

    LEFT_OUT: the caller wants nothing to do with it: it is not among ``only``, or among ``skip``
    UNKNOWN: the recipe does not know it; another parameter in the same memory may fill it
    SAME_MEMORY: it has the elements of another parameter, and that one is filled
    """

    LEFT_OUT = "left out"
    UNKNOWN = "unknown"
    SAME_MEMORY = "same memory"


class Row(NamedTuple):
    """A parameter, and what it got.

    name: its qualified name
    weight: its shape, and how its layer uses it
    dtype: its dtype, such as ``"float32"``
    module: the name of its module's class
    initializer: what filled it; ``Keep`` if it stayed as it was
    why: the rule's or recipe's reason
    key, stream: of its random numbers; None if they came from torch's generator, or if it was kept
    mean, std, min, max: of its elements now (``std`` divides by their number); None if it has no
        elements or no memory, or has its values elsewhere
    tied: its further names
    originals: the names of the parameters that it is computed from, if a parametrization does so
    kept: what ``replay_`` must know of a parameter that was kept
    adjustment: what a data-driven method made of these values
    start: 64 bits of what a kept parameter held when a data-driven method began
    """

    name: str
    weight: Weight
    dtype: str
    module: str
    initializer: Initializer
    why: str
    key: int | None = None
    stream: int | None = None
    mean: float | None = None
    std: float | None = None
    min: float | None = None
    max: float | None = None
    tied: tuple[str, ...] = ()
    originals: tuple[str, ...] = ()
    kept: Kept | None = None
    adjustment: Adjustment | None = None
    start: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The parameter's shape."""
        return self.weight.shape

    @property
    def elements(self) -> int:
        """The number of elements."""
        return math.prod(self.weight.shape)

    @property
    def is_kept(self) -> bool:
        """Whether the parameter stayed as it was."""
        return isinstance(self.initializer, Keep) and self.adjustment is None

    @property
    def fan_in(self) -> int | None:
        """The number of inputs of an output of the layer; None if the parameter is no matrix."""
        return self.initializer.taken(self.weight).fans[0] if len(self.shape) > 1 else None

    @property
    def fan_out(self) -> int | None:
        """The number of outputs that an input reaches; None if the parameter is no matrix."""
        return self.initializer.taken(self.weight).fans[1] if len(self.shape) > 1 else None

    @property
    def target_std(self) -> float | None:
        """The standard deviation that the initializer aims at, if there is a single one."""
        std = None if 0 in self.shape else self.initializer.target_std(self.weight)
        return None if std is None else float(std)  # which may be NumPy's, as an argument was

    def to_dict(self) -> dict[str, Any]:
        """The row as values that JSON has."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "groups": self.weight.groups,
            "transposed": self.weight.transposed,
            "dtype": self.dtype,
            "module": self.module,
            "initializer": self.initializer.to_dict(),
            "why": self.why,
            "fan_in": self.fan_in,
            "fan_out": self.fan_out,
            "target_std": self.target_std,
            "mean": _finite(self.mean),
            "std": _finite(self.std),
            "min": _finite(self.min),
            "max": _finite(self.max),
            "key": self.key,
            "stream": self.stream,
            "tied": list(self.tied),
            "originals": list(self.originals),
            "kept": self.kept and self.kept.value,
            **({} if self.adjustment is None else {"adjustment": self.adjustment.to_dict()}),
            **({} if self.start is None else {"start": self.start}),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Row":
        """The row that ``to_dict`` made the values from."""
        names = ("name", "dtype", "module", "why", "mean", "std", "min", "max", "tied", "originals")
        # What a layer says of its weight; only an initializer says that it is a stack.
        used = {name: value[name] for name in ("shape", "groups", "transposed")}
        initializer = from_dict(value["initializer"])
        kept = value["kept"] if "kept" in value else _kept_in_0_1_0(initializer, value["why"])
        row = read(
            cls,
            {name: value[name] for name in names},
            key=_word(value["key"]),
            stream=_word(value["stream"]),
            weight=read(Weight, used),
            initializer=initializer,
            kept=None if kept is None else Kept(kept),
            adjustment=Adjustment.from_dict(value["adjustment"]) if "adjustment" in value else None,
            start=_word(value.get("start")),
        )
        _ = row.fan_in, row.target_std  # which raise where shape, groups and initializer do not fit
        return row


def _kept_in_0_1_0(initializer: Initializer, why: str) -> Kept | None:
    """What files of version 0.1.0 say in prose alone, read from the words of that version."""
    if not isinstance(initializer, Keep):
        return None
    if why in ("not among only=", "among skip="):
        return Kept.LEFT_OUT
    if why.endswith("leaves it as it is"):
        return Kept.UNKNOWN
    return Kept.SAME_MEMORY if why.startswith("the same memory as ") else None


def _word(value: int | None) -> int | None:
    if value is not None and not 0 <= operator.index(value) < 2**64:
        raise ValueError(f"key, stream and start must be in [0, 2^64), got {value}")
    return value


@cache
def version_of_pyinit() -> str:
    return version("pyinit")


@cache
def torch_version() -> str:
    """torch's version without the suffix for the build: CPU code is the same in all builds."""
    return version("torch").partition("+")[0]


def _lines(row: Row) -> Iterator[table.Line]:
    """The lines of a row: its own, and one for each of its further names."""
    elements = table.Pooled()
    if row.mean is not None and row.std is not None:
        elements = table.Pooled(row.elements, row.mean, row.elements * row.std**2)
    adjusted = None if row.adjustment is None else Span.of(row.adjustment)
    yield table.Line(row.name, row.shape, str(row.initializer), row.why, elements, adjusted)
    for name in row.tied:
        yield table.Line(name, row.shape, "", f"tied to {row.name}")


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


@dataclass(frozen=True)
class InitReport(Printed):
    """What ``initialize_`` or ``replay_`` did, or would do.

    A report is a sequence of ``Row``, one for each parameter; ``report[name]`` finds a row by any
    name of its parameter. Printed, it is a table in which repeated blocks stand once.

    Args:
        rows: A ``Row`` for each parameter, in the order of ``model.named_parameters()``.
        recipe: The recipe that was asked for, with its options.
        rules: The rules that went before it, as text.
        seed: The seed, or None if the key was drawn from torch's generator.
        rng: Whose numbers they are: ``"philox"``, ``"torch"`` or ``"torch.func"``.
        graph: How the order of layers was found, if the recipe asked for it.
        buffers: Pairs of a module's name and how its buffers were reset.
        dry_run: Whether nothing was done.
        skipped: Pairs of a parameter's name and why ``replay_`` could not give it again.
        version: pyinit's version.
        stream_version: The version of pyinit's own numbers (docs/random.md), which ``replay_`` uses again.
        torch: torch's version, or "" if a file does not say.
        method: The data-driven method that went over it, with its options; "" if there was none.
        tensors: The values that rows with an adjustment name, if they are data themselves.

    Example:
        >>> import torch, pyinit
        >>> model = torch.nn.Sequential(*(torch.nn.Linear(4, 4, bias=False) for _ in range(3)))
        >>> report = pyinit.initialize_(model, "orthogonal", seed=7)
        >>> print(report)  # doctest: +NORMALIZE_WHITESPACE
        parameter  shape  initializer  why        mean  std
        {0-2}
          weight   4x4    orthogonal   weight  -0.0041  0.5
        initialized 3 of 3 parameters, 48 of 48 elements (recipe orthogonal, seed 7)
        >>> row = report["1.weight"]
        >>> row.shape, row.key, row.is_kept
        ((4, 4), 7, False)
        >>> pyinit.InitReport.from_dict(report.to_dict()) == report
        True
    """

    rows: Sequence[Row]
    recipe: str
    rules: Sequence[str] = ()
    seed: int | None = None
    rng: RngName = "philox"
    graph: str | None = None
    buffers: Sequence[tuple[str, str]] = ()
    dry_run: bool = False
    skipped: Sequence[tuple[str, str]] = ()
    version: str = field(default_factory=version_of_pyinit)
    torch: str = field(default_factory=torch_version)
    method: str = ""
    tensors: Mapping[str, Tensor] = field(default_factory=Tensors)
    stream_version: int = field(default_factory=stream_version)

    @property
    def parameters(self) -> int:
        """The number of elements of all parameters."""
        return sum(row.elements for row in self.rows)

    @property
    def initialized(self) -> int:
        """The number of elements of the parameters that were not kept."""
        return sum(row.elements for row in self.rows if not row.is_kept)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> Row:
        """The row of a parameter, by any of its names.

        Raises:
            KeyError: If no parameter has the name; it says which are like it.
        """
        row = self._by_name.get(name)
        if row is None:
            raise KeyError(f"no parameter {name!r}; {near(str(name), list(self._by_name))}")
        return row

    def __contains__(self, item: object) -> bool:
        """Whether a parameter has this name, among all of its names, or a row is one of these."""
        return item in (self._by_name if isinstance(item, str) else self.rows)

    @cached_property
    def _by_name(self) -> Mapping[str, Row]:
        """The row of each name. Of parameters that share a name the first has it."""
        rows = reversed(self.rows)
        return {name: row for row in rows for name in (row.name, *row.tied, *row.originals)}

    def diff(self, other: "InitReport") -> Differences:
        """How another report differs from this one.

        Args:
            other: Another report, of the same model or of one like it.

        Returns:
            The differences: in recipe, seed and versions, and for each parameter in shape, initializer
            and random numbers; in mean and standard deviation where nothing else differs. It is empty
            if all is alike, and prints as a table.

        Raises:
            TypeError: If ``other`` is no such report.

        Example:
            >>> import torch, pyinit
            >>> layer = torch.nn.Linear(3, 2)
            >>> report = pyinit.initialize_(layer, "xavier", seed=0)
            >>> print(report.diff(pyinit.initialize_(layer, "gpt2", seed=0))[1])
            Difference(name='weight', what='initializer', first='xavier_uniform', second='normal(std=0.02)')
            >>> print(report.diff(report))
            no difference
        """
        if not isinstance(other, InitReport):
            raise TypeError(f"other must be an InitReport, got {type(other).__name__}")
        return differences(self, other)

    def __rich_console__(self, *_: Any) -> Iterator[Any]:
        yield table.of_lines(table.grouped(line for row in self for line in _lines(row)))
        yield ""
        if self.skipped:
            skipped = table.columns("not given again", "why")
            for name, why in self.skipped:
                skipped.add_row(name, why)
            yield skipped
            yield ""
        yield self.summary

    @property
    def summary(self) -> str:
        """What was done, in one line."""
        kept = sum(row.is_kept for row in self.rows)
        did = "would initialize" if self.dry_run else "initialized"
        how = [f"recipe {self.recipe}"]
        if self.rules:
            how.append("1 rule" if len(self.rules) == 1 else f"{len(self.rules)} rules")
        if self.seed is not None:
            how.append(f"seed {self.seed}")
        if self.graph is not None:
            how.append(f"order of layers by {self.graph}")
        if self.method:
            how.append(f"then {self.method}")
        return (
            f"{did} {len(self.rows) - kept} of {len(self.rows)} parameters, "
            f"{self.initialized:,} of {self.parameters:,} elements ({', '.join(how)})"
            + (f"; {len(self.skipped)} not given again" if self.skipped else "")
        )

    def page(self) -> Page:
        """The report as a page for a browser: what was left alone first, then all of it."""
        unknown: list[Sequence[str | Cell]] = []
        others: list[Sequence[str | Cell]] = []
        for row in self:
            if row.is_kept and row.kept is not Kept.SAME_MEMORY:
                cells = (row.name, shape_cell(row.shape), row.module, row.why)
                (unknown if row.kept is Kept.UNKNOWN else others).append(cells)
        columns = ("parameter", "shape", "module", "why")
        facts = {
            "recipe": self.recipe,
            "seed": "from torch's generator" if self.seed is None else str(self.seed),
            "random numbers": self.rng,
            **({"stream version": str(self.stream_version)} if self.rng == "philox" else {}),
            "parameters": f"{len(self):,}",
            "elements": f"{self.parameters:,}",
            "elements initialized": "none, a dry run" if self.dry_run else f"{self.initialized:,}",
            **({"order of layers": self.graph} if self.graph is not None else {}),
            **({"method": self.method} if self.method else {}),
            "pyinit": self.version,
            **({"torch": self.torch} if self.torch else {}),
        }
        return Page(
            title=f"{'Planned initialization' if self.dry_run else 'Initialization'}: {self.recipe}",
            summary=f"pyinit {self.summary}",
            facts=facts,
            sections=[
                *table_section("Not given again", ("parameter", "why"), self.skipped, warns=True),
                *table_section(
                    "Unknown to the recipe, and left as they were", columns, unknown, warns=True
                ),
                *table_section("Left as they were", columns, others),
                *self.sections("Parameters"),
                *table_section("Rules", ("rule",), ((rule,) for rule in self.rules)),
                *table_section("Buffers", ("module", "what was done"), self.buffers),
            ],
        )

    def sections(self, title: str) -> Sequence[Section]:
        """Sections of a page for all parameters: a picture, and a table under ``title``."""
        if not self.rows:
            return []
        is_adjusted = any(row.adjustment is not None for row in self)
        columns = (
            *("parameter", "shape", "initializer", "why"),
            *(("adjusted",) if is_adjusted else ()),
            *("target std", "std", "mean", "min", "max", "fan in", "fan out", "stream"),
        )
        rows = [
            (
                "\n".join((row.name, *(f"= {name}" for name in row.tied))),
                shape_cell(row.shape),
                str(row.initializer),
                row.why,
                *((str(row.adjustment or ""),) if is_adjusted else ()),
                row.target_std,
                row.std,
                row.mean,
                row.min,
                row.max,
                row.fan_in,
                row.fan_out,
                None if row.stream is None else str(row.stream),
            )
            for row in self
        ]
        spread = [
            Section("Standard deviations", [Text(_ABOUT_SPREAD), chart])
            for chart in self._pictures()
        ]
        return [*spread, Section(title, [Table(columns, rows)])]

    def plot(self) -> "Figure":
        """The standard deviations of parameters beside what the initializers aim at, by matplotlib.

        Returns:
            A ``matplotlib.figure.Figure``, which a notebook shows, and whose ``savefig`` writes it.

        Raises:
            ImportError: If matplotlib is not installed.

        Example:
            >>> import torch, pyinit
            >>> report = pyinit.initialize_(torch.nn.Linear(3, 2), seed=1)
            >>> report.plot().savefig("init.png")  # doctest: +SKIP
        """
        return figure(list(self._pictures()))

    def _pictures(self) -> Iterator[Chart]:
        """The standard deviations that were measured, and those that were aimed at."""
        drawn = [(place, row) for place, row in enumerate(self, 1) if row.target_std or row.std]
        if not drawn:
            return
        series = [
            Series("target", [row.target_std or None for _, row in drawn], "dashes"),
            Series("measured", [row.std or None for _, row in drawn], "points"),
        ]
        yield Chart(
            "Measured beside what the initializers aim at",
            x=[place for place, _ in drawn],
            series=[one for one in series if any(one.y)],
            x_label="parameter",
            y_label="standard deviation",
            log=True,
            names=[row.name for _, row in drawn],
            note=_ADJUSTED if any(row.adjustment is not None for _, row in drawn) else "",
        )

    def to_dict(self) -> dict[str, Any]:
        """The report as values that JSON has; ``from_dict`` takes them back."""
        return {
            "format": _FORMAT,
            "pyinit": self.version,
            "torch": self.torch,
            "recipe": self.recipe,
            "rules": list(self.rules),
            "seed": self.seed,
            "rng": self.rng,
            "stream_version": self.stream_version,
            "graph": self.graph,
            "dry_run": self.dry_run,
            "parameters": self.parameters,
            "initialized": self.initialized,
            "buffers": [list(buffer) for buffer in self.buffers],
            "skipped": [list(skipped) for skipped in self.skipped],
            "method": self.method,
            "tensors": Tensors(self.tensors).digests(),
            "rows": [row.to_dict() for row in self.rows],
        }

    @classmethod
    def from_dict(
        cls, value: Mapping[str, Any], tensors: Mapping[str, Tensor] | None = None
    ) -> "InitReport":
        """The report that ``to_dict`` made the values from.

        Args:
            value: A dictionary of ``to_dict``, also one of an earlier version.
            tensors: The report's ``tensors``, which no dictionary has.

        Raises:
            ValueError: If it is no such dictionary.
        """
        if value.get("format") != _FORMAT:
            raise ValueError(f"report: format must be {_FORMAT}, got {value.get('format')!r}")
        try:
            if value["rng"] not in NAMES:
                raise ValueError(f"rng must be one of {NAMES}, got {value['rng']!r}")
            # Files did not say it before there was a second one.
            drawn = value.get("stream_version", VERSIONS[0])
            if drawn not in VERSIONS:
                raise ValueError(f"stream_version must be one of {VERSIONS}, got {drawn!r}")
            held = Tensors(tensors or {})
            if held.digests() != value.get("tensors", {}):
                raise ValueError("tensors must be those that the report was made with")
            plain = ("recipe", "rules", "seed", "rng", "graph", "dry_run", "buffers")
            later = {key: value.get(key, "") for key in ("torch", "method")}
            skipped = tuple[tuple[str, str], ...]
            return read(
                cls,
                {
                    **{key: value[key] for key in plain},
                    **later,
                    "version": value["pyinit"],
                    "stream_version": drawn,
                },
                rows=[Row.from_dict(row) for row in read_as(list, value["rows"], "rows")],
                skipped=read_as(skipped, value.get("skipped", []), "skipped"),
                tensors=held,
            )
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise ValueError(f"report: not what to_dict gives: {error!r}") from None

    def save(self, path: str | PathLike[str]) -> None:
        """Write the report as a file, which is there whole or not at all.

        Tensors, if there are any, go to a safetensors file of the same name beside a JSON file.

        Args:
            path: The file's path; a file that is there is replaced. A name that ends in ``.html``
                makes it a page for a browser, any other a JSON file.

        Raises:
            ValueError: If the name has the suffix of another format.
            OSError: If the file cannot be written.
        """
        if check_output(Path(path), *SUFFIXES) != ".html":
            Tensors(self.tensors).save_beside(Path(path))
        write_report(self, path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "InitReport":
        """Read a report that ``save`` wrote.

        Args:
            path: The path of the JSON file. Of a data-driven method's report it is the initialization
                in it.

        Raises:
            ValueError: If the file holds no such report.
            OSError: If the file cannot be read.

        Example:
            >>> import tempfile, torch, pyinit
            >>> report = pyinit.initialize_(torch.nn.Linear(3, 2), seed=1)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     report.save(f"{folder}/init.json")
            ...     again = pyinit.InitReport.load(f"{folder}/init.json")
            >>> again == report
            True
        """
        return read_report(
            path,
            "a report",
            lambda value: cls._of_file(value.get("init", value), Path(path)),
        )

    @classmethod
    def _of_file(cls, value: Any, path: Path) -> "InitReport":
        found = read_as(dict, value, "init")
        return cls.from_dict(found, Tensors.beside(path, found))
