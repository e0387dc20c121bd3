"""Where activations saturate: beyond these values their slope is below 8% of the greatest."""

import math

from torch import nn

from pyinit.inspection.layers import Layer
from pyinit.inspection.statistics import Bounds

NOWHERE: Bounds = (-math.inf, math.inf)

_BOUNDS: dict[str, Bounds] = {
    "sigmoid": (0.02, 0.98),
    "tanh": (-0.96, 0.96),  # tanh(x) = 2 sigmoid(2x) - 1
    "softsign": (-0.72, 0.72),
    "hardsigmoid": (0.0, 1.0),
    "hardtanh": (-1.0, 1.0),
    "relu6": (-math.inf, 6.0),
}


def name_of_activation(layer: Layer) -> str:
    """The name of an activation, be it a module or a function; "" of another layer."""
    if layer.kind != "activation":
        return ""
    if layer.function:
        return layer.name.rpartition(".")[2].strip("_")
    name = type(layer.module).__name__.lower()
    return {"leakyrelu": "leaky_relu"}.get(name, name)


def bounds_of(layer: Layer) -> Bounds:
    """Those of the activation that a layer is; infinite if it has none."""
    if isinstance(layer.module, nn.Hardtanh) and not layer.function and layer.kind == "activation":
        relu6 = isinstance(layer.module, nn.ReLU6)
        low = -math.inf if relu6 else float(layer.module.min_val)
        return low, float(layer.module.max_val)
    return _BOUNDS.get(name_of_activation(layer), NOWHERE)
