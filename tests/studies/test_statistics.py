"""Intervals, paired tests, Holm's correction and effect sizes, against other ways to the same numbers."""

import math
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
from scipy import stats

from pyinit.studies import statistics
from pyinit.studies.curves import area, band, reached
from pyinit.studies.power import seeds_to_decide
from pyinit.studies.samples import Measure, against, holm
from pyinit.studies.statistics import Difference, compare, estimate

weightstats = pytest.importorskip("statsmodels.stats.weightstats")
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

ACCURACY = Measure("accuracy", worst=0.0)
LOSS = Measure("loss", more_is_better=False)
SPREAD = Measure("activation spread", more_is_better=None)

FIRST = {0: 0.951, 1: 0.955, 2: 0.949, 3: 0.958, 4: 0.952}
SECOND = {0: 0.921, 1: 0.915, 2: 0.929, 3: 0.918, 4: 0.922}
RUNS: dict[str, dict[int, float | None]] = {"xavier": {**FIRST}, "normal": {**SECOND}}


def runs(**arms: list[float | None]) -> dict[str, dict[int, float | None]]:
    return {arm: dict(enumerate(values)) for arm, values in arms.items()}


def difference(
    first: str, second: str, of: dict[str, dict[int, float | None]], measure: Measure
) -> Difference:
    return statistics.difference(*(estimate(arm, of[arm], measure) for arm in (first, second)))


# Intervals


@pytest.mark.parametrize("level", [0.05, 0.2])
def test_the_interval_of_a_mean_is_students(level: float) -> None:
    found = estimate("xavier", FIRST, ACCURACY, level)
    values = list(FIRST.values())
    half = stats.t(4).isf(level / 2) * stdev(values) / math.sqrt(5)
    assert found.mean == pytest.approx(fmean(values))
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half))
    assert (found.interval, found.std) == ("t", pytest.approx(stdev(values)))


def test_the_interval_of_a_mean_by_the_bootstrap_is_near_the_t_interval_for_many_seeds() -> None:
    values = dict(enumerate(np.random.default_rng(3).normal(5, 1, 200)))
    t, bootstrap = (estimate("a", values, ACCURACY, interval=each) for each in ("t", "bootstrap"))  # type: ignore[arg-type]
    assert (bootstrap.low, bootstrap.high) == pytest.approx((t.low, t.high), abs=0.02)
    assert bootstrap.low != t.low
    assert "by bootstrap" in str(bootstrap)


def test_the_bootstrap_gives_the_same_numbers_each_time() -> None:
    first, second = (estimate("a", FIRST, ACCURACY, interval="bootstrap") for _ in range(2))
    assert first == second


def test_a_t_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    found = [estimate("a", dict(enumerate(rng.normal(2, 1, 5))), LOSS) for _ in range(400)]
    hits = sum(each.low <= 2 <= each.high for each in found)  # type: ignore[operator]
    assert stats.binomtest(hits, 400, 0.95).pvalue > 0.01


@pytest.mark.parametrize("values", [[], [0.3], [0.3] * 5, [0.1 + 0.2, 0.3, 0.3]])
def test_there_is_no_interval_without_a_spread(values: list[float]) -> None:
    found = estimate("a", dict(enumerate(values)), ACCURACY)
    assert (found.low, found.high, found.interval) == (None, None, "none")
    assert math.isnan(found.mean) if not values else found.mean == pytest.approx(0.3)


# Runs that gave no number


@pytest.mark.parametrize("nothing", [None, math.nan, math.inf, -math.inf])
def test_a_run_without_a_number_counts_as_the_worst_value(nothing: float | None) -> None:
    accuracy = estimate("a", {0: 0.9, 1: nothing, 2: 0.9}, ACCURACY)
    assert accuracy.values == (0.9, 0.0, 0.9)
    assert (accuracy.mean, accuracy.missing) == (pytest.approx(0.6), 1)
    loss = estimate("a", {0: 0.9, 1: nothing, 2: 0.8}, LOSS)
    assert (loss.mean, loss.median, loss.missing, loss.low) == (math.inf, 0.9, 1, None)


def test_where_no_value_is_worst_a_run_without_a_number_is_left_out_and_told() -> None:
    found = estimate("a", {0: 2.0, 1: None, 2: 3.0}, SPREAD)
    assert (found.seeds, found.mean, found.missing) == ((0, 2), 2.5, 1)
    assert str(found).endswith("Of a, 1 run gave no number and is left out.")


