"""More elements than 32-bit indices reach."""

import pytest
import torch

import pyinit
from pyinit import fill

pytestmark = pytest.mark.large

COUNT = 2**31 + 5


@pytest.mark.parametrize("view", ["contiguous", "reversed rows"])
def test_2_to_the_31_and_5_elements(view: str) -> None:
    memory = torch.empty(COUNT, dtype=torch.bfloat16)
    if view == "contiguous":
        fill.uniform(memory, key=5)
        element = memory
    else:  # two columns, rows far apart: strides and offsets beyond 2^31 bytes
        pairs = memory[: COUNT - 1].view(2, -1).t()[:: 2**14]
        fill.uniform(pairs, key=5)
        element = pairs.reshape(-1)
    count = element.numel()
    for start in {0, 1000, 2**31 - 50, count // 2 - 50, count - 100}:
        if start < 0 or start + 100 > count:
            continue
        block = torch.empty(100, dtype=torch.bfloat16)
        fill.uniform(block, key=5, whole=(count,), start=(start,))
        assert torch.equal(element[start : start + 100], block)


def test_torchs_own_numbers_beyond_2_to_the_31() -> None:
    ours = torch.empty(COUNT, dtype=torch.bfloat16)
    theirs = torch.empty_like(ours)
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    with pyinit.rng("torch"):
        pyinit.normal_(ours, 0.3, 0.02, generators[0])
    theirs.normal_(0.3, 0.02, generator=generators[1])
    for start in range(0, COUNT, 2**28):
        part = slice(start, start + 2**28)
        assert torch.equal(ours[part].view(torch.int16), theirs[part].view(torch.int16))
    assert torch.equal(*(generator.get_state() for generator in generators))
