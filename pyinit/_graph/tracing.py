"""The flow of a model by symbolic tracing: its forward runs on stand-ins, nothing is computed."""

import inspect
import warnings
from collections.abc import Callable, Iterator
from threading import get_ident
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from pyinit._graph import activations
from pyinit._graph.flow import (
    ACTIVATION,
    LAYER,
    MIX,
    NORM,
    PASS,
    PRODUCT,
    RECURRENT,
    SOURCE,
    SUM,
    Flow,
)
from pyinit._graph.structure import Activation
from pyinit._graph.undisturbed import undisturbed

# Properties and methods of tensors that are no values.
_SHAPES = frozenset(("shape", "ndim", "dtype", "device", "size", "dim", "numel", "ndimension"))

# What a function, method or operator of some name is. All others pass their inputs on.
_KINDS = {
    **dict.fromkeys(("add", "iadd", "sub", "isub", "rsub"), SUM),
    **dict.fromkeys(("mul", "imul", "multiply"), PRODUCT),
    **dict.fromkeys(
        (
            *(
                "matmul",
                "imatmul",
                "bmm",
                "baddbmm",
                "mm",
                "einsum",
                "scaled_dot_product_attention",
            ),
            *("softmax", "log_softmax", "multi_head_attention_forward"),
        ),
        MIX,
    ),
    **dict.fromkeys(
        ("layer_norm", "rms_norm", "batch_norm", "group_norm", "instance_norm", "normalize"), NORM
    ),
    **dict.fromkeys(("linear", "bilinear"), LAYER),
    **{f"conv{kind}{n}d": LAYER for kind in ("", "_transpose") for n in (1, 2, 3)},
    **dict.fromkeys((*_SHAPES, "embedding", "embedding_bag"), SOURCE),
}

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)
_SOFTMAXES = (nn.Softmax, nn.LogSoftmax, nn.Softmin, nn.Softmax2d)


def is_layer(module: nn.Module) -> bool:
    """Whether it multiplies by a weight."""
    if isinstance(module, (nn.Linear, _ConvNd, nn.Bilinear)):
        return True
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf")  # transformers'


def is_norm(module: nn.Module) -> bool:
    """Whether it is a norm: one of torch's, or one by the name of its class."""
    return isinstance(module, NORMS) or ("Norm" in type(module).__name__ and not module._modules)