def test_one_diverged_run_in_a_bounded_measure_makes_a_difference_less_certain() -> None:
    whole = difference("xavier", "normal", RUNS, ACCURACY)
    holed = difference("xavier", "normal", {**RUNS, "normal": {**SECOND, 2: None}}, ACCURACY)
    assert holed.mean > whole.mean
    assert holed.p > 0.05 > whole.p


def test_one_diverged_run_in_an_unbounded_measure_refuses_the_t_test() -> None:
    found = difference("a", "b", runs(a=[0.3, 0.2, 0.4], b=[0.5, None, 0.6]), LOSS)
    assert (found.test.kind, found.mean, found.low, found.effect) == ("sign", math.inf, None, None)
    assert found.p == 0.25  # 2 * 0.5**3
    assert "by a sign test, since some runs gave no number" in str(found)


def test_two_diverged_runs_are_a_tie() -> None:
    found = difference("a", "b", runs(a=[None, 0.2, 0.4], b=[None, 0.5, 0.6]), LOSS)
    assert found.values == pytest.approx((0.0, 0.3, 0.2))
    both = difference("a", "b", runs(a=[None] * 3, b=[None] * 3), LOSS)
    assert (both.values, both.test.kind, both.p) == ((0.0,) * 3, "sign", 1.0)


def test_the_median_between_infinities_is_told_as_none() -> None:
    values = runs(a=[None, 0.1, None, 0.2], b=[0.1, None, 0.1, None])
    found = difference("a", "b", values, LOSS)
    assert math.isnan(found.mean)
    assert "medians none against none, better on 2 of 4 seeds and worse on 2" in str(found)


# Paired tests


def test_the_paired_test_is_scipys() -> None:
    found = difference("xavier", "normal", RUNS, ACCURACY)
    expected = stats.ttest_rel([*FIRST.values()], [*SECOND.values()])
    assert found.p == pytest.approx(expected.pvalue, rel=1e-12)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))


def test_pairing_takes_out_what_the_seeds_share() -> None:
    shared = [0.1, 0.9, 0.4, 0.7, 0.2]
    arms = runs(
        a=[x + d for x, d in zip(shared, [0.011, 0.009, 0.01, 0.012, 0.008], strict=True)],
        b=[*shared],
    )
    assert difference("a", "b", arms, ACCURACY).p < 0.001
    assert stats.ttest_ind([*arms["a"].values()], shared).pvalue > 0.9


def test_where_less_is_better_an_advantage_is_a_smaller_value() -> None:
    found = difference("a", "b", runs(a=[1.0, 1.1, 0.9], b=[2.0, 2.2, 2.1]), LOSS)
    assert found.mean == pytest.approx(1.1)
    assert found.in_words == "a is better than b in loss"
    assert (
        difference("b", "a", runs(a=[1.0, 1.1, 0.9], b=[2.0, 2.2, 2.1]), LOSS).in_words
        == "b is worse than a in loss"
    )
    higher = difference("b", "a", runs(a=[1.0, 1.1, 0.9], b=[2.0, 2.2, 2.1]), SPREAD)
    assert higher.in_words == "b is higher than a in activation spread"


def test_only_common_seeds_are_paired_and_the_sentence_says_which_are_not() -> None:
    arms = {
        "a": {0: 1.0, 1: 2.0, 2: 3.5, 9: 100.0},
        "b": {2: 3.0, 1: 1.1, 0: 0.4, 7: -50.0, 8: 0.0},
    }
    found = difference("a", "b", arms, Measure("score"))
    assert (found.first.seeds, found.second.seeds) == ((0, 1, 2), (0, 1, 2))
    assert found.values == pytest.approx((0.6, 0.9, 0.5))
    assert found.left_out == (7, 8, 9)
    assert str(found).endswith(
        "Seeds 7, 8 and 9 are left out, since not both arms have a value there."
    )


@pytest.mark.parametrize("seeds", [0, 1, 2])
def test_below_three_seeds_there_is_no_test(seeds: int) -> None:
    found = difference("a", "b", runs(a=[2.0, 2.5][:seeds], b=[1.0, 1.4][:seeds]), Measure("score"))
    assert (found.test.kind, found.p, found.corrected_effect) == ("none", 1.0, None)
    assert found.in_words == "a and b are not told apart by their score"


def test_two_seeds_have_an_interval() -> None:
    found = difference("a", "b", runs(a=[2.0, 2.5], b=[1.0, 1.4]), Measure("score"))
    # With one degree of freedom t is Cauchy's, whose quantile is a tangent: mean 1.05, error 0.05.
    half = 0.05 * math.tan(math.pi * 0.475)
    assert (found.low, found.high) == pytest.approx((1.05 - half, 1.05 + half))
    assert str(found).endswith("(95% interval 0.41 to 1.69, 2 seeds, too few for a test).")


