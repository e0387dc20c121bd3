"""Verdicts: what is claimed of equal arms does not hold, what is planted is found, and what is open is told."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from pyinit.studies import verdicts
from pyinit.studies.definition import Claim
from pyinit.studies.samples import Measure
from pyinit.studies.verdicts import Verdict, judge

weightstats = pytest.importorskip("statsmodels.stats.weightstats")

ACCURACY = Measure("accuracy", worst=0.0)
LOSS = Measure("loss", more_is_better=False)
BETTER = Claim("accuracy", better="a", than="b")

Runs = dict[str, dict[int, float | None]]


def runs(**arms: Any) -> Runs:
    return {arm: dict(enumerate(values)) for arm, values in arms.items()}


def verdict(claim: Claim, of: Runs, measure: Measure = ACCURACY) -> Verdict:
    (found,) = judge([claim], [(measure, of)])
    return found


def no_more_often(count: int, of: int, level: float) -> bool:
    """Whether a share of ``count`` is what a probability of ``level``, or a lower one, may well give."""
    return bool(stats.binomtest(count, of, level, alternative="greater").pvalue > 0.01)


@pytest.fixture
def only_outcomes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the seeds that would decide, which take most of the time and change no outcome."""
    monkeypatch.setattr(verdicts, "seeds_to_decide", lambda *_, **__: None)


# What is not there is not found


def normal(rng: np.random.Generator, seeds: int) -> Any:
    return rng.normal(0.9, 0.02, seeds)


def skewed(rng: np.random.Generator, seeds: int) -> Any:
    return 1 - rng.gamma(0.7, 0.05, seeds)


def diverging(rng: np.random.Generator, seeds: int) -> Any:
    return np.where(rng.random(seeds) < 0.3, math.nan, rng.normal(0.9, 0.02, seeds))


def trains_or_not(rng: np.random.Generator, seeds: int) -> Any:
    return rng.choice([0.1, 0.9], seeds) + rng.normal(0, 0.001, seeds)


def coarse(rng: np.random.Generator, seeds: int) -> Any:
    return rng.choice([0.9, 0.91], seeds)


@pytest.mark.usefixtures("only_outcomes")
@pytest.mark.parametrize("draw", [normal, skewed, diverging, trains_or_not, coarse])
@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("measure", [ACCURACY, LOSS], ids=lambda measure: measure.name)
def test_an_arm_that_repeats_another_is_not_called_better_more_often_than_the_level(
    draw: Any, seeds: int, measure: Measure
) -> None:
    rng = np.random.default_rng(20)
    found = [
        verdict(BETTER, runs(a=draw(rng, seeds), b=draw(rng, seeds)), measure).outcome
        for _ in range(200)
    ]
    assert no_more_often(found.count("held"), 200, 0.05)
    assert no_more_often(200 - found.count("undecided"), 200, 0.05)


@pytest.mark.usefixtures("only_outcomes")
def test_of_several_claims_not_one_holds_more_often_than_the_level() -> None:
    rng = np.random.default_rng(21)
    arms = "abcdefgh"
    claims = [Claim("accuracy", better=arm, than="a") for arm in arms[1:]]
    any_alone = any_together = 0
    for _ in range(200):
        of = runs(**{arm: normal(rng, 5) for arm in arms})
        together = judge(claims, [(ACCURACY, of)] * len(claims))
        any_together += any(each.outcome != "undecided" for each in together)
        any_alone += any(each.test.p <= 0.05 for each in together)
    assert no_more_often(any_together, 200, 0.05)
    assert not no_more_often(any_alone, 200, 0.05)  # what the correction is for


@pytest.mark.usefixtures("only_outcomes")
def test_a_level_is_kept_that_a_claim_names() -> None:
    rng = np.random.default_rng(22)
    claim = Claim("accuracy", better="a", than="b", level=0.4)
    found = [verdict(claim, runs(a=normal(rng, 5), b=normal(rng, 5))).outcome for _ in range(200)]
    assert stats.binomtest(200 - found.count("undecided"), 200, 0.4).pvalue > 0.01


