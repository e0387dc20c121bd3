"""The recipe ``auto``: it gives each parameter what suits its layer and the layers around it."""

import math
import re
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from pyinit._graph.graph import ActivationKind
from pyinit._graph.kinds import (
    EMBEDDINGS,
    EXPERT_ENDS,
    NORMS,
    RECURRENT_LAYERS,
    gates_of,
    is_expert_stack,
    is_layer,
    is_norm,
    is_router,
    standardizes_its_weight,
)
from pyinit.initializers import (
    ONES,
    ZEROS,
    Centred,
    Constant,
    Dirac,
    Eye,
    Initializer,
    KaimingNormal,
    LecunNormal,
    Normal,
    Orthogonal,
    Parts,
    PriorBias,
    TruncNormal,
    Uniform,
    VarianceScaling,
    XavierNormal,
    XavierUniform,
    can_be_centred,
    gain_of,
)
from pyinit.whole_model.network import Network, Site
from pyinit.whole_model.recipes.attention import UNSCALED, of_queries, query_factors
from pyinit.whole_model.recipes.chains import (
    DEEP,
    Balance,
    balance,
    gain_alone,
    gradient_kept,
    off_centre,
)
from pyinit.whole_model.recipes.choices import (
    each_place,
    forget_bias,
    of_each_matrix,
    of_experts,
    padded,
    places,
)
from pyinit.whole_model.recipes.own_starts import own_start
from pyinit.whole_model.recipes.registry import Choice, Choices, register_recipe

# Activations that are bounded and linear around zero: Xavier's derivation holds for them.
_XAVIER = frozenset(("sigmoid", "tanh", "softsign", "hardtanh", "hardsigmoid"))

# Layers that are named after all the projections that they make.
_FUSED = re.compile(r"(?:^|[._])(?:W)?(qkv|kv)(?:_proj)?(?:[._]|$)")

_LOST = 0.01  # what a chain leaves of a gradient, if the report says that it vanishes

_TOKEN = re.compile(
    r"^(?:\w+_)?(?:tokens?|(?:class|mask|pos|position|positional)s?_?emb(?:ed(?:ding)?s?)?)$"
)


@register_recipe(
    "auto",
    source="Glorot & Bengio 2010; He et al. 2015; Klambauer et al. 2017; Schoenholz et al. 2017; "
    "Radford et al. 2019",
)
def auto(network: Network, *, prior: float | None = None) -> Choices:
    """Suits each layer to its activation and its place, and scales residual branches by their number.

    A layer's gain suits the activation that follows it. The last layer of each of the N branches of a
    residual stream is scaled by 1/sqrt(N), unless a norm ends the branch. Layers of deep chains without a
    norm hold the variance of what goes through them. docs/auto.md has the whole table.

    Args:
        network: the model
        prior: the probability that the sigmoids of a head start with, by the head's bias; None for
            zero biases

    Returns:
        A choice for each parameter that is known.

    Raises:
        ValueError: if ``prior`` is no number between 0 and 1.

    References:
        Glorot & Bengio 2010; He et al. 2015, arXiv:1502.01852; Klambauer et al. 2017,
        arXiv:1706.02515 (SELU); Schoenholz et al. 2017, arXiv:1611.01232 (deep chains); Lin et al.
        2017, arXiv:1708.02002, section 3.3 (``prior``); Radford et al. 2019 (residual branches)

    Example:
        >>> import pyinit
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
        >>> for row in pyinit.initialize_(model, "auto", seed=0):
        ...     print(row.name, row.initializer, "-", row.why)
        0.weight xavier_normal(gain=1.667) - tanh follows
        0.bias constant(val=0) - bias
        2.weight lecun_normal - head
        2.bias constant(val=0) - bias
    """
    if prior is not None and not (isinstance(prior, (int, float)) and 0 < prior < 1):
        raise ValueError(f"prior must be a number in (0, 1), got {prior!r}")
    choose = _Auto(network, prior).choose
    return each_place(network, lambda site: choose(site) or own_start(site, network))


