"""Keras's names: the distributions that Keras draws, by its own formulas."""

import math
from typing import Any

import pytest
import torch
from torch import nn

import pyinit
from pyinit.initializers.keras_names import KERAS_NAMES, from_keras, is_keras_name

FAN_IN, FAN_OUT = 300, 500
# The standard deviation, and the largest value, of Keras 3's classes for a kernel with these fans.
TRUNCATED = 0.87962566103423978  # the standard deviation of a normal number cut at two of them


def scaled(variance: float, distribution: str) -> tuple[float, float]:
    std = math.sqrt(variance)
    return std, {"uniform": math.sqrt(3) * std, "truncated": 2 * std / TRUNCATED}[distribution]


AVERAGE = (FAN_IN + FAN_OUT) / 2
EXPECTED: dict[str, tuple[float, float]] = {
    "GlorotUniform": scaled(1 / AVERAGE, "uniform"),
    "GlorotNormal": scaled(1 / AVERAGE, "truncated"),
    "HeUniform": scaled(2 / FAN_IN, "uniform"),
    "HeNormal": scaled(2 / FAN_IN, "truncated"),
    "LecunUniform": scaled(1 / FAN_IN, "uniform"),
    "LecunNormal": scaled(1 / FAN_IN, "truncated"),
    "VarianceScaling": scaled(1 / FAN_IN, "truncated"),
    "RandomUniform": (0.05 / math.sqrt(3), 0.05),
    "RandomNormal": (0.05, math.inf),
    "TruncatedNormal": (0.05 * TRUNCATED, 0.1),
    "Zeros": (0.0, 0.0),
    "Ones": (0.0, 1.0),
    "Constant": (0.0, 0.0),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_kernel_has_keras_distribution(name: str) -> None:
    layer = nn.Linear(FAN_IN, FAN_OUT)
    pyinit.initialize_(layer, pyinit.recipe("keras", kernel=name), seed=0)
    std, largest = EXPECTED[name]
    weight = layer.weight.detach().double()
    assert weight.std().item() == pytest.approx(std, rel=0.01, abs=1e-12)
    assert weight.abs().max().item() <= largest * (1 + 1e-6)
    if 0 < largest < math.inf:
        assert weight.abs().max().item() > largest * 0.99
    assert layer.bias.abs().max() == 0


def test_an_orthogonal_kernel_and_the_identity() -> None:
    conv = nn.Conv2d(8, 16, 3)
    kernel: dict[str, Any] = {"name": "Orthogonal", "gain": 2.0}
    pyinit.initialize_(conv, pyinit.recipe("keras", kernel=kernel), seed=0)
    rows = conv.weight.detach().flatten(1)
    assert torch.allclose(rows @ rows.T, 4 * torch.eye(16), atol=1e-5)
    layer = nn.Linear(5, 5)
    pyinit.initialize_(layer, pyinit.recipe("keras", kernel="Identity"), seed=0)
    assert torch.equal(layer.weight, torch.eye(5))


def test_groups_do_not_count_as_in_keras() -> None:
    conv = nn.Conv2d(64, 64, 3, groups=64)
    pyinit.initialize_(conv, pyinit.recipe("keras", kernel="HeUniform"), seed=0)
    assert conv.weight.abs().max().item() == pytest.approx(math.sqrt(6 / 9), rel=0.01)


def test_names_with_underscores_are_the_same() -> None:
    assert from_keras("he_uniform") == from_keras("HeUniform")
    assert from_keras("random_normal", stddev=0.2) == from_keras("RandomNormal", stddev=0.2)
    assert all(map(is_keras_name, KERAS_NAMES))
    assert not is_keras_name("heuniform")


def test_glorot_uniform_is_the_default() -> None:
    layers = [nn.Linear(7, 5) for _ in range(2)]
    for layer, recipe in zip(
        layers, ("keras", pyinit.recipe("keras", kernel="GlorotUniform")), strict=True
    ):
        pyinit.initialize_(layer, recipe, seed=3)
    assert torch.equal(layers[0].weight, layers[1].weight)


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("HeUnifrom", {}, "Keras has no initializer 'HeUnifrom'; did you mean HeUniform"),
        ("HeUniform", {"scale": 2}, "Keras's HeUniform has no option 'scale'; it has none"),
        ("RandomNormal", {"std": 2}, "has no option 'std'; it has mean, stddev"),
        ("RandomNormal", {"stddev": "much"}, "Keras's RandomNormal"),
    ],
)
def test_what_keras_does_not_have_is_refused(name: str, options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        from_keras(name, **options)
