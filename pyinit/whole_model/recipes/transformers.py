"""Recipes of transformers: GPT-2's, Llama's, and two for Vision Transformers."""

import math
import re
from collections import Counter
from collections.abc import Callable

from torch import nn
from torch.nn.modules.conv import _ConvNd

from pyinit._graph.kinds import is_conv1d
from pyinit.initializers import (
    ZEROS,
    Constant,
    LecunNormal,
    Normal,
    Parts,
    TruncNormal,
    XavierUniform,
)
from pyinit.whole_model.network import Network, Site
from pyinit.whole_model.recipes.attention import layer_and_part
from pyinit.whole_model.recipes.choices import each_place, padded
from pyinit.whole_model.recipes.registry import Choice, Choices, register_recipe
from pyinit.whole_model.recipes.roles import Role, use_of
from pyinit.whole_model.recipes.torch_defaults import torch_defaults

# ---- Language models -----------------------------------------------------------------------------

# The last layer of an attention layer or of an MLP.
_INTO_RESIDUAL = re.compile(
    r"(?:.*\.)?(?:c_proj|o_proj|out_proj|down_proj|fc2|wo|w2|linear2|out_lin|lin2|dense_4h_to_h"
    r"|to_out\.0|net\.2|attn\.proj|mlp\.proj|mlp\.3|output\.dense|(?:self_)?attention\.dense"
    r"|\w*Attention\.o)"
    r"(?:\.weight)?"
)
_OF_HEAD = re.compile(r"(?:.*\.)?(?:classifier|heads?|lm_head|score|cls|pooler)\..*")
# Matrices and tables that a module holds without a layer: experts, positions, tokens.
_MATRIX = re.compile(
    r"(?:.*_)?(?:weights?|proj|kernel|w\d?|w[qkvo]|wte|wpe|tokens?|pos(?:itions?)?"
    r"|emb(?:ed(?:ding)?s?)?)"
)
_NUMBER = re.compile(r"\d+\.")
_EXPERT = re.compile(r"(?<=experts\.)\d+\.")


@register_recipe(
    "gpt2", source="Radford et al. 2019, Language Models are Unsupervised Multitask Learners"
)
def gpt2(network: Network, *, std: float = 0.02) -> Choices:
    """Draws from Normal(0, 0.02), and divides projections into the residual stream by sqrt(2N).

    As nanoGPT and transformers do it: weights and embeddings are Normal(0, ``std``), biases 0, norms
    1 and 0. The last layers of attention and of the MLP, found by their names (``c_proj``,
    ``o_proj``, ``down_proj``, ``attention.output.dense``, ...), are divided by the square root of
    their number in the stack, which is 2N for N blocks. The experts of a mixture count as one. What
    is no layer's and is not called a weight, projection, token or embedding starts as in ``torch``.

    Args:
        network: the model
        std: the standard deviation

    Returns:
        A choice for each parameter of a module that is known.

    Raises:
        ValueError: if ``std`` is negative or not finite.

    References:
        Radford et al. 2019, Language Models are Unsupervised Multitask Learners

    Example:
        >>> import pyinit, torch
        >>> from pyinit.models.gpt2 import GPT2
        >>> with torch.device("meta"):
        ...     model = GPT2(vocab=50, context=8, width=16, layers=2, heads=2)
        >>> report = pyinit.initialize_(model, "gpt2", dry_run=True)
        >>> row = report["transformer.h.0.mlp.c_proj.weight"]
        >>> print(row.initializer, "-", row.why)
        normal(std=0.01) - residual projection, one of 4
    """
    branches = _residual_projections(network)
    why = "weight" if branches else "weight; no residual projection was recognized"

    def choose(site: Site) -> Choice | None:
        count = branches.get(site.name)
        if count is None:
            return _normal(site, std, why)
        return Choice(Normal(0.0, std / math.sqrt(count)), f"residual projection, one of {count}")

    return {**torch_defaults(network), **each_place(network, choose)}


@register_recipe("llama", source="Touvron et al. 2023, arXiv:2302.13971; transformers' Llama")
def llama(network: Network, *, std: float = 0.02) -> Choices:
    """Draws weights from Normal(0, 0.02), and sets norms to 1.

    As transformers does it: weights and embeddings are Normal(0, ``std``) and biases 0, whatever the
    depth. What is no layer's and is not called a weight, projection, token or embedding starts as in
    ``torch``.

    Args:
        network: the model
        std: the standard deviation

    Returns:
        A choice for each parameter of a module that is known.

    Raises:
        ValueError: if ``std`` is negative or not finite.

    References:
        Touvron et al. 2023, arXiv:2302.13971; transformers' Llama

    Example:
        >>> import pyinit, torch
        >>> from pyinit.models.llama import Llama
        >>> with torch.device("meta"):
        ...     model = Llama(vocab=50, width=16, hidden=32, layers=2, heads=2, kv_heads=1, head_dim=8)
        >>> report = pyinit.initialize_(model, "llama", dry_run=True)
        >>> print(report["model.layers.0.mlp.down_proj.weight"].initializer)
        normal(std=0.02)
    """
    return {
        **torch_defaults(network),
        **each_place(network, lambda site: _normal(site, std, "weight")),
    }


def _normal(site: Site, std: float, why: str) -> Choice | None:
    use = use_of(site)
    is_matrix = len(site.shape) >= 2 and _MATRIX.fullmatch(site.leaf)
    role = use.role if use else Role.WEIGHT if is_matrix else None
    if role in (Role.WEIGHT, Role.TOKEN):
        return Choice(Normal(0.0, std), why)
    if role is Role.EMBEDDING:
        return Choice(padded(Normal(0.0, std), site.module), "embedding")
    return Choice(ZEROS, "bias") if role is Role.BIAS else None


