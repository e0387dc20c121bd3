"""The files and programs that take records."""

import csv
import math
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from pyinit._messages import near, needed
from pyinit.inspection.monitor.pictures import page
from pyinit.inspection.monitor.records import COLUMNS, MEASURED, Record
from pyinit.reports.files import check_output, replacing, write_html, write_json

_FORMAT = 1


def rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Each record as a dictionary."""
    return [{name: getattr(record, name) for name in COLUMNS} for record in records]


def to_frame(records: Sequence[Record]) -> Any:
    """The records as a DataFrame."""
    pandas = needed("pandas", "to_frame", "pandas", "pandas")
    frame = pandas.DataFrame(rows(records), columns=list(COLUMNS))
    return frame.astype(dict.fromkeys(MEASURED, "float64"))


def to_tensorboard(records: Sequence[Record], writer: Any) -> None:
    """Each value as a scalar of the writer."""
    for record in records:
        for name in MEASURED:
            value = getattr(record, name)
            if value is not None:
                tag = f"{record.layer or 'model'}/{name}"
                writer.add_scalar(tag, value, global_step=record.step)


def save(records: Sequence[Record], path: str | PathLike[str]) -> None:
    """Write the records as the format that the name ends in."""
    path = Path(path)
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        known = near(path.suffix, _WRITERS) if path.suffix else f"known are {', '.join(_WRITERS)}"
        raise ValueError(f"{path.name} names no format of records by its end; {known}")
    write(records, path)


def _save_csv(records: Sequence[Record], path: Path) -> None:
    check_output(path, ".csv")
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows(records))


def _save_json(records: Sequence[Record], path: Path) -> None:
    listed = [{name: _plain(value) for name, value in row.items()} for row in rows(records)]
    write_json(path, {"format": _FORMAT, "records": listed})


def _save_parquet(records: Sequence[Record], path: Path) -> None:
    arrow, parquet = (
        needed(module, "Parquet", "pyarrow", "pyarrow") for module in ("pyarrow", "pyarrow.parquet")
    )
    check_output(path, ".parquet")
    types = {"step": arrow.int64(), "layer": arrow.string(), "calls": arrow.int64()}
    schema = arrow.schema([(name, types.get(name, arrow.float64())) for name in COLUMNS])
    with replacing(path) as partial:
        parquet.write_table(arrow.Table.from_pylist(rows(records), schema=schema), partial)


def _save_html(records: Sequence[Record], path: Path) -> None:
    write_html(path, page(records).html())


_WRITERS = {
    ".csv": _save_csv,
    ".json": _save_json,
    ".parquet": _save_parquet,
    ".html": _save_html,
}


def _plain(value: Any) -> Any:
    """JSON has no numbers that are not finite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
