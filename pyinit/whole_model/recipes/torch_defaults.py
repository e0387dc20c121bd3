"""The recipe ``torch``: what torch's own modules start with."""

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from torch import nn
from torch.nn.modules.conv import _ConvNd

from pyinit._graph.kinds import EMBEDDINGS, NORMS, RECURRENT_LAYERS, nearest_base
from pyinit.initializers import (
    ZEROS,
    Initializer,
    KaimingUniform,
    Normal,
    Uniform,
    XavierNormal,
    XavierUniform,
)
from pyinit.whole_model.network import Network, Site
from pyinit.whole_model.own_resets import reset_name
from pyinit.whole_model.recipes.choices import (
    all_but_weights,
    by_shape_alone,
    each_place,
    padded,
)
from pyinit.whole_model.recipes.own_starts import own_start
from pyinit.whole_model.recipes.registry import Choice, Choices, register_recipe
from pyinit.whole_model.recipes.roles import Role, use_of


@register_recipe("torch", source="PyTorch 2.13, reset_parameters of its modules")
def torch_defaults(network: Network) -> Choices:
    """Gives each module the distribution that it has by default.

    Modules of torch, and transformers' Conv1D, start as their ``reset_parameters`` leaves them, with
    the fans that torch computes; so do the modules inside of an ``nn.Transformer`` and an
    ``nn.MultiheadAttention``, which reset some of these anew. A module that has a
    ``reset_parameters`` of its own is reset by it. A norm that torch does not have, known by a class
    name that ends with Norm, gets scale 1 and shift 0. What else a model starts by an ``_init_weights``
    of its own, as those of transformers do, is reset by that. All other parameters stay as constructed.

    Args:
        network: the model

    Returns:
        A choice for each parameter of a module that is known.

    References:
        PyTorch 2.13, ``reset_parameters`` of its modules

    Example:
        >>> import pyinit
        >>> from torch import nn
        >>> report = pyinit.initialize_(nn.Linear(4, 2), "torch", seed=0)
        >>> for row in report:
        ...     print(row.name, row.initializer, "-", row.why)
        weight kaiming_uniform(a=2.236) - Linear's default
        bias uniform(a=-0.5, b=0.5) - Linear's default
    """
    transformers = _prefixes(network, nn.Transformer)
    out_biases = {prefix + "out_proj.bias" for prefix in _prefixes(network, nn.MultiheadAttention)}

    def choose(site: Site) -> Choice | None:
        if transformers and site.name.startswith(transformers) and len(site.shape) > 1:
            return Choice(by_shape_alone(_XAVIER, site.weight), "Transformer's default")
        if site.name in out_biases:
            return Choice(ZEROS, "MultiheadAttention's default")
        return _own(site, network) or own_start(site, network)

    return each_place(network, choose)


def _prefixes(network: Network, cls: type[nn.Module]) -> tuple[str, ...]:
    """The prefixes of names of parameters that a class resets in its modules and inside of them."""
    return tuple(
        path + "." if path else ""
        for path, module in network.modules.items()
        if isinstance(module, cls) and not _replaces_reset(type(module), cls)
    )


def _own(site: Site, network: Network) -> Choice | None:
    """The default of the module that owns the parameter, whatever holds that module."""
    reset = _reset_of(type(site.module))  # type: ignore[arg-type]  # classes are hashable
    if reset.is_own:
        return own_start(site, network)
    if reset.rule is None:
        return _by_role(site)
    initializer = reset.rule(site, network)
    return None if initializer is None else Choice(initializer, reset.why)


class _Reset(NamedTuple):
    """How the modules of a class reset their parameters.

    rule: gives the initializer of a parameter; None where the parameter's role decides
    is_own: whether the class has a ``reset_parameters`` of its own, which decides for all
    why: what a report says of the rule's choices
    """

    rule: "_Rule | None"
    is_own: bool
    why: str


@lru_cache(maxsize=256)
def _reset_of(cls: type[nn.Module]) -> _Reset:
    base = nearest_base(cls, _RULES)
    rule = None if base is None else _RULES[base]
    return _Reset(rule, _replaces_reset(cls, base), f"{cls.__name__}'s default")


def _replaces_reset(cls: type[nn.Module], base: type[nn.Module] | None) -> bool:
    """Whether a class has a method to reset its modules that it did not inherit from ``base``."""
    name = reset_name(cls)
    return name is not None and getattr(cls, name) is not getattr(base, name, None)


def _by_role(site: Site) -> Choice | None:
    """The choice for parameters of norms, of PReLU, and of modules that torch does not have."""
    use = use_of(site)
    if use is None:
        return None
    if use.role is Role.WEIGHT:  # transformers' Conv1D
        return Choice(Normal(std=0.02), f"{type(site.module).__name__}'s default")
    return all_but_weights(site, use)


_KAIMING = KaimingUniform(a=math.sqrt(5))
_XAVIER = XavierUniform()


@lru_cache(maxsize=256)
def _uniform(fan: Any) -> Uniform:
    bound = 1 / math.sqrt(fan) if fan > 0 else 0.0
    return Uniform(-bound, bound)


def _kaiming(site: Site, network: Network) -> Initializer | None:
    if site.leaf == "weight":
        return by_shape_alone(_KAIMING, site.weight)
    if site.leaf != "bias":
        return None
    weight = network.by_name.get(site.name.removesuffix("bias") + "weight")
    shape: Any = site.module.weight.shape if weight is None else weight.shape
    return _uniform(math.prod(shape[1:]))


def _bilinear(site: Site, _: Network) -> Initializer | None:
    return _uniform(site.module.in1_features) if site.leaf in ("weight", "bias") else None


def _embedding(site: Site, _: Network) -> Initializer | None:
    return padded(Normal(), site.module) if site.leaf == "weight" else None


def _recurrent(site: Site, _: Network) -> Initializer | None:
    return _uniform(site.module.hidden_size)


_ATTENTION: Mapping[str, Initializer] = {
    **dict.fromkeys(("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"), _XAVIER),
    "in_proj_bias": ZEROS,
    **dict.fromkeys(("bias_k", "bias_v"), XavierNormal()),
}


def _attention(site: Site, _: Network) -> Initializer | None:
    return _ATTENTION.get(site.leaf)


_Rule = Callable[[Site, Network], Initializer | None]
_RULES: Mapping[type, _Rule | None] = {
    **dict.fromkeys((nn.Linear, _ConvNd), _kaiming),
    nn.Bilinear: _bilinear,
    **dict.fromkeys(EMBEDDINGS, _embedding),
    nn.MultiheadAttention: _attention,
    **dict.fromkeys(RECURRENT_LAYERS, _recurrent),
    **dict.fromkeys((*NORMS, nn.PReLU), None),
}
