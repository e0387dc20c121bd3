"""Attention layers: their projections, found by the names that libraries give them."""

import re
from typing import NamedTuple

from torch import nn

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
_HEAD_WIDTHS = ("head_dim", "attention_head_size")


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


def _modules(network: Network, name: str, weights: dict[str, Site]) -> tuple[nn.Module, ...]:
    owner = (weights.get("qkv") or weights["q"]).path
    paths = (name, owner, owner.rpartition(".")[0])
    return tuple(network.modules[path] for path in paths if path in network.modules)
