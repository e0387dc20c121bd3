"""Bengio et al. 2007, Vincent et al. 2008: layer by layer, a denoising autoencoder of the layer's input."""

import copy
from collections.abc import Callable
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

import pyinit
from pyinit.datasets import load


def batch(*shape: int) -> Tensor:
    """Samples with structure: neighbours are alike."""
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    return drawn.cumsum(-1) / 2


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.inner(self.inner(x).relu()).relu())


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], list[str]]] = {
    "linear": (
        lambda: nn.Sequential(
            *(nn.Linear(16, 32), nn.Sigmoid(), nn.Linear(32, 8, bias=False), nn.LeakyReLU(0.1)),
            nn.Linear(8, 3),
        ),
        (256, 16),
        ["0", "2"],
    ),
    "conv": (
        lambda: nn.Sequential(
            *(nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.Conv2d(8, 8, 3, stride=2, groups=2, padding=(0, 1)), nn.ReLU()),
            *(nn.Conv2d(8, 8, 2, groups=8, padding_mode="circular", padding=1), nn.Tanh()),
            *(nn.Flatten(), nn.Linear(8 * 4 * 5, 5)),
        ),
        (64, 2, 7, 7),
        ["0", "3", "5"],
    ),
    "strides that step over the end": (
        lambda: nn.Sequential(
            *(nn.Conv1d(2, 6, 3, stride=3), nn.ReLU(), nn.Conv1d(6, 4, 2, dilation=2), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(4, 2)),
        ),
        (64, 2, 11),
        ["0", "2"],
    ),
    "conv3d": (
        lambda: nn.Sequential(nn.Conv3d(1, 4, 2), nn.ReLU(), nn.Conv3d(4, 2, 1)),
        (16, 1, 4, 4, 5),
        ["0"],
    ),
    "sequence": (
        lambda: nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 4)),
        (32, 7, 6),
        ["0"],
    ),
    "shared": (Shared, (128, 8), ["inner"]),
    "weight norm": (
        lambda: nn.Sequential(
            parametrizations.weight_norm(nn.Linear(8, 8)), nn.ReLU(), nn.Linear(8, 4)
        ),
        (128, 8),
        ["0"],
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_reconstruction_error_falls_layer_by_layer(name: str) -> None:
    make, shape, trained = MODELS[name]
    report = pyinit.pretrain_unsupervised_(make(), batch(*shape), steps=100, seed=0)
    assert [row.name for row in report] == trained
    assert all(0 <= row.after < row.before for row in report)
    assert report.largest_error == max(row.after for row in report)


def test_the_digits_are_reconstructed_from_every_layer() -> None:
    model = nn.Sequential(
        *(nn.Flatten(), *(part for _ in range(4) for part in (nn.Linear(64, 64), nn.Tanh()))),
        nn.Linear(64, 10),
    )
    report = pyinit.pretrain_unsupervised_(model, load("digits").inputs, seed=0)
    assert len(report) == 4
    assert all(row.after < 0.2 and row.before > 0.5 for row in report)


def unexplained(inputs: Tensor, decoded: Tensor) -> float:
    """The error with the best bias of the decoder, over the variance of the features."""
    return float(((inputs - decoded).var(0).sum() / inputs.var(0).sum()).detach())


def test_errors_are_those_of_the_tied_autoencoder() -> None:
    make = MODELS["linear"][0]
    model, plain, x = make(), make(), batch(256, 16)
    report = pyinit.pretrain_unsupervised_(model, x, seed=3)
    pyinit.initialize_(plain, "auto", seed=3)
    for layers, number in ((plain, 0), (model, 1)):
        coded = torch.sigmoid(layers[0](x))
        found = (report[0].before, report[0].after)[number]
        assert abs(unexplained(x, coded @ layers[0].weight) / found - 1) < 1e-4
    hidden = model[1](model[0](x)).detach()
    decoded = functional.leaky_relu(model[2](hidden), 0.1) @ model[2].weight
    assert abs(unexplained(hidden, decoded) / report[1].after - 1) < 1e-4


def test_errors_of_convolutions_are_those_of_the_tied_autoencoder() -> None:
    model, x = nn.Sequential(nn.Conv2d(2, 6, 3, stride=2, padding=1), nn.ReLU()), batch(64, 2, 7, 7)
    report = pyinit.pretrain_unsupervised_(model, x, layers="0", seed=0)
    decoded = functional.conv_transpose2d(model(x), model[0].weight, stride=2, padding=1)
    by_channel = (each.transpose(0, 1).flatten(1).T for each in (x, decoded))
    assert abs(unexplained(*by_channel) / report[0].after - 1) < 1e-4


def test_a_frozen_bias_stays_and_is_part_of_the_encoder() -> None:
    model, x = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 2)), batch(256, 8)
    with torch.no_grad():
        model[0].bias.fill_(3.0)
    model[0].bias.requires_grad_(False)
    before = unexplained(x, torch.tanh(model[0](x)) @ model[0].weight)
    report = pyinit.pretrain_unsupervised_(model, x, base=None, seed=0)
    after = unexplained(x, torch.tanh(model[0](x)) @ model[0].weight)
    assert torch.equal(model[0].bias, torch.full((6,), 3.0))
    assert abs(report[0].before / before - 1) < 1e-4
    assert abs(report[0].after / after - 1) < 1e-4