@pytest.mark.usefixtures("only_outcomes")
@pytest.mark.parametrize("truth", [-0.01, 0.01])
def test_arms_that_differ_by_just_the_margin_are_not_called_alike_more_often_than_the_level(
    truth: float,
) -> None:
    rng = np.random.default_rng(23)
    claim = Claim("accuracy", same=("a", "b"), within=0.01)
    found = [
        verdict(claim, runs(a=rng.normal(truth, 0.005, 6), b=np.zeros(6))).outcome
        for _ in range(200)
    ]
    assert no_more_often(found.count("held"), 200, 0.05)
    assert no_more_often(found.count("not held"), 200, 0.05)


# What is there is found


@pytest.mark.usefixtures("only_outcomes")
@pytest.mark.parametrize(("effect", "seeds"), [(1.0, 10), (1.7, 5), (0.5, 34)])
def test_a_planted_difference_is_found_as_often_as_theory_says(effect: float, seeds: int) -> None:
    rng = np.random.default_rng([24, seeds])
    found = [
        verdict(BETTER, runs(a=base + rng.normal(effect * 0.01, 0.01, seeds), b=base)).outcome
        for base in rng.normal(0.8, 0.1, (600, seeds))  # what the seeds have in common
    ]
    bound = stats.t(seeds - 1).isf(0.025)
    power = stats.nct(seeds - 1, effect * math.sqrt(seeds)).sf(bound)
    assert 0.75 < power < 0.87
    assert stats.binomtest(found.count("held"), 600, power).pvalue > 0.01
    assert found.count("not held") <= 1


def test_the_seeds_of_an_undecided_claim_decide_it() -> None:
    values = [0.03, 0.01, -0.01, 0.02, 0.00]
    claims = [BETTER, Claim("accuracy", better="c", than="b")]
    of = runs(a=values, b=[0.0] * 5, c=[0.001, 0.02, -0.03, 0.0, 0.0])
    found = judge(claims, [(ACCURACY, of)] * 2)
    assert [each.outcome for each in found] == ["undecided"] * 2
    seeds = found[0].seeds_to_decide
    assert seeds is not None
    assert found[1].seeds_to_decide == 781
    drawn = np.random.default_rng(25).normal(np.mean(values), np.std(values, ddof=1), (1000, seeds))
    decided = sum(
        stats.ttest_1samp(drawn, 0.0, axis=1).pvalue <= 0.05 / 2
    )  # Holm: the first of two
    assert stats.binomtest(int(decided), 1000, 0.8).pvalue > 0.01


# One value of a factor beside another


SHALLOW, DEEP = {"depth": 10}, {"depth": 100}


def of_change(claim: Claim, here: Runs, there: Runs, measure: Measure = ACCURACY) -> Verdict:
    (found,) = judge([claim], [(measure, here, there)])
    return found


def change(metric: str = "accuracy", /, **form: Any) -> Claim:
    return Claim(metric, where=DEEP, versus=SHALLOW, **form)


@pytest.mark.usefixtures("only_outcomes")
@pytest.mark.parametrize("draw", [normal, skewed, diverging, trains_or_not, coarse])
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("measure", [ACCURACY, LOSS], ids=lambda measure: measure.name)
@pytest.mark.parametrize(
    "form", [{"arm": "a", "above": 0.0}, {"better": "a", "than": "b"}], ids=str
)
def test_a_factor_that_changes_nothing_is_not_said_to_more_often_than_the_level(
    draw: Any, seeds: int, measure: Measure, form: dict[str, Any]
) -> None:
    rng = np.random.default_rng(28)
    found = []
    for _ in range(200):
        share = rng.normal(0, 0.05, seeds)  # what the runs of a seed have in common
        here, there = (runs(a=draw(rng, seeds) + share, b=draw(rng, seeds)) for _ in range(2))
        found.append(of_change(change(**form), here, there, measure).outcome)
    assert no_more_often(found.count("held"), 200, 0.05)
    assert no_more_often(200 - found.count("undecided"), 200, 0.05)


@pytest.mark.usefixtures("only_outcomes")
@pytest.mark.parametrize("bound", [{"above": -0.02}, {"below": 0.02}])
def test_a_change_of_just_the_margin_is_not_called_small_more_often_than_the_level(
    bound: dict[str, Any],
) -> None:
    rng = np.random.default_rng(29)
    truth = next(iter(bound.values()))
    found = [
        of_change(
            change(arm="a", **bound),
            runs(a=base + rng.normal(truth, 0.01, 5)),
            runs(a=base),
        ).outcome
        for base in rng.normal(0.8, 0.1, (200, 5))
    ]
    assert no_more_often(found.count("held"), 200, 0.05)


