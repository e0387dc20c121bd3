"""Stream version 1 is pinned: these checksums change only with a new stream version.

The names that begin with "torch" pin torch's own numbers, for the C++ program that checks the
instruction sets this machine lacks: here torch itself has to give them.
"""

import zlib
from pathlib import Path

import pytest
import torch

from pyinit import fill

ANSWERS = [
    line.split() for line in (Path(__file__).parent / "known_answers.txt").read_text().splitlines()
]
KEY, STREAM, COUNT = 0x0123456789ABCDEF, 0xFEDCBA9876543210, 10007
STARTS = {"0": 0, "2^34-5001": 2**34 - 5001}
FILLS = {
    "uniform": (fill.uniform, (-1.5, 3.25)),
    "normal": (fill.normal, (0.5, 2.0)),
    "bernoulli": (fill.bernoulli, (0.3,)),
    "trunc_normal": (fill.trunc_normal, (0.0, 1.0, -2.0, 2.0)),
    "trunc_normal_wide": (fill.trunc_normal, (0.0, 0.02, -2.0, 2.0)),
    "trunc_normal_lopsided": (fill.trunc_normal, (1.0, 2.0, -3.0, 1.5)),
    "trunc_normal_one_side": (fill.trunc_normal, (0.0, 1.0, 2.0, 3.0)),
    "trunc_normal_left_tail": (fill.trunc_normal, (0.0, 1.0, -30.0, -9.0)),
    "trunc_normal_right_tail": (fill.trunc_normal, (0.0, 1.0, 30.0, float("inf"))),
}

TORCH_FILLS = {
    "torch_uniform": (torch.nn.init.uniform_, (-1.5, 3.25), 4),
    "torch_normal": (torch.nn.init.normal_, (0.5, 2.0), 3),
    "torch_trunc_normal": (torch.nn.init.trunc_normal_, (0.0, 1.0, -2.0, 2.0), 3),
}


def test_every_case_has_an_answer() -> None:
    ours = len(FILLS) * 4 * len(STARTS)
    assert len(ANSWERS) == ours + sum(dtypes for _, _, dtypes in TORCH_FILLS.values())


@pytest.mark.parametrize(
    ("name", "dtype", "start", "crc"), [answer for answer in ANSWERS if answer[0] in TORCH_FILLS]
)
def test_torch_gives_the_known_answer(name: str, dtype: str, start: str, crc: str) -> None:
    function, args, _ = TORCH_FILLS[name]
    out = torch.full((COUNT,), torch.nan, dtype=getattr(torch, dtype))
    function(out, *args, generator=torch.Generator().manual_seed(2024))
    assert _crc(out) == crc


@pytest.mark.parametrize(
    ("name", "dtype", "start", "crc"), [answer for answer in ANSWERS if answer[0] in FILLS]
)
def test_known_answer(isa: str, name: str, dtype: str, start: str, crc: str) -> None:
    function, args = FILLS[name]
    out = torch.full((COUNT,), torch.nan, dtype=getattr(torch, dtype))
    function(out, *args, key=KEY, stream=STREAM, whole=(2**35,), start=(STARTS[start],))
    assert _crc(out) == crc


def _crc(tensor: torch.Tensor) -> str:
    return f"{zlib.crc32(tensor.view(torch.uint8).numpy().tobytes()):08x}"
