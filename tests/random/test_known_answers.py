"""Stream versions 1 and 2 are pinned: these checksums change only with a new stream version.

The names that begin with "torch" pin torch's own numbers, for the C++ program that checks the
instruction sets this machine lacks: here torch itself has to give them. Matrices are the same
wherever multiply-add is fused.
"""

import math
import zlib

import pytest
import torch
from paths import ROOT
from torch_versions import as_in_2_13

import pyinit
from pyinit import _core, fill
from pyinit._random.rng import Key

ANSWERS = [line.split() for line in (ROOT / "tests" / "known_answers.txt").read_text().splitlines()]
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
# Version 2 has other truncated normals of wide bounds; all else is as in version 1.
V1_ALONE = ("trunc_normal", "trunc_normal_wide")
FILLS_V2 = {
    "trunc_normal_v2": (fill.trunc_normal, (0.0, 1.0, -2.0, 2.0)),
    "trunc_normal_v2_wide": (fill.trunc_normal, (0.0, 0.02, -2.0, 2.0)),
    "trunc_normal_v2_lopsided": (fill.trunc_normal, (1.0, 2.0, -3.0, 5.5)),
    "trunc_normal_v2_one_side": (fill.trunc_normal, (0.5, 3.0, float("-inf"), 5.0)),
    "trunc_normal_v2_narrow": (fill.trunc_normal, (0.0, 1.0, -1.5, 1.5)),
}

TORCH_FILLS = {
    "torch_uniform": (torch.nn.init.uniform_, (-1.5, 3.25), 4),
    "torch_normal": (torch.nn.init.normal_, (0.5, 2.0), 3),
    "torch_trunc_normal": (torch.nn.init.trunc_normal_, (0.0, 1.0, -2.0, 2.0), 3),
}


# Shape, strides, groups and which of the groups.
ORTHOGONAL = {
    "193x193": ((193, 193), (193, 1), 1, 0),
    "130x40": ((130, 40), (40, 1), 1, 0),
    "17x100": ((17, 100), (100, 1), 1, 0),
    "900x220": ((900, 220), (220, 1), 1, 0),
    "1x1": ((1, 1), (1, 1), 1, 0),
    "130x40-second-of-3": ((390, 40), (40, 1), 3, 1),
    "130x40-strided": ((130, 40), (2, 263), 1, 0),
}
ORTHONORMALIZED = {
    "193x193": (193, 193),
    "300x70": (300, 70),
    "50x49": (50, 49),
    "1100x40": (1100, 40),
    "33x64": (33, 64),
}
GAIN = 1.25
# Batch, m, n and k; alpha and beta; strides of a, b and c.
GEMM = {
    "123x71x501": ((1, 123, 71, 501), (1, 0), ((0, 501, 1), (0, 71, 1), (0, 71, 1))),
    "3x37x45x19-transposed": (
        (3, 37, 45, 19),
        (-1.7, 0.3),
        ((703, 1, 37), (855, 1, 19), (1665, 45, 1)),
    ),
    "50x29x33-strided": ((1, 50, 29, 33), (2.1, -1), ((0, 67, 2), (0, 3, 100), (0, 2, 101))),
}
CODES = {torch.float32: _core.FLOAT32, torch.float64: _core.FLOAT64}

fused = pytest.mark.parametrize(
    "isa", [isa for isa in _core.available_isas() if isa != "baseline"], indirect=True
)


def answers(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("dtype", "where", "crc"), [a[1:] for a in ANSWERS if a[0] == name]
    )


def test_every_case_has_an_answer() -> None:
    fills = len(FILLS) + len(FILLS_V2)
    numbers = fills * 4 * len(STARTS) + sum(dtypes for _, _, dtypes in TORCH_FILLS.values())
    matrices = len(ORTHOGONAL) * 4 + (len(ORTHONORMALIZED) + len(GEMM)) * 2
    layers, layouts, parts, activations = (
        8,
        2,
        3,
        9,
    )  # which tests/cpp/known_answers.cpp alone computes
    convolutions = (layers * layouts * parts + activations) * 2
    assert len(ANSWERS) == numbers + matrices + convolutions