def _residual_projections(network: Network) -> dict[str, int]:
    """The weights that end a residual branch, each with the number of branches in its stack."""
    names = [
        site.name
        for site in network.sites
        if len(site.shape) >= 2
        and _INTO_RESIDUAL.fullmatch(site.name)
        and not _OF_HEAD.fullmatch(site.name)
    ]
    counts = Counter(map(_stack, {_EXPERT.sub("", name) for name in names}))
    return {name: counts[_stack(name)] for name in names}


def _stack(name: str) -> str:
    """The name up to the number of the block, which all blocks of an encoder or decoder share."""
    first = _NUMBER.search(name)
    return name[: first.start()] if first else ""


# ---- Vision Transformers -------------------------------------------------------------------------

_HEAD = re.compile(r"(?:.*\.)?(?:heads?|head_dist|\w*classifier|fc)")
_MLP = re.compile(r".*(?:mlp|intermediate|(?<!attention\.)output\.dense).*")
_POSITION = re.compile(r"pos(?:ition(?:al)?)?_.*|relative_position_bias_table")
_TOKEN = re.compile(r"(?:cls|class|reg|register|dist)_(?:token|embedding)s?")
_LINEAR = (nn.Linear, nn.MultiheadAttention)
_TRUNCATED = TruncNormal(0.0, 0.02)
_TINY = Normal(0.0, 1e-6)


@register_recipe(
    "vit", source="timm's vision_transformer; Dosovitskiy et al. 2020, arXiv:2010.11929"
)
def vit(network: Network, *, style: str = "timm", head_bias: float | str = 0.0) -> Choices:
    """Starts a Vision Transformer as timm does, or as its authors do in JAX.

    In both styles embeddings, those of positions included, are truncated normal of 0.02, class tokens
    normal of 1e-6, and norms 1 and 0.

    Args:
        network: the model
        style: ``"timm"``: linear layers are truncated normal of 0.02 (cut at -2 and 2, as in timm),
            biases 0, and the convolution of the patches as torch's default. ``"jax"``: linear layers
            are Xavier uniform, with query, key and value each a matrix of its own, biases of the
            MLP normal of 1e-6, the head's weight 0, and convolutions LeCun normal
        head_bias: the head's bias in style ``"jax"``: a number, or ``"-log(classes)"``, with which
            sigmoids start at about one positive class

    Returns:
        A choice for each parameter of a module that is known.

    Raises:
        ValueError: for another style, or another text as ``head_bias``.

    References:
        timm's vision_transformer; Dosovitskiy et al. 2020, arXiv:2010.11929

    Example:
        >>> import pyinit, torch
        >>> from pyinit.models.vit import VisionTransformer
        >>> with torch.device("meta"):
        ...     model = VisionTransformer(image=32, width=16, layers=1, heads=2, hidden=32)
        >>> recipe = pyinit.recipe("vit", style="jax", head_bias="-log(classes)")
        >>> report = pyinit.initialize_(model, recipe, dry_run=True)
        >>> print(report["heads.head.bias"].initializer)
        constant(val=-6.908)
    """
    layer = _STYLES.get(style)
    if layer is None:
        raise ValueError(f"style must be one of {', '.join(map(repr, _STYLES))}, got {style!r}")
    if isinstance(head_bias, str) and head_bias != _PRIOR:
        raise ValueError(f"head_bias must be a number or {_PRIOR!r}, got {head_bias!r}")

    def choose(site: Site) -> Choice | None:
        return _token(site) or layer(site, head_bias)

    return {**torch_defaults(network), **each_place(network, choose)}


_PRIOR = "-log(classes)"


def _token(site: Site) -> Choice | None:
    if isinstance(site.module, nn.Embedding):
        return Choice(padded(_TRUNCATED, site.module), "embedding")
    if _POSITION.fullmatch(site.leaf):
        return Choice(_TRUNCATED, "position embedding")
    if _TOKEN.fullmatch(site.leaf):
        return Choice(_TINY, "class token")
    return Choice(ZEROS, "mask token") if site.leaf == "mask_token" else None


def _timm(site: Site, _: float | str) -> Choice | None:
    if not (isinstance(site.module, _LINEAR) or is_conv1d(site.module)):
        return None
    if len(site.shape) < 2:
        return Choice(ZEROS, "bias")
    return Choice(_TRUNCATED, "weight")


def _jax(site: Site, head_bias: float | str) -> Choice | None:
    is_weight = len(site.shape) >= 2
    if isinstance(site.module, _ConvNd):
        return Choice(LecunNormal(), "patches") if is_weight else Choice(ZEROS, "bias")
    if not isinstance(site.module, _LINEAR):
        return None
    if _HEAD.fullmatch(site.path):
        return Choice(ZEROS, "head") if is_weight else _jax_head_bias(site, head_bias)
    return _jax_weight(site) if is_weight else _jax_bias(site)


def _jax_head_bias(site: Site, bias: float | str) -> Choice:
    return Choice(
        Constant(-math.log(site.shape[0]) if isinstance(bias, str) else bias), "head bias"
    )


def _jax_weight(site: Site) -> Choice:
    known = layer_and_part(site.name)
    if known is not None and known[1] == "qkv":
        return Choice(Parts((XavierUniform(),) * 3), "query, key and value")
    return Choice(XavierUniform(), "weight")


def _jax_bias(site: Site) -> Choice:
    return Choice(_TINY, "bias of the MLP") if _MLP.fullmatch(site.path) else Choice(ZEROS, "bias")


_STYLES: dict[str, Callable[[Site, float | str], Choice | None]] = {"timm": _timm, "jax": _jax}
