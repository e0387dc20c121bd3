"""A study's runs beside each other: which metrics are shown, and the arms for each combination of factors."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pyinit.studies.definition import Definition
from pyinit.studies.evidence import measure_of, runs_of
from pyinit.studies.metrics import METRICS, cell
from pyinit.studies.records import Record
from pyinit.studies.samples import holm
from pyinit.studies.statistics import Comparison, compare
from pyinit.studies.wording import plain


@dataclass(frozen=True)
class Group:
    """The arms beside each other, for one combination of factors.

    Args:
        factors: the combination
        comparisons: what was measured, by the metric's name
    """

    factors: Mapping[str, Any]
    comparisons: Mapping[str, Comparison]

    @property
    def name(self) -> str:
        """The combination in words."""
        return named(self.factors)


def named(factors: Mapping[str, Any]) -> str:
    """Values of factors in words.

    >>> named({"depth": 10, "batch_norm": True})
    'depth = 10, batch_norm = true'
    """
    return ", ".join(f"{name} = {plain(value)}" for name, value in factors.items())


def combinations_of(records: Iterable[Record]) -> list[Mapping[str, Any]]:
    """The combinations of factors that there are, in the order of the records."""
    return list({cell(each.factors): each.factors for each in records}.values())


def metrics_of(study: Definition, records: Sequence[Record]) -> list[str]:
    """The metrics that are shown: those of claims, and how well models did in the end."""
    claimed = dict.fromkeys(claim.metric for claim in study.claims)
    usual = [
        name
        for name in ("accuracy", "test_loss", "train_loss")
        if any(METRICS[name](each) is not None for each in records)
    ]
    return list(dict.fromkeys((*claimed, *usual))) or ["test_loss"]


def groups_of(study: Definition, records: Sequence[Record]) -> tuple[Group, ...]:
    """The arms beside each other, for each combination of factors.

    The p-values of a metric are corrected by Holm over all pairs of arms in all combinations.

    Args:
        study: the study
        records: those that are compared, with one learning rate for each arm and combination of factors
    """
    combinations, names = combinations_of(records), metrics_of(study, records)
    by_name = {}
    for name in names:
        measure = measure_of(name)
        found = [compare(_in_order(study, records, name, each), measure) for each in combinations]
        by_name[name] = _corrected(found)
    return tuple(
        Group(factors, {name: by_name[name][i] for name in names})
        for i, factors in enumerate(combinations)
    )


def _in_order(
    study: Definition, records: Sequence[Record], name: str, factors: Mapping[str, Any]
) -> Mapping[str, Mapping[int, float | None]]:
    found = runs_of([each for each in records if each.factors == factors], name)
    return {arm: found[arm] for arm in study.arms if arm in found}


def _corrected(found: Sequence[Comparison]) -> list[Comparison]:
    pairs = [pair for each in found for pair in each.differences]
    corrected = iter(holm([pair.test.p for pair in pairs]))
    return [
        replace(
            each,
            differences=tuple(
                replace(pair, p=next(corrected), tests=len(pairs)) for pair in each.differences
            ),
        )
        for each in found
    ]
