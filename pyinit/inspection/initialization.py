"""A user's initialization run on a model: watched, with seeded generators, and all put back after."""

import copy
import functools
import inspect
import random
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.init
from torch import Tensor, nn

from pyinit._random.generators import cuda_in_use, python_seeded, torch_seeded
from pyinit._torch.digests import bits
from pyinit._torch.placement import refuse_elsewhere
from pyinit.init import _basic as _pyinits
from pyinit.init import _torch_names
from pyinit.initializers import Centred, TruncNormal
from pyinit.inspection.tensors import Held, held_by, not_examined
from pyinit.reports.initialization import InitReport

Init = str | Callable[..., Any]

RESET = "reset_parameters"


class Initialization:
    """What initializes a model: a method's name, ``"reset_parameters"`` of every module, or a callable.

    Raises:
        TypeError: if it is none of these.
    """

    def __init__(self, init: Init) -> None:
        if not isinstance(init, str) and not callable(init):
            raise TypeError(
                "init must be the name of a method of the model, 'reset_parameters', or a "
                f"callable, got {type(init).__name__}"
            )
        self.init = init

    def __str__(self) -> str:
        if isinstance(self.init, str):
            return self.init
        return str(getattr(self.init, "__qualname__", None) or type(self.init).__name__)

    def check(self, model: nn.Module) -> None:
        """Whether the model has such a method.

        Raises:
            ValueError: naming it, if not.
        """
        if self.init == RESET:
            if not any(callable(getattr(module, RESET, None)) for module in model.modules()):
                raise ValueError(f"init: no module of {type(model).__name__} has {RESET}")
        elif isinstance(self.init, str) and not callable(getattr(model, self.init, None)):
            raise ValueError(f"init: {type(model).__name__} has no method {self.init!r}")

    def run(self, model: nn.Module) -> Any:
        """Initialize the model, with the same random numbers each time.

        Raises:
            RuntimeError: naming the initialization, if it raises anything.
        """
        with seeded():
            try:
                return self._call(model)
            except Exception as error:
                raise RuntimeError(f"init {self} raised {type(error).__name__}: {error}") from error

    def _call(self, model: nn.Module) -> Any:
        if self.init == RESET:
            return model.apply(_reset)
        if isinstance(self.init, str):
            return getattr(model, self.init)()
        if inspect.ismethod(self.init) and self.init.__self__ is model:
            return self.init()
        return self.init(model)


def _reset(module: nn.Module) -> None:
    reset = getattr(module, RESET, None)
    if callable(reset):
        reset()


@contextmanager
def seeded() -> Iterator[None]:
    """All generators that a process shares, seeded for a while."""
    with torch_seeded(0, cuda_in_use()), python_seeded(0):
        yield


# ---- A model, put back ---------------------------------------------------------------------------


class Kept:
    """A model as it is: its modules' attributes, and, if asked for, the values of its tensors."""

    def __init__(self, model: nn.Module, *, with_values: bool) -> None:
        self._modules = [(vars(module), *_attributes(module)) for module in model.modules()]
        held = {id(g): g for module in model.modules() for g in vars(module).values()}
        self._generators = [
            (generator, set_, get(generator))
            for generator in held.values()
            for kind, get, set_ in _GENERATORS
            if isinstance(generator, kind)
        ]
        self._tensors = [
            (
                t,
                t.data,
                t.requires_grad,
                t.grad,
                dict(vars(t)),
                bits(t).clone() if with_values else None,
            )
            for t in (held.tensor for held in held_by(model))
            if not_examined(t) is None
        ]

    @torch.no_grad()
    def put_back(self) -> None:
        for held, before, containers in self._modules:
            held.clear()
            held.update(before)
            for name, content in containers.items():
                _refill(before[name], content)
        for generator, set_state, state in self._generators:
            set_state(generator, state)
        for tensor, data, requires_grad, grad, attributes, values in self._tensors:
            tensor.data = data
            vars(tensor).clear()
            vars(tensor).update(attributes)
            tensor.requires_grad_(requires_grad)
            tensor.grad = grad
            if values is not None and not tensor.is_meta:
                bits(tensor).copy_(values)


def unmark(model: nn.Module) -> None:
    """Take away what says that modules and tensors are initialized, and would keep ``init`` from it."""
    for marked in (*model.modules(), *model.parameters(), *model.buffers()):
        vars(marked).pop(_MARK, None)


_MARK = "_is_hf_initialized"  # transformers'


