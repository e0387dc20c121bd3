"""From records to numbers: which runs count, as what, and over which factors."""

import math
from typing import Any

import pytest

from pyinit.studies import Claim
from pyinit.studies.evidence import measure_of, runs_of, verdicts_of
from pyinit.studies.metrics import METRICS
from pyinit.studies.records import Record


def record(
    arm: str, seed: int, accuracy: float | None, status: str = "finished", **factors: Any
) -> Record:
    row = {
        "epoch": 1,
        "step": 9,
        "train_loss": 1.0,
        "test_loss": 2.0,
        "accuracy": accuracy,
        "seconds": 1.0,
    }
    steps = [{"step": 0, "loss": 2.3}]
    return Record(arm, seed, factors, 0.1, status, epochs=[row], steps=steps, seconds=1.0)


def test_every_metric_of_which_more_is_better_has_a_worst_value() -> None:
    assert {name for name, each in METRICS.items() if each.more_is_better} == {
        name for name, each in METRICS.items() if each.worst is not None
    }


def test_a_metric_is_measured_run_by_run() -> None:
    records = [record("a", 0, 0.9), record("a", 1, 0.8), record("b", 1, 0.7)]
    assert runs_of(records, "accuracy") == {"a": {0: 0.9, 1: 0.8}, "b": {1: 0.7}}
    assert runs_of(records, "steps_to_accuracy:0.85") == {"a": {0: 9.0, 1: None}, "b": {1: None}}


@pytest.mark.parametrize(
    "name", ["accuracy", "best_accuracy", "steps_to_accuracy:0.5", "seconds", "test_loss"]
)
def test_what_a_run_had_reached_before_it_diverged_does_not_count(name: str) -> None:
    assert runs_of([record("a", 0, 0.9, "diverged")], name) == {"a": {0: None}}


def test_the_start_of_a_run_that_diverged_counts() -> None:
    records = [record("a", 0, 0.9, "diverged")]
    assert runs_of(records, "first_loss") == {"a": {0: 2.3}}
    assert runs_of(records, "finished") == {"a": {0: 0.0}}


def test_runs_that_failed_are_left_out_and_their_arm_is_not() -> None:
    records = [record("a", 0, None, "failed"), record("b", 0, 0.5)]
    assert runs_of(records, "finished") == {"a": {}, "b": {0: 1.0}}
    (verdict,) = verdicts_of([Claim("accuracy", better="a", than="b")], records)
    assert "Seed 0 is left out, since not both arms have a value there." in str(verdict)


def test_factors_that_are_not_named_are_averaged_where_a_seed_has_all_of_them() -> None:
    records = [
        record("a", 0, 0.9, depth=10),
        record("a", 0, 0.5, depth=30),
        record("a", 1, 0.9, depth=10),
    ]
    assert runs_of(records, "accuracy") == {"a": {0: pytest.approx(0.7)}}
    assert runs_of(records, "accuracy", {"depth": 10}) == {"a": {0: 0.9, 1: 0.9}}
    assert runs_of(records, "accuracy", {"depth": 99}) == {}


def test_a_mean_over_factors_takes_the_worst_for_a_run_that_diverged() -> None:
    records = [record("a", 0, 0.9, depth=10), record("a", 0, 0.5, "diverged", depth=30)]
    assert runs_of(records, "accuracy") == {"a": {0: 0.45}}
    assert runs_of(records, "test_loss") == {"a": {0: math.inf}}


def test_claims_are_judged_where_they_are_made() -> None:
    records = [
        record(arm, seed, value + 0.001 * ((7 * seed) % 5), depth=depth)
        for seed in range(5)
        for arm, depth, value in [("a", 10, 0.9), ("b", 10, 0.9), ("a", 30, 0.9), ("b", 30, 0.5 - seed / 100)]
    ]  # fmt: skip
    claims = [Claim("accuracy", better="a", than="b", where={"depth": depth}) for depth in (10, 30)]
    shallow, deep = verdicts_of(claims, records)
    assert (shallow.outcome, deep.outcome) == ("undecided", "held")
    assert deep.in_words == "a is better than b in accuracy where depth = 30"


def test_a_change_is_judged_between_the_two_places() -> None:
    records = [
        record("a", seed, value + 0.001 * ((7 * seed) % 5), depth=depth, norm=norm)
        for seed in range(5)
        for depth, norm, value in [(10, False, 0.9), (30, False, 0.6), (10, True, 0.9), (30, True, 0.9 - seed / 1000)]
    ]  # fmt: skip
    place: Any = {"where": {"depth": 30, "norm": False}, "versus": {"depth": 10}}
    falls = Claim("accuracy", arm="a", below=-0.1, **place)
    small = Claim(
        "accuracy", arm="a", above=-0.1, where={"depth": 30, "norm": True}, versus={"depth": 10}
    )
    every = Claim("accuracy", arm="a", below=-0.1, where={"depth": 30}, versus={"depth": 10})
    found = verdicts_of([falls, small, every], records)
    assert [each.outcome for each in found] == ["undecided", "held", "held"]
    assert found[0].test.kind == "sign"  # all changes are -0.3
    assert found[2].evidence.mean == pytest.approx(-0.151)


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(ValueError, match="accuracy"):
        measure_of("accurate")
