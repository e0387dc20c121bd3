"""Layers in execution order, while one pass runs through a model."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import (
    TorchFunctionMode,
    _get_current_function_mode_stack,
    _pop_mode,
    _push_mode,
)
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._python_dispatch import _pop_mode as _pop_dispatch_mode
from torch.utils._python_dispatch import _push_mode as _push_dispatch_mode

from pyinit._graph.undisturbed import Mark, Writes, restored, set_training, snapshot
from pyinit._random.generators import (
    States,
    global_states,
    global_states_kept,
    set_global_states,
)
from pyinit._torch.placement import refuse_elsewhere
from pyinit._torch.wrappers import unwrapped
from pyinit.inspection.batches import Batch, described, named_tensors, read_batch
from pyinit.inspection.layers import Layer, Layers, is_quantized, opened, refuse_unready
from pyinit.inspection.progress import Progress, progress


class Call:
    """One call of a layer. Inputs and output are there as long as it is visited.

    layer: the layer; its name, module, kind and parameters are attributes of the call, too
    number: 1 for the first call of the layer, 2 for the second
    """

    def __init__(self, layer: Layer, number: int) -> None:
        self.layer, self.number = layer, number
        self._values: _Values | None = None

    @property
    def name(self) -> str:
        return self.layer.name

    @property
    def module(self) -> nn.Module:
        return self.layer.module

    @property
    def kind(self) -> str:
        return self.layer.kind

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """Those that the layer uses itself, by their qualified names."""
        return self.layer.parameters

    @property
    def inputs(self) -> tuple[Any, ...]:
        """The positional arguments."""
        return self._now.args

    @property
    def keywords(self) -> Mapping[str, Any]:
        """The arguments given by name."""
        return self._now.kwargs

    @property
    def output(self) -> Any:
        """What the layer has returned, after all hooks of its module."""
        return self._now.output

    @property
    def tensor(self) -> Tensor | None:
        """The first tensor of floating-point numbers in the output."""
        return _first_floating(self._now.output)

    def again(self) -> Any:
        """Compute this layer again, with its parameters as they are now; the pass goes on from the
        new output, which is returned.

        Nothing else is computed. The layer starts from the state that it started from before: its
        buffers, the generators, its inputs where it writes to them.
        """
        now = self._now
        now.output = now.run_again()
        return now.output

    @property
    def _now(self) -> "_Values":
        if self._values is None:
            raise RuntimeError(
                f"the visit of {self} is over: its inputs and output are not kept, take from them "
                "what is needed while it is visited"
            )
        return self._values

    def __repr__(self) -> str:
        return f"Call({self.name!r}, {self.kind}, number={self.number})"


@dataclass
class _Values:
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Any
    run_again: Callable[[], Any]


@dataclass(frozen=True)
class Walked:
    """What a pass has met.

    output: what the model returned
    loss: the loss, if there was one
    calls: how often each visited layer was called, in the order of the first calls
    unused: the layers that the pass did not call, and none of whose parameters it used
    frozen: the parameters that require no gradient
    quantized: the modules whose weights are stored in integers
    """

    output: Any
    loss: float | None
    calls: Mapping[str, int]
    unused: tuple[str, ...]
    frozen: tuple[str, ...]
    quantized: tuple[str, ...]


Visit = Callable[[Call], object]
VisitGradient = Callable[[Call, Tensor], object]
VisitWeight = Callable[[str, nn.Parameter, Tensor], object]


def walk(
    model: nn.Module,
    batch: Any,
    visit: Visit | None = None,
    *,
    target: Any = None,
    layers: Any = None,
    training: bool | None = None,
    loss: Callable[..., Tensor] | None = None,
    visit_gradient: VisitGradient | None = None,
    visit_weight: VisitWeight | None = None,
) -> Walked:
    """Run one pass through a model, and stop at each call of a layer, in the order of execution.

    Layers are met as the model runs, by hooks of modules and by functions of parameters (the
    projections of ``nn.MultiheadAttention``, a weight that is used outside its module): whatever
    decides what runs, and as often as it runs. Compiled parts run eagerly.

    ``visit`` may write to the layer's parameters, in place, and have the layer alone computed again by
    ``call.again()``. What it writes stays. Everything else is as before, whatever is raised: values of
    buffers and other attributes, the mode of each module, ``requires_grad``, ``grad``, hooks, and all
    generators. What ``visit`` itself draws from the global generators stays drawn, unless the walk
    raises; the pass does not see it.

    Args:
        model: the model, also wrapped by ``torch.compile`` or ``DistributedDataParallel``
        batch: what ``pyinit.inspection.batches.read_batch`` takes
        visit: called with each ``Call`` when the layer has returned, without gradients
        target: the target, if it does not come with the batch
        layers: which layers to visit: a glob over their names, a compiled regular expression, a class
            of modules, a function from ``Layer`` to bool, or a list of these. By default those that
            own parameters; a module whose parameters are all used by visited functions, as
            ``nn.MultiheadAttention`` is, is not visited beside these
        training: the mode of all modules during the pass; by default each keeps its own
        loss: a function of the output, or of output and target if there is one, whose scalar is
            differentiated. Without it the pass is computed without gradients, so that no activation
            is kept for long
        visit_gradient: called with a ``Call`` and the gradient by ``Call.tensor``, in the order in
            which the backward pass gets there; needs ``loss``
        visit_weight: called, after the backward pass, with each parameter's name, the parameter and
            the gradient by it; needs ``loss``

    Returns:
        Output, loss, calls, and the layers that were not used.

    Raises:
        TypeError, ValueError: for arguments that are none of these, before the pass; see
            ``read_batch``, too. For a model with lazy parameters, with parts on the meta device or
            with values elsewhere (sharded, offloaded). For a loss that is no scalar, or that nothing
            can be differentiated from.
        RuntimeError: where the model fails, naming the layer, from the model's error.

    Example:
        >>> import torch
        >>> from pyinit.inspection.walk import walk
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
        >>> def unit_variance(call):
        ...     call.parameters[f"{call.name}.weight"].div_(call.tensor.std())
        ...     call.again()
        >>> walk(model, torch.randn(64, 3), unit_variance).calls
        {'0': 1, '2': 1}
    """
    if loss is None and (visit_gradient or visit_weight):
        raise ValueError("visit_gradient and visit_weight need a loss, got loss=None")
    if loss is not None and torch.is_inference_mode_enabled():
        raise ValueError("loss cannot be differentiated in torch.inference_mode()")
    with unwrapped(model) as plain:
        refuse_unready(plain)
        refuse_elsewhere("walk", plain.named_parameters(remove_duplicate=False), plain)
        if loss is not None:
            _refuse_hooks(plain)
        found = Layers(plain, layers)
        with global_states_kept():
            read = read_batch(plain, batch, target)
        with progress() as bar:
            one = _Pass(plain, found, bar, visit, visit_gradient, visit_weight)
            return one.run(read, loss, training)


class _Frame:
    """A module whose forward runs.

    start: where it started, if it may be computed again
    covered: the parameters of its own that visited functions have used
    """

    __slots__ = ("args", "covered", "kwargs", "layer", "start")

    def __init__(self, layer: Layer, args: Any, kwargs: Any, start: "_Start | None") -> None:
        self.layer, self.args, self.kwargs, self.start = layer, args, kwargs, start
        self.covered: set[int] = set()


@dataclass(frozen=True)
class _Start:
    """Where a layer started: memory, attributes, generators."""

    mark: Mark
    put_back: Callable[[], None]
    states: States
    inputs: tuple[Tensor, ...]


class _Pass(TorchFunctionMode):
    """One pass, forward and backward."""

    def __init__(
        self,
        model: nn.Module,
        layers: Layers,
        bar: Progress,
        visit: Visit | None,
        visit_gradient: VisitGradient | None,
        visit_weight: VisitWeight | None,
    ) -> None:
        super().__init__()
        self._model, self._layers, self._bar = model, layers, bar
        self._visit, self._visit_gradient, self._visit_weight = visit, visit_gradient, visit_weight
        self._writes: Writes = Writes()
        self._frames: list[_Frame] = []
        self._counts: Counter[str] = Counter()
        self._called: set[nn.Module] = set()
        self._used: set[int] = set()
        self._recomputed = _Recomputed()
        self._open_again: list[nn.Module] = []  # modules whose forward runs in the backward pass
        self._inputs: list[Tensor] = []  # that may get gradients
        self._thread = get_ident()
        self._is_aside = False  # whether code of the visitor runs, or a layer again
        self._is_backward = False
        self._raised: BaseException | None = None

    def run(self, batch: Batch, loss: Callable[..., Tensor] | None, training: bool | None) -> Walked:
        tensors = (tensor for _, tensor in named_tensors(tuple(batch)))
        self._inputs = [tensor for tensor in tensors if tensor.is_leaf]
        with global_states_kept() as before, ExitStack() as stack:
            self._passing = self._theirs = before
            stack.enter_context(_eager())
            self._writes = stack.enter_context(restored(self._model, *batch))
            for module in self._model.modules():
                first = module.register_forward_pre_hook(self._enter, prepend=True, with_kwargs=True)
                stack.callback(first.remove)
                last = module.register_forward_hook(self._leave, with_kwargs=True)
                stack.callback(last.remove)
            if training is not None:
                set_training(self._model, training)
            stack.enter_context(torch.set_grad_enabled(loss is not None))
            stack.enter_context(self)
            output = self._forward(batch)
            value = None if loss is None else self._backward(loss, output, batch.target)
        set_global_states(self._theirs)
        return Walked(
            output,
            value,
            dict(self._counts),
            tuple(self._layers.unused(self._used, self._called)),
            tuple(n for n, each in self._model.named_parameters() if not each.requires_grad),
            tuple(n for n, module in self._model.named_modules() if is_quantized(module)),
        )

    # ---- forward ----------------------------------------------------------------------------------

    def _forward(self, batch: Batch) -> Any:
        try:
            output = self._model(*batch.args, **batch.kwargs)
        except Exception as error:
            if self._raised is not None:
                raise self._raised from None
            raise RuntimeError(f"the forward pass failed {self._place()}: {_text(error)}") from error
        if self._raised is not None:  # and the model went on
            raise self._raised
        return output

    def _place(self) -> str:
        if not self._frames:
            return "in the model"
        frame = self._frames[-1]
        got = described((*frame.args, *frame.kwargs.values()))
        module = type(frame.layer.module).__name__
        name = frame.layer.name
        return f"in {f'layer {name!r} ({module})' if name else module}, called with {got}"

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if self._is_aside:
            return
        if self._is_backward:
            self._open_again.append(module)
            return
        if get_ident() != self._thread:
            return
        layer = self._layers.by_module.get(module)
        if layer is not None:
            start = self._start(module, args, kwargs) if self._layers.selects(layer) else None
            self._frames.append(_Frame(layer, args, kwargs, start))

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        layer = self._layers.by_module.get(module)
        if self._is_aside or layer is None:
            return None
        if self._is_backward:
            while self._open_again and self._open_again.pop() is not module:
                pass  # modules that a checkpoint left early
            self._attach_again(layer, output)
            return None
        if get_ident() != self._thread:
            return None
        frame = self._frames.pop()
        while frame.layer is not layer:  # modules whose error was caught
            frame = self._frames.pop()
        self._called.add(module)
        if not self._layers.selects(layer):
            return None
        own = set(map(id, layer.parameters.values()))
        if self._layers.by_default and own <= frame.covered:
            self._release(frame.start)
            return None
        # Hooks before the module's may have changed what it got: it is called again with what it was
        # called with at first.
        run = partial(module, *frame.args, **frame.kwargs)
        return self._met(layer, frame.start, args, kwargs, output, run)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch._C._set_grad_enabled:
            self._recomputed.cut()
        if self._is_aside or getattr(func, "__name__", "") == "__get__":
            return func(*args, **kwargs)
        inside = opened(func)
        if inside is not None:
            with self:
                return inside(*args, **kwargs)
        if self._is_backward:
            layer = self._layers.function(func, args, kwargs, self._open_again)
            output = func(*args, **kwargs)
            if layer is not None:
                self._attach_again(layer, output)
            return output
        used = set(self._layers.used(args, kwargs))
        self._used |= used
        modules = [frame.layer.module for frame in self._frames]
        layer = self._layers.function(func, args, kwargs, modules)
        if layer is None or not self._layers.selects(layer):
            return func(*args, **kwargs)
        start = self._start(args, kwargs)
        output = func(*args, **kwargs)
        for frame in self._frames:
            frame.covered |= used
        run = partial(func, *args, **kwargs)
        return self._met(layer, start, args, kwargs, output, run)

    # ---- visits -----------------------------------------------------------------------------------

    def _start(self, *inputs: Any) -> _Start | None:
        if self._visit is None:
            return None
        tensors = tuple(tensor for _, tensor in named_tensors(inputs))
        return _Start(self._writes.mark(), snapshot(*inputs), global_states(), tensors)

    def _release(self, start: _Start | None) -> None:
        if start is not None:
            self._writes.release(start.mark)

    def _met(
        self,
        layer: Layer,
        start: _Start | None,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        output: Any,
        run: Callable[[], Any],
    ) -> Any:
        """A layer has returned. What the pass goes on from."""
        self._counts[layer.name] += 1
        call = Call(layer, self._counts[layer.name])
        if self._visit is not None and start is not None:
            with_gradients = torch.is_grad_enabled()
            try:
                with self._aside() as back:
                    again = partial(self._again, layer, start, run, back, with_gradients)
                    call._values = values = _Values(args, kwargs, output, again)
                    self._visit(call)
                    self._layers.refuse_replaced(layer)
                output = values.output
            finally:
                call._values = None
                self._release(start)
        self._bar.step(layer.name)
        if self._visit_gradient is not None:
            tensor = _first_floating(output)
            if tensor is not None and tensor.requires_grad:
                tensor.register_hook(partial(self._gradient, call))
            else:
                self._recomputed.add(call)
        return output

    def _again(
        self,
        layer: Layer,
        start: _Start,
        run: Callable[[], Any],
        back: Callable[[], AbstractContextManager[None]],
        with_gradients: bool,
    ) -> Any:
        """In the midst of a visit, a layer from its start."""
        self._layers.refuse_replaced(layer)
        if with_gradients and start.mark.holds(tensor for tensor in start.inputs if tensor.requires_grad):
            raise RuntimeError(
                f"{layer.name} writes to its inputs, so it cannot be computed again where gradients "
                "are asked for: walk without a loss first"
            )
        theirs = global_states()
        try:
            self._writes.undo(start.mark)
            start.put_back()
            set_global_states(start.states)
            with back(), torch.set_grad_enabled(with_gradients):
                output = run()
            self._passing = global_states()
        finally:
            set_global_states(theirs)
        return output

    @contextmanager
    def _aside(self) -> Iterator[Callable[[], AbstractContextManager[None]]]:
        """For code of the visitor: outside the pass, with random numbers of its own. What is yielded
        leads back into the pass for a while."""
        self._is_aside = True
        self._passing = global_states()
        set_global_states(self._theirs)
        try:
            with _without(self) as back, torch.no_grad():
                yield back
        except BaseException as error:
            self._raised = error
            raise
        finally:
            self._is_aside = False
            self._theirs = global_states()
            set_global_states(self._passing)

    # ---- backward ---------------------------------------------------------------------------------

    def _backward(self, loss: Callable[..., Tensor], output: Any, target: Any) -> float:
        value = self._loss(loss, output, target)
        self._is_backward = True
        for leaf in (*self._model.parameters(), *self._inputs):
            leaf.grad = None
        try:
            torch.autograd.backward(value)
        except Exception as error:
            if self._raised is not None:
                raise self._raised from None
            raise RuntimeError(f"the backward pass failed: {_text(error)}") from error
        if self._visit_weight is not None:
            for name, parameter in self._model.named_parameters():
                if parameter.grad is not None:
                    with self._aside():
                        self._visit_weight(name, parameter, parameter.grad)
        return float(value.detach())

    def _loss(self, loss: Callable[..., Tensor], output: Any, target: Any) -> Tensor:
        try:
            value = loss(output) if target is None else loss(output, target)
        except Exception as error:
            without = "no target" if target is None else f"target {described(target)}"
            raise RuntimeError(
                f"loss failed on output {described(output)} and {without}: {_text(error)}"
            ) from error
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise ValueError(f"loss must return a scalar tensor, got {described(value)}")
        if not value.requires_grad:
            frozen = not any(each.requires_grad for each in self._model.parameters())
            why = "all of its parameters are frozen" if frozen else "nothing leads back from it"
            raise ValueError(
                f"loss cannot be differentiated: the model returned {described(output)}, and {why}"
            )
        return value

    def _gradient(self, call: Call, gradient: Tensor) -> None:
        if self._visit_gradient is not None:
            with self._aside():
                self._visit_gradient(call, gradient)

    def _attach_again(self, layer: Layer, output: Any) -> None:
        """In a checkpoint's second forward: gradients of the first one's calls go this way."""
        tensor = _first_floating(output)
        if self._visit_gradient is None or tensor is None or not tensor.requires_grad:
            return
        call = self._recomputed.take(layer.name)
        if call is not None:
            tensor.register_hook(partial(self._gradient, call))


class _Recomputed:
    """Calls that were computed without gradients. A reentrant checkpoint computes them again in the
    backward pass, in the same order, but the last checkpoint first. Calls between two changes of
    torch's gradient mode belong together.
    """

    def __init__(self) -> None:
        self._parts: list[list[Call]] = [[]]
        self._current: list[Call] = []

    def cut(self) -> None:
        """torch's gradient mode changes."""
        self._current = []
        if self._parts[-1]:
            self._parts.append([])

    def add(self, call: Call) -> None:
        self._parts[-1].append(call)

    def take(self, name: str) -> Call | None:
        """The call that is computed again now."""
        if not (self._current and self._current[0].name == name):
            part = next((p for p in reversed(self._parts) if p and p[0].name == name), None)
            if part is None:
                return None
            self._current = part
        return self._current.pop(0)


