"""What a parameter is to its layer, and what everything but the weights starts at.

Shared by recipes that treat all layers of a kind alike.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from enum import Enum, auto
from functools import lru_cache
from typing import Any, NamedTuple

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from pyinit.initializers import (
    ONES,
    ZEROS,
    Constant,
    Initializer,
    Keep,
    Normal,
    OwnReset,
    Padded,
    Parts,
    Weight,
)
from pyinit.whole_model.network import Network, Site, is_conv1d
from pyinit.whole_model.recipes.registry import Choice, each


class Role(Enum):
    """What a parameter does.

    WEIGHT multiplies the layer's input; SCALE and SHIFT are a norm's, SCALE_LESS_1 that of a norm
    that multiplies by 1 + weight; TOKEN is joined to the input as a further position; SLOPE is an
    activation's.
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
    """A parameter's role, the number of matrices that stand in its dim 0, and words for it."""

    role: Role
    matrices: int = 1
    words: str = "weight"


Uses = Mapping[str, Use]

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)

_LAYER: Uses = {"weight": Use(Role.WEIGHT), "bias": Use(Role.BIAS)}
_NORM: Uses = {
    **dict.fromkeys(("weight", "scale", "gamma"), Use(Role.SCALE)),
    **dict.fromkeys(("bias", "shift", "beta"), Use(Role.SHIFT)),
}
_EMBEDDING_LAYER: Uses = {"weight": Use(Role.EMBEDDING)}
_CENTRED_NORM: Uses = {"weight": Use(Role.SCALE_LESS_1)}
_ATTENTION: Uses = {
    "in_proj_weight": Use(Role.WEIGHT, 3, "query, key and value weights"),
    "q_proj_weight": Use(Role.WEIGHT, words="query weight"),
    "k_proj_weight": Use(Role.WEIGHT, words="key weight"),
    "v_proj_weight": Use(Role.WEIGHT, words="value weight"),
    "in_proj_bias": Use(Role.BIAS),
    **dict.fromkeys(("bias_k", "bias_v"), Use(Role.TOKEN)),
}


def _recurrent(gates: int) -> Uses:
    of_gates = f" of {gates} gates" if gates > 1 else ""
    return {
        "weight_ih": Use(Role.WEIGHT, gates, f"input weights{of_gates}"),
        "weight_hh": Use(Role.WEIGHT, gates, f"recurrent weights{of_gates}"),
        "weight_hr": Use(Role.WEIGHT, words="projection of the hidden state"),
        **dict.fromkeys(("bias_ih", "bias_hh"), Use(Role.BIAS)),
    }


_USES: Mapping[type[nn.Module], Uses] = {
    **dict.fromkeys((nn.Linear, _ConvNd, nn.Bilinear), _LAYER),
    **dict.fromkeys((nn.Embedding, nn.EmbeddingBag), _EMBEDDING_LAYER),
    nn.MultiheadAttention: _ATTENTION,
    **dict.fromkeys((nn.LSTM, nn.LSTMCell), _recurrent(4)),
    **dict.fromkeys((nn.GRU, nn.GRUCell), _recurrent(3)),
    **dict.fromkeys((nn.RNN, nn.RNNCell), _recurrent(1)),
    **dict.fromkeys(NORMS, _NORM),
    nn.PReLU: {"weight": Use(Role.SLOPE)},
}

# Norms that torch does not have go by their names.
_NORM_NAME = re.compile(r"Norm(\dd|Gated)?$")
# Those of transformers that multiply by 1 + weight.
_CENTRED_NORM_NAME = re.compile(
    r"(Gemma[23]?|Qwen3Next|Qwen3_5(Moe)?|Qwen4ExpText|MiniMaxM3VL|Step3p7|Centered)RMSNorm$"
)

_OF_RECURRENT_LAYER = re.compile(r"_l\d+(_reverse)?$")


def listed(kind: type[nn.Module], table: Mapping[type[nn.Module], Any]) -> type[nn.Module] | None:
    """The nearest of the class and its bases that the table has."""
    return next((cls for cls in kind.__mro__ if cls in table), None)


@lru_cache(maxsize=256)
def _uses_in(kind: type) -> Uses | None:
    cls = listed(kind, _USES)
    return None if cls is None else _USES[cls]


