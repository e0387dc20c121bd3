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


@pytest.mark.parametrize("lr", [1.0, 1e-6])
def test_other_learning_rates_are_tried(lr: float) -> None:
    model = deep(nn.Tanh, "auto", 3)
    optimizer = partial(torch.optim.SGD, lr=100 * lr)
    (found,) = pyinit.inspect(
        model, X, Y, recipes="auto", seed=0, steps=1, optimizer=optimizer
    ).findings
    assert found.remedy.endswith("times the learning rates it is 1.0e-03")