@pytest.mark.usefixtures("only_outcomes")
@pytest.mark.parametrize("arms", [1, 2])
def test_a_planted_change_is_found_as_often_as_theory_says(arms: int) -> None:
    rng = np.random.default_rng([30, arms])
    form = {"better": "a", "than": "b"} if arms == 2 else {"arm": "a", "above": 0.0}
    found, seeds, effect = [], 10, 1.0
    for base in rng.normal(0.8, 0.1, (600, seeds)):
        there = runs(a=base, b=base + rng.normal(0, 0.2, seeds))
        # Both arms of a seed change by 0.3, and the first by a further 0.01 with a deviation of 0.01.
        shared = 0.3 if arms == 2 else 0.0
        here: Runs = {
            "a": dict(enumerate(base + shared + rng.normal(effect * 0.01, 0.01, seeds))),
            "b": {seed: (value or 0.0) + shared for seed, value in there["b"].items()},
        }
        found.append(of_change(change(**form), here, there).outcome)
    bound = stats.t(seeds - 1).isf(0.025)
    power = stats.nct(seeds - 1, effect * math.sqrt(seeds)).sf(bound)
    assert stats.binomtest(found.count("held"), 600, power).pvalue > 0.01
    assert found.count("not held") <= 1


def test_a_change_is_tested_by_pairs_of_an_arms_runs_and_of_advantages() -> None:
    rng = np.random.default_rng(31)
    a, b, c, d = (rng.normal(0.5, 0.1, 6) for _ in range(4))
    here, there = runs(a=a, b=b), runs(a=c, b=d)
    assert of_change(change(arm="a", above=0.0), here, there).p == pytest.approx(
        stats.ttest_rel(a, c).pvalue
    )
    assert of_change(change(arm="a", below=0.2), here, there).p == pytest.approx(
        stats.ttest_1samp(a - c, 0.2).pvalue
    )
    for measure, sign in ((ACCURACY, 1), (LOSS, -1)):
        found = of_change(change(better="a", than="b", at_least=0.1), here, there, measure)
        assert found.p == pytest.approx(stats.ttest_1samp(sign * ((a - b) - (c - d)), 0.1).pvalue)


def test_what_rises_is_the_number_itself_where_less_is_better_too() -> None:
    here, there = runs(a=[0.5, 0.52, 0.49]), runs(a=[1.0, 1.01, 1.02])
    found = of_change(change("test_loss", arm="a", below=-0.3), here, there, LOSS)
    assert found.outcome == "held"
    assert str(found).startswith(
        "the test_loss of a falls by more than 0.3 from depth = 10 to depth = 100: 0.503 against 1.010, "
        "a difference of -0.507 (95% interval"
    )


@pytest.mark.parametrize(
    ("claim", "held", "contrary", "asked"),
    [
        (change(arm="a", below=0.1), "does not rise by more than 0.1", "rises by more than 0.1", "rises by"),
        (change(arm="a", above=-0.1), "does not fall by more than 0.1", "falls by more than 0.1", "falls by"),
        (change(arm="a", above=0.1), "rises by more than 0.1", "does not rise by more than 0.1", "rises by"),
        (change(arm="a", below=-0.1), "falls by more than 0.1", "does not fall by more than 0.1", "falls by"),
        (change(arm="a", above=0), "rises from depth = 10 to", "does not rise from depth = 10 to", "rises from"),
        (change(arm="a", below=0), "falls from depth = 10 to", "does not fall from depth = 10 to", "falls from"),
        (change(better="a", than="b"), ("the advantage of a over b in accuracy is greater with depth = 100 than with "
         "depth = 10"), "is smaller with depth = 100 than", "is greater with"),
        (change(better="a", than="b", at_least=0.2), "is greater with depth = 100 than with depth = 10 by at least 0.2",
         "is not greater with depth = 100 than with depth = 10 by at least 0.2", "is greater with"),
        (change(same=("a", "b"), within=0.1), ("the advantages of a over b with depth = 100 and with depth = 10 are "
         "within 0.1 of each other in accuracy"), "are not within 0.1", "are within 0.1"),
    ],
)  # fmt: skip
def test_a_change_is_told_in_words(claim: Claim, held: str, contrary: str, asked: str) -> None:
    assert held in str(claim)
    assert contrary in claim.in_words("not held")
    undecided = claim.in_words("undecided")
    assert undecided.startswith("it is undecided whether ")
    assert asked in undecided


