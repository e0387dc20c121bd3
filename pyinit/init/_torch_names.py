"""Names that ``torch.nn.init`` has beside its initializers: helpers that libraries import, and deprecated aliases."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from torch import Tensor

from pyinit._messages import warn
from pyinit._random.rng import Source, for_torch
from pyinit._scale.fans import fans, one_fan
from pyinit._torch.eager import eager
from pyinit._torch.original import original
from pyinit._torch.views import overridden, whole_shape
from pyinit.init import _routes
from pyinit.init._basic import (
    _trunc_normal,
    constant_,
    normal_,
    uniform_,
    zeros_,
)
from pyinit.init._orthogonal import orthogonal_
from pyinit.init._patterns import dirac_, eye_, sparse_
from pyinit.init._scaled import kaiming_normal_, kaiming_uniform_, xavier_normal_, xavier_uniform_

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    return fans(whole_shape(tensor))


def _calculate_correct_fan(tensor: Tensor, mode: str) -> int:
    return one_fan(whole_shape(tensor), mode)


@eager
def _no_grad_uniform_(tensor: Tensor, a: float, b: float, generator: Source = None) -> Tensor:
    if overridden(tensor):
        source = for_torch(generator, tensor)
        return _routes.by_torch(original._no_grad_uniform_, tensor, a, b, source)
    return uniform_(tensor, a, b, generator)


@eager
def _no_grad_normal_(tensor: Tensor, mean: float, std: float, generator: Source = None) -> Tensor:
    if overridden(tensor):
        source = for_torch(generator, tensor)
        return _routes.by_torch(original._no_grad_normal_, tensor, mean, std, source)
    return normal_(tensor, mean, std, generator)


@eager
def _no_grad_trunc_normal_(  # noqa: PLR0917  torch's signature
    tensor: Tensor, mean: float, std: float, a: float, b: float, generator: Source = None
) -> Tensor:
    return _trunc_normal(tensor, mean, std, a, b, generator)


@eager
def _no_grad_fill_(tensor: Tensor, val: float) -> Tensor:
    if overridden(tensor):
        return _routes.by_torch(original._no_grad_fill_, tensor, val)
    return constant_(tensor, val)


@eager
def _no_grad_zero_(tensor: Tensor) -> Tensor:
    return zeros_(tensor)


def _deprecated(function: Callable[_P, _R]) -> Callable[_P, _R]:
    new = function.__name__
    old = new[:-1]

    def deprecated_init(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        warn(
            f"`nn.init.{old}` is now deprecated in favor of `nn.init.{new}`.",
            FutureWarning,
        )
        return function(*args, **kwargs)

    deprecated_init.__name__ = deprecated_init.__qualname__ = old
    deprecated_init.__doc__ = f"Deprecated alias, as in torch: use ``{new}``."
    return deprecated_init


uniform = _deprecated(uniform_)
normal = _deprecated(normal_)
constant = _deprecated(constant_)
eye = _deprecated(eye_)
dirac = _deprecated(dirac_)
xavier_uniform = _deprecated(xavier_uniform_)
xavier_normal = _deprecated(xavier_normal_)
kaiming_uniform = _deprecated(kaiming_uniform_)
kaiming_normal = _deprecated(kaiming_normal_)
orthogonal = _deprecated(orthogonal_)
sparse = _deprecated(sparse_)
