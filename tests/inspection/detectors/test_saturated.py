"""Activations that saturate."""

import pytest
import torch
from faults import X, Y, deep, kinds, the
from torch import nn

import pyinit


@pytest.mark.parametrize("activation", [nn.Tanh, nn.Sigmoid, nn.Hardtanh])
def test_weights_that_are_too_large_saturate(activation: type[nn.Module]) -> None:
    model = deep(activation, "xavier", 5)
    clean = pyinit.inspect(model, X, Y)
    assert "saturated" not in kinds(clean.findings)
    with torch.no_grad():
        model[4].weight.mul_(100)
    found = the("saturated", pyinit.inspect(model, X, Y))
    assert found.layer == "5"
    assert "std" in found.why
    assert "with auto it is" in found.remedy
