"""What was found in a study, in sentences: the verdicts of its claims, or else which arms are told apart."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pyinit.reports.page import evenly
from pyinit.studies.comparisons import Group, named
from pyinit.studies.judged import Judged
from pyinit.studies.records import DIVERGED, FAILED, FINISHED, Record
from pyinit.studies.samples import LEAST_SEEDS
from pyinit.studies.statistics import Comparison, Difference, Estimate
from pyinit.studies.wording import counted, listed

_GROUPS = 6  # combinations of factors that are told of, at most
_NAMES = 4  # arms that a headline names, at most
_ARMS = 8  # arms whose numbers are told, at most
_RATES = 8  # arms whose learning rates are told, at most
_OUTCOMES = {"held": "Held", "not held": "Not held", "undecided": "Undecided"}


class Finding(NamedTuple):
    """Something that was found.

    head: what, in a few words
    text: the numbers behind it
    """

    head: str
    text: str


def findings_of(result: Judged) -> list[Finding]:
    """What was found: verdicts first, then what went wrong, and which learning rates served best."""
    found = [*_verdicts(result)] or [*_told_apart(result.statistics)]
    if any(each.status != FINISHED for each in result.records):
        head = f"Of {counted(len(result.records), 'run')}, {_wrong(result.records)}."
        found.append(Finding(head, ""))
    if len(result.study.training.lrs) > 1:
        found.append(
            Finding(
                "Each arm is compared by the learning rate with the least training loss.",
                _rates(result),
            )
        )
    return found


def counts_of(records: Sequence[Record]) -> Mapping[str, int]:
    """How many runs ended how."""
    found = Counter(each.status for each in records)
    return {status: found[status] for status in (FINISHED, DIVERGED, FAILED) if found[status]}


def side_of(pair: Difference) -> int:
    """1 if the first arm is better, or has more, -1 if the second is, and 0 if they are not told apart."""
    return 0 if pair.test.kind == "none" or pair.p > pair.level else pair.test.side


def _verdicts(result: Judged) -> Iterator[Finding]:
    for verdict in result.verdicts:
        claim, told = verdict.claim, str(verdict)
        if verdict.outcome != "not held" and not claim.text:  # the head says the same
            told = told.removeprefix(f"{verdict.in_words}: ")
        if told.startswith(("the ", "it ")):  # and not with an arm's name
            told = told[0].upper() + told[1:]
        yield Finding(
            f"{_OUTCOMES[verdict.outcome]}: {(claim.text or str(claim)).rstrip('.')}.", told
        )


def _told_apart(groups: Sequence[Group]) -> Iterator[Finding]:
    """Of the first metric, which arm is best, and which others are told apart from it."""
    shown = [groups[i] for i in evenly(len(groups), _GROUPS)]
    for group in shown:
        for comparison in list(group.comparisons.values())[:1]:
            yield from _best(group.name, comparison)
    if len(shown) < len(groups):
        text = "All of them are in the tables of the report."
        yield Finding(f"These are {len(shown)} of {len(groups)} combinations of factors.", text)


def _best(where: str, comparison: Comparison) -> Iterator[Finding]:
    measure = comparison.measure
    some = [each for each in comparison.estimates if each.values]
    if not some:
        return
    best = max(some, key=lambda each: measure.sign * _middle(each))
    sides: dict[int, list[str]] = {}
    for pair in comparison.differences:
        arms = (pair.first.arm, pair.second.arm)
        if best.arm in arms and pair.values:
            side = side_of(pair) * (1 if pair.first.arm == best.arm else -1)
            sides.setdefault(side, []).append(arms[arms[0] == best.arm])
    superlative = "highest" if measure.more_is_better is None else "best"
    alike, others = [best.arm, *sides.get(0, [])], sides.get(1, [])
    these = listed(alike) if len(alike) <= _NAMES else _count(len(alike), len(some))
    if len(some) == 1:
        head = f"The {measure.name} of {best.arm}"
    elif len(alike) == 1:
        head = f"{best.arm} has the {superlative} {measure.name}"
    elif others:
        head = f"{these} have the {superlative} {measure.name}, and are not told apart"
    else:
        head = f"{these} are not told apart by their {measure.name}"
    told = [" ".join([f"{each.arm}: {each.in_numbers()}.", *each.remarks]) for each in some[:_ARMS]]
    if len(some) > _ARMS:
        told.append(f"Numbers of {len(some) - _ARMS} further arms are in the table.")
    if any(pair.values and pair.test.kind == "none" for pair in comparison.differences):
        told.append(f"Below {LEAST_SEEDS} seeds nothing is tested.")
    yield Finding(f"{where}: {head}." if where else f"{head}.", "\n".join(told))


def _count(some: int, of: int) -> str:
    return f"The {of} arms" if some == of else f"{some} of {of} arms"


def _middle(found: Estimate) -> float:
    return found.mean if math.isfinite(found.mean) else found.median


def _wrong(records: Sequence[Record]) -> str:
    """How many runs diverged and failed, and of which arms they are."""
    told = []
    for status, count in counts_of(records).items():
        if status != FINISHED:
            names = dict.fromkeys(each.arm for each in records if each.status == status)
            told.append(f"{count} {status} ({', '.join(names)})")
    return " and ".join(told)


def _rates(result: Judged) -> str:
    rates = result.rates
    tried = ", ".join(f"{rate:g}" for rate in result.study.training.lrs)
    if len(rates) <= _RATES:
        told = "; ".join(
            f"{arm}{f' ({named(dict(cell))})' if cell else ''} by {rate:g}"
            for (arm, cell), rate in rates.items()
        )
        return f"Tried were {tried}: {told}."
    counts = Counter(rates.values())
    told = ", ".join(f"{rate:g} for {counts[rate]}" for rate in sorted(counts))
    return f"Tried were {tried}. Of {len(rates)} arms and combinations of factors, it is {told}; the table of numbers has each."
