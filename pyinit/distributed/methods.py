"""Methods of tensors while models are keyed: those that draw, and those that only write."""

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

import torch
from torch import Tensor

from pyinit._patch import rng_in_force
from pyinit._random.rng import Key, for_torch
from pyinit._random.tensor_methods import METHODS as PATCHED
from pyinit._torch.eager import eager
from pyinit.distributed.calls import (
    Initializer,
    fill_by_whole,
    found,
    one_call,
    settle,
    torch_has_drawn,
)
from pyinit.distributed.targets import Place
from pyinit.init import normal_, uniform_
from pyinit.init._routes import is_float_argument

_Method = Callable[..., Any]

# The methods that a function of pyinit's does, and what it calls their parameters.
_BY_FUNCTION: dict[str, tuple[Initializer, dict[str, str]]] = {
    "normal_": (Initializer(normal_), {"mean": "mean", "std": "std"}),
    "uniform_": (Initializer(uniform_), {"from": "a", "to": "b"}),
}
_BY_GENERATOR = ("random_", "exponential_", "log_normal_", "cauchy_", "geometric_", "bernoulli_")
_WRITES = ("fill_", "zero_", "copy_", "__setitem__")
_ADDS = ("add_", "sub_", "__iadd__", "__isub__")  # of themselves they initialize nothing
_COPIES = ("copy_", "__setitem__", *_ADDS)
NAMES = (*_BY_FUNCTION, *_BY_GENERATOR, *_WRITES, *_ADDS)


def method(name: str, before: _Method | None) -> _Method:
    """What stands for a method of ``torch.Tensor`` while models are keyed.

    before: what somebody else has put in the method's place; None for torch's own
    """
    torchs = getattr(torch._C.TensorBase, name)

    def unkeyed() -> _Method:
        if before is not None:
            return before
        is_patched = rng_in_force() is not None and name in PATCHED
        return cast(_Method, PATCHED[name] if is_patched else torchs)

    @eager
    @wraps(torchs)
    def keyed(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        place = found(tensor)
        # torch refuses to write where automatic differentiation would have to see it.
        if place is None or (tensor.requires_grad and torch.is_grad_enabled()):
            return unkeyed()(tensor, *args, **kwargs)
        if name in _WRITES or name in _ADDS:
            place.target.is_reached |= name in _WRITES
            place.target.is_copied |= name in _COPIES and torch_has_drawn()
            if name not in _COPIES:
                place.target.note(tensor, name, args, kwargs)
            written = unkeyed()(tensor, *args, **kwargs)
            settle(place.target)
            return written
        if name in _BY_FUNCTION and _is_plain(name, args, kwargs):
            initializer, names = _BY_FUNCTION[name]
            given = dict(zip(names.values(), args, strict=False))
            given |= {names[k]: v for k, v in kwargs.items() if k != "generator"}
            return initializer(torchs, tensor, **given)
        given = {key: value for key, value in kwargs.items() if key != "generator"}
        place.target.note(tensor, name, args, given)
        return _drawn_by_torch(torchs, tensor, place, args, kwargs)

    return keyed


def _is_plain(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the arguments are numbers, each given once; torch has to see anything else."""
    names = [*_BY_FUNCTION[name][1]]
    given = [value for key, value in kwargs.items() if key != "generator"]
    return (
        len(args) <= len(names)
        and kwargs.keys() <= {*names[len(args) :], "generator"}
        and all(map(is_float_argument, (*args, *given)))
    )


def _drawn_by_torch(
    torchs: _Method, tensor: Tensor, place: Place, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor:
    """Have torch draw from a generator that is seeded from the parameter's key.

    A part gets its part of what all of the parameter would get, unless further tensors have its shape.
    """
    target = place.target

    def draw(whole: Tensor) -> None:
        torchs(whole, *args, **{**kwargs, "generator": for_torch(Key(*target.key), whole)})

    is_alone = (
        any(isinstance(value, Tensor) for value in (*args, *kwargs.values()))
        or tensor.dtype is not target.parameter.dtype
    )
    with one_call(tensor, None, target.key):
        if is_alone or (place.offset is None and place.memory.is_whole and tensor.is_contiguous()):
            draw(tensor)
        elif place.offset is None and place.memory.is_whole:
            made = torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)
            draw(made)  # in the order of indices: torch's follows the memory
            with torch.no_grad():
                tensor.copy_(made)
        else:
            fill_by_whole(place, draw)
    target.drawn(place)
    target.is_reached = True
    settle(target)
    return tensor
