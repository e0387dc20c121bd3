"""From a model to its flow: which steps the calls and modules of its forward are."""

import math
from collections.abc import Callable
from typing import Any

from torch import fx, nn

from pyinit._graph import activations
from pyinit._graph.flow import (
    ACTIVATION,
    LAYER,
    MIX,
    NORM,
    PASS,
    PRODUCT,
    RECURRENT,
    SOFTMAX,
    SOURCE,
    SUM,
    Flow,
)
from pyinit._graph.fx_tracer import SHAPES, chain, name_of, traced
from pyinit._graph.graph import ActivationKind
from pyinit._graph.kinds import (
    EMBEDDINGS,
    RECURRENT_LAYERS,
    is_layer,
    is_norm,
    standardizes_its_weight,
)

# Calls that become steps of other kinds.
_QUOTIENT, _ATTENTION = "quotient", "attention"

# Kinds of steps by the names of functions, methods and operators. All others pass values on.
_KINDS = {
    **dict.fromkeys(("add", "iadd", "sub", "isub", "rsub"), SUM),
    **dict.fromkeys(("mul", "imul", "multiply"), PRODUCT),
    **dict.fromkeys(("truediv", "itruediv", "div", "divide"), _QUOTIENT),
    **dict.fromkeys(("scaled_dot_product_attention", "multi_head_attention_forward"), _ATTENTION),
    **dict.fromkeys(("matmul", "imatmul", "bmm", "baddbmm", "mm", "einsum"), MIX),
    **dict.fromkeys(("softmax", "log_softmax"), SOFTMAX),
    **dict.fromkeys(
        ("layer_norm", "rms_norm", "batch_norm", "group_norm", "instance_norm", "normalize"), NORM
    ),
    **dict.fromkeys(("linear", "bilinear"), LAYER),
    **{f"conv{kind}{n}d": LAYER for kind in ("", "_transpose") for n in (1, 2, 3)},
    **dict.fromkeys((*SHAPES, "embedding", "embedding_bag"), SOURCE),
}

_SOFTMAXES = (nn.Softmax, nn.LogSoftmax, nn.Softmin, nn.Softmax2d)


def flow_of(model: nn.Module) -> Flow:
    """The flow of a model.

    Raises:
        Exception: of any kind, if its forward cannot run on stand-ins.
    """
    flow = Flow()
    if _expansion(model) is not None:
        add_module(flow, "", model, (flow.add(SOURCE), flow.add(SOURCE)))
        return flow
    calls = chain(model)
    if calls is not None:
        value = flow.add(SOURCE)
        for path, module in calls:
            value = add_module(flow, path, module, (value,))
        flow.add(PASS, (value,))  # its result
        return flow
    graph, modules = traced(model), dict(model.named_modules())
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
    """Append what a call of a function, method or operator does, and return its step's number."""
    name = name_of(node)
    if activations.is_activation_function(name):
        function = activations.of_call(name, node.args[1:], node.kwargs)
        return flow.add(ACTIVATION, inputs[:1], activation=function)
    if _squares(node, name):
        return _add_square(flow, inputs[0])
    kind = _KINDS.get(name, PASS)
    add = _ADDERS.get(kind)
    return flow.add(kind, inputs) if add is None else add(flow, node, inputs)


def _squares(node: fx.Node, name: str) -> bool:
    """Whether a call gives the square of a value."""
    first, *others = node.args or (None,)
    return isinstance(first, fx.Node) and (
        name == "square"
        or (name in ("pow", "ipow") and others == [2])
        or (name in ("mul", "imul", "multiply") and others == [first])
    )


def _add_square(flow: Flow, value: int) -> int:
    """Append the square of a value. That of an activation is an activation, such as squared ReLU."""
    step = flow.steps[value]
    if step.kind != ACTIVATION:
        return flow.add(PASS, (value,))
    flow.steps[value] = step._replace(kind=PASS, activation=None)
    kind = None if step.activation is None else activations.squared(step.activation)
    return flow.add(ACTIVATION, (value,), step.path, kind)


def _add_layer(flow: Flow, node: fx.Node, inputs: tuple[int, ...]) -> int:
    owner = owner_of(node)  # without one, the weight is computed
    return flow.add(MIX, inputs) if owner is None else flow.add(LAYER, inputs[:1], owner)


def _add_norm(flow: Flow, node: fx.Node, inputs: tuple[int, ...]) -> int:
    return flow.add(NORM, inputs[:1], owner_of(node) or "")


def _add_sum(flow: Flow, _: fx.Node, inputs: tuple[int, ...]) -> int:
    return flow.add(SUM if len(inputs) == 2 else PASS, inputs)


def _add_quotient(flow: Flow, node: fx.Node, inputs: tuple[int, ...]) -> int:
    divisors = [x for x in node.args[1:] if isinstance(x, (int, float)) and x != 0]
    return flow.add(PASS, inputs, scale=1 / divisors[0] if divisors else math.nan)


def _add_attention_call(flow: Flow, node: fx.Node, inputs: tuple[int, ...]) -> int:
    return _add_attention(flow, inputs, node.kwargs.get("scale"))


def _add_attention(flow: Flow, inputs: tuple[int, ...], scale: Any = None) -> int:
    """Append attention, whose scores are scaled by the width of the heads if by no given number."""
    factor = float(scale) if isinstance(scale, (int, float)) else math.nan
    queries = flow.add(PASS, inputs[:1], scale=factor)
    scores = flow.add(MIX, (queries, *inputs[1:]))
    return flow.add(MIX, (flow.add(SOFTMAX, (scores,)),))