def use_of(site: Site) -> Use | None:
    """What the parameter is to its layer; None where that is not known."""
    uses = _uses_in(type(site.module))  # type: ignore[arg-type]  # classes are hashable
    if uses is None:
        uses = _unlisted(site)
    return uses.get(_OF_RECURRENT_LAYER.sub("", site.leaf))


def _unlisted(site: Site) -> Uses:
    name = type(site.module).__name__
    if is_conv1d(site.module):
        return _LAYER
    if len(site.shape) > 1 or not _NORM_NAME.search(name):
        return {}
    return _CENTRED_NORM if _CENTRED_NORM_NAME.search(name) else _NORM


def places(site: Site, network: Network) -> Iterator[Site]:
    """The site, and a tied parameter's further ones."""
    yield site
    for name in site.tied:
        path, _, leaf = name.rpartition(".")
        if path in network.modules:
            yield Site(name, site.tensor, network.modules[path], path, leaf)


def each_place(network: Network, choose: Callable[[Site], Choice | None]) -> dict[str, Choice]:
    """``each``, where the first of a tied parameter's places with a choice counts."""

    def first(site: Site) -> Choice | None:
        if not site.tied:
            return choose(site)
        choices = map(choose, places(site, network))
        return next((choice for choice in choices if choice is not None), None)

    return each(network, first)


_EMBEDDING = Normal(std=0.02)
_FIXED: Mapping[Role, Choice] = {
    Role.BIAS: Choice(ZEROS, "bias"),
    Role.SCALE: Choice(ONES, "norm scale"),
    Role.SCALE_LESS_1: Choice(ZEROS, "norm scale, less 1"),
    Role.SHIFT: Choice(ZEROS, "norm shift"),
    Role.TOKEN: Choice(_EMBEDDING, "learned token"),
}


def all_but_weights(site: Site, use: Use, embedding: Initializer = _EMBEDDING) -> Choice | None:
    """Norm scales 1 and shifts 0, biases 0, embeddings, slopes as constructed."""
    if use.role is Role.EMBEDDING:
        return Choice(padded(embedding, site.module), "embedding")
    if use.role is Role.SLOPE:
        return Choice(Constant(site.module.init), "slope")  # type: ignore[arg-type]
    return _FIXED.get(use.role)


def by_layer(
    network: Network,
    weight: Callable[[Site, Use], Choice],
    embedding: Initializer = _EMBEDDING,
) -> dict[str, Choice]:
    """A choice for each weight by a function of it, and ``all_but_weights`` for the others."""

    def choose(site: Site) -> Choice | None:
        use = use_of(site)
        if use is None:
            return None
        if use.role is Role.WEIGHT:
            return weight(site, use)
        return all_but_weights(site, use, embedding)

    return each_place(network, choose)


def padded(initializer: Initializer, embedding: nn.Module) -> Initializer:
    """The initializer for an embedding's table: the padding's row, if it has one, is zero."""
    row: Any = embedding.padding_idx
    return initializer if row is None else Padded(initializer, row)


def with_padding(choice: Choice, site: Site, network: Network) -> Choice:
    """The choice, with zeros in an embedding's row for padding, also where it shares its weight."""
    if isinstance(choice.initializer, (Padded, Keep, OwnReset)):
        return choice
    for place in places(site, network):
        if place.leaf == "weight" and isinstance(place.module, (nn.Embedding, nn.EmbeddingBag)):
            choice = choice._replace(initializer=padded(choice.initializer, place.module))
            if isinstance(choice.initializer, Padded):
                return choice
    return choice


def of_each_matrix(initializer: Initializer, matrices: int) -> Initializer:
    """The initializer for each of the matrices that stand in dim 0."""
    return initializer if matrices == 1 else Parts((initializer,) * matrices)


def by_shape_alone(initializer: Initializer, weight: Weight) -> Initializer:
    """The initializer with fans as torch has them: no groups, inputs in dim 1."""
    if weight.groups == 1 and not weight.transposed:
        return initializer
    blocks = initializer.resolve(Weight(weight.shape))
    return initializer if blocks == initializer.resolve(weight) else blocks[0].drawn
