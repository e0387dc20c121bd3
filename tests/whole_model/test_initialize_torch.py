"""``initialize_`` with the recipe ``torch`` under ``pyinit.rng("torch")``: what torch constructs, bit for bit."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

import pyinit

# Modules whose constructors draw in the order of their parameters.
IN_ORDER: list[Callable[[], nn.Module]] = [
    lambda: nn.Linear(5, 7),
    lambda: nn.Linear(5, 7, bias=False),
    lambda: nn.Bilinear(3, 4, 5),
    lambda: nn.Conv1d(4, 6, 3),
    lambda: nn.Conv2d(4, 6, (3, 2), groups=2),
    lambda: nn.Conv3d(2, 4, 2, bias=False),
    lambda: nn.ConvTranspose1d(4, 6, 3, groups=2),
    lambda: nn.ConvTranspose2d(4, 6, 3),
    lambda: nn.ConvTranspose3d(2, 4, 2),
    lambda: nn.Embedding(9, 4),
    lambda: nn.Embedding(9, 4, padding_idx=-2),
    lambda: nn.EmbeddingBag(9, 4, padding_idx=3),
    lambda: nn.RNN(3, 5, num_layers=2),
    lambda: nn.GRU(3, 5, bidirectional=True),
    lambda: nn.LSTM(3, 5, proj_size=2),
    lambda: nn.RNNCell(3, 5),
    lambda: nn.GRUCell(3, 5, bias=False),
    lambda: nn.LSTMCell(3, 5),
    lambda: nn.PReLU(3, init=0.1),
    lambda: nn.LayerNorm((2, 3)),
    lambda: nn.LayerNorm(3, bias=False),
    lambda: nn.LayerNorm(3, elementwise_affine=False),
    lambda: nn.RMSNorm(3),
    lambda: nn.GroupNorm(2, 4),
    lambda: nn.BatchNorm1d(3),
    lambda: nn.BatchNorm2d(3, affine=False),
    lambda: nn.BatchNorm3d(3),
    lambda: nn.SyncBatchNorm(3),
    lambda: nn.InstanceNorm1d(3, affine=True),
    lambda: nn.InstanceNorm2d(3, affine=True),
    lambda: nn.InstanceNorm3d(3, affine=True),
    lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Linear(8, 40)),
]


@pytest.mark.parametrize("make", IN_ORDER)
def test_it_draws_what_the_constructor_draws(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(3)
    expected, after = make().state_dict(), torch.get_rng_state()
    module = make()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(torch.nan)
    torch.manual_seed(3)
    with pyinit.rng("torch"):
        pyinit.initialize_(module, "torch")
    assert module.state_dict().keys() == expected.keys()
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    assert torch.equal(torch.get_rng_state(), after)


def test_the_stream_of_a_name_is_pinned() -> None:
    report = pyinit.initialize_(nn.Sequential(nn.Linear(2, 2, bias=False)), "torch", seed=7)
    assert (report["0.weight"].key, report["0.weight"].stream) == (7, 14291418057784981734)
