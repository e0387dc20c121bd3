"""What is to be done (``Run``), what came of it (``Record``), and the file of records."""

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

FINISHED, DIVERGED, FAILED = "finished", "diverged", "failed"

# The columns of a study's tables that are no factors: what tells runs apart, and what is recorded.
COLUMNS = (
    *("rows", "arm", "seed", "lr", "status", "error"),
    *("step", "loss", "epoch", "train_loss", "test_loss", "accuracy", "seconds"),
    *("name", "place", "mean", "variance", "total_variance", "gradient_norm", "update_ratio"),
    *("dead", "saturated"),
)


@dataclass(frozen=True)
class Run:
    """A model to be trained.

    Args:
        arm: the name of its initialization
        seed: what everything random in it comes from
        factors: the values of what varies
        lr: the learning rate
        fingerprint: a checksum of all that decides its numbers
    """

    arm: str
    seed: int
    factors: Mapping[str, Any]
    lr: float
    fingerprint: str = ""


@dataclass(frozen=True)
class Record:
    """What came of a run.

    Args:
        arm: the name of its initialization
        seed: what everything random in it came from
        factors: the values of what varied
        lr: the learning rate
        status: ``finished``; ``diverged``, if the loss left the finite numbers or all bounds, and training
            was stopped; ``failed``, if something raised an error
        error: the error in words
        steps: of at most about 500 steps, evenly, the number of steps before it and the loss of its batch
        epochs: of each epoch its number, the steps until its end, the mean loss of its batches, the loss and
            the accuracy on test data (None if the target is not of classes), and the seconds since the
            start; what is left at the end of the steps is an epoch, too
        layers: of steps and layers: the step, the layer's name, its place in the order of execution, and what
            was measured
        seconds: how long training took
        init_seconds: how long the initialization took, training of pretrained weights included
        fingerprint: a checksum of all that decided its numbers
        versions: those of what computed it

    Example:
        >>> from pyinit.studies.records import Record
        >>> record = Record("he", 0, {}, 0.1, "diverged", steps=[{"step": 0, "loss": float("nan")}])
        >>> record.to_json()["steps"]
        [{'step': 0, 'loss': None}]
    """

    arm: str
    seed: int
    factors: Mapping[str, Any]
    lr: float
    status: str
    error: str | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    layers: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    init_seconds: float = 0.0
    fingerprint: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The record as values that JSON has; what is not finite is None."""
        return {key: _plain(value) for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, value: Any) -> "Record":
        """The record that ``to_json`` described.

        Raises:
            ValueError: for anything else.
        """
        known = {each.name for each in fields(cls)}
        if not isinstance(value, dict) or not {*value} <= known:
            raise ValueError("not the record of a run")
        for name, each in value.items():
            if not _HOLDS[name](each):
                raise ValueError(f"not the record of a run: {name} cannot be {_short(each)}")
        try:
            return cls(**value)
        except TypeError as error:
            raise ValueError(f"not the record of a run: {error}") from None


def _is(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds) and not isinstance(value, bool)


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(row, dict) and "step" in row and all(map(_is_value, row.values()))
        for row in value
    )


_is_value = _is(int, float, str, type(None))

# What the fields of a record hold in JSON.
_HOLDS: Mapping[str, Callable[[Any], bool]] = {
    "arm": _is(str),
    "seed": _is(int),
    "factors": _is(dict),
    "lr": _is(int, float),
    "status": lambda value: value in (FINISHED, DIVERGED, FAILED),
    "error": _is(str, type(None)),
    "steps": _is_rows,
    "epochs": _is_rows,
    "layers": _is_rows,
    "seconds": _is(int, float),
    "init_seconds": _is(int, float),
    "fingerprint": _is(str),
    "versions": _is(dict),
}

_MOST = 60  # letters of a value in a message


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MOST else f"{text[:_MOST]}..."


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return list(map(_plain, value))
    return value


def read_records(path: Path) -> list[Record]:
    """The records of a file, and none if there is no file. A last line that was not written whole is
    left out.

    Raises:
        ValueError: for another line that is none, with its number.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    records = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            records.append(Record.from_json(json.loads(line)))
        except RecursionError:  # noqa: PERF203  a line's number is told
            raise ValueError(f"{path}, line {number}: nested too deep to be a record") from None
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
    return records


class RecordFile:
    """A file to which records are appended, each on the disk before the next is begun."""

    def __init__(self, path: Path) -> None:
        # Without a buffer, in which the rest of a line would wait that the disk had no room for.
        self._file = path.open("ab", buffering=0)
        with path.open("r+b") as file:
            content = file.read()
            if not content.endswith(b"\n"):  # the last line was not written whole
                file.truncate(content.rfind(b"\n") + 1)

    def append(self, records: Iterable[Record]) -> None:
        """Append records, each as a line.

        Raises:
            OSError: if the disk is full, say; the file then ends with the last whole line.
        """
        for record in records:
            line = json.dumps(record.to_json(), allow_nan=False).encode() + b"\n"
            end = os.fstat(self._file.fileno()).st_size
            try:
                written = 0
                while written < len(line):
                    written += self._file.write(line[written:])
                os.fsync(self._file.fileno())
            except OSError:
                os.truncate(self._file.fileno(), end)
                raise

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
