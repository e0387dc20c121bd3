"""Signals in the middle of long kernels: Ctrl-C ends them, and nothing is worse for it."""

import textwrap
from typing import Any

import pytest
from paths import HELPERS
from programs import json_of

COMMON = """
import faulthandler, hashlib, json, os, signal, sys, threading, time
sys.path.insert(0, sys.argv[1])
import torch, pyinit
from pyinit import _core

torch.set_num_threads(2)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background ignores it
faulthandler.dump_traceback_later(240, exit=True)  # kernels that go on would for hours

def alarm(handler, first=0.15, interval=0.0):
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, first, interval)

def digest(tensor):
    return hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
"""


def outcome_of(program: str) -> Any:
    """What the program prints, as JSON, in a process of its own: nothing else could end a kernel that goes on."""
    return json_of(COMMON + textwrap.dedent(program), str(HELPERS), timeout=600)


def test_every_kernel_is_left_and_the_next_calls_are_right() -> None:
    outcomes = outcome_of("""
        import core_calls

        def digests():
            found = {}
            for call in core_calls.short():
                call.run(2)
                found[call.name] = digest(call.result)
            return found

        def outcome(call, threads):
            alarm(signal.default_int_handler)
            try:
                call.run(threads)
            except KeyboardInterrupt:
                return "left"
            return "went on to its end"

        torch.manual_seed(1)
        before = digests()
        outcomes = {}
        for call in core_calls.endless():
            print(call.name, file=sys.stderr)
            faulthandler.dump_traceback_later(60, exit=True)
            outcomes[call.name] = outcome(call, 2)
            if call.name.split(",")[0] in ("fill_normal", "convolve", "gemm", "fill_orthogonal"):
                outcomes[call.name + ", one thread"] = outcome(call, 1)
        torch.manual_seed(1)
        outcomes["next calls"] = "right" if digests() == before else "wrong"
        print(json.dumps(outcomes))
    """)
    assert outcomes.pop("next calls") == "right"
    assert set(outcomes.values()) == {"left"}, outcomes


@pytest.mark.parametrize(
    "call",
    ["pyinit.orthogonal_(w)", "_core.fill_orthonormalized(target, drawn.data_ptr(), 1.0, 2)"],
)
def test_one_large_matrix_is_left_before_anything_is_written(call: str) -> None:
    outcome = outcome_of(f"""
        w, drawn = torch.full((6144, 6144), torch.nan), torch.randn(6144, 6144)
        target = _core.dlpack_memory(w)
        try:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
            {call}
            print(json.dumps("went on to its end"))
        except KeyboardInterrupt:
            print(json.dumps("left early" if w.isnan().all() else "left late"))
    """)
    assert outcome == "left early"


def test_the_key_of_an_interrupted_fill_is_drawn() -> None:
    assert outcome_of("""
        w, generator = torch.full((4096, 4096), torch.nan), torch.Generator().manual_seed(5)
        pyinit.normal_(torch.empty(8), generator=generator)
        expected = generator.get_state()
        generator.manual_seed(5)
        alarm(signal.default_int_handler)
        try:
            pyinit.orthogonal_(w, generator=generator)
        except KeyboardInterrupt:
            print(json.dumps(torch.equal(generator.get_state(), expected)))
    """)


@pytest.mark.parametrize("size", [100, 1 << 18])
def test_torchs_numbers_are_drawn_with_the_whole_fill_or_not_at_all(size: int) -> None:
    # Next to no proposal is accepted.
    assert outcome_of(f"""
        pyinit.set_rng("torch")
        w, generator = torch.empty({size}), torch.Generator().manual_seed(5)
        before = generator.get_state()
        pyinit.trunc_normal_(w, a=2.0, b=3.0, generator=generator)
        generator.set_state(before)
        alarm(signal.default_int_handler)
        try:
            pyinit.trunc_normal_(w, a=2.0, b=1e12, generator=generator)
        except KeyboardInterrupt:
            print(json.dumps(torch.equal(generator.get_state(), before)))
    """)


def test_what_a_handler_raises_comes_through() -> None:
    assert outcome_of("""
        import core_calls

        class Timeout(Exception):
            pass

        def handler(number, frame):
            raise Timeout("enough")

        alarm(handler)
        try:
            next(core_calls.endless()).run(2)
        except Timeout as error:
            print(json.dumps(error.args == ("enough",) and error.__traceback__ is not None))
    """)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_handler_that_returns_changes_nothing(threads: int) -> None:
    # It calls kernels itself, in the middle of one. Signals that have to wait are one signal in the end.
    calls, in_handler, expected = outcome_of(f"""
        torch.set_num_threads({threads})
        a = torch.randn(2048, 2048, dtype=torch.float64)
        address, dtype, _, _ = _core.dlpack_memory(a)
        results = [torch.zeros_like(a) for _ in range(2)]

        def multiply(out):  # sums of {1 << 13} products
            left = (address, dtype, (2048, {1 << 13}), (2048, 0))
            right = (address, dtype, ({1 << 13}, 2048), (0, 1))
            _core.gemm(left, right, _core.dlpack_memory(out), 1.0, 0.0, {threads})

        def small():
            return pyinit.fill.normal(torch.empty(1 << 18), key=4)

        calls = []

        def handler(number, frame):
            calls.append(digest(small()))

        expected = digest(small())
        multiply(results[0])
        alarm(handler, 0.05, 0.05)
        multiply(results[1])
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert torch.equal(*results)
        print(json.dumps([len(calls), sorted(set(calls)), expected]))
    """)
    assert calls >= 3
    assert in_handler == [expected]


def test_a_kernel_in_another_thread_goes_on() -> None:
    assert outcome_of("""
        def fill():
            return pyinit.fill.trunc_normal(torch.empty(1 << 24, dtype=torch.float64), key=4)

        expected, got = digest(fill()), []
        worker = threading.Thread(target=lambda: got.append(digest(fill())))
        worker.start()
        alarm(signal.default_int_handler, 0.02)
        try:
            while True:
                time.sleep(0.001)
        except KeyboardInterrupt:
            worker.join()
            print(json.dumps(got == [expected]))
    """)
