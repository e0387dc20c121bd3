"""What ``inspect``, ``walk`` and ``Monitor`` refuse, by name, and that all is as before then."""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from programs import output_of
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset
from unchanged import assert_as_before, state_of

import pyinit
from pyinit import Monitor
from pyinit.inspection.walk import walk

X = torch.linspace(-1, 1, 20).reshape(5, 4)
Y = torch.arange(5) % 3
NAN = torch.where(X > 0.9, torch.nan, X)


class Network(nn.Module):
    """A norm in evaluation mode, a frozen bias, gradients, a user's hooks, attributes that change."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.act = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh()
        self.drop, self.last, self.spare = nn.Dropout(0.2), nn.Linear(6, 3), nn.Linear(2, 2)
        self.seen: list[float] = []
        self.fails: BaseException | None = None

    def forward(self, x: Tensor) -> Any:
        self.seen.append(np.random.rand())
        x = self.act(self.norm(self.first(x)))
        if self.fails is not None:
            raise self.fails
        return self.last(self.drop(x))


def prepared() -> tuple[Network, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = Network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(X).square().sum().backward()
    optimizer.step()
    model.norm.eval()
    model.last.bias.requires_grad_(False)
    model.first.register_forward_hook(lambda *_: None)
    model.last.register_full_backward_hook(lambda *_: None)
    return model, optimizer


class Wider(Network):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 6)


class Returns(nn.Module):
    """A model that makes something else of its last layer's output."""

    def __init__(self, of: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.of = nn.Linear(4, 3), of

    def forward(self, x: Tensor) -> Any:
        return self.of(self.layer(x))


def lazy() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(nn.Linear(4, 3), nn.LazyLinear(3))


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(nn.Linear(4, 3))


class BoomError(Exception):
    pass


def raising(*_: Any) -> Any:
    raise BoomError("on purpose")


def one_of(n: int) -> Tensor:
    return X[n]


def failing() -> Iterator[Tensor]:
    raise BoomError("on purpose")
    yield


class Made(NamedTuple):
    """What is to be made for one test."""

    make: Callable[[], Any]


class Row(NamedTuple):
    """Arguments that are refused.

    arguments: those that stand in place of good ones
    """

    arguments: dict[str, Any]
    error: type[BaseException]
    message: str

    def over(self, **good: Any) -> dict[str, Any]:
        """All arguments: good ones, and these over them."""
        given = {**good, **self.arguments}
        return {k: each.make() if isinstance(each, Made) else each for k, each in given.items()}


def rows(kind: str, table: list[tuple[dict[str, Any], type[BaseException], str]]) -> list[Any]:
    return [
        pytest.param(Row(*row), id=f"{kind}-{'-'.join(row[0])}-{i}") for i, row in enumerate(table)
    ]


OF_A_LOOK = [
    # the model
    ({"model": 3}, TypeError, "model must be a torch.nn.Module, got int"),
    ({"model": None}, TypeError, "model must be a torch.nn.Module, got NoneType"),
    ({"model": Network}, TypeError, "model must be a torch.nn.Module, got the class Network"),
    ({"model": prepared}, TypeError, "model must be a torch.nn.Module, got function"),
    ({"model": Made(lazy)}, ValueError, "1.weight has no shape yet: it is lazy; run a batch"),
    (
        {"model": Made(lambda: Network().to("meta"))},
        ValueError,
        "first.weight is on the meta device",
    ),
    ({"model": Made(scripted)}, TypeError, "the model is compiled by TorchScript"),
    # the batch
    ({"batch": None}, TypeError, "a batch must be data, got NoneType"),
    ({"batch": "mnist"}, TypeError, "a batch must not be a string, got 'mnist'"),
    ({"batch": np.zeros((5, 4))}, TypeError, "a batch must not be a NumPy array: give torch"),
    ({"batch": TensorDataset(X)}, TypeError, "a batch must not be a data set, got TensorDataset"),
    ({"batch": one_of}, TypeError, "must take no arguments: one_of: .*'n'"),
    ({"batch": lambda: None}, TypeError, "the function must return one batch, got NoneType"),
    ({"batch": raising}, BoomError, "on purpose"),
    ({"batch": Made(failing)}, BoomError, "on purpose"),
    ({"batch": Made(lambda: iter([]))}, ValueError, "the iterator has no further batch"),
    (
        {"batch": Made(lambda: DataLoader([]))},
        ValueError,
        "the DataLoader has no batch: it is empty",
    ),
    ({"batch": ()}, ValueError, "the batch is empty"),
    ({"batch": X[:0]}, ValueError, r"the batch has no samples: inputs\[0\] is \(0, 4\)"),
    ({"batch": NAN}, ValueError, r"the batch has NaN: 1 of 20 values of inputs\[0\]"),
    ({"batch": X.to("meta")}, ValueError, r"inputs\[0\] is on the meta device"),
    ({"batch": (X, X, Y)}, ValueError, r"does not fit Network\.forward"),
    ({"batch": {"images": X}}, RuntimeError, "'first'.*called with .{images: "),
    (
        {"batch": X[:, :3]},
        RuntimeError,
        r"layer 'first' \(Linear\), called with \(\(5, 3\) float32",
    ),
    ({"batch": X.double()}, RuntimeError, r"layer 'first' \(Linear\).*\(5, 4\) float64 on cpu"),
    ({"batch": X.long()}, RuntimeError, r"layer 'first' \(Linear\).*\(5, 4\) int64 on cpu"),
    # the target
    ({"target": X[:3], "loss": functional.mse_loss}, RuntimeError, r"target \(3, 4\) float32"),
    ({"target": Y[:3], "loss": functional.cross_entropy}, RuntimeError, r"target \(3,\) int64 on"),
    ({"target": Y + 7, "loss": functional.cross_entropy}, RuntimeError, "loss failed.*IndexError"),
    ({"target": NAN, "loss": functional.mse_loss}, ValueError, "1 of 20 values of target"),
    (
        {"target": Y.to("meta"), "loss": functional.cross_entropy},
        ValueError,
        "target is on the meta",
    ),
    # the loss
    ({"loss": "mse"}, TypeError, "loss must be a function of the output, .*, got str"),
    ({"loss": nn.MSELoss}, TypeError, "loss must be a function .*, got the class MSELoss"),
    ({"loss": lambda: 0}, RuntimeError, "loss failed on output .* and no target: TypeError"),
    (
        {"loss": lambda out: out},
        ValueError,
        r"loss must return a scalar tensor, got \(5, 3\) float",
    ),
    ({"loss": lambda _: None}, ValueError, "loss must return a scalar tensor, got NoneType"),
    ({"loss": lambda out: out.sum().item()}, ValueError, "a scalar tensor, got float"),
    ({"loss": lambda out: out.sum() * 1j}, ValueError, "loss must return a real number"),
    ({"loss": lambda out: out.detach().sum()}, ValueError, "nothing leads back"),
    ({"loss": raising}, RuntimeError, "loss failed on output .*BoomError: on purpose"),
    (
        {"model": Made(lambda: Returns(Tensor.detach)), "loss": torch.sum},
        ValueError,
        r"cannot be differentiated: the model returned \(5, 3\) float32 on cpu, and nothing leads",
    ),
    # layers
    ({"layers": 3}, TypeError, "layers: a pattern must be a glob"),
    ({"layers": b"first"}, TypeError, "layers: a pattern must be a glob"),
    ({"layers": ["first", 3]}, TypeError, "layers: a pattern must be .*, got 3"),
    ({"layers": []}, ValueError, "layers: an empty list chooses none"),
    ({"layers": "nowhere"}, ValueError, "layers: no layer matches nowhere; "),
    ({"layers": ["first", "head.*"]}, ValueError, r"layers: no layer matches head\.\*"),
    ({"layers": nn.Conv2d}, ValueError, "layers: no layer matches Conv2d"),
    ({"layers": raising}, BoomError, "on purpose"),
]

OF_INSPECT = [
    (
        {"model": Made(lambda: Returns(lambda _: None))},
        RuntimeError,
        "returned NoneType, with ",
    ),
    ({"model": Made(lambda: Returns(lambda out: out.argmax(1)))}, RuntimeError, "nothing to diff"),
    ({"model": Made(lambda: Returns(Tensor.detach))}, ValueError, "nothing leads back from it"),
    ({"target": Y[:3]}, RuntimeError, r"loss failed on .* and target \(3,\) int64"),
    ({"target": X}, RuntimeError, r"\(5, 4\) float32 on cpu does not fit the output \(5, 3\)"),
    ({"target": "cat"}, RuntimeError, "a target of str needs a loss: give loss="),
    ({"recipes": 3}, TypeError, "recipes must be a recipe or several, got int"),
    ({"recipes": b"auto"}, TypeError, "recipes must be a recipe or several, got bytes"),
    ({"recipes": ["auto", 3]}, TypeError, "recipes must be names, Recipes, files or None, got 3"),
    ({"recipes": []}, ValueError, "recipes must name at least one, got none"),
    ({"recipes": ["auto", "auto"]}, ValueError, "recipes must differ, got auto, auto"),
    ({"recipes": "kaimin"}, ValueError, "kaimin.*did you mean kaiming"),
    ({"seed": "0"}, TypeError, "seed must be an integer, got '0'"),
    ({"seed": True}, TypeError, "seed must be an integer, got True"),
    ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
    ({"seed": 2**64}, ValueError, "seed must be at most 18446744073709551615, got"),
    ({"steps": 2.5}, TypeError, "steps must be an integer, got 2.5"),
    ({"steps": True}, TypeError, "steps must be an integer, got True"),
    ({"steps": -1}, ValueError, "steps must be at least 0, got -1"),
    ({"optimizer": 3}, TypeError, "optimizer must be a function that makes .*, got int"),
    (
        {"optimizer": torch.optim.SGD([torch.ones(1)])},
        TypeError,
        "optimizer must be a function that makes .*, got SGD",
    ),
    ({"steps": 1, "optimizer": lambda _: 3}, TypeError, "must return a torch.optim.Opt.*, got int"),
    ({"steps": 1, "optimizer": raising}, BoomError, "on purpose"),
    (
        {"model": Made(lambda: Network().requires_grad_(False)), "steps": 1},
        ValueError,
        "steps need parameters to train, and all are frozen",
    ),
    ({"spectra": "yes"}, TypeError, "spectra must be True or False, got 'yes'"),
    ({"jacobians": 1}, TypeError, "jacobians must be True or False, got 1"),
]

OF_WALK = [
    ({"visit": 3}, TypeError, "visit must be a function of a Call, got int"),
    ({"visit_gradient": 3, "loss": torch.sum}, TypeError, "visit_gradient must be a function of"),
    (
        {"visit_weight": "w", "loss": torch.sum},
        TypeError,
        "visit_weight must be a function of .*str",
    ),
    (
        {"visit_weight": print},
        ValueError,
        "visit_gradient and visit_weight need a loss, got loss=N",
    ),
    ({"training": "yes"}, TypeError, "training must be True or False, got 'yes'"),
    (
        {
            "model": Made(lambda: Network().requires_grad_(False)),
            "batch": X,
            "loss": torch.sum,
        },
        ValueError,
        "all of its parameters are frozen",
    ),
]


@pytest.mark.parametrize("look", [pyinit.inspect, walk], ids=["inspect", "walk"])
@pytest.mark.parametrize("row", rows("look", OF_A_LOOK))
def test_what_both_refuse(look: Callable[..., Any], row: Row) -> None:
    refused_by_a_look(look, row)


@pytest.mark.parametrize("row", rows("inspect", OF_INSPECT))
def test_what_inspect_refuses(row: Row) -> None:
    refused_by_a_look(pyinit.inspect, row)


@pytest.mark.parametrize("row", rows("walk", OF_WALK))
def test_what_walk_refuses(row: Row) -> None:
    refused_by_a_look(walk, row)


def refused_by_a_look(look: Callable[..., Any], row: Row) -> None:
    model, _ = prepared()
    x = X.clone().requires_grad_()
    x.grad = torch.ones_like(x)
    given = row.over(model=model, batch=x)
    before, seen = state_of(model, x, *given.values()), list(model.seen)
    with pytest.raises(row.error, match=row.message):
        look(**given)
    assert_as_before(state_of(model, x, *given.values()), before)
    assert model.seen == seen


# ---- what goes wrong on the way -------------------------------------------------------------------


THOROUGH = {"recipes": ["torch", None, "auto"], "steps": 2, "spectra": True, "jacobians": True}
LOOKS: list[Any] = [
    pytest.param(lambda model: pyinit.inspect(model, X), id="inspect"),
    pytest.param(lambda model: pyinit.inspect(model, X, **THOROUGH), id="inspect-thorough"),
    pytest.param(lambda model: walk(model, X, lambda call: call.again()), id="walk"),
    pytest.param(lambda model: walk(model, X, loss=torch.sum), id="walk-loss"),
]


def raises(error: BaseException) -> Callable[..., None]:
    def hook(*_: Any) -> None:
        raise error

    return hook


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("error", [BoomError("on purpose"), KeyboardInterrupt("on purpose")])
@pytest.mark.parametrize("place", ["forward", "hook", "pre-hook"])
def test_all_is_as_before_after_an_error_in_the_forward_pass(
    look: Callable[[nn.Module], Any], error: BaseException, place: str
) -> None:
    model, optimizer = prepared()
    if place == "forward":
        model.fails = error
    elif place == "hook":
        model.act.register_forward_hook(raises(error))
    else:
        model.last.register_forward_pre_hook(raises(error))
    before = state_of(model, optimizer)
    with pytest.raises((RuntimeError, KeyboardInterrupt), match="on purpose"):
        look(model)
    assert_as_before(state_of(model, optimizer), before)


@pytest.mark.parametrize("look", [each for each in LOOKS if each.id != "walk"])
@pytest.mark.parametrize("error", [BoomError("on purpose"), KeyboardInterrupt("on purpose")])
@pytest.mark.parametrize("of_a_tensor", [False, True])
def test_all_is_as_before_after_an_error_in_the_backward_pass(
    look: Callable[[nn.Module], Any], error: BaseException, of_a_tensor: bool
) -> None:
    model, optimizer = prepared()
    if of_a_tensor:
        model.first.weight.register_hook(raises(error))
    else:
        model.last.register_full_backward_hook(raises(error))
    before = state_of(model, optimizer)
    with pytest.raises((RuntimeError, KeyboardInterrupt), match="on purpose"):
        look(model)
    assert_as_before(state_of(model, optimizer), before)


@pytest.mark.parametrize("calls", range(6))
def test_all_is_as_before_after_an_error_in_any_loss_or_step(calls: int) -> None:
    model, optimizer = prepared()
    count = 0

    def loss(output: Tensor) -> Tensor:
        nonlocal count
        count += 1
        if count > calls:
            raise KeyboardInterrupt("on purpose")
        return output.square().mean()

    before = state_of(model, optimizer)
    with pytest.raises(KeyboardInterrupt, match="on purpose"):
        pyinit.inspect(model, X, loss=loss, **THOROUGH)
    assert_as_before(state_of(model, optimizer), before)


def test_a_look_inside_a_look_finds_the_same() -> None:
    model, _ = prepared()
    before = state_of(model)
    alone, found = walk(model, X).calls, []
    walk(model, X, lambda _: found.append(walk(model, X).calls))
    walk(model, X, lambda _: found.append(pyinit.inspect(model, X, recipes="auto").unused))
    assert found == [alone] * 3 + [("spare",)] * 3
    assert_as_before(state_of(model), before)


# ---- what is taken, and listed --------------------------------------------------------------------


def quantized() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(
            torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 4)), {nn.Linear}),
            nn.Linear(4, 3),
        )


