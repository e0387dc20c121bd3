"""From records to the numbers that statistics take: what was measured, and arm -> seed -> value."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from pyinit.studies.definition import Claim
from pyinit.studies.metrics import Metric, cell, metric
from pyinit.studies.records import DIVERGED, FAILED, Record
from pyinit.studies.samples import Measure
from pyinit.studies.statistics import Runs
from pyinit.studies.verdicts import Evidence, Verdict, judge


def measure_of(name: str) -> Measure:
    """What a metric measures, for statistics.

    Args:
        name: the metric's name

    Raises:
        ValueError: for an unknown name.

    Example:
        >>> measure_of("best_accuracy"), measure_of("steps_to_accuracy:0.9").more_is_better
        (Measure(name='best_accuracy', more_is_better=True, worst=0.0), False)
    """
    found = metric(name)
    return Measure(found.name, found.more_is_better, found.worst)


def runs_of(
    records: Iterable[Record], name: str, where: Mapping[str, Any] | None = None
) -> dict[str, Runs]:
    """What a metric is, run by run.

    A run that failed is left out. One that diverged has no value, whatever it had reached before, unless
    the metric is about the start or about divergence. Where several combinations of factors are meant, a
    seed's value is their mean, and a seed that lacks one of them is left out.

    Args:
        records: those that are compared, with one learning rate for each arm and combination of factors
        name: the metric's name
        where: values of factors; of a factor that is not named, all

    Returns:
        arm -> seed -> value.

    Raises:
        ValueError: for an unknown name.

    Example:
        >>> rows = [{"epoch": 1, "step": 9, "accuracy": 0.9}]
        >>> records = [Record("he", 0, {}, 0.1, "finished", epochs=rows)]
        >>> records += [Record("he", 1, {}, 0.1, "diverged", epochs=rows)]
        >>> runs_of(records, "accuracy")
        {'he': {0: 0.9, 1: None}}
    """
    function, measure = metric(name), measure_of(name)
    meant = [
        each
        for each in records
        if all(each.factors.get(factor) == value for factor, value in (where or {}).items())
    ]
    cells = {cell(each.factors) for each in meant}
    found: dict[str, dict[int, dict[Any, float | None]]] = {each.arm: {} for each in meant}
    for each in meant:
        if each.status != FAILED:
            values = found[each.arm].setdefault(each.seed, {})
            values[cell(each.factors)] = _value(each, function)
    return {
        arm: {
            seed: _mean(list(values.values()), measure)
            for seed, values in seeds.items()
            if values.keys() == cells
        }
        for arm, seeds in found.items()
    }


def verdicts_of(claims: Sequence[Claim], records: Sequence[Record]) -> tuple[Verdict, ...]:
    """Judges the claims of a study by its records.

    Args:
        claims: the claims
        records: those that are compared, with one learning rate for each arm and combination of factors

    Returns:
        A verdict for each claim.

    Example:
        >>> rows = [{"epoch": 1, "step": 9, "accuracy": 0.9}]
        >>> records = [Record("he", seed, {}, 0.1, "finished", epochs=rows) for seed in range(6)]
        >>> verdicts_of([Claim("accuracy", arm="he", above=0.5)], records)[0].outcome
        'held'
    """
    return judge(claims, [_evidence(claim, records) for claim in claims])


def _evidence(claim: Claim, records: Sequence[Record]) -> Evidence:
    measure = measure_of(claim.metric)
    here, *there = (runs_of(records, claim.metric, where) for where in claim.places)
    return (measure, here, there[0]) if there else (measure, here)


def _value(record: Record, function: Metric) -> float | None:
    if record.status == DIVERGED and not function.of_start:
        return None
    return function(record)


def _mean(values: list[float | None], measure: Measure) -> float | None:
    if len(values) == 1:
        return values[0]
    return fmean(measure.count(value) for value in values)
