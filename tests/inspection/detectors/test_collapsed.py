"""Samples that become alike."""

import torch
from faults import X, Y, deep, kinds, the
from torch import nn

import pyinit


def test_large_biases_make_samples_alike() -> None:
    model = deep(nn.Tanh, "auto", 8)
    assert "collapsed samples" not in kinds(pyinit.inspect(model, X, Y).findings)
    with torch.no_grad():
        model[6].bias.copy_(100 * torch.randn(64, generator=torch.Generator().manual_seed(0)))
    found = the("collapsed samples", pyinit.inspect(model, X, Y))
    assert found.layer == "6"
    assert "with auto" in found.remedy


def test_samples_that_are_alike_from_the_start_are_no_fault_of_the_network() -> None:
    model = deep(nn.Tanh, "auto", 8)
    findings = pyinit.inspect(model, X[:1] + 1e-3 * X, Y).findings
    assert "collapsed samples" not in kinds(findings)
