"""Recipes: which initializer fills which parameter of a model.

A recipe is a table from module type to a rule; a rule names the fills of a module's parameters.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy

import pyinit.init
from pyinit._original import original
from pyinit._rng import Key

_CONSTANT = frozenset(("constant_", "ones_", "zeros_"))
_FIRST_ARGUMENTS = frozenset(("a", "b", "val"))
_BEYOND_TORCH = frozenset(("groups", "transposed"))


@dataclass(frozen=True)
class Fill:
    """One call of an initializer, on a whole parameter or on one row of it."""

    initializer: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    row: int | None = None

    def __str__(self) -> str:
        values = ", ".join(
            ("" if name in _FIRST_ARGUMENTS else f"{name}=")
            + (f"{value:.3g}" if isinstance(value, float) else str(value))
            for name, value in self.kwargs.items()
        )
        text = self.initializer + (f"({values})" if values else "")
        return text if self.row is None else f"row {self.row} {text}"

    def with_pyinit(self, tensor: Tensor, key: Key) -> None:
        generator = {} if self.initializer in _CONSTANT else {"generator": key}
        getattr(pyinit.init, self.initializer)(self._target(tensor), **self.kwargs, **generator)

    def with_torch(self, tensor: Tensor) -> None:
        kwargs = {name: v for name, v in self.kwargs.items() if name not in _BEYOND_TORCH}
        getattr(original, self.initializer)(self._target(tensor), **kwargs)

    def _target(self, tensor: Tensor) -> Tensor:
        return tensor if self.row is None else tensor.detach()[self.row]


Fills = tuple[Fill, ...]
Rule = Callable[[Any], Mapping[str, Fills]]
Rules = Mapping[type[nn.Module], Rule]


@dataclass(frozen=True)
class Step:
    """A parameter and the fills that initialize it; none leaves it as it was constructed."""

    name: str
    tensor: Tensor
    fills: Fills
    tied: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "; ".join(map(str, self.fills)) or "as constructed"

    @property
    def stream(self) -> int:
        digest = hashlib.blake2b(self.name.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little")

    def with_pyinit(self, seed: int) -> None:
        for fill in self.fills:
            fill.with_pyinit(self.tensor, Key(key=seed, stream=self.stream))

    def with_torch(self) -> None:
        for fill in self.fills:
            fill.with_torch(self.tensor)


def plan(model: nn.Module, rules: Rules) -> list[Step]:
    """One step for each parameter of ``model``, in the order of ``model.named_parameters()``.

    A module's rule overrides those of the modules inside it, as its constructor would. A parameter
    with several names (tied weights) goes by its first one.
    """
    fills: dict[str, Fills] = {}
    for path, module in reversed(list(model.named_modules())):
        prefix = path + "." if path else ""
        fills |= {prefix + name: value for name, value in _rule(module, rules)(module).items()}

    parameters: dict[int, tuple[Tensor, list[str]]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if is_lazy(parameter) or parameter.is_meta:
            raise ValueError(f"parameter {name} has no memory (lazy module or meta device)")
        parameters.setdefault(id(parameter), (parameter, []))[1].append(name)
    return [
        Step(names[0], parameter, _first(fills, names), tuple(names[1:]))
        for parameter, names in parameters.values()
    ]


def _rule(module: nn.Module, rules: Rules) -> Rule:
    return next((rules[cls] for cls in type(module).__mro__ if cls in rules), _nothing)


def _nothing(_: nn.Module) -> Mapping[str, Fills]:
    return {}


def _first(fills: Mapping[str, Fills], names: Iterable[str]) -> Fills:
    return next((fills[name] for name in names if name in fills), ())


def _inverse_sqrt(n: int) -> float:
    return 1 / math.sqrt(n) if n > 0 else 0.0


def _uniform(bound: float) -> Fills:
    return (Fill("uniform_", {"a": -bound, "b": bound}),)


_ZEROS: Fills = (Fill("zeros_"),)


def _kaiming_fan_in(module: nn.Linear | _ConvNd) -> Mapping[str, Fills]:
    return {
        "weight": (Fill("kaiming_uniform_", {"a": math.sqrt(5)}),),
        "bias": _uniform(_inverse_sqrt(math.prod(module.weight.shape[1:]))),
    }


def _bilinear(module: nn.Bilinear) -> Mapping[str, Fills]:
    return dict.fromkeys(("weight", "bias"), _uniform(_inverse_sqrt(module.in1_features)))


def _recurrent(module: nn.RNNBase | nn.RNNCellBase) -> Mapping[str, Fills]:
    bound = _inverse_sqrt(module.hidden_size)
    return {name: _uniform(bound) for name, _ in module.named_parameters()}


def _attention(_: nn.MultiheadAttention) -> Mapping[str, Fills]:
    weights = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
    return {
        **dict.fromkeys(weights, (Fill("xavier_uniform_"),)),
        **dict.fromkeys(("bias_k", "bias_v"), (Fill("xavier_normal_"),)),
        **dict.fromkeys(("in_proj_bias", "out_proj.bias"), _ZEROS),
    }


def _transformer(module: nn.Transformer) -> Mapping[str, Fills]:
    xavier = (Fill("xavier_uniform_"),)
    return {name: xavier for name, p in module.named_parameters() if p.dim() > 1}


def _embedding(std: float) -> Rule:
    def rule(module: nn.Embedding | nn.EmbeddingBag) -> Mapping[str, Fills]:
        fills: Fills = (Fill("normal_", {"std": std}),)
        if module.padding_idx is not None:
            fills += (Fill("zeros_", row=module.padding_idx),)
        return {"weight": fills}

    return rule


def _norm(_: nn.Module) -> Mapping[str, Fills]:
    return {"weight": (Fill("ones_"),), "bias": _ZEROS}


def _prelu(module: nn.PReLU) -> Mapping[str, Fills]:
    return {"weight": (Fill("constant_", {"val": module.init}),)}


_SCALES: Rules = {
    **dict.fromkeys((_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm), _norm),
    nn.PReLU: _prelu,
}

_DEFAULTS: Rules = {
    nn.Linear: _kaiming_fan_in,
    _ConvNd: _kaiming_fan_in,
    nn.Bilinear: _bilinear,
    nn.Embedding: _embedding(std=1.0),
    nn.EmbeddingBag: _embedding(std=1.0),
    nn.MultiheadAttention: _attention,
    nn.RNNBase: _recurrent,
    nn.RNNCellBase: _recurrent,
    nn.Transformer: _transformer,
    **_SCALES,
}


def _as_torch(cls: type[nn.Module]) -> Rule:
    """The default of ``cls``, for modules that have not replaced the method that carries it out."""
    reset = "reset_parameters" if hasattr(cls, "reset_parameters") else "_reset_parameters"

    def rule(module: nn.Module) -> Mapping[str, Fills]:
        inherited = getattr(type(module), reset) is getattr(cls, reset)
        return _DEFAULTS[cls](module) if inherited else {}

    return rule


def _weights(initializer: str, kwargs: Mapping[str, Any], *, true_fans: bool) -> Rule:
    def fans(module: nn.Module) -> dict[str, Any]:
        if not (true_fans and isinstance(module, _ConvNd)):
            return {}
        unusual = {"groups": module.groups != 1, "transposed": module.transposed}
        return {name: getattr(module, name) for name, holds in unusual.items() if holds}

    def rule(module: nn.Module) -> Mapping[str, Fills]:
        weights: Fills = (Fill(initializer, {**kwargs, **fans(module)}),)
        return {
            name: _ZEROS if "bias" in name else weights
            for name, _ in module.named_parameters(recurse=False)
        }

    return rule


def _one_for_all(initializer: str, *, true_fans: bool = False, **kwargs: Any) -> Rules:
    layers = (nn.Linear, _ConvNd, nn.Bilinear, nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase)
    return {
        **dict.fromkeys(layers, _weights(initializer, kwargs, true_fans=true_fans)),
        **dict.fromkeys((nn.Embedding, nn.EmbeddingBag), _embedding(std=0.02)),
        **_SCALES,
    }


RECIPES: dict[str, Rules] = {
    "torch": {cls: _as_torch(cls) for cls in _DEFAULTS},
    "normal": _one_for_all("normal_", std=0.02),
    "xavier": _one_for_all("xavier_uniform_", true_fans=True),
    # The default gain, leaky_relu with slope 0, is that of relu.
    "kaiming": _one_for_all("kaiming_normal_", true_fans=True),
    "orthogonal": _one_for_all("orthogonal_"),
}
