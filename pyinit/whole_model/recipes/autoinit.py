"""The recipe ``autoinit``: signals followed through the network, analytically."""

import math
from collections.abc import Mapping

from pyinit._graph.graph import ActivationKind
from pyinit._graph.kinds import RECURRENT_LAYERS
from pyinit._graph.propagate import Fed, NoMomentsError, fed, scale_of
from pyinit.initializers import Initializer, Normal, Orthogonal, VarianceScaling, gain_of
from pyinit.whole_model.network import Network, Site
from pyinit.whole_model.recipes.choices import by_layer, of_each_matrix
from pyinit.whole_model.recipes.registry import Choice, Choices, register_recipe
from pyinit.whole_model.recipes.roles import Use


@register_recipe("autoinit", source="Bingham & Miikkulainen 2023")
def autoinit(network: Network, *, mean: float = 0.0, variance: float = 1.0) -> Choices:
    """Gives each layer's output mean 0 and variance 1, by the mean and variance that go through the network.

    From the input on, the distribution of single elements is followed through activations, pools,
    dropout, norms, sums and products, elements taken as independent. A layer's weights have mean 0 and
    variance 1 / (fan_in E[x^2]), truncated normal. Biases are 0, embeddings normal.

    Args:
        network: the model
        mean: the mean of its inputs
        variance: their variance

    Returns:
        A choice for each parameter of a module that is known.

    Raises:
        ValueError: if the variance is negative, if inputs of a layer are all 0, and for activations
            without a finite second moment.

    References:
        Bingham & Miikkulainen 2023, "AutoInit: Analytic signal-preserving weight initialization for
        neural networks", arXiv:2109.08958

    Example:
        >>> import pyinit
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))
        >>> for row in pyinit.initialize_(model, "autoinit", seed=0)[::2]:
        ...     print(row.name, row.initializer, "-", row.why)
        0.weight variance_scaling(scale=1) - inputs of mean 0 and variance 1
        3.weight variance_scaling(scale=1) - inputs of mean 0.3989 and variance 0.8408
    """
    known = signals(network, mean, variance)

    def weight(site: Site, use: Use) -> Choice:
        into = known.get(site.path)
        if into is None:
            return Choice(VarianceScaling(), f"{use.words}, whose inputs are not known")
        if isinstance(site.module, RECURRENT_LAYERS) and "weight_ih" not in site.leaf:
            return Choice(of_each_matrix(Orthogonal(), use.matrices), use.words)
        scaled: Initializer = VarianceScaling(float(f"{scale_for(site, into):.12g}"))
        why = f"inputs of mean {into.mean:.4g} and variance {into.variance:.4g}"
        return Choice(of_each_matrix(scaled, use.matrices), why)

    return by_layer(network, weight, Normal())


def signals(network: Network, mean: float = 0.0, variance: float = 1.0) -> Mapping[str, Fed]:
    """What goes into the layers of a network, by their paths.

    Where its forward cannot be traced, a layer's input is what the activation before it makes of a
    normal signal of variance 1, as far as the graph knows it.

    Raises:
        ValueError: for a mean and a variance that inputs cannot have, or that are 0.
    """
    if not (variance >= 0 and 0 < mean**2 + variance < math.inf):
        raise ValueError(
            "inputs need a finite mean, a variance of at least 0, and must not be 0, got the mean "
            f"{mean} and the variance {variance}"
        )
    try:
        known = fed(network.model, mean, variance)
    except NoMomentsError:
        raise
    except Exception:  # noqa: BLE001  a forward may raise anything on stand-ins
        known = {}
    before = network.graph.activation_before
    rest = {path: _behind(before.get(path)) for path in _paths(network) if path not in known}
    return {**rest, **known}


def _paths(network: Network) -> list[str]:
    return [site.path for site in network.sites if len(site.shape) > 1]


def scale_for(site: Site, into: Fed) -> float:
    """By which the variance 1 / fan_in is multiplied in a layer with these inputs.

    Raises:
        ValueError: if they are 0.
    """
    if not into.second > 0:
        raise ValueError(f"autoinit: all inputs of layer {site.path!r} are 0")
    return scale_of(site.module, into.second)


def _behind(activation: ActivationKind | None) -> Fed:
    """Behind an activation of which the gain is known; its mean is not."""
    second = 1.0 if activation is None else 1 / gain_of(activation.nonlinearity, activation.a) ** 2
    return Fed(0.0, second, second)
