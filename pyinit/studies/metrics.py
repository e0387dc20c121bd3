"""What runs are compared by: named functions of a record."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from pyinit._messages import near
from pyinit.studies.curves import area, reached
from pyinit.studies.records import FINISHED, Record

Value = Callable[[Record], float | None]


@dataclass(frozen=True)
class Metric:
    """A number that a record has.

    Args:
        name: its name, with its level if it has one
        function: a function of a record, which gives None where there is no such number: of a failed run,
            say, or the loss of one that diverged
        more_is_better: whether more is better, or less
        text: what it is in words
        worst: the worst value that there is, if it has one on its bad side
        of_start: whether a run that diverged has it all the same, since it is of the run's start, or of this

    Example:
        >>> from pyinit.studies.metrics import metric
        >>> from pyinit.studies.records import Record
        >>> found = metric("steps_to_accuracy:0.9")
        >>> rows = [{"step": 20, "accuracy": 0.8}, {"step": 40, "accuracy": 0.92}]
        >>> found(Record("he", 0, {}, 0.1, "finished", epochs=rows)), found.more_is_better
        (40.0, False)
    """

    name: str
    function: Value
    more_is_better: bool
    text: str
    worst: float | None = None
    of_start: bool = False

    def __call__(self, record: Record) -> float | None:
        """The number of a record."""
        value = self.function(record)
        return None if value is None or not math.isfinite(value) else float(value)


def metric(name: str) -> Metric:
    """A metric by its name; of one with a level, such as ``steps_to_accuracy:0.9``, with that.

    Raises:
        ValueError: for an unknown name, and a level that is no number, or missing.
    """
    base, colon, text = name.partition(":")
    if not colon and base in METRICS:
        return METRICS[base]
    if base not in LEVELS:
        if base in METRICS:
            raise ValueError(f"metric {base!r} takes no level, got {name!r}")
        known = (*METRICS, *(f"{each}:LEVEL" for each in LEVELS))
        raise ValueError(f"there is no metric {name!r}; {near(name, known)}")
    try:
        level = float(text)
    except ValueError:
        raise ValueError(f"metric {base!r} takes a level, as in {base}:0.5, got {name!r}") from None
    made = LEVELS[base]
    return replace(made(level), name=name)


# ---- functions of records ------------------------------------------------------------------------


def _final(key: str) -> Value:
    return lambda record: record.epochs[-1][key] if record.epochs else None


def _best(key: str, choose: Callable[[Iterable[float]], float]) -> Value:
    def value(record: Record) -> float | None:
        found = _numbers(record.epochs, key)
        return choose(found) if found else None

    return value


def _first(key: str) -> Value:
    return lambda record: record.epochs[0][key] if record.epochs else None


def _area(rows: Callable[[Record], Sequence[Mapping[str, Any]]], key: str) -> Value:
    """The area under a curve over the steps by the trapezoid rule, over its length: a mean."""

    def value(record: Record) -> float | None:
        found = rows(record)
        if len(found) == 1:
            return found[0][key]  # type: ignore[no-any-return]  # rows of JSON
        return area([row["step"] for row in found], [row[key] for row in found])

    return value


def _of_start(key: str, of: Callable[[Sequence[float]], float]) -> Value:
    """Of the layers at step 0, in the order of execution."""

    def value(record: Record) -> float | None:
        rows = [row for row in record.layers if row["step"] == 0]
        found = _numbers(sorted(rows, key=lambda row: row["place"]), key)
        return of(found) if found else None

    return value


def _decades(values: Sequence[float]) -> float:
    """How many powers of ten lie between the least and the greatest."""
    positive = [each for each in values if each > 0]
    if len(positive) < len(values):
        return math.inf
    return math.log10(max(positive) / min(positive))


def _growth(values: Sequence[float]) -> float:
    """The decimal logarithm of the last over the first."""
    return math.log10(values[-1] / values[0]) if values[0] > 0 and values[-1] > 0 else math.nan


def _mean_of_layers(key: str) -> Value:
    def value(record: Record) -> float | None:
        found = _numbers(record.layers, key)
        return fmean(found) if found else None

    return value


def _size(record: Record) -> float | None:
    """The decimal logarithm of the greatest root mean square of a layer's outputs at the last recorded step."""
    last = max((row["step"] for row in record.layers), default=None)
    rows = [row for row in record.layers if row["step"] == last]
    moments = [(row.get("mean"), row.get("variance")) for row in rows]
    squares = [
        mean**2 + variance
        for mean, variance in moments
        if mean is not None and variance is not None
    ]
    return math.log10(max(squares)) / 2 if squares and max(squares) > 0 else None


def _numbers(rows: Iterable[Mapping[str, Any]], key: str) -> list[float]:
    """The numbers that there are: what is not finite is None in a file, and must be none before, too."""
    found = (row.get(key) for row in rows)
    return [each for each in found if each is not None and math.isfinite(each)]


def _trains(record: Record) -> float | None:
    """Whether the loss of the last epoch is below 9/10 of the first step's."""
    if not record.steps or record.status != FINISHED:
        return 0.0 if record.steps else None
    last, first = record.epochs[-1]["train_loss"], record.steps[0]["loss"]
    return float(last is not None and first is not None and last < 0.9 * first)


