"""Layers whose weights get no gradient."""

import torch
from faults import X, Y, deep, kinds, the
from torch import Tensor, nn

import pyinit


class Detached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x).detach())


def test_a_layer_behind_a_detach_is_named() -> None:
    found = the("no gradient", pyinit.inspect(Detached(), X, Y))
    assert found.layer == "first"
    assert "nothing that can be differentiated" in found.why
    assert found.remedy == "it is there with auto, too"


def test_weights_of_zero_stop_gradients() -> None:
    model = deep(nn.Tanh, "auto", 4)
    assert "no gradient" not in kinds(pyinit.inspect(model, X, Y).findings)
    for layer in (2, 4):
        nn.init.zeros_(model[layer].weight)
    found = the("no gradient", pyinit.inspect(model, X, Y))
    assert found.layer == "0"
    assert found.remedy.endswith("all weights get one")


def test_a_head_of_zero_lets_gradients_through_after_a_step() -> None:
    model = deep(nn.Tanh, "auto", 4)
    nn.init.zeros_(model[-1].weight)
    assert "no gradient" not in kinds(pyinit.inspect(model, X, Y).findings)


def test_frozen_layers_are_no_fault() -> None:
    model = deep(nn.Tanh, "auto", 4)
    model[0].requires_grad_(False)
    report = pyinit.inspect(model, X, Y)
    assert "no gradient" not in kinds(report.findings)
    assert report.frozen == ("0.weight", "0.bias")
    with torch.no_grad():
        assert "no gradient" not in kinds(pyinit.inspect(model, X, Y).findings)