@pytest.mark.filterwarnings("ignore")  # quantization is deprecated
@pytest.mark.parametrize("look", [pyinit.inspect, walk])
def test_parts_that_are_frozen_quantized_or_never_called_are_listed(
    look: Callable[..., Any],
) -> None:
    model, _ = prepared()
    found = look(model, X)
    assert (found.unused, found.frozen, found.quantized) == (("spare",), ("last.bias",), ())
    assert look(quantized(), X).quantized == ("0.0",)


# ---- Monitor --------------------------------------------------------------------------------------


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


def elsewhere() -> nn.Module:
    model = Network()
    model.first.weight.ds_shape = (400, 6)
    model.first.weight.data = torch.empty(0)
    return model


OF_A_MONITOR = [
    ({"model": 3}, TypeError, "model must be a torch.nn.Module, got int"),
    ({"model": Network}, TypeError, "model must be a torch.nn.Module, got the class Network"),
    ({"model": Made(lazy)}, ValueError, "1.weight has no shape yet: it is lazy"),
    (
        {"model": Made(lambda: Network().to("meta"))},
        ValueError,
        "first.weight is on the meta device",
    ),
    ({"model": Made(elsewhere)}, ValueError, "first.weight .*DeepSpeed"),
    (
        {"model": Made(Network)},
        ValueError,
        "optimizer has none of the parameters that are watched: ",
    ),
    ({"layers": "spare"}, ValueError, "that are watched: spare.weight, spare.bias$"),
    ({"optimizer": None}, TypeError, "optimizer must be a torch.optim.Optimizer, got NoneType"),
    ({"optimizer": "sgd"}, TypeError, "optimizer must be a torch.optim.Optimizer, got str"),
    ({"optimizer": torch.optim.SGD}, TypeError, "optimizer must be a torch.optim.Opt.*, got type"),
    (
        {"optimizer": Made(lambda: sgd(nn.Linear(2, 2))), "layers": nn.Tanh},
        ValueError,
        "optimizer has none of the model's parameters",
    ),
    ({"every": 0}, ValueError, "every must be at least 1, got 0"),
    ({"every": -1}, ValueError, "every must be at least 1, got -1"),
    ({"every": True}, TypeError, "every must be an integer, got True"),
    ({"every": 2.5}, TypeError, "every must be an integer, got 2.5"),
    ({"every": "2"}, TypeError, "every must be an integer, got '2'"),
    ({"every": None}, TypeError, "every must be an integer, got None"),
    ({"layers": 3}, TypeError, "layers: a pattern must be a glob"),
    ({"layers": []}, ValueError, "layers: an empty list chooses none"),
    ({"layers": "3"}, ValueError, "layers: no layer matches 3; .*the model has"),
    ({"layers": "firsts"}, ValueError, "layers: no layer matches firsts; did you mean first"),
    ({"layers": ["first", "heads.*"]}, ValueError, re.escape("no layer matches heads.*")),
    ({"layers": nn.Conv2d}, ValueError, "layers: no layer matches Conv2d"),
    ({"layers": re.compile("head")}, ValueError, "layers: no layer matches head"),
    ({"layers": lambda _: False}, ValueError, "layers: no layer matches predicate <lambda>"),
    ({"layers": raising}, BoomError, "on purpose"),
    ({"start": "copies"}, TypeError, 'start must be an InitReport, "copy" or None, got \'copies'),
    ({"start": 0}, TypeError, "start must be an InitReport"),
    ({"start": np.zeros(2)}, TypeError, "start must be an InitReport"),
    (
        {"start": Made(lambda: pyinit.initialize_(nn.Conv2d(1, 1, 1), "torch", seed=0))},
        ValueError,
        "start: the report has a row for none of the parameters that are watched",
    ),
    (
        {"start": Made(lambda: pyinit.initialize_(Wider(), "torch", seed=0))},
        ValueError,
        re.escape(
            "start: first.weight has the shape (6, 4) in the model, and (6, 5) in the report"
        ),
    ),
]


