"""Steps that are far too long or too short."""

from functools import partial

import pytest
import torch
from faults import X, Y, deep, kinds
from torch import nn

import pyinit


@pytest.mark.parametrize(
    ("lr", "expected"), [(0.3, "long"), (1e30, "long"), (1e-3, ""), (1e-7, "short")]
)
def test_the_learning_rate_shows_in_the_updates(lr: float, expected: str) -> None:
    model = deep(nn.Tanh, "auto", 3)
    report = pyinit.inspect(model, X, Y, steps=3, optimizer=partial(torch.optim.Adam, lr=lr))
    assert kinds(report.findings) & {"long updates", "short updates"} == (
        {f"{expected} updates"} if expected else set()
    )
    for finding in report.findings:
        if expected and finding.kind == f"{expected} updates":
            assert finding.layer == "0"
            assert "3 others" in finding.found


def test_rates_that_nobody_chose_are_no_fault() -> None:
    model = deep(nn.Tanh, "auto", 3)
    with torch.no_grad():
        model[2].weight.mul_(1e-3)
    assert "long updates" not in kinds(pyinit.inspect(model, X, Y, steps=1).findings)
    adam = partial(torch.optim.Adam, lr=1e-3)
    report = pyinit.inspect(model, X, Y, steps=1, optimizer=adam)
    (found,) = (finding for finding in report.findings if finding.kind == "long updates")
    assert found.layer == "2"
    assert "others" not in found.found


def test_nan_is_told_once() -> None:
    model = deep(nn.Tanh, "auto", 3)
    with torch.no_grad():
        model[2].weight[0, 0] = torch.nan
    sgd = partial(torch.optim.SGD, lr=1.0)
    assert kinds(pyinit.inspect(model, X, Y, steps=1, optimizer=sgd).findings) == {"not finite"}


@pytest.mark.parametrize("lr", [1.0, 1e-6])
def test_other_learning_rates_are_tried(lr: float) -> None:
    model = deep(nn.Tanh, "auto", 3)
    optimizer = partial(torch.optim.SGD, lr=100 * lr)
    (found,) = pyinit.inspect(
        model, X, Y, recipes="auto", seed=0, steps=1, optimizer=optimizer
    ).findings
    assert found.remedy.endswith("times the learning rates it is 1.0e-03")
