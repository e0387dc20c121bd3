"""An embedding's row for padding is zero, unless a rule says otherwise."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from pyinit import initialize_
from pyinit.initializers import Constant, Normal, Padded
from pyinit.whole_model.rules import Rule, Rules, as_rules


class Tied(nn.Module):
    """A head that comes before the embedding whose weight it has."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 6, bias=False)
        self.embed = nn.Embedding(6, 4, padding_idx=2)
        self.embed.weight = self.head.weight


EMBEDDINGS: dict[str, Callable[[], nn.Module]] = {
    "embedding": lambda: nn.Embedding(6, 4, padding_idx=2),
    "from the end": lambda: nn.Embedding(6, 4, padding_idx=-4),
    "bag": lambda: nn.EmbeddingBag(6, 4, padding_idx=2),
    "tied": Tied,
    "weight norm": lambda: parametrizations.weight_norm(nn.Embedding(6, 4, padding_idx=2)),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Embedding(6, 4, padding_idx=2)),
    "old weight norm": lambda: older_weight_norm(nn.Embedding(6, 4, padding_idx=2)),
}


def older_weight_norm(module: nn.Module, dim: int = 0) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nn.utils.weight_norm(module, dim=dim)


def table(model: nn.Module) -> torch.Tensor:
    return getattr(model, "embed", model).weight.detach()


PADDING_RULES: dict[str, Any] = {
    "by name": {"*weight": Normal(std=2.0)},
    "by type": [Rule((nn.Embedding, nn.EmbeddingBag, nn.Linear), Normal(std=2.0))],
    "constant": {"*weight": Constant(1.0)},
}


@pytest.mark.parametrize("name", EMBEDDINGS)
@pytest.mark.parametrize("rule", PADDING_RULES)
def test_the_row_for_padding_is_zero_under_a_rule(name: str, rule: str) -> None:
    model = EMBEDDINGS[name]()
    initialize_(model, "normal", rules=PADDING_RULES[rule], seed=3)
    weight = table(model)
    assert torch.equal(weight[2], torch.zeros(4))
    assert weight[[0, 1, 3, 4, 5]].abs().min() > 0


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_the_row_for_padding_is_zero_under_recipes(name: str) -> None:
    for recipe in ("auto", "normal"):
        model = EMBEDDINGS[name]()
        initialize_(model, recipe, seed=3)
        assert torch.equal(table(model)[2], torch.zeros(4))
        assert table(model).isfinite().all()


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_a_rule_may_fill_the_row_for_padding(name: str, tmp_path: Path) -> None:
    rule = Rule("*weight", Normal(std=2.0), fill_padding=True)
    (tmp_path / "rules.toml").write_text(
        '[[rules]]\nname = "*weight"\ninit = "normal"\nstd = 2.0\nfill_padding = true\n'
    )
    assert as_rules(tmp_path / "rules.toml") == Rules((rule,))
    assert as_rules(Rules((rule,)).to_list()) == Rules((rule,))
    model = EMBEDDINGS[name]()
    initialize_(model, "normal", rules=rule, seed=3)
    assert table(model).abs().min() > 0


def test_a_rule_that_names_a_row_or_keeps_has_its_way() -> None:
    model = nn.Embedding(6, 4, padding_idx=2)
    initialize_(model, "normal", rules={"weight": Padded(Normal(), 0)}, seed=3)
    assert torch.equal(model.weight[0], torch.zeros(4))
    assert model.weight[2].abs().min() > 0
    before = model.weight.detach().clone()
    initialize_(model, "normal", rules={"weight": "keep"}, seed=3)
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, older_weight_norm])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_a_weight_of_length_zero_is_zero_and_learns(wrap: Callable[..., Any], dim: int) -> None:
    model = wrap(nn.Linear(3, 4), dim=dim)
    initialize_(model, "normal", rules={"*weight": Constant(0.0)}, seed=3)
    assert torch.equal(model.weight, torch.zeros(4, 3))
    model(torch.ones(2, 3)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
