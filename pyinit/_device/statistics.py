"""Statistics of CUDA tensors, by kernels that give the CPU's bits."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pyinit._device import fills
from pyinit._torch.views import DTYPES, View, is_transformed

ROW = 11
"""Numbers that describe a tensor or a channel, as ``_core.describe_many`` lists them."""

_MOST_DIMS = 6  # that kernels take where none can be joined


def readable_view(tensor: Tensor) -> View | None:
    """Where a kernel finds a CUDA tensor's elements; None where torch has to describe it."""
    if (
        not fills.has_kernels_for(tensor)
        or is_transformed()
        or tensor.is_neg()
        or tensor.layout != torch.strided
        or tensor.dtype not in DTYPES
    ):
        return None
    shape, strides = tuple(tensor.shape), tensor.stride()
    if len(shape) > _MOST_DIMS:
        return None
    return View((tensor.data_ptr(), DTYPES[tensor.dtype], shape, strides))


def describe_many(
    tensor: Tensor, views: list[View], bounds: Sequence[tuple[float, float]]
) -> Tensor:
    """The row of each of the views, which all lie on the device of ``tensor``, on that device."""
    out = torch.empty((len(views), ROW), dtype=torch.float64, device=tensor.device)
    scratch = fills.scratch_for("describe_many", tensor, views)
    places = scratch.data_ptr(), out.data_ptr()
    fills.launch("describe_many", tensor, views, list(bounds), *places)
    return out


def describe_channels(
    tensor: Tensor, view: View, samples: int, channel: int, bounds: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """The row of each channel, and the total variance, on the tensor's device."""
    rows = view.shape[channel]
    out = torch.empty(rows * ROW + 1, dtype=torch.float64, device=tensor.device)
    scratch = fills.scratch_for("describe_channels", tensor, view, samples, channel)
    places = scratch.data_ptr(), out.data_ptr()
    fills.launch("describe_channels", tensor, view, samples, channel, *bounds, *places)
    return out[:-1].view(rows, ROW), out[-1]
