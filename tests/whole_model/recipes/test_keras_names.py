"""Keras's names: the distributions that Keras draws, by its own formulas."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import pyinit
from pyinit.initializers import Constant, Eye, Normal, Uniform, VarianceScaling, make
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
        (
            "HeUnifrom",
            {},
            "'HeUnifrom' is no initializer of Keras's that pyinit knows; did you mean HeUniform",
        ),
        ("HeUniform", {"scale": 2}, "Keras's HeUniform has no option 'scale'; it has none"),
        ("RandomNormal", {"std": 2}, "has no option 'std'; it has mean, stddev"),
        ("RandomNormal", {"stddev": "much"}, "Keras's RandomNormal"),
        ("STFT", {}, "'STFT' is no initializer of Keras's that pyinit knows"),
        ("HeUniform", {"seed": 3}, "Keras's HeUniform: seed must be None here, got 3"),
        ("VarianceScaling", {"input_axes": [0]}, r"input_axes must be None here, got \[0\]"),
        ("VarianceScaling", {"mode": "fan_geo_avg"}, "mode must be one of .*, got 'fan_geo_avg'"),
        ("VarianceScaling", {"distribution": "cauchy"}, "distribution must be one of"),
        ("VarianceScaling", {"scale": 0.0}, "scale must be positive"),
    ],
)
def test_what_keras_does_not_have_is_refused(name: str, options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        from_keras(name, **options)


CONFIG = {
    "module": "keras.initializers",
    "class_name": "VarianceScaling",
    "config": {
        "seed": None,
        "scale": 2.0,
        "mode": "fan_out",
        "distribution": "normal",
        "input_axes": None,
        "output_axes": None,
    },
    "registered_name": None,
}
HE_OUT = VarianceScaling(2.0, "fan_out", "truncated_normal")


def test_keras_normal_is_truncated_and_pyinits_is_not() -> None:
    assert from_keras("VarianceScaling", distribution="normal") == VarianceScaling()
    assert make("VarianceScaling", distribution="Normal") == VarianceScaling()
    assert make("variance_scaling", distribution="normal") == VarianceScaling(distribution="normal")


@pytest.mark.parametrize("name", ["he_uniform", "HeUniform"])
def test_rules_know_keras_names(name: str) -> None:
    he = VarianceScaling(2.0, "fan_in", "uniform")
    for rules in ({"weight": name}, [pyinit.Rule("weight", name)], {"weight": {"name": name}}):
        report = pyinit.initialize_(nn.Linear(4, 4), rules=rules, seed=0)
        assert report["weight"].initializer == he


def test_rules_and_recipes_take_what_keras_serializes() -> None:
    for given in (
        pyinit.initialize_(nn.Linear(4, 4), rules={"weight": CONFIG}, seed=0),
        pyinit.initialize_(nn.Linear(4, 4), rules=[{"name": "weight", "init": CONFIG}], seed=0),
        pyinit.initialize_(nn.Linear(4, 4), pyinit.recipe("keras", kernel=CONFIG), seed=0),
    ):
        assert given["weight"].initializer == HE_OUT


def test_a_file_of_rules_takes_keras_names_and_options(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(
        """
        [[rules]]
        name = "weight"
        init = "RandomNormal"
        stddev = 0.2
        [[rules]]
        name = "bias"
        init = "zeros"
        """
    )
    report = pyinit.initialize_(nn.Linear(4, 4), rules=path, seed=0)
    assert report["weight"].initializer == Normal(0.0, 0.2)
    assert report["bias"].initializer == Constant(0.0)


def test_a_name_that_pyinit_has_keeps_its_meaning() -> None:
    assert make("normal") == Normal(0.0, 1.0)
    assert make("uniform") == Uniform(0.0, 1.0)
    assert from_keras("normal") == Normal(0.0, 0.05)
    assert from_keras("uniform") == Uniform(-0.05, 0.05)


def test_the_names_of_compatibility() -> None:
    assert from_keras("OrthogonalInitializer") == from_keras("Orthogonal")
    assert from_keras("IdentityInitializer", gain=2.0) == Eye(2.0)


def test_an_identity_has_a_gain() -> None:
    layer = nn.Linear(3, 2)
    config = {"class_name": "IdentityInitializer", "config": {"gain": -2.0}}
    report = pyinit.initialize_(layer, rules={"weight": config}, seed=0)
    assert layer.weight.tolist() == [[-2.0, 0.0, 0.0], [0.0, -2.0, 0.0]]
    assert report["weight"].initializer == Eye(-2.0)
    with pytest.raises(ValueError, match="gain must be finite, got inf"):
        Eye(math.inf)


def test_a_misspelt_name_of_keras_is_near() -> None:
    with pytest.raises(
        ValueError, match="unknown initializer 'he_unifrom'; did you mean he_uniform"
    ):
        make("he_unifrom")


def test_a_config_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a name"):
        pyinit.initialize_(nn.Linear(2, 2), pyinit.recipe("keras", kernel={"gain": 2.0}), seed=0)
