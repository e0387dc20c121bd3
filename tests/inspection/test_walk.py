"""A walk meets layers in the order in which they run, and leaves nothing behind."""

import io
import random
import sys
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from pyinit.inspection import progress
from pyinit.inspection.walk import Call, has_parameters, is_activation, walk

X = torch.linspace(-1, 1, 12).reshape(4, 3)


def names(model: nn.Module, batch: Any = X, **options: Any) -> list[str]:
    found: list[str] = []
    walk(model, batch, lambda call: found.append(call.name), **options)
    return found


def total(output: Any) -> Tensor:
    """A loss of whatever a model returns, with other gradients by each element."""
    return sum((x * torch.linspace(0, 1, x.numel()).view_as(x)).sum() for x in tensors(output))


def is_same(a: Any, b: Any) -> bool:
    return all(torch.equal(x, y) for x, y in zip(tensors(a), tensors(b), strict=True))


def tensors(value: Any) -> list[Tensor]:
    return [each for each in torch.utils._pytree.tree_leaves(value) if isinstance(each, Tensor)]


# ---- models ---------------------------------------------------------------------------------------


class Reversed(nn.Module):
    """Modules in the reverse order of execution."""

    def __init__(self) -> None:
        super().__init__()
        self.c, self.b, self.a = nn.Linear(4, 2), nn.Linear(4, 4), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x)).relu())


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(3, 3), nn.LayerNorm(3)
        self.same = self.layer

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = self.norm(self.layer(x))
        return self.same(x) + functional.linear(x, self.layer.weight)


class Branching(nn.Module):
    """What runs depends on the values."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.low(x) if x.sum() < 0 else self.high(x)


@dataclass
class Signals:
    x: Tensor
    extra: tuple[Tensor, ...]


class Structured(nn.Module):
    """Dataclasses, dictionaries and tuples go in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = Packs(), Unpacks(), nn.Linear(3, 2)

    def forward(self, x: Tensor, *, mask: Tensor) -> dict[str, Any]:
        return {"y": self.third(self.second(self.first((x, mask)))), "n": 1}


class Packs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, pair: tuple[Tensor, Tensor]) -> Signals:
        return Signals(pair[0] * self.weight, (pair[1],))


