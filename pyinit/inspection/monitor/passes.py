"""Which forward passes belong to a step, and what their layers gave: hooks of modules and of outputs."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Variable
from torch.utils.hooks import RemovableHandle

from pyinit._torch.views import is_transformed
from pyinit._torch.wrappers import named_modules
from pyinit.inspection.layers import Layer
from pyinit.inspection.layouts import Layouts
from pyinit.inspection.monitor.activations import Call, first_measurable, measured, moments_of
from pyinit.inspection.monitor.layers import compiled_parts
from pyinit.inspection.monitor.norms import norms_of_gradients
from pyinit.inspection.no_training import is_no_training

_at_end_of_backward: Callable[[Callable[[], None]], None] = (
    Variable._execution_engine.queue_callback
)


class Hook:
    """A hook of a module. A copy of the module, in memory or in a file, gets one that does nothing."""

    def __init__(self, run: Callable[..., None] | None = None) -> None:
        self._run = run

    def __call__(self, *args: Any) -> None:
        if torch.compiler.is_compiling():  # a graph that is compiled now outlives this step
            return
        if self._run is not None and not is_transformed() and not is_no_training():
            self._run(*args)

    def __reduce__(self) -> tuple[type["Hook"], tuple[()]]:
        return Hook, ()


class _Pass:
    """One forward pass.

    calls: those of layers, in order
    layouts: where samples and channels are in their outputs
    is_backward: whether a gradient has come back
    is_over: whether the backward pass that brought it has ended
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Layer, Call]] = []
        self.layouts = Layouts()
        self.is_backward = self.is_over = False


class Passes:
    """The passes of a step, from ``open`` to ``close``.

    A pass belongs to the step if a backward pass has come through it: what is evaluated in between does
    not. If gradients were cleared after that, as they are when a step was skipped, it does no longer.

    is_open: whether a step is watched
    """

    def __init__(self, model: nn.Module, layers: Sequence[Layer]) -> None:
        _, self._root = next(named_modules(model))  # inside wrappers
        self._layers = layers
        self._unreached = compiled_parts(model)
        self.is_open = False
        self._on_modules: list[RemovableHandle] = []
        self._on_outputs: list[RemovableHandle] = []
        self._forget()

    def open(self) -> None:
        """Begin to watch for a step."""
        self._forget()
        if self.is_open:
            return
        self.is_open = True
        if self._root not in self._unreached:
            self._on_modules += [
                self._root.register_forward_pre_hook(Hook(self._begins)),
                self._root.register_forward_hook(Hook(self._ends), always_call=True),
            ]
        self._on_modules += [
            layer.module.register_forward_hook(Hook(self._watcher(layer)))
            for layer in self._layers
            if layer.module not in self._unreached
        ]

    def close(self) -> None:
        """Stop watching, and remove all hooks."""
        self._forget()
        _remove(self._on_modules)
        self.is_open = False

    def calls(self) -> dict[Layer, list[Call]]:
        """The calls of each layer that belong to the step."""
        found: dict[Layer, list[Call]] = {layer: [] for layer in self._layers}
        for each in self._passes:
            if each.is_backward:
                for layer, call in each.calls:
                    found[layer].append(call)
        return found

    @property
    def gradient_norms(self) -> dict[str, float]:
        """The norms of the gradients as the last backward pass left them, by the parameter's name."""
        return self._norms

    def _forget(self) -> None:
        _remove(self._on_outputs)
        self._passes: list[_Pass] = []
        self._norms: dict[str, float] = {}
        # Whether the pass that the model makes now may be one of training; None if it makes none.
        self._trains: bool | None = None
        self._is_end_awaited = False

    # ---- forward ----------------------------------------------------------------------------------

    def _begins(self, *_: Any) -> None:
        self._is_end_awaited = False
        self._trains = _may_train()
        if self._trains:
            self._passes.append(_Pass())

    def _ends(self, *_: Any) -> None:
        self._trains = None

    def _watcher(self, layer: Layer) -> Callable[..., None]:
        def called(_: Any, __: Any, output: Any) -> None:
            if self._trains or (self._trains is None and _may_train()):
                tensor = first_measurable(output)
                if tensor is not None:
                    self._measure(layer, tensor)

        return called

    def _measure(self, layer: Layer, output: Tensor) -> None:
        # A part of the model may be called by itself.
        if self._trains is None and (not self._passes or self._passes[-1].is_backward):
            self._passes.append(_Pass())
        now = self._passes[-1]
        call = measured(layer, output, now.layouts)
        now.calls.append((layer, call))
        if output.requires_grad:
            hook = partial(self._returns, now, call)
            self._on_outputs.append(output.register_hook(hook))  # type: ignore[no-untyped-call]

    # ---- backward ---------------------------------------------------------------------------------

    def _returns(self, which: _Pass, call: Call, gradient: Tensor) -> None:
        if not which.is_backward:
            if self._are_cleared():
                self._passes = [each for each in self._passes if not each.is_over]
            which.is_backward = True
        if first_measurable(gradient) is not None:
            call.gradient = moments_of(gradient.detach())
        if not self._is_end_awaited:
            self._is_end_awaited = True
            # In two steps, so as to come after DistributedDataParallel, which waits for others there.
            _at_end_of_backward(lambda: _at_end_of_backward(self._is_through))

    def _is_through(self) -> None:
        self._is_end_awaited = False
        for each in self._passes:
            each.is_over = each.is_backward
        named = {name: each for layer in self._layers for name, each in layer.parameters.items()}
        self._norms = norms_of_gradients(named)

    def _are_cleared(self) -> bool:
        """Whether the gradients that an earlier backward pass left are there no more."""
        for each in self._passes:
            for layer, _ in each.calls if each.is_over else ():
                for name, parameter in layer.parameters.items():
                    # The gradient of a layer's parameter comes after that of its output: a new pass
                    # has not reached it yet.
                    if self._norms.get(name, 0.0) != 0:
                        return parameter.grad is None or not parameter.grad.any()
        return False


def _may_train() -> bool:
    """Whether a gradient may come back, and this is not a checkpoint computed again for one."""
    return torch.is_grad_enabled() and torch._C._current_graph_task_id() == -1


def _remove(handles: list[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()
    handles.clear()
