"""The studies of the articles: each can be loaded, fits its data, and trains; the formulas are what they say."""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pyinit.studies import Study, Training, printed
from pyinit.studies.data import data_of
from pyinit.studies.models.cnn import keras_cnn, mnist_cnn, simple_cnn, transfer_cnn
from pyinit.studies.models.deep import deep
from pyinit.studies.models.fixup import residual
from pyinit.studies.models.lenet import lenet
from pyinit.studies.models.residual import zero_residual
from pyinit.studies.perform import built, check
from pyinit.whole_model.initialize import initialize_

NAMES = (
    "mnist-cnn",
    "simple-cnn",
    "lenet-consistency",
    "consistency-ablation",
    "keras-cnn",
    "activation-grid",
    "residual",
    "transfer",
    "printed-formulas",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_study_is_the_same_after_a_round_trip_through_toml(name: str, tmp_path: Path) -> None:
    study = Study.load(name)
    path = tmp_path / "study.toml"
    path.write_text(study.to_toml(), encoding="utf-8")
    assert Study.load(path) == study
    assert study.question.endswith("?")
    assert study.claims
    assert study.seeds == 5


@pytest.mark.parametrize("name", NAMES)
def test_a_study_has_a_full_size(name: str) -> None:
    full = Study.load(name).full_size()
    factors = {factor: values[-1] for factor, values in full.factors.items()}
    assert isinstance(built(full, factors, 0), nn.Module)


@pytest.mark.parametrize("name", NAMES)
def test_every_arm_of_a_study_trains_on_its_data(name: str) -> None:
    study = Study.load(name)
    check(study)
    some = data_of(study.data).training.batch(100, seed=0)
    ends = {factor: values[-1:] for factor, values in study.factors.items() if factor != "data"}
    short = replace(
        study,
        data=(some.inputs, some.target),
        seeds=1,
        steps=2,
        epochs=None,
        factors=ends,
        claims=(),
        track=False,
    )
    records = short.run(jobs=1).records
    assert {record.arm for record in records} == {*study.arms}
    assert all(record.status != "failed" for record in records), [r.error for r in records]
    assert all(math.isfinite(record.steps[0]["loss"]) for record in records)


def unlike_(model: nn.Module, _: object, seed: int) -> None:
    """Fail if the model has the weights that its own seed gives."""
    again = initialized(transfer_cnn(1, 8), seed)
    assert not torch.allclose(model.head.weight, again.head.weight, atol=1e-3)  # type: ignore[union-attr, operator]


def initialized(model: nn.Module, seed: int) -> nn.Module:
    initialize_(model, "kaiming", seed=seed)
    return model


def test_a_new_head_is_not_the_one_that_the_pretrained_features_grew_on() -> None:
    arm = [{"pretrained": True, "arm": "kaiming", "steps": 1}, {"function": unlike_}]
    study = Study(
        model=partial(transfer_cnn, 1, 8),
        data="digits",
        arms={"pretrained": arm},
        seeds=1,
        steps=1,
        training=Training(lr=1e-9),
    )
    (record,) = study.run(jobs=1).records
    assert record.status == "finished", record.error


def parameters(model: nn.Module) -> int:
    return sum(each.numel() for each in model.parameters())


@pytest.mark.parametrize(
    ("model", "shape", "count"),
    [
        (mnist_cnn(), (1, 28, 28), 320 + 18_496 + 9216 * 128 + 128 + 1290),
        (simple_cnn(), (1, 28, 28), 160 + 16 * 14 * 14 * 10 + 10),
        (simple_cnn(3, 32), (3, 32, 32), 448 + 16 * 16 * 16 * 10 + 10),
        (keras_cnn(), (1, 28, 28), 320 + 18_496 + 16_010),
        (transfer_cnn(), (3, 32, 32), 448 + 4640 + 2048 * 64 + 64 + 650),
        (lenet(), (3, 32, 32), 456 + 2416 + 48_120 + 10_164 + 850),
        (lenet(5, batch_norm=True), (3, 32, 32), 62_006 + 2 * 2320 + 2 * (6 + 16 + 120 + 32)),
        (deep("mlp", 4), (1, 8, 8), 6500 + 2 * 10_100 + 1010),
    ],
)
def test_networks_are_those_that_the_articles_describe(
    model: nn.Module, shape: tuple[int, ...], count: int
) -> None:
    assert parameters(model) == count
    assert model(torch.zeros(2, *shape)).shape == (2, 10)


def test_a_lenet_has_three_convolutions_at_least() -> None:
    with pytest.raises(ValueError, match="depth must be at least 3, got 2"):
        lenet(2)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_branches_that_start_at_zero_leave_blocks_an_identity(batch_norm: bool) -> None:
    model = residual(depth=6, width=4, batch_norm=batch_norm)
    zero_residual(model, None, 0)
    x = torch.rand(3, 4, 5, 5)
    assert torch.equal(model.blocks[0](x), x)


FORMULAS: list[tuple[Any, Any]] = [
    (printed.he_printed, lambda inputs, _: 2 / math.sqrt(inputs)),
    (printed.xavier_normal, lambda inputs, outputs: math.sqrt(2 / (inputs + outputs))),
    (printed.xavier_as_std, lambda inputs, _: 1 / math.sqrt(inputs)),
    (printed.xavier_as_variance, lambda inputs, _: (1 / math.sqrt(inputs)) ** 0.5),
    (printed.xavier_uniform_printed, lambda inputs, outputs: math.sqrt(2 / (inputs + outputs))),
]


@pytest.mark.parametrize(("fill", "std"), FORMULAS, ids=lambda each: getattr(each, "__name__", ""))
@pytest.mark.parametrize(
    ("layer", "inputs", "outputs"),
    [(nn.Linear(300, 500), 300, 500), (nn.Conv2d(40, 60, 3), 360, 540)],
)
def test_printed_formulas_have_the_spread_that_they_print(
    fill: Any, std: Any, layer: nn.Module, inputs: int, outputs: int
) -> None:
    fill(layer, None, 0)
    weight, bias = (each.detach() for each in layer.parameters())
    closed = std(inputs, outputs)
    # Of n normal numbers, the standard deviation is off by one part in sqrt(2n); five times that.
    assert float(weight.std()) == pytest.approx(closed, rel=5 / math.sqrt(2 * weight.numel()))
    assert float(weight.mean()) == pytest.approx(0, abs=5 * closed / math.sqrt(weight.numel()))
    assert not bias.any()


def test_the_printed_uniform_distribution_fills_its_interval() -> None:
    layer = nn.Linear(300, 500)
    printed.xavier_uniform_printed(layer, None, 0)
    bound = math.sqrt(6 / 800)
    assert 0.999 * bound < float(layer.weight.detach().abs().max()) <= bound


def test_formulas_are_drawn_from_the_seed() -> None:
    first, same, other = (nn.Linear(5, 5) for _ in range(3))
    for layer, seed in ((first, 1), (same, 1), (other, 2)):
        printed.he_printed(layer, None, seed)
    assert torch.equal(first.weight, same.weight)
    assert not torch.equal(first.weight, other.weight)
