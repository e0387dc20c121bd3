"""Fills on a CUDA device beside torch's and beside a copy: ``pytest bench -k cuda``.

Times are of CUDA events around one call, after a warm-up, with the second-level cache emptied before
each; seconds of the device, not of Python. ``GB/s`` in the extra columns counts bytes written, of a
copy those read and written.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

import pyinit
from pyinit._device import fills as device_fills

pytestmark = pytest.mark.skipif(
    not (torch.cuda.is_available() and device_fills.BUILD != "none"),
    reason="no CUDA device, or built without CUDA kernels",
)

_FLUSH_BYTES = 256 << 20  # more than any second-level cache
_FILLS = ("uniform_", "normal_", "trunc_normal_")


def _event_seconds(function: Callable[[], Any], flush: Tensor) -> float:
    flush.zero_()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    function()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3


def _measure(benchmark: BenchmarkFixture, function: Callable[[], Any], bytes_moved: int) -> None:
    flush = torch.empty(_FLUSH_BYTES, dtype=torch.uint8, device="cuda")
    for _ in range(3):
        function()
    torch.cuda.synchronize()
    seconds = sorted(_event_seconds(function, flush) for _ in range(30))
    benchmark.extra_info["device us"] = round(seconds[len(seconds) // 2] * 1e6, 1)
    benchmark.extra_info["GB/s"] = round(bytes_moved / seconds[len(seconds) // 2] / 1e9, 1)
    benchmark.pedantic(lambda: (function(), torch.cuda.synchronize()), rounds=10)


@pytest.mark.parametrize("library", ["torch", "pyinit"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("power", [20, 26])
@pytest.mark.parametrize("fill", _FILLS)
def bench_cuda_fill(
    benchmark: BenchmarkFixture, fill: str, power: int, dtype: torch.dtype, library: str
) -> None:
    benchmark.group = f"{fill} {dtype} 2^{power} cuda"
    tensor = torch.empty(1 << power, dtype=dtype, device="cuda")
    module = torch.nn.init if library == "torch" else pyinit.init
    _measure(benchmark, partial(getattr(module, fill), tensor), tensor.nbytes)


@pytest.mark.parametrize("power", [20, 26])
def bench_cuda_copy(benchmark: BenchmarkFixture, power: int) -> None:
    """The ceiling: a copy from device to device."""
    benchmark.group = f"copy float32 2^{power} cuda"
    source, target = (torch.empty(1 << power, device="cuda") for _ in range(2))
    _measure(benchmark, partial(target.copy_, source), 2 * source.nbytes)


@pytest.mark.parametrize("library", ["torch", "pyinit"])
@pytest.mark.parametrize("size", [512, 4096])
def bench_cuda_orthogonal(benchmark: BenchmarkFixture, size: int, library: str) -> None:
    benchmark.group = f"orthogonal_ {size}x{size} cuda"
    tensor = torch.empty(size, size, device="cuda")
    module = torch.nn.init if library == "torch" else pyinit.init
    _measure(benchmark, partial(module.orthogonal_, tensor), tensor.nbytes)


@pytest.mark.parametrize("library", ["torch", "pyinit"])
def bench_cuda_many_orthogonal(benchmark: BenchmarkFixture, library: str) -> None:
    benchmark.group = "orthogonal_ 256 of 64x64 cuda"
    tensors = [torch.empty(64, 64, device="cuda") for _ in range(256)]

    def by_torch() -> None:
        for tensor in tensors:
            torch.nn.init.orthogonal_(tensor)

    function = by_torch if library == "torch" else partial(pyinit.orthogonal_many_, tensors)
    _measure(benchmark, function, sum(tensor.nbytes for tensor in tensors))


@pytest.mark.parametrize("library", ["torch", "pyinit"])
def bench_cuda_model(benchmark: BenchmarkFixture, library: str) -> None:
    benchmark.group = "1,000 tensors cuda"
    layers = [torch.nn.Linear(256, 256, device="cuda") for _ in range(500)]
    model = torch.nn.Sequential(*layers)

    def by_torch() -> None:
        for layer in layers:
            layer.reset_parameters()

    ours = partial(pyinit.initialize_, model, "torch", seed=0)
    total = sum(p.nbytes for p in model.parameters())
    _measure(benchmark, by_torch if library == "torch" else ours, total)