@pytest.mark.parametrize("row", rows("monitor", OF_A_MONITOR))
def test_what_a_monitor_refuses(row: Row) -> None:
    model, optimizer = prepared()
    optimizer.param_groups[0]["params"] = [
        each for name, each in model.named_parameters() if "spare" not in name
    ]
    given = row.over(model=model, optimizer=optimizer)
    before = state_of(model, optimizer, *given.values())
    with pytest.raises(row.error, match=row.message):
        Monitor(**given)
    assert_as_before(state_of(model, optimizer, *given.values()), before)


def trained(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 1) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(X).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("place", ["forward", "hook", "backward", "gradient", "step"])
@pytest.mark.parametrize("error", [BoomError("on purpose"), KeyboardInterrupt("on purpose")])
def test_an_error_in_training_comes_out_as_it_is_and_leaves_what_training_leaves(
    place: str, error: BaseException
) -> None:
    left = []
    for is_monitored in (False, True):
        model, optimizer = prepared()
        handle: Any = None
        if place == "forward":
            model.fails = error
        elif place == "hook":
            handle = model.act.register_forward_hook(raises(error))
        elif place == "backward":
            handle = model.last.register_full_backward_hook(raises(error))
        elif place == "gradient":
            handle = model.first.weight.register_hook(raises(error))
        else:
            handle = optimizer.register_step_pre_hook(raises(error))
        watch = Monitor(model, optimizer, start="copy") if is_monitored else nullcontext()
        with pytest.raises(type(error), match="on purpose"), watch as monitor:
            trained(model, optimizer)
        if monitor is not None:
            assert (monitor.steps, monitor.records) == (0, [])
        model.fails = None
        if handle is not None:
            handle.remove()
        trained(model, optimizer)
        left.append([each.detach().clone() for each in (*model.parameters(), *model.buffers())])
        assert not any(module._forward_pre_hooks for module in model.modules())
        assert len(optimizer._optimizer_step_pre_hooks) == 0
    assert all(map(torch.equal, *left))


