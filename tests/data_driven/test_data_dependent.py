"""Krähenbühl et al. 2016: channels of mean beta and variance 1, then equal gradient ratios."""

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import pyinit


def batch(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.inner(self.inner(x).relu()).relu())


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.branch, self.out = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.out((x + self.branch(x.relu())).relu())


def relu_chain() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=4), nn.LeakyReLU()),
        *(nn.MaxPool2d(2), nn.Conv2d(8, 8, 2, groups=8), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(8, 16, bias=False), nn.ReLU(), nn.Linear(16, 5)),
    )


def with_norms() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(8 * 9, 5)),
    )


MODELS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "chain": (relu_chain, (64, 3, 7, 7)),
    "norms": (with_norms, (64, 3, 7, 7)),
    "shared": (Shared, (128, 8)),
    "residual": (Residual, (128, 8)),
    "tanh": (
        lambda: nn.Sequential(
            *(part for _ in range(4) for part in (nn.Linear(16, 16), nn.Tanh())), nn.Linear(16, 3)
        ),
        (128, 16),
    ),
    "transposed": (
        lambda: nn.Sequential(
            nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), nn.ReLU(), nn.ConvTranspose2d(6, 2, 2)
        ),
        (32, 4, 5, 5),
    ),
    "sequence": (lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)), (32, 7, 6)),
    "weight norm": (
        lambda: nn.Sequential(
            parametrizations.weight_norm(nn.Linear(8, 8)), nn.ReLU(), nn.Linear(8, 4)
        ),
        (128, 8),
    ),
}


