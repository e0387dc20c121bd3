"""``autoinit_`` and the recipe: outputs have mean 0 and variance 1, without data."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import pyinit
from pyinit._graph.propagate import fed
from pyinit.models import build

WIDTH = 512
ACTIVATIONS = (
    *(nn.ReLU, nn.Tanh, nn.SiLU, nn.ELU, nn.Sigmoid, nn.GELU, nn.Softplus, nn.LeakyReLU),
    *(nn.SELU, nn.Mish),
)


class Residual(nn.Module):
    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.activation(self.first(x)))


class Beside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([functional.relu(self.first(x)), self.second(x) * 0.5], 1)


def deep() -> nn.Sequential:
    """Over 30 layers; pools stand over units, which are independent."""
    parts: list[nn.Module] = []
    for activation in ACTIVATIONS:
        parts += [nn.Linear(WIDTH, WIDTH), activation()]
    parts += [nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU(), nn.MaxPool1d(2), nn.Dropout(0.3)]
    parts += [Residual(activation()) for activation in ACTIVATIONS[:6]]
    parts += [nn.Sigmoid(), Beside(), nn.Linear(2 * WIDTH, 2 * WIDTH), nn.AvgPool1d(2), nn.SiLU()]
    parts += [nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), nn.ELU(), nn.Dropout(0.5)]
    for activation in (nn.Softplus, nn.ReLU6, nn.Hardswish):
        parts += [nn.Linear(WIDTH, WIDTH), activation()]
    return nn.Sequential(*parts, nn.Linear(WIDTH, WIDTH))


def test_through_30_layers_outputs_have_mean_0_and_variance_1() -> None:
    model = deep()
    assert sum(isinstance(module, nn.Linear) for module in model.modules()) >= 30
    means, variances = [], []
    for seed in range(20):
        pyinit.autoinit_(model, seed=seed)
        x = torch.randn(64, WIDTH, generator=torch.Generator().manual_seed(seed))
        torch.manual_seed(seed)  # of dropout
        with torch.no_grad():
            y = model(x).double()
        means.append(float(y.mean()))
        variances.append(float((y - y.mean()).square().mean()))
    assert abs(sum(means) / 20) < 0.1
    assert abs(sum(variances) / 20 - 1) < 0.1


class Of(nn.Module):
    """A function of normal numbers, and a layer behind it."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.layer = function, nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.function(x))


def gated(x: Tensor) -> Tensor:
    return functional.glu(x, -1)


CASES: dict[str, Any] = {
    "relu": functional.relu,
    "leaky relu of slope 0.3": lambda x: functional.leaky_relu(x, 0.3),
    "threshold": lambda x: functional.threshold(x, 0.5, -2.0),
    "a number's multiple and sum": lambda x: (3 * x - 2).relu() / 4 + 1,
    "what is left of a number": lambda x: 1 - x.sigmoid(),
    "greatest of 3": lambda x: functional.max_pool1d(x.relu(), 3),
    "greatest of 2 x 2": nn.MaxPool2d(2),
    "mean of 4": lambda x: functional.avg_pool1d(x.relu(), 4),
    "dropout": nn.Dropout(0.3),
    "a function's dropout": lambda x: functional.dropout(x.relu(), p=0.25),
    "sum of two": lambda x: x.relu() + x.flip(0).tanh(),
    "difference of two": lambda x: x.relu() - x.flip(0),
    "product of two": lambda x: x.relu() * x.flip(0).sigmoid(),
    "a number with itself": lambda x: x + x,
    "side by side": lambda x: torch.cat([x.relu(), x.flip(0)], 1),
    "glu": gated,
    "size": lambda x: (-x).abs(),
    "cut": lambda x: x.clamp(-0.5, 1.5),
    "batch norm": lambda x: functional.batch_norm(x.relu(), None, None, training=True).relu(),
    "rms norm": lambda x: functional.rms_norm(x.relu() + 0.5, (4, 64)),
}


@pytest.mark.parametrize("name", CASES)
def test_what_goes_into_a_layer_is_what_samples_show(name: str) -> None:
    function = CASES[name]
    found = fed(Of(function), 0.0, 1.0)["layer"]
    x = torch.randn(4000, 4, 64, generator=torch.Generator().manual_seed(0)).double()
    torch.manual_seed(0)
    y = function(x) if name != "greatest of 2 x 2" else function(x.view(-1, 1, 16, 16))
    assert found.mean == pytest.approx(float(y.mean()), abs=0.01)
    assert found.variance == pytest.approx(float(y.var()), rel=0.02)
    assert found.second == pytest.approx(found.variance + found.mean**2, rel=1e-9)


