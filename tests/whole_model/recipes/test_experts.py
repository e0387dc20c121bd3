"""Recipes besides ``auto``: experts in stacks have the fans of one matrix, and branches are counted by stream."""

import pytest
import torch
from torch import Tensor, nn

from pyinit import initialize_
from pyinit.initializers import ZEROS, KaimingNormal, LecunNormal, Normal, XavierUniform, gain_of
from pyinit.whole_model.network import Network
from pyinit.whole_model.recipes import Choice, recipe

EXPERTS, WIDTH, HIDDEN, LAYERS = 4, 8, 16, 3


class StackedExperts(nn.Module):
    """Experts as stacks of matrices, (experts, in, out) or (experts, out, in)."""

    def __init__(self, is_transposed: bool) -> None:
        super().__init__()
        up, down = (WIDTH, 2 * HIDDEN), (HIDDEN, WIDTH)
        if not is_transposed:
            up, down = up[::-1], down[::-1]
        self.gate_up_proj = nn.Parameter(torch.ones(EXPERTS, *up))
        self.gate_up_proj_bias = nn.Parameter(torch.ones(EXPERTS, 2 * HIDDEN))
        self.down_proj = nn.Parameter(torch.ones(EXPERTS, *down))


class Block(nn.Module):
    def __init__(self, is_transposed: bool) -> None:
        super().__init__()
        self.experts = StackedExperts(is_transposed)


class Mixture(nn.Module):
    def __init__(self, is_transposed: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(is_transposed) for _ in range(LAYERS))
        self.head = nn.Linear(WIDTH, 4)

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError(f"cannot run on {x}")


def choices(name: str, model: nn.Module) -> dict[str, Choice]:
    return recipe(name).choose(Network(model))


@pytest.mark.parametrize("is_transposed", [False, True])
@pytest.mark.parametrize(
    ("name", "cls"), [("xavier", XavierUniform), ("kaiming", KaimingNormal), ("lecun", LecunNormal)]
)
def test_recipes_by_fans_take_those_of_one_expert(
    name: str, cls: type, is_transposed: bool
) -> None:
    model = Mixture(is_transposed)
    report = initialize_(model, name, seed=0)
    row = report["layers.1.experts.gate_up_proj"]
    assert isinstance(row.initializer, cls)
    assert (row.fan_in, row.fan_out) == (WIDTH, 2 * HIDDEN)
    assert row.std == pytest.approx(row.target_std, rel=0.1)
    row = report["layers.1.experts.down_proj"]
    assert (row.fan_in, row.fan_out) == (HIDDEN, WIDTH)
    assert model.layers[0].experts.gate_up_proj_bias.count_nonzero() == 0


def test_normal_is_the_same_for_experts() -> None:
    found = choices("normal", Mixture(is_transposed=True))
    assert found["layers.0.experts.down_proj"].initializer == Normal(std=0.01)


@pytest.mark.parametrize("name", ["orthogonal", "delta_orthogonal", "zero"])
def test_recipes_of_matrices_leave_experts_as_they_are(name: str) -> None:
    assert "layers.0.experts.down_proj" not in choices(name, Mixture(is_transposed=True))


@pytest.mark.parametrize("is_transposed", [False, True])
def test_fixup_starts_the_last_matrices_of_experts_at_zero_and_no_others(
    is_transposed: bool,
) -> None:
    found = choices("fixup", Mixture(is_transposed))
    assert found["layers.0.experts.down_proj"].initializer == ZEROS
    assert found["layers.0.experts.gate_up_proj_bias"].initializer == ZEROS
    first = found["layers.0.experts.gate_up_proj"]
    assert first.initializer == KaimingNormal(
        mode="fan_out",
        nonlinearity=gain_of("relu") * LAYERS**-0.5,
        transposed=is_transposed,
        batch_dims=1,
    )
    assert "one of 3 branches" in first.why


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.last(self.first(x).relu())


class Towers(nn.Module):
    """Two streams, of two and of five branches."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = self.tower(2), self.tower(5)

    @staticmethod
    def tower(branches: int) -> nn.Module:
        blocks = (Residual() for _ in range(branches))
        return nn.Sequential(nn.Linear(WIDTH, WIDTH), *blocks, nn.LayerNorm(WIDTH))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.left(x) @ self.right(y).mT


def test_fixup_counts_the_branches_of_a_stream() -> None:
    found = choices("fixup", Towers())
    for tower, branches in (("left", 2), ("right", 5)):
        choice = found[f"{tower}.1.first.weight"]
        assert choice.why == f"residual branch of 2 layers, one of {branches} branches"
        gain = gain_of("relu") * branches**-0.5
        assert choice.initializer == KaimingNormal(mode="fan_out", nonlinearity=gain)
        assert found[f"{tower}.1.last.weight"].initializer == ZEROS
