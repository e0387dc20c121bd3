"""What is recorded of layers, and that recording changes nothing."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from study_parts import mlp
from torch import nn

import pyinit
from pyinit.datasets import load
from pyinit.studies import Study, Training
from pyinit.studies.perform import perform
from pyinit.studies.runs import runs_of
from pyinit.studies.tracking import is_recorded
from pyinit.studies.train import batches, seed_of


def record_of(**changes: Any) -> Any:
    fields: dict[str, Any] = {"seeds": 1, "steps": 30, **changes}
    study = Study(model=mlp, data="digits", arms={"he": "kaiming"}, **fields)
    (record,) = perform(study, runs_of(study))
    assert record.error is None
    return record


def test_tracking_changes_no_bit_of_training() -> None:
    tracked, plain = (record_of(track=track) for track in (True, False))
    assert tracked.steps == plain.steps
    assert [row["test_loss"] for row in tracked.epochs] == [
        row["test_loss"] for row in plain.epochs
    ]
    assert not plain.layers


def test_powers_of_ten_and_ends_are_recorded() -> None:
    assert [step for step in range(10001) if is_recorded(step)] == [0, 1, 10, 100, 1000, 10000]
    steps = sorted({row["step"] for row in record_of(steps=150).layers})
    assert steps == [0, 1, 10, 100, 149]  # epochs of 22 steps end soon after a recorded one
    steps = sorted(
        {row["step"] for row in record_of(steps=400, training=Training(batch_size=16)).layers}
    )
    assert steps == [0, 1, 10, 100, 266, 399]  # an epoch has 89 steps


def test_numbers_are_those_of_the_layers() -> None:
    record = record_of()
    model = mlp()
    pyinit.initialize_(model, "kaiming", seed=0)
    training, _ = load("digits").split()
    some = next(batches(len(training.inputs), 64, 0))
    torch.manual_seed(seed_of("training", 0))
    hidden = model[1](model[0](training.inputs[some]))
    squashed = model[2](hidden)
    loss = nn.functional.cross_entropy(model[4](model[3](squashed)), training.target[some])
    loss.backward()
    rows = [row for row in record.layers if row["step"] == 0]
    assert [row["name"] for row in rows] == ["1", "2", "4"]
    assert [row["place"] for row in rows] == [0, 1, 2]
    first, activation, _ = rows
    assert first["variance"] == pytest.approx(hidden.var(correction=0).item(), rel=1e-4)
    total = hidden.var(0, correction=0).sum().item()
    assert first["total_variance"] == pytest.approx(total, rel=1e-4)
    norms = [each.grad.norm().item() for each in model[1].parameters()]
    assert first["gradient_norm"] == pytest.approx(sum(n * n for n in norms) ** 0.5, rel=1e-4)
    saturated = (squashed.abs() >= 0.96).float().mean().item()
    assert activation["saturated"] == pytest.approx(saturated, abs=1e-3)
    assert saturated > 0
    assert first["saturated"] is None
    assert first["update_ratio"] > 0


def test_hooks_are_gone_after_training() -> None:
    models = []
    study = Study(
        model=mlp,
        data="digits",
        arms={"noting": models.append},
        seeds=1,
        steps=5,
    )
    for run in runs_of(replace(study)):
        perform(study, [run])
    assert not any(each._forward_hooks for model in models for each in model.modules())
