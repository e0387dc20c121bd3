"""Parameters that lie in the same memory."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyinit._torch.views import View, extent


def same_memory(
    names: Sequence[str], tensors: Sequence[Tensor], views: Sequence[View]
) -> Mapping[int, int]:
    """Find tensors that have the same elements as an earlier one, in whatever shape.

    Returns:
        The number of the later tensor to that of the earlier one.

    Raises:
        ValueError: For two tensors that share only some of their elements.
    """
    spans = sorted((view.address, view.address + extent(view), i) for i, view in enumerate(views))
    same: dict[int, int] = {}
    if all(end <= start for (_, end, _), (start, _, _) in pairwise(spans)):
        return same
    reaching: list[tuple[int, int]] = []  # the ends and numbers of views that reach this far
    for start, end, i in spans:
        reaching = [before for before in reaching if start < min(before[0], end)]
        for _, k in reaching:
            first, second = sorted((k, i))
            if _elements(views[k]) == _elements(views[i]):
                same[second] = first
                break
            if np.shares_memory(_array(tensors[k]), _array(tensors[i])):
                raise ValueError(
                    f"parameters {names[first]} and {names[second]} share a part of their memory"
                )
        else:
            reaching.append((end, i))
    return same


def _elements(view: View) -> tuple[int, int, list[tuple[int, int]]]:
    """A key that is equal for views of the same elements, whatever the order of dimensions."""
    address, code, shape, strides = view
    dims: list[tuple[int, int]] = []
    for stride, size in sorted((s, n) for n, s in zip(shape, strides, strict=True) if n != 1):
        if dims and stride == dims[-1][0] * dims[-1][1]:
            dims[-1] = (dims[-1][0], dims[-1][1] * size)
        else:
            dims.append((stride, size))
    return address, code, dims


def _array(tensor: Tensor) -> Any:
    size = {2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    return tensor.detach().view(size).numpy()
