"""``metainit_``: the gradient changes less along itself."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import pyinit


def batch(count: int, *shape: int, classes: int = 4, seed: int = 7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, *shape, generator=generator)
    return x, torch.randint(classes, (count,), generator=generator)


def chain(depth: int, width: int, activation: Callable[[], nn.Module] = nn.Tanh) -> nn.Sequential:
    hidden = (p for _ in range(depth - 1) for p in (nn.Linear(width, width), activation()))
    return nn.Sequential(*hidden, nn.Linear(width, 4))


def too_large(model: nn.Module, factor: float = 2.0) -> nn.Module:
    pyinit.initialize_(model, "kaiming", seed=0)
    with torch.no_grad():
        for each in model.parameters():
            if each.dim() > 1:
                each.mul_(factor)
    return model


def quotient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """As the paper prints it."""
    parameters = list(model.parameters())
    loss = functional.cross_entropy(model(x), y)
    gradients = torch.autograd.grad(loss, parameters, create_graph=True)
    half = sum((g**2).sum() / 2 for g in gradients)
    products = torch.autograd.grad(half, parameters, create_graph=True)
    total = 0.0
    for g, p in zip(gradients, products, strict=True):
        off = 1e-5 * (2 * (g >= 0).to(g.dtype) - 1)
        total = total + ((g - p) / (g + off) - 1).abs().sum()
    return total / sum(each.numel() for each in parameters)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_the_gradient_quotient_of_20_layers_twice_too_large_falls_by_10(
    activation: Callable[[], nn.Module],
) -> None:
    model, (x, y) = too_large(chain(20, 16, activation)), batch(64, 16)
    before = float(quotient(model, x, y).detach())
    report = pyinit.metainit_(model, (64, 16), base=None, steps=150, seed=0)
    assert float(quotient(model, x, y).detach()) < before / 10  # on numbers that it has not seen
    assert report.quotient_after < report.quotient_before / 10


def test_on_one_batch_it_is_the_published_algorithm() -> None:
    """In float64. The published program takes the last norms, and this one the best ones."""
    model = too_large(chain(6, 8)).double()
    other = copy.deepcopy(model)
    x, y = batch(32, 8)
    x = x.double()
    steps, lr, momentum = 40, 0.05, 0.9
    report = pyinit.metainit_(model, (x, y), base=None, steps=steps, lr=lr)
    weights = [each for each in other.parameters() if each.dim() > 1]
    memory = [0.0] * len(weights)
    met: list[tuple[float, list[float]]] = []
    for _ in range(steps):
        value = quotient(other, x, y)
        met.append((float(value.detach()), [float(each.detach().norm()) for each in weights]))
        for i, (weight, gradient) in enumerate(
            zip(weights, torch.autograd.grad(value, weights), strict=True)
        ):
            norm = weight.detach().norm()
            sign = torch.sign((weight.detach() * gradient).sum() / norm)
            memory[i] = momentum * memory[i] - lr * float(sign)
            weight.data.mul_((norm + memory[i]) / norm)
    least, norms = min(met)
    assert [row.norm_after for row in report] == pytest.approx(norms, rel=1e-9)
    assert report.quotient_before == pytest.approx(met[0][0])
    assert report.quotient_after == pytest.approx(least)
    assert report.steps_to_best == met.index((least, norms)) > 0


def test_a_start_that_is_best_is_kept() -> None:
    model = nn.Sequential(nn.Linear(8, 4))
    report = pyinit.metainit_(model, batch(32, 8), steps=1, seed=0)
    assert [row.scale for row in report] == [1.0]
    assert report.quotient_after == report.quotient_before


def test_a_replay_gives_the_same_bits() -> None:
    model = chain(4, 16)
    base = pyinit.recipe("normal", std=1.0)
    report = pyinit.metainit_(model, (16, 16), base=base, lr=1.0, steps=30, seed=3)
    again = chain(4, 16)
    pyinit.replay_(again, report)
    assert all(map(torch.equal, again.parameters(), model.parameters()))
    assert {row.scale for row in report} != {1.0}


def test_a_seed_gives_the_same_weights_whatever_was_drawn_before() -> None:
    made = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = nn.Sequential(*chain(3, 16), nn.Dropout(0.5))
        pyinit.metainit_(model, (16, 16), steps=5, seed=5)
        made.append(model[0].weight)
    assert torch.equal(*made)


def test_norms_alone_change() -> None:
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 4)
    )
    before = copy.deepcopy(model.state_dict())
    states = torch.get_rng_state()
    report = pyinit.metainit_(model, (16, 2, 5, 5), base=None, steps=10, lr=0.01)
    assert torch.equal(torch.get_rng_state(), states)
    assert [row.name for row in report] == ["0.weight", "4.weight"]
    for name, now in model.state_dict().items():
        scale = report.of(name).scale if name in ("0.weight", "4.weight") else 1
        assert torch.equal(now, before[name] * scale)
    assert all(module.training for module in model.modules())


class Regression(nn.Module):
    def __init__(self, loss: bool) -> None:
        super().__init__()
        self.layer, self.loss = nn.Linear(8, 1), loss

    def forward(self, x: Tensor) -> Any:
        output = self.layer(x)
        return {"y": output} if not self.loss else Own(output.square().mean())


class Own:
    def __init__(self, loss: Tensor) -> None:
        self.loss = loss


@pytest.mark.parametrize("loss", [False, True])
def test_outputs_without_classes_have_a_loss_too(loss: bool) -> None:
    report = pyinit.metainit_(Regression(loss), (16, 8), steps=3, seed=0)
    assert len(report) == 1


def test_a_shape_takes_the_dtype_of_the_model_and_bfloat16_is_searched_in_float32() -> None:
    model = chain(3, 16).bfloat16()
    report = pyinit.metainit_(model, (16, 16), steps=5, seed=0)
    assert model[0].weight.dtype is torch.bfloat16
    assert report.quotient_after <= report.quotient_before


@pytest.mark.parametrize("at", [1, 4])
@pytest.mark.parametrize("base", ["kaiming", None])
def test_an_interrupt_leaves_the_model_as_it_was(base: str | None, at: int) -> None:
    model, calls = chain(3, 16), []

    def interrupt(*_: Any) -> None:
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt

    model.register_forward_hook(interrupt)
    before, states = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        pyinit.metainit_(model, (16, 16), base=base, steps=10)
    assert all(torch.equal(each, before[key]) for key, each in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), states)


def with_nan() -> Tensor:
    x = batch(16, 16)[0]
    x[0, 0] = float("nan")
    return x


class Sorted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cdist(x, x[:4], p=3.0)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"steps": 0}, "steps"),
        ({"lr": -1.0}, "lr"),
        ({"lr": True}, "lr"),
        ({"data": (16, 0)}, "shape"),
        ({"data": None}, "batch must be data"),
        ({"data": with_nan()}, "NaN"),
        ({"data": iter([batch(8, 16)] * 3), "steps": 5}, "ended after 3 batches"),
        ({"data": (16, 7)}, "forward pass failed"),
        ({"loss": lambda output, *_: output}, "scalar"),
        ({"loss": lambda output, *_: output.sum() * float("nan")}, "finite at the start"),
        ({"model": nn.Tanh()}, "weight"),
        ({"model": nn.Sequential(nn.Linear(16, 4), Sorted())}, "_cdist_backward"),
    ],
)
def test_what_is_bad_is_refused_by_name(arguments: dict[str, Any], what: str) -> None:
    arguments = {"model": chain(3, 16), "data": (16, 16)} | arguments
    model = arguments["model"]
    before = copy.deepcopy(model.state_dict())
    with pytest.raises((ValueError, TypeError, RuntimeError), match=what):
        pyinit.metainit_(**arguments)
    assert all(torch.equal(each, before[key]) for key, each in model.state_dict().items())
