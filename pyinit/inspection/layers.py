"""A model's layers, as a pass meets them: modules with parameters, and functions of parameters."""

import functools
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from pyinit._graph import activations
from pyinit._graph.kinds import EMBEDDINGS, PARAMETER_HOLDERS, RECURRENT_LAYERS, is_layer, is_norm
from pyinit._torch.original import functional
from pyinit.whole_model.rules.patterns import Matcher, Regex, matcher


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer of a model.

    name: the module's qualified name; of a function, the name of its weight without ``.weight``, or,
        if it has no parameter, the name of the module that calls it and its own
    module: the module; of a function, the one that owns the weight, or else calls it
    kind: ``"linear"``, ``"conv"``, ``"embedding"``, ``"norm"``, ``"recurrent"``, ``"attention"``,
        ``"activation"``; ``"composite"`` for a module with parameters and with modules that have some;
        ``"other"``
    parameters: those that it uses itself, by qualified name; of a parametrized one the originals
    tied: further names of the module
    function: whether it is a function, and no module
    """

    name: str
    module: nn.Module
    kind: str
    parameters: Mapping[str, nn.Parameter]
    tied: tuple[str, ...] = ()
    function: bool = False
    originals = ()


def has_parameters(layer: Layer) -> bool:
    """For ``layers=``: what owns parameters, as in ``layers=[has_parameters, is_activation]``."""
    return bool(layer.parameters)


def is_activation(layer: Layer) -> bool:
    """For ``layers=``: activations, be they modules or functions."""
    return layer.kind == "activation"


WITH_ACTIVATIONS = (has_parameters, is_activation)
"""What is looked at where signals are measured, if nothing else is asked for."""


class Layers:
    """All layers that are modules, and those that are functions as they are met.

    paths: the qualified names of modules
    by_module: layers by module, in the order of modules
    """

    def __init__(self, model: nn.Module, patterns: Any) -> None:
        self._matches = None if patterns is None else _matcher(patterns)
        self.paths: dict[nn.Module, list[str]] = {}
        self._own: dict[nn.Module, dict[str, nn.Parameter]] = {}
        self._uses: dict[int, list[tuple[str, nn.Module]]] = {}
        self._places: dict[str, tuple[nn.Module, str]] = {}
        self._inside: set[nn.Module] = set()  # parametrizations, which are parts of their module
        self._read(model, "", None)
        self.by_module = {module: self._layer(module) for module in self.paths}
        self._functions: dict[str, Layer] = {}
        self.refuse_unmatched(self._known(), _is_checkable)

    def selects(self, layer: Layer) -> bool:
        """Whether it is to be visited."""
        if layer.module in self._inside:
            return False
        if self._matches is None:
            return bool(layer.parameters)
        return self._matches(cast(Any, layer))  # which has what matchers ask of a Site

    @property
    def modules(self) -> list[Layer]:
        """Those that are modules, and not parts of one."""
        return [layer for layer in self.by_module.values() if layer.module not in self._inside]

    @property
    def by_default(self) -> bool:
        return self._matches is None

    def function(
        self, func: Any, args: Iterable[Any], kwargs: Mapping[str, Any], open_: list[nn.Module]
    ) -> Layer | None:
        """The layer that a call of a function of torch's is; None if it is none, or a module's own.

        open_: the modules whose forward runs, the innermost last
        """
        kind = _kind_of_function(func)
        if kind is None:
            return None
        used = [
            tensor for each in (*args, *kwargs.values()) for tensor in self._parameters_in(each)
        ]
        if used:
            return self._function_of(used, kind, open_)
        if self._matches is None or kind not in ("activation", "attention") or not open_:
            return None
        caller = open_[-1]
        if caller in self._inside or self.by_module[caller].kind == kind:
            return None
        path = self.paths[caller][0]
        name = func.__name__.strip("_")
        name = f"{path}.{name}" if path else name
        return self._remembered(name, lambda: Layer(name, caller, kind, {}, function=True))

    def used(self, args: Iterable[Any], kwargs: Mapping[str, Any]) -> Iterator[int]:
        """The identities of parameters among arguments."""
        for each in (*args, *kwargs.values()):
            yield from map(id, self._parameters_in(each))

    def unused(self, used: set[int], called: set[nn.Module]) -> list[str]:
        """The names of layers that were not called and none of whose parameters took part."""
        return [
            layer.name
            for module, layer in self.by_module.items()
            if layer.parameters
            and module not in called
            and not any(id(parameter) in used for parameter in layer.parameters.values())
        ]

    def held(self, layer: Layer) -> list[tuple[str, nn.Parameter | None]]:
        """What is in the places of its parameters: ``torch.func.functional_call`` puts others there."""
        places = ((name, *self._places[name]) for name in layer.parameters)
        return [(name, module._parameters.get(leaf)) for name, module, leaf in places]

    # ---- reading a model --------------------------------------------------------------------------

    def _read(self, module: nn.Module, path: str, owner: nn.Module | None) -> None:
        """owner: the module that the parameters here are part of, if not this one"""
        self.paths.setdefault(module, []).append(path)
        holder = owner or module
        own = self._own.setdefault(holder, {})
        if owner is not None:
            self._inside.add(module)
        for leaf, parameter in module._parameters.items():
            if parameter is not None:
                name = f"{path}.{leaf}" if path else leaf
                if len(self.paths[module]) == 1:
                    own[name] = parameter
                    self._places[name] = module, leaf
                self._uses.setdefault(id(parameter), []).append((name, holder))
        for name, child in module._modules.items():
            if child is not None:
                is_part = owner is not None or isinstance(child, PARAMETER_HOLDERS)
                is_part |= name == "parametrizations" and parametrize.is_parametrized(module)
                self._read(child, f"{path}.{name}" if path else name, holder if is_part else None)

    def _layer(self, module: nn.Module) -> Layer:
        first, *tied = self.paths[module]
        own = self._own.get(module, {})
        return Layer(first, module, self._kind(module), own, tuple(tied))

    def _kind(self, module: nn.Module) -> str:
        kind = next((kind for is_so, kind in _KINDS if is_so(module)), None)
        if kind is not None:
            return kind
        return "composite" if self._own.get(module) and self._has_layers(module) else "other"

    def _has_layers(self, module: nn.Module) -> bool:
        inner = (each for each in module.modules() if each is not module)
        return any(self._own.get(each) for each in inner if each not in self._inside)

    @functools.cached_property
    def _plain(self) -> set[nn.Module]:
        """Modules beside whose own call functions of their parameters are nothing."""
        return {module for module in self.by_module if self._is_plain(module)}

    def _is_plain(self, module: nn.Module) -> bool:
        parametrized = set(getattr(module, "parametrizations", ()))
        own = self._own.get(module, {})
        weights = {
            leaf
            for name, parameter in own.items()
            for leaf in [_leaf(name, parametrized)]
            if parameter.dim() >= 2 or leaf in parametrized
        }
        if {"weight_g", "weight_v"} <= {name.rpartition(".")[2] for name in own}:
            weights -= {"weight_g"}  # of torch's older weight norm
        return len(weights - {"bias"}) <= 1 and not self._has_layers(module)

    # ---- functions --------------------------------------------------------------------------------

    def _parameters_in(self, value: Any) -> Iterator[nn.Parameter]:
        """Parameters and views of parameters."""
        if isinstance(value, Tensor):
            if id(value) in self._uses:
                yield cast(nn.Parameter, value)
            elif value._is_view() and id(value._base) in self._uses:
                yield cast(nn.Parameter, value._base)
        elif isinstance(value, (tuple, list)):
            for each in value:
                if isinstance(each, Tensor):
                    yield from self._parameters_in(each)

    def _function_of(
        self, used: list[nn.Parameter], kind: str, open_: list[nn.Module]
    ) -> Layer | None:
        for parameter in used:
            owners = {module for _, module in self._uses[id(parameter)]}
            for module in open_:
                if module in owners and module in self._plain:
                    self._learn(module, kind)
                    return None
        weight = next((each for each in used if each.dim() >= 2), used[0])
        name, owner = self._uses[id(weight)][0]
        name = name.removesuffix(".weight")
        parameters = {self._uses[id(each)][0][0]: each for each in used}
        return self._remembered(name, lambda: Layer(name, owner, kind, parameters, function=True))

    def _learn(self, module: nn.Module, kind: str) -> None:
        """What the one function of a module says of a class that nothing is known about."""
        layer = self.by_module[module]
        if layer.kind == "other":
            self.by_module[module] = replace(layer, kind=kind)

    def _remembered(self, name: str, make: Callable[[], Layer]) -> Layer:
        layer = self._functions.get(name)
        if layer is None:
            layer = self._functions[name] = make()
        return layer

    # ---- patterns ---------------------------------------------------------------------------------

    def _known(self) -> Iterator[Layer]:
        """What is known before the pass: modules, and functions by the names of their weights."""
        yield from self.modules
        for places in self._uses.values():
            for name, owner in places:
                yield Layer(name.removesuffix(".weight"), owner, "", {})

    def refuse_unmatched(
        self, known: Iterable[Layer], is_to_match: Callable[[Matcher], bool] = lambda _: True
    ) -> None:
        """Refuse patterns that choose none of the layers.

        Raises:
            ValueError: for the first one, with names that are near.
        """
        if self._matches is None:
            return
        layers = list(known)
        for each in getattr(self._matches, "matchers", (self._matches,)):
            if not any(each(cast(Any, layer)) for layer in layers) and is_to_match(each):
                names = cast(Any, _Names(layers))
                raise ValueError(f"layers: no layer matches {each}; {each.near(names)}")


class _Names:
    """What matchers ask of a Network, to say what was meant."""

    def __init__(self, layers: list[Layer]) -> None:
        self.by_name = {layer.name: layer for layer in layers}
        self.sites = layers


def _matcher(patterns: Any) -> Matcher:
    if isinstance(patterns, (list, tuple)) and not patterns:
        raise ValueError("layers: an empty list chooses none; give at least one pattern, or None")
    try:
        return matcher(patterns)
    except (TypeError, ValueError) as error:
        raise type(error)(f"layers: {error}") from None


def _is_checkable(each: Matcher) -> bool:
    """Whether what it matches is known before the pass: functions without parameters are not."""
    text = str(each)
    if isinstance(each, Regex) or not each.key:
        return False
    last = text.rpartition(".")[2]
    return last not in _FUNCTION_KINDS and not activations.is_activation_function(last)


def _leaf(name: str, parametrized: set[str]) -> str:
    parts = name.split(".")
    return next((part for part in parts if part in parametrized), parts[-1])


_KINDS: tuple[tuple[Callable[[nn.Module], bool], str], ...] = (
    (activations.is_activation, "activation"),
    (is_norm, "norm"),
    (lambda module: isinstance(module, _ConvNd), "conv"),
    (is_layer, "linear"),
    (lambda module: isinstance(module, EMBEDDINGS), "embedding"),
    (lambda module: isinstance(module, RECURRENT_LAYERS), "recurrent"),
    (lambda module: isinstance(module, nn.MultiheadAttention), "attention"),
)

_FUNCTION_KINDS: dict[str, str] = {
    **dict.fromkeys(
        (
            *("linear", "bilinear", "matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "mv"),
            *("addmm", "baddbmm", "addbmm", "einsum", "tensordot", "grouped_mm", "_grouped_mm"),
        ),
        "linear",
    ),
    **{f"conv{kind}{n}d": "conv" for kind in ("", "_transpose") for n in (1, 2, 3)},
    **dict.fromkeys(("embedding", "embedding_bag"), "embedding"),
    **dict.fromkeys(
        ("layer_norm", "rms_norm", "batch_norm", "group_norm", "instance_norm"), "norm"
    ),
    "scaled_dot_product_attention": "attention",
}


def _kind_of_function(func: Any) -> str | None:
    name = getattr(func, "__name__", "")
    kind = _FUNCTION_KINDS.get(name)
    if kind is not None:
        return kind
    return "activation" if activations.is_activation_function(name.rstrip("_")) else None


def opened(func: Any) -> Callable[..., Any] | None:
    """A function of torch's, if it is one that others are to be seen in: multi-head attention, and the
    backward pass, where checkpoints compute. As itself it is one function to a ``TorchFunctionMode``,
    and would ask it again and again."""
    return _opened(func) if func in _OPENED else None


_OPENED = (functional.multi_head_attention_forward, torch.autograd.backward)


@functools.cache
def _opened(func: Any) -> Callable[..., Any]:
    names = {**func.__globals__, "has_torch_function": lambda _: False}
    made = types.FunctionType(func.__code__, names, func.__name__, func.__defaults__)
    made.__kwdefaults__ = func.__kwdefaults__
    return made


def refuse_unready(model: nn.Module) -> None:
    """What no data can run through, lazy parameters and tensors without values, and what cannot be
    looked into."""
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise TypeError(
                f"{path or 'the model'} is compiled by TorchScript, whose layers nothing outside sees: "
                "give the model as it was before"
            )
        prefix = f"{path}." if path else ""
        held = (*module._parameters.items(), *module._buffers.items())
        refuse_without_values(
            (prefix + leaf, tensor) for leaf, tensor in held if tensor is not None
        )


def refuse_without_values(named: Iterable[tuple[str, Tensor]]) -> None:
    """Lazy tensors, and those on the meta device."""
    for name, tensor in named:
        if nn.parameter.is_lazy(tensor):
            raise ValueError(
                f"{name} has no shape yet: it is lazy; run a batch through the model first"
            )
        if tensor.is_meta:
            raise ValueError(
                f"{name} is on the meta device, where no data can run: initialize the model first, "
                'as by pyinit.initialize_(model, device="cpu")'
            )


def is_quantized(module: nn.Module) -> bool:
    """Whether its weight is stored in integers, in a parameter or elsewhere."""
    if hasattr(module, "_packed_params") or type(module).__module__.startswith("torch.ao.nn.quant"):
        return True
    return any(
        parameter is not None
        and not (parameter.is_floating_point() or parameter.is_complex())
        and parameter.dtype is not torch.bool
        for parameter in module._parameters.values()
    )
