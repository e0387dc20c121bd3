"""Salimans & Kingma 2016: g and b from the data, so that pre-activations are N(0, 1) per channel."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import pyinit


def older(module: nn.Module, **arguments: Any) -> nn.Module:
    with pytest.warns(FutureWarning):
        return torch.nn.utils.weight_norm(module, **arguments)


NORMS: dict[str, Callable[..., nn.Module]] = {
    "parametrized": parametrizations.weight_norm,
    "older": older,
}


def batch(*shape: int) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(0)) + 1


class Shared(nn.Module):
    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.inner, self.out = norm(nn.Linear(8, 8)), norm(nn.Linear(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.inner(self.inner(x).relu()).relu())


MODELS: dict[str, tuple[Callable[[Any], nn.Module], tuple[int, ...]]] = {
    "linear": (
        lambda norm: nn.Sequential(norm(nn.Linear(8, 16)), nn.ReLU(), norm(nn.Linear(16, 4))),
        (64, 8),
    ),
    "conv": (
        lambda norm: nn.Sequential(
            *(norm(nn.Conv2d(4, 8, 3, groups=2)), nn.BatchNorm2d(8), nn.Tanh()),
            *(norm(nn.Conv2d(8, 8, 3, groups=8, bias=False)), nn.ReLU(), nn.Flatten()),
            norm(nn.Linear(72, 5)),
        ),
        (64, 4, 7, 7),
    ),
    "transposed": (
        lambda norm: nn.Sequential(norm(nn.ConvTranspose2d(4, 6, 3, groups=2)), nn.ReLU()),
        (32, 4, 5, 5),
    ),
    "transposed by channel": (
        lambda norm: nn.Sequential(norm(nn.ConvTranspose2d(4, 6, 3), dim=1)),
        (32, 4, 5, 5),
    ),
    "of all elements": (lambda norm: nn.Sequential(norm(nn.Linear(8, 6), dim=None)), (64, 8)),
    "shared": (Shared, (128, 8)),
}


def outputs(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The first output of each layer, channels x positions."""
    found: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):

            def keep(module: nn.Module, args: Any, output: Tensor, name: str = name) -> None:
                dim = -1 if isinstance(module, nn.Linear) else 1
                found.setdefault(name, output.detach().double().movedim(dim, 0).flatten(1))

            module.register_forward_hook(keep)
    model(x)
    return found


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", MODELS)
def test_pre_activations_have_mean_0_and_variance_1_in_each_channel(name: str, norm: str) -> None:
    make, shape = MODELS[name]
    model, x = make(NORMS[norm]), batch(*shape)
    report = pyinit.weight_norm_init_(model, x, seed=0)
    found = outputs(model, x)
    assert [row.name for row in report] == list(found)
    for layer, values in found.items():
        assert (values.var(1, correction=0) - 1).abs().max() < 1e-5
        if model.get_submodule(layer).bias is not None:
            assert values.mean(1).abs().max() < 1e-5
    assert report.largest_deviation < 1e-5
    assert report.left == ()


@pytest.mark.parametrize("base", ["kaiming", None])
def test_g_and_b_are_the_papers_and_v_keeps_its_direction(base: str | None) -> None:
    layer, x = parametrizations.weight_norm(nn.Linear(8, 6)), batch(64, 8)
    plain = copy.deepcopy(layer)
    if base is not None:
        pyinit.initialize_(plain, base, seed=0)
    else:
        nn.init.zeros_(layer.bias)
        nn.init.zeros_(plain.bias)
    pyinit.weight_norm_init_(layer, x, base=base, seed=0)
    g, v = layer.parametrizations.weight.original0, layer.parametrizations.weight.original1
    direction = nn.functional.normalize(plain.weight)
    t = x @ direction.T
    torch.testing.assert_close(g.squeeze(1), 1 / t.std(0, correction=0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        layer.bias, -t.mean(0) / t.std(0, correction=0), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(nn.functional.normalize(v), direction)
    torch.testing.assert_close(v.norm(dim=1, keepdim=True), g)


def test_plain_layers_keep_their_base_and_are_named() -> None:
    make = lambda: nn.Sequential(
        nn.Linear(8, 8), nn.ReLU(), parametrizations.weight_norm(nn.Linear(8, 4))
    )
    model, plain = make(), make()
    report = pyinit.weight_norm_init_(model, batch(64, 8), seed=0)
    pyinit.initialize_(plain, "kaiming", seed=0)
    assert torch.equal(model[0].weight, plain[0].weight)
    assert [row.name for row in report] == ["2"]
    assert dict(report.left) == {"0": "it has no weight norm; data_dependent_ takes all layers"}


@pytest.mark.parametrize("norm", [lambda each: each, parametrizations.spectral_norm])
def test_a_model_without_weight_norm_is_refused_by_name(norm: Any) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), norm(nn.Linear(8, 4)))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(
        ValueError,
        match=r"no weight-normalized layer .*\(0, 2: it has no weight norm; data_dependent_",
    ):
        pyinit.weight_norm_init_(model, batch(16, 8))
    assert all(torch.equal(each, before[key]) for key, each in model.state_dict().items())
    model[0].requires_grad_(False)  # a frozen layer makes it no other model
    with pytest.raises(ValueError, match=r"no weight-normalized layer .*0: frozen"):
        pyinit.weight_norm_init_(model, batch(16, 8))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["linear", "conv", "shared"])
def test_a_replay_gives_the_same_bits_without_the_data(
    name: str, norm: str, tmp_path: Path
) -> None:
    make, shape = MODELS[name]
    model, again = make(NORMS[norm]), make(NORMS[norm])
    pyinit.weight_norm_init_(model, batch(*shape), seed=1).save(tmp_path / "report.json")
    pyinit.replay_(again, pyinit.WeightNormReport.load(tmp_path / "report.json"))
    wanted = model.state_dict()
    assert all(torch.equal(each, wanted[key]) for key, each in again.state_dict().items())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("base", ["kaiming", None])
def test_an_interrupt_leaves_the_model_as_it_was(norm: str, base: str | None) -> None:
    make, shape = MODELS["conv"]
    model = make(NORMS[norm])

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    model[6].register_forward_hook(interrupt)
    before, weight = copy.deepcopy(model.state_dict()), model[0].weight.detach().clone()
    with pytest.raises(KeyboardInterrupt):
        pyinit.weight_norm_init_(model, batch(*shape), base=base)
    assert all(torch.equal(each, before[key]) for key, each in model.state_dict().items())
    assert torch.equal(model[0].weight, weight)


def test_a_layer_without_variance_is_reported_and_left() -> None:
    model = MODELS["linear"][0](parametrizations.weight_norm)
    before = copy.deepcopy(model.state_dict())
    report = pyinit.weight_norm_init_(model, torch.ones(16, 8), base=None)
    assert dict(report.left) == {
        "0": "its output has no variance",
        "2": "its output has no variance",
    }
    assert all(torch.equal(each, before[key]) for key, each in model.state_dict().items())


def test_bfloat16_weights_are_measured_in_float32() -> None:
    model = MODELS["linear"][0](parametrizations.weight_norm).bfloat16()
    pyinit.weight_norm_init_(model, batch(256, 8).bfloat16(), seed=0)
    for values in outputs(model, batch(256, 8).bfloat16()).values():
        assert (values.var(1, correction=0) - 1).abs().max() < 0.05
        assert values.mean(1).abs().max() < 0.05
