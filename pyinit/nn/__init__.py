"""Convolutions as modules: drop-ins for those of ``torch.nn``, and a swap for whole models."""

from pyinit.nn import grad
from pyinit.nn.convert import convert_, unconvert_
from pyinit.nn.decompositions import decompositions
from pyinit.nn.modules import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
)

__all__ = [
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "convert_",
    "decompositions",
    "grad",
    "unconvert_",
]