def outputs(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The first output of each layer, channels first."""
    found: dict[str, Tensor] = {}
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):

            def keep(module: nn.Module, args: Any, output: Tensor, name: str = name) -> None:
                dim = -1 if isinstance(module, nn.Linear) else 1
                found.setdefault(name, output.detach().double().movedim(dim, 0).flatten(1))

            handles.append(module.register_forward_hook(keep))
    copy.deepcopy(model)(x)
    model(x)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("weights", ["base", "pca", "kmeans"])
@pytest.mark.parametrize("name", MODELS)
def test_the_first_step_makes_means_and_variances_exact(name: str, weights: str) -> None:
    make, shape = MODELS[name]
    model, x = make(), batch(*shape)
    report = pyinit.data_dependent_(model, x, weights=weights, beta=0.25, equalize=False, seed=0)
    found = outputs(model, x)
    assert [row.name for row in report] == list(found)
    for layer, values in found.items():
        assert (values.var(1, correction=0) - 1).abs().max() < 1e-5
        if model.get_submodule(layer).bias is not None:
            assert (values.mean(1) - 0.25).abs().max() < 1e-5
        assert report.of(layer).std_after < 1e-5
    assert report.left == ()


def ratios(model: nn.Module, x: Tensor, seed: int) -> Tensor:
    """By autograd, for one random direction of the output."""
    model = copy.deepcopy(model)
    output = model(x)
    direction = torch.randn(output.shape, generator=torch.Generator().manual_seed(seed))
    (output * direction).sum().backward()
    weights = [each for each in model.parameters() if each.dim() > 1]
    found = [each.grad.double().square().mean() / each.double().square().mean() for each in weights]
    return torch.stack(found).sqrt()


@pytest.mark.parametrize("weights", ["base", "pca"])
@pytest.mark.parametrize("name", [name for name in MODELS if name != "weight norm"])
def test_the_second_step_makes_gradient_ratios_equal(name: str, weights: str) -> None:
    make, shape = MODELS[name]
    model, x = make(), batch(*shape)
    report = pyinit.data_dependent_(model, x, weights=weights, iterations=30, seed=3)
    found = ratios(model, x, 3)
    assert (found / found.log().mean().exp() - 1).abs().max() < 0.01
    assert report.spread_after < 1.02
    if name in ("chain", "norms", "tanh"):
        assert report.spread_before > 1.1


@pytest.mark.parametrize("weights", ["base", "pca"])
def test_the_ratio_is_that_of_the_gradients_of_single_samples(weights: str) -> None:
    """The mean over samples of the squared gradients, and over many directions, tells the same."""
    model, x = relu_chain(), batch(64, 3, 7, 7)
    report = pyinit.data_dependent_(model, x, weights=weights, seed=0)
    found = torch.stack([ratios(model, x, seed).square() for seed in range(64)]).mean(0).sqrt()
    assert (found / found.log().mean().exp() - 1).abs().max() < 0.3
    assert report.spread_after < 1.01


@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_in_relu_chains_the_second_step_keeps_the_function(beta: float) -> None:
    make, shape = MODELS["chain"]
    one, other, x = make(), make(), batch(*shape)
    pyinit.data_dependent_(one, x, weights="pca", beta=beta, equalize=False, seed=0)
    report = pyinit.data_dependent_(other, x, weights="pca", beta=beta, seed=0)
    assert report.spread_before > 1.1
    new = 2 * batch(*shape).flip(0)
    torch.testing.assert_close(one(new), other(new), rtol=1e-3, atol=1e-3)
    assert report.output_change < 1e-3
    assert any(abs(row.scale - 1) > 0.02 for row in report)


def test_principal_components_are_those_of_numpy() -> None:
    model, x = nn.Sequential(nn.Linear(6, 4)), batch(200, 6) * torch.arange(1.0, 7)
    pyinit.data_dependent_(model, x, weights="pca", equalize=False, seed=0)
    _, _, wanted = torch.linalg.svd(x.double() - x.double().mean(0), full_matrices=False)
    found = nn.functional.normalize(model[0].weight.detach().double())
    assert ((found * wanted[:4]).sum(1).abs() - 1).abs().max() < 1e-5


def test_components_of_patches_see_what_the_convolution_sees() -> None:
    """A convolution with the components has outputs without correlation, whatever its geometry."""
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3, stride=2, padding=(1, 2), dilation=(2, 1), padding_mode="circular")
    )
    x = batch(32, 2, 9, 9).cumsum(-1)
    pyinit.data_dependent_(model, x, weights="pca", equalize=False, seed=0)
    covariance = torch.cov(outputs(model, x)["0"], correction=0)
    torch.testing.assert_close(covariance, torch.eye(6).double(), rtol=0, atol=1e-3)


def test_channels_beyond_the_components_keep_the_base() -> None:
    model, plain = nn.Sequential(nn.Linear(4, 10)), nn.Sequential(nn.Linear(4, 10))
    x = batch(64, 4)
    pyinit.data_dependent_(model, x, weights="pca", equalize=False, seed=0)
    pyinit.data_dependent_(plain, x, equalize=False, seed=0)
    torch.testing.assert_close(model[0].weight[4:], plain[0].weight[4:])
    assert not torch.allclose(model[0].weight[:4], plain[0].weight[:4])


def test_cluster_centres_lie_where_the_clusters_are() -> None:
    centres = torch.eye(4, 16)
    x = (4 * centres[torch.arange(400) % 4] + 0.05 * batch(400, 16)).double()
    model = nn.Sequential(nn.Linear(16, 4)).double()
    pyinit.data_dependent_(model, x, weights="kmeans", equalize=False, seed=0)
    chosen = model(x).argmax(1).view(100, 4)
    assert (chosen == chosen[0]).float().mean() > 0.99
    assert len(chosen[0].unique()) == 4


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    before = model[0].weight.clone()
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(ImportError, match=r"pyinit\[data\]"):
        pyinit.data_dependent_(model, batch(16, 4), weights="kmeans")
    assert torch.equal(model[0].weight, before)


@pytest.mark.parametrize("weights", ["base", "pca", "kmeans"])
@pytest.mark.parametrize("name", MODELS)
def test_a_replay_gives_the_same_bits_without_the_data(
    name: str, weights: str, tmp_path: Path
) -> None:
    make, shape = MODELS[name]
    model, again = make(), make()
    report = pyinit.data_dependent_(model, batch(*shape), weights=weights, seed=1)
    report.save(tmp_path / "report.json")
    assert (tmp_path / "report.safetensors").exists() == any(
        row.weights != "base" for row in report
    )
    pyinit.replay_(again, pyinit.DataDependentReport.load(tmp_path / "report.json"))
    wanted = model.state_dict()
    assert all(torch.equal(each, wanted[key]) for key, each in again.state_dict().items())


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("weights", ["base", "pca"])
@pytest.mark.parametrize("base", ["kaiming", None])
def test_an_interrupt_leaves_the_model_as_it_was(at: int, weights: str, base: str | None) -> None:
    """In the first step's pass, in that which takes gradients, and in that which rescales."""
    model = with_norms()
    calls = []

    def interrupt(*_: Any) -> None:
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt

    model[6].register_forward_hook(interrupt)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        pyinit.data_dependent_(model, batch(32, 3, 7, 7), weights=weights, base=base)
    assert len(calls) == at
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(each, before[key]) for key, each in model.state_dict().items())
    assert all(each.grad is None for each in model.parameters())


