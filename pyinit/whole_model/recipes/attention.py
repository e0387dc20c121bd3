"""Attention layers: their projections, found by the names that libraries give them."""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from torch import nn

from pyinit.initializers import Initializer, Parts
from pyinit.whole_model.network import Network, Site

# Names of the projections to query, key and value, of the output's, and of those that hold query,
# key and value one after the other. Layouts that interleave these by head (GPT-NeoX, BLOOM) have
# other names.
_SPELLINGS = {
    "q": ("q_proj", "query", "to_q", "wq", "q_lin", "q"),
    "k": ("k_proj", "key", "to_k", "wk", "k_lin", "k"),
    "v": ("v_proj", "value", "to_v", "wv", "v_lin", "v"),
    "o": ("o_proj", "out_proj", "c_proj", "proj", "wo", "to_out.0", "output.dense", "out_lin", "o"),
    "qkv": ("qkv", "in_proj", "c_attn", "qkv_proj", "to_qkv", "Wqkv"),
}
_PARTS = {name: part for part, names in _SPELLINGS.items() for name in names}
_PROJECTION = re.compile(rf"(?:(.+)\.)?({'|'.join(map(re.escape, _PARTS))})[._]weight")

_HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "heads", "nhead")
_HEAD_WIDTHS = ("head_dim", "attention_head_size", "key_value_proj_dim")
_SCALES = ("scale", "scaling", "softmax_scale", "scale_factor", "norm_factor")


class Attention(NamedTuple):
    """An attention layer.

    name: its qualified name
    modules: the modules that may know its number of heads
    weights: its weights by part: ``"q"``, ``"k"`` and ``"v"``, or ``"qkv"``, and ``"o"``
    """

    name: str
    modules: tuple[nn.Module, ...]
    weights: dict[str, Site]

    def heads(self, inner: int) -> int | None:
        """The number of heads among ``inner`` channels; None where the modules do not say."""
        count = self._number(_HEADS)
        width = self._number(_HEAD_WIDTHS)
        return count or (inner // width if width else None)

    @property
    def has_a_scale(self) -> bool:
        """Whether a module has a number other than 1 that is called a scale."""
        values = [getattr(module, name, None) for module in self.modules for name in _SCALES]
        return any(isinstance(value, float) and value != 1 for value in values)

    def _number(self, names: tuple[str, ...]) -> int | None:
        values = (getattr(module, name, None) for module in self.modules for name in names)
        return next((value for value in values if isinstance(value, int) and value > 0), None)


def layer_and_part(name: str) -> tuple[str, str] | None:
    """The attention layer that a weight belongs to by its name, and the part that it is there."""
    match = _PROJECTION.fullmatch(name)
    if match is None:
        return None
    layer = (match[1] or "").removesuffix(".self")
    # In BERT and ViT the query's module is inside of one that stands beside the output's.
    if layer.endswith(".attention.attention"):
        layer = layer.removesuffix(".attention")
    return layer, _PARTS[match[2]]


def attention_layers(network: Network) -> list[Attention]:
    """The attention layers of a model."""
    found: dict[str, dict[str, Site]] = {}
    for site in network.sites:
        known = layer_and_part(site.name)
        if known is not None and len(site.shape) == 2:
            layer, part = known
            found.setdefault(layer, {})[part] = site
    return [
        Attention(name, _modules(network, name, weights), weights)
        for name, weights in found.items()
        # An output projection alone may be an MLP's.
        if "qkv" in weights or {"q", "k", "v"} <= weights.keys()
    ]


def query_factors(network: Network) -> Mapping[str, float]:
    """What the weights of queries are multiplied by where nothing scales the scores, as in T5: the
    number 1 / sqrt(width of a head) by which attention usually scales them, by the weight's name.

    The model is traced only if it has attention that may leave the scores as they are.
    """
    found: dict[str, float] = {}
    for layer in attention_layers(network):
        query = layer.weights.get("q") or layer.weights["qkv"]
        outputs, inputs = query.weight.fans[::-1]
        if "q" not in layer.weights and (outputs != 3 * inputs or query.weight.transposed):
            continue
        inner = outputs if "q" in layer.weights else inputs
        heads = layer.heads(inner)
        if heads and not layer.has_a_scale and query.path in network.graph.unscaled:
            found[query.name] = 1 / math.sqrt(inner // heads)
    return found


UNSCALED = "nothing scales the scores, so the queries are smaller"
"""What a report says of such a weight."""


def of_queries(queries: Initializer, others: Initializer, site: Site) -> Initializer:
    """The initializer of a weight that makes queries alone, or keys and values behind them."""
    part = layer_and_part(site.name)
    is_fused = part is not None and part[1] == "qkv"
    return Parts((queries, others, others)) if is_fused else queries


def _modules(network: Network, name: str, weights: dict[str, Site]) -> tuple[nn.Module, ...]:
    owner = (weights.get("qkv") or weights["q"]).path
    paths = (name, owner, owner.rpartition(".")[0])
    return tuple(network.modules[path] for path in paths if path in network.modules)
