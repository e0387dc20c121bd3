"""Orthogonal matrices: change the prefix of a call, and compare what comes out.

    python examples/orthogonal.py

pyinit's function takes the arguments of torch's. Both are asked for the recurrent weight of an LSTM, which
holds one matrix for each of four gates; ``groups=4``, which torch does not have, makes each of them orthogonal.
"""

import time

import torch
from torch import nn

import pyinit

HIDDEN = 256

torch.manual_seed(0)
for module, name in ((nn.init, "torch "), (pyinit, "pyinit")):
    weight = torch.empty(4 * HIDDEN, HIDDEN)
    begin = time.perf_counter()
    module.orthogonal_(weight, gain=1.0)
    seconds = time.perf_counter() - begin
    error = (weight.T @ weight - torch.eye(HIDDEN)).abs().max()
    gate = weight[:HIDDEN]
    lengths = gate.norm(dim=0)
    print(f"{name}: {1000 * seconds:.1f} ms, QᵀQ differs from I by at most {error:.0e};", end=" ")
    print(f"the columns of one gate have lengths from {lengths.min():.2f} to {lengths.max():.2f}")

lstm = nn.LSTM(64, HIDDEN)
pyinit.orthogonal_(lstm.weight_hh_l0, groups=4)
worst = max(
    (gate.T @ gate - torch.eye(HIDDEN)).abs().max().item()
    for gate in lstm.weight_hh_l0.detach().split(HIDDEN)
)
print(f"with groups=4 each gate is orthogonal, to within {worst:.0e}")
