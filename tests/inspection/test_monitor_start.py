"""The distance from the initial weights, which are copied or generated again in pieces."""

import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import pyinit
from pyinit import Monitor, Rule
from pyinit.initializers import Constant, Normal, Orthogonal, Padded, Parts, TruncNormal, Uniform
from pyinit.inspection.monitor.start import Start


class Network(nn.Module):
    """Parameters of several shapes, one of more than a piece."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(700, 600, padding_idx=3)
        self.lstm = nn.LSTM(5, 6)
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(300, 7)
        self.scale = nn.Parameter(torch.empty(()))


def rules(head: object = Uniform(-0.1, 0.3)) -> list[Rule]:
    return [
        Rule("table.weight", Padded(Normal(0.1, 0.02), row=3)),
        Rule("lstm.weight_*", Parts((Normal(), Uniform(), Constant(0.5), TruncNormal()))),
        Rule("conv.weight", TruncNormal(std=0.02, a=-0.04, b=0.04)),
        Rule("head.weight", head),
        Rule("scale", Normal(std=2.0)),
        Rule("*bias*", Constant(0.25)),
    ]


def by_float64(model: nn.Module, initial: dict[str, Tensor]) -> dict[str, tuple[float, float]]:
    return {
        name: (
            (each.detach().double() - initial[name].double()).norm().item(),
            initial[name].double().norm().item(),
        )
        for name, each in model.named_parameters()
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_initial_weights_are_generated_again_bit_for_bit(dtype: torch.dtype) -> None:
    model = Network().to(dtype)
    report = pyinit.initialize_(model, rules=rules(), seed=11)
    named = dict(model.named_parameters())
    start = Start(report, named)
    assert start.copied == ()
    for name, (moved, size) in start.distances(named).items():
        assert moved == 0.0
        assert size == pytest.approx(named[name].detach().double().norm().item(), rel=1e-12)


@pytest.mark.parametrize("version", [1, 2])
def test_initial_weights_are_those_of_the_reports_stream_version(version: int) -> None:
    model = Network()
    with pyinit.rng("philox", version):
        report = pyinit.initialize_(model, rules=rules(), seed=11)
    named = dict(model.named_parameters())
    distances = Start(report, named).distances(named)
    assert all(moved == 0.0 for moved, _ in distances.values())


@pytest.mark.parametrize("kind", ["report", "copy"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_distances_are_those_of_float64(kind: str, dtype: torch.dtype) -> None:
    model = Network().to(dtype)
    report = pyinit.initialize_(model, rules=rules(), seed=11)
    initial = {name: each.detach().clone() for name, each in model.named_parameters()}
    start = Start(report if kind == "report" else "copy", dict(model.named_parameters()))
    with torch.no_grad():
        for i, each in enumerate(model.parameters()):
            each.add_(torch.randn(each.shape, generator=torch.Generator().manual_seed(i)) * 0.01)
    found = start.distances(dict(model.named_parameters()))
    for name, (moved, size) in by_float64(model, initial).items():
        assert found[name].moved == pytest.approx(moved, rel=1e-6), name
        assert found[name].start == pytest.approx(size, rel=1e-6), name


@pytest.mark.parametrize("layout", ["channels_last", "transposed", "every_second"])
def test_layouts_that_are_not_dense_are_read_in_logical_order(layout: str) -> None:
    weight = torch.randn(900, 7, 11, 9, generator=torch.Generator().manual_seed(0))
    now = {
        "channels_last": weight.contiguous(memory_format=torch.channels_last),
        "transposed": weight.flatten(1).t(),
        "every_second": weight[::2],
    }[layout]
    start = Start("copy", {"weight": now})
    assert start.distances({"weight": now})["weight"].moved == 0.0
    now.add_(1)
    moved = start.distances({"weight": now})["weight"].moved
    assert moved == pytest.approx(math.sqrt(now.numel()), rel=1e-5)


def test_a_change_of_dtype_after_the_start_counts_as_change() -> None:
    model = nn.Linear(40, 30)
    report = pyinit.initialize_(model, "xavier", seed=0)
    exact = model.weight.detach().double().clone()
    start = Start(report, {"weight": model.weight})
    model.to(torch.bfloat16)
    expected = (model.weight.detach().double() - exact).norm().item()
    found = start.distances({"weight": model.weight})["weight"]
    assert found.moved == pytest.approx(expected, rel=1e-6)


def test_what_cannot_be_generated_in_pieces_is_copied_and_listed() -> None:
    model = Network()
    report = pyinit.initialize_(
        model, rules=[Rule("lstm.bias_hh_l0", "keep"), *rules(head=Orthogonal())], seed=11
    )
    optimizer = torch.optim.SGD(model.parameters())
    with Monitor(model, optimizer, start=report) as monitor:
        assert monitor.copied == ("lstm.bias_hh_l0", "head.weight")
    assert (
        not Start(report, {"head.weight": model.head.weight})
        .distances({"head.weight": model.head.weight})["head.weight"]
        .moved
    )


def test_torchs_own_numbers_are_copied() -> None:
    model = nn.Linear(3, 2)
    with pyinit.rng("torch"):
        report = pyinit.initialize_(model, "torch", seed=1)
    with Monitor(model, torch.optim.SGD(model.parameters()), start=report) as monitor:
        assert monitor.copied == ("weight", "bias")


def test_a_report_from_a_file_and_without_a_seed_will_do(tmp_path: object) -> None:
    model = nn.Linear(3, 2)
    report = pyinit.initialize_(model, "xavier")
    report.save(f"{tmp_path}/init.json")
    loaded = pyinit.InitReport.load(f"{tmp_path}/init.json")
    named = dict(model.named_parameters())
    start = Start(loaded, named)
    assert start.copied == ()
    assert start.distances(named)["weight"].moved == 0.0


def test_training_that_is_resumed_is_measured_from_the_report_and_not_from_now() -> None:
    model = nn.Linear(3, 2)
    report = pyinit.initialize_(model, "xavier", seed=1)
    initial = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.mul_(3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, start=report) as monitor:
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    assert monitor.records[0].distance == pytest.approx(2.0, rel=1e-5)
    assert initial.norm() > 0


def test_a_layer_that_starts_at_zero_is_at_no_relative_distance_until_it_moves() -> None:
    model = nn.Linear(3, 2)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, every=1, start="copy") as monitor:
        for _ in range(2):
            model(torch.ones(1, 3)).sum().backward()
            optimizer.step()
    first, second = (record.distance for record in monitor.records)
    assert math.isnan(first)
    assert second == math.inf


def test_without_a_start_there_is_no_distance() -> None:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer) as monitor:
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    assert monitor.records[0].distance is None
    assert monitor.copied == ()


def test_generators_are_left_alone() -> None:
    model = Network()
    report = pyinit.initialize_(model, rules=rules(), seed=11)
    state = torch.get_rng_state()
    Start(report, dict(model.named_parameters())).distances(dict(model.named_parameters()))
    assert torch.equal(state, torch.get_rng_state())


PEAK = Path("/proc/self/clear_refs")


def peak() -> int:
    """The most memory that the process has had since the peak was reset, in KiB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0])


@pytest.mark.skipif(not PEAK.exists(), reason="needs Linux, to reset the peak of memory")
def test_no_more_memory_than_16_mib_is_taken() -> None:
    model = nn.Embedding(40_000, 1_000)  # 153 MiB
    report = pyinit.initialize_(model, rules={"*": Normal(std=0.02)}, seed=0)
    named = dict(model.named_parameters())
    PEAK.write_text("5", encoding="utf-8")
    before = peak()
    Start(report, named).distances(named)
    assert peak() - before < 16 * 1024


def test_a_report_of_another_model_is_refused() -> None:
    report = pyinit.initialize_(nn.Linear(4, 2), "xavier", seed=1)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters())
    with pytest.raises(ValueError, match=re.escape("weight has the shape (2, 3) in the model")):
        Monitor(model, optimizer, start=report)
    other = nn.Sequential(nn.Linear(4, 2))
    with pytest.raises(ValueError, match="a row for none of the parameters"):
        Monitor(other, torch.optim.SGD(other.parameters()), start=report)
    assert not model._forward_hooks