@pytest.mark.parametrize("gap", [0.25, 0.0, 0.1])  # 0.1 leaves rounding
def test_differences_without_spread_are_no_certainty(gap: float) -> None:
    first = [0.5, 0.7, 0.6, 0.9, 0.8]
    found = difference("a", "b", runs(a=[*first], b=[x - gap for x in first]), ACCURACY)
    assert (found.test.kind, found.effect, found.low) == ("sign", None, None)
    assert found.p == (2 * 0.5**5 if gap else 1.0)
    assert "since all are equal" in str(found)


def test_all_values_equal_are_told_in_a_sentence() -> None:
    found = str(estimate("zeros", dict.fromkeys(range(5), 0.1), ACCURACY))
    assert found == "The accuracy of zeros is 0.1 on each of 5 seeds."


def test_a_tie_does_not_count_in_a_sign_test() -> None:
    found = against(0.5, [0.5, math.inf, 0.6, 0.7, 0.9])
    assert (found.above, found.below) == (4, 0)
    assert found.p == 2 * 0.5**4


# Effect sizes


def test_effect_sizes_are_cohens_and_hedges() -> None:
    found = difference("xavier", "normal", RUNS, ACCURACY)
    advantages = [FIRST[seed] - SECOND[seed] for seed in FIRST]
    assert found.effect == pytest.approx(fmean(advantages) / stdev(advantages))
    # J = gamma(df / 2) / (sqrt(df / 2) gamma((df - 1) / 2)), by hand for df = 4: 1 / (sqrt(2) sqrt(pi) / 2)
    assert found.corrected_effect == pytest.approx(found.effect * math.sqrt(2 / math.pi))
    assert found.corrected_effect == pytest.approx(found.effect * (1 - 3 / (4 * 4 - 1)), rel=0.01)


def test_hedges_correction_takes_the_bias_out() -> None:
    rng = np.random.default_rng(5)
    found = [
        difference(
            "a",
            "b",
            {"a": dict(enumerate(rng.normal(0.8, 1, 6))), "b": dict.fromkeys(range(6), 0.0)},
            Measure("score"),
        )
        for _ in range(1500)
    ]
    raw, corrected = (
        np.array([getattr(each, name) for each in found]) for name in ("effect", "corrected_effect")
    )
    error = corrected.std() / math.sqrt(len(corrected))
    assert abs(corrected.mean() - 0.8) < 3 * error < raw.mean() - 0.8


# Holm


def test_holms_correction_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_holms_correction_is_that_of_statsmodels() -> None:
    p_values = np.random.default_rng(6).beta(0.3, 1, 20).round(2)
    assert holm(list(p_values)) == pytest.approx(multipletests(p_values, method="holm")[1])


def test_all_pairs_are_compared_and_corrected_over_all() -> None:
    arms = {
        **RUNS,
        "he": {seed: value + 0.01 for seed, value in reversed(SECOND.items())},
        "one": {0: 0.9},
    }
    arms["he"][1] = 0.95
    found = compare(arms, ACCURACY)
    assert [each.arm for each in found.estimates] == [*arms]
    assert [(each.first.arm, each.second.arm) for each in found.differences] == [
        ("xavier", "normal"), ("xavier", "he"), ("xavier", "one"), ("normal", "he"), ("normal", "one"), ("he", "one"),
    ]  # fmt: skip
    raw = sorted((each.test.p, place) for place, each in enumerate(found.differences))
    largest = 0.0
    for rank, (p, place) in enumerate(raw):
        largest = max(largest, min(1.0, p * (len(raw) - rank)))
        assert found.differences[place].p == pytest.approx(largest)
    assert {each.tests for each in found.differences} == {6}


def test_the_sentence_of_a_difference() -> None:
    first = compare({**RUNS, "he": {**FIRST, 0: 0.91}}, ACCURACY).differences[0]
    assert str(first) == (
        "xavier is better than normal in accuracy: 0.953 against 0.921, a difference of 0.032 "
        "(95% interval 0.022 to 0.042, 5 seeds, p = 0.00308 after Holm's correction)."
    )
    other = compare({**RUNS, "he": {**FIRST, 0: 0.91}}, ACCURACY).differences[1]
    assert other.in_words == "xavier and he are not told apart by their accuracy"


# Seeds that would decide


