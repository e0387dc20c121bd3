"""What counts as a step, and which passes belong to it."""

import itertools
import math
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from programs import json_of
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch.utils.checkpoint import checkpoint

from pyinit import Monitor
from pyinit.inspection.monitor import Record


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def batch(seed: int, samples: int = 8) -> Tensor:
    return torch.randn(samples, 4, generator=torch.Generator().manual_seed(seed))


def sgd(model: nn.Module, lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr)


def of_layer(monitor: Monitor, layer: str) -> list[Record]:
    return [record for record in monitor.records if record.layer == layer]


def norm(*tensors: Tensor) -> float:
    return torch.cat([each.detach().double().flatten() for each in tensors]).norm().item()


def gradients(layer: nn.Module) -> float:
    return norm(*(each.grad for each in layer.parameters()))


# ---- accumulation, evaluation, clipping ----------------------------------------------------------


def test_batches_whose_gradients_are_accumulated_are_one_step() -> None:
    model = network()
    optimizer = sgd(model)
    halves = [batch(1, 5), batch(2, 11)]
    outputs = torch.cat([model[0](x) for x in halves]).detach().double()
    with Monitor(model, optimizer) as monitor:
        for x in halves:
            model(x).square().sum().backward()
        expected = gradients(model[0])
        optimizer.step()
    (record,) = of_layer(monitor, "0")
    assert (monitor.steps, record.calls) == (1, 2)
    assert record.mean == pytest.approx(outputs.mean().item(), rel=1e-5)
    assert record.variance == pytest.approx(outputs.var(correction=0).item(), rel=1e-5)
    parts = [each.var(0, correction=0).sum().item() for each in outputs.split([5, 11])]
    assert record.total_variance == pytest.approx((5 * parts[0] + 11 * parts[1]) / 16, rel=1e-5)
    assert record.gradient_norm == record.unclipped_norm == pytest.approx(expected, rel=1e-6)


def test_a_channel_is_dead_that_is_zero_in_all_batches_of_the_step() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.ReLU())
    nn.init.eye_(model[0].weight)
    optimizer = sgd(model)
    with Monitor(model, optimizer) as monitor:
        for x in ([[1.0, -1.0, -1.0]], [[-1.0, 1.0, -1.0]]):
            model(torch.tensor(x)).sum().backward()
        optimizer.step()
    assert of_layer(monitor, "1")[0].dead == pytest.approx(1 / 3)


@pytest.mark.parametrize("grad_mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("is_training", [False, True])
def test_evaluation_in_between_leaves_no_trace(grad_mode: type, is_training: bool) -> None:
    model = network()
    optimizer = sgd(model)
    mean = model[0](batch(1)).mean().item()
    with Monitor(model, optimizer) as monitor:
        for x in (batch(2), None, batch(3)):
            model.train(x is None or is_training)
            if x is None:
                model(batch(1)).square().sum().backward()
            else:
                with grad_mode():
                    model(x)
        optimizer.step()
    (record,) = of_layer(monitor, "0")
    assert record.calls == 1
    assert record.mean == pytest.approx(mean, rel=1e-5)


def test_two_passes_before_one_backward_pass_are_both_of_the_step() -> None:
    model = network()
    optimizer = sgd(model)
    with Monitor(model, optimizer) as monitor:
        (model(batch(1)) - model(batch(2))).square().sum().backward()
        optimizer.step()
    assert of_layer(monitor, "0")[0].calls == 2


def test_layers_that_are_called_without_their_model_are_recorded() -> None:
    model = network()
    optimizer = sgd(model)
    with Monitor(model, optimizer) as monitor:
        model[2](model[1](model[0](batch(1)))).square().sum().backward()
        with torch.no_grad():
            model[0](batch(2))
        optimizer.step()
    assert [record.calls for record in monitor.records] == [1, 1, 1]


def test_frozen_layers_are_recorded_with_the_passes_that_gradients_come_back_through() -> None:
    model = network()
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model[2].parameters(), lr=0.1)
    with Monitor(model, optimizer) as monitor:
        model(batch(2))
        model(batch(1)).square().sum().backward()
        optimizer.step()
    first, _, last = monitor.records
    assert (first.calls, last.calls) == (1, 1)
    assert first.output_gradient_std is first.gradient_norm is first.update_ratio is None
    assert last.update_ratio > 0


