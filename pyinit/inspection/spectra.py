"""The extreme singular values of a weight as a matrix."""

import math

import torch
from torch import Tensor

_EXACT = 512  # the smaller side up to which all singular values are computed
_STEPS = 200  # of Lanczos's method beyond


def extreme_singular_values(weight: Tensor) -> tuple[float, float]:
    """The largest and the smallest, of the weight as a matrix of its outputs by all else.

    They are exact if the smaller side has at most 512 elements. Beyond that they are Ritz values of 200
    steps of Golub-Kahan-Lanczos bidiagonalization: the largest is right to many digits, and the smallest
    is an upper bound.

    Args:
        weight: the weight; NaN is returned for one that is no matrix, or not finite

    Returns:
        Both.

    References:
        Golub and Kahan 1965, "Calculating the singular values and pseudo-inverse of a matrix".
    """
    if weight.dim() < 2 or not weight.numel() or not torch.isfinite(weight).all():
        return math.nan, math.nan
    matrix = weight.detach().flatten(1)
    if min(matrix.shape) <= _EXACT:
        values = torch.linalg.svdvals(matrix.double())
    else:
        values = _lanczos(matrix if matrix.dtype is torch.float64 else matrix.float())
    return float(values.max()), float(values.min())


def _lanczos(matrix: Tensor) -> Tensor:
    """The Ritz values of a matrix, its vectors made orthogonal to all before."""
    matrix = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    generator = torch.Generator().manual_seed(0)
    right = torch.randn(matrix.shape[1], generator=generator).to(matrix)
    right /= right.norm()
    rights, lefts = right[None], matrix.new_empty(0, matrix.shape[0])
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(_STEPS):
        left = _orthogonal(matrix @ rights[-1], lefts)
        alpha = float(left.norm())
        if alpha == 0:
            break
        diagonal.append(alpha)
        lefts = torch.cat([lefts, left[None] / alpha])
        right = _orthogonal(matrix.T @ lefts[-1], rights)
        beta = float(right.norm())
        if beta <= 1e-6 * alpha:
            break
        beside.append(beta)
        rights = torch.cat([rights, right[None] / beta])
    beside = beside[: max(len(diagonal) - 1, 0)]
    small = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    small += torch.diag(torch.tensor(beside, dtype=torch.float64), 1)
    return torch.linalg.svdvals(small) if diagonal else torch.zeros(1)


def _orthogonal(vector: Tensor, others: Tensor) -> Tensor:
    for _ in range(2):
        vector = vector - (others @ vector) @ others
    return vector