def test_a_denoiser_fills_in_what_is_missing() -> None:
    """Trained on corrupted inputs, it reconstructs from them better than one that was not."""
    x = batch(1024, 2).repeat_interleave(4, 1)
    noise = (torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) >= 0.5).float()
    errors: dict[float, list[float]] = {0.0: [], 0.5: []}
    for corruption, seed in product(errors, range(5)):  # one start in ten stays in a poor place
        model = nn.Sequential(nn.Linear(8, 8), nn.Identity(), nn.Linear(8, 1))
        pyinit.pretrain_unsupervised_(
            model, x, corruption=corruption, steps=500, layers="0", seed=seed
        )
        errors[corruption].append(unexplained(x, model[0](x * noise) @ model[0].weight))
    assert median(errors[0.5]) < 0.8 * median(errors[0.0])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("base", ["auto", None])
def test_a_replay_gives_the_same_bits_without_the_data(
    name: str, base: str | None, tmp_path: Path
) -> None:
    make, shape, _ = MODELS[name]
    model = make()
    again = copy.deepcopy(model) if base is None else make()
    report = pyinit.pretrain_unsupervised_(model, batch(*shape), base=base, steps=20, seed=1)
    report.save(tmp_path / "report.json")
    assert (tmp_path / "report.safetensors").exists()
    pyinit.replay_(again, pyinit.UnsupervisedReport.load(tmp_path / "report.json"))
    wanted = model.state_dict()
    assert all(torch.equal(each, wanted[key]) for key, each in again.state_dict().items())


def test_a_seed_gives_the_same_weights_whatever_was_drawn_before() -> None:
    make, shape, _ = MODELS["conv"]
    made = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = make()
        pyinit.pretrain_unsupervised_(model, batch(*shape), steps=10, seed=5)
        made.append(model.state_dict())
    assert all(torch.equal(each, made[1][key]) for key, each in made[0].items())


