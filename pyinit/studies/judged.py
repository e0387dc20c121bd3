"""The records of a study, and what statistics make of them."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pyinit.studies.comparisons import Group, groups_of
from pyinit.studies.definition import Definition
from pyinit.studies.evidence import verdicts_of
from pyinit.studies.metrics import best_lrs, compared
from pyinit.studies.records import FAILED, Record
from pyinit.studies.verdicts import Verdict


@dataclass(frozen=True, repr=False)
class Judged:
    """The numbers of a ``StudyResult``, which says what they are."""

    study: Definition
    records: tuple[Record, ...]

    @cached_property
    def compared(self) -> list[Record]:
        """The records that are compared: those of each arm's best learning rate."""
        return compared(self.records)

    @cached_property
    def rates(self) -> dict[Any, float]:
        """The learning rate that is compared, by arm and ``metrics.cell`` of the factors."""
        return best_lrs(each for each in self.records if each.status != FAILED)

    @cached_property
    def statistics(self) -> tuple[Group, ...]:
        """For each combination of factors the arms beside each other, by metric: means with intervals, and
        differences with tests. The metrics are those of the claims, accuracy and losses."""
        return groups_of(self.study, self.compared)

    @cached_property
    def verdicts(self) -> tuple[Verdict, ...]:
        """What became of each claim."""
        return verdicts_of(self.study.claims, self.compared)
