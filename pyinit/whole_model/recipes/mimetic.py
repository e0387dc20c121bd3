"""Mimetic initialization: attention that starts as the attention of trained models looks."""

import dataclasses
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

import pyinit.init
from pyinit._random.rng import Key, Source, stream_of
from pyinit.initializers import Block, Blocks, Drawn, Weight, register
from pyinit.whole_model.network import Network, Site
from pyinit.whole_model.recipes.attention import Attention, attention_layers
from pyinit.whole_model.recipes.registry import Choice, Choices, register_recipe
from pyinit.whole_model.recipes.transformers import vit

_SOURCE = "Trockman & Kolter 2023, arXiv:2305.09828"
_PRODUCTS = {"q": "qk", "k": "qk", "v": "vo", "o": "vo"}


@register("mimetic")
@dataclass(frozen=True)
class Mimetic(Drawn):
    """A factor of alpha Z + beta I, with Z normal of variance 1 / width (Trockman & Kolter 2023).

    For each head the weights of query and key multiply to alpha1 Z + beta1 I, or to the nearest
    matrix of the head's rank. The weights of value and output multiply to alpha2 Z - beta2 I. Both
    factors of a product draw the same Z, from the seed and the name of their layer; so they need a
    ``Key`` to draw from.

    Args:
        of: the name of the attention layer
        part: ``"q"``, ``"k"``, ``"v"``, ``"o"``, or ``"qkv"`` for three that stand one after the
            other
        heads: the number of heads
        alpha1: the size of Z in query x key
        beta1: the size of the identity in query x key
        alpha2: the size of Z in value x output
        beta2: the size of the negative identity in value x output
        transposed: whether the inputs stand in dim 0; None: as they stand in the layer

    Example:
        >>> from pyinit.initializers import Weight
        >>> Mimetic(of="attention", part="q", heads=2).resolve(Weight((4, 4)))[0].drawn.part
        'q'
    """

    of: str
    part: str
    heads: int = 1
    alpha1: float = 0.7
    beta1: float = 0.7
    alpha2: float = 0.4
    beta2: float = 0.4
    transposed: bool | None = None
    needs_key = True

    def __post_init__(self) -> None:
        if self.part not in (*_PRODUCTS, "qkv"):
            raise ValueError(f"part must be one of q, k, v, o, qkv, got {self.part!r}")
        if self.heads < 1:
            raise ValueError(f"heads must be at least 1, got {self.heads}")
        for name in ("alpha1", "beta1", "alpha2", "beta2"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be finite, got {getattr(self, name)}")

    def resolve(self, weight: Weight) -> Blocks:
        if len(weight.shape) != 2:
            raise ValueError(f"mimetic needs 2 dimensions, got shape {tuple(weight.shape)}")
        transposed = weight.transposed if self.transposed is None else self.transposed
        rows, width = weight.shape[::-1] if transposed != (self.part == "o") else weight.shape
        inner, rest = divmod(rows, len(self.part))
        most = width * self.heads if self.part in "qk" else width
        if rest or inner % self.heads or inner > most:
            raise ValueError(
                f"mimetic: shape {tuple(weight.shape)} is not {self.part!r} of {self.heads} heads "
                "that are no wider than the inputs"
            )
        return (Block(dataclasses.replace(self, transposed=transposed)),)

    def target_std(self, _: Weight) -> float | None:
        return None

    def fill_(self, tensor: Tensor, source: Source) -> None:
        if type(source) is not Key:
            raise ValueError(
                "mimetic fills two parameters from the same numbers, so it needs a key; give seed="
            )
        if tensor.is_meta:
            return
        with torch.no_grad():
            matrix = tensor.t() if self.transposed != (self.part == "o") else tensor
            for part, rows in zip(self.part, matrix.chunk(len(self.part)), strict=True):
                rows.copy_(self._factor(part, rows.shape, source.key))

    def fill_by_torch_(self, _: Tensor) -> None:
        raise ValueError("torch has no mimetic initialization")

    def _factor(self, part: str, shape: tuple[int, ...], key: int) -> Tensor:
        (inner, width), name = shape, _PRODUCTS[part]
        if name == "qk":
            heads, alpha, beta = self.heads, self.alpha1, self.beta1
        else:
            heads, alpha, beta = 1, self.alpha2, -self.beta2
        product = _Product(f"{self.of}.{name}", heads, width, inner // heads, alpha, beta)
        return _factors(product, key)[part in "ko"]


class _Product(NamedTuple):
    """What two weights multiply to: for each head the (width, width) matrix alpha Z + beta I.

    rank: the number of channels of a head, which bounds the rank of its product
    """

    name: str
    heads: int
    width: int
    rank: int
    alpha: float
    beta: float


# Both factors of a product are asked for soon after each other, in either order.
@lru_cache(maxsize=2)
def _factors(product: _Product, key: int) -> tuple[Tensor, Tensor]:
    """The factors L and R, each (heads * rank, width). With a head's rows, LᵀR is its product."""
    pairs = [_factorized(_drawn(product, head, key), product.rank) for head in range(product.heads)]
    return torch.cat([left for left, _ in pairs]), torch.cat([right for _, right in pairs])


def _drawn(product: _Product, head: int, key: int) -> Tensor:
    matrix = torch.empty(product.width, product.width, dtype=torch.float64, device="cpu")
    source = Key(key, stream_of(f"{product.name}.{head}"))
    pyinit.init.normal_(matrix, std=1 / math.sqrt(product.width), generator=source)
    matrix.mul_(product.alpha).diagonal().add_(product.beta)
    return matrix


def _factorized(a: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """U sqrt(S) and V sqrt(S), transposed, for the largest singular values S of ``a``.

    They come from the eigenvectors V of aᵀa, several times faster than from the SVD: with U = a V / S
    the product is a V Vᵀ, however much precision squaring loses.
    """
    squares, vectors = torch.linalg.eigh(a.mT @ a)
    v = vectors[:, -rank:]
    root = squares[-rank:].clamp(min=torch.finfo(a.dtype).tiny) ** 0.25
    return (a @ v / root).mT, (v * root).mT


@register_recipe("mimetic", source=_SOURCE)
def mimetic(
    network: Network,
    *,
    alpha1: float = 0.7,
    beta1: float = 0.7,
    alpha2: float = 0.4,
    beta2: float = 0.4,
) -> Choices:
    """Starts attention as trained models have it: query x key near I, value x output near -I.

    The weights of query and key multiply to alpha1 Z + beta1 I in each head, and the weights of value
    and output to alpha2 Z - beta2 I, with Z normal of variance 1 / width. All else is as in the recipe
    ``vit``, position embeddings included, for which the paper has sinusoids. Attention whose products
    are not square (grouped queries, say) and attention to another sequence are left as in ``vit``.
    The recipe needs ``seed=``.

    Args:
        network: the model
        alpha1: the size of the noise in query x key; the defaults are for Vision Transformers
        beta1: the size of the identity in query x key
        alpha2: the size of the noise in value x output
        beta2: the size of the negative identity in value x output

    Returns:
        A choice for each parameter of a module that is known.

    Raises:
        ValueError: if no attention layer is found.

    References:
        Trockman & Kolter 2023, arXiv:2305.09828

    Example:
        >>> import pyinit
        >>> from torch import nn
        >>> layer = nn.MultiheadAttention(16, num_heads=2)
        >>> report = pyinit.initialize_(layer, "mimetic", seed=0)
        >>> query, key, value = layer.in_proj_weight.detach().chunk(3)
        >>> product = layer.out_proj.weight.detach() @ value
        >>> bool(product.diagonal().mean() < -0.2)
        True
    """
    layers = attention_layers(network)
    if not layers:
        raise ValueError(
            "recipe 'mimetic' found no attention layer: it looks for weights named q_proj, k_proj, "
            "v_proj (or query, key, value; to_q, ...), qkv, in_proj or c_attn"
        )
    choices = dict(vit(network))
    for layer in layers:
        heads, problem = _checked(layer)
        for part, site in layer.weights.items():
            if problem:
                before = choices[site.name]
                choices[site.name] = before._replace(why=f"{before.why}; not mimetic: {problem}")
            else:
                factor = Mimetic(layer.name, part, heads, alpha1, beta1, alpha2, beta2)
                choices[site.name] = Choice(factor, f"attention, {_PART_WORDS[part]}")
    return choices


_PART_WORDS = {"q": "query", "k": "key", "v": "value", "o": "output", "qkv": "query, key and value"}


# Names of attention whose query and key come from different sequences.
_CROSS = re.compile(
    r"(?i:cross_?att\w*|encoder_attn|EncDecAttention|decoder\.layers\.\d+\.multihead_attn)$"
)


def _checked(layer: Attention) -> tuple[int, str]:
    """The number of heads, and why the layer is left as in ``vit``: empty if nothing is in the way."""
    if _CROSS.search(layer.name):
        return 1, "attention to another sequence"
    if "o" not in layer.weights:
        return 1, "no output projection"
    shapes = {part: _out_in(site) for part, site in layer.weights.items()}
    if "qkv" in shapes:
        rows, width = shapes.pop("qkv")
        shapes |= dict.fromkeys("qkv", (rows // 3, width)) if rows % 3 == 0 else {}
    inner, width = shapes.get("q", (0, 0))
    if any(shapes.get(part) != (inner, width) for part in "qkv") or shapes["o"] != (width, inner):
        return 1, "query, key, value and output differ in size"
    heads = layer.heads(inner)
    if heads is None or inner % heads:
        return 1, "the number of heads is not known"
    return heads, "" if inner <= width else "its heads are wider than its inputs"


def _out_in(site: Site) -> tuple[int, int]:
    first, second = site.shape
    return (second, first) if site.weight.transposed else (first, second)
