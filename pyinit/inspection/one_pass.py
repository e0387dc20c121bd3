"""The engine of a walk: one pass, forward and backward, and visits at the calls in it."""

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from threading import get_ident
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pyinit._graph.undisturbed import (
    Mark,
    RecordedWrites,
    restored,
    set_training,
    snapshot,
)
from pyinit._random.generators import (
    States,
    global_states,
    global_states_kept,
    set_global_states,
)
from pyinit._torch.modes import without
from pyinit.inspection.batches import Batch, described, named_tensors
from pyinit.inspection.calls import Call, Values, first_floating
from pyinit.inspection.foreign_code import ForeignCode
from pyinit.inspection.layers import Layer, Layers, opened
from pyinit.inspection.progress import Progress
from pyinit.inspection.recomputed import Recomputed


class Visitors(NamedTuple):
    """What is called at each call of a layer, with the gradient by its output, and by parameters.

    reads_only: none of them writes, draws from global generators, or has a layer computed again
    """

    call: Callable[[Call], object] | None = None
    gradient: Callable[[Call, Tensor], object] | None = None
    weight: Callable[[str, nn.Parameter, Tensor], object] | None = None
    reads_only: bool = False


class _Frame:
    """A layer whose forward runs.

    start: where it started, if it may be computed again
    covered: the parameters of its own that visited functions have used
    """

    __slots__ = ("args", "covered", "kwargs", "layer", "start")

    def __init__(self, layer: Layer, args: Any, kwargs: Any, start: "_Start | None") -> None:
        self.layer, self.args, self.kwargs, self.start = layer, args, kwargs, start
        self.covered: set[int] = set()


@dataclass(frozen=True)
class _Start:
    """Where a layer started.

    mark, put_back, states: memory, attributes, generators
    inputs: tensors in its inputs
    calls: how many calls of others there had been
    written: those of its parameters that the pass writes to, and copies, as the visit begins
    held: what is in the places of its parameters then
    """

    mark: Mark
    put_back: Callable[[], None]
    states: States
    inputs: tuple[Tensor, ...]
    calls: int
    written: list[tuple[Tensor, Tensor]]
    held: list[tuple[str, nn.Parameter | None]]