class _Auto:
    """The choices for the parameters of one network."""

    def __init__(self, network: Network, prior: float | None) -> None:
        self.graph, self.modules = network.graph, network.modules
        self.prior = None if prior is None else PriorBias(prior)
        # Where a model ends in a branch, its last layer is no head.
        ends = {layer for branch in self.graph.branches for layer in branch.layers}
        self.heads = self.graph.heads - ends
        # Each branch by its last layer, and the number of branches of its residual stream.
        self.branches = {branch.layers[-1]: branch for branch in self.graph.branches}
        self.of_stream = self.graph.branches_of_streams()
        self.queries = query_factors(network)
        # The mean of what layers take whose weights are centred.
        self.mean_before: dict[str, float] = {}
        for site in network.sites:
            if site.leaf == "weight" and is_layer(site.module):
                mean = self._mean_before(site)
                if mean is not None:
                    self.mean_before[site.path] = mean
        # Short rows suit a norm, and a head that shares the embedding's weight.
        self.row_lengths = _row_lengths(network)
        self.short_rows = bool(self.row_lengths) or any(map(is_norm, network.modules.values()))
        # T5 divides what goes into a head that shares the embedding's weight by sqrt(dim) itself.
        config = getattr(network.model, "config", None)
        self.shrinks_outputs = getattr(config, "scale_decoder_outputs", None) is True

    def choose(self, site: Site) -> Choice | None:
        for kinds, choose in _BY_MODULE:
            if isinstance(site.module, kinds):
                return choose(self, site)
        if is_layer(site.module) or site.path in self.graph.depth:
            return {"weight": self.weight, "bias": self.bias}.get(site.leaf, _nothing)(site)
        for is_of_kind, choose in _BY_KIND:
            if is_of_kind(site.module):
                return choose(self, site)
        if _TOKEN.search(site.leaf):
            return Choice(TruncNormal(std=0.02), "learned token or position")
        return None

    # ---- Layers ----

    def weight(self, site: Site) -> Choice | None:
        if len(site.shape) < 2:
            return None
        scale, remark = self._branch_scale(site.path)
        norm = self.graph.norms.get(site.path)
        if norm is not None:
            # A type, not a path, so that the report can group blocks that are alike.
            remark += f"; next to {type(self.modules[norm]).__name__}"
        initializer, why = self._weight(site, scale)
        return Choice(initializer, why + remark)

    def _weight(self, site: Site, scale: float) -> tuple[Initializer, str]:
        path = site.path
        if standardizes_its_weight(site.module):
            return LecunNormal(), "the layer standardizes its weight itself"
        if path in self.graph.routers:
            return VarianceScaling(0.1), "its softmax weighs other values"
        of_attention = self._of_attention(site, scale)
        if of_attention is not None:
            return of_attention
        mean = self.mean_before.get(path)
        if mean is None:
            return self._plain_weight(site, scale)
        why = f"{_words_for(self.graph.activation_before[path])} of mean {mean:.2g} comes before"
        balanced = self._balance(site)
        if balanced is None:
            return Centred(self._plain_weight(site, scale)[0]), why
        why += self._depth_words(path, balanced.gain)
        return Centred(KaimingNormal(nonlinearity=balanced.gain * scale)), why

    def _plain_weight(self, site: Site, scale: float) -> tuple[Initializer, str]:
        path = site.path
        depth = self.graph.depth.get(path, 0)
        follows = self.graph.activation.get(path)
        if depth >= DEEP and follows != _SELU:
            feeds = self.graph.activation_before.get(path)
            if feeds is None:
                return _lecun(scale), f"first of {depth} layers without a norm"
            balanced = self._balance(site)
            if balanced is not None:
                why = f"{_words_for(feeds)} comes before{self._depth_words(path, balanced.gain)}"
                return KaimingNormal(nonlinearity=balanced.gain * scale), why
        if follows is None:
            return _lecun(scale), "head" if path in self.heads else "no activation follows"
        return _suited_to(
            follows, scale, path in self.graph.norms
        ), f"{_words_for(follows)} follows"

    def _of_attention(self, site: Site, scale: float) -> tuple[Initializer, str] | None:
        if site.path in self.graph.head_mixers:
            return _identity(site), "mixes heads, which start apart"
        if site.name in self.queries:
            queries, others = XavierUniform(scale * self.queries[site.name]), XavierUniform(scale)
            return of_queries(queries, others, site), f"queries; {UNSCALED}"
        return _projections(site, scale) if site.path in self.graph.attention else None

    def _mean_before(self, site: Site) -> float | None:
        """The mean of what a layer takes, if its weights must not see it; None where they may.

        The heads of shallow models may, since they keep their logits small, and so may layers that a
        batch norm follows, which takes means away.
        """
        path = site.path
        feeds = self.graph.activation_before.get(path)
        is_shallow_head = path in self.heads and self.graph.depth.get(path, 0) < DEEP
        is_batch_normed = isinstance(self.modules.get(self.graph.norms.get(path, "")), _NormBase)
        if feeds is None or is_shallow_head or is_batch_normed or not can_be_centred(site.weight):
            return None
        about_mean = off_centre(feeds)
        return None if about_mean is None else about_mean.mean

    def _balance(self, site: Site) -> Balance | None:
        """What holds the variance behind an activation, where nothing else does; else None.

        That is so in deep plain chains, and behind activations that are off centre without a norm.
        """
        path = site.path
        depth = self.graph.depth.get(path, 0)
        feeds = self.graph.activation_before.get(path)
        is_centred = path in self.mean_before
        if feeds is None or feeds == _SELU:
            return None
        if depth < DEEP:
            return (
                gain_alone(feeds, is_centred) if is_centred and not self._is_normed(path) else None
            )
        if getattr(site.module, "bias", None) is None:
            return gain_alone(feeds, is_centred)
        width = site.module.in_features if isinstance(site.module, nn.Linear) else None
        return balance(feeds, depth, width, is_centred) or gain_alone(feeds, is_centred)

    def _is_normed(self, path: str) -> bool:
        """Whether a norm sets the scale of a layer's output; that of the next block does so for the sum."""
        branch = self.branches.get(path)
        return path in self.graph.norms and (branch is None or branch.last_norm is not None)

    def _depth_words(self, path: str, gain: float) -> str:
        """How deep the plain chain is that a layer stands in, and whether gradients pass it."""
        depth = self.graph.depth.get(path, 0)
        if depth < DEEP:
            return ""
        words = f", {depth} layers without a norm"
        kept = gradient_kept(self.graph.activation_before[path], gain)
        if kept ** (depth - 1) >= _LOST:
            return words
        return f"{words}, each of which shrinks gradients to {kept:.0%}: add norms or residual sums"

    def bias(self, site: Site) -> Choice:
        is_head = site.path in self.heads
        if is_head and self.prior is not None:
            return Choice(self.prior, "head's bias, from the prior")
        balanced = None if is_head else self._balance(site)
        if balanced is not None and balanced.bias_std > 0:
            return Choice(Normal(0.0, balanced.bias_std), "holds the variance of a deep chain")
        return Choice(ZEROS, "bias")

    def _branch_scale(self, path: str) -> tuple[float, str]:
        """What the place in a residual branch multiplies a layer's weights by, and a remark on it."""
        branch = self.branches.get(path)
        if branch is None:
            return 1.0, ""
        if branch.last_norm is not None:
            is_own = standardizes_its_weight(self.modules[path])
            scales = "" if is_own else ", which a norm scales"
            return 1.0, f"; ends a residual branch{scales}"
        branches = self.of_stream[branch.stream]
        return 1 / math.sqrt(branches), f"; ends a residual branch, 1 of {branches}"

    # ---- Other modules ----

    def experts(self, site: Site) -> Choice | None:
        """The matrices of a mixture's experts, in stacks; those that end the branch are scaled."""
        is_last = site.leaf in EXPERT_ENDS
        scale, remark = self._branch_scale(site.path) if is_last else (1.0, "")
        found = of_experts(site, VarianceScaling(scale**2))
        return found and found._replace(why=found.why + remark)

    def attention(self, site: Site) -> Choice | None:
        """The parameters that ``nn.MultiheadAttention`` itself holds; ``out_proj`` is a layer."""
        if site.leaf == "in_proj_weight":
            return Choice(Parts((XavierUniform(),) * 3), "queries, keys, values")
        if site.leaf == "in_proj_bias":
            return Choice(ZEROS, "bias")
        if site.leaf in ("bias_k", "bias_v"):
            return Choice(XavierNormal(), "learned key or value")
        return Choice(XavierUniform(), "queries, keys or values")

    def recurrent(self, site: Site) -> Choice | None:
        gates, leaf = gates_of(type(site.module)), site.leaf
        if leaf.startswith("weight_ih"):
            return Choice(of_each_matrix(XavierUniform(), gates), "input weights, gate by gate")
        if leaf.startswith("weight_hh"):
            return Choice(of_each_matrix(Orthogonal(), gates), "recurrent weights, gate by gate")
        if leaf.startswith("weight_hr"):
            return Choice(XavierUniform(), "projection of the state")
        if leaf.startswith("bias"):
            return forget_bias(site) or Choice(ZEROS, "bias")
        return None

    def embedding(self, site: Site) -> Choice:
        dim = site.shape[-1]
        if not self.short_rows:
            return Choice(padded(Normal(), site.module), "embedding, variance 1 for what follows")
        length = self.row_lengths.get(dim, 1.0)
        why = f"embedding, rows of length {length:.2g}"
        if site.tied and self.shrinks_outputs:
            length *= math.sqrt(dim)
            why = f"{why} times sqrt({dim}), by which the model divides what its head takes"
        return Choice(padded(Normal(0.0, length / math.sqrt(dim)), site.module), why)

    def prelu(self, site: Site) -> Choice:
        slope: Any = site.module.init
        return Choice(Constant(slope), "slope")


