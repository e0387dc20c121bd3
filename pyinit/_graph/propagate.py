"""What goes into each layer of a model, by the calls of its forward: analytically, without data."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.dropout import _DropoutNd

from pyinit._graph import activations
from pyinit._graph.fx_tracer import SHAPES, name_of, traced
from pyinit._graph.kinds import EMBEDDINGS, LSTMS, RECURRENT_LAYERS, is_conv1d, is_layer, is_norm
from pyinit._graph.laws import Law, joined, normal
from pyinit._graph.model_to_flow import owner_of
from pyinit._scale.pointwise import Pointwise

_PLACES = 49
"""How many places a pool is taken to average where nothing says how many: 7 x 7."""

_ROUNDING = 1e-12  # what is left of a mean of 0

_TOKEN_STD = 0.02  # of parameters that join the signal, as recipes draw them


class NoMomentsError(ValueError):
    """An activation whose outputs have no mean and variance."""


class Fed(NamedTuple):
    """What goes into a layer.

    mean, variance: of an element of its input
    second: the mean of the squares, and their product for a layer of two inputs
    """

    mean: float
    variance: float
    second: float


def fed(model: nn.Module, mean: float = 0.0, variance: float = 1.0) -> dict[str, Fed]:
    """What goes into each layer whose output has mean 0 and variance 1, by the layer's path.

    Elements are taken as independent, modules as training, and zeros around images as none.

    model: the model, which stays as it is
    mean, variance: those of its inputs

    Raises:
        Exception: of any kind, if its forward cannot run on stand-ins.
        NoMomentsError: for an activation without mean and variance.
    """
    return _Run(model, normal(mean, variance)).run()


class _Run:
    """The laws of all values of a forward, in order.

    met: the layers, and what went into each at its first call
    """

    def __init__(self, model: nn.Module, start: Law) -> None:
        self.start, self.met = start, dict[str, Fed]()
        self.modules = dict(model.named_modules())
        if is_layer(model) or type(model).__module__.startswith("torch.nn.modules.activation"):
            self.nodes: list[fx.Node] = []
        else:
            self.nodes = list(traced(model).nodes)
        self.laws: dict[fx.Node, Law | None] = {}

    def run(self) -> dict[str, Fed]:
        if not self.nodes:
            self.module("", [self.start])
        for node in self.nodes:
            found = [self.laws.get(source) for source in node.all_input_nodes]
            self.laws[node] = self.after(node, [law for law in found if law is not None])
        return self.met

    def after(self, node: fx.Node, laws: list[Law]) -> Law | None:
        """The law of what a node gives; None of what is no signal."""
        if node.op == "placeholder":
            return self.start
        if node.op == "get_attr":
            return self.parameter(str(node.target))
        if node.op == "call_module":
            return self.module(str(node.target), laws or [self.start])
        if node.op == "output" or not laws or name_of(node) in SHAPES:
            return None
        return self.call(node, laws)

    def parameter(self, name: str) -> Law | None:
        path, _, leaf = name.rpartition(".")
        owner = self.modules.get(path)
        held = None if owner is None else owner._parameters.get(leaf)
        return None if held is None else normal(0.0, _TOKEN_STD**2)

    def layer(self, path: str, laws: list[Law], channels: int | None) -> Law:
        """A layer settled at its first call."""
        second = math.prod(law.second for law in laws)
        mean = laws[0].mean if abs(laws[0].mean) > _ROUNDING else 0.0
        first = self.met.setdefault(path, Fed(mean, laws[0].variance, second))
        return normal(0.0, second / first.second if first.second > 0 else 0.0, channels)

    def module(self, path: str, laws: list[Law]) -> Law:
        module = self.modules[path]
        after = next((after for kinds, after in _MODULES if _is_one(module, kinds)), None)
        return laws[0] if after is None else after(self, path, module, laws)

    def call(self, node: fx.Node, laws: list[Law]) -> Law:
        name = name_of(node)
        plain = name.rstrip("123d")
        if name in _LAYERS:
            return self.function_of_weight(node)
        if name in _TWO:
            return _of_two(_TWO[name], node.args, laws)
        if plain in _POOLS:
            return _POOLS[plain](laws[0], _places(_argument(node, "kernel_size"), name))
        if name in _FUNCTIONS:
            return _FUNCTIONS[name](node, laws)
        if activations.is_activation_function(name):
            return _activated(laws[0], _called(name, node), name)
        return laws[0]

    def function_of_weight(self, node: fx.Node) -> Law:
        path = owner_of(node)  # without one, the weight is computed
        source = node.args[0] if node.args else None
        law = self.laws.get(source) if isinstance(source, fx.Node) else None
        return normal() if path is None or law is None else self.layer(path, [law], None)


# ---- modules -------------------------------------------------------------------------------------


def _weighted(run: _Run, path: str, module: Any, laws: list[Law]) -> Law:
    taken = laws[:2] if isinstance(module, nn.Bilinear) else laws[:1]
    return run.layer(path, taken, _channels(module))


def _attention(run: _Run, path: str, module: Any, laws: list[Law]) -> Law:
    run.layer(path, laws[:1], None)
    return run.layer(f"{path}.out_proj".lstrip("."), [normal()], module.embed_dim)


def _recurrent(run: _Run, path: str, module: Any, laws: list[Law]) -> Law:
    """The hidden state, where gates get variance 1."""
    run.layer(path, laws[:1], None)
    state = _map(normal(), np.tanh)
    return state.times(_map(normal(), _sigmoid)) if isinstance(module, LSTMS) else state


def _embedded(_: _Run, __: str, module: Any, ___: list[Law]) -> Law:
    return normal(channels=module.embedding_dim)


def _activation(_: _Run, path: str, module: Any, laws: list[Law]) -> Law:
    return _activated(laws[0], _function_of(module), path or type(module).__name__)


def _pool(_: _Run, __: str, module: Any, laws: list[Law]) -> Law:
    name = type(module).__name__
    return _POOLS[_snake(name)](laws[0], _places(getattr(module, "kernel_size", None), name))


def _dropout(_: _Run, __: str, module: Any, laws: list[Law]) -> Law:
    is_alpha = "Alpha" in type(module).__name__  # which keeps mean and variance
    return laws[0] if is_alpha else laws[0].dropped(module.p)


def _snake(name: str) -> str:
    """``"MaxPool2d"`` as ``"max_pool"``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.rstrip("123d")).lower()


