"""The recipe ``auto``: for each parameter what suits its layer and what stands around it."""

import math
import re
from collections.abc import Callable
from typing import Any

from torch import nn

from pyinit._graph.structure import Activation
from pyinit._graph.tracing import NORMS, is_layer, is_norm
from pyinit.initializers import (
    ONES,
    ZEROS,
    Constant,
    Initializer,
    KaimingNormal,
    LecunNormal,
    Normal,
    Orthogonal,
    Padded,
    Parts,
    PriorBias,
    TruncNormal,
    Uniform,
    VarianceScaling,
    XavierNormal,
    XavierUniform,
    gain_of,
)
from pyinit.whole_model.network import Network, Site
from pyinit.whole_model.recipes.chains import DEEP, Balance, balance
from pyinit.whole_model.recipes.layers import each_place
from pyinit.whole_model.recipes.registry import Choice, Choices, register_recipe

# Bounded ones, linear around zero, for which Xavier's derivation holds.
_XAVIER = frozenset(("sigmoid", "tanh", "softsign", "hardtanh", "hardsigmoid"))

_TOKEN = re.compile(
    r"^(?:\w+_)?(?:tokens?|(?:class|mask|pos|position|positional)s?_?emb(?:ed(?:ding)?s?)?)$"
)


@register_recipe(
    "auto",
    source="Glorot & Bengio 2010; He et al. 2015; Klambauer et al. 2017; Schoenholz et al. 2017; "
    "Radford et al. 2019",
)
def auto(network: Network, *, prior: float | None = None) -> Choices:
    """Each layer by what follows it and by its place; residual branches small by their number.

    prior: the probability that a head's sigmoid starts with, by its bias (Lin et al. 2017, 3.3);
        None for zero biases
    """
    if prior is not None and not (isinstance(prior, (int, float)) and 0 < prior < 1):
        raise ValueError(f"prior must be a number in (0, 1), got {prior!r}")
    return each_place(network, _Auto(network, prior).choose)


class _Auto:
    def __init__(self, network: Network, prior: float | None) -> None:
        self.graph, self.modules = network.graph, network.modules
        self.prior = None if prior is None else PriorBias(prior)
        # The last layer of a model that ends in a branch is no head.
        ends = {layer for branch in self.graph.branches for layer in branch.layers}
        self.heads = self.graph.heads - ends
        self.last = {branch.layers[-1]: branch.last_norm for branch in self.graph.branches}
        # Rows of length 1 are right under a norm, and for a head that shares the weight.
        self.short_rows = any(map(is_norm, network.modules.values())) or any(
            isinstance(site.module, nn.Embedding) and site.tied for site in network.sites
        )

    def choose(self, site: Site) -> Choice | None:
        for kinds, choose in _BY_MODULE:
            if isinstance(site.module, kinds):
                return choose(self, site)
        if is_layer(site.module) or site.path in self.graph.depth:
            return {"weight": self.weight, "bias": self.bias}.get(site.leaf, _nothing)(site)
        if is_norm(site.module):
            return _norm(site)
        if _TOKEN.search(site.leaf):
            return Choice(TruncNormal(std=0.02), "learned token or position")
        return None

    # ---- Layers ----

    def weight(self, site: Site) -> Choice | None:
        if len(site.shape) < 2:
            return None
        scale, remark = self._scale(site.path)
        norm = self.graph.norms.get(site.path)
        if norm is not None:
            # By its type: the report puts blocks that are alike together.
            remark += f"; next to {type(self.modules[norm]).__name__}"
        initializer, why = self._weight(site, scale)
        return Choice(initializer, why + remark)

    def _weight(self, site: Site, scale: float) -> tuple[Initializer, str]:
        path = site.path
        depth = self.graph.depth.get(path, 0)
        follows = self.graph.activation.get(path)
        if path in self.graph.attention:
            return _projections(site, scale)
        if depth >= DEEP and follows != _SELU:
            feeds = self.graph.before.get(path)
            if feeds is None:
                return _lecun(scale), f"first of {depth} layers without a norm"
            balanced = self._balance(site)
            if balanced is not None:
                why = f"{_name(feeds)} comes before, {depth} layers without a norm"
                return KaimingNormal(nonlinearity=balanced.gain * scale), why
        if follows is None:
            return _lecun(scale), "head" if path in self.heads else "no activation follows"
        return _for(follows, scale, path in self.graph.norms), f"{_name(follows)} follows"

    def _balance(self, site: Site) -> Balance | None:
        """What holds the variance in a deep plain chain; None elsewhere."""
        depth = self.graph.depth.get(site.path, 0)
        feeds = self.graph.before.get(site.path)
        if depth < DEEP or feeds is None or feeds == _SELU:
            return None
        gain_alone = Balance(gain_of(*feeds), 0.0)
        if getattr(site.module, "bias", None) is None:
            return gain_alone
        width = site.module.in_features if isinstance(site.module, nn.Linear) else None
        return balance(feeds, depth, width) or gain_alone

    def bias(self, site: Site) -> Choice:
        is_head = site.path in self.heads
        if is_head and self.prior is not None:
            return Choice(self.prior, "head, prior asked for")
        balanced = None if is_head else self._balance(site)
        if balanced is not None and balanced.bias_std > 0:
            return Choice(Normal(0.0, balanced.bias_std), "holds the variance of a deep chain")
        return Choice(ZEROS, "bias")

    def _scale(self, path: str) -> tuple[float, str]:
        """Of the last layer of a residual branch, and what to say of it."""
        if path not in self.last:
            return 1.0, ""
        if self.last[path] is not None:
            return 1.0, "; ends a residual branch, which a norm scales"
        branches = len(self.graph.branches)
        return 1 / math.sqrt(branches), f"; ends a residual branch, 1 of {branches}"

    # ---- Other modules ----

    def attention(self, site: Site) -> Choice | None:
        """torch's, but for its output projection, which is a layer of its own."""
        if site.leaf == "in_proj_weight":
            return Choice(Parts((XavierUniform(),) * 3), "queries, keys, values")
        if site.leaf == "in_proj_bias":
            return Choice(ZEROS, "bias")
        if site.leaf in ("bias_k", "bias_v"):
            return Choice(XavierNormal(), "learned key or value")
        return Choice(XavierUniform(), "queries, keys or values")

    def recurrent(self, site: Site) -> Choice | None:
        gates = next((n for kinds, n in _GATES if isinstance(site.module, kinds)), 1)
        leaf = site.leaf
        if leaf.startswith("weight_ih"):
            return Choice(_in_parts(XavierUniform(), gates), "input weights, gate by gate")
        if leaf.startswith("weight_hh"):
            return Choice(_in_parts(Orthogonal(), gates), "recurrent weights, gate by gate")
        if leaf.startswith("weight_hr"):
            return Choice(XavierUniform(), "projection of the state")
        if leaf.startswith("bias_ih") and gates == 4:  # torch's order: input, forget, cell, output
            return Choice(Parts((ZEROS, ONES, ZEROS, ZEROS)), "forget gate open")
        return Choice(ZEROS, "bias") if leaf.startswith("bias") else None

    def embedding(self, site: Site) -> Choice:
        dim = site.shape[-1]
        initializer: Initializer = Normal(0.0, 1 / math.sqrt(dim) if self.short_rows else 1.0)
        padding: Any = site.module.padding_idx
        if padding is not None:
            initializer = Padded(initializer, padding)
        why = "rows of length 1" if self.short_rows else "variance 1 for what follows"
        return Choice(initializer, f"embedding, {why}")

    def prelu(self, site: Site) -> Choice:
        slope: Any = site.module.init
        return Choice(Constant(slope), "its own slope")