def outputs(model: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        return float(model(x).var())


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(64, 128, 3), (32, 64, 20)),
        (nn.Conv2d(64, 128, 3, groups=4), (16, 64, 8, 8)),
        (nn.ConvTranspose2d(64, 128, 4, stride=2, padding=1), (16, 64, 12, 12)),
        (nn.Bilinear(32, 32, 128), (256, 32)),
        (nn.Linear(64, 256), (256, 64)),
    ],
)
def test_a_layer_of_any_kind_gives_variance_1(layer: nn.Module, shape: tuple[int, ...]) -> None:
    found = []
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    for seed in range(10):
        pyinit.autoinit_(layer, seed=seed)
        with torch.no_grad():
            y = layer(x, x.flip(0)) if isinstance(layer, nn.Bilinear) else layer(x)
        inner = y[..., 2:-2, 2:-2] if isinstance(layer, nn.ConvTranspose2d) else y
        found.append(float(inner.var()))
    assert sum(found) / 10 == pytest.approx(1, rel=0.1)


def test_data_says_what_the_inputs_are_like() -> None:
    model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 256))
    x = 3 * torch.randn(256, 256, generator=torch.Generator().manual_seed(0)) + 5
    report = pyinit.autoinit_(model, x, seed=0)
    assert (report.mean, report.variance) == pytest.approx(
        (float(x.mean()), float(x.var())), rel=1e-3
    )
    with torch.no_grad():
        assert float(model[0](x).square().mean()) == pytest.approx(1, rel=0.15)


def test_the_recipe_and_the_function_draw_the_same_weights() -> None:
    models = [deep() for _ in range(2)]
    pyinit.autoinit_(models[0], seed=3)
    pyinit.initialize_(models[1], "autoinit", seed=3)
    assert all(map(torch.equal, models[0].parameters(), models[1].parameters()))


@pytest.mark.parametrize("base", ["autoinit", "orthogonal"])
def test_a_replay_gives_the_same_bits(base: str) -> None:
    model, again = deep(), deep()
    pyinit.replay_(again, pyinit.autoinit_(model, base=base, seed=3))
    assert all(map(torch.equal, model.parameters(), again.parameters()))


def test_weights_of_another_base_are_multiplied() -> None:
    model, plain = deep(), deep()
    report = pyinit.autoinit_(model, base="orthogonal", seed=3)
    pyinit.initialize_(plain, "orthogonal", seed=3)
    for row in report:
        weight = model.get_parameter(row.name)
        assert torch.equal(weight, plain.get_parameter(row.name) * row.scale)
        assert float(weight.detach().square().mean().sqrt()) == pytest.approx(row.std, rel=1e-5)


def test_behind_a_recipe_it_multiplies_that_recipes_weights(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text('recipe = "orthogonal"\nafter = "autoinit"\n')
    models = [nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16)) for _ in range(2)]
    report = pyinit.initialize_(models[0], file, seed=0)
    pyinit.autoinit_(models[1], base="orthogonal", seed=0)
    assert report.method == "autoinit"
    assert all(map(torch.equal, models[0].parameters(), models[1].parameters()))


def test_a_model_that_cannot_be_traced_is_initialized_by_what_its_modules_tell() -> None:
    class Untraced(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))

        def forward(self, x: Tensor) -> Tensor:
            return self.layers(x) if x.sum() > 0 else self.layers(-x)

    report = pyinit.autoinit_(Untraced(), seed=0)
    assert [row.std for row in report] == pytest.approx([math.sqrt(1 / 8), math.sqrt(2 / 8)])


@pytest.mark.parametrize("name", ["resnet50", "gpt2", "lenet5"])
def test_whole_architectures_get_weights(name: str) -> None:
    model = build(name)
    before = [module.training for module in model.modules()]
    report = pyinit.autoinit_(model, seed=0)
    weights = [
        n for n, p in model.named_parameters() if p.dim() > 1 and "wte" not in n and "wpe" not in n
    ]
    assert {row.name for row in report} >= {n for n in weights if "emb" not in n}
    assert all(bool(p.isfinite().all()) for p in model.parameters())
    assert [module.training for module in model.modules()] == before


class RootReLU(nn.ReLU):
    """An activation that is not a number below 0."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sqrt()


def with_nan() -> Tensor:
    x = torch.ones(4, 8)
    x[0, 0] = float("nan")
    return x


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"model": nn.ReLU()}, "weight"),
        ({"model": "model"}, "torch.nn.Module"),
        ({"data": with_nan()}, "NaN"),
        ({"data": torch.zeros(4, 8)}, "must not be 0"),
        ({"base": "orthogonl"}, "orthogonal"),
        ({"model": nn.Sequential(nn.Linear(8, 8), RootReLU(), nn.Linear(8, 8))}, "cannot follow"),
        ({"layers": "nothing"}, "layers"),
        (
            {"model": nn.Sequential(nn.Dropout(1.0), nn.Linear(8, 8))},
            "all inputs of layer '1' are 0",
        ),
    ],
)
def test_what_is_bad_is_refused_by_name(arguments: dict[str, Any], what: str) -> None:
    arguments = {"model": nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))} | arguments
    model = arguments["model"]
    before = copy.deepcopy(model.state_dict()) if isinstance(model, nn.Module) else {}
    with pytest.raises((ValueError, TypeError), match=what):
        pyinit.autoinit_(**arguments)
    for key, each in before.items():
        assert torch.equal(model.state_dict()[key], each)
