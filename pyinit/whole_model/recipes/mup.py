"""The maximal update parametrization: initializers that keep their hyperparameters at any width."""

import math
from collections.abc import Mapping

from torch import nn

from pyinit.initializers import ZEROS, Normal, Weight
from pyinit.whole_model.network import Network, Site
from pyinit.whole_model.recipes.choices import each_place, padded
from pyinit.whole_model.recipes.registry import Choice, Choices, register_recipe
from pyinit.whole_model.recipes.roles import Role, use_of
from pyinit.whole_model.recipes.torch_defaults import torch_defaults

Shape = tuple[int, ...]


@register_recipe("mup", source="Yang et al. 2021, Tensor Programs V, arXiv:2203.03466, table 3")
def mup(
    network: Network,
    *,
    base: nn.Module | Mapping[str, Shape] | None = None,
    sigma: float = 1.0,
    readout_zero_init: bool = True,
) -> Choices:
    """Scales weights so that hyperparameters of a narrow model hold for a wide one (maximal update).

    The dimensions that grow are those in which a weight differs from the same weight of ``base``.
    Input weights, of which only the outputs grow, and hidden weights, of which both dimensions grow,
    are normal of sigma / sqrt(fan_in). Embeddings are normal of 1, biases 0, and all other vectors as
    torch's default. Output weights, of which only the inputs grow, are 0, or else divided by the
    width multiplier itself, not by its root.

    A recipe can only initialize; the rest of the parametrization is up to the program. With Adam it
    has to divide the learning rates of hidden and output weights by the width multiplier, and its
    attention has to divide by the width of a head, not by its root.

    Args:
        network: the model
        base: a model of the same architecture, narrower than all that are trained (it may be on the
            meta device), or the shapes of its parameters by their names
        sigma: the standard deviation of the weights times sqrt(fan_in)
        readout_zero_init: whether output weights start at 0, as the authors recommend

    Returns:
        A choice for each parameter of a module that is known.

    Raises:
        ValueError: without a base, or if the base's parameters differ in name or dimensions.

    References:
        Yang et al. 2021, Tensor Programs V, arXiv:2203.03466, table 3

    Example:
        >>> import pyinit
        >>> from torch import nn
        >>> def mlp(width):
        ...     return nn.Sequential(nn.Linear(8, width), nn.Linear(width, width), nn.Linear(width, 2))
        >>> recipe = pyinit.recipe("mup", base=mlp(16))
        >>> for row in pyinit.initialize_(mlp(64), recipe, seed=0):
        ...     if "weight" in row.name:
        ...         print(row.initializer, "-", row.why)
        normal(std=0.3536) - input, width x4
        normal(std=0.125) - hidden, width x4
        constant(val=0) - output, width x4
    """
    given = _shapes(base)
    shapes = {name: _shape_in_base(site, given) for name, site in network.by_name.items()}

    def choose(site: Site) -> Choice | None:
        use = use_of(site)
        role = use.role if use else None
        if role is Role.EMBEDDING:
            return _embedding(site, shapes[site.name])
        if role is Role.WEIGHT:
            return _layer(site, shapes[site.name], sigma, readout_zero_init)
        return Choice(ZEROS, "bias") if role is Role.BIAS else None

    return {**torch_defaults(network), **each_place(network, choose)}


def _shapes(base: nn.Module | Mapping[str, Shape] | None) -> Mapping[str, Shape]:
    if isinstance(base, nn.Module):
        return {name: site.shape for name, site in Network(base).by_name.items()}
    if isinstance(base, Mapping):
        return {name: tuple(shape) for name, shape in base.items()}
    raise ValueError(
        "recipe 'mup' needs base=, a narrower model of the same architecture (it may be built under "
        f"torch.device('meta')) or the shapes of its parameters by name; got {base!r}"
    )


def _shape_in_base(site: Site, shapes: Mapping[str, Shape]) -> Shape:
    """The shape that the same parameter has in the base."""
    shape = shapes.get(site.name)
    if shape is None:
        raise ValueError(f"base has no parameter {site.name}")
    if len(shape) != len(site.shape):
        raise ValueError(
            f"base: parameter {site.name} has shape {shape} there and {site.shape} in the model; "
            "both must have as many dimensions"
        )
    return shape


def _embedding(site: Site, base: Shape) -> Choice:
    why = f"embedding, input, width x{_ratio(site.shape[1], base[1])}"
    if site.tied:
        why += "; the output shares it: divide the logits by the width multiplier"
    return Choice(padded(Normal(0.0, 1.0), site.module), why)


def _layer(site: Site, base: Shape, sigma: float, readout_zero_init: bool) -> Choice:
    outputs, inputs = (1, 0) if site.weight.transposed else (0, 1)
    fan_in, base_fan_in = (w.fans[0] for w in (site.weight, Weight(base, *site.weight[1:])))
    grow_in, grow_out = (site.shape[dim] != base[dim] for dim in (inputs, outputs))
    if grow_in and not grow_out:
        why = f"output, width x{_ratio(fan_in, base_fan_in)}"
        std = sigma * math.sqrt(base_fan_in) / fan_in
        return Choice(ZEROS if readout_zero_init else Normal(0.0, std), why)
    grown = inputs if grow_in else outputs
    kind = "hidden" if grow_in else "input" if grow_out else "fixed"
    why = f"{kind}, width x{_ratio(site.shape[grown], base[grown])}"
    return Choice(Normal(0.0, sigma / math.sqrt(fan_in)), why)


def _ratio(wide: int, narrow: int) -> str:
    return f"{wide / narrow:.4g}" if narrow else "?"