def test_gradients_are_reported_before_and_after_clipping() -> None:
    model = network()
    optimizer = sgd(model)
    with Monitor(model, optimizer) as monitor:
        model(batch(1)).square().sum().backward()
        before = gradients(model[0])
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        after = gradients(model[0])
        optimizer.step()
    (record,) = of_layer(monitor, "0")
    assert record.unclipped_norm == pytest.approx(before, rel=1e-6)
    assert record.gradient_norm == pytest.approx(after, rel=1e-6)


def test_all_parameter_groups_are_seen_also_those_added_later() -> None:
    model = network()
    optimizer = torch.optim.SGD(
        [{"params": model[0].weight}, {"params": [model[0].bias], "lr": 1.0}], lr=0.1
    )
    with Monitor(model, optimizer, every=1) as monitor:
        for _ in range(2):
            before = [each.detach().clone() for each in model[0].parameters()]
            optimizer.zero_grad()
            model(batch(1)).square().sum().backward()
            optimizer.step()
            changes = [a - b for a, b in zip(model[0].parameters(), before, strict=True)]
            record = of_layer(monitor, "0")[-1]
            assert record.update_ratio == pytest.approx(norm(*changes) / norm(*before), rel=1e-5)
            if monitor.steps == 1:
                optimizer.add_param_group({"params": model[2].parameters()})
    assert [record.update_ratio is None for record in of_layer(monitor, "2")] == [True, False]


# ---- automatic mixed precision -------------------------------------------------------------------


def scaled_steps(model: nn.Module, optimizer: torch.optim.Optimizer, order: str) -> list[float]:
    """Three steps, the second of which overflows; the true norms of the first layer's gradients."""
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    found = []
    for i in range(3):
        x = batch(i) * (math.inf if i == 1 else 1)
        if order == "before":
            optimizer.zero_grad()
        loss = model(x).square().sum()
        if order == "between":
            optimizer.zero_grad()
        elif order == "zeros":
            optimizer.zero_grad(set_to_none=False)
        scaler.scale(loss).backward()
        if order == "unscaled":
            scaler.unscale_(optimizer)
        found.append(gradients(model[0]) / (1 if order == "unscaled" else scaler.get_scale()))
        scaler.step(optimizer)
        scaler.update()
        if order in ("after", "unscaled"):
            optimizer.zero_grad()
    return found


@pytest.mark.parametrize("order", ["before", "between", "after", "zeros", "unscaled"])
@pytest.mark.parametrize("is_fused", [False, True])
def test_a_step_that_the_scaler_skips_is_no_step(order: str, is_fused: bool) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, fused=is_fused)
    plain = network()
    with Monitor(model, optimizer, every=1) as monitor:
        expected = scaled_steps(model, optimizer, order)
    scaled_steps(plain, torch.optim.SGD(plain.parameters(), lr=0.01, fused=is_fused), order)
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b)
    assert monitor.steps == 2
    records = of_layer(monitor, "0")
    assert [record.step for record in records] == [0, 1]
    assert [record.calls for record in records] == [1, 1]
    assert math.isfinite(records[1].mean)
    for record, norm_ in zip(records, (expected[0], expected[2]), strict=True):
        assert record.gradient_norm == pytest.approx(norm_, rel=1e-5)
        assert record.unclipped_norm == pytest.approx(norm_, rel=1e-5)


def test_gradients_of_outputs_are_reported_without_the_scale() -> None:
    found = []
    for scale in (1.0, 4096.0):
        model = network()
        optimizer = sgd(model)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        with Monitor(model, optimizer) as monitor:
            scaler.scale(model(batch(1)).square().sum()).backward()
            scaler.step(optimizer)
        found.append(of_layer(monitor, "0")[0].output_gradient_std)
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_outputs_of_autocast_are_measured() -> None:
    model = network()
    optimizer = sgd(model)
    with Monitor(model, optimizer) as monitor:
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(batch(1)).float().square().sum()
        loss.backward()
        optimizer.step()
    assert all(record.output_gradient_std > 0 for record in monitor.records)


