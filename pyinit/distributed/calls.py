"""What a call on a keyed parameter, or on a view of one, fills it with."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyinit import fill, init
from pyinit._random.distributions import NORMAL, TRUNC_NORMAL, UNIFORM, Distribution
from pyinit._random.rng import Key, rng
from pyinit._torch.views import DTYPES, LARGEST
from pyinit.distributed.targets import Place, Targets
from pyinit.init._basic import _warn_of_far_mean
from pyinit.init._routes import as_floats

Function = Callable[..., Any]

targets = Targets()
"""The parameters of all models that are keyed now."""


class _Thread(threading.local):
    """The call that a thread is in; what it calls in turn is a part of it."""

    call: "_Call | None" = None


class _Call(NamedTuple):
    """A call on a view of a parameter.

    tensor: the view
    place: where it lies; None if all is left to the function that is called
    key: what the call draws from
    """

    tensor: Tensor
    place: Place | None
    key: Key


_thread = _Thread()


@contextmanager
def one_call(tensor: Tensor, place: Place | None, key: Key) -> Iterator[None]:
    """Let all that is called in the block be one call, which draws pyinit's own numbers."""
    _thread.call = _Call(tensor, place, key)
    try:
        with rng("philox"):
            yield
    finally:
        _thread.call = None


def found(tensor: object) -> Place | None:
    """Where a tensor lies among the keyed parameters; None for other tensors, and inside of a call."""
    if _thread.call is not None or not isinstance(tensor, Tensor):
        return None
    return targets.find(tensor)


class Initializer:
    """A function that fills tensors, and what stands for it while models are keyed.

    ours: pyinit's function of that name
    """

    def __init__(self, ours: Function) -> None:
        self._ours = ours
        self._name = ours.__name__
        self._arguments = list(signature(ours).parameters)[1:]
        self._draws = "generator" in self._arguments

    def __call__(self, unkeyed: Function, tensor: Any, *args: Any, **kwargs: Any) -> Any:
        """Fill a keyed parameter by its key, and have any other tensor filled by ``unkeyed``."""
        call = _thread.call
        if call is not None:
            if call.place is not None and tensor is call.tensor and self._name in _BASIC:
                given = self._named(args, kwargs)
                _fill_view(self._name, tensor, call.place, call.key, given)
                return tensor
            return unkeyed(tensor, *args, **kwargs)
        place = found(tensor)
        if place is None:
            return unkeyed(tensor, *args, **kwargs)
        target = place.memory.target
        given = self._named(args, kwargs)
        is_all = place.offset is None or place.memory.is_all_of(tensor)
        with one_call(tensor, None if is_all else place, target.key):
            if not is_all and self._name in _BASIC:
                _fill_view(self._name, tensor, place, target.key, given)
            elif self._draws:  # functions that scale by fans come back with bounds or a deviation
                self._ours(tensor, **given, generator=target.key)
            else:
                self._ours(tensor, **given)
        if self._draws:
            target.has_drawn()
        target.is_reached = True
        return tensor

    def _named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments by name, without the generator, in whose place the key is."""
        given = dict(zip(self._arguments, args, strict=False)) | kwargs
        given.pop("generator", None)
        return given


class _Basic(NamedTuple):
    """A function whose numbers depend on the index alone, so that a block can have them.

    function: fills a whole tensor
    block: fills a block of one
    distribution: tells which parameters there is a distribution for
    defaults: the function's parameters
    """

    function: Function
    block: Function
    distribution: Distribution
    defaults: dict[str, float]


_BASIC = {
    "uniform_": _Basic(init.uniform_, fill.uniform, UNIFORM, {"a": 0.0, "b": 1.0}),
    "normal_": _Basic(init.normal_, fill.normal, NORMAL, {"mean": 0.0, "std": 1.0}),
    "trunc_normal_": _Basic(
        init.trunc_normal_,
        fill.trunc_normal,
        TRUNC_NORMAL,
        {"mean": 0.0, "std": 1.0, "a": -2.0, "b": 2.0},
    ),
}


def _fill_view(name: str, tensor: Tensor, place: Place, key: Key, given: dict[str, Any]) -> None:
    """Fill a view of a parameter with the numbers that all of the parameter would have there."""
    function, by_block, distribution, defaults = _BASIC[name]
    memory, offset = place
    assert offset is not None
    if tensor.numel() == 0:
        return
    numbers = list(as_floats(*(defaults | given).values()))
    block = memory.block(tensor, offset) if tensor.dtype in DTYPES else None
    if block is None or not distribution.takes(LARGEST[DTYPES[tensor.dtype]], *numbers):
        fill_by_copy(tensor, place, lambda whole: function(whole, **given, generator=key))
        return
    if name == "trunc_normal_":
        _warn_of_far_mean(*numbers)
    by_block(
        block.tensor,
        *numbers,
        key=key.key,
        stream=key.stream,
        whole=memory.shape,
        start=block.start,
    )


def fill_by_copy(tensor: Tensor, place: Place, make: Callable[[Tensor], object]) -> None:
    """Fill a view of a parameter from a copy of all of it.

    make: fills the copy
    """
    memory, offset = place
    own = memory.tensor
    copied = torch.empty(memory.span, dtype=own.dtype, device=own.device)
    make(copied.as_strided(memory.shape, memory.strides))
    with torch.no_grad():
        tensor.copy_(copied.as_strided(tensor.shape, tensor.stride(), offset))