_SELU = ActivationKind("selu")

_BY_MODULE: tuple[tuple[Any, Callable[[_Auto, Site], Choice | None]], ...] = (
    (nn.MultiheadAttention, _Auto.attention),
    (RECURRENT_LAYERS, _Auto.recurrent),
    (EMBEDDINGS, _Auto.embedding),
    (nn.PReLU, _Auto.prelu),
)


_BY_KIND: tuple[tuple[Callable[[nn.Module], bool], Callable[[_Auto, Site], Choice | None]], ...] = (
    (is_norm, lambda _, site: _norm(site)),
    (is_router, lambda _, site: _router(site)),
    (is_expert_stack, _Auto.experts),
)


def _row_lengths(network: Network) -> dict[int, float]:
    """The lengths of the rows of embeddings, by dim, in a model whose head shares a table.

    A token that reaches the head has a logit of its own, sqrt(dim) times the length of its row and the
    cosine between the two. Rows are so short that it is at most the log of the number of tokens where
    that cosine is 1 / sqrt(2), since token and branches are of equal size: the token then is no likelier
    than all others together. Tables that are added to this one, as those of positions, follow it.
    """
    lengths: dict[int, float] = {}
    for site in network.sites:
        if not (isinstance(site.module, nn.Embedding) and site.tied):
            continue
        if any(is_layer(place.module) for place in places(site, network)):
            tokens, dim = site.shape
            length = math.sqrt(2 / dim) * math.log(tokens)
            lengths[dim] = min(length, lengths.get(dim, 1.0))
    return lengths


