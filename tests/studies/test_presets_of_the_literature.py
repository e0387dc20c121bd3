"""The studies of the literature: what they are made of, and that each of their arms trains."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

import pyinit
from pyinit.models.gpt2 import GPT2
from pyinit.studies import Study
from pyinit.studies.models.deep import chain, deep, deep_cnn, mean_field, trainable_depth
from pyinit.studies.models.fixup import residual
from pyinit.studies.models.mup import Scaled, gpt, mlp, mup
from pyinit.studies.models.vgg import off, vgg11
from pyinit.studies.perform import check
from pyinit.studies.records import FINISHED

pytest.importorskip("sklearn")
pytest.importorskip("tomli_w")

# By preset: the arguments and factors of a small one.
SMALL = {
    "coordinate-check": ({}, {"width": (64, 128)}),
    "variance-by-depth": ({"depth": 4}, {}),
    "trainable-depth": ({"width": 20}, {"depth": (5,), "sigma_w": (0.8, 1.33)}),
    "isometry": ({}, {"depth": (4,)}),
    "no-norm-residual": ({}, {"depth": (10,)}),
    "bad-start": ({"thin": 64}, {"scale": (0.5,)}),
    "char-gpt": ({"width": 64, "layers": 1}, {}),
}
PRESETS = tuple(SMALL)


def small(name: str) -> Study:
    """A preset with two steps, one seed, one learning rate, and small networks."""
    study = Study.load(name)
    arguments, factors = SMALL[name]
    arms = dict(study.arms)
    for arm, steps in arms.items():
        if isinstance(steps, list):
            arms[arm] = [
                {**each, "steps": 2} if each.get("method") in {"metainit", "gradinit"} else each
                for each in steps
            ]
    return replace(
        study,
        arms=arms,
        seeds=1,
        steps=2,
        epochs=None,
        training=replace(study.training, lr=study.training.lrs[0]),
        arguments={**study.arguments, **arguments},
        factors={**study.factors, **factors},
        claims=(),
    )


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_whole(name: str, tmp_path) -> None:
    study = Study.load(name)
    assert study.name == name
    assert study.question.endswith("?")
    assert study.claims
    assert all(claim.text for claim in study.claims)
    path = tmp_path / f"{name}.toml"
    path.write_text(study.to_toml(), encoding="utf-8")
    assert Study.load(path) == study


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_fits_its_data(name: str) -> None:
    check(Study.load(name))


@pytest.mark.parametrize("name", ["coordinate-check", "char-gpt"])
def test_a_preset_of_full_size_fits_its_data(name: str) -> None:
    check(Study.load(name).full_size())


@pytest.mark.parametrize("name", PRESETS)
def test_each_arm_of_a_preset_trains(name: str) -> None:
    study = small(name)
    records = study.run(jobs=1).records
    assert {each.arm for each in records} == {*study.arms}
    assert [each.error for each in records] == [None] * len(records)
    assert {each.status for each in records} == {FINISHED}


# ---- the networks --------------------------------------------------------------------------------


def _normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("network", ["mlp", "cnn"])
@pytest.mark.parametrize("side", [8, 28])
def test_deep_networks_have_as_many_layers_as_asked(network: str, side: int) -> None:
    model = deep(network, depth=7, side=side)
    layers = [each for each in model.modules() if isinstance(each, (nn.Linear, nn.Conv2d))]
    assert len(layers) == 7
    assert model(_normal(2, 1, side, side)).shape == (2, 10)


def test_delta_orthogonal_convolutions_keep_lengths_through_any_depth() -> None:
    model = deep_cnn(depth=40, width=8)
    pyinit.initialize_(model, "delta_orthogonal", seed=0)
    x = before = _normal(3, 8, 4, 4)
    for layer in list(model)[2:]:
        if isinstance(layer, nn.Conv2d):
            x = layer(x)
    torch.testing.assert_close(x.square().sum(1), before.square().sum(1), rtol=1e-3, atol=1e-4)


def test_gaussian_convolutions_do_not() -> None:
    model = deep_cnn(depth=40, width=8)
    pyinit.initialize_(model, "lecun", seed=0)
    x = before = _normal(3, 8, 4, 4)
    for layer in list(model)[2:]:
        if isinstance(layer, nn.Conv2d):
            x = layer(x)
    assert not torch.allclose(x.square().sum(1), before.square().sum(1), rtol=0.5)


def test_branches_of_fixup_begin_at_zero() -> None:
    model = residual(depth=10, width=4)
    pyinit.initialize_(model, "fixup", seed=0)
    x = _normal(2, 4, 4, 4).relu()
    assert all(bool((block.branch(x) == 0).all()) for block in model.blocks)
    torch.testing.assert_close(model.blocks(x), x, rtol=0, atol=0)


def test_branches_by_he_do_not_begin_at_zero() -> None:
    model = residual(depth=10, width=4)
    pyinit.initialize_(model, "kaiming", seed=0)
    assert bool((model.blocks[0].branch(_normal(2, 4, 4, 4)) != 0).any())


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_depth_of_residual_networks_is_that_of_their_weights(batch_norm: bool) -> None:
    model = residual(depth=12, width=4, batch_norm=batch_norm)
    assert sum(each.dim() > 1 for each in model.parameters()) == 12


def test_off_scales_weights_and_leaves_biases() -> None:
    model, same = vgg11(thin=16, scale=0.5), vgg11(thin=16)
    same.load_state_dict(model.state_dict())
    off(model)
    for (name, now), before in zip(model.named_parameters(), same.parameters(), strict=True):
        torch.testing.assert_close(now, before * (0.5 if name.endswith("weight") else 1.0))


def test_mean_field_draws_what_the_theory_takes() -> None:
    model = chain(depth=4, sigma_w=1.5, sigma_b=0.3, width=500)
    mean_field(model, None, seed=3)
    assert float(model[3].weight.detach().std()) * math.sqrt(500) == pytest.approx(1.5, rel=0.01)
    assert float(model[3].bias.detach().std()) == pytest.approx(0.3, rel=0.1)


def test_the_trainable_depth_is_greatest_at_the_critical_line() -> None:
    critical = pyinit.theory.critical_sigma_w("tanh", 0.05**0.5)
    depths = [trainable_depth(critical * each) for each in (0.5, 0.9, 1.1, 2.0)]
    assert depths[0] < depths[1] < trainable_depth(critical * 1.001)
    assert depths[3] < depths[2] < trainable_depth(critical * 1.001)


# ---- the maximal update parametrization ----------------------------------------------------------


class _Plain(nn.Module):
    """An MLP of plain layers whose weights are the effective ones of a scaled MLP."""

    def __init__(self, scaled: nn.Module) -> None:
        super().__init__()
        self.chosen = [each for each in scaled.modules() if isinstance(each, Scaled)]
        self.layers = nn.ModuleList()
        for each in self.chosen:
            layer = nn.Linear(each.in_features, each.out_features)
            layer.weight = nn.Parameter(each.weight.detach() * each.multiplier)
            layer.bias = nn.Parameter(each.bias.detach().clone())
            self.layers.append(layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for number, layer in enumerate(self.layers):
            x = layer(x.relu() if number else x.flatten(1))
        return x


def test_multipliers_do_what_learning_rates_of_layers_do() -> None:
    model = mlp(width=128, base=32).double()
    mup(model, None, seed=0, readout_zero_init=False)
    plain = _Plain(model)
    groups = [
        {"params": [layer.weight], "lr": 0.01 * each.multiplier}
        for layer, each in zip(plain.layers, plain.chosen, strict=True)
    ]
    groups.append({"params": [layer.bias for layer in plain.layers], "lr": 0.01})
    x, y = _normal(32, 1, 8, 8).double(), torch.arange(32) % 10
    optimizers = (
        torch.optim.Adam(model.parameters(), lr=0.01, eps=1e-30),
        torch.optim.Adam(groups, eps=1e-30),
    )
    for _ in range(3):
        for each, optimizer in zip((model, plain), optimizers, strict=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(each(x), y).backward()
            optimizer.step()
    torch.testing.assert_close(model(x), plain(x))


def test_attention_divides_by_the_width_of_a_head() -> None:
    wide, base = (
        gpt(width=128, layers=1, heads=4, base=32),
        gpt(width=32, layers=1, heads=4, base=16),
    )
    assert wide.transformer.h[0].attn.scale == pytest.approx(32**-0.5)
    mup(wide, None, seed=0)
    assert wide.transformer.h[0].attn.scale == pytest.approx(base.transformer.h[0].attn.scale / 4)


def test_a_gpt_that_is_not_scaled_is_gpt2() -> None:
    ours = gpt(width=32, layers=2, heads=2, base=16, context=8)
    theirs = GPT2(vocab=96, context=8, width=32, layers=2, heads=2)
    theirs.lm_head = nn.Linear(32, 96, bias=False)
    theirs.load_state_dict(ours.state_dict())
    tokens = torch.arange(16).reshape(2, 8)
    torch.testing.assert_close(ours(tokens), theirs(tokens))
