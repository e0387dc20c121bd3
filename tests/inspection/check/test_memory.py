"""A model of a factory is checked where it is: there is no second one."""

import sys

import pytest
from programs import output_of

PROGRAM = """
import functools, torch, pyinit
from pyinit.models import build

def resident(what):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(what)) / 1024

def model(**sizes):
    return functools.partial(build, "llama-1b", torch.bfloat16, heads=4, kv_heads=2, head_dim=64, **sizes)

pyinit.check(model(vocab=64, width=64, hidden=64, layers=2), pyinit.initialize_)
large = model(vocab=30000, width=1024, hidden=4096, layers=8)
with torch.device("meta"):
    size = sum(2 * p.numel() for p in large().parameters()) / 2**20
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = resident("VmRSS")
assert not len(pyinit.check(large, pyinit.initialize_))
print(size, resident("VmHWM") - before - size)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_factorys_model_is_checked_within_64_mib_beside_it() -> None:
    size, beside = map(float, output_of(PROGRAM).split())
    assert size > 200
    assert beside < 64