_ALL = (
    Metric("accuracy", _final("accuracy"), True, "accuracy on test data in the end", worst=0.0),
    Metric("best_accuracy", _best("accuracy", max), True, "best accuracy on test data", worst=0.0),
    Metric("accuracy_area", _area(lambda r: r.epochs, "accuracy"), True,
     "mean accuracy over the steps", worst=0.0),
    Metric("first_accuracy", _first("accuracy"), True, "accuracy after the first epoch", worst=0.0),
    Metric("test_loss", _final("test_loss"), False, "loss on test data in the end"),
    Metric("best_test_loss", _best("test_loss", min), False, "least loss on test data"),
    Metric("train_loss", _final("train_loss"), False, "mean loss of the last epoch"),
    Metric("first_train_loss", _first("train_loss"), False, "mean loss of the first epoch"),
    Metric("loss_area", _area(lambda r: r.steps, "loss"), False,
     "mean training loss over the steps"),
    Metric("first_loss", lambda r: r.steps[0]["loss"] if r.steps else None, False,
     "loss at the start", of_start=True),
    Metric("trains", _trains, True,
     "1 if the last epoch's loss is below 9/10 of the first step's, or 0", worst=0.0, of_start=True),
    Metric("finished", lambda r: float(r.status == FINISHED), True,
     "1 if training did not diverge", worst=0.0, of_start=True),
    Metric("seconds", lambda r: r.seconds, False, "seconds of training"),
    Metric("init_seconds", lambda r: r.init_seconds, False,
     "seconds of initialization", of_start=True),
    Metric("variance_spread", _of_start("variance", _decades), False,
     "powers of ten between layers' least and greatest variance at the start", of_start=True),
    Metric("variance_growth", _of_start("variance", _growth), False,
     "decimal logarithm of the last layer's variance over the first's at the start", of_start=True),
    Metric("gradient_spread", _of_start("gradient_norm", _decades), False,
     "powers of ten between layers' least and greatest gradient norm at the start", of_start=True),
    Metric("gradient_growth", _of_start("gradient_norm", _growth), False,
     "decimal logarithm of the last layer's gradient norm over the first's at the start", of_start=True),
    Metric("dead", _of_start("dead", fmean), False,
     "mean share of dead channels at the start", of_start=True),
    Metric("saturated", _of_start("saturated", fmean), False,
     "mean saturated share at the start", of_start=True),
    Metric("activation_size", _size, False,
     "decimal logarithm of the greatest root mean square of layers' outputs at the last recorded step"),
    Metric("update_ratio", _mean_of_layers("update_ratio"), False,
     "mean size of updates over that of weights, over layers and recorded steps"),
)  # fmt: skip

METRICS: Mapping[str, Metric] = {each.name: each for each in _ALL}


def _steps_to(key: str, more_is_better: bool, text: str) -> Callable[[float], Metric]:
    """The steps until the end of the first epoch in which a level is reached."""

    def of(level: float) -> Metric:
        def value(record: Record) -> float | None:
            steps, values = ([row[name] for row in record.epochs] for name in ("step", key))
            step = reached(steps, values, level, more_is_better)
            return None if step is None else float(step)

        return Metric(key, value, False, text.format(level))

    return of


# By the name before the colon: a function of the level.
LEVELS: Mapping[str, Callable[[float], Metric]] = {
    "steps_to_accuracy": _steps_to("accuracy", True, "steps until the accuracy is {:g}"),
    "steps_to_test_loss": _steps_to("test_loss", False, "steps until the test loss is {:g}"),
    "steps_to_train_loss": _steps_to("train_loss", False, "steps until the training loss is {:g}"),
}


# ---- learning rates ------------------------------------------------------------------------------


def cell(factors: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """The values of factors as a key."""
    return tuple(sorted(factors.items()))


def best_lrs(records: Iterable[Record]) -> dict[tuple[str, tuple[tuple[str, Any], ...]], float]:
    """Of each arm and combination of factors, the learning rate that it is compared by.

    It is the one with the least mean over seeds of the training loss in the last epoch, so that the test data
    are not chosen by on which arms are compared. A run that diverged or failed counts as worse than any loss.
    Of equals the smaller rate is taken.
    """
    losses: dict[Any, dict[float, list[float]]] = {}
    for each in records:
        loss = METRICS["train_loss"](each) if each.status == FINISHED else None
        by_lr = losses.setdefault((each.arm, cell(each.factors)), {})
        by_lr.setdefault(each.lr, []).append(math.inf if loss is None else loss)
    return {
        key: min(sorted(by_lr), key=lambda lr, by_lr=by_lr: fmean(by_lr[lr]))  # type: ignore[misc]
        for key, by_lr in losses.items()
    }


def compared(records: Iterable[Record]) -> list[Record]:
    """The records of each arm's best learning rate, which are those that are compared."""
    listed = list(records)
    best = best_lrs(listed)
    return [each for each in listed if each.lr == best[each.arm, cell(each.factors)]]
