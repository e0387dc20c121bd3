"""How recipes choose for many parameters at once, and what all but the weights start at."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from pyinit._graph.kinds import EMBEDDINGS, LSTMS, are_experts_transposed, is_expert_stack
from pyinit.initializers import (
    ONES,
    ZEROS,
    Constant,
    Initializer,
    KaimingNormal,
    KaimingUniform,
    Keep,
    LecunNormal,
    LecunUniform,
    Normal,
    Orthogonal,
    OwnReset,
    Padded,
    Parts,
    VarianceScaling,
    Weight,
    XavierNormal,
    XavierUniform,
    gain_of,
)
from pyinit.whole_model.network import Network, Site
from pyinit.whole_model.recipes.own_starts import keeps_its_own, own_start
from pyinit.whole_model.recipes.registry import Choice
from pyinit.whole_model.recipes.roles import Role, Use, use_of

# ---- From a function of one parameter to the choices for a network ----------------------------------


def each(network: Network, choose: Callable[[Site], Choice | None]) -> dict[str, Choice]:
    """The choices that a function makes; where it gives None, the parameter is left out.

    The function is not asked about parameters whose values only their own module knows.
    """
    choices: dict[str, Choice] = {}
    for site in network.sites:
        choice = own_start(site, network) if keeps_its_own(site) else choose(site)
        if choice is not None:
            choices[site.name] = choice
    return choices


def each_place(network: Network, choose: Callable[[Site], Choice | None]) -> dict[str, Choice]:
    """The same, where a tied parameter gets the first choice that is made for one of its places."""

    def first(site: Site) -> Choice | None:
        if not site.tied:
            return choose(site)
        choices = map(choose, places(site, network))
        return next((choice for choice in choices if choice is not None), None)

    return each(network, first)


def places(site: Site, network: Network) -> Iterator[Site]:
    """The site itself, and the further ones of a tied parameter."""
    yield site
    for name in site.tied:
        path, _, leaf = name.rpartition(".")
        if path in network.modules:
            yield Site(name, site.tensor, network.modules[path], path, leaf)


_EMBEDDING = Normal(std=0.02)


def by_layer(
    network: Network,
    weight: Callable[[Site, Use], Choice],
    embedding: Initializer = _EMBEDDING,
    experts: Initializer | None = None,
) -> dict[str, Choice]:
    """The choices that a function makes for weights, and ``all_but_weights`` for the others.

    Parameters without a known use get what their module's own reset gives them.

    experts: the initializer for each of the matrices that a mixture's experts hold in stacks
    """

    def choose(site: Site) -> Choice | None:
        use = use_of(site)
        if use is None:
            stacked = None if experts is None else of_experts(site, experts)
            return stacked or own_start(site, network)
        if use.role is Role.WEIGHT:
            return weight(site, use)
        return all_but_weights(site, use, embedding)

    return each_place(network, choose)


def of_experts(site: Site, each: Any) -> Choice | None:
    """The choice for a stack of experts' matrices, with the fans of one, and for their biases."""
    if not is_expert_stack(site.module):
        return None
    if len(site.shape) == 2 and "bias" in site.leaf:
        return Choice(ZEROS, "biases of experts")
    transposed = are_experts_transposed(site.module) if len(site.shape) == 3 else None
    if transposed is None:
        return None
    if hasattr(each, "batch_dims"):
        each = replace(each, batch_dims=1, transposed=transposed)
    return Choice(each, f"{site.shape[0]} experts, each a matrix")


# ---- Biases, norms, embeddings ----------------------------------------------------------------------

_FIXED: Mapping[Role, Choice] = {
    Role.BIAS: Choice(ZEROS, "bias"),
    Role.SCALE: Choice(ONES, "norm scale"),
    Role.SCALE_LESS_1: Choice(ZEROS, "norm scale, to which the norm adds 1"),
    Role.SHIFT: Choice(ZEROS, "norm shift"),
    Role.TOKEN: Choice(_EMBEDDING, "learned token"),
}


def all_but_weights(site: Site, use: Use, embedding: Initializer = _EMBEDDING) -> Choice | None:
    """Norm scales 1 and shifts 0, biases 0, slopes as constructed, and the embedding's initializer."""
    if use.role is Role.EMBEDDING:
        return Choice(padded(embedding, site.module), "embedding")
    if use.role is Role.SLOPE:
        return Choice(Constant(site.module.init), "slope")  # type: ignore[arg-type]
    return _FIXED.get(use.role)


_FORGET_BIAS = Choice(Parts((ZEROS, ONES, ZEROS, ZEROS)), "forget gate open")


def forget_bias(site: Site) -> Choice | None:
    """1 for an LSTM's forget gate, in the first of the two biases that torch adds; None elsewhere.

    The gates stand in the order input, forget, cell, output.
    """
    is_first = isinstance(site.module, LSTMS) and site.leaf.startswith("bias_ih")
    return _FORGET_BIAS if is_first else None


def padded(initializer: Initializer, embedding: nn.Module) -> Initializer:
    """The initializer of an embedding's table, with zeros in the row for padding if it has one."""
    row: Any = embedding.padding_idx
    return initializer if row is None else Padded(initializer, row)


def with_padding(choice: Choice, site: Site, network: Network) -> Choice:
    """The choice, with zeros in the row for padding if the parameter is an embedding's, too."""
    if isinstance(choice.initializer, (Padded, Keep, OwnReset)):
        return choice
    for place in places(site, network) if site.tied else (site,):
        if place.leaf == "weight" and isinstance(place.module, EMBEDDINGS):
            choice = choice._replace(initializer=padded(choice.initializer, place.module))
            if isinstance(choice.initializer, Padded):
                return choice
    return choice


# ---- Weights ----------------------------------------------------------------------------------------


def of_each_matrix(initializer: Initializer, matrices: int) -> Initializer:
    """The initializer for each of the matrices that stand one after the other in dim 0."""
    return initializer if matrices == 1 else Parts((initializer,) * matrices)


def scaled(initializer: Initializer, factor: float) -> Initializer:
    """The initializer with values that are multiplied by a factor, for those that scale by fans.

    Raises:
        TypeError: for another initializer.
    """
    if isinstance(initializer, (XavierUniform, XavierNormal, Orthogonal)):
        return replace(initializer, gain=initializer.gain * factor)
    if isinstance(initializer, (KaimingUniform, KaimingNormal)):
        gain = gain_of(initializer.nonlinearity, initializer.a)
        return replace(initializer, a=0.0, nonlinearity=gain * factor)
    if isinstance(initializer, VarianceScaling):
        return replace(initializer, scale=initializer.scale * factor**2)
    if isinstance(initializer, (LecunNormal, LecunUniform)):
        kind = "uniform" if isinstance(initializer, LecunUniform) else "truncated_normal"
        return VarianceScaling(factor**2, distribution=kind)
    raise TypeError(f"no initializer that scales by fans: {initializer}")


def by_shape_alone(initializer: Initializer, weight: Weight) -> Initializer:
    """The initializer with the fans that torch computes: without groups, and with inputs in dim 1."""
    if weight.groups == 1 and not weight.transposed:
        return initializer
    blocks = initializer.resolve(Weight(weight.shape))
    return initializer if blocks == initializer.resolve(weight) else blocks[0].drawn
