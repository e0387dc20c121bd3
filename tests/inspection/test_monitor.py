"""What ``Monitor`` records, against a loop that measures by hand, and that it changes nothing."""

import copy
import math
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import pyinit
from pyinit import Monitor
from pyinit.inspection.monitor import Record


def lenet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(400, 10),
    )


def started(make: Callable[[], nn.Module] = lenet) -> nn.Module:
    model = make()
    pyinit.initialize_(model, "torch", seed=3)
    return model


def batches(count: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(8, 1, 28, 28, generator=generator),
            torch.randint(10, (8,), generator=generator),
        )
        for _ in range(count)
    ]


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for x, y in batches(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()


def of_layer(monitor: Monitor, layer: str) -> list[Record]:
    return [record for record in monitor.records if record.layer == layer]


def norm(tensors: list[Tensor]) -> float:
    return math.sqrt(sum(tensor.double().square().sum().item() for tensor in tensors))


class ByHand:
    """The same numbers, from everything that a step has, in float64."""

    def __init__(self, model: nn.Sequential, steps: int) -> None:
        self.found: list[dict[str, dict[str, float]]] = []
        optimizer = sgd(model)
        first = [[each.detach().clone() for each in layer.parameters()] for layer in model]
        for x, y in batches(steps):
            optimizer.zero_grad()
            outputs, values = [], []
            signal = x
            for layer in model:
                output = layer(signal)
                output.retain_grad()
                outputs.append(output)
                values.append(output.detach().double().clone())
                signal = output.clone()  # so that ReLU(inplace=True) leaves the output alone
            nn.functional.cross_entropy(signal, y).backward()
            raw = [[each.grad.clone() for each in layer.parameters()] for layer in model]
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            grads = [[each.grad.clone() for each in layer.parameters()] for layer in model]
            before = [[each.detach().clone() for each in layer.parameters()] for layer in model]
            optimizer.step()
            step: dict[str, dict[str, float]] = {}
            for i, layer in enumerate(model):
                by_channel = values[i].transpose(0, 1).flatten(1)
                step[str(i)] = {
                    "mean": values[i].mean().item(),
                    "variance": values[i].var(correction=0).item(),
                    "total_variance": values[i].var(0, correction=0).sum().item(),
                    "dead": (by_channel == 0).all(1).double().mean().item(),
                    "output_gradient_std": outputs[i].grad.double().std(correction=0).item(),
                }
                now = list(layer.parameters())
                if now:
                    old = before[i]
                    step[str(i)] |= {
                        "gradient_norm": norm(grads[i]),
                        "unclipped_norm": norm(raw[i]),
                        "weight_norm": norm(old),
                        "update_ratio": norm(
                            [
                                a.detach().double() - b.double()
                                for a, b in zip(now, old, strict=True)
                            ]
                        )
                        / norm(old),
                        "distance": norm(
                            [a.double() - b.double() for a, b in zip(old, first[i], strict=True)]
                        )
                        / norm(first[i]),
                    }
            self.found.append(step)


def test_records_are_those_of_a_loop_by_hand_in_float64() -> None:
    steps = 5
    model, other = started(), started()
    torch.manual_seed(0)
    by_hand = ByHand(other, steps)
    with Monitor(model, sgd(model), every=2, start="copy") as monitor:
        torch.manual_seed(0)
        train(model, monitor._optimizer, steps)
    assert [record.step for record in of_layer(monitor, "0")] == [0, 2, 4]
    assert {record.layer for record in monitor.records} == {"0", "1", "3", "4", "5", "9"}
    for record in monitor.records:
        assert record.calls == 1
        for name, expected in by_hand.found[record.step][record.layer].items():
            got = getattr(record, name)
            assert got == pytest.approx(expected, rel=2e-4, abs=1e-8), (record, name)


def test_layers_without_parameters_have_none_of_their_values() -> None:
    model = started()
    with Monitor(model, sgd(model)) as monitor:
        train(model, monitor._optimizer, 1)
    (relu,) = of_layer(monitor, "1")
    assert relu.gradient_norm is relu.weight_norm is relu.update_ratio is relu.distance is None


def test_dead_counts_the_channels_that_are_zero_for_the_whole_batch() -> None:
    model = started()
    with torch.no_grad():
        model[0].bias[:3] = -1e3
    with Monitor(model, sgd(model)) as monitor:
        train(model, monitor._optimizer, 1)
    assert of_layer(monitor, "1")[0].dead == 0.5
    assert of_layer(monitor, "0")[0].dead == 0.0


class Ragged(nn.Module):
    """Outputs in a tuple and in a dictionary, in dimensions of several kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4)
        self.lstm = nn.LSTM(4, 5, batch_first=True)
        self.attention = nn.MultiheadAttention(5, 1, batch_first=True)
        self.head = nn.Linear(5, 3)

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        x, _ = self.lstm(self.table(tokens))
        x, _ = self.attention(x, x, x)
        return {"scores": self.head(x)}


def test_total_variance_is_over_all_leading_dimensions_where_channels_are_last() -> None:
    model = started(Ragged)
    tokens = torch.randint(7, (6, 8), generator=torch.Generator().manual_seed(0))
    optimizer = sgd(model)
    scores = model(tokens)["scores"].detach().double()
    with Monitor(model, optimizer) as monitor:
        model(tokens)["scores"].square().mean().backward()
        optimizer.step()
    (head,) = of_layer(monitor, "head")
    expected = scores.flatten(0, 1).var(0, correction=0).sum().item()
    assert head.total_variance == pytest.approx(expected, rel=1e-5)
    assert of_layer(monitor, "lstm")[0].calls == of_layer(monitor, "attention")[0].calls == 1


def test_layers_that_are_never_called_are_listed_and_their_parameters_recorded() -> None:
    model = started(Ragged)
    model.spare = nn.Linear(2, 2)
    optimizer = sgd(model)
    with Monitor(model, optimizer) as monitor:
        assert monitor.uncalled == ()
        model(torch.zeros(2, 3, dtype=torch.long))["scores"].square().mean().backward()
        optimizer.step()
    assert monitor.uncalled == ("attention.out_proj", "spare")
    (projection,) = of_layer(monitor, "attention.out_proj")
    assert projection.calls == 0
    assert projection.mean is None
    assert projection.gradient_norm > 0
    assert projection.update_ratio > 0
    (spare,) = of_layer(monitor, "spare")
    assert spare.gradient_norm is None
    assert spare.update_ratio == 0.0


def test_shared_modules_are_pooled_over_their_calls() -> None:
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.Tanh(), shared)
    optimizer = sgd(model)
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    outputs = torch.cat([shared(x), model(x)]).detach().double()
    with Monitor(model, optimizer, layers=nn.Linear) as monitor:
        model(x).square().mean().backward()
        optimizer.step()
    (record,) = monitor.records
    assert (record.layer, record.calls) == ("0", 2)
    assert record.mean == pytest.approx(outputs.mean().item(), rel=1e-5)
    assert record.variance == pytest.approx(outputs.var(correction=0).item(), rel=1e-5)


def test_parameters_that_are_tied_have_one_name() -> None:
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5, bias=False))
    model[1].weight = model[0].weight
    optimizer = sgd(model)
    with Monitor(model, optimizer, start="copy") as monitor:
        model(torch.arange(5)).square().mean().backward()
        optimizer.step()
    assert monitor.copied == ("0.weight",)
    first, second = monitor.records
    assert first.gradient_norm == second.gradient_norm
    assert first.update_ratio == second.update_ratio


def test_parametrized_weights_belong_to_their_layer() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), nn.Linear(4, 2))
    optimizer = sgd(model)
    with Monitor(model, optimizer, start="copy") as monitor:
        model(torch.ones(2, 3)).square().sum().backward()
        optimizer.step()
    assert [record.layer for record in monitor.records] == ["0", "1"]
    assert set(monitor.copied) >= {
        "0.bias",
        "0.parametrizations.weight.original0",
        "0.parametrizations.weight.original1",
    }


def test_sparse_gradients_are_measured() -> None:
    model = nn.Sequential(nn.Embedding(9, 3, sparse=True))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer) as monitor:
        model(torch.tensor([1, 1, 4])).sum().backward()
        optimizer.step()
    assert monitor.records[0].gradient_norm == pytest.approx(math.sqrt(3 * 4 + 3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes_are_measured(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(8, 4)).to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    before = [each.detach().clone() for each in model.parameters()]
    with Monitor(model, optimizer) as monitor:
        model(torch.ones(2, 8, dtype=dtype)).square().mean().backward()
        optimizer.step()
    changes = [b.double() - a.double() for a, b in zip(model.parameters(), before, strict=True)]
    assert monitor.records[0].update_ratio == pytest.approx(norm(changes) / norm(before), rel=1e-6)


def test_values_that_are_not_finite_do_not_stop_training() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    optimizer = sgd(model)
    with Monitor(model, optimizer, start="copy", every=1) as monitor:
        for _ in range(2):
            model(torch.full((3, 2), math.inf)).sum().backward()
            optimizer.step()
    assert math.isnan(monitor.records[0].mean)
    assert not math.isfinite(monitor.records[1].distance)


# ---- nothing changes -----------------------------------------------------------------------------


def state(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[object]:
    tensors = [*model.state_dict().values()]
    tensors += [v for s in optimizer.state.values() for v in s.values() if v is not None]
    return [each.numpy().tobytes() for each in tensors]


@pytest.mark.parametrize("start", [None, "copy", "report"])
def test_training_gives_the_same_bits_with_and_without(start: str | None) -> None:
    results = []
    for is_monitored in (False, True):
        model = started()
        report = pyinit.initialize_(model, "torch", seed=3)
        optimizer = sgd(model)
        torch.manual_seed(5)
        monitor = None
        if is_monitored:
            monitor = Monitor(model, optimizer, 2, start=report if start == "report" else start)
        train(model, optimizer, 5)
        if monitor is not None:
            monitor.stop()
            assert len(monitor.records) == 3 * 6
        results.append((state(model, optimizer), torch.get_rng_state().tolist()))
    assert results[0] == results[1]


def hooks(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[int]:
    found = [
        len(which)
        for module in model.modules()
        for which in (
            module._forward_hooks,
            module._forward_pre_hooks,
            module._forward_hooks_always_called,
            module._backward_hooks,
        )
    ]
    found += [len(each._backward_hooks or ()) for each in model.parameters()]
    return [
        *found,
        len(optimizer._optimizer_step_pre_hooks),
        len(optimizer._optimizer_step_post_hooks),
    ]


def test_hooks_of_modules_are_there_around_recorded_steps_only() -> None:
    model = started()
    optimizer = sgd(model)
    without = hooks(model, optimizer)
    with Monitor(model, optimizer, every=3):
        seen = []
        for _ in range(4):
            seen.append(hooks(model, optimizer)[:-2] != without[:-2])
            train(model, optimizer, 1)
        assert seen == [True, False, False, True]
    assert hooks(model, optimizer) == without


def test_every_hook_is_gone_after_an_error() -> None:
    model = started()
    optimizer = sgd(model)
    without, modes = hooks(model, optimizer), [each.training for each in model.modules()]
    x, y = batches(1)[0]
    losses = []

    def fail() -> None:
        with Monitor(model, optimizer):
            losses.append(nn.functional.cross_entropy(model(x), y))
            model(torch.ones(1))

    with pytest.raises(RuntimeError):
        fail()
    assert hooks(model, optimizer) == without
    assert [each.training for each in model.modules()] == modes
    losses[0].backward()  # the hooks of its outputs are gone, too


class Identity(nn.Module):
    """A module that returns its parameter itself."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self) -> Tensor:
        return self.weight


def test_a_parameter_that_is_an_output_keeps_no_hook() -> None:
    model = Identity()
    optimizer = sgd(model)
    with Monitor(model, optimizer) as monitor:
        model().sum().backward()
        optimizer.step()
    assert monitor.records[0].calls == 1
    assert not model.weight._backward_hooks


def test_training_goes_on_after_an_error_in_a_pass() -> None:
    model = started()
    optimizer = sgd(model)
    with Monitor(model, optimizer) as monitor:
        with pytest.raises(RuntimeError):
            model(torch.ones(1))
        train(model, optimizer, 1)
    assert of_layer(monitor, "0")[0].calls == 1


def test_copies_of_the_model_have_hooks_that_do_nothing() -> None:
    model = started()
    optimizer = sgd(model)
    with Monitor(model, optimizer) as monitor:
        copied, loaded = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
        for other in (copied, loaded):
            other(batches(1)[0][0]).sum().backward()
        train(model, optimizer, 1)
    assert of_layer(monitor, "0")[0].calls == 1


def test_two_monitors_of_two_optimizers_do_not_meet() -> None:
    model = started()
    first = torch.optim.SGD(model[0].parameters(), lr=0.1)
    second = torch.optim.SGD(model[9].parameters(), lr=0.1)
    x, y = batches(1)[0]
    with Monitor(model, first, 1) as one, Monitor(model, second, 1) as two:
        for _ in range(2):
            nn.functional.cross_entropy(model(x), y).backward()
            first.step()
        second.step()
    assert (one.steps, two.steps) == (2, 1)
    assert of_layer(one, "0")[0].update_ratio > 0
    assert of_layer(one, "9")[0].update_ratio is None
    assert of_layer(two, "9")[0].update_ratio > 0
    assert of_layer(two, "0")[0].calls == 2


def test_layers_are_chosen_by_patterns_as_of_rules() -> None:
    model = started()
    for patterns, expected in (
        ("9", ["9"]),
        (nn.Conv2d, ["0", "3"]),
        ([nn.Linear, "1"], ["1", "9"]),
        (lambda layer: "bias" in layer.name + "".join(layer.parameters), ["0", "3", "4", "9"]),
    ):
        optimizer = sgd(model)
        with Monitor(model, optimizer, layers=patterns) as monitor:
            train(model, optimizer, 1)
        assert [record.layer for record in monitor.records] == expected
