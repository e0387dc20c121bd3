"""``lsuv_``: every layer's output has standard deviation 1, in one pass."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import pyinit
from pyinit.inspection.walk import walk


def batch(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(torch.relu(self.first(x)))


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.inner(torch.tanh(self.inner(x))))


class Cross(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x.flip(1) * 3, x * 2)[0]


class Conv1D(nn.Module):
    """As transformers has it."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf = nf
        self.weight, self.bias = nn.Parameter(torch.empty(nx, nf)), nn.Parameter(torch.zeros(nf))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        flat = torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight)
        return flat.view(*x.shape[:-1], self.nf)


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "deep chain": (
        lambda: nn.Sequential(*(p for _ in range(20) for p in (nn.Linear(32, 32), nn.ReLU()))),
        (64, 32),
    ),
    "conv1d": (lambda: nn.Sequential(nn.Conv1d(3, 8, 3), nn.ELU(), nn.Conv1d(8, 4, 3)), (8, 3, 20)),
    "conv3d": (
        lambda: nn.Sequential(nn.Conv3d(2, 4, 3), nn.ReLU(), nn.Conv3d(4, 4, 2)),
        (8, 2, 6, 6, 6),
    ),
    "grouped": (
        lambda: nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.Conv2d(8, 8, 3, groups=8)),
        (16, 4, 9, 9),
    ),
    "transposed": (
        lambda: nn.Sequential(
            nn.ConvTranspose2d(4, 8, 3, stride=2, groups=2), nn.ReLU(), nn.ConvTranspose2d(8, 2, 2)
        ),
        (16, 4, 5, 5),
    ),
    "batch norm": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3)),
        (16, 3, 9, 9),
    ),
    "residual": (lambda: nn.Sequential(*(Residual(8) for _ in range(4))), (8, 8, 6, 6)),
    "weight norm": (
        lambda: nn.Sequential(
            parametrizations.weight_norm(nn.Linear(16, 32)),
            nn.ReLU(),
            parametrizations.weight_norm(nn.Linear(32, 8)),
        ),
        (64, 16),
    ),
    "transformer": (
        lambda: nn.TransformerEncoderLayer(16, 4, 32, 0.0, batch_first=True),
        (16, 5, 16),
    ),
    "cross attention": (Cross, (16, 6, 16)),
    "transformers' Conv1D": (
        lambda: nn.Sequential(Conv1D(32, 16), nn.GELU(), Conv1D(8, 32)),
        (64, 16),
    ),
    "with dropout": (
        lambda: nn.Sequential(nn.Linear(64, 64), nn.Dropout(0.2), nn.Linear(64, 64)).eval(),
        (64, 64),
    ),
}


def stds(model: nn.Module, x: Tensor) -> dict[str, float]:
    """By an independent pass: of each layer's output, and of each projection of attention."""
    found: dict[str, float] = {}

    def visit(call: Any) -> None:
        if call.kind not in ("linear", "conv", "embedding"):
            return
        parts = 1
        if call.name.endswith("in_proj_weight"):
            parts = call.tensor.shape[-1] // call.module.embed_dim
        for i, part in enumerate(call.tensor.double().chunk(parts, -1)):
            found[f"{call.name} {call.number} {i}"] = float(part.std(correction=0))

    walk(model, x, visit)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_every_layers_output_has_standard_deviation_1(name: str) -> None:
    make, shape = MODELS[name]
    model, x = make(), batch(*shape)
    report = pyinit.lsuv_(model, x, seed=1, tolerance=0.005)
    found = stds(model, x)
    assert len(found) == len(report)
    assert all(abs(std - 1) <= 0.0051 for std in found.values()), found
    assert report.left == ()
    assert report.largest_deviation <= 0.005


@pytest.mark.parametrize("name", MODELS)
def test_a_replay_gives_the_same_bits_without_the_data(name: str) -> None:
    make, shape = MODELS[name]
    model = make()
    report = pyinit.lsuv_(model, batch(*shape), seed=1)
    again = make()
    pyinit.replay_(again, report)
    wanted = model.state_dict()
    assert all(torch.equal(each, wanted[key]) for key, each in again.state_dict().items())


