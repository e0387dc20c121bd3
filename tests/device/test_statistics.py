"""Statistics of CUDA tensors, with emulated kernels on CPU tensors in the device's place."""

import math
from types import ModuleType

import pytest
import torch
from torch import Tensor

from pyinit import _core
from pyinit._device import fills as device_fills
from pyinit._device import statistics as device_statistics
from pyinit._torch.views import DTYPES
from pyinit.inspection import statistics
from pyinit.inspection.statistics import Statistics, describe, describe_channels, describe_many

BOUNDS = (-0.5, 0.75)


@pytest.fixture(autouse=True)
def _fused() -> None:
    if _core.isa() == "baseline":
        pytest.skip("bits are promised with a fused multiply-add")


@pytest.fixture
def there(device: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No tensor is in the CPU's memory, but for what the functions make themselves."""
    monkeypatch.setattr(statistics, "readable_view", lambda _: None)


def equal(a: Statistics, b: Statistics) -> bool:
    pairs = zip(vars(a).values(), vars(b).values(), strict=True)
    return all(x == y or (math.isnan(x) and math.isnan(y)) for x, y in pairs)


def tensors() -> list[Tensor]:
    some = [torch.randn(70, 33).to(dtype) for dtype in DTYPES]
    return [*some, *(x[:, 3:20] for x in some), torch.empty(0, 4), torch.tensor([1.0, math.inf])]


def test_statistics_are_the_cpus(request: pytest.FixtureRequest) -> None:
    some = tensors()
    expected = describe_many(some, [BOUNDS] * len(some))
    by_channel = [describe_channels(x, bounds=BOUNDS) for x in some[:-1]]
    request.getfixturevalue("there")
    assert all(map(equal, describe_many(some, [BOUNDS] * len(some)), expected))
    for x, right in zip(some, by_channel, strict=False):
        found = describe_channels(x, bounds=BOUNDS)
        assert all(map(equal, found.statistics, right.statistics))
        assert found.total_variance == right.total_variance


def test_all_tensors_of_a_device_go_in_one_call(
    there: None, emulation: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    run = device_statistics.describe_many
    monkeypatch.setattr(
        device_statistics,
        "describe_many",
        lambda tensor, views, bounds: (calls.append(len(views)), run(tensor, views, bounds))[1],
    )
    describe_many(tensors())
    assert calls == [len(tensors())]


@pytest.mark.parametrize(
    "x",
    [
        torch.randn((3,) * 7)[(slice(2),) * 7],
        torch._neg_view(torch.randn(33)),
        torch.arange(5),
        torch.eye(3).to_sparse(),
    ],
    ids=["seven dims", "negative view", "integers", "sparse"],
)
def test_what_kernels_do_not_reach_is_described_by_torch(there: None, x: Tensor) -> None:
    assert device_statistics.readable_view(x) is None
    found = describe(x)
    dense = (x.to_dense() if x.is_sparse else x).double()
    assert found.mean == pytest.approx(dense.mean().item())
    assert found.std == pytest.approx(dense.std(correction=0).item())


def test_a_build_without_kernels_leaves_all_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_fills, "_cuda", None)
    assert device_statistics.readable_view(torch.empty(3)) is None
