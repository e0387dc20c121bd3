"""Threads change speed, never values; forks do not hang; one OpenMP runtime."""

import multiprocessing
import os
import threading
from collections.abc import Callable

import pytest
import torch
from bits import digest, same_bits
from programs import output_of

import pyinit
from pyinit import _core, fill

SIZE = 1 << 20  # enough work for eight threads


VIEWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "contiguous": lambda t: t,
    "transposed": lambda t: t.view(1024, -1).t(),
    "channels_last": lambda t: t.view(16, 32, 32, 64).permute(0, 3, 1, 2),
    "gaps": lambda t: t.view(1024, -1)[:, 3:-5],
}
FILLS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "uniform": lambda t: fill.uniform(t, key=7),
    "normal": lambda t: fill.normal(t, key=7),
    "trunc_normal": lambda t: fill.trunc_normal(t, key=7),
    "normal_tail": lambda t: fill.trunc_normal(t, 0, 1, 30, 40, key=7),
    "bernoulli": lambda t: fill.bernoulli(t, 0.25, key=7),
    "constant": lambda t: fill.constant(t, 0.75),
}


@pytest.mark.parametrize("layout", VIEWS)
@pytest.mark.parametrize("name", FILLS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_values_do_not_depend_on_threads_or_instruction_set(
    layout: str, name: str, dtype: torch.dtype, set_threads: Callable[[int], None]
) -> None:
    usual = _core.isa()
    expected = None
    for isa in _core.available_isas():
        _core.set_isa(isa)
        for threads in (1, 2, 3, 8):
            set_threads(threads)
            memory = torch.full((SIZE,), torch.nan, dtype=dtype)
            FILLS[name](VIEWS[layout](memory))
            expected = memory if expected is None else expected
            assert same_bits(memory, expected), (isa, threads)
    _core.set_isa(usual)


@pytest.mark.parametrize("name", ["sparse_", "dirac_", "eye_", "orthogonal_"])
def test_structured_fills_do_not_depend_on_threads(
    name: str, set_threads: Callable[[int], None]
) -> None:
    digests = set()
    for threads in (1, 2, 3, 8):
        set_threads(threads)
        torch.manual_seed(1)
        tensor = torch.full((768, 700, 1) if name == "dirac_" else (768, 700), torch.nan)
        getattr(pyinit, name)(tensor, *([0.3] if name == "sparse_" else []))
        digests.add(digest(tensor))
    assert len(digests) == 1


def test_many_python_threads_fill_different_tensors_at_once() -> None:
    expected = [fill.normal(torch.empty(SIZE), key=k) for k in range(8)]
    got = [torch.full((SIZE,), torch.nan) for _ in range(8)]
    workers = [
        threading.Thread(target=fill.normal, args=(got[k],), kwargs={"key": k}) for k in range(8)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def _fill_and_exit(expected: str) -> None:
    os._exit(0 if digest(fill.normal(torch.empty(SIZE), key=3)) == expected else 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_forked_after_a_parallel_fill_does_not_hang(
    set_threads: Callable[[int], None],
) -> None:
    set_threads(2)
    expected = digest(fill.normal(torch.empty(SIZE), key=3))
    child = multiprocessing.get_context("fork").Process(target=_fill_and_exit, args=(expected,))
    child.start()
    child.join(60)
    if child.is_alive():
        child.kill()
    assert child.exitcode == 0


def test_what_a_region_lost_is_expected_of_the_next_and_fades() -> None:
    loss = _core.ExpectedLoss()
    assert loss.at(10**9) == 0
    loss.add(1000, 10**9)
    assert [loss.at(10**9 + 16000 * i) for i in range(4)] == [1000, 500, 0, 0]


def test_gains_and_smaller_losses_change_nothing() -> None:
    loss = _core.ExpectedLoss()
    loss.add(1000, 10**9)
    loss.add(-(10**6), 10**9)
    loss.add(10, 10**9)
    assert loss.at(10**9) == 1000


def test_a_process_that_was_stopped_uses_threads_again_in_seconds() -> None:
    loss = _core.ExpectedLoss()
    hour = 3600 * 10**9
    loss.add(hour, hour)
    assert loss.at(hour + 4 * 10**9) == 0


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs affinity")
def test_small_calls_stop_waiting_for_a_thread_that_does_not_run() -> None:
    """With one processor for two threads, a region waits for the system to change between them."""
    program = """
        import os, resource, torch, pyinit
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        torch.set_num_threads(2)
        tensor = torch.empty(1 << 17)

        def changes():
            used = resource.getrusage(resource.RUSAGE_SELF)
            return used.ru_nvcsw + used.ru_nivcsw

        for call in (pyinit.normal_, pyinit.functional.tanh):
            before = changes()
            for _ in range(400):
                call(tensor)
            assert changes() - before < 400, (call, changes() - before)
    """
    output_of(program, OMP_WAIT_POLICY=None)  # as a program of a user waits


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="needs /proc")
@pytest.mark.parametrize("order", ["import torch, pyinit", "import pyinit, torch"])
def test_one_openmp_runtime_whichever_is_imported_first(order: str) -> None:
    program = f"""
        {order}
        pyinit.fill.normal(torch.empty(1 << 20), key=1)
        torch.empty(1 << 20).fill_(1)
        import re
        maps = open("/proc/self/maps").read()
        found = set(re.findall(r"\\S*/lib(?:gomp|omp|iomp5)\\S*\\.so\\S*", maps))
        assert found == {{pyinit.info()["openmp_runtime"]}}, (found, pyinit.info())
    """
    output_of(program)


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs /proc")
def test_scratch_memory_is_at_most_a_mebibyte_a_thread() -> None:
    program = """
        import torch, pyinit
        torch.set_num_threads(2)
        tensor = torch.zeros(16, 64, 64, 64).to(memory_format=torch.channels_last)
        matrix = torch.zeros(1 << 21, 4).t().contiguous().t()

        def kib(name):
            for line in open("/proc/self/status"):
                if line.startswith(name):
                    return int(line.split()[1])

        pyinit.normal_(torch.zeros(1 << 20))  # threads and their stacks exist from here on
        for function, *arguments in (
            (pyinit.normal_, tensor), (pyinit.trunc_normal_, tensor), (pyinit.sparse_, matrix, 0.5)
        ):
            open("/proc/self/clear_refs", "w").write("5")  # forget the peak
            before = kib("VmRSS")
            function(*arguments)
            assert kib("VmHWM") - before <= 2 * 1024, (function, kib("VmHWM"), before)
    """
    output_of(program)
