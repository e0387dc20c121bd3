"""An activation of your own: let LSUV measure what no recipe can know.

    python examples/lsuv_own_activation.py

A recipe chooses a gain by the activation. This one depends on the batch, so there is no gain for it; LSUV
sends a batch through the layers and scales each weight until its layer's outputs have variance 1.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

import pyinit
from pyinit.datasets import load


class Contrast(nn.Module):
    """Squares what lies above its channel's mean in the batch, and drops the rest."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean(0)).relu().square()


def network() -> nn.Sequential:
    """Ten hidden layers with that activation."""
    sizes = [64, *[100] * 10, 10]
    parts = [
        part for before, after in pairwise(sizes) for part in (nn.Linear(before, after), Contrast())
    ]
    return nn.Sequential(nn.Flatten(), *parts[:-1])


batch = load("digits").split()[0].batch(256, seed=0).inputs

model = network()
pyinit.initialize_(model, "kaiming", seed=0)
print(f"kaiming: the outputs are finite: {bool(model(batch).isfinite().all())}")

report = pyinit.lsuv_(model, batch, base="kaiming", seed=0)
print(f"LSUV: they have a standard deviation of {model(batch).std():.2f}")
print(f"{len(report)} layers were measured, in one pass")

report.save("start.json")
again = network()
pyinit.replay_(again, pyinit.LsuvReport.load("start.json"))
same = all(map(torch.equal, again.parameters(), model.parameters()))
print(f"its report gives the same weights without the batch: {same}")
