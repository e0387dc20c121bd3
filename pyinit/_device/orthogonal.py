"""Random orthogonal matrices made by torch's own products, for devices that have no kernels for them.

The numbers, reflectors and signs are those of the CPU (csrc/linalg/drawn_reflectors.hpp), so that
matrices are the same up to rounding: Q = (I - V R^-1 V') [I] D with R = striu(V'V) + diag(v'v / 2)
(Puglisi 1992, "Modification of the Householder method based on the compact WY representation").
Matrices of one shape are made together. Nothing waits for the device, and nothing is copied to it:
a CUDA graph can capture all of it.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

_WIDTH = 512  # the widest block of reflectors
_WIDTH_UNIT = 32  # a block's width is a multiple of it
_SCRATCH_BYTES = 256 << 20  # memory for the matrices that are made together
_MATRICES_AT_ONCE = 6  # making one matrix takes the memory of so many
_SQUARES = 1 << 22  # so many squares are summed together, in double
_LINE = 32  # the numbers of a matrix start at a multiple of so many elements


class Matrix(NamedTuple):
    """A tensor to fill with gain times a matrix, its first dimension against all others."""

    target: Tensor
    gain: float
    key: tuple[int, int]
    first: int  # index of its first number in the stream


Normals = Callable[[list[tuple[Tensor, tuple[int, int], int]]], None]
"""A function that fills dense tensors (float32 or float64), given as (tensor, key, first), with standard
normal numbers."""


def matrices(
    tensor: Tensor, factor: float | None, key: tuple[int, int], groups: int = 1
) -> Iterator[Matrix]:
    """A matrix for each group of rows. It is made of the numbers that the whole matrix has there."""
    if tensor.numel() == 0:
        return
    gain = 1.0 if factor is None else factor
    count = tensor.numel() // groups
    for group, rows in enumerate(tensor.detach().chunk(groups)):
        yield Matrix(rows, gain, key, group * count)


class _Kind(NamedTuple):
    """What matrices that are made together have in common."""

    rows: int  # at least as many as columns
    columns: int
    is_wide: bool  # the transpose is asked for
    dtype: torch.dtype  # to compute in
    device: torch.device

    @property
    def bytes(self) -> int:
        return _MATRICES_AT_ONCE * self.rows * self.columns * self.dtype.itemsize


def _kind(target: Tensor) -> _Kind:
    out = target.size(0)
    others = target.numel() // out
    dtype = torch.float64 if target.dtype == torch.float64 else torch.float32
    return _Kind(max(out, others), min(out, others), out < others, dtype, target.device)


def fill(matrices: Iterable[Matrix], normals: Normals) -> None:
    """Fill targets of any shapes, strides and dtypes. They must not share memory.

    float16 and bfloat16 are computed in float32 and rounded once.
    """
    alike: dict[_Kind, list[Matrix]] = {}
    for matrix in matrices:
        if matrix.target.numel():
            alike.setdefault(_kind(matrix.target), []).append(matrix)
    with torch.no_grad(), _full_precision():
        for kind, group in alike.items():
            step = max(1, _SCRATCH_BYTES // kind.bytes)
            with torch.autocast(kind.device.type, enabled=False):
                for begin in range(0, len(group), step):
                    _fill_batch(kind, group[begin : begin + step], normals)


@contextmanager
def _full_precision() -> Iterator[None]:
    """No TF32 in products of float32. The setting is the process's: torch has no other."""
    setting = torch.backends.cuda.matmul
    before = setting.fp32_precision
    if before != "tf32":
        yield
        return
    setting.fp32_precision = "none"  # it has no value of its own then: that of all backends holds
    if setting.fp32_precision == before:
        before = "none"
    setting.fp32_precision = "ieee"
    try:
        yield
    finally:
        setting.fp32_precision = before


def _fill_batch(kind: _Kind, batch: list[Matrix], normals: Normals) -> None:
    q = _product(kind, _numbers(kind, batch, normals))
    if kind.is_wide:
        q = q.mT.contiguous()
    results = list(q.unbind())
    gains = [matrix.gain for matrix in batch]
    if any(gain != 1 for gain in gains):
        torch._foreach_mul_(results, gains)
    targets = [matrix.target for matrix in batch]
    shaped = [result.view(target.shape) for result, target in zip(results, targets, strict=True)]
    torch._foreach_copy_(targets, shaped)


