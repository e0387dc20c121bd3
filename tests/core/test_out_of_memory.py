"""Memory that cannot be had in the middle of a call: MemoryError, and the same call is right when there is some."""

import os
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import core_calls
import pytest
from cuda_emulation import NoEmulationError, compiler
from paths import HELPERS, ROOT
from programs import json_of, output_of

from pyinit import _core

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="needs /proc")


@pytest.fixture(scope="module")
def allocator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``cpp/failing_allocator.cpp`` as a library to preload."""
    try:
        command = compiler()
    except NoEmulationError as error:
        pytest.skip(str(error))
    library = tmp_path_factory.mktemp("allocator") / "failing_allocator.so"
    source = ROOT / "tests" / "cpp" / "failing_allocator.cpp"
    flags = ["-std=c++20", "-O1", "-fPIC", "-shared"]
    subprocess.run([*command, *flags, str(source), "-o", str(library)], check=True)
    return library


COMMON = """
import ctypes, json, sys
sys.path.insert(0, sys.argv[1])
import torch, pyinit
from pyinit import _core

torch.set_num_threads(2)
allocator = ctypes.CDLL(sys.argv[2])
allocator.fail_at.argtypes = ctypes.c_size_t, ctypes.c_size_t, ctypes.c_long, ctypes.c_bool
lines = [line.split()[0] for line in open("/proc/self/maps") if line.endswith(_core.__file__ + "\\n")]
code = int(lines[0].split("-")[0], 16), int(lines[-1].split("-")[1], 16)

def failures(call, check):
    '''How many allocations ``call`` makes. They fail one by one, of many only some, or with all that follow.

    ``check(is_failed, result)`` looks at what the call has left.
    '''
    count = 0
    for and_later in (False, True):
        n, is_failed = 1, True
        while is_failed:
            allocator.fail_at(*code, n, and_later)
            try:
                result, is_failed = call(), False
            except MemoryError:
                result, is_failed = None, True
            made = allocator.calls_made()
            assert is_failed == (made >= n), "memory was missing, and nothing said"
            check(is_failed, result)
            count = max(count, made)
            n += n if and_later else max(1, n // 32)
    return count
"""


def outcome_of(program: str, allocator: Path) -> Any:
    """What the program prints, as JSON, in a process whose allocations ``allocator`` lets fail."""
    arguments = str(HELPERS), str(allocator)
    return json_of(
        COMMON + textwrap.dedent(program), *arguments, timeout=600, LD_PRELOAD=str(allocator)
    )


FREE = {
    "isa",
    "set_isa",
    "compiler",
    "set_exchange_api",
    "draw_key",
    "set_questions",
    "set_sources",
    "multiply_adds",
    "activate_biased",
    "View",
    "method_of",
    "set_winograd",
    "winograd",
}
"""Functions that need no memory of their own, or that are called while pyinit is imported."""

OF_TORCH = {
    "set_find_readable",
    "set_torch_functions",
    "set_convolution_functions",
    "is_watched",
    "ConvolutionPlan",
    "convolution",
    "contraction",
    "contracted",
    "channel_sums",
    "record_convolution",
}
"""Functions that call torch, which does not survive every want of memory, around kernels that are called below."""

FOR_TESTS = {"philox4x32", "philox_words", "elementary", "set_threads_at_any_loss", "ExpectedLoss"}


def test_all_functions_are_there() -> None:
    functions = {name for name, value in vars(_core).items() if callable(value)}
    called = {call.name.split(",")[0] for call in core_calls.short()} | {"PackedWeight"}
    assert functions - FREE - OF_TORCH - FOR_TESTS == called


def test_allocations_of_every_function_may_fail(allocator: Path) -> None:
    counts = outcome_of(
        """
        import core_calls

        def bits(tensor):
            return tensor.numpy().tobytes()

        counts = {}
        for call in core_calls.short():
            print(call.name, file=sys.stderr)
            value = call.run(2)
            expected = bits(call.result)

            def check(is_failed, result):
                assert not (is_failed and call.state.any()), "a state was written by a call that failed"
                if is_failed:
                    call.result.fill_(torch.nan)
                    result = call.run(1)
                assert result == value
                assert bits(call.result) == expected
                call.state.zero_()

            call.state.zero_()
            counts[call.name] = failures(lambda: call.run(2), check)
        print(json.dumps(counts))
        """,
        allocator,
    )
    assert sum(counts.values()) > len(counts)


def test_a_packed_weight_that_finds_no_memory_is_packed_by_the_next_call(allocator: Path) -> None:
    count = outcome_of(
        """
        from pyinit.functional import conv2d, pack_weight

        x = torch.randn(2, 64, 8, 8).to(memory_format=torch.channels_last)
        w = torch.randn(64, 64, 3, 3)
        expected = conv2d(x, w)
        packed = []

        def call():
            packed[:] = [pack_weight(w)]
            return conv2d(x, packed[0])

        def check(is_failed, result):
            assert torch.equal(conv2d(x, packed[0]), expected)

        print(json.dumps(failures(call, check)))
        """,
        allocator,
    )
    assert count > 8


def test_generators_are_as_before_where_torchs_numbers_found_no_memory(allocator: Path) -> None:
    count = outcome_of(
        """
        pyinit.set_rng("torch")
        w, generator = torch.empty(256, 256), torch.Generator()

        def call():
            torch.manual_seed(1), generator.manual_seed(2)
            pyinit.sparse_(w, 0.5, generator=generator)

        call()
        expected = w.clone()

        def check(is_failed, result):
            if is_failed:
                pyinit.sparse_(w, 0.5, generator=generator)
            assert torch.equal(w, expected)

        print(json.dumps(failures(call, check)))
        """,
        allocator,
    )
    assert count > 4


@pytest.mark.parametrize("layout", ["dense", "channels last"])
def test_a_limit_of_the_process(layout: str) -> None:
    program = f"""
        import ctypes, resource, torch
        from pyinit import _core
        from pyinit.functional import conv1d

        torch.set_num_threads(2)
        x, w, out = torch.randn(8, 64, 2000), torch.randn(64, 1, 9), torch.empty(8, 64, 2000)
        if {layout == "channels last"}:
            x, out = (t.transpose(1, 2).contiguous().transpose(1, 2) for t in (x, out))
        targets = _core.dlpack_memory(x), _core.dlpack_memory(w), None, _core.dlpack_memory(out)

        def run():
            _core.convolve(*targets, (1,), (4,), (1,), 64, 0, 0.0, 2)

        run()  # threads have their stacks from here on
        expected = out.clone()
        torch.testing.assert_close(expected, torch.conv1d(x, w, padding=4, groups=64))

        c = ctypes.CDLL(None)
        c.malloc.restype, c.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
        size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        taken = []
        resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))
        for block in (1 << 20, 1 << 16, 1 << 13):
            while pointer := c.malloc(block):
                taken.append(pointer)
        try:
            run()
        except MemoryError:
            said = True
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
        for pointer in taken:
            c.free(pointer)
        assert said
        run()
        assert torch.equal(out, expected)
    """
    output_of(program)