# ---- closures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["LBFGS", "SGD"])
@pytest.mark.parametrize("is_named", [False, True])
def test_of_a_closure_the_last_evaluation_counts(kind: str, is_named: bool) -> None:
    model = network()
    optimizer = getattr(torch.optim, kind)(model.parameters(), lr=0.1)
    seen: list[tuple[float, float]] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(batch(1)).square().mean()
        loss.backward()
        seen.append((model[0](batch(1)).mean().item(), gradients(model[0])))
        return loss

    before = [each.detach().clone() for each in model[0].parameters()]
    with Monitor(model, optimizer) as monitor:
        optimizer.step(closure=closure) if is_named else optimizer.step(closure)
    assert len(seen) > 1 or kind == "SGD"
    (record,) = of_layer(monitor, "0")
    mean, gradient = seen[-1]
    assert record.calls == 1
    assert record.mean == pytest.approx(mean, rel=1e-4)
    assert record.gradient_norm == pytest.approx(gradient, rel=1e-5)
    changes = [a - b for a, b in zip(model[0].parameters(), before, strict=True)]
    assert record.update_ratio == pytest.approx(norm(*changes) / norm(*before), rel=1e-5)


# ---- checkpoints, gradient penalties, compiled models, wrappers -----------------------------------


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.first, self.second, self.reentrant = nn.Linear(4, 4), nn.Linear(4, 4), reentrant

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.second, self.first(x), use_reentrant=self.reentrant)


@pytest.mark.parametrize("reentrant", [False, True])
def test_what_a_checkpoint_computes_again_is_not_counted_twice(reentrant: bool) -> None:
    model = Checkpointed(reentrant)
    optimizer = sgd(model)
    with Monitor(model, optimizer) as monitor:
        model(batch(1)).square().sum().backward()
        optimizer.step()
    assert [record.calls for record in monitor.records] == [1, 1]
    assert all(record.gradient_norm > 0 for record in monitor.records)
    second = of_layer(monitor, "second")[0].output_gradient_std
    assert second is None if reentrant else second > 0


def test_a_gradient_penalty_changes_no_bits_and_is_measured() -> None:
    results = []
    for is_monitored in (False, True):
        model = network()
        optimizer = sgd(model)
        monitor = Monitor(model, optimizer) if is_monitored else None
        x = batch(1).requires_grad_()
        output = model(x).square().sum()
        (slope,) = torch.autograd.grad(output, x, create_graph=True)
        (output + slope.square().sum()).backward()
        expected = gradients(model[0])
        optimizer.step()
        results.append([each.detach().clone() for each in model.parameters()])
    assert all(map(torch.equal, *results))
    monitor.stop()
    assert of_layer(monitor, "0")[0].unclipped_norm == pytest.approx(expected, rel=1e-6)


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def test_compiled_models_have_their_parameters_recorded(fresh_compiler: None) -> None:
    results = []
    for is_monitored in (False, True):
        torch._dynamo.reset()
        model = network()
        optimizer = sgd(model)
        counted = CompileCounter()
        compiled = torch.compile(model, backend=counted)
        monitor = Monitor(compiled, optimizer, every=2) if is_monitored else None
        for i in range(4):
            optimizer.zero_grad()
            compiled(batch(i)).square().sum().backward()
            optimizer.step()
        results.append([each.detach().clone() for each in model.parameters()])
        assert counted.frame_count == 1
    assert all(map(torch.equal, *results))
    monitor.stop()
    assert [record.step for record in of_layer(monitor, "0")] == [0, 2]
    assert monitor.uncalled == ("0", "1", "2")
    assert all(record.gradient_norm > 0 for record in of_layer(monitor, "0"))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # of the compiler's
def test_eager_parts_around_a_compiled_one_are_recorded(fresh_compiler: None) -> None:
    model = network()
    model[2] = torch.compile(model[2], backend="eager")
    optimizer = sgd(model)
    with Monitor(model, optimizer) as monitor:
        model(batch(1)).square().sum().backward()
        optimizer.step()
    assert [record.layer for record in monitor.records] == ["0", "1", "2"]
    assert monitor.uncalled == ("2",)


def test_a_function_that_is_compiled_around_the_model_is_compiled_with_hooks_that_do_nothing(
    fresh_compiler: None,
) -> None:
    model = network()
    optimizer = sgd(model)
    counted = CompileCounter()
    run = torch.compile(lambda x: model(x).square().sum(), backend=counted, fullgraph=True)
    with Monitor(model, optimizer, every=2) as monitor:
        for i in range(6):
            optimizer.zero_grad()
            run(batch(i)).backward()
            optimizer.step()
    assert counted.frame_count <= 2  # with the hooks, and without
    assert [record.step for record in of_layer(monitor, "0")] == [0, 2, 4]


