"""Signals and gradients that vanish or explode: where, how fast, why, and what helps."""

import pytest
import torch
from faults import X, Y, deep, kinds, numbers, the
from torch import Tensor, nn

import pyinit
from pyinit.inspection.detectors.trend import greatest_fall, theil_sen

TRENDS = {"vanishing signal", "exploding signal", "vanishing gradient", "exploding gradient"}


@pytest.mark.parametrize(
    ("activation", "recipe"), [(nn.Tanh, "torch"), (nn.ReLU, "torch"), (nn.Sigmoid, "torch")]
)
def test_a_signal_and_its_gradient_vanish(activation: type[nn.Module], recipe: str) -> None:
    report = pyinit.inspect(deep(activation, recipe), X, Y)
    found = the("vanishing signal", report)
    assert found.layer == "2"
    assert 0 < found.rate < 0.5
    gradient = the("vanishing gradient", report)
    assert 0 < gradient.rate < 0.5


@pytest.mark.parametrize(("activation", "recipe"), [(nn.Tanh, "auto"), (nn.ReLU, "kaiming")])
def test_a_well_initialized_network_has_no_trend(activation: type[nn.Module], recipe: str) -> None:
    report = pyinit.inspect(deep(activation, recipe), X, Y)
    assert not kinds(report.findings) & TRENDS


def linear(gain: float, depth: int = 12, width: int = 256) -> nn.Sequential:
    model = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(depth)))
    for i, layer in enumerate(model):
        nn.init.orthogonal_(layer.weight, gain, generator=torch.Generator().manual_seed(i))
    return model


@pytest.mark.parametrize("gain", [0.5, 3.0])
def test_the_rate_is_the_squared_gain(gain: float) -> None:
    report = pyinit.inspect(linear(gain), numbers(64, 256))
    does = "vanishing" if gain < 1 else "exploding"
    assert the(f"{does} signal", report).rate == pytest.approx(gain**2, rel=1e-3)
    assert the(f"{does} gradient", report).rate == pytest.approx(gain**2, rel=1e-3)


def test_the_first_layer_is_where_the_fall_begins() -> None:
    model = linear(1.0)
    with torch.no_grad():
        for i in range(5, 12):
            model[i].weight.mul_(0.3)
    found = the("vanishing signal", pyinit.inspect(model, numbers(64, 256)))
    assert (found.layer, found.until) == ("5", "11")
    assert found.rate == pytest.approx(0.09, rel=1e-3)


def test_the_words_name_activation_initializer_and_a_remedy_that_was_tried() -> None:
    report = pyinit.inspect(deep(nn.Tanh, "auto"), X, Y, recipes="torch", seed=0)
    found = the("vanishing signal", report)
    assert "variance over the samples falls by a factor of 0.33 a layer from `2` on" in str(found)
    assert "tanh behind kaiming_uniform(a=2.236)" in str(found)
    assert "with auto (" in found.remedy
    assert ") the factor is " in found.remedy
    assert float(found.remedy.rpartition(" ")[2]) == pytest.approx(0.93, abs=0.1)


def test_of_weights_as_they_are_the_words_tell_the_gain() -> None:
    model = deep(nn.Tanh, "torch")
    found = the("vanishing signal", pyinit.inspect(model, X, Y))
    assert "weights of gain 0.5" in found.why
    assert "tanh wants 1.67" in found.why


class Residual(nn.Module):
    """Branches that end in a weight of 0."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.ModuleList(nn.Linear(64, 64) for _ in range(8))
        self.last = nn.ModuleList(nn.Linear(64, 64) for _ in range(8))
        for layer in self.last:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        for first, last in zip(self.first, self.last, strict=True):
            x = x + last(first(x).relu())
        return self.head(x)


def test_branches_that_end_in_zero_are_no_fault() -> None:
    assert kinds(pyinit.inspect(Residual(), X, Y).findings) == set()


@pytest.mark.parametrize("factor", [1e-3, 1e4])
def test_the_scale_of_a_head_is_no_trend(factor: float) -> None:
    model = linear(0.7, 5) if factor < 1 else linear(1.4, 5)
    model.append(nn.Linear(256, 10))
    with torch.no_grad():
        model[-1].weight.mul_(factor)
    assert "signal" not in "".join(kinds(pyinit.inspect(model, numbers(64, 256)).findings))


def test_what_auto_does_behind_sigmoids_is_told_as_their_remedy() -> None:
    report = pyinit.inspect(deep(nn.Sigmoid, "torch", 8), X, Y)
    found = the("vanishing signal", report)
    assert "sigmoid (slope at most 1/4, mean 1/2)" in found.why
    assert found.remedy.startswith("with auto (centred(initializer=kaiming_normal(")
    assert float(found.remedy.rpartition(" ")[2]) == pytest.approx(0.96, abs=0.1)


class Tenth(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / 10


def test_a_recipe_that_leaves_other_faults_is_told_with_them() -> None:
    found = the("vanishing signal", pyinit.inspect(deep(Tenth, "torch", 8), X, Y))
    assert found.remedy == "it is there with auto, orthogonal and kaiming, too"
    model = deep(Tenth, "torch", 30)
    with torch.no_grad():
        for layer in model[::2]:
            layer.weight.mul_(0.1)
    gone = the("no gradient", pyinit.inspect(model, X, Y))
    assert "smaller than the dtype's least number" in gone.why
    assert "all weights get one, but it shows vanishing signal" in gone.remedy


def test_a_trend_does_not_see_single_outliers() -> None:
    assert greatest_fall([1.0, 1.0, 1e-9, 1.0, 1.0, 1e-9], 1e-3) is None
    fall = greatest_fall([1.0, 1.0, 1.0, 0.1, 0.01, 5.0, 1e-4, 1e-5, 1e-6, 1e-7], 1e-3)
    assert fall is not None
    assert theil_sen([0.0, 1.0, 2.0, 3.0, 90.0, 5.0, 6.0]) == 1.0


@pytest.mark.parametrize("length", range(5))
def test_a_short_network_has_no_trend(length: int) -> None:
    assert greatest_fall([10.0**-i for i in range(length)], 1e-6) is None
