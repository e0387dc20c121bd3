"""Symbolic tracing by ``torch.fx``: a model's forward runs on stand-ins, and nothing is computed."""

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import torch
from torch import fx, nn

from pyinit._graph.activations import is_activation
from pyinit._graph.kinds import is_layer, is_norm
from pyinit._graph.undisturbed import undisturbed

SHAPES = frozenset(("shape", "ndim", "dtype", "device", "size", "dim", "numel", "ndimension"))
"""Properties and methods that tell of a tensor's shape and type, and nothing of its values."""


def traced(model: nn.Module) -> fx.Graph:
    """The calls that a model's forward makes; the model stays as it is.

    Raises:
        Exception: of any kind, if its forward cannot run on stand-ins.
    """
    with traceable(model):
        return _LenientTracer().trace(model)


@contextmanager
def traceable(model: nn.Module) -> Iterator[None]:
    """A context in which a model can be traced, and which leaves no traces of that."""
    with undisturbed(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _patches_undone():
            yield


@contextmanager
def _patches_undone() -> Iterator[None]:
    """What a signal's handler raises may come while torch.fx puts back what it has patched. Versions of
    torch that keep the patches would make them again when something is compiled."""
    calls = nn.Module.__call__, nn.Module.__getattr__
    state = vars(fx._symbolic_trace)
    kept = {name: state[name] for name in ("CURRENT_PATCHER",) if name in state}
    try:
        yield
    finally:
        nn.Module.__call__, nn.Module.__getattr__ = calls  # type: ignore[method-assign]
        state.update(kept)


class _Value(fx.Proxy):
    """A stand-in for a tensor. It has some length and dtype, since forwards ask for them."""

    def __len__(self) -> int:
        return 2

    def __getattr__(self, name: str) -> Any:
        return torch.float32 if name == "dtype" else _Attribute(self, name)

    @classmethod
    def __torch_function__(cls, *args: Any, **kwargs: Any) -> Any:
        return fx.Proxy.__torch_function__(*args, **kwargs)


class _Attribute(fx.proxy.Attribute, _Value):
    """A stand-in for an attribute."""


class Tracer(fx.Tracer):
    """Goes into all modules but layers, norms, activations and those of torch."""

    # Buffers are values too: writes to them are recorded, not carried out.
    proxy_buffer_attributes = True

    def __init__(self) -> None:
        super().__init__()
        self._thread = get_ident()

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if is_layer(m) or is_norm(m) or is_activation(m):
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
        path = self.path_of_module(m)  # not by ``forward``, which would run the user's hooks
        if self.is_leaf_module(m, path):
            return self.create_proxy("call_module", path, args, kwargs)
        return m.forward(*args, **kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)


class _LenientTracer(Tracer):
    """Supposes what a forward asks for where it can, since a rough graph is better than none.

    A condition on a shape is taken to be false, since most of them guard errors and odd cases. A
    condition on values cannot be traced.
    """

    trace_asserts = True

    def create_args_for_root(
        self,
        root_fn: Any,
        is_module: bool,  # noqa: ARG002
        concrete_args: Any = None,  # noqa: ARG002
    ) -> tuple[Any, list[Any]]:
        """Stand-ins for the first argument and those without a default; the others keep theirs."""
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
        except NotImplementedError:  # an object that holds no values, such as a cache
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
    """Whether a value is computed from shapes, dtypes and devices alone."""
    waiting = [node]
    for step in waiting:
        if name_of(step) in SHAPES:
            continue
        if not step.all_input_nodes:
            return False
        waiting += step.all_input_nodes
    return True


def name_of(node: fx.Node) -> str:
    """The name of the function or method that a node calls, or of the attribute that it reads."""
    if node.op == "call_method":
        return str(node.target).rstrip("_")
    if node.op != "call_function":
        return ""
    if node.target is getattr:
        return str(node.args[1])
    return str(getattr(node.target, "__name__", "")).rstrip("_")
