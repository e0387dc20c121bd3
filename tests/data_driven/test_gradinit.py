"""``gradinit_``: one step of training lowers the loss more, and the gradient keeps its bound."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.utils import parametrizations

import pyinit
from pyinit.data_driven.differentiated import differentiated
from pyinit.data_driven.engine import working
from pyinit.data_driven.gradinit import _STEPS, _Search, halves_of
from pyinit.inspection.batches import Batch
from pyinit.inspection.default_loss import default_loss


def batch(count: int, *shape: int, classes: int = 4, dtype: torch.dtype = torch.float32) -> Any:
    x = torch.randn(count, *shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    return x, x.flatten(1)[:, :classes].argmax(1)


def too_large(model: nn.Module, factor: float = 2.0) -> nn.Module:
    pyinit.initialize_(model, "kaiming", seed=0)
    with torch.no_grad():
        for each in model.parameters():
            if each.dim() > 1:
                each.mul_(factor)
    return model


def mlp() -> nn.Sequential:
    hidden = (part for _ in range(6) for part in (nn.Linear(16, 16), nn.ReLU()))
    return nn.Sequential(*hidden, nn.Linear(16, 4))


def convolutions() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Tanh()),
        *(nn.Flatten(), nn.Linear(8 * 9, 16), nn.GELU(), nn.Linear(16, 4)),
    )


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (mlp, (16,)),
    "convolutions and a batch norm": (convolutions, (2, 7, 7)),
}


def trained_by_hand(
    model: nn.Module, x: Tensor, y: Tensor, name: str, eta: float
) -> tuple[float, float]:
    """By torch's own optimizers: the norm of the gradient, and the loss after a step."""
    model = copy.deepcopy(model)
    functional.cross_entropy(model(x), y).backward()
    gradients = torch.cat([each.grad.flatten() for each in model.parameters()])
    if name == "sgd":
        torch.optim.SGD(model.parameters(), lr=eta).step()
        norm = float(gradients.norm())
    else:
        torch.optim.Adam(model.parameters(), lr=eta, eps=1e-30).step()
        norm = float(gradients.abs().sum())
    with torch.no_grad():
        return norm, float(functional.cross_entropy(model(x), y))


@pytest.mark.parametrize(("optimizer", "eta", "gamma"), [("sgd", 0.1, 1.0), ("adam", 1e-3, 50.0)])
@pytest.mark.parametrize("name", MODELS)
def test_the_loss_after_a_step_falls_and_the_gradient_keeps_its_bound(
    name: str, optimizer: str, eta: float, gamma: float
) -> None:
    make, shape = MODELS[name]
    model = too_large(make())
    x, y = batch(64, *shape)
    _, before = trained_by_hand(model, x, y, optimizer, eta)
    report = pyinit.gradinit_(model, (x, y), base=None, optimizer=optimizer, gamma=gamma, seed=0)
    norm, after = trained_by_hand(model, x, y, optimizer, eta)
    assert after < 0.9 * before
    assert norm <= gamma * 1.001
    assert report.norm_after <= gamma
    assert report.step_before == pytest.approx(before, rel=1e-3)
    assert report.step_after == pytest.approx(after, rel=1e-3)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_search_follows_the_gradient_of_the_loss_after_the_step(optimizer: str) -> None:
    """Against differences, in float64."""
    model, (x, y) = mlp().double(), batch(32, 16, dtype=torch.float64)
    torch.manual_seed(0)
    kind = _STEPS[optimizer]._replace(gamma=float("inf"), eta=1e-2)
    with (
        working("gradinit", {}, model, (x, y), base=None) as work,
        differentiated("gradinit", work, default_loss) as network,
    ):
        search = _Search(network, kind, 0.1)
        pair = work.batch, work.batch
        factors = torch.ones(len(network.parts), dtype=torch.float64).requires_grad_()
        (found,) = torch.autograd.grad(search._measured(factors, pair)[1], factors)
        for i in range(len(factors)):
            off = torch.zeros(len(factors), dtype=torch.float64)
            off[i] = 1e-5
            up, down = (search.look(factors.detach() + s * off, pair).after for s in (1, -1))
            assert float(found[i]) == pytest.approx((up - down) / 2e-5, rel=1e-3, abs=1e-7)


def test_a_replay_gives_the_same_bits() -> None:
    model = mlp()
    report = pyinit.gradinit_(model, batch(32, 16), steps=5, seed=3, gamma=1e3)
    again = mlp()
    pyinit.replay_(again, report)
    assert all(map(torch.equal, again.parameters(), model.parameters()))
    assert {row.scale for row in report} != {1.0}


