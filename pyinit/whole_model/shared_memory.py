"""Parameters that lie in the same memory."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyinit import _core
from pyinit._orthogonal import extent
from pyinit._tensors import View, plain_memory, refuse_inference


def same_memory(tensors: Sequence[tuple[str, Tensor]]) -> Mapping[int, int]:
    """Of named tensors, those that are an earlier one in all but name: number to number.

    Raises:
        ValueError: for one with elements that share memory, and for two that share a part of it.
        RuntimeError: for an inference tensor, outside of inference mode.
    """
    spans = []
    for i, (name, tensor) in enumerate(tensors):
        view = None if tensor.is_meta else plain_memory(tensor)
        if view is not None:
            refuse_inference(tensor)
            if not _core.non_overlapping(*view[2:]):
                raise ValueError(
                    f"parameter {name} has elements that share memory: it has strides {view[3]}"
                )
            spans.append((view[0], view[0] + extent(view), i, view))
    spans.sort()
    same: dict[int, int] = {}
    reaching: list[tuple[int, int, View]] = []
    for start, end, i, view in spans:
        reaching = [span for span in reaching if start < span[0]]
        for _, k, other in reaching:
            first, second = sorted((k, i))
            if view == other:
                same[second] = first
                break
            if start < end and np.shares_memory(_array(tensors[k][1]), _array(tensors[i][1])):
                raise ValueError(
                    f"parameters {tensors[first][0]} and {tensors[second][0]} share a part of "
                    "their memory"
                )
        else:
            reaching.append((end, i, view))
    return same


def _array(tensor: Tensor) -> Any:
    size = {2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    return tensor.detach().view(size).numpy()