@pytest.mark.parametrize("measure", [ACCURACY, LOSS], ids=lambda measure: measure.name)
@pytest.mark.parametrize(
    "claim",
    [change(arm="a", above=-0.1), change(arm="a", below=0.1), change(same=("a", "b"), within=0.1)],
    ids=str,
)
def test_runs_that_diverge_everywhere_have_not_changed_little(
    claim: Claim, measure: Measure
) -> None:
    lost = runs(a=[None] * 9, b=[0.5] * 9)
    assert of_change(claim, lost, lost, measure).outcome == "undecided"


def test_a_change_to_divergence_is_found_and_told() -> None:
    here, there = runs(a=[None] * 6, b=[0.1] * 6), runs(a=[0.1] * 6, b=[0.1] * 6)
    found = of_change(change("test_loss", arm="a", above=0.0), here, there, LOSS)
    assert (found.outcome, found.test.kind) == ("held", "sign")
    assert "higher on 6 of 6 seeds and lower on 0" in str(found)
    assert "Of a with depth = 100, 6 runs gave no number and count as worse" in str(found)
    found = of_change(change("test_loss", better="b", than="a"), here, there, LOSS)
    assert found.outcome == "held"
    # Advantages that are infinite in both places are equal.
    found = of_change(change("test_loss", better="b", than="a"), here, here, LOSS)
    assert (found.outcome, found.p) == ("undecided", 1.0)


def test_seeds_are_compared_that_all_runs_have() -> None:
    here: Runs = {"a": {0: 0.9, 1: 0.8, 2: 0.9, 3: 0.7}, "b": {0: 0.5, 1: 0.6, 2: 0.4, 4: 0.5}}
    there: Runs = {"a": {0: 0.9, 1: 0.8, 5: 0.9}, "b": {0: 0.9, 1: 0.8}}
    found = of_change(change(better="a", than="b"), here, there)
    assert found.evidence.values == pytest.approx((0.4, 0.2))
    assert str(found).count("Seeds 2, 3, 4 and 5 are left out") == 1
    assert str(found).count("left out") == 1


@pytest.mark.parametrize(
    "form", [{"arm": "a", "above": 0.0}, {"better": "a", "than": "b"}], ids=str
)
def test_a_place_without_runs_leaves_it_undecided(form: dict[str, Any]) -> None:
    found = of_change(change(**form), CLEAR, {})
    assert (found.outcome, found.seeds_to_decide) == ("undecided", None)
    assert "no seed has a value of both" in str(found)
    assert str(found).endswith("It takes 3 seeds at least to decide it.")


def test_the_seeds_that_decide_a_change_decide_it() -> None:
    values = np.array([0.03, 0.01, -0.01, 0.02, 0.00])
    here, there = runs(a=0.5 + values, b=[0.1] * 5), runs(a=[0.5] * 5, b=[0.1] * 5)
    single = of_change(change(arm="a", above=0.0), here, there).seeds_to_decide
    assert single is not None
    assert of_change(change(better="a", than="b"), here, there).seeds_to_decide == single
    drawn = np.random.default_rng(32).normal(values.mean(), values.std(ddof=1), (1000, single))
    decided = int(sum(stats.ttest_1samp(drawn, 0.0, axis=1).pvalue <= 0.05))
    assert stats.binomtest(decided, 1000, 0.8).pvalue > 0.01


# The rule, claim by claim


CLEAR = runs(a=[0.95, 0.96, 0.955, 0.945, 0.95], b=[0.91, 0.9, 0.92, 0.905, 0.9])


