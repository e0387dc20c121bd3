"""``Tensor.uniform_`` and ``Tensor.normal_`` from pyinit's kernels, bit for bit as torch's.

They may stand in for torch's in the whole process, so they do what torch's do in everything but
time. Small tensors go to torch's own from C++. Everything else that the kernels do not write
(subclasses, modes, other devices and dtypes, tensors of automatic differentiation) goes there, too.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

from pyinit import _core
from pyinit._random import torch_stream
from pyinit._random.distributions import NORMAL, UNIFORM, Distribution
from pyinit._random.rng import Source, rng
from pyinit._torch import tally
from pyinit._torch.eager import eager
from pyinit._torch.original import methods as torchs
from pyinit._torch.views import LARGEST, View, writable_flat_view

_SMALL = 4096
"""Up to so many elements, torch's own methods are done sooner."""

_Fill = Callable[[Tensor, View, float, float, Source], bool]


def _number(value: object) -> float:
    """A number as a float; NaN for what torch has to convert or to refuse."""
    if value.__class__ is float or (value.__class__ is int and abs(value) < 2**53):
        return float(value)
    return math.nan


def _is_differentiated(tensor: Tensor) -> bool:
    """Whether automatic differentiation has to see that the values change, or to refuse it."""
    return (tensor.requires_grad and torch.is_grad_enabled()) or forward_ad._current_level >= 0


def _method(name: str, arguments: dict[str, float], distribution: Distribution, fill: _Fill) -> Any:
    """What stands in for a method of ``torch.Tensor``.

    name: the method's name
    arguments: the names of its parameters, and their defaults
    distribution: tells which parameters there is a distribution for
    fill: draws torch's numbers, if it can
    """
    original = getattr(torchs, name)

    def is_filled(tensor: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        given = dict(zip(arguments, args, strict=False)) | kwargs
        generator = given.pop("generator", None)
        if (
            len(args) > len(arguments)
            or len(given) + ("generator" in kwargs) < len(args) + len(kwargs)
            or not given.keys() <= arguments.keys()
            or not (generator is None or isinstance(generator, Generator))
            or _is_differentiated(tensor)
        ):
            return False
        view = writable_flat_view(tensor)
        if view is None:
            return False
        a, b = map(_number, (arguments | given).values())
        if not distribution.takes(LARGEST[view.dtype], a, b):
            return False
        with rng("torch"):
            return fill(tensor, view, a, b, generator)

    @eager
    def by_kernel_or_torch(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if is_filled(tensor, args, kwargs):
            return tensor
        filled: Tensor = original(tensor, *args, **kwargs)
        if tally.is_counting:
            tally.mark("torchs")
        return filled

    @eager
    def large(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if tally.is_counting:
            return tally.count(f"Tensor.{name}", by_kernel_or_torch, tensor, *args, **kwargs)
        return by_kernel_or_torch(tensor, *args, **kwargs)

    return _core.method_of(Tensor, original, large, _SMALL, Tensor, Parameter)


_ALL = {
    "uniform_": _method("uniform_", {"from": 0.0, "to": 1.0}, UNIFORM, torch_stream.uniform),
    "normal_": _method("normal_", {"mean": 0.0, "std": 1.0}, NORMAL, torch_stream.normal),
}
METHODS = {name: method for name, method in _ALL.items() if method is not None}
"""By name what ``torch.Tensor`` may be given in the places of torch's own methods."""
