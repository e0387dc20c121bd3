"""One distribution for the weights of all layers.

Biases and norm shifts are 0, norm scales 1, embeddings normal of standard deviation 0.02 with a
padding row of zeros. Matrices that stand in one parameter (the gates of a recurrent layer, the
projections of an attention layer) are each initialized as a matrix of its own.
"""

from torch import nn
from torch.nn.modules.conv import _ConvNd

from pyinit.initializers import (
    ZEROS,
    DeltaOrthogonal,
    Dirac,
    Eye,
    Hadamard,
    Initializer,
    KaimingNormal,
    LecunNormal,
    Normal,
    Orthogonal,
    XavierUniform,
)
from pyinit.whole_model.network import Network, Site
from pyinit.whole_model.recipes.layers import Use, by_layer, of_each_matrix
from pyinit.whole_model.recipes.registry import Choice, Choices, register_recipe


def _same(network: Network, initializer: Initializer) -> Choices:
    """The same initializer for the matrices of all layers."""
    return by_layer(
        network, lambda _, use: Choice(of_each_matrix(initializer, use.matrices), use.words)
    )


@register_recipe("normal", source="Krizhevsky et al. 2012, section 5")
def normal(network: Network, *, std: float = 0.01) -> Choices:
    """Normal weights and embeddings of one standard deviation, zero biases.

    Args:
        network: the model
        std: the standard deviation
    """
    initializer = Normal(std=std)
    return by_layer(network, lambda _, use: Choice(initializer, use.words), initializer)


@register_recipe("xavier", source="Glorot & Bengio 2010")
def xavier(network: Network) -> Choices:
    """Xavier uniform weights, zero biases."""
    return _same(network, XavierUniform())


@register_recipe("kaiming", source="He et al. 2015")
def kaiming(network: Network, *, mode: str = "fan_in") -> Choices:
    """Kaiming normal weights with the gain of relu, zero biases.

    Args:
        network: the model
        mode: ``"fan_in"``, ``"fan_out"``, or a mean of the two: ``"fan_avg"``, ``"fan_geo_avg"``
    """
    return _same(network, KaimingNormal(mode=mode, nonlinearity="relu"))


@register_recipe("lecun", source="LeCun et al. 1998, section 4.6")
def lecun(network: Network) -> Choices:
    """Truncated normal weights of variance 1 / fan_in, zero biases."""
    return _same(network, LecunNormal())


@register_recipe("orthogonal", source="Saxe et al. 2014")
def orthogonal(network: Network, *, gain: float = 1.0) -> Choices:
    """Random orthogonal weights, one matrix for each group of a convolution, zero biases.

    Args:
        network: the model
        gain: what the matrices are multiplied by
    """
    return _same(network, Orthogonal(gain))


@register_recipe("delta_orthogonal", source="Xiao et al. 2018")
def delta_orthogonal(network: Network) -> Choices:
    """Convolutions of one orthogonal matrix at the centre tap, other weights orthogonal.

    So are convolutions with fewer outputs than inputs: no matrix of theirs preserves all norms.
    """

    def weight(site: Site, use: Use) -> Choice:
        if not isinstance(site.module, _ConvNd):
            return Choice(of_each_matrix(Orthogonal(), use.matrices), use.words)
        outputs, inputs = _channels(site)
        if outputs < inputs:
            return Choice(Orthogonal(), "fewer outputs than inputs")
        if site.weight.transposed and outputs > inputs:
            return Choice(Orthogonal(), "expands, with the inputs in dim 0")
        return Choice(DeltaOrthogonal(), "convolution")

    return by_layer(network, weight)


@register_recipe("zero", source="Zhao et al. 2022, algorithms 1 and 2")
def zero(network: Network) -> Choices:
    """ZerO: identities, Hadamard matrices where a layer expands, zero biases; nothing is random.

    Each layer is initialized by its own shape. A convolution has its matrix at the centre tap, one
    for each group. Where a layer that expands has its inputs in dim 0 (transposed convolutions,
    Conv1D), its matrix is a partial identity, too. Bilinear layers, which the paper does not treat,
    start at zero, and embeddings as those of the other recipes.
    """

    return by_layer(network, _zero_weight)


def _zero_weight(site: Site, use: Use) -> Choice:
    if isinstance(site.module, nn.Bilinear):
        return Choice(ZEROS, "bilinear")
    outputs, inputs = _channels(site)
    outputs //= use.matrices
    if outputs > inputs and not site.weight.transposed:
        blocks = use.matrices * site.weight.groups
        return Choice(of_each_matrix(Hadamard(), blocks), "more outputs than inputs")
    identity = Eye() if len(site.shape) == 2 else Dirac()
    words = "identity" if outputs == inputs else "partial identity"
    return Choice(of_each_matrix(identity, use.matrices), words)


def _channels(site: Site) -> tuple[int, int]:
    """Outputs and inputs of a layer, in each group."""
    first, second = site.shape[0] // site.weight.groups, site.shape[1]
    return (second, first) if site.weight.transposed else (first, second)
