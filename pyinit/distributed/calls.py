"""What a call on a keyed parameter, or on a view of one, fills it with."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyinit import init
from pyinit._random.distributions import NORMAL, TRUNC_NORMAL, UNIFORM, Distribution
from pyinit._random.generators import cuda_in_use
from pyinit._random.rng import Key, rng
from pyinit._sharding.fills import PieceFills, empty_whole
from pyinit._sharding.sharded import Sharded
from pyinit._sharding.zero3 import settle_
from pyinit._torch.views import DTYPES, LARGEST
from pyinit.distributed.targets import Place, Target, Targets
from pyinit.init._basic import _warn_of_far_mean
from pyinit.init._routes import as_floats

Function = Callable[..., Any]

targets = Targets()
"""The parameters of all models that are keyed now."""


_states: list[Tensor] = []
"""Those of torch's generators when it was last asked whether they have drawn."""


def torch_has_drawn() -> bool:
    """Whether torch's own generators have drawn, or were seeded, since this was last asked."""
    devices = [torch.cuda.default_generators[device.index] for device in cuda_in_use()]
    now = [generator.get_state() for generator in (torch.default_generator, *devices)]
    is_same = len(now) == len(_states) and all(map(torch.equal, now, _states))
    _states[:] = now
    return not is_same


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


def settle(target: Target) -> None:
    """Have what was written last, if the parameter is one that ZeRO-3 has gathered for a while."""
    if target.is_partitioned:
        with one_call(target.parameter, None, target.key):
            settle_((target.parameter,))


def found(tensor: object) -> Place | None:
    """Where a tensor lies among the keyed parameters; None for other tensors, and inside of a call."""
    if _thread.call is not None or not isinstance(tensor, Tensor):
        return None
    place = targets.find(tensor)
    if place is None and type(tensor) is not Tensor:
        targets.note_lost(tensor)
    return place


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
                _fill_view(self._name, call.place, call.key, given)
                return tensor
            return unkeyed(tensor, *args, **kwargs)
        place = found(tensor)
        if place is None:
            return unkeyed(tensor, *args, **kwargs)
        target = place.target
        given = self._named(args, kwargs)
        target.note(tensor, self._name, (), given)
        with one_call(tensor, place if place.is_view else None, target.key):
            if place.is_view and self._name in _BASIC:
                _fill_view(self._name, place, target.key, given)
            else:  # functions that scale by fans come back with bounds or a deviation for a view
                key = {"generator": target.key} if self._draws else {}
                self._ours(whole_of(place, tensor), **given, **key)
        if self._draws:
            target.drawn(place)
        target.is_reached = True
        settle(target)
        return tensor

    def _named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments by name, without the generator, in whose place the key is."""
        given = dict(zip(self._arguments, args, strict=False)) | kwargs
        given.pop("generator", None)
        return given


def whole_of(place: Place, tensor: Tensor) -> Tensor:
    """What to fill in a tensor's stead: the parameter, if a tensor is all that is held of one."""
    return tensor if place.memory.is_whole or place.offset is not None else place.target.parameter


class _Basic(NamedTuple):
    """A function whose numbers depend on the index alone, so that a block can have them.

    function: fills a whole tensor
    distribution: what it draws
    defaults: its parameters
    """

    function: Function
    distribution: Distribution
    defaults: dict[str, float]


_BASIC = {
    "uniform_": _Basic(init.uniform_, UNIFORM, {"a": 0.0, "b": 1.0}),
    "normal_": _Basic(init.normal_, NORMAL, {"mean": 0.0, "std": 1.0}),
    "trunc_normal_": _Basic(
        init.trunc_normal_, TRUNC_NORMAL, {"mean": 0.0, "std": 1.0, "a": -2.0, "b": 2.0}
    ),
}


def _fill_view(name: str, place: Place, key: Key, given: dict[str, Any]) -> None:
    """Fill a view of a parameter with the numbers that all of the parameter would have there."""
    function, distribution, defaults = _BASIC[name]
    dtype = place.memory.tensor.dtype
    numbers = tuple(as_floats(*(defaults | given).values()))
    if dtype not in DTYPES or not distribution.takes(LARGEST[DTYPES[dtype]], *numbers):
        fill_by_whole(place, lambda whole: function(whole, **given, generator=key))
        return
    if name == "trunc_normal_":
        _warn_of_far_mean(*numbers)

    def fill(part: Sharded) -> None:
        fills = PieceFills()
        fills.add(part, distribution, numbers, key)
        fills.run()

    block = place.block
    if block is not None:
        fill(block)
    else:
        _fill_by_copy(place, fill)


def fill_by_whole(place: Place, make: Callable[[Tensor], object]) -> None:
    """Fill a parameter or a view of one from a tensor that has all of the parameter's elements.

    make: fills such a tensor
    """
    part = place.memory.part
    whole = empty_whole(place.memory.tensor, part)
    make(whole)
    if place.offset is None:
        with torch.no_grad():
            part.take_(whole)
    else:
        _fill_by_copy(place, lambda part: part.take_(whole))


def _fill_by_copy(place: Place, fill: Callable[[Sharded], object]) -> None:
    """Fill a view of a parameter from a copy of all that is held of the parameter.

    fill: fills the copy
    """
    tensor = place.tensor
    memory, part = place.memory.copied()
    with torch.no_grad():
        fill(part)
        tensor.copy_(memory.as_strided(tensor.shape, tensor.stride(), place.offset or 0))
