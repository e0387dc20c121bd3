"""The convolutions and activations of ``pyinit bench``, torch and pyinit side by side in one group."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from pyinit.bench import LIBRARIES, Case, usual_activations, usual_convolutions


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("case", [*usual_convolutions(), *usual_activations()], ids=str)
def bench_conv(benchmark: BenchmarkFixture, case: Case, library: str) -> None:
    benchmark.group = str(case)
    benchmark(case.function(library), case.argument())
