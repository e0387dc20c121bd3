"""NaN and infinity: which layer makes them."""

import torch
from faults import X, Y, deep, kinds, the
from torch import Tensor, nn

import pyinit


class Logarithm(nn.Module):
    """A function of no layer that makes NaN."""

    def forward(self, x: Tensor) -> Tensor:
        return x.log()


class Root(nn.Module):
    """A function whose gradient at 0 is infinite."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * 0).abs().sqrt() + x


def test_the_first_layer_is_named_and_its_weight_blamed() -> None:
    model = deep(nn.Tanh, "auto", 4)
    with torch.no_grad():
        model[4].weight[3, 7] = torch.nan
    found = the("not finite", pyinit.inspect(model, X, Y))
    assert found.layer == "4"
    assert "1 element of 4.weight is itself" in found.why
    assert found.remedy == "with auto (xavier_normal(gain=1.667)) all is finite"


def test_a_function_between_layers_is_blamed() -> None:
    model = nn.Sequential(nn.Linear(64, 8), Logarithm(), nn.Linear(8, 2))
    found = the("not finite", pyinit.inspect(model, X))
    assert found.layer == "2"
    assert "between `0` and it" in found.why


def test_a_layer_that_overflows_is_blamed() -> None:
    model = deep(nn.Tanh, "auto", 2)
    with torch.no_grad():
        model[2].weight.fill_(3e38)
    found = the("not finite", pyinit.inspect(model, X))
    assert found.layer == "2"
    assert "overflows" in found.why


def test_a_gradient_that_is_not_finite_is_found_on_its_way_back() -> None:
    model = nn.Sequential(nn.Linear(64, 8), nn.Linear(8, 8), Root(), nn.Linear(8, 2))
    found = the("not finite", pyinit.inspect(model, X))
    assert found.layer == "1"
    assert "gradient" in found.found


def test_a_finite_network_is_clean() -> None:
    assert "not finite" not in kinds(pyinit.inspect(deep(nn.Tanh, "auto"), X, Y).findings)
