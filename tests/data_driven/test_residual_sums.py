"""Layers behind a residual sum are settled on the sum, as plain hooks measure it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pyinit

BLOCKS = 4

METHODS: dict[str, Callable[..., Any]] = {
    "lsuv": pyinit.lsuv_,
    "data_dependent": lambda *given, **options: pyinit.data_dependent_(
        *given, equalize=False, **options
    ),
    "consistency_aware": pyinit.consistency_aware_,
}


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.last(torch.relu(self.first(x)))


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(16, 32), *(Block() for _ in range(BLOCKS)), nn.Linear(32, 8))


def batch() -> Tensor:
    return torch.randn(512, 16, generator=torch.Generator().manual_seed(0))


def seen(model: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """Input and output of each module in one plain pass."""
    found: dict[str, tuple[Tensor, Tensor]] = {}

    def look(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
            found[name] = args[0].double(), output.double()

        return hook

    handles = [each.register_forward_hook(look(name)) for name, each in model.named_modules()]
    with torch.no_grad():
        model(batch())
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("name", METHODS)
def test_layers_behind_a_sum_have_their_statistics_on_the_sum(name: str) -> None:
    model = network()
    METHODS[name](model, batch(), base="kaiming", seed=0)
    found = seen(model)
    behind = [*(f"{block}.first" for block in range(2, BLOCKS + 1)), f"{BLOCKS + 1}"]
    for place, layer in enumerate(behind, 1):
        skipped, branch = found[f"{place}"][0], found[f"{place}.last"][1]
        total, output = found[layer]
        assert torch.equal(total, (skipped.float() + branch.float()).double())
        assert float(output.std(correction=0)) == pytest.approx(1, abs=0.02)
        on_the_branch = nn.functional.linear(
            branch, *(each.detach().double() for each in model.get_submodule(layer).parameters())
        )
        assert abs(float(on_the_branch.std(correction=0)) - 1) > 0.05  # the test can tell


def test_the_branch_has_variance_1_itself_and_the_sum_grows() -> None:
    model = network()
    pyinit.lsuv_(model, batch(), seed=0)
    found = seen(model)
    sizes = [float(found[f"{block}"][1].var(correction=0)) for block in range(1, BLOCKS + 1)]
    for block in range(1, BLOCKS + 1):
        std = float(found[f"{block}.last"][1].std(correction=0))
        assert std == pytest.approx(1, abs=0.02)
    assert sizes == sorted(sizes)
    assert sizes[0] > 1.5


@pytest.mark.parametrize("block", range(2, BLOCKS + 1))
def test_the_factor_is_that_of_the_sum(block: int) -> None:
    model, base = network(), network()
    report = pyinit.lsuv_(model, batch(), seed=0)
    pyinit.initialize_(base, "orthogonal", seed=0)
    total = seen(model)[f"{block}.first"][0]
    weight = base.get_parameter(f"{block}.first.weight").detach().double()
    expected = 1 / float(nn.functional.linear(total, weight).std(correction=0))
    assert report.of(f"{block}.first").scale == pytest.approx(expected, rel=1e-5)
