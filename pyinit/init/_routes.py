"""Which way a call takes: to a kernel, to torch's own function, or to the kernels of a device."""

import functools
import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, Protocol, TypeVar, cast, overload

import numpy as np
import torch
from torch import Tensor
from torch.overrides import has_torch_function_variadic

from pyinit._messages import warn
from pyinit._random import stateless, torch_cases
from pyinit._random.rng import get_rng
from pyinit._scale.gain import AnyNonlinearity
from pyinit._sharding.find import sharded
from pyinit._torch import tally
from pyinit._torch.arrays import as_tensor
from pyinit._torch.eager import eager
from pyinit._torch.original import original
from pyinit._torch.views import Backwards, is_placeholder, overridden

threads = torch.get_num_threads
increment_version = torch._C._increment_version

_P = ParamSpec("_P")


class SupportsDLPack(Protocol):
    """An object that shares its memory by DLPack, such as an array of another library."""

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...


_Filled = TypeVar("_Filled", bound=SupportsDLPack)


class Fills(Protocol[_P]):
    """A function that fills its first argument and returns it: a tensor, or what ``as_tensor`` takes."""

    __name__: str

    @overload
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> Tensor: ...
    @overload
    def __call__(self, tensor: _Filled, *args: Any, **kwargs: Any) -> _Filled: ...


def fills(function: Callable[_P, Tensor]) -> Fills[_P]:
    """Let a function that fills its argument ``tensor`` fill arrays, too; torch.compile calls it as it is.

    What looks at the argument is made with the function's own arguments: ``*args`` and ``**kwargs`` would
    take a tenth of the time of a small fill.
    """
    parameters = inspect.signature(function).parameters.values()
    nameless = [
        one.replace(annotation=one.empty, default=one.empty if one.default is one.empty else None)
        for one in parameters
    ]
    given = ", ".join(
        f"{one.name}={one.name}" if one.kind is one.KEYWORD_ONLY else one.name for one in parameters
    )
    name = function.__name__
    source = (
        f"def {name}{inspect.Signature(nameless)}:\n"
        f"    if isinstance(tensor, Tensor):\n"
        f"        return function({given})\n"
        f"    return in_array(function, {given})\n"
    )
    names = {"__name__": __name__, "Tensor": Tensor, "function": function, "in_array": _in_array}
    exec(compile(source, f"<pyinit.{name}>", "exec"), names)  # noqa: S102
    made = cast(Any, names[name])
    made.__defaults__, made.__kwdefaults__ = function.__defaults__, function.__kwdefaults__
    return cast(Fills[_P], eager(functools.update_wrapper(made, eager(function))))


def _in_array(function: Callable[..., Any], array: Any, *args: Any, **kwargs: Any) -> Any:
    """Call a function that fills a tensor on an array, and return the array."""
    if hasattr(type(array), "__torch_function__"):  # no tensor, but something that stands for one
        return function(array, *args, **kwargs)
    fill_in_memory(lambda tensor: function(tensor, *args, **kwargs), as_tensor("tensor", array))
    return array


def fill_in_memory(fill: Callable[[Tensor], object], tensor: Tensor) -> None:
    """Fill the tensor that ``as_tensor`` has made. Torch's own numbers need steps that torch has."""
    if type(tensor) is Backwards and get_rng() != "philox":
        forwards = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
        fill(forwards)
        tensor.copy_(forwards)
    else:
        fill(tensor)


def by_torch(function: Callable[..., Tensor], tensor: Tensor, *args: Any) -> Tensor:
    """Call torch's own function. All such calls pass here, where tests can count them.

    Raises:
        ValueError: for a parameter that ZeRO-3 has partitioned, in whose place torch fills an empty tensor.
    """
    stateless.refuse_other_numbers(function, tensor)
    filled = function(tensor, *args)
    if is_placeholder(tensor):
        raise ValueError(
            "a parameter that DeepSpeed's ZeRO-3 has partitioned is filled by pyinit's own numbers alone, "
            "from a seed or a generator on the CPU: here torch would write nothing"
        )
    if tally.is_counting:
        tally.mark("torchs")
    return filled


def let_torch_refuse(function: Callable[..., Tensor], tensor: Tensor, *args: Any) -> None:
    """Have torch fill a copy, for kinds of tensors that it refuses only once it has written."""
    function(tensor.clone(), *args)


def is_unstrided(tensor: Tensor) -> bool:
    """Whether the tensor is sparse or of another layout. A subclass that sees every call is not asked."""
    return not overridden(tensor) and tensor.layout is not torch.strided


def is_float_argument(value: object) -> bool:
    """Whether torch takes the value where it wants a float."""
    return isinstance(value, (float, int, np.floating, np.integer, np.bool_)) or (
        isinstance(value, Tensor)
        and value.dim() == 0
        and not value.requires_grad
        and not value.is_complex()
    )


def as_floats(*values: Any) -> Iterator[float]:
    """The values as floats. What torch does not take for one becomes NaN, which no distribution takes."""
    return (float(value) if is_float_argument(value) else math.nan for value in values)


def is_torchs_call(
    function: Callable[..., Tensor],
    tensor: Tensor,
    groups: int,
    transposed: bool,
    batch_dims: int,
    *,
    nonlinearity: AnyNonlinearity = "",
) -> bool:
    """Whether torch's function of that name has to see the call as it is, and knows its arguments."""
    return (
        (has_torch_function_variadic(tensor) or get_rng() == "torch")
        and groups == 1
        and not transposed
        and batch_dims == 0
        and isinstance(nonlinearity, str)
        and (differs_in_torch(function) or (overridden(tensor) and not _is_ours(tensor)))
    )


def _is_ours(tensor: Tensor) -> bool:
    """Whether a tensor that torch's own functions hand on is filled by pyinit: it is spread over processes."""
    return get_rng() != "torch" and sharded(tensor) is not None


def differs_in_torch(function: Callable[..., Tensor]) -> bool:
    """Whether torch's numbers are asked for, and the installed torch computes them in another way."""
    name = function.__name__
    return get_rng() == "torch" and not torch_cases.agrees(name, function, getattr(original, name))


def warn_of_no_elements() -> None:
    warn("Initializing zero-element tensors is a no-op")
