"""The convolutions, activations and networks of ``pyinit bench``, torch and pyinit side by side in one group.

Peers that are installed stand there, too.
"""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from pyinit.bench import (
    LIBRARIES,
    PEERS,
    Case,
    steps,
    usual_activations,
    usual_convolutions,
)

WITH_PEERS = [case for case in usual_convolutions() if case.has_peers]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("case", [*usual_convolutions(), *usual_activations(), *steps()], ids=str)
def bench_conv(benchmark: BenchmarkFixture, case: Case, library: str) -> None:
    benchmark.group = str(case)
    benchmark(case.function(library), case.argument())


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("case", WITH_PEERS, ids=str)
def bench_peer(benchmark: BenchmarkFixture, case: Case, peer: str) -> None:
    for module in PEERS[peer].modules:
        pytest.importorskip(module)
    benchmark.group = str(case)
    argument = case.argument()
    benchmark(case.by_peer(peer, argument), argument)