_SELU = Activation("selu")

_BY_MODULE: tuple[tuple[Any, Callable[[_Auto, Site], Choice | None]], ...] = (
    (nn.MultiheadAttention, _Auto.attention),
    ((nn.RNNBase, nn.RNNCellBase), _Auto.recurrent),
    ((nn.Embedding, nn.EmbeddingBag), _Auto.embedding),
    (nn.PReLU, _Auto.prelu),
)

_GATES: tuple[tuple[Any, int], ...] = (((nn.LSTM, nn.LSTMCell), 4), ((nn.GRU, nn.GRUCell), 3))


def _nothing(_: Site) -> None:
    return None


def _name(activation: Activation) -> str:
    kind, slope = activation
    if kind == "leaky_relu":
        return f"leaky_relu of slope {slope:g}"
    return kind if isinstance(kind, str) else f"an activation of gain {kind:.4g}"


def _for(activation: Activation, scale: float, is_normed: bool) -> Initializer:
    """The initializer that the paper on an activation gives."""
    name, slope = activation
    if activation == _SELU:
        return _lecun(scale)
    if name in _XAVIER:
        # 5/3 makes up for what tanh takes away, where no norm does.
        gain = gain_of("tanh") if name == "tanh" and not is_normed else 1.0
        return XavierNormal(gain * scale)
    if scale == 1:
        return KaimingNormal(slope, nonlinearity=name)
    return KaimingNormal(nonlinearity=gain_of(name, slope) * scale)


def _lecun(scale: float) -> Initializer:
    return LecunNormal() if scale == 1 else VarianceScaling(scale**2)


def _projections(site: Site, scale: float) -> tuple[Initializer, str]:
    """Of queries, keys and values: each by itself, whether they are one layer or three."""
    inputs, outputs = site.shape[:2] if site.weight.transposed else site.shape[1::-1]
    parts, rest = divmod(outputs, inputs)
    if rest or parts not in (2, 3):
        return XavierUniform(scale), "queries, keys or values"
    why = f"{parts} projections of attention in one"
    if not site.weight.transposed:
        return Parts((XavierUniform(scale),) * parts), why
    bound = scale * math.sqrt(6 / (2 * inputs))  # the parts stand in dim 1
    return Uniform(-bound, bound), why


def _in_parts(initializer: Initializer, parts: int) -> Initializer:
    return initializer if parts == 1 else Parts((initializer,) * parts)


def _norm(site: Site) -> Choice | None:
    """Of torch's norms, and of others by what their constructors fill them with: ones, or zeros
    where they add 1 to what they hold."""
    if len(site.shape) != 1 or site.leaf not in ("weight", "bias"):
        return None
    constructor = getattr(type(site.module).__init__, "__code__", None)
    filled = getattr(constructor, "co_names", ())
    if not isinstance(site.module, NORMS) and "ones" not in filled:
        return Choice(ZEROS, "norm's scale, less 1") if "zeros" in filled else None
    return Choice(ONES, "norm's scale") if site.leaf == "weight" else Choice(ZEROS, "norm's shift")