# ---- The reflectors ------------------------------------------------------------------------------


def _triangle(rows: int) -> int:
    """How many numbers a triangle of so many rows has."""
    return rows * (rows + 1) // 2


def _numbers(kind: _Kind, batch: list[Matrix], normals: Normals) -> Tensor:
    """The random numbers of each matrix: its columns from the diagonal down, row after row."""
    count = _triangle(kind.columns) + (kind.rows - kind.columns) * kind.columns
    lines = -(-count // _LINE) * _LINE
    room = torch.empty((len(batch), lines), dtype=kind.dtype, device=kind.device)
    numbers = room[:, :count]
    normals([(row, m.key, m.first) for row, m in zip(numbers.unbind(), batch, strict=True)])
    return numbers


def _signs(kind: _Kind, numbers: Tensor) -> Tensor:
    """The signs that R's diagonal would have. The last one of a square matrix has no reflector."""
    i = torch.arange(kind.columns, device=kind.device)
    diagonal = numbers.index_select(1, i * (i + 3) // 2)
    signs = torch.ones_like(diagonal).copysign_(diagonal).neg_()
    if kind.rows == kind.columns:
        signs[:, -1].neg_()
    return signs


def _columns(kind: _Kind, numbers: Tensor, first: int, width: int) -> Tensor:
    """Some columns of the trapezoid of numbers, from row ``first`` on, with zeros above its diagonal."""
    row = torch.arange(first, kind.columns, device=kind.device)
    column = torch.arange(first, first + width, device=kind.device)
    index = (row * (row + 1) // 2).unsqueeze(1) + column
    upper = numbers.index_select(1, index.view(-1)).view(-1, *index.shape).tril_()
    if kind.rows == kind.columns:
        return upper
    below = numbers[:, _triangle(kind.columns) :].view(len(numbers), -1, kind.columns)
    return torch.cat((upper, below[:, :, first : first + width]), 1)


def _diagonal(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=1, dim2=2)


def _squares(columns: Tensor) -> Tensor:
    """The sum of each column's squares, in double."""
    sums = torch.zeros_like(columns[:, 0], dtype=torch.float64)
    for part in torch.split(columns, max(1, _SQUARES // sums.numel()), 1):
        sums += part.double().square().sum(1)
    return sums


def _set_pivots(v: Tensor) -> Tensor:
    """Turn the columns x of ``v`` into reflectors x + sign(x1) |x| e1, and return their v'v / 2."""
    squares = _squares(v)
    x1 = _diagonal(v).double()
    v1 = (x1 + squares.sqrt().copysign_(x1)).masked_fill_(squares == 0, 1).to(v.dtype)
    halves = ((squares - x1.square() + v1.double().square()) / 2).to(v.dtype)
    _diagonal(v).copy_(v1)
    return halves


# ---- Their product -------------------------------------------------------------------------------


def _product(kind: _Kind, numbers: Tensor) -> Tensor:
    """Q. Blocks of reflectors are applied from the last to the first: each changes the columns from its own on."""
    signs = _signs(kind, numbers)
    q = numbers.new_zeros((len(numbers), kind.rows, kind.columns))
    _diagonal(q).copy_(signs)
    reflectors = min(kind.columns, kind.rows - 1)  # a reflection of one dimension would be a sign
    width = _even_width(reflectors)
    for first in reversed(range(0, reflectors, width)):
        v = _columns(kind, numbers, first, min(width, reflectors - first))
        _reflect(q[:, first:, first:], v, signs[:, first:])
    return q


def _even_width(reflectors: int) -> int:
    blocks = max(1, -(-reflectors // _WIDTH))
    return max(1, -(-reflectors // (blocks * _WIDTH_UNIT)) * _WIDTH_UNIT)


def _reflect(c: Tensor, v: Tensor, signs: Tensor) -> None:
    """Multiply ``c`` by a block of reflections. In the block's own rows and columns c is diag(signs)."""
    halves = _set_pivots(v)
    width = v.size(2)
    r = torch.bmm(v.mT, v)
    _diagonal(r).copy_(halves)
    w = v[:, :width].mT * signs[:, :width].unsqueeze(1)
    if width < c.size(2):
        w = torch.cat((w, torch.bmm(v[:, width:].mT, c[:, width:, width:])), 2)
    c.baddbmm_(v, torch.linalg.solve_triangular(r, w, upper=True), alpha=-1)
