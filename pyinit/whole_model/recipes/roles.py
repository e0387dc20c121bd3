"""What a parameter is to its layer: a weight, a bias, a norm's scale, an embedding, ..."""

import re
from collections.abc import Mapping
from enum import Enum, auto
from functools import lru_cache
from typing import NamedTuple

from torch import nn
from torch.nn.modules.conv import _ConvNd

from pyinit._graph.kinds import (
    EMBEDDINGS,
    LSTMS,
    NORMS,
    gates_of,
    has_centred_norm_name,
    has_norm_name,
    is_conv1d,
    nearest_base,
)
from pyinit.whole_model.network import Site


class Role(Enum):
    """What a parameter does.

    A WEIGHT multiplies the layer's input. SCALE and SHIFT belong to a norm, SCALE_LESS_1 to a norm
    that multiplies by 1 + weight. A TOKEN joins the input as a further position. A SLOPE belongs to
    an activation.
    """

    WEIGHT = auto()
    BIAS = auto()
    SCALE = auto()
    SCALE_LESS_1 = auto()
    SHIFT = auto()
    EMBEDDING = auto()
    TOKEN = auto()
    SLOPE = auto()


class Use(NamedTuple):
    """How a layer uses a parameter.

    role: what the parameter does
    matrices: the number of matrices that stand one after the other in its dim 0
    words: what a report calls it
    """

    role: Role
    matrices: int = 1
    words: str = "weight"


Uses = Mapping[str, Use]
"""The uses of a layer's parameters, by their names in the layer."""

_LAYER: Uses = {"weight": Use(Role.WEIGHT), "bias": Use(Role.BIAS)}
_NORM: Uses = {
    **dict.fromkeys(("weight", "scale", "gamma"), Use(Role.SCALE)),
    **dict.fromkeys(("bias", "shift", "beta"), Use(Role.SHIFT)),
}
_CENTRED_NORM: Uses = {"weight": Use(Role.SCALE_LESS_1)}
_EMBEDDING: Uses = {"weight": Use(Role.EMBEDDING)}
_ATTENTION: Uses = {
    "in_proj_weight": Use(Role.WEIGHT, 3, "query, key and value weights"),
    "q_proj_weight": Use(Role.WEIGHT, words="query weight"),
    "k_proj_weight": Use(Role.WEIGHT, words="key weight"),
    "v_proj_weight": Use(Role.WEIGHT, words="value weight"),
    "in_proj_bias": Use(Role.BIAS),
    **dict.fromkeys(("bias_k", "bias_v"), Use(Role.TOKEN)),
}


def _recurrent(cls: type[nn.Module]) -> Uses:
    gates = gates_of(cls)
    of_gates = f" of {gates} gates" if gates > 1 else ""
    return {
        "weight_ih": Use(Role.WEIGHT, gates, f"input weights{of_gates}"),
        "weight_hh": Use(Role.WEIGHT, gates, f"recurrent weights{of_gates}"),
        "weight_hr": Use(Role.WEIGHT, words="projection of the hidden state"),
        **dict.fromkeys(("bias_ih", "bias_hh"), Use(Role.BIAS)),
    }


_USES: Mapping[type, Uses] = {
    **dict.fromkeys((nn.Linear, _ConvNd, nn.Bilinear), _LAYER),
    **dict.fromkeys(EMBEDDINGS, _EMBEDDING),
    nn.MultiheadAttention: _ATTENTION,
    **{cls: _recurrent(cls) for cls in (*LSTMS, nn.GRU, nn.GRUCell, nn.RNN, nn.RNNCell)},
    **dict.fromkeys(NORMS, _NORM),
    nn.PReLU: {"weight": Use(Role.SLOPE)},
}

# A recurrent layer's parameters are named by its level and direction, too.
_LEVEL = re.compile(r"_l\d+(_reverse)?$")


def use_of(site: Site) -> Use | None:
    """How its layer uses a parameter; None where that is not known."""
    uses = _uses_in(type(site.module))  # type: ignore[arg-type]  # classes are hashable
    if uses is None:
        uses = _uses_by_name(site)
    return uses.get(_LEVEL.sub("", site.leaf))


@lru_cache(maxsize=256)
def _uses_in(kind: type) -> Uses | None:
    cls = nearest_base(kind, _USES)
    return None if cls is None else _USES[cls]


def _uses_by_name(site: Site) -> Uses:
    """The uses in a module that torch does not have, by the name of its class."""
    if is_conv1d(site.module):
        return _LAYER
    if len(site.shape) > 1 or not has_norm_name(site.module):
        return {}
    return _CENTRED_NORM if has_centred_norm_name(site.module) else _NORM
