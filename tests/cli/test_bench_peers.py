"""``pyinit bench --peers``: convolutions beside other libraries."""

import json
import sys
from collections.abc import Callable
from itertools import groupby
from types import ModuleType
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from pyinit.bench import (
    PEERS,
    Case,
    Convolution,
    _case,
    activations,
    convolutions,
    fills,
    measure,
    steps,
    versions,
)
from pyinit.bench._convolutions import LAYERS, Layer
from pyinit.bench._peers import Peer
from pyinit.bench._peers.layer import ConvolutionLayer
from pyinit.cli import main

TWO = "conv2d (forward|fused) .*lenet5 1>6 .* b1$"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["bench", "--quick", *arguments])


def _by_torch(layer: ConvolutionLayer) -> Callable[[], object]:
    window = layer.stride, layer.padding, 1, layer.groups
    result = torch.conv2d(layer.images, layer.weight, layer.bias, *window)
    return lambda: layer.output.copy_(result if layer.bias is None else result.relu())


@pytest.fixture
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer called fake, by torch."""
    library = ModuleType("fake_library")
    library.__version__ = "3.1-of-today"
    monkeypatch.setitem(sys.modules, library.__name__, library)
    monkeypatch.setitem(PEERS, "fake", Peer((library.__name__,), "fake-library", _by_torch))


# ---- What the command takes, and prints ----------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "messages"),
    [
        ("torch", ["unknown peer 'torch'", "known are onnxruntime, openvino"]),
        ("openvin", ["unknown peer 'openvin'", "did you mean openvino?"]),
        ("", ["unknown peer ''"]),
        ("fake,", ["unknown peer ''"]),
    ],
)
@pytest.mark.usefixtures("_fake")
def test_unknown_peers_are_refused(names: str, messages: list[str]) -> None:
    result = run(TWO, "--peers", names)
    assert result.exit_code == 2
    assert "'--peers'" in result.stderr
    for message in messages:
        assert message in result.stderr.replace("fake, ", "")


@pytest.mark.parametrize(
    ("peer", "library", "packages"),
    [
        ("onnxruntime", "onnxruntime", "onnxruntime onnx"),
        ("onnxruntime", "onnx", "onnxruntime onnx"),
        ("openvino", "openvino", "openvino"),
    ],
)
def test_a_peer_that_is_not_installed_is_refused_with_what_to_install(
    peer: str, library: str, packages: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PEERS[peer].modules:  # also where they are installed
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, library, None)
    result = run(TWO, "--peers", peer)
    assert result.exit_code == 2
    message = f"the peer {peer} needs {library}: pip install {packages}"
    assert message in " ".join(result.stderr.split())


@pytest.mark.usefixtures("_fake")
def test_peers_are_refused_where_no_case_can_be_timed_beside_them() -> None:
    result = run("^constant_.* 16$", "--peers", "fake")
    assert result.exit_code == 2
    assert "none of the cases can be timed beside peers" in result.stderr
    assert result.stdout == ""


@pytest.mark.usefixtures("_fake")
def test_the_table_has_a_column_a_peer() -> None:
    result = run("^constant_.* 16$|" + TWO, "--peers", "fake")
    assert result.exit_code == 0
    header, columns, *lines = result.stdout.splitlines()
    assert ", fake 3.1, " in header
    assert columns.split()[-3:] == ["of", "sgemm", "fake"]
    constant, forward, fused = (line.rstrip() for line in lines[:3])
    assert not constant.endswith("x")
    assert forward.endswith("x")
    assert fused.endswith("x")
    (start,) = (i for i, line in enumerate(lines) if line.startswith("group "))
    assert lines[start].split()[-4:] == ["mean", "least", "fake", "least"]
    for row, group in ((forward, lines[start + 1]), (fused, lines[start + 2])):
        *_, mean, least = group.split()
        assert mean == least == row.split()[-1]


@pytest.mark.usefixtures("_fake")
def test_json_has_the_peers_of_each_case() -> None:
    result = run("^constant_.* 16$|" + TWO, "--peers", "fake", "--json")
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert answer["peers"] == {"fake": "3.1"}
    constant, *layers = answer["cases"]
    assert constant["peers"] == {}
    for layer in layers:
        assert set(layer["peers"]) == {"fake"}
        assert set(layer["peers"]["fake"]) == {"seconds", "ratio", "pairs"}
        assert min(layer["peers"]["fake"].values()) > 0


def test_there_are_no_peers_unless_they_are_named() -> None:
    answer = json.loads(run(TWO, "--json").stdout)
    assert answer["peers"] == {}
    assert all(case["peers"] == {} for case in answer["cases"])


# ---- How peers are measured ----------------------------------------------------------------------


class Recorded(Convolution):
    """Writes down which library is called."""

    def __init__(self) -> None:
        super().__init__(LAYERS[-1], "forward")
        object.__setattr__(self, "heard", [])

    def function(self, library: str) -> Callable[[Any], Any]:
        return lambda _: self.heard.append(library)

    def by_peer(self, name: str, argument: Any) -> Callable[[Any], Any]:  # noqa: ARG002
        return self.function(name)


def test_each_peer_takes_turns_with_pyinit(monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds in ("_REST", "_WAKING", "_TIMING"):
        monkeypatch.setattr(_case, seconds, 0)
    case = Recorded()
    found = measure(case, 0, ["one", "other"])
    assert {name: beside["pairs"] for name, beside in found["peers"].items()} == {
        "one": 3,
        "other": 3,
    }
    turns = [library for library, _ in groupby(case.heard)]
    assert turns == [by for name in ("torch", "one", "other") for by in (name, "pyinit") * 4]


class Clock:
    """A process that is at work during the first rests, as far as its clocks tell."""

    def __init__(self, busy: int) -> None:
        self.now, self.used, self.busy, self.rests = 0.0, 0.0, busy, 0

    def sleep(self, seconds: float) -> None:
        self.rests += 1
        self.now += seconds
        self.used += seconds if self.rests <= self.busy else 0.0


@pytest.mark.parametrize(("busy", "rests"), [(0, 1), (3, 4), (10**6, _case._MAX_RESTS)])
def test_a_library_waits_until_the_threads_of_another_are_at_rest(
    busy: int, rests: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(busy)
    monkeypatch.setattr(_case, "sleep", clock.sleep)
    monkeypatch.setattr(_case, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(_case, "process_time", lambda: clock.used)
    _case._rest()
    assert clock.rests == rests


# ---- What peers compute --------------------------------------------------------------------------


def test_peers_compute_forward_and_fused_in_the_usual_layout() -> None:
    with_peers = [case for case in convolutions() if case.has_peers]
    assert with_peers == [
        case
        for case in convolutions()
        if case.direction in {"forward", "fused"} and case.layout == torch.contiguous_format
    ]
    doubles = Convolution(LAYERS[0], "forward", dtype=torch.float64)
    others: list[Case] = [doubles, *fills(), *activations(), *steps()]
    assert not any(case.has_peers for case in others)


@pytest.mark.parametrize("direction", ["forward", "fused"])
@pytest.mark.parametrize(
    "layer",
    [
        Layer("tiny", 6, 4, 3, 2, 1, 9, groups=2),
        Layer("tiny", 3, 3, 5, 1, 0, 8, 3),
        Layer("tiny", 5, 7, 1, 1, 0, 6),
        *LAYERS[-2:],
    ],
    ids=str,
)
@pytest.mark.parametrize("peer", ["fake", "onnxruntime", "openvino"])
@pytest.mark.usefixtures("_fake")
def test_a_peer_computes_what_torch_does(peer: str, layer: Layer, direction: Any) -> None:
    for module in PEERS[peer].modules:
        pytest.importorskip(module)
    case = Convolution(layer, direction, 2)
    operands = case.argument()
    expected = case.function("torch")(operands)
    call = case.by_peer(peer, operands)
    call(operands).fill_(torch.nan)
    torch.testing.assert_close(call(operands), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("peer", ["onnxruntime", "openvino"])
def test_a_peer_reads_the_images_where_they_lie(peer: str) -> None:
    for module in PEERS[peer].modules:
        pytest.importorskip(module)
    case = Convolution(LAYERS[-1], "forward")
    operands = case.argument()
    call = case.by_peer(peer, operands)
    assert call(operands).any()
    operands.images.zero_()
    assert not call(operands).any()


@pytest.mark.parametrize("peer", ["onnxruntime", "openvino"])
def test_versions_are_numbers(peer: str) -> None:
    for module in PEERS[peer].modules:
        pytest.importorskip(module)
    (version,) = versions([peer]).values()
    assert all(part.isdigit() for part in version.split("."))
