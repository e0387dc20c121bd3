"""A program of somebody else's: patch torch while it builds its model.

    python examples/patch.py

The code that builds the model stays as it is. Its weights are the same bits as before, and so is what is
drawn after it, here a mask of dropout.
"""

import time

import torch
from torch import Tensor, nn

import pyinit


def build() -> nn.Module:
    """A model that fills its weights by its constructors and by torch's functions."""
    model = nn.Transformer(256, 8, 3, 3, 1024, batch_first=True)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    return model


def timed() -> tuple[list[Tensor], Tensor, float]:
    """The parameters, a mask that is drawn afterwards, and the seconds."""
    torch.manual_seed(0)
    begin = time.perf_counter()
    model = build()
    seconds = time.perf_counter() - begin
    return list(model.parameters()), nn.functional.dropout(torch.ones(1000)), seconds


expected, expected_mask, by_torch = timed()
with pyinit.patch():
    found, mask, by_pyinit = timed()

same = sum(map(torch.equal, expected, found))
print(f"{same} of {len(expected)} parameters have the same bits")
print(f"the mask of dropout is {'the same' if torch.equal(mask, expected_mask) else 'another'}")
print(f"torch took {by_torch:.2f} s to build the model, and {by_pyinit:.2f} s with the patch")
