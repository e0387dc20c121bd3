"""Which module alone reads what another one gives, in every pass that a model's forward can make."""

import inspect
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product
from math import prod
from typing import Any

from torch import fx, nn

from pyinit._graph.fx_tracer import Tracer, traceable
from pyinit._graph.undisturbed import set_training
from pyinit._torch.wrappers import on_plain_model

_MOST_WAYS = 16
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@on_plain_model
def sole_readers(model: nn.Module) -> dict[nn.Module, nn.Module]:
    """The modules whose output one other module reads, and nothing else, each with its reader.

    Both are called at most once in a pass, and always together; hooks read, too. Unlike ``trace``, this
    supposes nothing: it follows the forward in both modes, with each optional argument given and not
    given, and with each flag true and false.

    Raises:
        Exception: of any kind, if the forward cannot run on stand-ins, or goes by what these do not tell.
    """
    passes = [_pairs_and_called(graph, model) for graph in _passes(model)]
    found = {first: reader for pairs, _ in passes for first, reader in pairs.items()}
    return {
        first: reader
        for first, reader in found.items()
        if all(
            pairs.get(first) is reader or called.isdisjoint((first, reader))
            for pairs, called in passes
        )
    }


def _passes(model: nn.Module) -> Iterator[fx.Graph]:
    """The calls that a forward makes, in each of its ways."""
    if "forward" in vars(model):
        raise ValueError("its forward is not that of its class")
    choices: dict[str, tuple[Any, ...]] = {}
    for name, parameter in inspect.signature(type(model).forward).parameters.items():
        if parameter.default is None:
            choices[name] = (None, _STAND_IN)
        elif isinstance(parameter.default, bool):
            choices[name] = (False, True)
    if prod(map(len, choices.values())) > _MOST_WAYS:
        raise ValueError("its forward has too many optional arguments")
    for training, *chosen in product((False, True), *choices.values()):
        named = zip(choices, chosen, strict=True)
        given = {name: value for name, value in named if value is not _STAND_IN}
        with traceable(model):
            set_training(model, training)
            tracer = _StrictTracer()
            graph = tracer.trace(model, given)
            for node in tracer.kept():
                graph.call_function(_kept, (node,))
        yield graph


_STAND_IN = object()


class _StrictTracer(Tracer):
    """Follows what is certain. Conditions on tensors and their shapes cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self._results: list[weakref.ref[fx.Proxy]] = []

    def kept(self) -> list[fx.Node]:
        """What modules gave that somebody still holds after the pass: in an attribute, or a list."""
        return [result.node for ref in self._results if (result := ref()) is not None]

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        for module in root.modules():
            if module is not root and self.is_leaf_module(module, ""):
                vars(module)["forward"] = _refuse  # the model is put back as it was
        return super().trace(root, concrete_args)

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        result = super().call_module(m, forward, args, kwargs)
        if any(getattr(m, hooks) for hooks in _HOOKS):
            self.create_proxy("call_function", _seen_by_hooks, (args, kwargs, result), {})
        if isinstance(result, fx.Proxy):
            self._results.append(weakref.ref(result))
        return result


def _refuse(*_: object, **__: object) -> None:
    raise ValueError("it calls the forward of a layer itself")


def _seen_by_hooks(*_: object) -> None:
    """Stands for the hooks of a module, which take its inputs and its output."""


def _kept(*_: object) -> None:
    """Stands for whoever keeps a value beyond the pass."""


def _pairs_and_called(
    graph: fx.Graph, model: nn.Module
) -> tuple[dict[nn.Module, nn.Module], set[nn.Module]]:
    """The modules with a sole reader in one pass, and all modules that the pass calls."""
    modules = dict(model.named_modules())
    calls = {node: modules[str(node.target)] for node in graph.nodes if node.op == "call_module"}
    counts = Counter(calls.values())
    for module in calls.values():  # a leaf calls its own modules unseen, perhaps often
        counts.update({inner: 2 for inner in module.modules() if inner is not module})
    pairs = {}
    for node, first in calls.items():
        for user in node.users:
            reader = calls.get(user)
            is_alone = len(node.users) == len(user.all_input_nodes) == 1
            if reader is not None and is_alone and counts[first] == counts[reader] == 1:
                pairs[first] = reader
    return pairs, set(counts)
