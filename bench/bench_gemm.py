"""Matrix products, torch and pyinit side by side.

``pytest bench/bench_gemm.py`` measures each alone; ``python bench/bench_gemm.py`` prints
them in pairs, with shares of what the processor can do at most in multiply-adds.
"""

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from pyinit import _core
from pyinit._torch.views import DTYPES

LIBRARIES = ("torch", "pyinit")
SECONDS = 0.4  # a case takes about that long
ROUNDS = 50_000  # of the peak: a tenth of a millisecond


@dataclass(frozen=True)
class Case:
    """(m x k) times (k x n); ``transposes`` tells of A and B whether they are stored by columns."""

    m: int
    n: int
    k: int
    transposes: str = "nn"
    dtype: torch.dtype = torch.float32
    threads: int = 1

    def __str__(self) -> str:
        sides = f"{self.m}x{self.n}x{self.k}"
        return f"{sides} {self.transposes} {str(self.dtype).removeprefix('torch.')} t{self.threads}"

    @property
    def operations(self) -> int:
        return 2 * self.m * self.n * self.k

    def product(self, library: str) -> Callable[[], Any]:
        a = _stored(self.m, self.k, self.transposes[0], self.dtype)
        b = _stored(self.k, self.n, self.transposes[1], self.dtype)
        c = torch.zeros(self.m, self.n, dtype=self.dtype)
        if library == "torch":
            return lambda: torch.mm(a, b, out=c)
        targets = [(t.data_ptr(), DTYPES[t.dtype], tuple(t.shape), t.stride()) for t in (a, b, c)]

        def product(_alive: tuple[Tensor, ...] = (a, b, c)) -> None:
            _core.gemm(*targets, 1.0, 0.0, self.threads)

        return product

    @contextmanager
    def settings(self) -> Iterator[None]:
        """torch's number of threads."""
        usual = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        yield
        torch.set_num_threads(usual)


def _stored(rows: int, columns: int, how: str, dtype: torch.dtype) -> Tensor:
    if how == "t":
        return torch.randn(columns, rows, dtype=dtype).t()
    return torch.randn(rows, columns, dtype=dtype)


def cases() -> list[Case]:
    powers = [64, 128, 256, 512, 1024, 2048]
    squares = [Case(n, n, n) for n in (*powers, 100, 1000, 1023)]
    transposed = [Case(n, n, n, how) for n in (256, 1024) for how in ("nt", "tn", "tt")]
    skinny = [Case(2048, 2048, 32), Case(6, 1024, 1024), Case(1024, 7, 1024)]
    doubles = [Case(n, n, n, dtype=torch.float64) for n in (256, 1024)]
    every = [*squares, *transposed, *skinny, *doubles]
    return [
        Case(c.m, c.n, c.k, c.transposes, c.dtype, threads)
        for threads in sorted({1, torch.get_num_threads()})
        for c in every
    ]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("case", cases(), ids=str)
def bench_gemm(benchmark: BenchmarkFixture, case: Case, library: str) -> None:
    benchmark.group = str(case)
    with case.settings():
        benchmark(case.product(library))


def _seconds(function: Callable[[], Any]) -> float:
    start = perf_counter()
    function()
    return perf_counter() - start


def measure(case: Case) -> tuple[float, float, float, float]:
    """The best rates of torch and pyinit, the median of pyinit's rate over torch's, and the peak."""
    calls = max(1, int(1e7) // case.operations)
    code = DTYPES[case.dtype]

    def repeated(function: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: [function() for _ in range(calls)]

    with case.settings():
        theirs, ours = (repeated(case.product(library)) for library in LIBRARIES)
        theirs(), ours()
        most = partial(_core.multiply_adds, code, ROUNDS)
        pairs, peaks = [], []
        end = perf_counter() + SECONDS
        while len(pairs) < 3 or perf_counter() < end:
            pairs.append((_seconds(theirs), _seconds(ours)))
            peaks.append(_seconds(most))
    rates = [calls * case.operations / min(seconds) for seconds in zip(*pairs, strict=True)]
    peak = case.threads * 2 * _core.multiply_adds(code, ROUNDS) / min(peaks)
    return rates[0], rates[1], statistics.median(a / b for a, b in pairs), peak


def main() -> None:
    table = Table("product", "pyinit GFLOP/s", "of peak", "torch GFLOP/s", "of peak", "ratio")
    for case in track(cases(), transient=True):
        theirs, ours, ratio, peak = measure(case)
        rates = [(f"{rate / 1e9:.1f}", f"{rate / peak:.0%}") for rate in (ours, theirs)]
        table.add_row(str(case), *rates[0], *rates[1], f"{ratio:.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
