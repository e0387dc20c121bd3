"""What torch's own modules start with."""

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from torch import nn
from torch.nn.modules.conv import _ConvNd

from pyinit.initializers import (
    ZEROS,
    Initializer,
    KaimingUniform,
    Normal,
    OwnReset,
    Uniform,
    XavierNormal,
    XavierUniform,
)
from pyinit.whole_model.network import Network, Site
from pyinit.whole_model.recipes.layers import (
    NORMS,
    Role,
    all_but_weights,
    by_shape_alone,
    each_place,
    listed,
    padded,
    use_of,
)
from pyinit.whole_model.recipes.registry import Choice, Choices, register_recipe


@register_recipe("torch", source="PyTorch 2.13, reset_parameters of its modules")
def torch_defaults(network: Network) -> Choices:
    """Each module's own default distribution.

    That of torch's modules, with fans as torch computes them, and of transformers' Conv1D. What an
    ``nn.Transformer`` and an ``nn.MultiheadAttention`` reset in the modules inside them is as they
    leave it. Norms that torch does not have, known by a class name that ends with Norm, get scale 1
    and shift 0. Other modules that have a ``reset_parameters`` of their own are reset by it.
    Parameters of modules without one stay as constructed.
    """
    transformers = _prefixes(network, nn.Transformer)
    out_biases = {prefix + "out_proj.bias" for prefix in _prefixes(network, nn.MultiheadAttention)}

    def choose(site: Site) -> Choice | None:
        if site.name.startswith(transformers) and len(site.shape) > 1:
            return Choice(by_shape_alone(_XAVIER, site.weight), "Transformer's default")
        if site.name in out_biases:
            return Choice(ZEROS, "MultiheadAttention's default")
        return _own(site, network)

    return each_place(network, choose)


def _prefixes(network: Network, cls: type[nn.Module]) -> tuple[str, ...]:
    """Of the names of all parameters in modules that such a class resets."""
    return tuple(
        path + "." if path else ""
        for path, module in network.modules.items()
        if isinstance(module, cls) and not _replaces_reset(type(module), cls)
    )


def _own(site: Site, network: Network) -> Choice | None:
    """By the module that owns the parameter alone."""
    kind = _kind(type(site.module))  # type: ignore[arg-type]  # classes are hashable
    if kind.own_reset is not None:
        return kind.own_reset
    if kind.rule is None:
        return _by_role(site)
    initializer = kind.rule(site, network)
    return None if initializer is None else Choice(initializer, kind.why)


class _Kind(NamedTuple):
    """What is to be known of a class of modules."""

    rule: "_Rule | None"
    own_reset: Choice | None
    why: str


@lru_cache(maxsize=256)
def _kind(cls: type[nn.Module]) -> _Kind:
    base = listed(cls, _RULES)
    own = Choice(OwnReset(), f"its own {_reset_name(cls)}") if _replaces_reset(cls, base) else None
    return _Kind(None if base is None else _RULES[base], own, f"{cls.__name__}'s default")


def _default_of(module: nn.Module) -> str:
    return f"{type(module).__name__}'s default"


def _replaces_reset(cls: type[nn.Module], base: type[nn.Module] | None) -> bool:
    """Whether such modules have a method to reset them that is not the one of ``base``."""
    name = _reset_name(cls)
    return name is not None and getattr(cls, name) is not getattr(base, name, None)


def _reset_name(cls: type[nn.Module]) -> str | None:
    return next(
        (name for name in ("reset_parameters", "_reset_parameters") if hasattr(cls, name)), None
    )


def _by_role(site: Site) -> Choice | None:
    """Of norms, of PReLU, and of modules that torch does not have."""
    use = use_of(site)
    if use is None:
        return None
    if use.role is Role.WEIGHT:  # transformers' Conv1D
        return Choice(Normal(std=0.02), _default_of(site.module))
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
_RULES: Mapping[type[nn.Module], _Rule | None] = {
    **dict.fromkeys((nn.Linear, _ConvNd), _kaiming),
    nn.Bilinear: _bilinear,
    **dict.fromkeys((nn.Embedding, nn.EmbeddingBag), _embedding),
    nn.MultiheadAttention: _attention,
    **dict.fromkeys((nn.RNNBase, nn.RNNCellBase), _recurrent),
    **dict.fromkeys((*NORMS, nn.PReLU), None),
}