@contextmanager
def _without(mode: TorchFunctionMode) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Without a mode and all modes of torch's dispatcher; what is yielded brings them back."""
    functions = _get_current_function_mode_stack()
    with _disable_current_modes() as dispatched:
        _set_function_modes([each for each in functions if each is not mode])
        try:
            yield partial(_with, functions, dispatched)
        finally:
            _set_function_modes(functions)


@contextmanager
def _with(functions: list[Any], dispatched: list[Any]) -> Iterator[None]:
    now = _get_current_function_mode_stack()
    _set_function_modes(functions)
    for mode in reversed(dispatched):
        _push_dispatch_mode(mode)
    try:
        yield
    finally:
        for _ in dispatched:
            _pop_dispatch_mode()
        _set_function_modes(now)


def _set_function_modes(modes: list[Any]) -> None:
    for _ in _get_current_function_mode_stack():
        _pop_mode()
    for mode in modes:
        _push_mode(mode)


@contextmanager
def _eager() -> Iterator[None]:
    """Compiled functions run as they were written."""
    if "torch._dynamo" not in sys.modules:  # then there are none
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def _refuse_hooks(model: nn.Module) -> None:
    """An optimizer may step in them, which could not be undone."""
    for name, parameter in model.named_parameters():
        if parameter._post_accumulate_grad_hooks:
            raise ValueError(
                f"{name} has a hook that runs after its gradient is accumulated, which no backward "
                "pass but training's must call: remove it for the walk"
            )


def _first_floating(value: Any) -> Tensor | None:
    tensors = (tensor for _, tensor in named_tensors(value))
    return next((tensor for tensor in tensors if tensor.is_floating_point()), None)


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