class Pass(TorchFunctionMode):
    """One pass, forward and backward."""

    def __init__(self, model: nn.Module, layers: Layers, visitors: Visitors, bar: Progress) -> None:
        super().__init__()
        self._model, self._layers, self._visitors, self._bar = model, layers, visitors, bar
        self._writes: RecordedWrites = RecordedWrites()
        self._frames: list[_Frame] = []
        self._counts: Counter[str] = Counter()
        self._called: set[nn.Module] = set()
        self._used: set[int] = set()
        self._following: list[Call] = []  # those whose gradients are asked for
        self._recomputed = Recomputed()
        self._foreign = ForeignCode(())
        self._open_again: list[nn.Module] = []  # modules whose forward runs in the backward pass
        self._inputs: list[Tensor] = []  # that may get gradients
        self._thread = get_ident()
        self._is_aside = False  # whether code of the visitor runs, or a layer again
        self._is_backward = False
        self._raised: BaseException | None = None

    def run(
        self, batch: Batch, loss: Callable[..., Tensor] | None, training: bool | None
    ) -> tuple[Any, float | None]:
        """The output and the loss."""
        tensors = [tensor for _, tensor in named_tensors(tuple(batch))]
        self._inputs = [tensor for tensor in tensors if tensor.is_leaf]
        self._foreign = ForeignCode((*self._model.parameters(), *self._model.buffers(), *tensors))
        with global_states_kept() as before, ExitStack() as stack:
            if loss is None:  # nothing to a checkpoint's second pass, which there is not
                stack.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", "None of the inputs have requires_grad=True")
            self._passing = self._theirs = before
            stack.enter_context(run_eagerly())
            self._writes = stack.enter_context(restored(self._model, *batch))
            for module in self._model.modules():
                first = module.register_forward_pre_hook(
                    self._enter, prepend=True, with_kwargs=True
                )
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
        return output, value

    @property
    def counts(self) -> dict[str, int]:
        """How often each visited layer was called."""
        return dict(self._counts)

    @property
    def unused(self) -> list[str]:
        """The layers that took no part."""
        return self._layers.unused(self._used, self._called)

    # ---- forward ----------------------------------------------------------------------------------

    def _forward(self, batch: Batch) -> Any:
        try:
            output = self._model(*batch.args, **batch.kwargs)
        except Exception as error:
            if self._raised is not None:
                raise self._raised from None
            raise RuntimeError(
                f"the forward pass failed {self._place()}: {_text(error)}"
            ) from error
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
            self._foreign.expect()
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
        while frame.layer.module is not module:  # modules whose error was caught
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
        frame.layer, frame.args, frame.kwargs = layer, args, kwargs
        return self._met(frame, output, run)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch._C._set_grad_enabled:
            self._recomputed.cut()
        if not self._is_aside and not self._is_backward:
            self._foreign.meet(func, types)
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
        here = _Frame(layer, args, kwargs, self._start(args, kwargs))
        output = func(*args, **kwargs)
        for frame in self._frames:
            frame.covered |= used
        return self._met(here, output, partial(func, *args, **kwargs))

    # ---- visits -----------------------------------------------------------------------------------

    def _start(self, *inputs: Any) -> _Start | None:
        if self._visitors.call is None or self._visitors.reads_only:
            return None
        tensors = tuple(tensor for _, tensor in named_tensors(inputs))
        calls = len(self._following)
        mark, put_back = self._writes.mark(), snapshot(*inputs)
        return _Start(mark, put_back, global_states(), tensors, calls, [], [])

    def _release(self, start: _Start | None) -> None:
        if start is not None:
            self._writes.release(start.mark)

    def _met(self, frame: "_Frame", output: Any, run: Callable[[], Any]) -> Any:
        """A layer has returned. What the pass goes on from."""
        layer, start = frame.layer, frame.start
        self._counts[layer.name] += 1
        call = Call(layer, self._counts[layer.name])
        if self._visitors.reads_only and self._visitors.call is not None and self._raised is None:
            call._values = Values(frame.args, frame.kwargs, output, _not_again)
            try:
                with self._aside():
                    self._visitors.call(call)
            finally:
                call._values = None
        elif self._visitors.call is not None and start is not None and self._raised is None:
            with_gradients = torch.is_grad_enabled()
            try:
                with self._aside() as back:
                    start.written[:] = self._written(layer)
                    start.held[:] = self._layers.held(layer)
                    again = partial(self._again, layer, start, run, back, with_gradients)
                    call._values = values = Values(frame.args, frame.kwargs, output, again)
                    self._visitors.call(call)
                    self._settle(layer, start)
                output = values.output
            finally:
                call._values = None
                self._release(start)
        self._bar.step(layer.name)
        if self._visitors.gradient is not None:
            self._following.append(call)
            tensor = first_floating(output)
            if tensor is not None and tensor.requires_grad:
                _register_hook(tensor, partial(self._gradient, call))
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
        self._settle(layer, start)
        if with_gradients and start.mark.holds(
            tensor for tensor in start.inputs if tensor.requires_grad
        ):
            raise RuntimeError(
                f"{layer.name} writes to its inputs, so it cannot be computed again where gradients "
                "are asked for: walk without a loss first"
            )
        theirs = global_states()
        try:
            self._writes.undo(start.mark)
            start.put_back()
            set_global_states(start.states)
            with (
                back(),
                torch.set_grad_enabled(with_gradients),
                self._following_since(start),
                # A checkpoint counts what is saved, and will compute the layer once.
                torch.autograd.graph.saved_tensors_hooks(_itself, _itself),
            ):
                output = run()
            self._passing = global_states()
        finally:
            set_global_states(theirs)
        start.written[:] = self._written(layer)
        return output

    def _written(self, layer: Layer) -> list[tuple[Tensor, Tensor]]:
        """The parameters that the pass itself writes to, as ``nn.Embedding(max_norm=1)`` does."""
        parameters = (each.detach() for each in layer.parameters.values())
        return [(each, each.clone()) for each in parameters if self._writes.holds(each)]

    def _settle(self, layer: Layer, start: _Start) -> None:
        """Refuse parameters that the visitor has replaced: others would go on in their places. What it
        has written to those that the pass writes to is what they are put back to."""
        for (name, now), (_, then) in zip(self._layers.held(layer), start.held, strict=True):
            if now is not then:
                raise TypeError(
                    f"visit must write into {name}, and has put another tensor in its place: use "
                    "parameter.copy_(values)"
                )
        for parameter, before in start.written:
            if not torch.allclose(parameter, before, rtol=0, atol=0, equal_nan=True):
                self._writes.forget(parameter)

    @contextmanager
    def _aside(self) -> Iterator[Callable[[], AbstractContextManager[None]]]:
        """For code of the visitor: outside the pass, with random numbers of its own. What is yielded
        leads back into the pass for a while."""
        self._is_aside = True
        try:
            with self._numbers_of_their_own(), without(self) as back, torch.no_grad():
                yield back
        except BaseException as error:
            self._raised = self._raised or error
            raise
        finally:
            self._is_aside = False

    @contextmanager
    def _numbers_of_their_own(self) -> Iterator[None]:
        if self._visitors.reads_only:
            yield
            return
        self._passing = global_states()
        set_global_states(self._theirs)
        try:
            yield
        finally:
            self._theirs = global_states()
            set_global_states(self._passing)

    @contextmanager
    def _following_since(self, start: _Start) -> Iterator[None]:
        """Calls inside a layer that is computed again get their gradients from there."""
        if self._visitors.gradient is None:
            yield
            return
        before = self._recomputed
        self._recomputed = Recomputed(self._following[start.calls :])
        self._is_aside, self._is_backward = False, True
        try:
            yield
        finally:
            self._recomputed = before
            self._is_aside, self._is_backward = True, False
            self._open_again.clear()

    # ---- backward ---------------------------------------------------------------------------------

    def _backward(self, loss: Callable[..., Tensor], output: Any, target: Any) -> float:
        value = self._loss(loss, output, target)
        self._is_backward = True
        for leaf in (*self._model.parameters(), *self._inputs):
            leaf.grad = None
        try:
            with self._watching_backward(value):
                torch.autograd.backward(value)
        except Exception as error:
            if self._raised is not None:
                raise self._raised from None
            raise RuntimeError(f"the backward pass failed: {_text(error)}") from error
        if self._visitors.weight is not None:
            with self._aside():
                for name, parameter in self._model.named_parameters():
                    if parameter.grad is not None:
                        self._visitors.weight(name, parameter, parameter.grad)
        return float(value.detach())

    def _watching_backward(self, value: Tensor) -> AbstractContextManager[object]:
        """torch's own code writes to nothing that is to be put back, and adds gradients in place only
        where no mode watches it."""
        if not self._visitors.reads_only or self._foreign.can_run(value):
            return nullcontext()
        return without(self)

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
        if value.is_complex():
            raise ValueError(f"loss must return a real number, got {described(value)}")
        if not value.requires_grad:
            frozen = not any(each.requires_grad for each in self._model.parameters())
            why = "all of its parameters are frozen" if frozen else "nothing leads back from it"
            raise ValueError(
                f"loss cannot be differentiated: the model returned {described(output)}, and {why}"
            )
        return value

    def _gradient(self, call: Call, gradient: Tensor) -> None:
        if self._visitors.gradient is not None:
            with self._aside():
                self._visitors.gradient(call, gradient)

    def _attach_again(self, layer: Layer, output: Any) -> None:
        """In a checkpoint's second forward: gradients of the first one's calls go this way."""
        tensor = first_floating(output)
        if self._visitors.gradient is None or tensor is None or not tensor.requires_grad:
            return
        call = self._recomputed.take(layer.name)
        if call is not None:
            _register_hook(tensor, partial(self._gradient, call))


@contextmanager
def run_eagerly() -> Iterator[None]:
    """Compiled functions run as they were written."""
    if "torch._dynamo" not in sys.modules:  # then there are none
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def _not_again() -> Any:
    raise RuntimeError("nothing is computed again in a walk with reads_only=True")


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def _register_hook(tensor: Tensor, hook: Callable[[Tensor], None]) -> None:
    with torch._C.DisableTorchFunction():  # it is none of the model's
        tensor.register_hook(hook)  # type: ignore[no-untyped-call]


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