def test_a_monitor_can_be_stopped_twice_and_not_entered_again() -> None:
    model, optimizer = prepared()
    with Monitor(model, optimizer) as monitor:
        trained(model, optimizer)
    monitor.stop()
    count = len(monitor.records)
    with pytest.raises(RuntimeError, match="the monitor has been stopped and records no more"):
        monitor.__enter__()
    trained(model, optimizer)
    assert (monitor.steps, len(monitor.records)) == (1, count)


def test_monitors_of_one_model_record_the_same() -> None:
    model, optimizer = prepared()
    with Monitor(model, optimizer, 1) as one, Monitor(model, optimizer, 2) as other:
        trained(model, optimizer, 3)
    assert [record for record in one.records if record.step != 1] == other.records


def test_activations_alone_can_be_watched() -> None:
    model, optimizer = prepared()
    with Monitor(model, optimizer, layers=nn.Tanh) as monitor:
        trained(model, optimizer)
    assert [(record.layer, record.calls) for record in monitor.records] == [("act", 1)]


@pytest.mark.parametrize(
    "look",
    [
        lambda model: pyinit.inspect(model, 2 * X, recipes=["torch", "auto"], seed=0, steps=2),
        lambda model: walk(model, 2 * X, loss=torch.sum),
        lambda model: walk(model, 2 * X),
    ],
)
def test_a_look_in_the_midst_of_a_step_is_no_part_of_it(look: Callable[[nn.Module], Any]) -> None:
    found = []
    for is_looked_at in (False, True):
        model, optimizer = prepared()
        with Monitor(model, optimizer) as monitor:
            for factor in (1, 3):
                model(factor * X).square().mean().backward()
                if is_looked_at:
                    look(model)
            optimizer.step()
        found.append(monitor.records)
    assert found[0] == found[1]
    assert found[0][0].calls == 2


