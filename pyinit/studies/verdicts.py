"""Whether claims held: the rule is in docs/studies.md, "How a claim is judged"."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pyinit.studies.definition import Claim
from pyinit.studies.power import MOST_SEEDS, POWER, seeds_to_decide
from pyinit.studies.samples import LEAST_SEEDS, BoundTest, Measure, against, holm
from pyinit.studies.statistics import Difference, Estimate, Runs, difference, estimate
from pyinit.studies.wording import counted, placed

Outcome = Literal["held", "not held", "undecided"]

Arms = Mapping[str, Runs]
"""What the runs of several arms gave: arm -> seed -> value."""

Evidence = tuple[Measure, Arms] | tuple[Measure, Arms, Arms]
"""What was measured, and what came of it in each of a claim's places: two with ``versus``, or one."""


@dataclass(frozen=True)
class Verdict:
    """What became of a claim, with the numbers that decide it.

    Args:
        claim: the claim
        outcome: "held", "not held" or "undecided"
        evidence: the difference of two arms, or the estimate of one
        test: the test against the bound of the claim that is nearest
        inside: whether the numbers found, taken as they are, agree with the claim
        p: the p-value after Holm's correction
        claims: over how many claims it was corrected
        seeds_to_decide: how many seeds would decide it with a probability of 0.8 if what was found is the
            truth, 1001 for more than 1000; None if it is decided, or if nothing follows from one seed

    Example:
        >>> runs = {"xavier": {0: 0.95, 1: 0.96, 2: 0.94}, "normal": {0: 0.91, 1: 0.93, 2: 0.9}}
        >>> claim = Claim("accuracy", better="xavier", than="normal")
        >>> (verdict,) = judge([claim], [(Measure("accuracy", worst=0.0), runs)])
        >>> verdict.outcome
        'held'
        >>> print(verdict)
        xavier is better than normal in accuracy: 0.950 against 0.913, a difference of 0.037 (95% interval \
0.022 to 0.051, 3 seeds, p = 0.00816).
    """

    claim: Claim
    outcome: Outcome
    evidence: Difference | Estimate
    test: BoundTest
    inside: bool
    p: float
    claims: int
    seeds_to_decide: int | None

    def __str__(self) -> str:
        """A sentence with the numbers, and further ones on what they leave out or leave open."""
        text = f"{self.in_words}: {self.evidence.in_numbers(self.test, self.p, self.claims)}."
        return " ".join([text, *self.evidence.remarks, *self._open()])

    @property
    def in_words(self) -> str:
        """What was found of the claim, without numbers."""
        return self.claim.in_words(self.outcome)

    def _open(self) -> list[str]:
        if self.outcome != "undecided":
            return []
        if self.seeds_to_decide is None:
            return [f"It takes {LEAST_SEEDS} seeds at least to decide it."]
        if self.seeds_to_decide > MOST_SEEDS:
            return [
                f"If these numbers are the truth, it takes more than {MOST_SEEDS} seeds to decide it."
            ]
        seeds = counted(self.seeds_to_decide, "seed")
        return [f"If these numbers are the truth, {seeds} decide it with a probability of {POWER}."]


def judge(claims: Sequence[Claim], evidence: Sequence[Evidence]) -> tuple[Verdict, ...]:
    """Judges all claims of a study together, with Holm's correction over them.

    Args:
        claims: the claims
        evidence: for each of them what was measured, and what came of it in each of the claim's places:
            arm -> seed -> value

    Returns:
        A verdict for each claim.

    Raises:
        ValueError: if an arm is claimed to be better by a measure of which neither more nor less is better.

    Example:
        >>> loss = Measure("test_loss", more_is_better=False)
        >>> claim = Claim("test_loss", arm="he", below=0.5)
        >>> print(*judge([claim], [(loss, {"he": {0: 0.4}})]))
        it is undecided whether the test_loss of he is below 0.5: 0.4 on 1 seed. It takes 3 seeds at least to \
decide it.
    """
    weighed = [
        _weigh(claim, measure, places)
        for claim, (measure, *places) in zip(claims, evidence, strict=True)
    ]
    raw = [max(test.p for test in tests) for _, tests, _ in weighed]
    verdicts = []
    for claim, (found, tests, inside), own, p in zip(claims, weighed, raw, holm(raw), strict=True):
        decided = p <= claim.level
        level = claim.level / sum(
            other >= own for other in raw
        )  # what Holm's correction leaves to it
        verdicts.append(
            Verdict(
                claim=claim,
                outcome=("held" if inside else "not held") if decided else "undecided",
                evidence=found,
                test=max(tests, key=lambda test: test.p),
                inside=inside,
                p=p,
                claims=len(claims),
                seeds_to_decide=None
                if decided
                else seeds_to_decide(
                    found.values, [test.bound for test in tests], level=level, grain=found.grain
                ),
            )
        )
    return tuple(verdicts)


def _weigh(
    claim: Claim, measure: Measure, places: Sequence[Arms]
) -> tuple[Difference | Estimate, list[BoundTest], bool]:
    """The numbers, the tests against the bounds that matter, and whether the numbers agree with the claim."""
    if claim.better and measure.more_is_better is None:
        raise ValueError(
            f"claims: by {measure.name} no arm can be better, since neither more nor less of it is"
        )
    low, high = _bounds(claim)
    found = _quantity(claim, measure, places, alike=low < 0 < high)
    tests = {
        toward: against(bound, found.values, found.grain)
        for bound, toward in ((low, 1), (high, -1))
        if math.isfinite(bound)
    }
    crossed = [test for toward, test in tests.items() if test.side * toward <= 0]
    return found, crossed or list(tests.values()), not crossed


def _bounds(claim: Claim) -> tuple[float, float]:
    """Between which bounds what a claim is about is said to lie."""
    if claim.better:
        return claim.at_least, math.inf
    if claim.within:
        return -claim.within, claim.within
    low = -math.inf if claim.above is None else claim.above
    return low, math.inf if claim.below is None else claim.below


def _quantity(
    claim: Claim, measure: Measure, places: Sequence[Arms], *, alike: bool
) -> Difference | Estimate:
    """What a claim is about: of an arm or two, in one place, or in one beside another.

    If it is said to be ``alike``, seeds tell nothing at which no number is on either side.
    """
    found: list[Difference | Estimate] = []
    for runs, factors in zip(places, claim.places, strict=True):
        place = placed({name: factors[name] for name in claim.versus})
        arms = [
            estimate(
                f"{arm} with {place}" if place else arm, runs.get(arm, {}), measure, claim.level
            )
            for arm in claim.arms
        ]
        found.append(difference(*arms, alike=alike) if len(arms) > 1 else arms[0])
    if len(found) == 1:
        return found[0]
    return difference(*found, advantage=False, alike=alike)
