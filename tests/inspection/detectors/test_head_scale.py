"""A head of the wrong scale."""

from typing import Any

import pytest
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


def sequences(scale: float) -> nn.Module:
    model = nn.Sequential(nn.Embedding(50, 16), nn.Linear(16, 50))
    pyinit.initialize_(model, "auto", seed=0)
    with torch.no_grad():
        model[0].weight.normal_(generator=torch.Generator().manual_seed(0))
        model[1].weight.mul_(scale)
    return model


@pytest.mark.parametrize(
    "loss", [None, lambda out, y: functional.cross_entropy(out.flatten(0, 1), y.flatten())]
)
def test_the_classes_of_sequences_are_last(loss: Any) -> None:
    words = torch.arange(64).view(8, 8) % 50
    assert not pyinit.inspect(sequences(1), words, words.flip(0), loss).findings
    found = the("wrong-scale head", pyinit.inspect(sequences(10), words, words.flip(0), loss))
    assert "log(50)" in found.found


def test_other_losses_say_nothing_of_classes() -> None:
    model = deep(nn.Tanh, "auto", 3)
    report = pyinit.inspect(model, X, Y, lambda out, y: 100 + functional.cross_entropy(out, y))
    assert "wrong-scale head" not in kinds(report.findings)