@pytest.mark.parametrize("cls", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("batch_first", [False, True])
def test_gates_get_inputs_of_standard_deviation_1(cls: type, batch_first: bool) -> None:
    """Recomputed level by level by torch's own layers of one level."""
    model = cls(6, 8, 2, bidirectional=True, batch_first=batch_first)
    x = batch(12, 16, 6)
    report = pyinit.lsuv_(model, x, seed=0)
    gates = model.weight_ih_l0.shape[0] // 8
    assert len(report) == 2 * 2 * gates
    first = cls(6, 8, 1, bidirectional=True, batch_first=batch_first)
    first.load_state_dict({k: v for k, v in model.state_dict().items() if "_l0" in k})
    for level, inputs in ((0, x), (1, first(x)[0])):
        for end in ("", "_reverse"):
            weight = getattr(model, f"weight_ih_l{level}{end}")
            for gate in (inputs @ weight.T).chunk(gates, -1):
                assert abs(gate.std(correction=0) - 1) < 0.011


@pytest.mark.parametrize("cls", [nn.LSTMCell, nn.GRUCell])
def test_cells_are_scaled_gate_by_gate(cls: type) -> None:
    cell, x = cls(6, 8), batch(64, 6)
    report = pyinit.lsuv_(cell, x, seed=0)
    gates = (x @ cell.weight_ih.T).chunk(cell.weight_ih.shape[0] // 8, -1)
    assert [abs(gate.std(correction=0).item() - 1) < 0.011 for gate in gates] == [True] * len(
        report
    )


def _append(seen: list[Tensor], module: nn.Module, args: Any, output: Tensor) -> None:
    seen.append(output)


def published_lsuv(model: nn.Sequential, x: Tensor, tolerance: float) -> None:
    """The algorithm of the package ``lsuv`` 0.3.0 with ``do_orthonorm=False``, a forward pass at a time."""
    for layer in model:
        if not isinstance(layer, (nn.Linear, nn.Conv2d)):
            continue
        seen: list[Tensor] = []
        hook = layer.register_forward_hook(partial(_append, seen))
        with torch.inference_mode():
            model(x)
            attempts = 0
            while abs(seen[-1].std() - 1.0) > tolerance and attempts <= 10:
                layer.weight.data[:] *= float(1.0 / (seen[-1].std() + 1e-8))
                model(x)
                attempts += 1
        hook.remove()


def chain() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2), nn.Tanh()),
        *(nn.Flatten(), nn.Linear(8 * 5 * 5, 32), nn.ReLU(), nn.Linear(32, 10)),
    )


@pytest.mark.parametrize("tolerance", [0.1, 0.01])
def test_on_a_chain_it_is_the_published_algorithm(tolerance: float) -> None:
    torch.manual_seed(0)
    model = chain()
    other = copy.deepcopy(model)
    x = batch(32, 3, 9, 9)
    pyinit.lsuv_(model, x, base=None, tolerance=tolerance)
    published_lsuv(other, x, tolerance)
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        # It divides by n - 1.
        torch.testing.assert_close(ours, theirs, rtol=4e-3, atol=1e-5)


def test_one_pass_is_enough() -> None:
    calls = []
    model = nn.Sequential(*(nn.Linear(16, 16) for _ in range(6)))
    model.register_forward_hook(lambda *_: calls.append(1))
    pyinit.lsuv_(model, batch(32, 16))
    assert len(calls) == 1


def test_a_shared_layer_is_settled_at_its_first_call() -> None:
    model, x = Shared(), batch(64, 8)
    report = pyinit.lsuv_(model, x, seed=0)
    assert [row.name for row in report] == ["inner", "out"]
    found = stds(model, x)
    assert abs(found["inner 1 0"] - 1) < 0.011
    assert abs(found["out 1 0"] - 1) < 0.011


def test_a_tied_weight_is_settled_once_and_replayed_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.embed = nn.Linear(8, 30, bias=False), nn.Embedding(30, 8)
            self.head.weight = self.embed.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.embed(x))

    model, x = Tied(), torch.arange(30).view(5, 6)
    report = pyinit.lsuv_(model, x, seed=0)
    assert [row.name for row in report] == ["embed"]
    assert abs(model.embed(x).std(correction=0) - 1) < 0.011
    again = Tied()
    pyinit.replay_(again, report)
    assert torch.equal(again.head.weight, model.head.weight)


def test_bfloat16_weights_are_measured_in_float32_and_rounded_once() -> None:
    make = lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64)).bfloat16()
    model, x = make(), batch(256, 64).bfloat16()
    report = pyinit.lsuv_(model, x, seed=0)
    assert all(abs(std - 1) < 0.015 for std in stds(model, x).values())
    base = make()
    pyinit.initialize_(base, "orthogonal", seed=0)
    scale = report.of("2").scale
    assert scale != 1
    assert torch.equal(model[2].weight, (base[2].weight.float() * scale).bfloat16())
    again = make()
    pyinit.replay_(again, report)
    assert torch.equal(again[2].weight, model[2].weight)