@pytest.mark.parametrize("base", ["auto", None])
@pytest.mark.parametrize("at", [3, 25])
def test_an_interrupt_leaves_the_model_as_it_was(
    at: int, base: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first layer learns, and while the second does."""
    make, shape, _ = MODELS["conv"]
    model, steps, step = make(), [], torch.optim.Adam.step

    def interrupted(self: Any, *arguments: Any) -> Any:
        steps.append(1)
        if len(steps) == at:
            raise KeyboardInterrupt
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", interrupted)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        pyinit.pretrain_unsupervised_(model, batch(*shape), base=base, steps=20)
    assert len(steps) == at
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(each, before[key]) for key, each in model.state_dict().items())
    assert all(each.grad is None for each in model.parameters())


def test_the_last_layer_is_trained_if_it_is_named() -> None:
    make, shape, _ = MODELS["linear"]
    model, plain = make(), make()
    report = pyinit.pretrain_unsupervised_(model, batch(*shape), steps=50, seed=0)
    pyinit.initialize_(plain, "auto", seed=0)
    assert "4" in dict(report.left)
    assert torch.equal(model[4].weight, plain[4].weight)
    report = pyinit.pretrain_unsupervised_(model, batch(*shape), layers="4", steps=50, seed=0)
    assert [row.name for row in report] == ["4"]


def test_a_layer_whose_error_does_not_fall_keeps_its_base() -> None:
    make, shape, _ = MODELS["linear"]
    model, plain = make(), make()
    report = pyinit.pretrain_unsupervised_(model, batch(*shape), lr=1e6, steps=3, seed=0)
    pyinit.initialize_(plain, "auto", seed=0)
    assert len(report) == 0
    assert "did not fall" in dict(report.left)["0"]
    wanted = plain.state_dict()
    assert all(torch.equal(each, wanted[key]) for key, each in model.state_dict().items())


def test_a_layer_without_variance_is_reported_and_left() -> None:
    model = MODELS["linear"][0]()
    before = copy.deepcopy(model.state_dict())
    report = pyinit.pretrain_unsupervised_(model, torch.ones(16, 16), base=None)
    left = dict(report.left)
    assert left["0"] == left["2"] == "its input has no variance"
    assert all(torch.equal(each, before[key]) for key, each in model.state_dict().items())


@pytest.mark.parametrize(
    "model",
    [
        nn.Linear(16, 4),
        nn.Sequential(nn.ConvTranspose2d(2, 2, 2), nn.ReLU()),
        nn.Sequential(nn.Linear(16, 16).requires_grad_(False), nn.ReLU(), nn.Linear(16, 4)),
    ],
)
def test_a_model_without_a_layer_to_train_is_refused(model: nn.Module) -> None:
    is_linear = any(isinstance(each, nn.Linear) for each in model.modules())
    x = batch(8, 16) if is_linear else batch(8, 2, 4, 4)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="no layer that it can train"):
        pyinit.pretrain_unsupervised_(model, x)
    assert all(torch.equal(each, before[key]) for key, each in model.state_dict().items())


def test_bfloat16_weights_learn_in_float32_and_are_rounded_once() -> None:
    model = MODELS["linear"][0]().bfloat16()
    report = pyinit.pretrain_unsupervised_(model, batch(256, 16).bfloat16(), steps=100, seed=0)
    assert model[0].weight.dtype is torch.bfloat16
    assert [row.name for row in report] == ["0", "2"]
    assert all(row.after < row.before for row in report)


def test_it_learns_in_inference_mode_too() -> None:
    make, shape, trained = MODELS["linear"]
    model = make()
    with torch.inference_mode():
        report = pyinit.pretrain_unsupervised_(model, batch(*shape), steps=20, seed=0)
    assert [row.name for row in report] == trained


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"corruption": 1.0}, "corruption"),
        ({"corruption": -0.1}, "corruption"),
        ({"steps": 0}, "steps"),
        ({"steps": True}, "steps"),
        ({"lr": 0.0}, "lr"),
        ({"lr": float("nan")}, "lr"),
        ({"batch_size": 0}, "batch_size"),
        ({"base": "aut"}, "auto"),
        ({"layers": "nothing"}, "layers"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments: dict[str, Any], what: str) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=what):
        pyinit.pretrain_unsupervised_(model, batch(16, 8), **arguments)
    assert all(torch.equal(each, before[key]) for key, each in model.state_dict().items())