def _add_product(flow: Flow, node: fx.Node, inputs: tuple[int, ...]) -> int:
    if len(inputs) != 2:
        factors = [x for x in node.args if isinstance(x, (int, float))]
        return flow.add(PASS, inputs, scale=float(factors[0]) if factors else 1.0)
    for value, factor in (inputs, inputs[::-1]):
        step = flow.steps[factor]
        if step.kind == SOURCE:  # a scale or a mask
            return flow.add(PASS, (value,), scale=math.nan)
        scale = _scale_in_sigmoid(flow, value, factor)
        if scale is not None:
            flow.steps[factor] = step._replace(kind=PASS, activation=None)
            function = activations.scaled_silu(scale)
            return flow.add(ACTIVATION, (value,), activation=function)
    return flow.add(PRODUCT, inputs)


def _scale_in_sigmoid(flow: Flow, value: int, factor: int) -> float | None:
    """The number c if the factor is sigmoid(c * value), else None."""
    sigmoid = flow.steps[factor]
    if sigmoid.activation != ActivationKind("sigmoid"):
        return None
    if sigmoid.inputs == (value,):
        return 1.0
    scaled = flow.steps[sigmoid.inputs[0]]
    is_number = scaled.scale != 1 and math.isfinite(scaled.scale)
    return scaled.scale if scaled.inputs == (value,) and is_number else None


_ADDERS: dict[str, Callable[[Flow, fx.Node, tuple[int, ...]], int]] = {
    LAYER: _add_layer,
    NORM: _add_norm,
    PRODUCT: _add_product,
    SUM: _add_sum,
    SOURCE: lambda flow, _, __: flow.add(SOURCE),
    _QUOTIENT: _add_quotient,
    _ATTENTION: _add_attention_call,
}


def owner_of(node: fx.Node) -> str | None:
    """The path of the module whose weight a function takes, if it takes one."""
    owners = (
        str(source.target).rpartition(".")[0]
        for source in node.all_input_nodes
        if source.op == "get_attr"
    )
    return next(owners, None)


def add_module(flow: Flow, path: str, module: nn.Module, inputs: tuple[int, ...]) -> int:
    """Append what a module does, and return the number of the step that gives its result."""
    expand = _expansion(module)
    if expand is not None:
        return expand(flow, path, module, inputs)
    if activations.is_activation(module):
        return flow.add(ACTIVATION, inputs, path, activations.of_module(module))
    if isinstance(module, EMBEDDINGS):
        return flow.add(SOURCE)
    step = flow.add(_kind(module), inputs, path)
    if standardizes_its_weight(module):
        step = flow.add(NORM, (step,))
    if is_layer(module) or is_norm(module):
        for held in activations.held_by(module):
            step = flow.add(ACTIVATION, (step,), activation=held)
    return step


def _kind(module: nn.Module) -> str:
    if is_layer(module):
        return LAYER
    if is_norm(module):
        return NORM
    if isinstance(module, RECURRENT_LAYERS):
        return RECURRENT
    return SOFTMAX if isinstance(module, _SOFTMAXES) else PASS


_Expansion = Callable[[Flow, str, Any, tuple[int, ...]], int]


def _expansion(module: nn.Module) -> _Expansion | None:
    return next((_EXPANSIONS[cls] for cls in type(module).__mro__ if cls in _EXPANSIONS), None)


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


# ---- torch's modules of several layers -----------------------------------------------------------


def _attention(flow: Flow, path: str, _: Any, inputs: tuple[int, ...]) -> int:
    mixed = _add_attention(flow, (flow.add(LAYER, inputs, path),))
    return flow.add(LAYER, (mixed,), _at(path, "out_proj"))


def _feed_forward(flow: Flow, path: str, layer: Any, x: int) -> int:
    up = flow.add(LAYER, (x,), _at(path, "linear1"))
    active = flow.add(ACTIVATION, (up,), activation=activations.of_callable(layer.activation))
    return flow.add(LAYER, (active,), _at(path, "linear2"))


def _with_skip(
    flow: Flow, norm: str, norm_first: bool, x: int, branch: Callable[[int], int]
) -> int:
    if norm_first:
        return flow.add(SUM, (x, branch(flow.add(NORM, (x,), norm))))
    return flow.add(NORM, (flow.add(SUM, (x, branch(x))),), norm)


def _encoder_layer(flow: Flow, path: str, layer: Any, inputs: tuple[int, ...]) -> int:
    def attend(x: int) -> int:
        return _attention(flow, _at(path, "self_attn"), None, (x,))

    first = layer.norm_first
    x = _with_skip(flow, _at(path, "norm1"), first, inputs[0], attend)
    return _with_skip(
        flow, _at(path, "norm2"), first, x, lambda x: _feed_forward(flow, path, layer, x)
    )


def _decoder_layer(flow: Flow, path: str, layer: Any, inputs: tuple[int, ...]) -> int:
    x, *memory = inputs[:2]

    def attend(x: int) -> int:
        return _attention(flow, _at(path, "self_attn"), None, (x,))

    def look(x: int) -> int:
        return _attention(flow, _at(path, "multihead_attn"), None, (x, *memory))

    first = layer.norm_first
    x = _with_skip(flow, _at(path, "norm1"), first, x, attend)
    x = _with_skip(flow, _at(path, "norm2"), first, x, look)
    return _with_skip(
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