_AfterModule = Callable[[_Run, str, Any, list[Law]], Law]
_Kinds = tuple[type[nn.Module], ...] | Callable[[nn.Module], bool]


def _is_one(module: nn.Module, kinds: _Kinds) -> bool:
    return isinstance(module, kinds) if isinstance(kinds, tuple) else kinds(module)


_MODULES: tuple[tuple[_Kinds, _AfterModule], ...] = (
    (is_layer, _weighted),
    ((nn.MultiheadAttention,), _attention),
    (RECURRENT_LAYERS, _recurrent),
    (EMBEDDINGS, _embedded),
    ((nn.GLU,), lambda _, __, ___, laws: _gated(laws[0])),
    (activations.is_activation, _activation),
    (is_norm, lambda _, __, module, laws: _normed(laws[0], type(module).__name__)),
    ((_DropoutNd,), _dropout),
    (lambda module: _snake(type(module).__name__) in _POOLS, _pool),
    ((nn.Flatten, nn.Unflatten), lambda _, __, ___, laws: _flat(laws[0])),
    # torch's modules of several layers
    (lambda module: any(map(is_layer, module.modules())), lambda *_: normal()),
)

# ---- functions, methods, operators ---------------------------------------------------------------


def _dropped(node: fx.Node, laws: list[Law]) -> Law:
    p = _argument(node, "p")
    return laws[0].dropped(p if isinstance(p, (int, float)) else 0.5)


def _of_two(kind: str, args: Any, laws: list[Law]) -> Law:
    """Sums, differences, products and quotients, of two values or of a value and a number."""
    first, second = args[0], args[1] if len(args) > 1 else None
    if len(laws) == 2:
        return _OF_LAWS[kind](*laws)
    if first is second:
        return _WITH_ITSELF[kind](laws[0])
    if isinstance(second, (int, float)):
        return _WITH_NUMBER[kind](laws[0], float(second))
    if isinstance(first, (int, float)):
        return _TO_NUMBER[kind](laws[0], float(first))
    return laws[0]


def _first(law: Law, _: Any) -> Law:
    return law


_OF_LAWS: Mapping[str, Callable[[Law, Law], Law]] = {
    "sum": Law.plus,
    "difference": lambda a, b: a.plus(b, -1.0),
    "product": Law.times,
    "quotient": _first,
}
_WITH_ITSELF: Mapping[str, Callable[[Law], Law]] = {
    "sum": lambda law: law.moved(2.0),
    "difference": lambda law: law.moved(0.0),
    "product": lambda law: _map(law, np.square),
    "quotient": lambda law: law.moved(0.0, 1.0),
}
_WITH_NUMBER: Mapping[str, Callable[[Law, float], Law]] = {
    "sum": lambda law, number: law.moved(shift=number),
    "difference": lambda law, number: law.moved(shift=-number),
    "product": Law.moved,
    "quotient": lambda law, number: law.moved(1 / number) if number else law,
}
_TO_NUMBER: Mapping[str, Callable[[Law, float], Law]] = {
    **_WITH_NUMBER,
    "difference": lambda law, number: law.moved(-1.0, number),
    "quotient": _first,
}