@pytest.mark.filterwarnings("ignore")  # TorchScript and quantization are deprecated
@pytest.mark.parametrize(
    "make", [quantized, lambda: nn.Sequential(scripted(), nn.Linear(3, 3)), scripted]
)
def test_parts_that_hooks_do_not_reach_are_trained_and_listed(make: Callable[[], Any]) -> None:
    model = make()
    optimizer = sgd(model)
    with Monitor(model, optimizer, start="copy") as monitor:
        trained(model, optimizer)
    assert monitor.records
    assert all(record.update_ratio > 0 for record in monitor.records)
    assert set(monitor.uncalled) == {r.layer for r in monitor.records if not r.calls}


def test_a_process_that_forks_is_monitored_on_both_sides() -> None:
    program = """
        import os, torch, pyinit
        from torch import nn

        model = nn.Sequential(nn.Linear(40, 60), nn.Tanh(), nn.Linear(60, 3))
        report = pyinit.initialize_(model, "torch", seed=0)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        def train():
            model(torch.ones(500, 40)).sum().backward()
            optimizer.step()

        with pyinit.Monitor(model, optimizer, every=1, start=report) as monitor:
            train()
            child = os.fork()
            if not child:
                torch.set_num_threads(1)  # as workers do: torch's own threads are not there
            train()
            assert len(monitor.records) == 6
            if not child:
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
    """
    output_of(program, PYTHONWARNINGS="ignore", timeout=60)