def _attributes(module: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """The attributes, and what is in those that hold others: parameters, hooks, children."""
    before = dict(vars(module))
    return before, {k: copy.copy(v) for k, v in before.items() if type(v) in _CONTAINERS}


def _numpy_state(generator: np.random.Generator) -> Any:
    return generator.bit_generator.state


def _set_numpy_state(generator: np.random.Generator, state: Any) -> None:
    generator.bit_generator.state = state


# Those that modules may hold: the class, and what gives and sets their states.
_GENERATORS: tuple[tuple[type, Callable[[Any], Any], Callable[[Any, Any], Any]], ...] = (
    (torch.Generator, torch.Generator.get_state, torch.Generator.set_state),
    (np.random.Generator, _numpy_state, _set_numpy_state),
    (np.random.RandomState, np.random.RandomState.get_state, np.random.RandomState.set_state),
    (random.Random, random.Random.getstate, random.Random.setstate),
)

_CONTAINERS = (dict, OrderedDict, list, set)


def _refill(container: Any, content: Any) -> None:
    container.clear()
    if isinstance(container, list):
        container.extend(content)
    else:
        container.update(content)


def refuse_unkept(model: nn.Module) -> None:
    """Refuse a model whose values could not be put back.

    Raises:
        ValueError: naming the parameters.
        RuntimeError: for inference tensors.
    """
    all_held = held_by(model)
    refuse_elsewhere("check with init", ((held.name, held.tensor) for held in all_held), model)
    for held in all_held:
        reason = not_examined(held.tensor)
        if reason is not None:
            raise ValueError(f"check with init: {held.name} could not be put back: it is {reason}")
        if held.tensor.is_inference() and not torch.is_inference_mode_enabled():
            raise RuntimeError(
                f"check with init: {held.name} is an inference tensor, which can be written in "
                "inference mode alone"
            )


# ---- What an initialization calls ----------------------------------------------------------------


class Truncation(NamedTuple):
    """A call of ``trunc_normal_``, or an initializer of a report."""

    name: str
    mean: float
    std: float
    a: float
    b: float


class Watch:
    """What initializations call: truncated normals, and which modules write what.

    kept: the parameters that a report says were left as they are
    """

    def __init__(self) -> None:
        self._calls: dict[int, tuple[float, float, float, float]] = {}
        self._by_name: dict[str, tuple[float, float, float, float]] = {}
        self.kept: set[str] = set()
        self._writers: dict[int, dict[int, nn.Module]] = {}

    def truncations(self, all_held: list[Held]) -> list[Truncation]:
        """Of the tensors that a model has now."""
        found = dict(self._by_name)
        for held in filter(lambda held: _has_address(held.tensor), all_held):
            call = self._calls.get(_address(held.tensor))
            if call is not None:
                found.setdefault(held.name, call)
        return [Truncation(name, *call) for name, call in found.items()]

    def writers(self, all_held: list[Held]) -> dict[str, list[nn.Module]]:
        """The modules that wrote each tensor, of those that several wrote."""
        found = ((held.name, self._writers.get(id(held.tensor), {})) for held in all_held)
        return {name: list(modules.values()) for name, modules in found if len(modules) > 1}

    def read(self, result: object) -> None:
        """What an initialization returned: a report tells of truncated normals, too."""
        if isinstance(result, InitReport):
            self.kept = {
                name for row in result if row.is_kept for name in (row.name, *row.originals)
            }
            for row in result:
                if isinstance(row.initializer, Centred):
                    continue  # which moves values out of their bounds
                for block in row.initializer.resolve(row.weight):
                    if type(block.drawn) is TruncNormal:
                        drawn = block.drawn
                        self._by_name[row.name] = (drawn.mean, drawn.std, drawn.a, drawn.b)

    @contextmanager
    def watching(self) -> Iterator["Watch"]:
        """torch's and pyinit's truncated normals, and ``Module.apply``, tell what they do."""
        self._calls.clear()
        self._writers.clear()
        with ExitStack() as stack:
            for module, name in _TRUNCATED:
                _swap(stack, module, name, self._truncated(getattr(module, name)))
            _swap(stack, nn.Module, "apply", self._applied(nn.Module.apply))
            yield self

    def _truncated(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def truncated(
            tensor: Tensor, mean: Any, std: Any, a: Any, b: Any, *args: Any, **kwargs: Any
        ) -> Tensor:
            if _has_address(tensor):
                self._calls[_address(tensor)] = float(mean), float(std), float(a), float(b)
            return function(tensor, mean, std, a, b, *args, **kwargs)

        return truncated

    def _applied(self, apply: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        @functools.wraps(apply)
        def applied(module: nn.Module, fn: Callable[[nn.Module], None]) -> nn.Module:
            if isinstance(fn, _Framed):  # of a child
                return apply(module, fn)
            return apply(module, _Framed(self, fn))

        return applied


class _Framed:
    """A function of modules, of which ``Watch`` learns what each call writes."""

    def __init__(self, watch: Watch, function: Callable[[nn.Module], None]) -> None:
        self._watch, self._function = watch, function

    def __call__(self, module: nn.Module) -> None:
        before = {id(t): (t, t._version) for t in _tensors(module)}
        self._function(module)
        for tensor in _tensors(module):
            was = before.get(id(tensor))
            if was is None or was[1] != tensor._version:
                self._watch._writers.setdefault(id(tensor), {})[id(module)] = module


def _tensors(module: nn.Module) -> list[Tensor]:
    return [t for t in (*module.parameters(), *module.buffers()) if not t.is_inference()]


_TRUNCATED = (
    (torch.nn.init, "_no_grad_trunc_normal_"),
    (_pyinits, "_trunc_normal"),
    (_torch_names, "_trunc_normal"),
)


def _has_address(tensor: Tensor) -> bool:
    return not tensor.is_meta and not_examined(tensor) is None


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _swap(stack: ExitStack, holder: Any, name: str, replacement: Any) -> None:
    before = vars(holder)[name]
    stack.callback(setattr, holder, name, before)
    setattr(holder, name, replacement)
