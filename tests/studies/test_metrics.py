"""What runs are compared by, on records whose numbers are known."""

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyinit.studies.metrics import LEVELS, METRICS, best_lrs, compared, metric
from pyinit.studies.records import Record


def record(**changes: Any) -> Record:
    fields: dict[str, Any] = {
        "arm": "he",
        "seed": 0,
        "factors": {},
        "lr": 0.1,
        "status": "finished",
    }
    return Record(**{**fields, **changes})


def epoch(
    step: int, accuracy: float | None, test_loss: float | None, train: float = 1.0
) -> dict[str, Any]:
    return {"epoch": 1, "step": step, "accuracy": accuracy, "test_loss": test_loss, "train_loss": train,
            "seconds": 1.0}  # fmt: skip


def layer(place: int, variance: float, step: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "step": step,
        "name": str(place),
        "place": place,
        "mean": 0.0,
        "variance": variance,
        **more,
    }


WHOLE = record(
    steps=[{"step": step, "loss": loss} for step, loss in ((0, 4.0), (1, 2.0), (3, 1.0))],
    epochs=[epoch(10, 0.5, 2.0, 3.0), epoch(20, 0.75, 0.5, 2.0), epoch(40, 0.7, 1.0, 1.5)],
    layers=[
        layer(1, 0.1, gradient_norm=2.0, dead=0.5, saturated=0.25, update_ratio=0.1),
        layer(0, 10.0, gradient_norm=0.02, dead=0.0, saturated=None, update_ratio=None),
        layer(2, 1.0, gradient_norm=None, dead=0.25, saturated=0.75, update_ratio=0.3),
        layer(0, 1e9, step=1, update_ratio=0.2),
    ],
    seconds=3.0,
    init_seconds=0.5,
)

EXPECTED = {
    "accuracy": 0.7,
    "best_accuracy": 0.75,
    "accuracy_area": (10 * 0.625 + 20 * 0.725) / 30,
    "first_accuracy": 0.5,
    "test_loss": 1.0,
    "best_test_loss": 0.5,
    "train_loss": 1.5,
    "first_train_loss": 3.0,
    "loss_area": (3.0 + 2 * 1.5) / 3,
    "first_loss": 4.0,
    "trains": 1.0,
    "finished": 1.0,
    "seconds": 3.0,
    "init_seconds": 0.5,
    "variance_spread": 2.0,
    "variance_growth": -1.0,
    "gradient_spread": 2.0,
    "gradient_growth": 2.0,
    "dead": 0.25,
    "saturated": 0.5,
    "activation_size": 4.5,
    "update_ratio": 0.2,
}


@pytest.mark.parametrize("name", METRICS)
def test_metrics_of_a_known_record(name: str) -> None:
    assert metric(name)(WHOLE) == pytest.approx(EXPECTED[name])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps_to_accuracy:0.7", 20), ("steps_to_accuracy:0.8", None),
        ("steps_to_test_loss:0.5", 20), ("steps_to_train_loss:2.5", 20),
    ],
)  # fmt: skip
def test_steps_to_a_level(name: str, value: float | None) -> None:
    found = metric(name)
    assert found(WHOLE) == value
    assert found.name == name
    assert not found.more_is_better


def test_a_failed_run_has_no_numbers_but_that_it_did_not_finish() -> None:
    failed = record(status="failed", error="what")
    found = {name: value for name, each in METRICS.items() if (value := each(failed)) is not None}
    assert found == {"finished": 0.0, "seconds": 0.0, "init_seconds": 0.0}


def test_what_is_not_finite_is_no_number() -> None:
    gone = record(
        status="diverged", epochs=[epoch(3, 0.1, math.nan)], steps=[{"step": 0, "loss": math.inf}]
    )
    assert metric("test_loss")(gone) is None
    assert metric("first_loss")(gone) is None
    assert metric("accuracy")(gone) == 0.1
    assert metric("trains")(gone) == 0.0
    rows: list[dict[str, Any]] = [
        {
            "step": 0,
            "place": i,
            "variance": value,
            "gradient_norm": value,
            "dead": 0.0,
            "saturated": None,
            "update_ratio": value,
        }
        for i, value in enumerate((1.0, math.nan, math.inf, 10.0))
    ]
    gone = replace(gone, layers=rows, epochs=[*gone.epochs, epoch(6, 0.2, 3.0)])
    again = Record.from_json(gone.to_json())
    assert [metric(name)(again) for name in METRICS] == [metric(name)(gone) for name in METRICS]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("accuracies", "there is no metric 'accuracies'; did you mean accuracy"),
        ("accuracy:0.5", "metric 'accuracy' takes no level"),
        ("steps_to_accuracy", "takes a level, as in steps_to_accuracy:0.5"),
        ("steps_to_accuracy:high", "takes a level"),
    ],
)
def test_an_unknown_metric_is_refused(name: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        metric(name)


def tried(arm: str, seed: int, lr: float, loss: float | None, accuracy: float = 0.5) -> Record:
    row = {"epoch": 1, "step": 9, "train_loss": loss, "test_loss": 1.0, "accuracy": accuracy}
    return record(arm=arm, seed=seed, lr=lr, epochs=[] if loss is None else [row])


def test_each_arm_is_compared_by_the_rate_with_the_least_training_loss() -> None:
    records = [
        tried("he", 0, 0.1, 0.2), tried("he", 1, 0.1, None), tried("he", 0, 0.2, 0.6), tried("he", 1, 0.2, 0.6),
        tried("xavier", 0, 0.1, 0.7), tried("xavier", 0, 0.2, 0.7),
    ]  # fmt: skip
    assert best_lrs(records) == {("he", ()): 0.2, ("xavier", ()): 0.1}  # a lost run is the worst
    assert compared(records) == [records[2], records[3], records[4]]
    gone = replace(tried("he", 1, 0.1, 0.2), status="diverged")
    assert best_lrs([records[0], gone, *records[2:4]]) == {("he", ()): 0.2}


def test_the_page_lists_every_metric() -> None:
    page = (Path(__file__).parents[2] / "docs/studies.md").read_text(encoding="utf-8")
    table = page.partition("## Metrics\n")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    listed = re.findall(r"`([a-z_]+)(?::[\d.]+)?`", " ".join(cells))
    assert sorted(listed) == sorted([*METRICS, *LEVELS])


def test_the_test_data_do_not_choose_a_rate() -> None:
    rng = np.random.default_rng(27)
    means = []
    for _ in range(200):
        records = [
            tried("he", seed, lr, rng.gamma(2), accuracy=rng.normal(0.5, 0.1))
            for lr in (0.1, 0.2, 0.4, 0.8)
            for seed in range(3)
        ]
        means += [each.epochs[-1]["accuracy"] for each in compared(records)]
    # The largest of four means of three would lie 0.06 above.
    assert abs(np.mean(means) - 0.5) < 3 * 0.1 / math.sqrt(len(means))
