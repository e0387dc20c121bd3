"""What is recorded of a layer at a step, and the files and programs that take it."""

import csv
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from pyinit._messages import near
from pyinit.inspection.monitor.needed import needed
from pyinit.reports.files import check_output, replacing, write_json

_FORMAT = 1


@dataclass(frozen=True)
class Record:
    """A layer at a step.

    What it says of activations is pooled over all calls of the layer that gradients of this step came
    back through. What it says of parameters is of all that the layer owns itself, taken together as one
    vector. A value is None where there is nothing to measure, and NaN or infinite where training is.

    Args:
        step: how many steps the optimizer had made before this one
        layer: the layer's qualified name, ``""`` for the model itself
        calls: how often the layer was called
        mean: the mean of its outputs
        variance: their variance
        total_variance: the sum over units of the variance over the samples of a batch, which is the
            trace of the covariance; the mean over calls, weighted by samples
        dead: the share of its channels that were zero in all samples and at all positions
        output_gradient_std: the standard deviation of the loss's gradient by its outputs
        gradient_norm: the norm of the gradient by its parameters, as the optimizer's step got it
        unclipped_norm: the same as the backward pass left it, before anything clipped it
        weight_norm: the norm of its parameters before the step
        update_ratio: the norm of the step's change of those parameters that the optimizer has, over
            their norm
        distance: the norm of the parameters' difference from the initial ones, over the norm of these,
            before the step

    Example:
        >>> import dataclasses
        >>> from pyinit.inspection.monitor import Record
        >>> record = Record(step=0, layer="head", calls=1, variance=4.0, update_ratio=0.001)
        >>> record.variance**0.5, record.distance
        (2.0, None)
        >>> dataclasses.asdict(record)["layer"]
        'head'
    """

    step: int
    layer: str
    calls: int
    mean: float | None = None
    variance: float | None = None
    total_variance: float | None = None
    dead: float | None = None
    output_gradient_std: float | None = None
    gradient_norm: float | None = None
    unclipped_norm: float | None = None
    weight_norm: float | None = None
    update_ratio: float | None = None
    distance: float | None = None


COLUMNS = tuple(field.name for field in dataclasses.fields(Record))
_MEASURED = COLUMNS[COLUMNS.index("calls") + 1 :]


def rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Each record as a dictionary."""
    return [{name: getattr(record, name) for name in COLUMNS} for record in records]


def to_frame(records: Sequence[Record]) -> Any:
    """The records as a DataFrame."""
    pandas = needed("to_frame", "pandas")
    frame = pandas.DataFrame(rows(records), columns=list(COLUMNS))
    return frame.astype(dict.fromkeys(_MEASURED, "float64"))


def to_tensorboard(records: Sequence[Record], writer: Any) -> None:
    """Each value as a scalar of the writer."""
    for record in records:
        for name in _MEASURED:
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
    arrow, parquet = needed("Parquet", "pyarrow"), needed("Parquet", "pyarrow.parquet")
    check_output(path, ".parquet")
    types = {"step": arrow.int64(), "layer": arrow.string(), "calls": arrow.int64()}
    schema = arrow.schema([(name, types.get(name, arrow.float64())) for name in COLUMNS])
    with replacing(path) as partial:
        parquet.write_table(arrow.Table.from_pylist(rows(records), schema=schema), partial)


_WRITERS = {".csv": _save_csv, ".json": _save_json, ".parquet": _save_parquet}


def _plain(value: Any) -> Any:
    """JSON has no numbers that are not finite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
