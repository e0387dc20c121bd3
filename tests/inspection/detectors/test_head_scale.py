"""A head of the wrong scale."""

import torch
from faults import X, Y, deep, kinds, the
from torch import nn
from torch.nn import functional

import pyinit


def test_a_head_that_is_too_large_is_found_by_the_loss() -> None:
    model = deep(nn.Tanh, "auto", 3)
    assert "wrong-scale head" not in kinds(pyinit.inspect(model, X, Y).findings)
    with torch.no_grad():
        model[-1].weight.mul_(10)
    found = the("wrong-scale head", pyinit.inspect(model, X, Y, functional.cross_entropy))
    assert found.layer == "6"
    assert "log(10) = 2.30" in found.found
    assert "with auto" in found.remedy


def test_other_losses_say_nothing_of_classes() -> None:
    model = deep(nn.Tanh, "auto", 3)
    report = pyinit.inspect(model, X, Y, lambda out, y: 100 + functional.cross_entropy(out, y))
    assert "wrong-scale head" not in kinds(report.findings)
