"""Every initializer of ``pyinit bench``, torch and pyinit side by side in one group."""

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from pyinit.bench import LIBRARIES, Fill, fills

CASES = fills()
NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("case", CASES, ids=str)
def bench_cpu(benchmark: BenchmarkFixture, case: Fill, library: str) -> None:
    benchmark.group = f"{case} cpu"
    fill = case.function(library)
    with case.settings():
        if case.fresh:
            benchmark.pedantic(fill, setup=lambda: ((case.argument(),), {}), rounds=5)
        else:
            benchmark(fill, case.argument())


@NEEDS_CUDA
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("case", [c for c in CASES if not (c.isa or c.fresh)], ids=str)
def bench_cuda(benchmark: BenchmarkFixture, case: Fill, library: str) -> None:
    benchmark.group = f"{case} cuda"
    fill = case.function(library)

    def fill_and_wait(argument: Tensor | list[Tensor]) -> None:
        fill(argument)
        torch.cuda.synchronize()

    benchmark(fill_and_wait, case.argument("cuda"))
