"""What all methods stand on: all or nothing, adjustments from the base, reports that replay."""

import copy
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from threading import Event, Thread
from time import sleep
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import pyinit
from pyinit._random.generators import all_seeded
from pyinit._random.rng import Key
from pyinit.data_driven.engine import Undo, Work, working
from pyinit.whole_model.methods import _REGISTRY, register_method


def batch(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    before = dict(_REGISTRY)

    @register_method("probe", needs_data=False)
    def probe_(model: Any, data: Any, *, base: Any = None, seed: Any = None) -> None: ...

    yield
    _REGISTRY.clear()
    _REGISTRY.update(before)


def network() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.Flatten()),
        *(parametrizations.weight_norm(nn.Linear(8 * 25, 16)), nn.Tanh(), nn.Linear(16, 4)),
    )


def state(model: nn.Module) -> list[Any]:
    tensors = [
        (name, id(each), each.detach().clone(), each.requires_grad, each.grad)
        for name, each in model.state_dict(keep_vars=True).items()
    ]
    modes = [module.training for module in model.modules()]
    generators = [torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()]
    return [tensors, modes, generators]


def assert_same(model: nn.Module, before: list[Any]) -> None:
    now = state(model)
    for one, other in zip(now[0], before[0], strict=True):
        assert one[:2] == other[:2]
        assert torch.equal(one[2], other[2])
        assert one[3:] == other[3:]
    assert now[1] == before[1]
    assert torch.equal(now[2][0], before[2][0])
    assert now[2][1:] == before[2][1:]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("base", ["orthogonal", None])
def test_whatever_is_raised_in_the_middle_all_is_put_back(
    error: type[BaseException], base: str | None
) -> None:
    model = network()
    model[1].running_mean.fill_(3.0)
    calls = []

    def interrupt(module: nn.Module, args: Any, output: Any) -> None:
        calls.append(module)
        if len(calls) == 1:
            raise error

    model[7].register_forward_hook(interrupt)
    before = state(model)
    with pytest.raises(error):
        pyinit.lsuv_(model, batch(16, 3, 7, 7), base=base)
    assert calls
    assert_same(model, before)


@pytest.mark.parametrize("base", ["orthogonal", None])
def test_an_error_behind_the_pass_puts_all_back(base: str | None) -> None:
    model = network()
    before = state(model)
    with (  # noqa: PT012
        pytest.raises(KeyError),
        working("probe", {}, model, batch(16, 3, 7, 7), base=base, seed=3) as work,
    ):
        for each in work.parameters():
            each.set_(scale=3.0, shift=1.0)
        raise KeyError
    assert_same(model, before)


def bad_batches() -> dict[str, Any]:
    nan = batch(16, 8)
    nan[3, 2] = float("nan")
    return {
        "NaN": nan,
        "exhausted": iter(()),
        "no batch": torch.utils.data.DataLoader([]),
        "another width": batch(16, 7),
        "nothing": None,
        "an array": np.zeros((4, 8), np.float32),
    }


@pytest.mark.parametrize("name", bad_batches())
def test_bad_batches_leave_the_model_as_it_was(name: str) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2))
    before = state(model)
    with pytest.raises((ValueError, TypeError, RuntimeError)):
        pyinit.lsuv_(model, bad_batches()[name])
    assert_same(model, before)


def no_trainable() -> dict[str, nn.Module]:
    frozen = nn.Sequential(nn.Linear(8, 8))
    frozen.requires_grad_(False)
    return {"frozen": frozen, "no layer": nn.ReLU(), "norms alone": nn.BatchNorm1d(8)}


@pytest.mark.parametrize("name", no_trainable())
def test_models_without_trainable_layers_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="layer"):
        pyinit.lsuv_(no_trainable()[name], batch(16, 8))


def test_a_model_none_of_whose_layers_is_called_is_refused() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return x

    model = Idle()
    before = state(model)
    with pytest.raises(ValueError, match="no layer"):
        pyinit.lsuv_(model, batch(16, 8))
    assert_same(model, before)


def affines(model: nn.Module, x: Tensor, what: Any, base: str | None = "xavier") -> Any:
    """Apply ``what`` to each affine map; the report."""
    with working("probe", {}, model, x, base=base, seed=0) as work:

        def visit(call: Any) -> None:
            for affine in work.affines(call):
                what(affine)

        work.walk(visit)
        return work.report()


LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(6, 5), (16, 6)),
    "conv": (lambda: nn.Conv2d(4, 6, 3, groups=2), (8, 4, 7, 7)),
    "depthwise": (lambda: nn.Conv1d(4, 8, 3, groups=4), (8, 4, 9)),
    "conv without a batch": (lambda: nn.Conv2d(4, 6, 3), (4, 7, 7)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3, groups=2), (8, 4, 5, 5)),
    "weight norm": (lambda: parametrizations.weight_norm(nn.Linear(6, 5)), (16, 6)),
    "sequence": (lambda: nn.Linear(6, 5), (4, 7, 6)),
    "double": (lambda: nn.Linear(6, 5).double(), (16, 6)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("base", ["xavier", None])
def test_set_moves_each_channel_of_the_output(name: str, base: str | None) -> None:
    make, shape = LAYERS[name]
    model = nn.Sequential(make())
    x = batch(*shape)
    if name == "double":
        x = x.double()
    seen = {}

    def move(affine: Any) -> None:
        seen["before"] = affine.output.clone()
        scale = torch.linspace(0.5, 2.0, affine.channels)
        shift = torch.linspace(-1.0, 1.0, affine.channels)
        affine.set_(scale=7.0)  # from which nothing stays
        affine.again()
        affine.set_(scale=scale, shift=shift)
        affine.again()
        along = [-1] + [1] * (-affine.channel - 1)
        seen["wanted"] = seen["before"] * scale.view(along) + shift.view(along)

    report = affines(model, x, move, base)
    torch.testing.assert_close(model(x), seen["wanted"].to(x.dtype), rtol=1e-5, atol=1e-5)
    if base is not None:
        again = nn.Sequential(make())
        pyinit.replay_(again, report)
        state = again.state_dict()
        assert all(torch.equal(each, state[key]) for key, each in model.state_dict().items())


@pytest.mark.parametrize("name", LAYERS)
def test_what_is_multiplied_in_place_is_what_the_layer_gives(name: str) -> None:
    make, shape = LAYERS[name]
    model, seen = nn.Sequential(make()), []
    x = batch(*shape)
    if name == "double":
        x = x.double()

    def move(affine: Any) -> None:
        affine.weight.set_(scale=torch.linspace(0.5, 2.0, affine.channels))
        affine.again()
        affine.weight.set_(scale=torch.linspace(3.0, 2.0, affine.channels))
        seen.append(affine.again().clone())

    affines(model, x, move)
    torch.testing.assert_close(model(x), seen[0], rtol=1e-5, atol=1e-6)


def test_a_hook_that_changes_the_output_is_run_again() -> None:
    layer = nn.Linear(6, 5)
    layer.register_forward_hook(lambda *called: called[-1] + 1)
    model, x, seen = nn.Sequential(layer), batch(16, 6), []

    def double(affine: Any) -> None:
        affine.weight.set_(scale=2.0)
        seen.append(affine.again().clone())

    affines(model, x, double)
    torch.testing.assert_close(model(x), seen[0])


def test_a_frozen_bias_is_not_multiplied_with_the_output() -> None:
    layer, x, seen = nn.Linear(6, 5), batch(16, 6), []
    nn.init.ones_(layer.bias).requires_grad_(False)
    model = nn.Sequential(layer)

    def double(affine: Any) -> None:
        affine.set_(scale=2.0)
        seen.append(affine.again().clone())

    affines(model, x, double, base=None)
    torch.testing.assert_close(model(x), seen[0])


def test_autocast_computes_with_the_new_weights() -> None:
    model, x = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 4)), batch(64, 16)
    with torch.autocast("cpu", torch.bfloat16):
        report = pyinit.lsuv_(model, 3 * x, seed=0)
    assert [row.steps for row in report] == [1, 1]


def test_the_pass_goes_on_from_what_was_set_without_again() -> None:
    model, x, seen = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3)), batch(16, 6), []

    def double(affine: Any) -> None:
        seen.append(affine.output.clone())
        affine.set_(scale=2.0, shift=0.5)

    affines(model, x, double)
    torch.testing.assert_close(model[0](x), seen[0] * 2 + 0.5)
    torch.testing.assert_close(model(x), seen[1] * 2 + 0.5)


def test_a_layer_behind_a_residual_sum_is_measured_on_the_sum() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branch, self.out = nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(x + self.branch(x))

    model, x, inputs = Block(), batch(64, 6), []

    def double(affine: Any) -> None:
        inputs.append(affine.input.clone())
        affine.set_(scale=2.0)

    affines(model, x, double)
    torch.testing.assert_close(inputs[1], x + model.branch(x))


