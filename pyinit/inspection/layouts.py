"""Where samples and channels are in the outputs of layers."""

from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from pyinit.inspection.layers import Layer

Layout: TypeAlias = tuple[int, int]
"""How many leading dimensions number samples, and which dimension numbers channels."""

_CHANNELS_LAST = ("linear", "embedding", "recurrent", "attention")


class Layouts:
    """The layouts of the outputs of one pass.

    Outputs of layers that say nothing of it, such as activations and pooling, have the layout of the
    last output of the same shape whose layer told.
    """

    def __init__(self) -> None:
        self._told: dict[torch.Size, Layout] = {}

    def of(self, layer: Layer, output: Tensor) -> Layout:
        """The layout of a layer's output, which has two dimensions or more."""
        last = output.dim() - 1
        is_first = _has_channels_first(layer)
        if is_first is None:
            known = self._told.get(output.shape)
            return known or ((1, 1) if last > 2 else (last, last))
        self._told[output.shape] = layout = (1, 1) if is_first else (last, last)
        return layout


def _has_channels_first(layer: Layer) -> bool | None:
    """Whether outputs are (N, C, ...), and not (N, ..., C); None if the layer may have either."""
    if layer.kind == "conv" or isinstance(layer.module, (_NormBase, nn.GroupNorm)):
        return True
    is_last = layer.kind in _CHANNELS_LAST or isinstance(layer.module, (nn.LayerNorm, nn.RMSNorm))
    return False if is_last else None