def test_channels_without_variance_are_reported_and_left() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3))
    with torch.no_grad():
        model[0].weight[1] = 0
        model[2].weight.zero_()
    before = copy.deepcopy(model.state_dict())
    report = pyinit.data_dependent_(model, batch(64, 4), base=None)
    left = dict(report.left)
    assert left["0"] == "1 of its 3 output channels have no variance, and are not adjusted"
    assert left["2"] == "its output has no variance"
    assert torch.equal(model[0].weight[1], before["0.weight"][1])
    assert torch.equal(model[2].weight, before["2.weight"])
    assert torch.equal(model[2].bias, before["2.bias"])


def test_bfloat16_weights_are_measured_in_float32_and_rounded_once() -> None:
    make = lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)).bfloat16()
    model, x = make(), batch(256, 64).bfloat16()
    report = pyinit.data_dependent_(model, x, weights="pca", seed=0, equalize=False)
    found = outputs(model, x)
    assert all((each.var(1, correction=0) - 1).abs().max() < 0.03 for each in found.values())
    assert all(each.mean(1).abs().max() < 0.03 for each in found.values())
    assert len(report) == 2


def test_the_gates_of_recurrent_layers_take_part_in_the_first_step() -> None:
    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.out = nn.LSTM(6, 8, batch_first=True), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.lstm(x)[0])

    model, x = Tagger(), batch(32, 5, 6)
    report = pyinit.data_dependent_(model, x, seed=0)
    gates = x @ model.lstm.weight_ih_l0.T + model.lstm.bias_ih_l0
    assert (gates.flatten(0, 1).var(0, correction=0) - 1).abs().max() < 1e-4
    assert [row.ratio_after is None for row in report] == [True] * 4 + [False]


def test_attention_and_embeddings_are_brought_to_variance_1() -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.attention = nn.Embedding(30, 8), nn.MultiheadAttention(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.embed(x)
            return self.attention(y, y, y)[0]

    model, x = Encoder(), torch.arange(60).view(6, 10) % 30
    found = pyinit.data_dependent_(model, x, equalize=False, seed=0)
    assert found.left == ()
    output = model(x).flatten(0, 1)
    assert (output.var(0, correction=0) - 1).abs().max() < 1e-5
    assert output.mean(0).abs().max() < 1e-5
    y = model.embed(x).flatten(0, 1)
    assert (y.var(0, correction=0) - 1).abs().max() < 1e-5
    inner = y @ model.attention.in_proj_weight.T + model.attention.in_proj_bias
    assert (inner.var(0, correction=0) - 1).abs().max() < 1e-5
    assert inner.mean(0).abs().max() < 1e-5
    report = pyinit.data_dependent_(Encoder(), x, iterations=30, seed=0)
    assert report.spread_after < 1.02 < report.spread_before


def test_running_statistics_stay_and_layers_choose() -> None:
    model = with_norms()
    before = copy.deepcopy(model.state_dict())
    report = pyinit.data_dependent_(model, batch(32, 3, 7, 7), layers="3", seed=0)
    now = model.state_dict()
    assert [row.name for row in report] == ["3"]
    assert {key for key, each in now.items() if not torch.equal(each, before[key])} == {"3.weight"}


def test_by_name_and_with_options() -> None:
    assert str(pyinit.method("data_dependent", weights="pca")) == "data_dependent(weights='pca')"
    one, other, x = relu_chain(), relu_chain(), batch(32, 3, 7, 7)
    report = pyinit.data_dependent_(one, x, beta=0.1, seed=0)
    assert report.init.method == "data_dependent(beta=0.1)"
    again = pyinit.data_dependent_(other, x, beta=0.1, seed=0)
    assert again == report
    assert torch.equal(one[0].weight, other[0].weight)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"weights": "kmean"}, "kmeans"),
        ({"beta": float("nan")}, "beta"),
        ({"iterations": 0}, "iterations"),
        ({"iterations": True}, "iterations"),
        ({"base": "kaimin"}, "kaiming"),
        ({"layers": "nothing"}, "layers"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments: dict[str, Any], what: str) -> None:
    model = nn.Sequential(nn.Linear(8, 8))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=what):
        pyinit.data_dependent_(model, batch(16, 8), **arguments)
    assert all(torch.equal(each, before[key]) for key, each in model.state_dict().items())
