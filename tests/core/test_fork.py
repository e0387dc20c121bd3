"""A child made by ``fork`` while another thread is in the middle of something: it does not wait for that thread."""

import os
import textwrap

import pytest
from programs import output_of

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

PRELUDE = """
import os, signal, sys, threading, time, types
import torch, pyinit
from torch import nn

torchs = types.SimpleNamespace(**vars(nn.init))
reached, never = threading.Event(), threading.Event()
main = threading.get_ident()

def stop(*_):
    '''Keeps the thread that is not the main one.'''
    if threading.get_ident() != main:
        reached.set()
        never.wait()

def in_thread(work):
    threading.Thread(target=work, daemon=True).start()
    assert reached.wait(60)

def in_child(work):
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    for _ in range(600):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            os._exit(os.waitstatus_to_exitcode(status))
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    print("the child hangs", file=sys.stderr, flush=True)
    os._exit(2)
"""


def run(program: str) -> None:
    output_of(PRELUDE + textwrap.dedent(program))


def test_patch_while_a_thread_is_in_patch() -> None:
    run("""
        def hold():
            with pyinit._patch._lock:
                stop()

        def use():
            with pyinit.patch():
                assert nn.init.normal_ is not torchs.normal_
            assert nn.init.normal_ is torchs.normal_

        in_thread(hold)
        in_child(use)
    """)


# Where the thread stops: at one of the places where functions are swapped.
STOPS_AT = """
library = types.ModuleType("library")
library.normal_, library.table = nn.init.normal_, {"normal_": nn.init.normal_}
sys.modules["library"] = library
swap, count = pyinit._patch._swap, iter(range(1000))

def stopping(container, swaps):
    if next(count) == %d:
        stop()
    swap(container, swaps)
"""


@pytest.mark.parametrize("place", range(3))
def test_what_a_thread_left_half_patched_is_patched_whole(place: int) -> None:
    run(
        STOPS_AT % place
        + textwrap.dedent("""
        def is_swapped():
            functions = nn.init.normal_, library.normal_, library.table["normal_"]
            swapped = {f is not torchs.normal_ for f in functions}
            assert len(swapped) == 1
            return swapped.pop()

        def use():
            assert is_swapped()
            assert pyinit.info()["patch"] == "philox"
            pyinit.unpatch()
            assert not is_swapped()

        pyinit._patch._swap = stopping
        in_thread(lambda: pyinit.patch("philox"))
        in_child(use)
    """)
    )


@pytest.mark.parametrize("place", range(3))
def test_what_a_thread_left_half_unpatched_is_torchs_again(place: int) -> None:
    run(
        STOPS_AT % place
        + textwrap.dedent("""
        def use():
            functions = nn.init.normal_, library.normal_, library.table["normal_"]
            assert {f is torchs.normal_ for f in functions} == {True}
            assert pyinit.info()["patch"] == "none"

        pyinit.patch("philox")
        pyinit._patch._swap = stopping
        in_thread(pyinit.unpatch)
        in_child(use)
    """)
    )


def test_blocks_of_other_threads_stay_in_force() -> None:
    run("""
        def hold():
            with pyinit.patch("philox"):
                stop()

        def use():
            assert pyinit.info()["patch"] == "philox"
            with pyinit.patch("torch"):
                pass
            assert pyinit.info()["patch"] == "philox"
            pyinit.unpatch()
            assert nn.init.normal_ is torchs.normal_

        in_thread(hold)
        in_child(use)
    """)


def test_torchs_numbers_while_a_thread_draws_them() -> None:
    run("""
        import pyinit._random.torch_stream

        def hold():
            for lock in pyinit._random.torch_stream._locks:
                lock.acquire()
            stop()

        def use():
            with pyinit.rng("torch"):
                torch.manual_seed(1)
                got = pyinit.normal_(torch.empty(1 << 17))
            torch.manual_seed(1)
            assert torch.equal(got, torchs.normal_(torch.empty(1 << 17)))

        in_thread(hold)
        in_child(use)
    """)


def test_whole_models_while_a_thread_traces_one() -> None:
    run("""
        class Stops(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(3, 3)

            def forward(self, x):
                stop()
                return self.layer(x)

        def use():
            pyinit.initialize_(nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3)), "auto", seed=1)

        in_thread(lambda: pyinit.initialize_(Stops(), "auto", seed=1))
        in_child(use)
    """)