def test_models_in_distributed_data_parallel_have_their_own_names() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1
    )
    try:
        model = network()
        wrapped = nn.parallel.DistributedDataParallel(model)
        optimizer = sgd(model)
        with Monitor(wrapped, optimizer) as monitor:
            with wrapped.no_sync():
                wrapped(batch(1)).square().sum().backward()
            wrapped(batch(2)).square().sum().backward()
            expected = gradients(model[0])
            optimizer.step()
    finally:
        torch.distributed.destroy_process_group()
    assert [record.layer for record in monitor.records] == ["0", "1", "2"]
    (record,) = of_layer(monitor, "0")
    assert record.calls == 2
    assert record.gradient_norm == record.unclipped_norm == pytest.approx(expected, rel=1e-6)


OF_ONE_RANK = """
    import json, sys
    import torch, pyinit
    from torch import nn

    rank, port = int(sys.argv[1]), sys.argv[2]
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    torch.manual_seed(0)
    model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(4, 6), nn.Tanh()))
    optimizer = torch.optim.Adam(model.parameters())
    x = torch.randn(2, 2, 5, 4)[rank]
    with pyinit.Monitor(model, optimizer, every=1, start="copy") as monitor:
        for _ in range(2):
            optimizer.zero_grad()
            with model.no_sync():
                model(x[0]).square().mean().backward()
            model(x[1]).square().mean().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.01)
            optimizer.step()
    torch.distributed.destroy_process_group()
    print(json.dumps([vars(r) for r in monitor.records if r.layer == "0"]))
"""


def test_in_several_processes_gradients_are_those_of_all_and_outputs_those_of_each() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda rank: json_of(OF_ONE_RANK, str(rank), port), range(2)))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh())
    optimizer = torch.optim.Adam(model.parameters())
    x = torch.randn(2, 2, 5, 4)
    start = [each.detach().clone() for each in model.parameters()]
    for step in range(2):
        optimizer.zero_grad()
        for rank, micro in itertools.product(range(2), range(2)):
            (model(x[rank, micro]).square().mean() / 2).backward()
        with torch.no_grad():
            outputs = [model[0](x[rank].flatten(0, 1)) for rank in range(2)]
        unclipped = gradients(model[0])
        nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        clipped = gradients(model[0])
        before = [each.detach().clone() for each in model.parameters()]
        optimizer.step()
        updates = [a - b for a, b in zip(model.parameters(), before, strict=True)]
        moved = [a - b for a, b in zip(before, start, strict=True)]
        for rank in range(2):
            record = found[rank][step]
            assert (record["step"], record["calls"]) == (step, 2)
            expected = {
                "mean": outputs[rank].mean().item(),
                "variance": outputs[rank].var(correction=0).item(),
                "unclipped_norm": unclipped,
                "gradient_norm": clipped,
                "update_ratio": norm(*updates) / norm(*before),
                "distance": norm(*moved) / norm(*start),
            }
            got = {name: record[name] for name in expected}
            assert got == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_learning_rate_schedules_and_wrappers_of_optimizers_are_seen_through() -> None:
    class Wrapper:
        def __init__(self, optimizer: torch.optim.Optimizer) -> None:
            self.optimizer = optimizer

    model = network()
    optimizer = sgd(model)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    with Monitor(model, Wrapper(optimizer), every=1) as monitor:
        for _ in range(3):
            optimizer.zero_grad()
            model(batch(1)).sum().backward()
            optimizer.step()
            schedule.step()
    assert monitor.steps == 3
    ratios = [record.update_ratio for record in of_layer(monitor, "2")]
    assert ratios[0] > 1.5 * ratios[1] > 2 * ratios[2]


def test_a_step_that_raises_is_no_step() -> None:
    model = network()
    optimizer = sgd(model)

    def closure() -> Tensor:
        raise ZeroDivisionError

    with Monitor(model, optimizer, every=1) as monitor:
        with pytest.raises(ZeroDivisionError):
            optimizer.step(closure)
        assert monitor.steps == 0
        model(batch(1)).sum().backward()
        optimizer.step()
    assert [record.step for record in of_layer(monitor, "0")] == [0]