def test_parameters_are_the_base_times_the_factors() -> None:
    model, base = mlp(), mlp()
    report = pyinit.gradinit_(model, batch(32, 16), steps=5, seed=3, gamma=1e3)
    pyinit.initialize_(base, "kaiming", seed=3)
    assert [row.name for row in report] == [f"{i}.weight" for i in range(0, 13, 2)]
    for row in report:
        assert torch.equal(model.get_parameter(row.name), base.get_parameter(row.name) * row.scale)


def test_biases_and_norms_have_factors_where_they_are_not_0() -> None:
    model = convolutions()
    report = pyinit.gradinit_(
        model, batch(16, 2, 7, 7), base="torch", steps=2, seed=0, gamma=1e3, layers=["0", "1"]
    )
    assert [row.name for row in report] == ["0.weight", "0.bias", "1.weight"]


def state(model: nn.Module) -> list[Any]:
    tensors = [
        (id(each), each.detach().clone(), each.requires_grad, each.grad)
        for each in model.state_dict(keep_vars=True).values()
    ]
    return [tensors, [module.training for module in model.modules()], torch.get_rng_state()]


def assert_same(model: nn.Module, before: list[Any], but_values: bool = False) -> None:
    now = state(model)
    for one, other in zip(now[0], before[0], strict=True):
        assert one[0] == other[0]
        assert but_values or torch.equal(one[1], other[1])
        assert one[2:] == other[2:]
    assert now[1] == before[1]
    assert torch.equal(now[2], before[2])


def test_nothing_but_parameters_changes() -> None:
    model = nn.Sequential(*convolutions(), nn.Dropout(0.5))
    before, buffers = state(model), [each.clone() for each in model.buffers()]
    pyinit.gradinit_(model, batch(16, 2, 7, 7), steps=3, seed=0, gamma=1e3)
    assert_same(model, before, but_values=True)
    assert all(map(torch.equal, model.buffers(), buffers))


@pytest.mark.parametrize("at", [1, 7])
@pytest.mark.parametrize("base", ["kaiming", None])
def test_an_interrupt_leaves_the_model_as_it_was(base: str | None, at: int) -> None:
    model = convolutions()
    calls: list[int] = []

    def interrupt(*_: Any) -> None:
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt

    model[1].register_forward_hook(interrupt)
    before = state(model)
    with pytest.raises(KeyboardInterrupt):
        pyinit.gradinit_(model, batch(16, 2, 7, 7), base=base, steps=10)
    assert_same(model, before)


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * 3 * ctx.saved_tensors[0] ** 2


class Lacking(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.function = nn.Linear(16, 16), nn.Linear(16, 4), function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x)))


def distances(x: Tensor) -> Tensor:
    return torch.cdist(x, x[:16], p=3.0)


@pytest.mark.parametrize(
    ("function", "operation"), [(Once.apply, "Once"), (distances, "_cdist_backward")]
)
def test_an_operation_without_second_derivatives_is_named(
    function: Callable[[Tensor], Tensor], operation: str
) -> None:
    model = Lacking(function)
    before = state(model)
    with pytest.raises(
        RuntimeError, match=rf"gradinit needs second derivatives, and \S*{operation}"
    ):
        pyinit.gradinit_(model, batch(32, 16), gamma=1e-6)
    assert_same(model, before)


@pytest.mark.parametrize("layer", ["attention", "lstm", "checkpoint"])
def test_layers_that_are_fused_have_second_derivatives_here(layer: str) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(16, 16, batch_first=True)
            self.attention = nn.TransformerEncoderLayer(16, 2, 16, batch_first=True)
            self.last = nn.Linear(16, 4)

        def forward(self, x: Tensor) -> Tensor:
            if layer == "lstm":
                return self.last(self.lstm(x)[0][:, -1])
            if layer == "attention":
                return self.last(self.attention(x)[:, -1])
            run = torch.utils.checkpoint.checkpoint
            return self.last(run(self.attention, x, use_reentrant=False)[:, -1])

    model = Model()
    x, y = torch.randn(8, 5, 16), torch.arange(8) % 4
    report = pyinit.gradinit_(model, (x, y), steps=2, gamma=1e3, seed=0)
    assert {row.scale for row in report} != {1.0}


def test_a_loader_gives_half_of_a_new_batch_for_the_loss_after_the_step() -> None:
    first = Batch((torch.arange(6),), {"m": torch.zeros(6, 2)}, torch.arange(6) + 10)
    second = Batch((torch.arange(4) + 20,), {"m": torch.ones(4, 2)}, torch.arange(4) + 30)
    found = halves_of(first, second)
    assert found.args[0].tolist() == [0, 1, 2, 20, 21]
    assert found.kwargs["m"][:, 0].tolist() == [0, 0, 0, 1, 1]
    assert found.target.tolist() == [10, 11, 12, 30, 31]


