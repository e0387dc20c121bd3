"""Units with the same weights."""

import torch
from faults import X, Y, deep, kinds, the
from torch import nn

import pyinit


def test_a_constant_weight_makes_units_the_same() -> None:
    model = deep(nn.Tanh, "auto", 4)
    assert "symmetric units" not in kinds(pyinit.inspect(model, X, Y).findings)
    nn.init.constant_(model[2].weight, 0.1)
    found = the("symmetric units", pyinit.inspect(model, X, Y))
    assert found.layer == "2"
    assert "64 of the 64 units" in found.found
    assert found.remedy.endswith("there are none")


def test_two_equal_rows_are_found() -> None:
    model = deep(nn.Tanh, "auto", 4)
    with torch.no_grad():
        model[4].weight[9] = model[4].weight[50]
    found = the("symmetric units", pyinit.inspect(model, X, Y))
    assert "2 of the 64 units of `4`" in found.found


def test_depthwise_filters_may_be_the_same() -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(), nn.Flatten())
    nn.init.constant_(model[0].weight, 1 / 9)
    assert "symmetric units" not in kinds(pyinit.inspect(model, torch.randn(8, 8, 5, 5)).findings)
