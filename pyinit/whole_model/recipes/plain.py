"""Recipes of one distribution, which the weights of all layers share.

Biases and norm shifts are 0, norm scales 1, and embeddings normal of standard deviation 0.02 with
zeros in the row for padding. Where several matrices stand in one parameter (the gates of a recurrent
layer, the projections of an attention layer), each is initialized as a matrix of its own. So are the matrices that a mixture's experts hold in
stacks, by recipes that go by fans; recipes of orthogonal matrices leave these to the model's own code.
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
from pyinit.whole_model.recipes.attention import UNSCALED, of_queries, query_factors
from pyinit.whole_model.recipes.choices import by_layer, of_each_matrix, scaled
from pyinit.whole_model.recipes.registry import Choice, Choices, register_recipe
from pyinit.whole_model.recipes.roles import Use


def _same(network: Network, initializer: Initializer) -> Choices:
    """The same initializer for all matrices of all layers."""
    return by_layer(
        network, lambda _, use: Choice(of_each_matrix(initializer, use.matrices), use.words)
    )


def _same_scores(network: Network, initializer: Initializer) -> Choices:
    """The same, but that queries make up for scores that their attention does not scale."""
    factors = query_factors(network)

    def weight(site: Site, use: Use) -> Choice:
        factor = factors.get(site.name)
        if factor is None:
            return Choice(of_each_matrix(initializer, use.matrices), use.words)
        queries = scaled(initializer, factor)
        return Choice(of_queries(queries, initializer, site), f"{use.words}; {UNSCALED}")

    return by_layer(network, weight, experts=initializer)


@register_recipe("normal", source="Krizhevsky et al. 2012, section 5")
def normal(network: Network, *, std: float = 0.01) -> Choices:
    """Draws weights and embeddings from one normal distribution, and sets biases to 0.

    Args:
        network: the model
        std: the standard deviation

    Returns:
        A choice for each parameter of a module that is known.

    Raises:
        ValueError: if ``std`` is negative or not finite.

    References:
        Krizhevsky et al. 2012, section 5

    Example:
        >>> import pyinit
        >>> from torch import nn
        >>> report = pyinit.initialize_(nn.Linear(4, 2), pyinit.recipe("normal", std=0.1), seed=0)
        >>> print(report["weight"].initializer)
        normal(std=0.1)
    """
    initializer = Normal(std=std)
    return by_layer(
        network, lambda _, use: Choice(initializer, use.words), initializer, initializer
    )


@register_recipe("xavier", source="Glorot & Bengio 2010")
def xavier(network: Network) -> Choices:
    """Draws Xavier uniform weights, and sets biases to 0.

    Args:
        network: the model

    Returns:
        A choice for each parameter of a module that is known.

    References:
        Glorot & Bengio 2010

    Example:
        >>> import pyinit
        >>> from torch import nn
        >>> report = pyinit.initialize_(nn.Linear(4, 2), "xavier", seed=0)
        >>> print(report["weight"].initializer)
        xavier_uniform
    """
    return _same_scores(network, XavierUniform())


@register_recipe("kaiming", source="He et al. 2015")
def kaiming(network: Network, *, mode: str = "fan_in") -> Choices:
    """Draws Kaiming normal weights with the gain of relu, and sets biases to 0.

    Args:
        network: the model
        mode: ``"fan_in"``, ``"fan_out"``, or a mean of the two: ``"fan_avg"``, ``"fan_geo_avg"``

    Returns:
        A choice for each parameter of a module that is known.

    Raises:
        ValueError: for another mode.

    References:
        He et al. 2015, arXiv:1502.01852

    Example:
        >>> import pyinit
        >>> from torch import nn
        >>> report = pyinit.initialize_(nn.Conv2d(3, 8, 3), "kaiming", seed=0)
        >>> print(report["weight"].initializer)
        kaiming_normal(nonlinearity=relu)
    """
    return _same_scores(network, KaimingNormal(mode=mode, nonlinearity="relu"))


@register_recipe("lecun", source="LeCun et al. 1998, section 4.6")
def lecun(network: Network) -> Choices:
    """Draws truncated normal weights of variance 1 / fan_in, and sets biases to 0.

    Args:
        network: the model

    Returns:
        A choice for each parameter of a module that is known.

    References:
        LeCun et al. 1998, Efficient BackProp, section 4.6

    Example:
        >>> import pyinit
        >>> from torch import nn
        >>> report = pyinit.initialize_(nn.Linear(4, 2), "lecun", seed=0)
        >>> print(report["weight"].initializer)
        lecun_normal
    """
    return _same_scores(network, LecunNormal())


@register_recipe("orthogonal", source="Saxe et al. 2014")
def orthogonal(network: Network, *, gain: float = 1.0) -> Choices:
    """Draws orthogonal weights, a matrix for each group of a convolution, and sets biases to 0.

    Args:
        network: the model
        gain: what the matrices are multiplied by

    Returns:
        A choice for each parameter of a module that is known.

    Raises:
        ValueError: if ``gain`` is not finite.

    References:
        Saxe et al. 2014, arXiv:1312.6120

    Example:
        >>> import pyinit
        >>> from torch import nn
        >>> report = pyinit.initialize_(nn.LSTM(4, 4), "orthogonal", seed=0)
        >>> print(report["weight_hh_l0"].initializer)
        parts(parts=[orthogonal, orthogonal, orthogonal, orthogonal])
    """
    return _same(network, Orthogonal(gain))


@register_recipe("delta_orthogonal", source="Xiao et al. 2018")
def delta_orthogonal(network: Network) -> Choices:
    """Puts an orthogonal matrix at the centre tap of convolutions; other weights are orthogonal.

    A convolution with fewer outputs than inputs is orthogonal as a whole, since no matrix of that
    shape preserves all norms.

    Args:
        network: the model

    Returns:
        A choice for each parameter of a module that is known.

    References:
        Xiao et al. 2018, arXiv:1806.05393

    Example:
        >>> import pyinit
        >>> from torch import nn
        >>> report = pyinit.initialize_(nn.Conv2d(8, 8, 3), "delta_orthogonal", seed=0)
        >>> print(report["weight"].initializer)
        delta_orthogonal
    """

    def weight(site: Site, use: Use) -> Choice:
        if not isinstance(site.module, _ConvNd):
            return Choice(of_each_matrix(Orthogonal(), use.matrices), use.words)
        outputs, inputs = _channels(site)
        if outputs < inputs:
            return Choice(Orthogonal(), "fewer outputs than inputs")
        if site.weight.transposed and outputs > inputs:
            return Choice(Orthogonal(), "more outputs than inputs, with the inputs in dim 0")
        return Choice(DeltaOrthogonal(), "convolution")

    return by_layer(network, weight)


@register_recipe("zero", source="Zhao et al. 2022, algorithms 1 and 2")
def zero(network: Network) -> Choices:
    """Sets weights to identities and Hadamard matrices, and biases to 0 (ZerO). Nothing is random.

    Each layer is initialized by its own shape. A convolution has a matrix at the centre tap for each
    of its groups. Where a layer that expands has its inputs in dim 0 (transposed convolutions,
    Conv1D), its matrix is a partial identity, too. Bilinear layers, which the paper does not treat,
    start at zero. Embeddings start as in the other recipes.

    Args:
        network: the model

    Returns:
        A choice for each parameter of a module that is known.

    References:
        Zhao et al. 2022, arXiv:2110.12661, algorithms 1 and 2

    Example:
        >>> import pyinit
        >>> from torch import nn
        >>> layer = nn.Linear(2, 4)
        >>> report = pyinit.initialize_(layer, "zero")
        >>> print(report["weight"].initializer, "-", report["weight"].why)
        hadamard - more outputs than inputs
        >>> layer.weight.tolist()
        [[0.5, 0.5], [0.5, -0.5], [0.5, 0.5], [0.5, -0.5]]
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
    """The numbers of outputs and inputs that each group of a layer has."""
    first, second = site.shape[0] // site.weight.groups, site.shape[1]
    return (second, first) if site.weight.transposed else (first, second)
