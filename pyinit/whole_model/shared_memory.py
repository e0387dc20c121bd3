"""Parameters that lie in the same memory."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyinit._orthogonal import extent
from pyinit._tensors import View, plain_memory


def same_memory(names: Sequence[str], tensors: Sequence[Tensor]) -> Mapping[int, int]:
    """The tensors that are an earlier one in all but name: number to number.

    Raises:
        ValueError: for two that share memory and are not the same.
    """
    views = ((i, plain_memory(tensor)) for i, tensor in enumerate(tensors) if not tensor.is_meta)
    spans = sorted((view[0], view[0] + extent(view), i, view) for i, view in views if view)
    same: dict[int, int] = {}
    reaching: list[tuple[int, int, View]] = []  # where they end
    for start, end, i, view in spans:
        reaching = [before for before in reaching if start < min(before[0], end)]
        for _, k, other in reaching:
            if view == other:
                same[i] = k
                break
            if np.shares_memory(_array(tensors[k]), _array(tensors[i])):
                first, second = sorted((k, i))
                raise ValueError(
                    f"parameters {names[first]} and {names[second]} share memory and are not the same"
                )
        else:
            reaching.append((end, i, view))
    return same


def _array(tensor: Tensor) -> Any:
    size = {2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    return tensor.detach().view(size).numpy()