def test_running_statistics_are_those_of_the_recipe() -> None:
    model = MODELS["batch norm"][0]()
    pyinit.lsuv_(model, batch(16, 3, 9, 9))
    assert torch.equal(model[1].running_mean, torch.zeros(8))
    assert model[1].num_batches_tracked == 0


def test_a_batch_norm_that_has_seen_nothing_takes_the_statistics_of_the_batch() -> None:
    model = MODELS["batch norm"][0]().eval()
    x = 100 * batch(16, 3, 9, 9)
    pyinit.lsuv_(model, x, seed=0)
    assert not model[1].training
    assert abs(stds(model.train(), x)["3 1 0"] - 1) < 0.011


@pytest.mark.parametrize("zero", ["input", "weight"])
def test_a_layer_without_variance_is_reported_and_left(zero: str) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    x = batch(16, 8)
    if zero == "input":
        x = torch.zeros_like(x)
    else:
        nn.init.zeros_(model[0].weight)
        nn.init.zeros_(model[0].bias)
    before = copy.deepcopy(model.state_dict())
    report = pyinit.lsuv_(model, x, base=None if zero == "weight" else "orthogonal", seed=0)
    assert dict(report.left)["0"] == "its output has no variance"
    assert "left as it was: 0" in str(report)
    if zero == "weight":
        assert torch.equal(model[0].weight, before["0.weight"])


def test_a_weight_that_its_output_does_not_follow_keeps_its_base() -> None:
    make = lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(8, 8)), nn.Linear(8, 8))
    model, base = make(), make()
    base.load_state_dict(model.state_dict())
    report = pyinit.lsuv_(model, batch(64, 8), base=None)
    (name, why), *_ = report.left
    assert name == "0"
    assert "does not follow" in why
    original = base[0].parametrizations.weight.original
    assert torch.equal(model[0].parametrizations.weight.original, original)


def test_a_bias_with_more_variance_than_1_is_no_reason_to_lose_the_weight() -> None:
    model = nn.Sequential(nn.Linear(8, 64))
    nn.init.normal_(model[0].bias, std=5.0, generator=torch.Generator().manual_seed(0))
    before = model[0].weight.clone()
    report = pyinit.lsuv_(model, batch(32, 8), base=None)
    assert len(report) == 0
    assert torch.equal(model[0].weight, before)


@pytest.mark.parametrize("layers", ["2.*", "2", [nn.Conv2d, "2"]])
def test_only_the_layers_that_are_asked_for_change(layers: Any) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    before = copy.deepcopy(model.state_dict())
    if isinstance(layers, list):
        layers = [nn.Bilinear, "2"]
    report = pyinit.lsuv_(model, batch(32, 8), layers=layers, seed=0)
    assert [row.name for row in report] == ["2"]
    assert torch.equal(model[0].weight, before["0.weight"])
    assert not torch.equal(model[2].weight, before["2.weight"])


def test_frozen_layers_stay_and_are_named() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    report = pyinit.lsuv_(model, batch(32, 8), seed=0)
    assert report.left == (("0", "frozen: requires no gradient"),)
    assert torch.equal(model[0].weight, before)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"tolerance": -0.1}, "tolerance"),
        ({"tolerance": float("nan")}, "tolerance"),
        ({"iterations": 0}, "iterations"),
        ({"base": "orthogonl"}, "orthogonal"),
        ({"layers": "nothing"}, "layers"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments: dict[str, Any], what: str) -> None:
    model = nn.Sequential(nn.Linear(8, 8))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=what):
        pyinit.lsuv_(model, batch(16, 8), **arguments)
    assert all(torch.equal(each, before[key]) for key, each in model.state_dict().items())


def test_verbose_prints_a_line_for_each_layer(capsys: pytest.CaptureFixture[str]) -> None:
    pyinit.lsuv_(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), batch(16, 8), verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["0", "1"]


def test_a_seed_gives_the_same_weights_whatever_was_drawn_before() -> None:
    made = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(64, 64), nn.Dropout(0.5), nn.Linear(64, 64))
        pyinit.lsuv_(model, batch(64, 64), seed=5)
        made.append(model[2].weight)
    assert torch.equal(*made)


def test_a_layer_outside_a_tolerance_that_nothing_reaches_says_so() -> None:
    x = torch.randn(64, 20, generator=torch.Generator().manual_seed(0))
    left = dict(pyinit.lsuv_(nn.Linear(20, 32), x, seed=0, tolerance=0).left)
    assert "not within 0 of 1: it does not follow the weight closely" in left[""]
