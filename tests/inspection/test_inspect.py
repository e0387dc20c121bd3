"""``inspect`` measures what a float64 computation by torch finds, and leaves nothing behind."""

import json
import math
import random
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import pyinit
from pyinit.inspection.samples import angles
from pyinit.inspection.spectra import extreme_singular_values


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def network(
    depth: int = 3, width: int = 16, activation: type[nn.Module] = nn.Tanh
) -> nn.Sequential:
    parts = [part for _ in range(depth) for part in (nn.Linear(width, width), activation())]
    model = nn.Sequential(*parts, nn.Linear(width, 4))
    pyinit.initialize_(model, "auto", seed=0)
    return model


X, Y = numbers(32, 16), torch.arange(32) % 4


class Everything(nn.Module):
    """Modules, functions, a shared layer, a norm with statistics, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.shared, self.drop = nn.Linear(8, 8), nn.Dropout(0.5)
        self.unused = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x)).relu().mean((2, 3))
        return self.shared(self.drop(self.shared(x)).sigmoid())


def state(model: nn.Module) -> dict[str, Any]:
    return {
        "tensors": {name: each.clone() for name, each in model.state_dict().items()},
        "objects": [id(each) for each in model.parameters()],
        "memory": [each.data_ptr() for each in model.parameters()],
        "grads": [None if each.grad is None else each.grad.clone() for each in model.parameters()],
        "wanted": [each.requires_grad for each in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "hooks": [len(module._forward_hooks) for module in model.modules()],
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1].tolist(),  # type: ignore[index,union-attr]
        "python": random.getstate(),
    }


def is_same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(is_same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(is_same, a, b))
    return bool(a == b)


# ---- numbers --------------------------------------------------------------------------------------


def test_there_is_a_row_for_each_call_in_the_order_of_execution() -> None:
    report = pyinit.inspect(Everything(), numbers(4, 3, 8, 8))
    expected = ["conv", "norm", "relu", "shared", "sigmoid", "shared #2"]
    assert [row.label for row in report] == expected
    assert [row.activation for row in report] == ["", "", "relu", "", "sigmoid", ""]
    assert report.unused == ("unused",)


def test_forward_numbers_are_those_of_float64() -> None:
    model = network(activation=nn.ReLU)
    report = pyinit.inspect(model, X)
    value = X.double()
    for row, module in zip(report, model, strict=True):
        value = module.double()(value).detach()
        centred = value - value.mean(0)
        gram, deviations = value @ value.T, centred @ centred.T
        norms = value.norm(dim=1)
        cosines = (gram / norms[:, None] / norms)[~torch.eye(32, dtype=torch.bool)]
        got = row.forward
        assert got.mean == pytest.approx(float(value.mean()), rel=1e-4, abs=1e-6)
        assert got.std == pytest.approx(float(value.std(correction=0)), rel=1e-4)
        assert got.total_variance == pytest.approx(
            float(value.var(0, correction=0).sum()), rel=1e-4
        )
        assert got.zeros == float((value == 0).double().mean())
        assert got.mean_cosine == pytest.approx(float(cosines.mean()), rel=1e-3, abs=1e-5)
        rank = deviations.trace() ** 2 / deviations.square().sum()
        assert got.effective_rank == pytest.approx(float(rank), rel=1e-3)


def test_gradients_are_those_of_autograd() -> None:
    model = network()
    report = pyinit.inspect(model, X, Y, functional.cross_entropy)
    outputs = []
    value = X
    for module in model:
        value = module(value)
        value.retain_grad()
        outputs.append(value)
    loss = functional.cross_entropy(value, Y)
    loss.backward()
    assert report.losses == (pytest.approx(loss.item()),)
    for row, output in zip(report, outputs, strict=True):
        assert row.backward is not None
        assert output.grad is not None
        assert row.backward.std == pytest.approx(float(output.grad.std(correction=0)), rel=1e-4)
        if row.weight is not None:
            weight = model.get_parameter(row.weight.name)
            assert weight.grad is not None
            ratio = (weight.grad.norm() / weight.norm()).item()
            assert row.weight.gradient_to_weight == pytest.approx(ratio, rel=1e-4)
            assert row.weight.std == pytest.approx(weight.std(correction=0).item(), rel=1e-4)


@pytest.mark.parametrize(
    ("activation", "slope"),
    [
        (nn.Sigmoid(), lambda z: 4 * z.sigmoid() * (1 - z.sigmoid())),
        (nn.Tanh(), lambda z: 1 - z.tanh() ** 2),
    ],
)
def test_saturated_is_where_the_slope_is_below_8_percent(activation: nn.Module, slope: Any) -> None:
    x = torch.linspace(-8, 8, 1000)[:, None]
    (row,) = pyinit.inspect(nn.Sequential(activation), x, layers=type(activation))
    assert row.forward.saturated == pytest.approx(
        float((slope(x) < 0.0784).float().mean()), abs=2e-3
    )


def test_dead_units_are_counted_by_channel() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    with torch.no_grad():
        model[0].bias[:2] = -100.0
        model[0].bias[2:] = 100.0
    _, relu = pyinit.inspect(model, numbers(4, 3, 8, 8))
    assert relu.forward.dead == 0.25


def test_tokens_are_samples_of_a_layer_of_channels_last() -> None:
    model, x = nn.Sequential(nn.Linear(6, 5), nn.ReLU()), numbers(2, 3, 6)
    for row in pyinit.inspect(model, x):
        assert row.forward.units == 5


def test_equal_samples_have_cosine_1_and_no_rank() -> None:
    cosine, rank = angles(numbers(1, 7).expand(5, 7), 1)
    assert cosine == pytest.approx(1)
    assert math.isnan(rank)
    assert angles(torch.eye(4), 1) == (0.0, pytest.approx(3.0))


def test_units_of_many_samples_are_compared_by_64_of_them() -> None:
    cosine, rank = angles(numbers(3000, 40), 1)
    assert abs(cosine) < 0.05
    assert 20 < rank < 40


def test_singular_values_beyond_512_agree_with_exact_ones() -> None:
    matrix = numbers(700, 600) + 3 * numbers(700, 1) @ numbers(1, 600, seed=1) / 600**0.5
    exact = torch.linalg.svdvals(matrix.double())
    largest, smallest = extreme_singular_values(matrix)
    assert largest == pytest.approx(float(exact[0]), rel=1e-5)
    assert float(exact[-1]) <= smallest * 1.001
    assert extreme_singular_values(matrix[:9].clone()) == pytest.approx(
        tuple(torch.linalg.svdvals(matrix[:9].double())[[0, -1]].tolist())
    )


def test_the_jacobian_norm_is_1_at_criticality_and_the_squared_gain_of_linear_layers() -> None:
    model = nn.Sequential(*(nn.Linear(256, 256, bias=False) for _ in range(6)))
    for gain in (1.0, 0.5):
        for layer in model:
            nn.init.normal_(layer.weight, std=gain / 16)
        rows = pyinit.inspect(model, numbers(64, 256), jacobians=True)[:-1]
        for row in rows:
            assert row.backward is not None
            assert row.backward.jacobian == pytest.approx(gain**2, rel=0.15)


def test_steps_say_how_far_weights_went() -> None:
    model = network()
    report = pyinit.inspect(
        model, X, Y, steps=1, optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1)
    )
    for row in report:
        if row.weight is not None:
            expected = 0.1 * row.weight.gradient_to_weight
            assert row.weight.update_ratio == pytest.approx(expected, rel=1e-3)
            assert row.weight.distance == pytest.approx(expected, rel=1e-3)


# ---- recipes --------------------------------------------------------------------------------------


def test_each_recipe_shows_what_a_model_that_it_initialized_shows() -> None:
    model = network()
    report = pyinit.inspect(model, X, recipes=["torch", None, "kaiming"], seed=3)
    assert report.recipes == ("torch", "", "kaiming")
    for recipe in ("torch", "kaiming"):
        other = network()
        pyinit.initialize_(other, recipe, seed=3)
        for row, expected in zip(report.of(recipe), pyinit.inspect(other, X), strict=True):
            assert row.forward == expected.forward
            if row.weight is not None:
                assert row.weight.initializer.startswith("kaiming")
                assert row.weight.std == pytest.approx(row.weight.expected_std, rel=0.2)
    for row, expected in zip(report.of(""), pyinit.inspect(model, X), strict=True):
        assert row.forward == expected.forward


def test_recipes_without_a_seed_follow_the_generator() -> None:
    stds = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        stds.append([row.forward.std for row in pyinit.inspect(network(), X, recipes="auto")])
    assert stds[0] == stds[1] != stds[2]


# ---- nothing is left behind -----------------------------------------------------------------------


class BoomError(RuntimeError):
    pass


def raising(_: Any) -> Tensor:
    raise BoomError


def stepping_on(calls: int) -> Any:
    """A loss that fails at a later call."""
    count = 0

    def loss(output: Tensor) -> Tensor:
        nonlocal count
        count += 1
        if count > calls:
            raise BoomError
        return output.square().mean()

    return loss


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"recipes": ["torch", "auto"]},
        {"recipes": ["torch", "auto"], "steps": 2, "spectra": True, "jacobians": True},
        {"steps": 2},
        {"recipes": "auto", "loss": raising},
        {"recipes": ["auto", "torch"], "loss": stepping_on(1)},
        {"steps": 3, "loss": stepping_on(2)},
    ],
)
def test_all_is_put_back(options: dict[str, Any]) -> None:
    model = Everything()
    model.conv.bias.requires_grad_(False)
    model.norm.eval()
    model(numbers(4, 3, 8, 8)).sum().backward()
    grads = [each.grad for each in model.parameters()]
    before = state(model)
    x = numbers(4, 3, 8, 8)
    if "loss" in options:
        with pytest.raises(RuntimeError):
            pyinit.inspect(model, x, **options)
    else:
        pyinit.inspect(model, x, **options)
    assert is_same(before, state(model))
    assert all(a is b for a, b in zip(grads, (p.grad for p in model.parameters()), strict=True))


def test_an_iterator_gives_one_batch_for_all_recipes() -> None:
    batches = iter([X, X + 1])
    pyinit.inspect(network(), batches, recipes=["torch", "auto"])
    assert torch.equal(next(batches), X + 1)


# ---- losses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (None, lambda out: out.square().mean()),
        (Y, lambda out: functional.cross_entropy(out, Y)),
        (torch.ones(32, 4), lambda out: functional.mse_loss(out, torch.ones(32, 4))),
    ],
)
def test_the_loss_that_is_taken_by_default(target: Any, expected: Any) -> None:
    model = network()
    (loss,) = pyinit.inspect(model, X, target).losses
    assert loss == pytest.approx(expected(model(X)).item(), rel=1e-5)


def test_a_frozen_model_is_looked_at_forward() -> None:
    model = network().requires_grad_(False)
    report = pyinit.inspect(model, X)
    assert math.isnan(report.losses[0])
    assert all(row.backward is None for row in report)
    assert len(report.frozen) == 8


# ---- reports --------------------------------------------------------------------------------------


def test_an_inspection_is_a_sequence_and_prints() -> None:
    report = pyinit.inspect(network(), X, recipes=["torch", "auto"])
    assert len(report) == 14
    assert report[-1].recipe == "auto"
    assert [row.name for row in report[:2]] == ["0", "1"]
    text = str(report)
    assert "std torch" in text
    assert "14" not in text.splitlines()[0]
    assert "7 calls of layers under 2 recipes" in text
    with pytest.raises(KeyError, match="'torch', 'auto'"):
        report.of("kaiming")


def test_an_inspection_is_saved_and_loaded(tmp_path: Path) -> None:
    report = pyinit.inspect(Everything(), numbers(4, 3, 8, 8), spectra=True)
    report.save(tmp_path / "x.json")
    again = pyinit.Inspection.load(tmp_path / "x.json")
    assert again.to_dict() == report.to_dict()
    assert str(again) == str(report)
    with pytest.raises(ValueError, match=r"json or .html"):
        report.save(tmp_path / "x.pdf")
    (tmp_path / "y.json").write_text("{}")
    with pytest.raises(ValueError, match="format must be 1"):
        pyinit.Inspection.load(tmp_path / "y.json")


def test_records_are_plain() -> None:
    report = pyinit.inspect(network(), X)
    records = report.to_records()
    assert len({tuple(record) for record in records}) == 1
    assert records[0]["forward_std"] == report[0].forward.std
    assert records[1]["weight_std"] is None


def test_a_frame_has_a_line_a_row() -> None:
    pytest.importorskip("pandas")
    report = pyinit.inspect(network(), X)
    assert list(report.to_frame()["name"]) == [row.name for row in report]


# ---- models of any kind ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_models_of_any_dtype_are_looked_at(dtype: torch.dtype) -> None:
    model, x = network().to(dtype), X.to(dtype)
    report = pyinit.inspect(model, x, spectra=True, jacobians=True, steps=1)
    single = pyinit.inspect(network(), X, spectra=True, jacobians=True)
    for row, expected in zip(report, single, strict=True):
        assert row.forward.std == pytest.approx(expected.forward.std, rel=0.05)
        assert row.forward.mean_cosine == pytest.approx(expected.forward.mean_cosine, abs=0.05)


@pytest.mark.parametrize(
    ("model", "batch"),
    [
        (nn.GRU(16, 8), numbers(5, 4, 16)),
        (nn.TransformerDecoderLayer(16, 4, 32), (numbers(5, 4, 16), numbers(5, 4, 16))),
        (nn.utils.parametrizations.weight_norm(nn.Linear(16, 8)), X),
        (nn.Linear(16, 3), X[0]),
        (nn.Embedding(10, 4), torch.arange(6).view(2, 3)),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3)).to(memory_format=torch.channels_last),
            numbers(2, 3, 8, 8),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_layers_of_any_kind_are_looked_at(model: nn.Module, batch: Any) -> None:
    before = state(model)
    report = pyinit.inspect(model, batch, recipes=[None, "torch"], seed=0, steps=1, spectra=True)
    assert all(math.isfinite(row.forward.std) and row.backward is not None for row in report)
    assert is_same(before, state(model))


# ---- sparse gradients ---------------------------------------------------------------------------


def test_optimizers_that_take_no_sparse_gradients_are_refused_by_name() -> None:
    model = nn.Sequential(nn.Embedding(10, 4, sparse=True), nn.Linear(4, 3))
    words, classes = torch.arange(8), torch.arange(8) % 3
    assert pyinit.inspect(model, words, classes)[0].weight is not None
    before = state(model)
    with pytest.raises(
        ValueError, match=r"steps: 0\.weight has sparse gradients, which Adam may not"
    ):
        pyinit.inspect(model, words, classes, steps=1)
    assert is_same(before, state(model))
    sgd = partial(torch.optim.SGD, lr=0.1)
    (row, _) = pyinit.inspect(model, words, classes, steps=1, optimizer=sgd)
    assert row.weight is not None
    assert row.weight.update_ratio > 0


def test_samples_of_numbers_near_the_least_have_their_angles() -> None:
    x = numbers(6, 20) + 0.5
    assert angles(x * 1e-25, 1) == pytest.approx(angles(x, 1), rel=1e-4)


# ---- what once raised -----------------------------------------------------------------------------


class Fourier(nn.Module):
    """A layer with a complex weight, as Fourier neural operators have."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((4, 4, 5), 0.3 + 0.1j))

    def forward(self, x: Tensor) -> Tensor:
        some = torch.fft.rfft(x)[..., :5]
        out: Tensor = torch.fft.irfft(
            torch.einsum("bix,iox->box", some, self.weight), n=x.shape[-1]
        )
        return out