def _nothing(_: Site) -> None:
    return None


def _words_for(activation: ActivationKind) -> str:
    kind, slope = activation.nonlinearity, activation.a
    if kind == "leaky_relu":
        return f"leaky_relu of slope {slope:g}"
    return kind if isinstance(kind, str) else f"an activation of gain {kind:.4g}"


def _suited_to(activation: ActivationKind, scale: float, is_normed: bool) -> Initializer:
    """The initializer for a layer that an activation follows, as the paper on it has it."""
    name, slope = activation.nonlinearity, activation.a
    if activation == _SELU:
        return _lecun(scale)
    if name in _XAVIER:
        # 5/3 makes up for the variance that tanh takes away, unless a norm does.
        gain = gain_of("tanh") if name == "tanh" and not is_normed else 1.0
        return XavierNormal(gain * scale)
    if scale == 1:
        return KaimingNormal(slope, nonlinearity=name)
    return KaimingNormal(nonlinearity=gain_of(name, slope) * scale)


def _lecun(scale: float) -> Initializer:
    """LeCun's variance of 1 / fan_in, times the squared scale."""
    return LecunNormal() if scale == 1 else VarianceScaling(scale**2)


def _projections(site: Site, scale: float) -> tuple[Initializer, str]:
    """The initializer for queries, keys and values: each by itself, also where one layer makes all."""
    inputs, outputs = site.shape[:2] if site.weight.transposed else site.shape[1::-1]
    parts, rest = divmod(outputs, inputs)
    fused = _FUSED.search(site.path)
    if fused and (rest or parts != len(fused[1])):
        # Xavier's variance for square matrices, whatever the sizes of the parts
        why = "projections of attention in one, of unequal sizes"
        return VarianceScaling(scale**2, distribution="uniform"), why
    if rest or parts not in (2, 3):
        return XavierUniform(scale), "queries, keys or values"
    why = f"{parts} projections of attention in one"
    if not site.weight.transposed:
        return Parts((XavierUniform(scale),) * parts), why
    bound = scale * math.sqrt(6 / (2 * inputs))  # the projections stand in dim 1
    return Uniform(-bound, bound), why


def _identity(site: Site) -> Initializer:
    """What passes on each head as it is; LeCun's where the numbers of heads differ."""
    if site.shape[0] != site.shape[1]:
        return LecunNormal()
    return Eye() if len(site.shape) == 2 else Dirac()


def _router(site: Site) -> Choice | None:
    """Logits of small variance, so that experts start out alike (Fedus et al. 2022, section 2.4)."""
    if site.leaf == "weight" and len(site.shape) == 2:
        return Choice(VarianceScaling(0.1), "chooses experts")
    return Choice(ZEROS, "bias") if site.leaf == "bias" else None


def _norm(site: Site) -> Choice | None:
    """Scale 1 and shift 0. Norms that torch does not have are known by what their constructors
    call: ``ones``, or ``zeros`` for a scale to which the norm adds 1."""
    if len(site.shape) != 1 or site.leaf not in ("weight", "bias"):
        return None
    constructor = getattr(type(site.module).__init__, "__code__", None)
    filled = getattr(constructor, "co_names", ())
    if not isinstance(site.module, NORMS) and "ones" not in filled:
        why = "norm's scale, to which the norm adds 1"
        return Choice(ZEROS, why) if "zeros" in filled else None
    return Choice(ONES, "norm's scale") if site.leaf == "weight" else Choice(ZEROS, "norm's shift")