class Cross(nn.Module):
    """Attention whose projections are weights of their own, with one bias for all three."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, kdim=7, vdim=5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x[..., :7], x[..., :5])[0]


def with_one_bias() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
    model[2].bias = model[0].bias
    return model


@pytest.mark.parametrize(
    "call",
    [
        pyinit.lsuv_,
        pyinit.consistency_aware_,
        pyinit.data_dependent_,
        partial(pyinit.whitening_, mode="zca"),
    ],
)
@pytest.mark.parametrize("make", [Cross, with_one_bias])
def test_a_bias_of_several_weights_is_settled_once_in_each_of_its_parts(
    make: Callable[[], nn.Module], call: Callable[..., Any]
) -> None:
    model, again = make(), make()
    report = call(model, batch(64, 5, 8), seed=0)
    whole = [name for name in report.to_frame()["name"] if "proj_weight" not in name]
    assert whole == (["attention.out_proj"] if make is Cross else ["0", "2"])
    pyinit.replay_(again, report)
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_the_first_weight_of_a_bias_made_of_it_stays() -> None:
    x = batch(64, 8)
    for equalize in (False, True):
        model = with_one_bias()
        report = pyinit.data_dependent_(model, x, equalize=equalize, seed=0)
        first, second = model[0](x), model[:3](x)
        assert first.mean(0).abs().max() < 1e-5
        assert equalize or (second.std(0, correction=0) - 1).abs().max() < 1e-5
        assert [row.mean_after is None for row in report] == [False, True]


def test_each_projection_gets_its_part_of_the_bias() -> None:
    model, x = Cross(), batch(64, 5, 8)
    pyinit.data_dependent_(model, x, equalize=False, seed=0)
    own = model.attention
    weights = (own.q_proj_weight, own.k_proj_weight, own.v_proj_weight)
    for weight, bias in zip(weights, own.in_proj_bias.chunk(3), strict=True):
        projected = (x[..., : weight.shape[1]] @ weight.T + bias).flatten(0, 1)
        assert projected.mean(0).abs().max() < 1e-5
        assert (projected.var(0, correction=0) - 1).abs().max() < 1e-5


def test_candidates_are_drawn_from_consecutive_streams_and_replayed() -> None:
    make = lambda: nn.Sequential(nn.Linear(6, 5), parametrizations.weight_norm(nn.Linear(5, 4)))
    model, bases = make(), []

    def draw(affine: Any) -> None:
        first = affine.weight.base.clone()
        for k in (1, 2, 0, 2):
            affine.weight.redraw_(k)
            bases.append(affine.weight.base.clone())
            affine.again()
        assert torch.equal(bases[-2], first)
        assert torch.equal(bases[-1], bases[-3])
        affine.weight.set_(scale=0.5)

    report = affines(model, batch(16, 6), draw)
    plain = make()
    pyinit.initialize_(plain, "xavier", seed=0)
    key = report["0.weight"].key
    stream = pyinit.initialize_(plain, "xavier", seed=0)["0.weight"].stream
    assert report["0.weight"].stream == (stream + 2) % 2**64
    assert key == 0
    again = make()
    pyinit.replay_(again, report)
    state = again.state_dict()
    assert all(torch.equal(each, state[key]) for key, each in model.state_dict().items())


def probe(model: nn.Module, do: Any, base: str | None = "xavier") -> Any:
    with working("probe", {}, model, None, base=base, seed=0) as work:
        do(work)
        return work.report()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("base", ["xavier", None])
def test_values_that_are_data_go_to_a_file_and_come_back(
    tmp_path: Path, dtype: torch.dtype, base: str | None
) -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4)).to(dtype)
    start = copy.deepcopy(model)
    values = torch.arange(30.0).view(5, 6)

    def do(work: Work) -> None:
        work.at("0.weight").set_(values=values, scale=0.25, shift=torch.arange(5.0))
        work.at("1.bias").set_(shift=3.0)

    report = probe(model, do, base)
    report.save(tmp_path / "found.json")
    assert (tmp_path / "found.safetensors").exists()
    loaded = pyinit.InitReport.load(tmp_path / "found.json")
    assert loaded == report
    if base is None:
        again = start
    else:
        again = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4)).to(dtype).to("meta")
    pyinit.replay_(again, loaded)
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_other_tensors_beside_a_report_are_refused(tmp_path: Path) -> None:
    def do(work: Work) -> None:
        work.at("weight").set_(values=torch.ones(5, 6))

    probe(nn.Linear(6, 5), do).save(tmp_path / "a.json")
    probe(nn.Linear(6, 5), lambda work: work.at("weight").set_(values=torch.zeros(5, 6))).save(
        tmp_path / "b.json"
    )
    (tmp_path / "b.safetensors").replace(tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="other tensors"):
        pyinit.InitReport.load(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"scale": torch.ones(4)}, "5 output channels"),
        ({"shift": float("nan")}, "finite"),
        ({"scale": float("inf")}, "finite"),
        ({"values": torch.ones(6, 5)}, "shape"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(arguments: dict[str, Any], what: str) -> None:
    model = nn.Linear(6, 5)
    before = state(model)
    with pytest.raises(ValueError, match=what):
        probe(model, lambda work: work.at("weight").set_(**arguments))
    assert_same(model, before)


def test_a_replay_refuses_another_start_by_name() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))
    same, other = copy.deepcopy(model), copy.deepcopy(model)
    report = probe(model, lambda work: work.at("0.weight").set_(scale=0.5), base=None)
    with torch.no_grad():
        other[1].bias[2] += 1
    with pytest.raises(ValueError, match=r"1\.bias: probe began with other values"):
        pyinit.replay_(other, report)
    with pytest.raises(ValueError, match="meta device"):
        pyinit.replay_(copy.deepcopy(same).to("meta"), report)
    assert torch.equal(other[0].weight, same[0].weight)
    again = pyinit.replay_(same, pyinit.InitReport.from_dict(report.to_dict()))
    assert torch.equal(same[0].weight, model[0].weight)
    assert again == report
    with pytest.raises(ValueError, match="other values"):
        pyinit.replay_(same, report)  # which has been adjusted


def test_a_replay_refuses_what_does_not_fit_by_name() -> None:
    report = probe(
        nn.Linear(6, 5), lambda work: work.at("weight").set_(scale=torch.linspace(1, 2, 5))
    )
    value = report.to_dict()
    value["rows"][0]["adjustment"]["scale"] = [1.0, 2.0]
    with pytest.raises(ValueError, match="weight: scale has 2 numbers, and the parameter 5"):
        pyinit.replay_(nn.Linear(6, 5), pyinit.InitReport.from_dict(value))


def test_rows_that_were_never_adjusted_do_not_say_so() -> None:
    report = probe(nn.Linear(6, 5), lambda work: work.at("weight").set_(scale=2.0))
    assert "adjusted" in str(report)
    assert "x 2" in str(report)
    plain = pyinit.initialize_(nn.Linear(6, 5), seed=0)
    assert "adjusted" not in str(plain)
    assert "adjustment" not in plain.to_dict()["rows"][0]
    assert "adjusted" in report.page().html()
    assert "<th>adjusted" not in plain.page().html()


def test_negative_zeros_are_replayed() -> None:
    def do(work: Work) -> None:
        work.at("in_proj_weight", range(4)).set_(shift=1.0, scale=-1.0)
        work.at("in_proj_weight", range(8, 12)).set_(scale=-1.0)

    model = nn.MultiheadAttention(4, 2)
    report = probe(model, do, "zero")
    again = nn.MultiheadAttention(4, 2)
    pyinit.replay_(again, report)
    bits = (each.in_proj_weight.detach().view(torch.int32) for each in (model, again))
    assert torch.equal(*bits)


def test_a_copy_of_the_changed_weights_is_all_that_is_kept() -> None:
    """Measured by what ``Work`` holds when the last layer is met."""
    model = nn.Sequential(*(nn.Linear(32, 32, bias=False) for _ in range(8)))
    weights = sum(each.numel() for each in model.parameters())
    with working("probe", {}, model, batch(4, 32), base="xavier") as work:

        def visit(call: Any) -> None:
            for affine in work.affines(call):
                affine.set_(scale=2.0)

        work.walk(visit)
        kept = sum(copied.numel() for _, copied in work._undo._copies.values())
        bases = [each._base for each in work._made.values() if each._base is not None]
    assert kept == weights
    assert not bases


def test_what_another_thread_has_seeded_is_not_what_is_put_back() -> None:
    seeds, inside = random_states(), Event()

    def draw() -> None:
        with all_seeded(Key(1, 2), torch.device("cpu")):
            inside.set()
            sleep(0.2)

    thread = Thread(target=draw)
    thread.start()
    inside.wait()
    undo = Undo(nn.Linear(2, 2))
    thread.join()
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    undo.undo()
    assert random_states() == seeds


def test_automatic_differentiation_is_put_back() -> None:
    undo = Undo(nn.Linear(2, 2))
    torch.set_grad_enabled(False)  # as a no_grad does whose end Ctrl-C has met
    undo.undo()
    try:
        assert torch.is_grad_enabled()
    finally:
        torch.set_grad_enabled(True)


def random_states() -> list[Any]:
    return [
        torch.get_rng_state().tolist(),
        random.getstate(),
        np.random.get_state()[1].tolist(),
    ]