def trace(model: nn.Module) -> Flow:
    """The flow of a model.

    Raises:
        Exception: of any kind, if its forward cannot run on stand-ins.
    """
    if _expansion(model) is not None:
        flow = Flow()
        add_module(flow, "", model, (flow.add(SOURCE), flow.add(SOURCE)))
        return flow
    with undisturbed(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = _Tracer().trace(model)
    return _flow(graph, dict(model.named_modules()))


class _Value(fx.Proxy):
    """A stand-in with a length and a dtype. Some must be given; which ones makes no difference."""

    def __len__(self) -> int:
        return 2

    def __getattr__(self, name: str) -> Any:
        return torch.float32 if name == "dtype" else _Attribute(self, name)

    @classmethod
    def __torch_function__(cls, *args: Any, **kwargs: Any) -> Any:
        return fx.Proxy.__torch_function__(*args, **kwargs)


class _Attribute(fx.proxy.Attribute, _Value):
    """A stand-in for an attribute."""


class _Tracer(fx.Tracer):
    """Goes into all modules but those that ``_flow`` knows.

    A test of a shape fails: such tests guard errors and odd cases. One of values cannot be traced.
    """

    # Buffers are values too: writes to them are recorded, not carried out.
    proxy_buffer_attributes = True
    trace_asserts = True

    def __init__(self) -> None:
        super().__init__()
        self._thread = get_ident()

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if is_layer(m) or is_norm(m) or activations.is_activation(m):
            return True
        return super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        if get_ident() != self._thread:  # torch.fx takes the calls of all threads
            return forward(*args, **kwargs)
        path = self.path_of_module(m)  # without ``forward``, which would run the user's hooks
        if self.is_leaf_module(m, path):
            return self.create_proxy("call_module", path, args, kwargs)
        return m.forward(*args, **kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def create_args_for_root(
        self,
        root_fn: Any,
        is_module: bool,  # noqa: ARG002
        concrete_args: Any = None,  # noqa: ARG002
    ) -> tuple[Any, list[Any]]:
        """Stand-ins for the first argument and for those without a default; the rest have theirs."""
        _, first, *others = inspect.signature(root_fn).parameters.values()
        args = [self.root, self.create_proxy("placeholder", first.name, (), {})]
        for parameter in others:
            if parameter.default is not parameter.empty or parameter.kind not in (
                parameter.POSITIONAL_ONLY,
                parameter.POSITIONAL_OR_KEYWORD,
            ):
                break
            args.append(self.create_proxy("placeholder", parameter.name, (), {}))
        return root_fn, args

    def create_arg(self, a: Any) -> Any:
        try:
            return super().create_arg(a)
        except NotImplementedError:  # an object that is no value, such as a cache
            return None

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Value(node, self)

    def to_bool(self, obj: fx.Proxy) -> bool:
        if _is_of_shapes(obj.node):
            return False
        return super().to_bool(obj)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        if _is_of_shapes(obj.node):
            return (obj[i] for i in range(2))  # type: ignore[index]  # a proxy has no annotations
        return super().iter(obj)


def _is_of_shapes(node: fx.Node) -> bool:
    """Whether it is computed from shapes, dtypes and devices alone."""
    waiting = [node]
    for step in waiting:
        if _name(step) in _SHAPES:
            continue
        if not step.all_input_nodes:
            return False
        waiting += step.all_input_nodes
    return True


def _name(node: fx.Node) -> str:
    """Of a function or method; of an attribute that is read, the attribute's."""
    if node.op == "call_method":
        return str(node.target).rstrip("_")
    if node.op != "call_function":
        return ""
    if node.target is getattr:
        return str(node.args[1])
    return str(getattr(node.target, "__name__", "")).rstrip("_")


def _flow(graph: fx.Graph, modules: dict[str, nn.Module]) -> Flow:
    flow = Flow()
    numbers: dict[fx.Node, int] = {}
    for node in graph.nodes:
        inputs = tuple(numbers[source] for source in node.all_input_nodes)
        if node.op == "call_module":
            path = str(node.target)
            numbers[node] = add_module(flow, path, modules[path], inputs)
        elif node.op in ("call_function", "call_method"):
            numbers[node] = _add_call(flow, node, inputs)
        else:
            numbers[node] = flow.add(PASS if inputs else SOURCE, inputs)
    return flow


def _add_call(flow: Flow, node: fx.Node, inputs: tuple[int, ...]) -> int:
    name = _name(node)
    if activations.is_activation_function(name):
        function = activations.of_call(name, node.args[1:], node.kwargs)
        return flow.add(ACTIVATION, inputs[:1], activation=function)
    kind = _KINDS.get(name, PASS)
    if kind == SOURCE:
        return flow.add(SOURCE)
    if kind == LAYER:
        owner = _owner(node)  # without one, the weight is computed
        return flow.add(MIX, inputs) if owner is None else flow.add(LAYER, inputs[:1], owner)
    if kind == NORM:
        return flow.add(NORM, inputs[:1], _owner(node) or "")
    if kind == PRODUCT:
        return _add_product(flow, inputs)
    if kind == SUM and len(inputs) != 2:
        kind = PASS
    return flow.add(kind, inputs)


def _add_product(flow: Flow, inputs: tuple[int, ...]) -> int:
    if len(inputs) != 2:
        return flow.add(PASS, inputs)
    for value, factor in (inputs, inputs[::-1]):
        step = flow.steps[factor]
        if step.kind == SOURCE:  # a scale or a mask
            return flow.add(PASS, (value,))
        if step.activation == ("sigmoid", 0.0) and step.inputs == (value,):  # SiLU, by hand
            flow.steps[factor] = step._replace(kind=PASS, activation=None)
            return flow.add(ACTIVATION, (value,), activation=Activation("silu"))
    return flow.add(PRODUCT, inputs)


def _owner(node: fx.Node) -> str | None:
    """The path of the module whose weight a function takes."""
    owners = (
        str(source.target).rpartition(".")[0]
        for source in node.all_input_nodes
        if source.op == "get_attr"
    )
    return next(owners, None)


def add_module(flow: Flow, path: str, module: nn.Module, inputs: tuple[int, ...]) -> int:
    """Append what a module does; the number of its result."""
    expand = _expansion(module)
    if expand is not None:
        return expand(flow, path, module, inputs)
    if activations.is_activation(module):
        return flow.add(ACTIVATION, inputs, path, activations.of_module(module))
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        return flow.add(SOURCE)
    return flow.add(_kind(module), inputs, path)


def _kind(module: nn.Module) -> str:
    if is_layer(module):
        return LAYER
    if is_norm(module):
        return NORM
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        return RECURRENT
    return MIX if isinstance(module, _SOFTMAXES) else PASS


_Expansion = Callable[[Flow, str, Any, tuple[int, ...]], int]


def _expansion(module: nn.Module) -> _Expansion | None:
    return next((_EXPANSIONS[cls] for cls in type(module).__mro__ if cls in _EXPANSIONS), None)


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


# ---- torch's modules of several layers -----------------------------------------------------------


def _attention(flow: Flow, path: str, _: Any, inputs: tuple[int, ...]) -> int:
    mixed = flow.add(MIX, (flow.add(LAYER, inputs, path),))
    return flow.add(LAYER, (mixed,), _at(path, "out_proj"))


def _feed_forward(flow: Flow, path: str, layer: Any, x: int) -> int:
    up = flow.add(LAYER, (x,), _at(path, "linear1"))
    active = flow.add(ACTIVATION, (up,), activation=activations.of_callable(layer.activation))
    return flow.add(LAYER, (active,), _at(path, "linear2"))


def _residual(flow: Flow, norm: str, norm_first: bool, x: int, branch: Callable[[int], int]) -> int:
    if norm_first:
        return flow.add(SUM, (x, branch(flow.add(NORM, (x,), norm))))
    return flow.add(NORM, (flow.add(SUM, (x, branch(x))),), norm)


def _encoder_layer(flow: Flow, path: str, layer: Any, inputs: tuple[int, ...]) -> int:
    def attend(x: int) -> int:
        return _attention(flow, _at(path, "self_attn"), None, (x,))

    first = layer.norm_first
    x = _residual(flow, _at(path, "norm1"), first, inputs[0], attend)
    return _residual(
        flow, _at(path, "norm2"), first, x, lambda x: _feed_forward(flow, path, layer, x)
    )


def _decoder_layer(flow: Flow, path: str, layer: Any, inputs: tuple[int, ...]) -> int:
    x, *memory = inputs[:2]

    def attend(x: int) -> int:
        return _attention(flow, _at(path, "self_attn"), None, (x,))

    def look(x: int) -> int:
        return _attention(flow, _at(path, "multihead_attn"), None, (x, *memory))

    first = layer.norm_first
    x = _residual(flow, _at(path, "norm1"), first, x, attend)
    x = _residual(flow, _at(path, "norm2"), first, x, look)
    return _residual(
        flow, _at(path, "norm3"), first, x, lambda x: _feed_forward(flow, path, layer, x)
    )


def _stack(flow: Flow, path: str, stack: Any, inputs: tuple[int, ...]) -> int:
    x, *memory = inputs[:2]
    for name, layer in stack.layers.named_children():
        x = add_module(flow, _at(path, f"layers.{name}"), layer, (x, *memory))
    return x if stack.norm is None else add_module(flow, _at(path, "norm"), stack.norm, (x,))


def _transformer(flow: Flow, path: str, model: Any, inputs: tuple[int, ...]) -> int:
    source, target = inputs[0], inputs[min(1, len(inputs) - 1)]
    memory = add_module(flow, _at(path, "encoder"), model.encoder, (source,))
    return add_module(flow, _at(path, "decoder"), model.decoder, (target, memory))


_EXPANSIONS: dict[type[nn.Module], _Expansion] = {
    nn.MultiheadAttention: _attention,
    nn.TransformerEncoderLayer: _encoder_layer,
    nn.TransformerDecoderLayer: _decoder_layer,
    nn.TransformerEncoder: _stack,
    nn.TransformerDecoder: _stack,
    nn.Transformer: _transformer,
}