class Unpacks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(3))

    def forward(self, signals: Signals) -> Tensor:
        return (signals.x + signals.extra[0]) @ self.weight


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru = nn.LSTM(3, 4, 2, batch_first=True), nn.GRU(4, 4, batch_first=True)
        self.rnn, self.cell = nn.RNN(4, 4, batch_first=True), nn.LSTMCell(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.rnn(self.gru(self.lstm(x[:, None].expand(-1, 3, -1))[0])[0])[0]
        state = None
        for i in range(3):
            state = self.cell(y[:, i], state)
        return state[0]


class Attention(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.out, self.norm = nn.Linear(4, 2), nn.LayerNorm(4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True, **options)
        self.up = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.up(x)[:, None].expand(-1, 2, -1)
        h = self.norm(h + self.attention(h, h, h)[0])
        memory = h * 2
        h = h + self.attention(h, memory, memory)[0]
        return self.out(h.mean(1))


class Bare(nn.Module):
    """A module with parameters of its own and modules inside; one with two weights; one with none."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.inner, self.mlp = (
            nn.Parameter(torch.ones(3)),
            nn.Linear(3, 3),
            TwoWeights(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(self.inner(x) * self.scale)


class TwoWeights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Parameter(torch.ones(3, 5)), nn.Parameter(torch.ones(5, 2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bi,io->bo", (x @ self.up).tanh(), self.down)


class Listed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList(torch.eye(3) * (i + 1) for i in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for weight in self.weights:
            x = x @ weight
        return x


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant, self.first = reentrant, nn.Linear(3, 4)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.last = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=self.reentrant)
        return self.last(x)


class Block(nn.Module):
    """A layer twice, a norm with statistics, attention, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm, self.drop = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.2)
        self.attention = nn.MultiheadAttention(4, 1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(self.drop(self.norm(self.layer(x)).tanh()))[:, None]
        return self.attention(x, x, x)[0][:, 0]


class Conv1D(nn.Module):
    """As transformers has it."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf, self.weight = nf, nn.Parameter(torch.randn(nx, nf))
        self.bias = nn.Parameter(torch.zeros(nf))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.weight)


def weight_normed() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        old = nn.utils.weight_norm(nn.Linear(3, 3))
    new = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
    spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 2))
    return nn.Sequential(old, new, nn.utils.spectral_norm(nn.Linear(3, 3)), spectral)


class Case(NamedTuple):
    make: Callable[[], nn.Module]
    expected: list[str]
    batch: Any = X


QKV, OUT = "attention.in_proj_weight", "attention.out_proj"
BLOCK = ["layer", "norm", "layer", QKV, OUT]
CASES = {
    "order": Case(Reversed, ["a", "b", "c"]),
    "shared": Case(Shared, ["layer", "norm", "layer", "norm", "layer", "layer"]),
    "branch": Case(Branching, ["high"], X + 1),
    "structures": Case(Structured, ["first", "second", "third"], {"x": X, "mask": X * 2}),
    "recurrent": Case(Recurrent, ["lstm", "gru", "rnn", *["cell"] * 3]),
    "attention": Case(Attention, ["up", QKV, OUT, "norm", *[QKV] * 2, OUT, "out"]),
    "attention, several widths": Case(
        lambda: nn.Sequential(nn.Linear(3, 4), Cross()),
        ["0", *(f"1.attention.{x}_proj_weight" for x in "qkv"), "1.attention.out_proj"],
    ),
    "encoder": Case(
        lambda: nn.TransformerEncoderLayer(4, 2, 8, 0.1, batch_first=True),
        ["self_attn.in_proj_weight", "self_attn.out_proj", "norm1", "linear1", "linear2", "norm2"],
        torch.ones(2, 3, 4),
    ),
    "bare": Case(Bare, ["inner", "mlp.up", "mlp.down", ""]),
    "list of parameters": Case(Listed, ["weights.0", "weights.1"]),
    "reentrant": Case(
        lambda: Checkpointed(True),
        ["first", *(f"blocks.{i}.{name}" for i in range(2) for name in BLOCK), "last"],
    ),
    "not reentrant": Case(
        lambda: Checkpointed(False),
        ["first", *(f"blocks.{i}.{name}" for i in range(2) for name in BLOCK), "last"],
    ),
    "conv": Case(
        lambda: nn.Sequential(nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2)),
        ["0", "1", "3"],
        torch.arange(18.0).reshape(2, 1, 3, 3),
    ),
    "Conv1D": Case(lambda: nn.Sequential(Conv1D(4, 3), nn.GELU(), Conv1D(2, 4)), ["0", "2"]),
    "parametrized": Case(weight_normed, ["0", "1", "2", "3"]),
    "embedding": Case(
        lambda: nn.Sequential(nn.Embedding(9, 3, max_norm=0.5), nn.Linear(3, 2)),
        ["0", "1"],
        torch.tensor([[1, 2], [3, 1]]),
    ),
    "bilinear": Case(lambda: nn.Bilinear(3, 3, 2), [""], (X, X + 1)),
}


class Cross(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, kdim=3, vdim=2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, None]
        return self.attention(x, x[..., :3], x[..., :2])[0]


every_model = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


# ---- order and calls ------------------------------------------------------------------------------


@every_model
@pytest.mark.parametrize("training", [False, True])
def test_each_call_is_visited_once_in_the_order_of_execution(case: Case, training: bool) -> None:
    assert names(case.make(), case.batch, training=training) == case.expected


@every_model
def test_the_counts_of_calls_are_those_of_the_visits(case: Case) -> None:
    found: dict[str, int] = {}

    def visit(call: Call) -> None:
        assert call.number == found.get(call.name, 0) + 1
        found[call.name] = call.number

    walked = walk(case.make(), case.batch, visit)
    assert walked.calls == found


@every_model
def test_all_parameters_are_visited_once_a_call_by_their_names(case: Case) -> None:
    model = case.make()
    named = dict(model.named_parameters(remove_duplicate=False))
    met: set[int] = set()

    def visit(call: Call) -> None:
        met.update(map(id, call.parameters.values()))
        assert all(named[name] is each for name, each in call.parameters.items())

    unused = walk(model, case.batch, visit).unused
    assert {n for n, p in model.named_parameters() if id(p) not in met} == {
        f"{name}.{leaf}" for name in unused for leaf in ("weight", "bias")
    }


@pytest.mark.parametrize(
    ("make", "batch", "kinds"),
    [
        (Recurrent, X, ["recurrent"] * 6),
        (Attention, X, ["linear"] * 3 + ["norm"] + ["linear"] * 4),
        (Bare, X, ["linear"] * 3 + ["composite"]),
        (CASES["conv"].make, CASES["conv"].batch, ["conv", "norm", "linear"]),
        (CASES["embedding"].make, CASES["embedding"].batch, ["embedding", "linear"]),
        (Structured, CASES["structures"].batch, ["other", "linear", "linear"]),
    ],
)
def test_a_call_says_what_kind_of_layer_it_is(make: Any, batch: Any, kinds: list[str]) -> None:
    found: list[str] = []
    walk(make(), batch, lambda call: found.append(call.kind))
    assert found == kinds


def test_a_call_has_the_inputs_and_the_output_that_the_model_sees() -> None:
    model = Reversed()
    h = model.a(X)
    seen: dict[str, tuple[Any, Any]] = {}
    walk(model, X, lambda call: seen.update({call.name: (call.inputs[0], call.output)}))
    assert is_same(seen["a"], (X, h))
    assert is_same(seen["c"], (model.b(h).relu(), model(X)))


def test_a_call_keeps_nothing_when_its_visit_is_over() -> None:
    kept: list[Call] = []
    walk(Reversed(), X, kept.append)
    with pytest.raises(RuntimeError, match=r"visit of Call\('a', linear, number=1\) is over"):
        _ = kept[0].output


def test_no_activation_is_kept() -> None:
    model = nn.Sequential(*(nn.Linear(3, 3) for _ in range(5)))
    alive: list[weakref.ref[Tensor]] = []
    counts: list[int] = []

    def visit(call: Call) -> None:
        call.again()
        alive.append(weakref.ref(call.output))
        counts.append(sum(each() is not None for each in alive))

    walk(model, X, visit)
    assert max(counts) <= 2  # an input and an output


def test_compiled_parts_run_eagerly(compiler: Any) -> None:
    model = Reversed()
    model.b = compiler(model.b)
    model.c.compile(backend="eager")
    inner = compiler(lambda x: model.a(x) * 2)
    whole = compiler(model)
    whole(X), inner(X)
    assert names(whole) == ["a", "b", "c"]

    class Calls(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = model

        def forward(self, x: Tensor) -> Tensor:
            return inner(x)

    assert names(Calls()) == ["part.a"]


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.optim.swa_utils.AveragedModel])
def test_wrappers_of_torch_are_no_part_of_names(wrap: Any) -> None:
    assert names(wrap(Reversed())) == ["a", "b", "c"]


def test_a_wrapper_for_distributed_training_is_walked(process_group: None) -> None:
    model = nn.parallel.DistributedDataParallel(Reversed())
    assert names(model, loss=torch.sum) == ["a", "b", "c"]
    assert all(each.grad is None for each in model.parameters())


def test_a_layer_is_computed_again_as_it_was_under_autocast() -> None:
    model = Reversed()
    dtypes: list[torch.dtype] = []
    with torch.autocast("cpu", dtype=torch.bfloat16):
        walked = walk(model, X, lambda call: dtypes.append(call.again().dtype))
        assert torch.equal(walked.output, model(X))
    assert dtypes == [torch.bfloat16] * 3


def test_modes_of_the_user_see_the_pass_and_the_layers_again() -> None:
    model, flops = nn.Linear(3, 2), 2 * 4 * 3 * 2
    with FlopCounterMode(display=False) as once:
        walk(model, X, lambda call: call.module.weight @ call.module.weight.T)
    with FlopCounterMode(display=False) as twice:
        walk(model, X, lambda call: call.again())
    assert (once.get_total_flops(), twice.get_total_flops()) == (flops, 2 * flops)


def test_layers_are_met_in_any_control_flow() -> None:
    class Maps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Linear(3, 3) for _ in "abc")

        def forward(self, x: Tensor) -> Tensor:
            with torch.enable_grad():  # a force: the derivative of an energy
                y = x.detach().requires_grad_()
                (force,) = torch.autograd.grad(self.a(y).tanh().sum(), y)
            x = torch.vmap(self.b)(force) + 5
            while x.norm() > 1:
                x = self.c(x) * 0.1
            return x

    assert names(Maps())[:3] == ["a", "b", "c"]


def test_layers_that_are_not_used_are_listed() -> None:
    assert walk(Branching(), X + 1).unused == ("low",)
    assert walk(Shared(), X).unused == ()


def test_parameters_that_are_swapped_for_the_call_are_no_hindrance() -> None:
    class Doubled(Reversed):
        def forward(self, x: Tensor) -> Tensor:
            doubled = {name: each * 2 for name, each in self.a.named_parameters()}
            return torch.func.functional_call(self.a, doubled, (x,))

    model = Doubled()
    assert torch.equal(walk(model, X, lambda call: call.again()).output, model(X))


def test_frozen_and_quantized_parts_are_listed() -> None:
    model = Reversed()
    model.b.requires_grad_(False)
    model.register_module("tally", nn.Module())
    model.tally.weight = nn.Parameter(torch.zeros(2, 2, dtype=torch.int8), requires_grad=False)
    walked = walk(model, X)
    assert walked.frozen == ("b.weight", "b.bias", "tally.weight")
    assert (walked.quantized, walked.unused) == (("tally",), ("tally",))


# ---- which layers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("b", ["b"]),
        (["c", "a"], ["a", "c"]),
        (nn.Linear, ["a", "b", "c"]),
        (lambda layer: layer.kind == "activation", ["relu"]),
        ([has_parameters, is_activation], ["a", "b", "relu", "c"]),
        ("relu", ["relu"]),
    ],
)
def test_layers_are_chosen_as_parameters_are_in_rules(layers: Any, expected: list[str]) -> None:
    assert names(Reversed(), layers=layers) == expected


def test_activations_are_met_as_modules_and_as_functions() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), Block(), nn.Tanh())
    assert names(model, layers=is_activation) == ["1", "2.tanh", "3"]


def test_a_module_that_is_asked_for_is_visited_whole() -> None:
    assert names(Attention(), layers="attention") == ["attention"] * 2
    model = nn.Sequential(nn.Linear(3, 4), Cross())
    projections = [f"1.attention.{x}_proj_weight" for x in "qkv"]
    assert names(model, layers=nn.MultiheadAttention) == [*projections, "1.attention"]


def test_a_pattern_that_matches_nothing_is_refused_before_the_pass() -> None:
    model = Reversed()
    model.forward = pytest.fail  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="layers: no layer matches nowhere; the model has"):
        walk(model, X, layers=["a", "nowhere"])


# ---- a layer again --------------------------------------------------------------------------------


@every_model
@pytest.mark.parametrize("training", [False, True])
def test_the_output_is_that_of_the_changed_model(case: Case, training: bool) -> None:
    model = case.make().train(training)
    changed: set[int] = set()

    def visit(call: Call) -> None:
        for parameter in call.parameters.values():
            if id(parameter) not in changed:
                parameter.mul_(1.5).add_(0.1)
                changed.add(id(parameter))
        call.again()

    if len(set(case.expected)) < len(case.expected):  # it was used before it was changed
        walk(model, case.batch, visit)
        visit = Call.again
    # Of some attention torch makes views of a weight, which may not change under gradients.
    views = "1.attention.k_proj_weight" in case.expected
    output = walk(model, case.batch, visit, loss=None if views else total).output
    assert is_same(output, fresh(model, case.batch))
    assert changed or case.make is Shared


def fresh(model: nn.Module, batch: Any) -> Any:
    """What the model makes of a batch."""
    if isinstance(batch, dict):
        return model(**batch)
    return model(*batch) if isinstance(batch, tuple) else model(batch)


def test_again_is_the_changed_layer_run_by_hand() -> None:
    model = Reversed()

    def visit(call: Call) -> None:
        old = call.output
        call.parameters[f"{call.name}.weight"].mul_(2)
        new = call.again()
        assert new is call.output
        assert torch.equal(
            new, functional.linear(call.inputs[0], call.module.weight, call.module.bias)
        )
        assert not torch.equal(old, new)

    walk(model, X, visit)


@pytest.mark.parametrize("training", [False, True])
def test_again_starts_from_the_state_that_the_layer_started_from(training: bool) -> None:
    class Stateful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.seen, self.steps = nn.Parameter(torch.ones(3)), [], 0
            self.register_buffer("total", torch.zeros(3))
            self.own = torch.Generator().manual_seed(3)

        def forward(self, x: Tensor) -> Tensor:
            self.total += x.sum(0)
            self.steps += 1
            self.seen.append(self.steps)
            x.mul_(2)
            noise = torch.rand(3) + np.random.rand() + random.random()
            return (
                x * self.weight
                + noise
                + torch.rand(3, generator=self.own)
                + self.total * len(self.seen)
            )

    model = nn.Sequential(nn.Linear(3, 3), Stateful(), nn.Dropout(0.5), Stateful())
    outputs: list[Tensor] = []
    walk(
        model,
        X,
        lambda call: outputs.extend(x.clone() for x in (call.output, call.again(), call.again())),
        training=training,
    )
    assert all(
        torch.equal(a, b) and torch.equal(a, c)
        for a, b, c in zip(*[iter(outputs)] * 3, strict=True)
    )


def test_a_walk_costs_one_pass_and_the_layers_that_are_computed_again() -> None:
    ran: list[str] = []

    class Counted(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            ran.append("layer")
            return super().forward(x)

    model = nn.Sequential(*(Counted(3, 3) for _ in range(7)))
    walk(model, X, lambda call: call.again() if call.name in "25" else None)
    assert len(ran) == 7 + 2


def test_a_method_that_goes_layer_by_layer_takes_one_pass() -> None:
    model = nn.Sequential(*(each for _ in range(9) for each in (nn.Linear(32, 32), nn.Tanh())))
    batch = torch.randn(256, 32)

    def unit_variance(call: Call) -> None:
        call.module.weight.div_(call.tensor.std())
        call.again()

    walk(model, batch, unit_variance)
    found: list[float] = []
    walk(model, batch, lambda call: found.append(call.tensor.std().item()))
    assert found == pytest.approx([1] * 9, abs=0.05)


def test_the_older_weight_norm_computes_its_weight_again() -> None:
    model = weight_normed()[0]
    before = model(X) - model.bias
    walk(model, X, lambda call: (call.parameters["weight_g"].mul_(3), call.again()))
    torch.testing.assert_close(model(X) - model.bias, before * 3)


def test_what_is_written_to_a_parameter_that_the_layer_writes_to_stays() -> None:
    model = nn.Embedding(4, 3, max_norm=1.0)
    untouched = model.weight.detach().clone()
    walk(model, torch.tensor([0, 1]))
    assert torch.equal(model.weight, untouched)

    def visit(call: Call) -> None:
        call.module.weight.fill_(7)
        assert torch.allclose(call.again().norm(dim=-1), torch.tensor(1.0))

    walk(model, torch.tensor([0, 1]), visit)
    assert (model.weight == 7).all()


def test_a_parameter_that_is_replaced_is_refused() -> None:
    model = Reversed()

    def visit(call: Call) -> None:
        call.module.weight = nn.Parameter(call.module.weight * 2)

    with pytest.raises(TypeError, match=r"must write into a\.weight, and has put another"):
        walk(model, X, visit)


def test_random_numbers_of_visits_are_not_those_of_the_pass() -> None:
    model = nn.Sequential(
        nn.Linear(3, 3), nn.Dropout(0.5), nn.Linear(3, 3), nn.Linear(3, 3)
    ).train()
    torch.manual_seed(5)
    expected = [torch.rand(2) for _ in range(3)]
    after = torch.rand(2)
    torch.manual_seed(5)
    plain = model(X)
    torch.manual_seed(5)
    drawn: list[Tensor] = []
    output = walk(model, X, lambda call: (drawn.append(torch.rand(2)), call.again())).output
    assert is_same(drawn, expected)
    assert torch.equal(output, plain)
    assert torch.equal(torch.rand(2), after)


def test_visits_run_outside_of_the_modes_of_the_pass() -> None:
    from torch.overrides import _get_current_function_mode_stack  # noqa: PLC0415

    depths: set[tuple[int, int, bool]] = set()

    def visit(call: Call) -> None:
        modes = torch._C._len_torch_dispatch_stack(), len(_get_current_function_mode_stack())
        depths.add((*modes, torch.is_grad_enabled()))

    walk(Attention(), X, visit, loss=torch.sum)
    assert depths == {(0, 0, False)}


# ---- gradients ------------------------------------------------------------------------------------


@every_model
def test_each_call_gets_the_gradient_by_its_output(case: Case) -> None:
    model = case.make().train()
    found: dict[tuple[str, int], Tensor] = {}
    calls: list[tuple[str, int]] = []

    def gradient(call: Call, value: Tensor) -> None:
        assert (call.name, call.number) not in found
        found[call.name, call.number] = value.clone()

    weights: dict[str, Tensor] = {}
    walked = walk(
        model,
        case.batch,
        lambda call: calls.append((call.name, call.number)),
        loss=total,
        visit_gradient=gradient,
        visit_weight=lambda name, _, value: weights.update({name: value}),
    )
    assert set(found) == set(calls)
    expected = plain_gradients(model, case.batch)
    assert {name for name, value in expected.items() if value is not None} == set(weights)
    assert all(torch.equal(expected[name], value) for name, value in weights.items())
    assert all(each.grad is None for each in model.parameters())
    assert walked.loss is not None


def plain_gradients(model: nn.Module, batch: Any) -> dict[str, Tensor | None]:
    state = {name: each.clone() for name, each in model.state_dict().items()}
    generators = torch.get_rng_state()
    total(fresh(model, batch)).backward()
    found = {name: each.grad for name, each in model.named_parameters()}
    for each in model.parameters():
        each.grad = None
    model.load_state_dict(state)
    torch.set_rng_state(generators)
    return found


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradients_behind_a_checkpoint_are_those_without(reentrant: bool) -> None:
    def gradients(model: nn.Module) -> dict[tuple[str, int], Tensor]:
        found: dict[tuple[str, int], Tensor] = {}
        walk(
            model,
            X,
            loss=lambda out: out.square().sum(),
            visit_gradient=lambda c, g: found.update({(c.name, c.number): g.clone()}),
            training=False,
        )
        return found

    model = Checkpointed(reentrant)
    got = gradients(model)
    plain = nn.Module()
    plain.first, plain.blocks, plain.last = model.first, model.blocks, model.last
    plain.forward = lambda x: plain.last(plain.blocks[1](plain.blocks[0](plain.first(x))))
    expected = gradients(plain)
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[key], expected[key]) for key in got)


def test_gradients_go_by_the_output_of_the_layer_that_was_computed_again() -> None:
    model = Bare()
    found: list[tuple[str, Tensor]] = []
    walk(
        model,
        X,
        lambda call: call.again(),
        loss=lambda out: out.sum(),
        visit_gradient=lambda call, value: found.append((call.name, value)),
    )
    assert [name for name, _ in found] == ["mlp.down", "", "mlp.up", "inner"]
    assert torch.equal(found[0][1], torch.ones(4, 2))


def test_a_layer_that_writes_to_its_input_is_not_computed_twice_for_gradients() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True))
    options: Any = {"layers": nn.ReLU, "loss": torch.sum}
    assert torch.equal(walk(model, X, lambda c: c.again(), layers=nn.ReLU).output, model(X))
    with pytest.raises(RuntimeError, match="1 writes to its inputs"):
        walk(model, X, lambda call: call.again(), **options)


# ---- what is left behind --------------------------------------------------------------------------


class Everything(nn.Module):
    """Draws, counts, drops, and has hooks."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.drop = nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.3)
        self.attention = nn.MultiheadAttention(4, 2, dropout=0.1, batch_first=True)
        self.last, self.spectral = nn.Linear(4, 2), nn.utils.spectral_norm(nn.Linear(4, 4))
        self.steps, self.seen, self.fails = 0, [], ""

    def forward(self, x: Tensor) -> Tensor:
        self.steps += 1
        self.seen.append(random.random() + np.random.rand())
        self.raise_at("start")
        h = self.drop(self.norm(self.first(x)))[:, None]
        self.raise_at("middle")
        h = self.spectral(self.attention(h, h, h)[0])[:, 0]
        y = self.last(h)
        self.raise_at("end")
        return y

    def raise_at(self, point: str) -> None:
        if self.fails == point:
            raise KeyboardInterrupt if point == "middle" else ArithmeticError


def prepared() -> tuple[Everything, Tensor, list[str]]:
    model = Everything()
    model.norm.eval()
    model.last.bias.requires_grad_(False)
    for i, each in enumerate(model.parameters()):
        each.grad = torch.full_like(each, i)
    x = X.clone().requires_grad_()
    x.grad = torch.ones_like(x)
    fired: list[str] = []
    model.first.register_forward_hook(lambda *_: fired.append("forward"))
    model.first.register_forward_pre_hook(lambda *_: fired.append("pre"))
    model.last.register_full_backward_hook(lambda *_: fired.append("backward"))
    return model, x, fired


def state_of(model: Everything, x: Tensor) -> list[Any]:
    """All that must be as before; tensors by identity and by value."""
    held: list[Any] = [x, x.grad, x.grad.clone(), x.requires_grad]
    for module in model.modules():
        held += [module.training, type(module), *map(id, vars(module)["_modules"].values())]
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        held += [list(each.values()) for each in hooks]
        held += [list(module._forward_hooks_with_kwargs), list(vars(module))]
        for each in (*module._parameters.values(), *module._buffers.values()):
            if each is not None:
                held += [id(each), each.detach().clone(), each.requires_grad, id(each.grad)]
                held += [each._backward_hooks, each.data_ptr()]
                held += [] if each.grad is None else [each.grad.clone()]
    generators = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    modes = torch.is_grad_enabled(), torch.get_default_dtype()
    return [*held, *generators, *modes, model.steps, list(model.seen)]


def assert_as_before(now: list[Any], before: list[Any]) -> None:
    assert len(now) == len(before)
    for a, b in zip(now, before, strict=True):
        assert torch.equal(a, b) if isinstance(a, Tensor) else a == b


@pytest.mark.parametrize("loss", [None, torch.sum], ids=["forward", "backward"])
@pytest.mark.parametrize("training", [None, True, False])
def test_everything_is_as_before(loss: Any, training: bool | None) -> None:
    model, x, fired = prepared()
    before = state_of(model, x)
    walk(model, x, lambda call: call.again(), training=training, loss=loss)
    assert_as_before(state_of(model, x), before)
    assert fired.count("forward") == fired.count("pre") == 2  # the pass, and the layer again
    fired.clear()
    model(x).sum().backward()
    assert fired == ["pre", "forward", "backward"]


VISITS = {"visit": 6, "gradient": 6, "weight": 11, "loss": 1}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize(
    ("where", "when"), [(where, i) for where, count in VISITS.items() for i in range(count)]
)
def test_everything_is_as_before_after_an_error_of_the_visitor(
    where: str, when: int, error: type[BaseException]
) -> None:
    model, x, _ = prepared()
    before = state_of(model, x)
    left = dict.fromkeys(VISITS, -1) | {where: when}

    def at(place: str) -> None:
        torch.rand(1), random.random(), np.random.rand()
        if left[place] == 0:
            raise error("on purpose")
        left[place] -= 1

    def loss(out: Tensor) -> Tensor:
        at("loss")
        return out.sum()

    wrapped = where == "loss" and error is ValueError
    with pytest.raises(RuntimeError if wrapped else error, match="on purpose"):
        walk(
            model,
            x,
            lambda call: (call.again(), at("visit")),
            loss=loss,
            visit_gradient=lambda *_: at("gradient"),
            visit_weight=lambda *_: at("weight"),
        )
    assert_as_before(state_of(model, x), before)


def test_the_errors_above_are_at_every_visit() -> None:
    model, x, _ = prepared()
    met = dict.fromkeys(VISITS, 0)

    def count(place: str) -> None:
        met[place] += 1

    def counted_loss(out: Tensor) -> Tensor:
        count("loss")
        return out.sum()

    walk(
        model,
        x,
        lambda *_: count("visit"),
        loss=counted_loss,
        visit_gradient=lambda *_: count("gradient"),
        visit_weight=lambda *_: count("weight"),
    )
    assert met == VISITS


@pytest.mark.parametrize("point", ["start", "middle", "end"])
def test_everything_is_as_before_after_an_error_of_the_model(point: str) -> None:
    model, x, _ = prepared()
    model.fails = point
    before = state_of(model, x)
    with pytest.raises((RuntimeError, KeyboardInterrupt)):
        walk(model, x, lambda call: call.again(), loss=torch.sum)
    assert_as_before(state_of(model, x), before)


def test_an_error_of_the_visitor_is_raised_even_if_the_model_catches_it() -> None:
    class Careless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.other = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            try:
                return self.layer(x)
            except ValueError:
                return self.other(x)

    def fail(call: Call) -> None:
        raise ValueError(call.name)

    with pytest.raises(ValueError, match="layer"):
        walk(Careless(), X, fail)


def test_what_the_model_does_to_parameters_itself_is_put_back() -> None:
    class Clips(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                self.weight.clamp_(-0.1, 0.1)
            return super().forward(x)

    model = Clips(3, 3)
    before = model.weight.detach().clone()
    walk(model, X, lambda call: call.again(), loss=torch.sum)
    assert torch.equal(model.weight, before)


# ---- refusals -------------------------------------------------------------------------------------


def test_an_optimizer_in_the_backward_pass_is_refused() -> None:
    model = Reversed()
    model.a.weight.register_post_accumulate_grad_hook(lambda parameter: parameter.data.zero_())
    with pytest.raises(ValueError, match=r"a\.weight has a hook that runs after"):
        walk(model, X, loss=torch.sum)


# ---- progress -------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("patience", "shown"), [(0.0, True), (2.0, False)])
def test_a_bar_shows_what_takes_longer_than_two_seconds(
    patience: float, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_PATIENCE", patience)
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    walk(Reversed(), X)
    assert bool(sys.stderr.getvalue()) is shown


def test_nothing_is_shown_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)
    walk(Reversed(), X)
    assert capfd.readouterr() == ("", "")


# ---- transformers' models -------------------------------------------------------------------------


def hugging_face(kind: str) -> tuple[nn.Module, dict[str, Tensor]]:
    transformers = pytest.importorskip("transformers")
    transformers.logging.set_verbosity_error()
    ids = torch.arange(12).reshape(2, 6)
    sizes = {"vocab_size": 20, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2}
    image = {"image_size": 8, "patch_size": 4}
    name, options, batch = {
        "gpt2": (
            "GPT2LMHeadModel",
            {"vocab_size": 20, "n_positions": 8, "n_embd": 8, "n_layer": 2, "n_head": 2},
            {"input_ids": ids, "labels": ids},
        ),
        "llama": ("LlamaForCausalLM", sizes | heads, {"input_ids": ids, "labels": ids}),
        "vit": (
            "ViTForImageClassification",
            {key: value for key, value in sizes.items() if key != "vocab_size"} | heads | image,
            {"pixel_values": torch.ones(2, 3, 8, 8), "labels": torch.tensor([0, 1])},
        ),
        "t5": (
            "T5ForConditionalGeneration",
            {"vocab_size": 20, "d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 2, "num_heads": 2}
            | {"decoder_start_token_id": 0},
            {"input_ids": ids, "labels": ids},
        ),
        "mamba": (
            "MambaForCausalLM",
            {"vocab_size": 20, "hidden_size": 8, "state_size": 4, "num_hidden_layers": 2},
            {"input_ids": ids, "labels": ids},
        ),
    }[kind]
    cls = getattr(transformers, name)
    return cls(cls.config_class(**options)), batch


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", ["gpt2", "llama", "vit", "t5", "mamba"])
def test_models_of_transformers_are_walked(kind: str, training: bool) -> None:
    model, batch = hugging_face(kind)
    model.train(training)
    by_call: list[str] = []
    by_gradient: list[str] = []

    def visit(call: Call) -> None:
        by_call.append(repr(call))
        call.again()

    torch.manual_seed(1)
    walked = walk(
        model,
        batch,
        visit,
        loss=lambda out: out.loss,
        visit_gradient=lambda call, _: by_gradient.append(repr(call)),
    )
    assert (walked.unused, sorted(by_gradient)) == ((), sorted(by_call))
    torch.manual_seed(1)
    assert torch.equal(walked.output.logits, model(**batch).logits)
    layers = [n for n, m in model.named_modules() if type(m).__name__ in ("Linear", "Conv1D")]
    assert set(layers) <= set(walked.calls)


def test_a_walk_that_only_reads_sees_the_same_and_computes_nothing_again() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))

    def seen(**options: Any) -> list[Tensor]:
        torch.manual_seed(0)
        found: list[Tensor] = []
        walk(
            model,
            X,
            lambda call: found.append(call.tensor.clone()),  # type: ignore[union-attr]
            loss=total,
            visit_gradient=lambda _, gradient: found.append(gradient.clone()),
            visit_weight=lambda _, __, gradient: found.append(gradient.clone()),
            **options,
        )
        return found

    assert is_same(seen(), seen(reads_only=True))
    with pytest.raises(RuntimeError, match="nothing is computed again in a walk with reads_only"):
        walk(model, X, lambda call: call.again(), reads_only=True)
    with pytest.raises(ZeroDivisionError):
        walk(model, X, lambda _: 1 / 0, reads_only=True)
    assert not any(module._forward_hooks for module in model.modules())