@pytest.mark.parametrize(
    ("claim", "outcome"),
    [
        (Claim("accuracy", better="a", than="b"), "held"),
        (Claim("accuracy", better="b", than="a"), "not held"),
        (Claim("accuracy", better="a", than="b", at_least=0.02), "held"),
        (Claim("accuracy", better="a", than="b", at_least=0.045), "undecided"),
        (Claim("accuracy", better="a", than="b", at_least=0.2), "not held"),
        (Claim("accuracy", arm="a", above=0.9), "held"),
        (Claim("accuracy", arm="a", above=0.95), "undecided"),
        (Claim("accuracy", arm="a", above=0.99), "not held"),
        (Claim("accuracy", arm="a", below=0.99), "held"),
        (Claim("accuracy", arm="a", below=0.9), "not held"),
        (Claim("accuracy", same=("a", "b"), within=0.1), "held"),
        (Claim("accuracy", same=("b", "a"), within=0.1), "held"),
        (Claim("accuracy", same=("a", "b"), within=0.05), "undecided"),
        (Claim("accuracy", same=("a", "b"), within=0.01), "not held"),
        (Claim("accuracy", same=("b", "a"), within=0.01), "not held"),
    ],
)
def test_the_outcome_of_each_form_of_claim(claim: Claim, outcome: str) -> None:
    found = verdict(claim, CLEAR)
    assert found.outcome == outcome
    assert (found.seeds_to_decide is None) == (outcome != "undecided")


@pytest.mark.parametrize("within", [0.03, 0.05, 0.08])
def test_a_claim_of_the_same_is_two_one_sided_tests(within: float) -> None:
    found = verdict(Claim("accuracy", same=("a", "b"), within=within), CLEAR)
    first, second = (np.array([*CLEAR[arm].values()]) for arm in "ab")
    p = weightstats.ttost_paired(first, second, -within, within)[0]
    # One-sided at half the level. Outside of the bounds it is the test against the nearest one.
    assert found.p == pytest.approx(2 * min(p, 1 - p))


def test_it_is_decided_if_the_interval_is_on_one_side_of_the_bound() -> None:
    rng = np.random.default_rng(26)
    outcomes = set()
    for _ in range(200):
        bound = rng.uniform(0, 0.02)
        found = verdict(
            Claim("accuracy", better="a", than="b", at_least=bound),
            runs(a=rng.normal(0.91, 0.01, 5), b=rng.normal(0.9, 0.01, 5)),
        )
        low, high = found.evidence.low, found.evidence.high
        assert low is not None
        assert high is not None
        expected = "held" if low > bound else "not held" if high < bound else "undecided"
        assert found.outcome == expected
        outcomes.add(expected)
    assert len(outcomes) >= 2


def test_where_less_is_better_at_least_is_by_how_much_less() -> None:
    of = runs(a=[0.5, 0.52, 0.49], b=[1.0, 1.01, 1.02])
    assert (
        verdict(Claim("test_loss", better="a", than="b", at_least=0.3), of, LOSS).outcome == "held"
    )
    assert verdict(Claim("test_loss", better="b", than="a"), of, LOSS).outcome == "not held"


def test_claims_are_corrected_together_and_one_that_cannot_be_tested_counts() -> None:
    claims = [
        BETTER,
        Claim("accuracy", better="a", than="gone"),
        Claim("accuracy", arm="a", above=0.9),
    ]
    found = judge(claims, [(ACCURACY, CLEAR)] * 3)
    ps = [each.test.p for each in found]
    assert ps[1] == 1.0
    assert found[0].p == pytest.approx(
        max(3 * ps[0], 0) if ps[0] < ps[2] else max(2 * ps[0], 3 * ps[2])
    )
    assert [each.claims for each in found] == [3, 3, 3]
    assert found[1].outcome == "undecided"


def test_no_claims_have_no_verdicts() -> None:
    assert judge([], []) == ()


@pytest.mark.parametrize("seeds", [0, 1, 2])
def test_below_three_seeds_everything_is_undecided(seeds: int) -> None:
    of = runs(a=[0.9, 0.901][:seeds], b=[0.1, 0.1][:seeds])
    for claim in (
        BETTER,
        Claim("accuracy", arm="a", above=0.5),
        Claim("accuracy", same=("a", "b"), within=1.0),
    ):
        found = verdict(claim, of)
        assert (found.outcome, found.seeds_to_decide) == ("undecided", None if seeds < 2 else 3)
        if seeds < 2:
            assert str(found).endswith("It takes 3 seeds at least to decide it.")


