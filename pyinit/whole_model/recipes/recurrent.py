"""Recurrent layers as Keras starts them, and as is recommended for LSTMs."""

from collections.abc import Callable

from torch import nn

from pyinit.initializers import (
    ONES,
    ZEROS,
    Orthogonal,
    Parts,
    Uniform,
    XavierUniform,
)
from pyinit.whole_model.network import Network, Site
from pyinit.whole_model.recipes.layers import (
    Role,
    Use,
    by_layer,
    by_shape_alone,
    each_place,
    of_each_matrix,
    use_of,
)
from pyinit.whole_model.recipes.registry import Choice, Choices, register_recipe
from pyinit.whole_model.recipes.torch_defaults import torch_defaults

_RECURRENT = (nn.RNNBase, nn.RNNCellBase)
_LSTM = (nn.LSTM, nn.LSTMCell)

# The gates of torch's LSTM: input, forget, cell, output.
_FORGET_BIAS = Choice(Parts((ZEROS, ONES, ZEROS, ZEROS)), "forget gate open")


@register_recipe("keras", source="Keras 3, defaults of its layers")
def keras(network: Network) -> Choices:
    """Glorot uniform weights, orthogonal recurrent ones, unit forget bias, as in Keras.

    As Keras does, the gates of a recurrent layer are one matrix: Glorot's fans are its inputs and
    all of its gates' units, and the recurrent matrix is orthogonal as a whole. Nor do the fans of a
    convolution know of groups. Embeddings are uniform on [-0.05, 0.05).
    """

    def weight(site: Site, use: Use) -> Choice:
        if _is_recurrent(site):
            return Choice(Orthogonal(), "recurrent weights of all gates at once")
        if isinstance(site.module, nn.MultiheadAttention):
            return Choice(of_each_matrix(_GLOROT, use.matrices), use.words)
        return Choice(by_shape_alone(_GLOROT, site.weight), use.words)

    layers = by_layer(network, weight, Uniform(-0.05, 0.05))
    return {**layers, **_of_recurrent_layers(network, _forget_bias)}


_GLOROT = XavierUniform()


@register_recipe("lstm", source="Jozefowicz et al. 2015; Saxe et al. 2014")
def lstm(network: Network) -> Choices:
    """Recurrent layers: orthogonal recurrent weights for each gate, forget bias 1; the rest as torch.

    Input weights are Xavier uniform for each gate, the other biases 0.
    """

    def choose(site: Site, use: Use) -> Choice:
        if use.role is Role.BIAS:
            return _forget_bias(site, use) or Choice(ZEROS, "bias")
        initializer = Orthogonal() if _is_recurrent(site) else _GLOROT
        return Choice(of_each_matrix(initializer, use.matrices), use.words)

    return {**torch_defaults(network), **_of_recurrent_layers(network, choose)}


def _is_recurrent(site: Site) -> bool:
    return site.leaf.startswith("weight_hh")


def _forget_bias(site: Site, _: Use) -> Choice | None:
    """Of the two biases that torch adds up, the first."""
    is_first = isinstance(site.module, _LSTM) and site.leaf.startswith("bias_ih")
    return _FORGET_BIAS if is_first else None


def _of_recurrent_layers(
    network: Network, choose: Callable[[Site, Use], Choice | None]
) -> dict[str, Choice]:
    def choice(site: Site) -> Choice | None:
        use = use_of(site) if isinstance(site.module, _RECURRENT) else None
        return use and choose(site, use)

    return each_place(network, choice)