@pytest.mark.parametrize("effect", [0.3, 0.5, 1.0, 2.5])
@pytest.mark.parametrize("level", [0.05, 0.01])
def test_the_seeds_that_decide_are_those_of_statsmodels(effect: float, level: float) -> None:
    values = np.array([-1.0, 1.0, 0.0])  # of standard deviation 1
    found = seeds_to_decide(values + effect, [0.0], level=level)
    expected = math.ceil(TTestPower().solve_power(effect, alpha=level, power=0.8))
    assert found == max(expected, 4)


def test_the_seeds_that_decide_do_decide() -> None:
    values = [0.3, 1.2, -0.9, 1.6]
    seeds = seeds_to_decide(values, [0.0])
    assert seeds is not None
    drawn = np.random.default_rng(2).normal(fmean(values), stdev(values), (1000, seeds))
    decided = sum(stats.ttest_1samp(drawn, 0.0, axis=1).pvalue <= 0.05)
    assert stats.binomtest(int(decided), 1000, 0.8).pvalue > 0.01


def test_the_seeds_that_decide_between_two_bounds_do_decide_both() -> None:
    values = [-1.0, 1.0, 0.1]
    seeds = seeds_to_decide(values, [-0.8, 0.8])
    assert seeds is not None
    drawn = np.random.default_rng(2).normal(fmean(values), stdev(values), (1000, seeds))
    low, high = (stats.ttest_1samp(drawn, bound, axis=1).pvalue for bound in (-0.8, 0.8))
    decided = sum((low <= 0.05) & (high <= 0.05))
    assert stats.binomtest(int(decided), 1000, 0.8).pvalue > 0.01


def test_the_seeds_that_decide_a_sign_test() -> None:
    assert seeds_to_decide([1.0] * 3, [0.0]) == 6  # 2 * 0.5**6 is the first below 0.05
    seeds = seeds_to_decide([math.inf, 1.0, 2.0, -1.0], [0.0])
    assert seeds is not None
    wins = np.random.default_rng(0).binomial(seeds, 0.75, 1000)
    decided = [stats.binomtest(int(won), seeds).pvalue <= 0.05 for won in wins]
    assert 0.78 < fmean(decided) < 0.86


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], None), ([1.0], None), ([-1.0, 1.0], 1001), ([1.0, -1.0, 1e-9], 1001), ([math.inf, -math.inf], 1001), ([0.0, 0.0], 1001)],
)  # fmt: skip
def test_nothing_or_more_than_1000_seeds(values: list[float], expected: int | None) -> None:
    assert seeds_to_decide(values, [0.0]) == expected


def test_one_seed_more_is_needed_at_least() -> None:
    assert seeds_to_decide([1.0, 1.0 + 1e-6, 1.0 - 1e-6], [0.0]) == 4


# Curves


def test_the_first_step_at_a_level() -> None:
    steps, values = [0, 5, 10, 15], [2.3, 1.0, 0.4, 0.6]
    assert reached(steps, values, 0.5, more_is_better=False) == 10
    assert reached(steps, values, 2.0) == 0
    assert reached(steps, values, 0.1, more_is_better=False) is None
    assert reached(steps, [0.1, math.nan, None, math.inf], 0.5) is None


def test_runs_that_never_reach_a_level_are_later_than_all_that_do() -> None:
    steps = Measure("steps to 0.9", more_is_better=False)
    found = difference("fast", "slow", runs(fast=[100, 200, 150], slow=[900, None, None]), steps)
    assert found.test.above == 3
    assert found.second.median == math.inf


def test_the_area_is_that_of_trapezoids() -> None:
    assert area([0, 10, 40], [1.0, 0.5, 0.5]) == pytest.approx((10 * 0.75 + 30 * 0.5) / 40)
    assert area([0, 10], [1.0, None]) is None
    assert area([3], [1.0]) is None


def test_a_band_counts_a_run_that_ended_as_the_worst() -> None:
    curves: dict[int, dict[int, Any]] = {0: {0: 0.1, 9: 0.8}, 1: {0: 0.2}, 2: {0: 0.3, 9: 0.9}}
    found = band("a", curves, ACCURACY)
    assert [(step, each.values) for step, each in found.items()] == [
        (0, (0.1, 0.2, 0.3)),
        (9, (0.8, 0.0, 0.9)),
    ]
    assert found[0].low == pytest.approx(0.2 - stats.t(2).isf(0.025) * 0.1 / math.sqrt(3))
    assert band("a", curves, LOSS)[9].low is None
