"""What came of a study."""

from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from statistics import fmean
from typing import Any

from pyinit._messages import needed
from pyinit.reports.files import write_json
from pyinit.studies.definition import Definition
from pyinit.studies.metrics import METRICS, compared
from pyinit.studies.records import Record

_ROWS = ("runs", "epochs", "steps", "layers")


@dataclass(frozen=True, repr=False)
class StudyResult:
    """The records of a study: ``Study.run`` gives it.

    Args:
        study: the study
        records: one of each run, in the order of seeds, factors, arms and learning rates

    Example:
        >>> import pyinit
        >>> study = pyinit.Study("lenet5", "mnist5k", {"he": "kaiming", "xavier": "xavier"}, steps=300)
        >>> result = study.run()  # doctest: +SKIP
        >>> result.save("lenet5.json")  # doctest: +SKIP
    """

    study: Definition
    records: tuple[Record, ...]

    @property
    def compared(self) -> list[Record]:
        """The records that are compared: those of each arm's best learning rate."""
        return compared(self.records)

    def to_records(self, rows: str = "runs") -> list[dict[str, Any]]:
        """The numbers as a list of flat dictionaries.

        Args:
            rows: what there is a dictionary of: ``runs`` (with all metrics), ``epochs``, ``steps`` or
                ``layers``; each has the arm, the seed, the factors and the learning rate, too

        Raises:
            ValueError: for anything else.
        """
        if rows not in _ROWS:
            raise ValueError(f"rows must be one of {', '.join(_ROWS)}, got {rows!r}")
        return [row for record in self.records for row in _rows(record, rows)]

    def to_frame(self, rows: str = "runs") -> Any:
        """The same as a DataFrame of pandas.

        Raises:
            ImportError: if pandas is not installed.
        """
        pandas = needed("pandas", "to_frame", "pandas", '"pyinit[study]"')
        return pandas.DataFrame.from_records(self.to_records(rows))

    def save(self, path: str | PathLike[str]) -> None:
        """Write the records as a JSON file.

        Raises:
            ValueError: if the name has another end.
            OSError: if the file cannot be written.
        """
        write_json(Path(path), {"records": [each.to_json() for each in self.records]})

    def write(self, folder: str | PathLike[str]) -> list[Path]:
        """Write all files that a study's folder holds beside its ``study.toml`` and ``runs.jsonl``.

        Returns:
            The paths of the files.
        """
        path = Path(folder) / "result.json"
        self.save(path)
        return [path]

    def __rich__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        chosen = METRICS["accuracy" if any(map(METRICS["accuracy"], self.records)) else "test_loss"]
        lines = [f"{self.study.name}: {chosen.text}"]
        groups: dict[str, list[Record]] = {}
        for each in self.compared:
            of = "".join(f", {name} = {value}" for name, value in each.factors.items())
            groups.setdefault(f"{each.arm}{of}", []).append(each)
        for name, records in groups.items():
            values = [value for value in map(chosen, records) if value is not None]
            mean = f"{fmean(values):.4g}" if values else "none"
            lines.append(f"  {name}: {mean} over {len(values)} of {len(records)} seeds")
        return "\n".join(lines)


def _rows(record: Record, rows: str) -> Iterable[dict[str, Any]]:
    common = {
        "arm": record.arm, "seed": record.seed, **record.factors, "lr": record.lr
    }  # fmt: skip
    if rows == "runs":
        measured = {name: each(record) for name, each in METRICS.items()}
        return [{**common, "status": record.status, "error": record.error, **measured}]
    return [{**common, **row} for row in getattr(record, rows)]