@as_in_2_13
@pytest.mark.parametrize(
    ("name", "dtype", "start", "crc"), [answer for answer in ANSWERS if answer[0] in TORCH_FILLS]
)
def test_torch_gives_the_known_answer(name: str, dtype: str, start: str, crc: str) -> None:
    function, args, _ = TORCH_FILLS[name]
    out = torch.full((COUNT,), torch.nan, dtype=getattr(torch, dtype))
    function(out, *args, generator=torch.Generator().manual_seed(2024))
    assert _crc(out) == crc


@pytest.mark.parametrize(
    ("version", "name", "dtype", "start", "crc"),
    [
        *((1, *answer) for answer in ANSWERS if answer[0] in FILLS),
        *((2, *answer) for answer in ANSWERS if answer[0] in {*FILLS, *FILLS_V2} - {*V1_ALONE}),
    ],
)
def test_known_answer(  # noqa: PLR0917
    isa: str, version: int, name: str, dtype: str, start: str, crc: str
) -> None:
    function, args = (FILLS | FILLS_V2)[name]
    out = torch.full((COUNT,), torch.nan, dtype=getattr(torch, dtype))
    with pyinit.rng("philox", version):
        function(out, *args, key=KEY, stream=STREAM, whole=(2**35,), start=(STARTS[start],))
    assert _crc(out) == crc


@fused
@answers("orthogonal")
def test_orthogonal_matrices_have_known_answers(isa: str, dtype: str, where: str, crc: str) -> None:
    shape, strides, groups, group = ORTHOGONAL[where]
    memory = _poisoned(shape, strides, getattr(torch, dtype))
    weight = memory.as_strided(shape, strides)
    pyinit.orthogonal_(weight, GAIN, generator=Key(KEY, STREAM), groups=groups)
    assert _crc(memory.chunk(groups)[group]) == crc


@fused
@answers("orthonormalized")
def test_qr_has_known_answers(isa: str, dtype: str, where: str, crc: str) -> None:
    shape = ORTHONORMALIZED[where]
    matrix = _normals(math.prod(shape), 0, getattr(torch, dtype)).view(shape)
    _core.fill_orthonormalized(_target(matrix, shape, matrix.stride()), matrix.data_ptr(), GAIN, 2)
    assert _crc(matrix) == crc


@fused
@answers("gemm")
def test_products_have_known_answers(isa: str, dtype: str, where: str, crc: str) -> None:
    (batch, m, n, k), (alpha, beta), strides = GEMM[where]
    shapes = (batch, m, k), (batch, k, n), (batch, m, n)
    of_type = getattr(torch, dtype)
    a, b, c = (
        _normals(_span(shape, stride), i << 20, of_type)
        for i, (shape, stride) in enumerate(zip(shapes, strides, strict=True))
    )
    if beta == 0:
        c = _poisoned(shapes[2], strides[2], of_type)
    targets = map(_target, (a, b, c), shapes, strides)
    _core.gemm(*targets, alpha, beta, 2)
    assert _crc(c) == crc


def _span(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    return 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))


def _poisoned(shape: tuple[int, ...], strides: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    size = _span(shape, strides) * dtype.itemsize
    return torch.full((size,), 0xFF, dtype=torch.uint8).view(dtype)


def _normals(count: int, first: int, dtype: torch.dtype) -> torch.Tensor:
    out = torch.empty(count, dtype=dtype)
    return fill.normal(out, key=KEY, stream=STREAM, whole=(2**35,), start=(first,))


def _target(
    memory: torch.Tensor, shape: tuple[int, ...], strides: tuple[int, ...]
) -> tuple[int, int, tuple[int, ...], tuple[int, ...]]:
    return memory.data_ptr(), CODES[memory.dtype], shape, strides


def _crc(tensor: torch.Tensor) -> str:
    return f"{zlib.crc32(tensor.view(torch.uint8).numpy().tobytes()):08x}"