def test_models_with_complex_weights_are_looked_at() -> None:
    model = nn.Sequential(nn.Conv1d(1, 4, 1), Fourier(), nn.GELU(), nn.Conv1d(4, 1, 1))
    report = pyinit.inspect(model, numbers(8, 1, 16), steps=1, spectra=True, jacobians=True)
    rows = {row.name: row for row in report}
    assert rows["1"].weight is None
    assert rows["1"].forward.std > 0
    assert rows["0"].weight is not None
    assert rows["0"].weight.gradient_norm > 0


@pytest.mark.parametrize("logits", [lambda y: y, lambda y: y.sum()])
def test_a_model_may_return_a_loss_for_each_sample(logits: Any) -> None:
    class Model(nn.Linear):
        def forward(self, x: Tensor) -> Any:
            y = super().forward(x)
            return SimpleNamespace(loss=y.square().mean(1), logits=logits(y))

    report = pyinit.inspect(Model(4, 3), numbers(5, 4), loss=lambda output: output.loss.mean())
    assert report.losses[0] > 0


@pytest.mark.parametrize("samples", [1, 4])
@pytest.mark.parametrize("weight", [1e40, 1e-40])
def test_signals_whose_squares_are_beyond_float64_are_looked_at(
    samples: int, weight: float
) -> None:
    model = nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(6))).double()
    for each in model.parameters():
        nn.init.constant_(each, weight)
    x = numbers(samples, 1).double()
    report = pyinit.inspect(model, x, loss=torch.sum, jacobians=True)
    found = report[-1].forward
    assert found.mean == pytest.approx(float(x.mean()) * weight**3 * weight**3, rel=1e-12)
    assert found.std == pytest.approx(float(x.std(correction=0)) * weight**3 * weight**3, rel=1e-12)
    assert all(row.weight is not None and row.weight.gradient_norm > 0 for row in report)
    assert "no gradient" not in {finding.kind for finding in report.findings}
    report.page()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("rows", 0, "forward", "histogram"), [1]),
        (("rows", 0, "forward", "histogram"), "x"),
        (("rows", 0, "forward", "histogram", 0), None),
        (("rows", 0, "forward", "std"), "x"),
        (("rows", 0, "forward", "std"), 10**400),
        (("rows", 0, "call"), None),
        (("rows", 0, "name"), 1),
        (("rows", 0, "shape", 0), "x"),
        (("rows", 0, "weight"), []),
        (("rows", 0, "recipe"), "another"),
        (("losses",), []),
        (("losses", 0), "x"),
        (("recipes",), []),
        (("recipes", 0), {}),
        (("unused",), [[1]]),
    ],
)
def test_a_damaged_file_is_refused_as_it_is_loaded(
    place: tuple[Any, ...], value: Any, tmp_path: Path
) -> None:
    path = tmp_path / "x.json"
    pyinit.inspect(nn.Linear(4, 3), numbers(5, 4)).save(path)
    held = whole = json.loads(path.read_text())
    for each in place[:-1]:
        held = held[each]
    held[place[-1]] = value
    path.write_text(json.dumps(whole))
    with pytest.raises(ValueError, match=r"x\.json: "):
        pyinit.Inspection.load(path)


def test_a_file_of_many_brackets_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"x\.json: not JSON"):
        pyinit.Inspection.load(tmp_path / "x.json")
