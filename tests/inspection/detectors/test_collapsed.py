"""Samples that become alike."""

import pytest
import torch
from faults import X, Y, deep, kinds, the
from torch import Tensor, nn

import pyinit
from pyinit.inspection.detectors import collapsed


def test_large_biases_make_samples_alike() -> None:
    model = deep(nn.Tanh, "auto", 8)
    assert "collapsed samples" not in kinds(pyinit.inspect(model, X, Y).findings)
    with torch.no_grad():
        model[6].bias.copy_(100 * torch.randn(64, generator=torch.Generator().manual_seed(0)))
    found = the("collapsed samples", pyinit.inspect(model, X, Y))
    assert found.layer == "6"
    assert "with auto" in found.remedy


class Beside(nn.Module):
    """A residual branch whose outputs are nearly its bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.branch, self.last, self.head = (nn.Linear(64, 64) for _ in range(4))
        pyinit.initialize_(self, "lecun", seed=0)
        nn.init.normal_(self.branch.bias, 0, 100, generator=torch.Generator().manual_seed(0))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.head(self.last(x + 1e-2 * self.branch(x)))


def test_a_branch_that_others_go_beside_is_no_fault() -> None:
    report = pyinit.inspect(Beside(), X)
    assert report[1].forward.mean_cosine > 0.99
    assert "collapsed samples" not in kinds(report.findings)


def test_outputs_of_a_head_that_are_alike_are_no_fault() -> None:
    model = deep(nn.Tanh, "auto", 8)
    with torch.no_grad():
        model[-1].weight.mul_(1e-2)
        model[-1].bias.copy_(torch.linspace(-1, 1, 10))
    report = pyinit.inspect(model, X, Y)
    assert report[-1].forward.mean_cosine > 0.99
    assert "collapsed samples" not in kinds(report.findings)


def test_samples_that_are_alike_from_the_start_are_no_fault_of_the_network() -> None:
    model = deep(nn.Tanh, "auto", 8)
    findings = pyinit.inspect(model, X[:1] + 1e-3 * X, Y).findings
    assert "collapsed samples" not in kinds(findings)


def test_a_recipe_that_only_just_passes_is_no_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    model = deep(nn.Tanh, "auto", 8)
    with torch.no_grad():
        model[6].bias.copy_(100 * torch.randn(64, generator=torch.Generator().manual_seed(0)))
    assert "with auto" in the("collapsed samples", pyinit.inspect(model, X, Y)).remedy
    monkeypatch.setattr(collapsed, "_APART", 1e-3)  # so that none is far enough apart
    assert "it is there with auto" in the("collapsed samples", pyinit.inspect(model, X, Y)).remedy
