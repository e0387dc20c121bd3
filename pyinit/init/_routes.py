"""Which way a call takes: to a kernel, to torch's own function, or to the kernels of a device."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import has_torch_function_variadic

from pyinit._messages import warn
from pyinit._random import torch_cases
from pyinit._random.rng import get_rng
from pyinit._scale.gain import AnyNonlinearity
from pyinit._torch import tally
from pyinit._torch.original import original
from pyinit._torch.views import overridden

threads = torch.get_num_threads
increment_version = torch._C._increment_version


def by_torch(function: Callable[..., Tensor], tensor: Tensor, *args: Any) -> Tensor:
    """Call torch's own function. All such calls pass here, where tests can count them."""
    filled = function(tensor, *args)
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
    nonlinearity: AnyNonlinearity = "",
) -> bool:
    """Whether torch's function of that name has to see the call as it is, and knows its arguments."""
    return (
        (has_torch_function_variadic(tensor) or get_rng() == "torch")
        and groups == 1
        and not transposed
        and isinstance(nonlinearity, str)
        and (overridden(tensor) or differs_in_torch(function))
    )


def differs_in_torch(function: Callable[..., Tensor]) -> bool:
    """Whether torch's numbers are asked for, and the installed torch computes them in another way."""
    name = function.__name__
    return get_rng() == "torch" and not torch_cases.agrees(name, function, getattr(original, name))


def warn_of_no_elements() -> None:
    warn("Initializing zero-element tensors is a no-op")
