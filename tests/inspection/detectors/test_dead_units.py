"""Units that are 0 for every sample."""

import pytest
import torch
from faults import X, Y, deep, kinds, the
from torch import nn

import pyinit


def test_a_large_negative_bias_kills_units() -> None:
    model = deep(nn.ReLU, "kaiming", 4)
    assert "dead units" not in kinds(pyinit.inspect(model, X, Y).findings)
    with torch.no_grad():
        model[2].bias.fill_(-20)
    found = the("dead units", pyinit.inspect(model, X, Y))
    assert found.layer == "3"
    assert "100%" in found.found
    assert "mean -20" in found.why
    assert "with auto it is" in found.remedy


@pytest.mark.parametrize(("layer", "words"), [(6, ""), (4, "1 other"), (2, "2 others")])
def test_others_are_counted_in_words(layer: int, words: str) -> None:
    model = deep(nn.ReLU, "kaiming", 4)
    with torch.no_grad():
        model[layer].bias.fill_(-20)  # and nothing comes into those behind
    found = the("dead units", pyinit.inspect(model, X, Y)).found
    assert found.endswith(f", and most of those of {words}" if words else "whole batch")


def test_of_few_samples_nothing_is_said() -> None:
    model = deep(nn.ReLU, "kaiming", 4)
    with torch.no_grad():
        model[2].bias.fill_(-20)
    assert "dead units" not in kinds(pyinit.inspect(model, X[:4], Y[:4]).findings)
