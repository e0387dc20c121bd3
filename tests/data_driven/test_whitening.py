"""Whitening: principal components with their negatives in the first layer, or every layer by ZCA."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import pyinit
from pyinit.datasets import load


def batch(*shape: int) -> Tensor:
    """Samples whose elements are correlated."""
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    return drawn.cumsum(-1) + 2


FIRST: dict[str, tuple[Any, tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(6, 6), (64, 6)),
    "sequence": (lambda: nn.Linear(6, 5, bias=False), (16, 7, 6)),
    "conv1d": (lambda: nn.Conv1d(2, 6, 3, stride=2), (32, 2, 9)),
    "conv2d": (lambda: nn.Conv2d(2, 12, 3, padding=1), (32, 2, 7, 7)),
    "same": (lambda: nn.Conv2d(2, 7, (1, 5), padding="same"), (32, 2, 7, 7)),
    "dilated": (lambda: nn.Conv2d(2, 9, 3, dilation=2, padding_mode="reflect"), (32, 2, 7, 7)),
    "conv3d": (lambda: nn.Conv3d(1, 8, 2, padding=1), (8, 1, 4, 5, 6)),
    "without a batch": (lambda: nn.Conv2d(2, 8, 3), (2, 30, 30)),
    "weight norm": (lambda: parametrizations.weight_norm(nn.Linear(6, 6)), (64, 6)),
}


def rows(layer: nn.Module, x: Tensor) -> Tensor:
    """Channels x positions."""
    output = layer(x).detach().double()
    dim = -1 if isinstance(layer, nn.Linear) else x.dim() - len(layer.kernel_size) - 1
    return output.movedim(dim, 0).flatten(1)


@pytest.mark.parametrize("name", FIRST)
def test_the_first_half_of_the_channels_is_white_and_the_second_its_negative(name: str) -> None:
    make, shape = FIRST[name]
    layer, x = make().double(), batch(*shape).double()
    report = pyinit.whitening_(nn.Sequential(layer), x, eps=0.0, seed=0)
    found = rows(layer, x)
    half = (len(found) + 1) // 2
    covariance = torch.cov(found[:half], correction=0)
    torch.testing.assert_close(covariance, torch.eye(half).double(), rtol=0, atol=1e-4)
    torch.testing.assert_close(found[half:], -found[: len(found) - half], rtol=0, atol=1e-9)
    if layer.bias is not None:
        assert found.mean(1).abs().max() < 1e-9
    assert report[0].axes == half
    assert report.largest_deviation < 1e-4


def test_the_digits_are_whitened_in_float64() -> None:
    images = load("digits").inputs.double()
    model = nn.Sequential(nn.Conv2d(1, 9, 3, padding=1), nn.ReLU()).double()
    pyinit.whitening_(model, images, eps=0.0, seed=0)
    covariance = torch.cov(rows(model[0], images)[:5], correction=0)
    torch.testing.assert_close(covariance, torch.eye(5).double(), rtol=0, atol=1e-4)


def test_components_are_those_of_numpy_the_largest_first() -> None:
    layer, x = nn.Linear(6, 6).double(), batch(200, 6).double()
    pyinit.whitening_(layer, x, eps=0.1, seed=0)
    _, singular, wanted = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    lengths = 1 / (singular.square() / 200 + 0.1).sqrt()
    found = layer.weight.detach()[:3]
    torch.testing.assert_close(found.norm(dim=1), lengths[:3])
    assert ((found * wanted[:3]).sum(1).abs() / lengths[:3] - 1).abs().max() < 1e-9


def test_channels_beyond_the_components_and_other_layers_keep_the_base() -> None:
    make = lambda: nn.Sequential(nn.Linear(3, 10), nn.ReLU(), nn.Linear(10, 4))
    model, plain, x = make(), make(), batch(64, 3)
    report = pyinit.whitening_(model, x, seed=0)
    pyinit.initialize_(plain, "kaiming", seed=0)
    assert report[0].axes == 3
    kept = [3, 4, 8, 9]
    assert torch.equal(model[0].weight[kept], plain[0].weight[kept])
    assert torch.equal(model[0].weight[5:8], -model[0].weight[:3])
    assert torch.equal(model[2].weight, plain[2].weight)


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.inner(self.inner(x).relu()).relu())


NETWORKS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "chain": (
        lambda: nn.Sequential(
            *(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4), nn.Tanh()),
            *(nn.Flatten(), nn.Linear(36, 16), nn.ReLU(), nn.Linear(16, 5)),
        ),
        (128, 2, 7, 7),
    ),
    "transposed": (
        lambda: nn.Sequential(nn.ConvTranspose2d(2, 6, 3, stride=2), nn.Tanh(), nn.Conv2d(6, 3, 2)),
        (32, 2, 5, 5),
    ),
    "shared": (Shared, (128, 8)),
    "weight norm": (
        lambda: nn.Sequential(
            parametrizations.weight_norm(nn.Linear(8, 8)), nn.ReLU(), nn.Linear(8, 4)
        ),
        (128, 8),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_zca_makes_each_layers_output_white(name: str) -> None:
    make, shape = NETWORKS[name]
    model, x = make().double(), batch(*shape).double()
    report = pyinit.whitening_(model, x, mode="zca", eps=0.0, seed=0)
    found: dict[str, Tensor] = {}
    for path, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):

            def keep(module: nn.Module, args: Any, output: Tensor, path: str = path) -> None:
                dim = -1 if isinstance(module, nn.Linear) else 1
                found.setdefault(path, output.detach().movedim(dim, 0).flatten(1))

            module.register_forward_hook(keep)
    model(x)
    assert [row.name for row in report] == list(found)
    for values in found.values():
        covariance = torch.cov(values, correction=0)
        wanted = torch.eye(len(values)).double()
        torch.testing.assert_close(covariance, wanted, rtol=0, atol=1e-4)
        assert values.mean(1).abs().max() < 1e-9


def test_zca_changes_the_output_least() -> None:
    """Among the whitenings, it has the largest correlation with what was there."""
    layer, plain, x = nn.Linear(6, 6).double(), nn.Linear(6, 6).double(), batch(500, 6).double()
    pyinit.whitening_(layer, x, mode="zca", eps=0.0, seed=0)
    pyinit.initialize_(plain, "kaiming", seed=0)
    before = plain(x) - plain(x).mean(0)
    crossed = layer(x).T @ before / 500
    torch.testing.assert_close(crossed, crossed.T, rtol=0, atol=1e-9)
    assert (torch.linalg.eigvalsh(crossed) > 0).all()


def test_zca_of_more_channels_than_the_input_has_directions() -> None:
    layer, x = nn.Linear(3, 8).double(), batch(100, 3).double()
    report = pyinit.whitening_(layer, x, mode="zca", eps=0.0, seed=0)
    variances = torch.linalg.eigvalsh(torch.cov(rows(layer, x), correction=0))
    wanted = torch.tensor([0.0] * 5 + [1.0] * 3).double()
    torch.testing.assert_close(variances, wanted, rtol=0, atol=1e-6)
    assert report[0].axes == 3


def test_zca_leaves_groups_and_embeddings_with_a_reason() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.conv = nn.Embedding(20, 4), nn.Conv1d(4, 4, 3, groups=2)
            self.out = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.conv(self.embed(x).transpose(1, 2)).mean(-1))

    model = Words()
    report = pyinit.whitening_(model, torch.arange(40).view(8, 5) % 20, mode="zca", seed=0)
    assert dict(report.left) == {
        "embed": "it is neither a linear layer nor a convolution",
        "conv": "its groups see a part of the input each",
    }
    assert [row.name for row in report] == ["out"]


@pytest.mark.parametrize(
    ("layer", "shape", "why"),
    [
        (nn.Conv2d(4, 4, 3, groups=2), (8, 4, 5, 5), "groups"),
        (nn.ConvTranspose2d(4, 4, 3), (8, 4, 5, 5), "neither"),
    ],
)
def test_a_first_layer_that_cannot_be_whitened_is_refused(
    layer: nn.Module, shape: Any, why: str
) -> None:
    model = nn.Sequential(layer, nn.Conv2d(4, 4, 1))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=f"layer 0.*{why}.*layers="):
        pyinit.whitening_(model, batch(*shape))
    assert all(torch.equal(each, before[key]) for key, each in model.state_dict().items())
    report = pyinit.whitening_(model, batch(*shape), layers="1")
    assert [row.name for row in report] == ["1"]


@pytest.mark.parametrize("mode", ["pca", "zca"])
def test_a_model_without_a_layer_to_whiten_is_refused(mode: str) -> None:
    frozen = nn.Conv2d(4, 4, 1).requires_grad_(False)
    model = nn.Sequential(frozen, nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 4, 3, groups=4))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"no layer that it could whiten \(0: frozen"):
        pyinit.whitening_(model, batch(8, 4, 6, 6), mode=mode)
    assert all(torch.equal(each, before[key]) for key, each in model.state_dict().items())


@pytest.mark.parametrize("mode", ["pca", "zca"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_replay_gives_the_same_bits_without_the_data(
    name: str, mode: str, tmp_path: Path
) -> None:
    make, shape = NETWORKS[name]
    if name == "transposed" and mode == "pca":
        pytest.skip("it cannot be whitened")
    model, again = make(), make()
    pyinit.whitening_(model, batch(*shape), mode=mode, seed=1).save(tmp_path / "report.json")
    pyinit.replay_(again, pyinit.WhiteningReport.load(tmp_path / "report.json"))
    wanted = model.state_dict()
    assert all(torch.equal(each, wanted[key]) for key, each in again.state_dict().items())


@pytest.mark.parametrize("mode", ["pca", "zca"])
@pytest.mark.parametrize("base", ["kaiming", None])
def test_an_interrupt_leaves_the_model_as_it_was(mode: str, base: str | None) -> None:
    make, shape = NETWORKS["chain"]
    model = make()

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    model[8].register_forward_hook(interrupt)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        pyinit.whitening_(model, batch(*shape), mode=mode, base=base)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(each, before[key]) for key, each in model.state_dict().items())


@pytest.mark.parametrize("mode", ["pca", "zca"])
def test_a_layer_without_variance_is_reported_and_left(mode: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    before = copy.deepcopy(model.state_dict())
    report = pyinit.whitening_(model, torch.ones(16, 4), mode=mode, base=None)
    what = "input" if mode == "pca" else "output"
    assert dict(report.left)["0"] == f"its {what} has no variance"
    assert torch.equal(model[0].weight, before["0.weight"])
    assert torch.equal(model[0].bias, before["0.bias"])


def test_bfloat16_weights_are_measured_in_float32() -> None:
    model, x = nn.Sequential(nn.Linear(6, 6)).bfloat16(), batch(256, 6).bfloat16()
    report = pyinit.whitening_(model, x, seed=0)
    assert report.largest_deviation < 0.05
    covariance = torch.cov(rows(model[0], x)[:3], correction=0)
    torch.testing.assert_close(covariance, torch.eye(3).double(), rtol=0, atol=0.05)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"mode": "zac"}, "zca"),
        ({"eps": -1.0}, "eps"),
        ({"eps": float("nan")}, "eps"),
        ({"base": "kaimin"}, "kaiming"),
        ({"layers": "nothing"}, "layers"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments: dict[str, Any], what: str) -> None:
    model = nn.Sequential(nn.Linear(8, 8))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=what):
        pyinit.whitening_(model, batch(16, 8), **arguments)
    assert all(torch.equal(each, before[key]) for key, each in model.state_dict().items())