def test_a_difference_without_spread_takes_six_seeds() -> None:
    five, six = (verdict(BETTER, runs(a=[0.5] * n, b=[0.25] * n)) for n in (5, 6))
    assert (five.outcome, five.seeds_to_decide) == ("undecided", 6)
    assert (six.outcome, six.test.kind) == ("held", "sign")


def test_arms_that_give_the_same_values_leave_it_undecided() -> None:
    found = verdict(BETTER, runs(a=[0.5, 0.6, 0.7] * 3, b=[0.5, 0.6, 0.7] * 3))
    assert (found.outcome, found.p, found.seeds_to_decide) == ("undecided", 1.0, 1001)


def test_diverged_runs_are_not_alike() -> None:
    claim = Claim("test_loss", same=("a", "b"), within=0.1)
    found = verdict(claim, runs(a=[None] * 9, b=[None] * 9), LOSS)
    assert found.outcome == "undecided"
    assert verdict(claim, runs(a=[0.1] * 9, b=[None] * 9), LOSS).outcome == "not held"


def test_an_arm_that_diverged_on_all_seeds_is_worse() -> None:
    diverged = runs(a=[0.95, 0.96, 0.955, 0.945, 0.95], b=[None] * 5)
    assert verdict(BETTER, diverged).outcome == "held"
    loss = Claim("test_loss", better="a", than="b")
    assert verdict(loss, diverged, LOSS).outcome == "undecided"  # 5 signs: p = 0.0625
    assert verdict(loss, runs(a=[0.1] * 6, b=[None] * 6), LOSS).outcome == "held"


def test_better_needs_a_measure_that_has_a_better_side() -> None:
    with pytest.raises(ValueError, match="neither more nor less"):
        verdict(BETTER, CLEAR, Measure("accuracy", more_is_better=None))


# Sentences


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        (BETTER, "a is better than b in accuracy: 0.952 against 0.907, a difference of 0.045 (95% interval"),
        (Claim("accuracy", better="b", than="a"), "b is worse than a in accuracy: 0.907 against 0.952"),
        (Claim("accuracy", better="a", than="b", at_least=0.2, where={"depth": 30}),
         "a is not better than b in accuracy by at least 0.2 where depth = 30: "),
        (Claim("accuracy", arm="a", above=0.95), "it is undecided whether the accuracy of a is above 0.95: "),
        (Claim("accuracy", arm="a", below=0.9), "the accuracy of a is not below 0.9: 0.9520 (95% interval"),
        (Claim("accuracy", same=("a", "b"), within=0.1), "a and b are within 0.1 of each other in accuracy: "),
        (Claim("accuracy", same=("a", "b"), within=0.01), "a and b are not within 0.01 of each other in "),
    ],
)  # fmt: skip
def test_a_verdict_is_a_sentence(claim: Claim, words: str) -> None:
    assert str(verdict(claim, CLEAR)).startswith(words)


def test_an_undecided_verdict_says_how_many_seeds_would_decide() -> None:
    found = str(verdict(Claim("accuracy", better="a", than="b", at_least=0.04), CLEAR))
    seeds = verdict(Claim("accuracy", better="a", than="b", at_least=0.04), CLEAR).seeds_to_decide
    assert found.endswith(
        f"If these numbers are the truth, {seeds} seeds decide it with a probability of 0.8."
    )
    found = str(
        verdict(Claim("accuracy", better="a", than="b"), runs(a=[0.5, 0.7, 0.6], b=[0.6, 0.6, 0.6]))
    )
    assert found.endswith(
        "If these numbers are the truth, it takes more than 1000 seeds to decide it."
    )


def test_runs_that_gave_no_number_are_told_in_the_verdict() -> None:
    of = runs(a=[0.95, 0.96, 0.955], b=[0.91, None, 0.9])
    assert "Of b, 1 run gave no number and counts as 0." in str(verdict(BETTER, of))
    loss = str(verdict(Claim("test_loss", better="a", than="b"), of, LOSS))
    assert "better on 1 of 3 seeds and worse on 2" in loss
    assert "Of b, 1 run gave no number and counts as worse than any number." in loss
