"""Formulas of initialization as some articles print them, beside what the derivations give.

Each function fills all weights of a network and sets biases to 0.
"""

import math
from collections.abc import Callable

from torch import nn

from pyinit._scale.fans import fans
from pyinit.initializers import Initializer, Normal, Uniform, XavierNormal
from pyinit.whole_model.initialize import initialize_
from pyinit.whole_model.rules import Rule

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def he_printed(model: nn.Module, _: object, seed: int) -> None:
    """He with a standard deviation of 2/sqrt(n_in), where the derivation gives sqrt(2/n_in).

    Args:
        model: the network
        seed: the seed of the weights

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from pyinit.studies.printed import he_printed
        >>> layer = nn.Linear(400, 400)
        >>> he_printed(layer, None, seed=0)
        >>> round(float(layer.weight.std()), 2)
        0.1
    """
    _fill(model, seed, lambda inputs, _: Normal(std=2 / math.sqrt(inputs)))


def xavier_normal(model: nn.Module, _: object, seed: int) -> None:
    """Xavier's normal distribution as it is derived: variance 2/(n_in + n_out).

    Args:
        model: the network
        seed: the seed of the weights
    """
    _fill(model, seed, lambda *_: XavierNormal())


def xavier_as_std(model: nn.Module, _: object, seed: int) -> None:
    """N(0, 1/sqrt(n_in)), with the second number read as a standard deviation: LeCun's variance of 1/n_in.

    Args:
        model: the network
        seed: the seed of the weights
    """
    _fill(model, seed, lambda inputs, _: Normal(std=1 / math.sqrt(inputs)))


def xavier_as_variance(model: nn.Module, _: object, seed: int) -> None:
    """N(0, 1/sqrt(n_in)), with the second number read as a variance, as N(mean, variance) is in mathematics.

    Args:
        model: the network
        seed: the seed of the weights
    """
    _fill(model, seed, lambda inputs, _: Normal(std=inputs**-0.25))


def xavier_uniform_printed(model: nn.Module, _: object, seed: int) -> None:
    """U(-b, b) with b = sqrt(6/(n_in + n_out)), which is Xavier's uniform distribution as it is derived.

    Args:
        model: the network
        seed: the seed of the weights
    """

    def uniform(inputs: int, outputs: int) -> Initializer:
        bound = math.sqrt(6 / (inputs + outputs))
        return Uniform(-bound, bound)

    _fill(model, seed, uniform)


def _fill(model: nn.Module, seed: int, of: Callable[[int, int], Initializer]) -> None:
    """Fill weights by a function of n_in and n_out, which count all taps of a convolution."""
    rules = [
        Rule(f"{name}.weight" if name else "weight", of(*fans(layer.weight.shape)))
        for name, layer in model.named_modules()
        if isinstance(layer, _LAYERS)
    ]
    initialize_(model, "kaiming", rules=rules, seed=seed)