# ---- files ----------------------------------------------------------------------------------------


def inspected() -> Any:
    return pyinit.inspect(prepared()[0], X)


def monitored() -> Any:
    model, optimizer = prepared()
    with Monitor(model, optimizer) as monitor:
        trained(model, optimizer)
    return monitor


@pytest.mark.parametrize("make", [inspected, monitored])
@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("nowhere/x.json", OSError),
        ("folder.json", OSError),
        ("x.onnx", ValueError),
        (3, TypeError),
    ],
)
def test_a_path_that_cannot_be_written_is_refused_by_name(
    make: Callable[[], Any], name: Any, error: type[Exception], tmp_path: Path
) -> None:
    (tmp_path / "folder.json").mkdir()
    path = name if isinstance(name, int) else tmp_path / name
    with pytest.raises(error, match=str(name).rpartition("/")[2] if name != 3 else "int"):
        make().save(path)
    assert [each.name for each in tmp_path.iterdir()] == ["folder.json"]


def test_what_is_no_writer_of_tensorboards_is_refused() -> None:
    with pytest.raises(TypeError, match="writer must have add_scalar, got int"):
        monitored().to_tensorboard(3)


@pytest.mark.parametrize(
    ("model", "layers", "message"),
    [
        (
            nn.Sequential(nn.Linear(4, 4)),
            "0.bias",
            "layers: the pass called no layer that '0.bias'",
        ),
        (nn.Identity(), None, "Identity has called nothing to look at"),
    ],
)
def test_inspect_refuses_to_look_at_nothing(
    model: nn.Module, layers: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pyinit.inspect(model, torch.randn(8, 4), layers=layers)


def test_steps_refuse_an_optimizer_that_evaluates_the_loss_itself() -> None:
    model, x = nn.Linear(4, 4), torch.randn(8, 4)
    before = state_of(model)
    with pytest.raises(ValueError, match=r"optimizer: LBFGS evaluates the loss itself"):
        pyinit.inspect(model, x, steps=1, optimizer=torch.optim.LBFGS)
    assert_as_before(state_of(model), before)
