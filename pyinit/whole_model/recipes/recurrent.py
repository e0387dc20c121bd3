"""Recipes of recurrent layers: Keras' defaults, and what is recommended for LSTMs."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from pyinit._graph.kinds import RECURRENT_LAYERS
from pyinit.initializers import ZEROS, Initializer, Orthogonal, Uniform, XavierUniform
from pyinit.initializers.keras_names import read_keras
from pyinit.whole_model.network import Network, Site
from pyinit.whole_model.recipes.choices import (
    by_layer,
    by_shape_alone,
    each_place,
    forget_bias,
    of_each_matrix,
)
from pyinit.whole_model.recipes.registry import Choice, Choices, register_recipe
from pyinit.whole_model.recipes.roles import Role, Use, use_of
from pyinit.whole_model.recipes.torch_defaults import torch_defaults

_GLOROT = XavierUniform()


def _kernel(kernel: str | Mapping[str, Any]) -> Initializer:
    if kernel == "GlorotUniform":
        return _GLOROT
    return read_keras(kernel)


@register_recipe("keras", source="Keras 3, defaults of its layers")
def keras(network: Network, *, kernel: str | Mapping[str, Any] = "GlorotUniform") -> Choices:
    """Draws Glorot uniform weights and orthogonal recurrent ones, with forget bias 1, as Keras does.

    Keras takes the gates of a recurrent layer for one matrix: Glorot's fans are the layer's inputs
    and the units of all gates together, and the recurrent matrix is orthogonal as a whole. It leaves
    the groups of a convolution out of the fans. Embeddings are uniform on [-0.05, 0.05).

    Args:
        network: the model
        kernel: Keras's name of the initializer of the weights of layers that are not recurrent; or, to
            give it options, a table of these and the ``name``, or what Keras's ``serialize`` makes of it

    Returns:
        A choice for each parameter of a module that is known.

    Raises:
        ValueError: for a name that Keras does not have.

    References:
        The defaults of the layers of Keras 3; Glorot & Bengio 2010; Jozefowicz et al. 2015

    Example:
        >>> import pyinit
        >>> from torch import nn
        >>> report = pyinit.initialize_(nn.GRU(4, 4), "keras", seed=0)
        >>> print(report["weight_hh_l0"].initializer)
        orthogonal
    """
    initializer = _kernel(kernel)

    def weight(site: Site, use: Use) -> Choice:
        if _is_recurrent(site):
            return Choice(Orthogonal(), "recurrent weights of all gates at once")
        if isinstance(site.module, nn.MultiheadAttention):
            return Choice(of_each_matrix(initializer, use.matrices), use.words)
        return Choice(by_shape_alone(initializer, site.weight), use.words)

    layers = by_layer(network, weight, Uniform(-0.05, 0.05))
    return {**layers, **_of_recurrent_layers(network, lambda site, _: forget_bias(site))}


@register_recipe("lstm", source="Jozefowicz et al. 2015; Saxe et al. 2014")
def lstm(network: Network) -> Choices:
    """Makes the recurrent weights of each gate orthogonal and the forget bias 1; all else is torch's.

    The input weights of recurrent layers are Xavier uniform for each gate, and their other biases
    are 0. All other layers are as in the recipe ``torch``.

    Args:
        network: the model

    Returns:
        A choice for each parameter of a module that is known.

    References:
        Jozefowicz et al. 2015 (the forget gate's bias); Saxe et al. 2014, arXiv:1312.6120

    Example:
        >>> import pyinit
        >>> from torch import nn
        >>> lstm = nn.LSTM(4, 2)
        >>> report = pyinit.initialize_(lstm, "lstm", seed=0)
        >>> lstm.bias_ih_l0.tolist()  # input, forget, cell and output gate
        [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    """

    def choose(site: Site, use: Use) -> Choice:
        if use.role is Role.BIAS:
            return forget_bias(site) or Choice(ZEROS, "bias")
        initializer = Orthogonal() if _is_recurrent(site) else _GLOROT
        return Choice(of_each_matrix(initializer, use.matrices), use.words)

    return {**torch_defaults(network), **_of_recurrent_layers(network, choose)}


def _is_recurrent(site: Site) -> bool:
    return site.leaf.startswith("weight_hh")


def _of_recurrent_layers(
    network: Network, choose: Callable[[Site, Use], Choice | None]
) -> dict[str, Choice]:
    """The choices that a function makes for the parameters of recurrent layers."""

    def choice(site: Site) -> Choice | None:
        use = use_of(site) if isinstance(site.module, RECURRENT_LAYERS) else None
        return use and choose(site, use)

    return each_place(network, choice)
