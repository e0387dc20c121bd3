"""The maximal update parametrization with one learning rate for all layers."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyinit.models.gpt2 import Attention, Block, Transformer
from pyinit.whole_model.initialize import initialize_
from pyinit.whole_model.recipes import recipe


class Scaled(nn.Linear):
    """A linear layer whose weight acts multiplied by a constant, which ``mup`` sets.

    With Adam, a weight that is divided by a constant m and acts multiplied by it starts as the same
    function, and learns as the plain weight does at m times the learning rate.
    """

    multiplier = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Inputs times the weight and the multiplier, and the bias."""
        return functional.linear(x, self.weight * self.multiplier, self.bias)


class MLP(nn.Sequential):
    """An MLP of scaled layers.

    Args:
        width: units of each hidden layer
        depth: how many layers have weights
        base: the width from which ``mup`` counts
        inputs: values of a sample
        classes: outputs
    """

    def __init__(self, width: int, depth: int, base: int, inputs: int, classes: int) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        for before in (inputs, *[width] * (depth - 2)):
            layers += [Scaled(before, width), nn.ReLU()]
        super().__init__(*layers, Scaled(width, classes))
        self._built = (depth, base, inputs, classes)

    def narrow(self) -> nn.Module:
        """The same network of the base's width, on the meta device."""
        with torch.device("meta"):
            return MLP(self._built[1], *self._built)


def mlp(
    width: int = 64, depth: int = 4, base: int = 32, inputs: int = 64, classes: int = 10
) -> MLP:
    """An MLP of adjustable width.

    Args:
        width: units of each hidden layer
        depth: how many layers have weights
        base: the width from which ``mup`` counts, which must be less than all others
        inputs: values of a sample
        classes: outputs

    Returns:
        The network.

    Example:
        >>> from pyinit.studies.models.mup import mlp
        >>> mlp(width=128)[3].weight.shape
        torch.Size([128, 128])
    """
    return MLP(width, depth, base, inputs, classes)


class ScaledAttention(Attention):
    """GPT-2's attention, with a scale of its logits that ``mup`` sets.

    Args:
        width: of the residual stream
        heads: how many
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.c_attn, self.c_proj = Scaled(width, 3 * width), Scaled(width, width)
        self.head = width // heads
        self.scale = self.head**-0.5

    def forward(self, x: Tensor) -> Tensor:
        """Attention to what is before."""
        q, k, v = self.c_attn(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scale)
        out: Tensor = self.c_proj(mixed.transpose(1, 2).flatten(2))
        return out


class ScaledBlock(Block):
    """GPT-2's block of scaled layers.

    Args:
        width: of the residual stream
        heads: of its attention
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.attn = ScaledAttention(width, heads)
        self.mlp.c_fc, self.mlp.c_proj = Scaled(width, 4 * width), Scaled(4 * width, width)


class GPT(nn.Module):
    """GPT-2 with layers of its own for the logits, which are not tied to the embedding.

    Args:
        width: of the residual stream
        layers: how many blocks there are
        heads: of each attention
        base: the width from which ``mup`` counts
        context: the most characters that are seen
        vocabulary: how many characters there are
    """

    def __init__(
        self, width: int, layers: int, heads: int, *, base: int, context: int, vocabulary: int
    ) -> None:
        super().__init__()
        self.transformer = Transformer(
            vocab=vocabulary, context=context, width=width, layers=layers, heads=heads
        )
        self.transformer.h = nn.Sequential(*(ScaledBlock(width, heads) for _ in range(layers)))
        self.lm_head = Scaled(width, vocabulary, bias=False)
        self._of_width = partial(
            GPT, layers=layers, heads=heads, base=base, context=context, vocabulary=vocabulary
        )
        self._base = base

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.lm_head(self.transformer(tokens))
        return logits

    def narrow(self) -> nn.Module:
        """The same network of the base's width, on the meta device."""
        with torch.device("meta"):
            return self._of_width(self._base)


def gpt(
    width: int = 128,
    layers: int = 4,
    heads: int = 4,
    *,
    base: int = 32,
    context: int = 64,
    vocabulary: int = 96,
) -> GPT:
    """A language model over the characters of ``pydoc``: GPT-2's blocks (Radford et al. 2019).

    Args:
        width: of the residual stream
        layers: how many blocks there are
        heads: of each attention
        base: the width from which ``mup`` counts, which must be less than all others
        context: the most characters that are seen
        vocabulary: how many characters there are

    Returns:
        The network.

    Example:
        >>> import torch
        >>> from pyinit.studies.models.mup import gpt
        >>> gpt(width=64, layers=1)(torch.zeros(2, 64, dtype=torch.int64)).shape
        torch.Size([2, 64, 96])
    """
    return GPT(width, layers, heads, base=base, context=context, vocabulary=vocabulary)


def mup(
    model: MLP | GPT, _: object, seed: int, sigma: float = 1.0, readout_zero_init: bool = True
) -> None:
    """The maximal update parametrization for Adam, initialization and learning rates.

    The recipe ``mup`` draws the weights. Those whose learning rate should be divided by the width's
    multiplier act divided by it from then on, and are multiplied by it now, which comes to the same
    (Yang et al. 2021, lemma J.1). Attention divides by the width of a head, not by its root, such that a network
    of the base's width is as it was.

    Args:
        model: the network
        seed: the seed of the weights
        sigma: the standard deviation of the weights times sqrt(fan_in)
        readout_zero_init: whether the last layer starts at 0

    Example:
        >>> from pyinit.studies.models.mup import mlp, mup
        >>> model = mlp(width=128, base=32)
        >>> mup(model, None, seed=0)
        >>> model[1].multiplier, model[3].multiplier
        (1.0, 0.25)
    """
    base = model.narrow()
    chosen = recipe("mup", base=base, sigma=sigma, readout_zero_init=readout_zero_init)
    initialize_(model, chosen, seed=seed)
    for layer, other in zip(model.modules(), base.modules(), strict=True):
        if isinstance(layer, Scaled) and isinstance(other, Scaled):
            ratio = layer.in_features / other.in_features
            layer.multiplier = 1 / ratio
            with torch.no_grad():
                layer.weight.mul_(ratio)
        if isinstance(layer, ScaledAttention) and isinstance(other, ScaledAttention):
            layer.scale = other.head**0.5 / layer.head