def test_where_tensors_do_not_go_together_the_next_batch_is_taken_alone() -> None:
    first = Batch((torch.zeros(6, 5),), {}, torch.zeros(6))
    second = Batch((torch.ones(6, 4),), {}, torch.ones(6))
    assert halves_of(first, second) is second


def test_a_loader_is_begun_again_and_its_generator_put_back() -> None:
    x, y = batch(48, 16)
    generator = torch.Generator().manual_seed(5)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(x, y), 16, shuffle=True, generator=generator
    )
    made = [mlp() for _ in range(2)]
    before = generator.get_state()
    for model in made:
        pyinit.gradinit_(model, loader, steps=5, gamma=1e3, seed=0)
    assert torch.equal(generator.get_state(), before)
    assert all(map(torch.equal, made[0].parameters(), made[1].parameters()))


def few(count: int) -> Iterator[Any]:
    return iter([batch(16, 16)] * count)


def with_nan() -> Any:
    x, y = batch(16, 16)
    x[0, 0] = float("nan")
    return x, y


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"steps": 0}, "steps"),
        ({"steps": 2.5}, "steps"),
        ({"lr": 0.0}, "lr"),
        ({"lr": float("nan")}, "lr"),
        ({"gamma": -1.0}, "gamma"),
        ({"gamma": 0}, "gamma"),
        ({"eta": 0.0}, "eta"),
        ({"optimizer": "adams"}, "adam"),
        ({"data": few(3), "steps": 5}, "ended after 3 batches"),
        ({"data": with_nan()}, "NaN"),
        ({"data": None}, "data"),
        ({"loss": lambda output, _: output}, "scalar"),
        ({"loss": lambda output, _: output.sum() * float("inf")}, "finite"),
        ({"loss": lambda output, _: output.detach().sum()}, "differentiated"),
        ({"model": nn.ReLU()}, "weight"),
        ({"gamma": 1e-9, "steps": 2}, "gamma"),
    ],
)
def test_what_is_bad_is_refused_by_name(arguments: dict[str, Any], what: str) -> None:
    arguments = {"model": mlp(), "data": batch(16, 16)} | arguments
    before = state(arguments["model"])
    with pytest.raises((ValueError, TypeError, RuntimeError), match=what):
        pyinit.gradinit_(**arguments)
    assert_same(arguments["model"], before)


def test_bfloat16_is_searched_in_float32() -> None:
    wide, narrow = too_large(mlp()), too_large(mlp().bfloat16())
    x, y = batch(64, 16)
    x = x.bfloat16()
    for one, other in zip(wide.parameters(), narrow.parameters(), strict=True):
        one.data.copy_(other)
    wanted = pyinit.gradinit_(wide, (x.float(), y), base=None, steps=70, seed=0)
    found = pyinit.gradinit_(narrow, (x, y), base=None, steps=70, seed=0)
    assert found.layers == wanted.layers
    assert all(map(torch.equal, narrow.parameters(), (p.bfloat16() for p in wide.parameters())))


def test_what_stays_is_named() -> None:
    model = nn.Sequential(
        nn.Linear(16, 16), parametrizations.weight_norm(nn.Linear(16, 16)), nn.Linear(16, 4)
    )
    model[0].weight.requires_grad_(False)
    before = [each.clone() for each in (model[0].weight, model[1].weight)]
    report = pyinit.gradinit_(model, batch(32, 16), base=None, steps=3, gamma=1e3)
    assert dict(report.left) == {
        "0.weight": "frozen: requires no gradient",
        "1.weight": "its module computes it from other parameters",
    }
    assert torch.equal(model[0].weight, before[0])
    assert torch.equal(model[1].weight, before[1])


def test_a_tied_weight_has_one_factor() -> None:
    model = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16), nn.Linear(16, 4))
    model[2].weight = model[0].weight
    report = pyinit.gradinit_(model, batch(32, 16), steps=3, gamma=1e3, seed=0)
    assert [row.name for row in report] == ["0.weight", "3.weight"]
    assert model[2].weight is model[0].weight


def test_verbose_prints_a_line_for_each_step(capsys: pytest.CaptureFixture[str]) -> None:
    pyinit.gradinit_(mlp(), batch(16, 16), steps=3, gamma=1e3, verbose=True)
    assert capsys.readouterr().out.count("step ") == 6
