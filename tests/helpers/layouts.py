"""Images, weights and matrices that hold the same numbers in memory of different order."""

from collections.abc import Callable

import torch
from torch import Tensor

Layout = Callable[[Tensor], Tensor]
"""Takes a tensor and returns one of equal elements that lies in memory as the layout says."""


def channels_last(x: Tensor) -> Tensor:
    """Also of a sequence, of which torch knows no such format; a bias stays as it is."""
    return x.movedim(1, -1).contiguous().movedim(-1, 1) if x.dim() > 1 else x


def reversed_dims(x: Tensor) -> Tensor:
    """The last dimension is the slowest."""
    order = range(x.dim() - 1, -1, -1)
    return x.permute(*order).contiguous().permute(*order)


def with_gaps(x: Tensor) -> Tensor:
    """Every second element along each dimension of larger memory, with NaN between them."""
    memory = torch.full([2 * size + 1 for size in x.shape], torch.nan, dtype=x.dtype)
    return memory[tuple(slice(1, None, 2) for _ in x.shape)].copy_(x)


def wide_rows(x: Tensor) -> Tensor:
    """Rows, and images, of larger memory, with NaN around them."""
    memory = torch.full([*x.shape[:-2], x.shape[-2] + 1, x.shape[-1] + 3], torch.nan, dtype=x.dtype)
    return memory[..., 1:, 2:-1].copy_(x)


LAYOUTS: dict[str, Layout] = {
    "contiguous": Tensor.contiguous,
    "channels_last": channels_last,
    "reversed": reversed_dims,
    "gaps": with_gaps,
}
READ_LAYOUTS: dict[str, Layout] = {
    **LAYOUTS,
    "transposed": lambda x: x.mT.contiguous().mT,
    "expanded": lambda x: x[:1, ..., :1].expand(x.shape),  # of its first elements, that is
}
"""With those of tensors that are only read."""


def laid_out(shape: tuple[int, ...], layout: str, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal numbers in one of ``READ_LAYOUTS``, of which torch keeps channels_last for images and volumes alone."""
    if layout == "channels_last" and len(shape) < 4:
        layout = "contiguous"
    return READ_LAYOUTS[layout](torch.randn(shape, dtype=dtype))