_LAYERS = frozenset(
    ("linear", "bilinear", *(f"conv{t}{n}d" for t in ("", "_transpose") for n in (1, 2, 3)))
)
_TWO: Mapping[str, str] = {
    **dict.fromkeys(("add", "iadd"), "sum"),
    **dict.fromkeys(("sub", "isub"), "difference"),
    **dict.fromkeys(("mul", "imul", "multiply"), "product"),
    **dict.fromkeys(("truediv", "itruediv", "div"), "quotient"),
}
_MIXES = frozenset(("matmul", "bmm", "mm", "einsum", "baddbmm", "scaled_dot_product_attention"))
_Pool = Callable[[Law, int], Law]

_POOLS: Mapping[str, _Pool] = {
    **dict.fromkeys(("avg_pool", "adaptive_avg_pool"), Law.mean_of),
    **dict.fromkeys(("max_pool", "adaptive_max_pool"), Law.greatest_of),
}

_FUNCTIONS: Mapping[str, Callable[[fx.Node, list[Law]], Law]] = {
    **dict.fromkeys(("cat", "concat", "concatenate"), lambda _, laws: joined(laws)),
    **dict.fromkeys(("dropout", "dropout1d", "dropout2d", "dropout3d"), _dropped),
    **dict.fromkeys(
        ("layer_norm", "rms_norm", "batch_norm", "group_norm", "instance_norm", "normalize"),
        lambda node, laws: _normed(laws[0], name_of(node)),
    ),
    **dict.fromkeys(_MIXES, lambda _, laws: laws[-1]),
    **dict.fromkeys(("flatten", "view", "reshape", "unflatten"), lambda _, laws: _flat(laws[0])),
    **dict.fromkeys(
        (
            "abs",
            "absolute",
            "square",
            "erf",
            "neg",
            "cos",
            "clamp",
            "clip",
            "atan",
            "sign",
            "expm1",
        ),
        lambda node, laws: _activated(laws[0], _called(name_of(node), node), name_of(node)),
    ),
    "mean": lambda _, laws: laws[0].mean_of(_PLACES),
    "glu": lambda _, laws: _gated(laws[0]),
}


def _argument(node: fx.Node, name: str) -> Any:
    """The second argument, which may be given by name."""
    return node.kwargs.get(name, node.args[1] if len(node.args) > 1 else None)


def _places(size: Any, name: str) -> int:
    """How many places a pool takes together."""
    if size is None or "daptive" in name:
        return _PLACES
    if isinstance(size, int):
        dims = next((int(each) for each in name if each.isdigit()), 1)
        return int(size**dims)
    return math.prod(size) if all(isinstance(each, int) for each in size) else _PLACES


def _channels(module: Any) -> int | None:
    if isinstance(module, _ConvNd):
        return int(module.out_channels)
    return int(module.nf) if is_conv1d(module) else int(module.out_features)


def _normed(law: Law, name: str) -> Law:
    if "ocal" in name:  # of the response: next to nothing
        return law
    return law.normed(centred="rms" not in name.lower())


def _flat(law: Law) -> Law:
    return Law(law.values, law.weights)


def _map(law: Law, function: Callable[[Any], Any]) -> Law:
    return Law(function(law.values), law.weights, law.channels)


def _activated(law: Law, function: Any, name: str) -> Law:
    try:
        found = _map(law, Pointwise(function).values)
    except (ValueError, TypeError) as error:
        raise NoMomentsError(f"autoinit cannot follow {name}: {error}") from error
    if not math.isfinite(found.second):
        raise NoMomentsError(f"autoinit cannot follow {name}: it has no finite second moment")
    return found


def _gated(law: Law) -> Law:
    """Half of the channels, times the sigmoid of the others."""
    gate = _map(law, _sigmoid)
    halved = None if law.channels is None else law.channels // 2
    product = law.times(gate)
    return Law(product.values, product.weights, halved)


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def _function_of(module: Any) -> Callable[[Tensor], Tensor]:
    if isinstance(module, nn.PReLU):
        return nn.LeakyReLU(float(module.init))
    if isinstance(module, nn.RReLU):
        return nn.LeakyReLU((module.lower + module.upper) / 2)
    return module  # type: ignore[no-any-return]


def _called(name: str, node: fx.Node) -> Callable[[Tensor], Tensor]:
    function = getattr(functional, name, None) or getattr(torch, name)
    if name in ("prelu", "rrelu"):
        return nn.LeakyReLU(0.25 if name == "prelu" else (1 / 8 + 1 / 3) / 2)
    others = node.args[1:]
    named = {key: each for key, each in node.kwargs.items() if key != "inplace"}
    return lambda x: function(x, *others, **named)


def scale_of(module: nn.Module, second: float) -> float:
    """The factor on 1 / fan_in for weights whose output is to have variance 1.

    A stride of a transposed convolution leaves each output with fewer inputs.
    """
    strides = math.prod(module.stride) if isinstance(module, _ConvTransposeNd) else 1
    return strides / second
