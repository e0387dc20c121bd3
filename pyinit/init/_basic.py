"""Distributions with the parameters that the caller gives, and constants."""

import math

import numpy as np
import torch
from torch import Tensor

from pyinit import _core
from pyinit._core import quick_normal, quick_uniform
from pyinit._device import fills as device_fills
from pyinit._messages import warn
from pyinit._random import stateless, torch_stream
from pyinit._random.distributions import (
    NORMAL,
    TRUNC_NORMAL,
    UNIFORM,
    Distribution,
    trunc_normal_kernel,
)
from pyinit._random.rng import RngName, Source, for_torch, get_rng, take_key
from pyinit._sharding import fills as sharded_fills
from pyinit._sharding.find import is_held
from pyinit._torch.original import methods, original
from pyinit._torch.views import LARGEST, overridden, writable_flat_view
from pyinit.init import _routes
from pyinit.init._routes import as_floats, fills, increment_version, is_float_argument, threads

# The fills of small tensors with few parameters write out what UNIFORM, NORMAL and CONSTANT take: a call
# of the table would be 3% to 7% of theirs. tests/random/test_distributions.py holds them to the table.
_HALVES = (_core.FLOAT16, _core.BFLOAT16)


@fills
def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Source = None) -> Tensor:
    """Fill with numbers drawn uniformly from ``[a, b)``.

    Args:
        tensor: a tensor of any shape
        a: the lower bound
        b: the upper bound, at least ``a``; ``b - a`` must be finite in the tensor's dtype
        generator: the ``torch.Generator`` to draw the key from (default: torch's own), or a key of
            ``torch.func._random``

    Returns:
        ``tensor``.

    Raises:
        RuntimeError: for bounds that are out of order or beyond the dtype's range.

    Example:
        >>> import torch, pyinit
        >>> _ = torch.manual_seed(0)
        >>> pyinit.uniform_(torch.empty(4), -1.0, 1.0)
        tensor([-0.1574,  0.2021,  0.9123, -0.6359])
    """
    choice = get_rng()
    if choice == "philox":
        if quick_uniform(tensor, a, b, generator, threads):
            return tensor
    elif _is_uniform_by_torch(choice, tensor, a, b, generator):
        return tensor
    view = writable_flat_view(tensor)
    if view is not None:
        low, high = (a, b) if a.__class__ is float and b.__class__ is float else as_floats(a, b)
        largest = LARGEST[view.dtype]
        if -largest <= low <= high <= largest and high - low <= largest:
            key = take_key(generator)
            if key is not None:
                _core.fill_uniform(view, low, high, key, threads())
                increment_version((tensor,))
                return tensor
            if torch_stream.uniform(tensor, view, low, high, generator):
                return tensor
    elif (
        device_fills.has_kernels_for(tensor)
        and device_fills.fill(tensor, UNIFORM, tuple(as_floats(a, b)), generator)
    ) or sharded_fills.fill(tensor, UNIFORM, tuple(as_floats(a, b)), generator):
        return tensor
    return _routes.by_torch(original.uniform_, tensor, a, b, for_torch(generator, tensor))


def _is_uniform_by_torch(
    choice: RngName, tensor: Tensor, a: float, b: float, generator: Source
) -> bool:
    """Fill with torch's numbers, where that does not take a view first."""
    if choice == "torch":
        return torch_stream.small(methods.uniform_, tensor, a, b, generator)
    return _fill_as_torch_func(UNIFORM, tensor, a, b, generator)


def _fill_as_torch_func(
    distribution: Distribution, tensor: Tensor, a: float, b: float, generator: Source
) -> bool:
    if not (
        stateless.fill(distribution, tensor, a, b, generator)
        or sharded_fills.fill(tensor, distribution, tuple(as_floats(a, b)), generator)
    ):
        stateless.fill_by_torch(distribution, tensor, a, b, generator)
    return True


@fills
def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Source = None
) -> Tensor:
    """Fill with numbers drawn from the normal distribution ``N(mean, std**2)``.

    Args:
        tensor: a tensor of any shape
        mean: the mean
        std: the standard deviation, at least 0
        generator: the ``torch.Generator`` to draw the key from (default: torch's own), or a key of
            ``torch.func._random``

    Returns:
        ``tensor``.

    Raises:
        RuntimeError: if ``std`` is negative or NaN.

    References:
        Box & Muller (1958), `A note on the generation of random normal deviates`.

    Example:
        >>> import torch, pyinit
        >>> _ = torch.manual_seed(0)
        >>> rows = pyinit.normal_(torch.empty(300, 200), std=0.02)
        >>> _ = torch.manual_seed(0)
        >>> columns = pyinit.normal_(torch.empty(200, 300).t(), std=0.02)
        >>> torch.equal(rows, columns)  # the layout in memory makes no difference
        True
    """
    choice = get_rng()
    if choice == "philox":
        if quick_normal(tensor, mean, std, generator, threads):
            return tensor
    elif _is_normal_by_torch(choice, tensor, mean, std, generator):
        return tensor
    view = writable_flat_view(tensor)
    if view is not None:
        centre, width = (
            (mean, std)
            if mean.__class__ is float and std.__class__ is float
            else as_floats(mean, std)
        )
        largest = LARGEST[view.dtype]
        if -largest <= centre <= largest and 0.0 <= width <= largest:
            key = take_key(generator)
            if key is not None:
                _core.fill_normal(view, centre, width, key, threads())
                increment_version((tensor,))
                return tensor
            if torch_stream.normal(tensor, view, centre, width, generator):
                return tensor
    elif (
        device_fills.has_kernels_for(tensor)
        and device_fills.fill(tensor, NORMAL, tuple(as_floats(mean, std)), generator)
    ) or sharded_fills.fill(tensor, NORMAL, tuple(as_floats(mean, std)), generator):
        return tensor
    return _routes.by_torch(original.normal_, tensor, mean, std, for_torch(generator, tensor))


def _is_normal_by_torch(
    choice: RngName, tensor: Tensor, mean: float, std: float, generator: Source
) -> bool:
    if choice == "torch":
        return torch_stream.small(methods.normal_, tensor, mean, std, generator)
    return _fill_as_torch_func(NORMAL, tensor, mean, std, generator)


@fills
def trunc_normal_(  # noqa: PLR0917  torch's signature
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Source = None,
) -> Tensor:
    """Fill with numbers drawn from ``N(mean, std**2)`` within ``[a, b]``.

    Where the bounds cut off at most 8% of the normal distribution, the numbers are those of
    ``normal_``, except where these lie outside. Such numbers, and all of narrower bounds, are made by
    the inverse of the distribution function, and far one-sided tails are as accurate as the middle.

    Args:
        tensor: a tensor of any shape
        mean: the mean of the normal distribution, before truncation
        std: its standard deviation, before truncation
        a: the lower bound; may be ``-inf``
        b: the upper bound; may be ``inf``
        generator: the ``torch.Generator`` to draw the key from (default: torch's own), or a key of
            ``torch.func._random``

    Returns:
        ``tensor``.

    Raises:
        ZeroDivisionError: if ``std`` is 0.
        RuntimeError: for bounds that are NaN, out of order or out of the dtype's range.
        ValueError: if ``mean`` is not finite or ``std`` is NaN.

    Warns:
        UserWarning: if ``mean`` is more than two ``std`` outside the bounds, as torch does.

    References:
        Devroye (1986), `Non-uniform random variate generation`, section II.2 (inversion).

    Example:
        >>> import torch, pyinit
        >>> _ = torch.manual_seed(0)
        >>> weight = pyinit.trunc_normal_(torch.empty(1000), std=0.02, a=-0.04, b=0.04)
        >>> bool(weight.abs().max() <= 0.04)
        True
    """
    return _trunc_normal(tensor, mean, std, a, b, generator)


def _trunc_normal(  # noqa: PLR0917
    tensor: Tensor, mean: float, std: float, a: float, b: float, generator: Source
) -> Tensor:
    view = writable_flat_view(tensor)
    if view is not None:
        centre, width, low, high = as_floats(mean, std, a, b)
        if get_rng() != "torch":
            _refuse_no_distribution(mean, std, a, b)
        # A negative std means its absolute value: torch squares it in the density.
        if TRUNC_NORMAL.takes(LARGEST[view.dtype], centre, abs(width), low, high):
            key = take_key(generator)
            if key is not None:
                _warn_of_far_mean(centre, width, low, high)
                kernel = trunc_normal_kernel()
                kernel(view, centre, abs(width), low, high, key, threads())
                increment_version((tensor,))
                return tensor
            if torch_stream.trunc_normal(tensor, view, centre, width, low, high, generator):
                return tensor
    elif device_fills.has_kernels_for(tensor) or is_held(tensor, generator):
        centre, width, low, high = as_floats(mean, std, a, b)
        fill = device_fills.fill if device_fills.has_kernels_for(tensor) else sharded_fills.fill
        if fill(tensor, TRUNC_NORMAL, (centre, abs(width), low, high), generator):
            _warn_of_far_mean(centre, width, low, high)
            return tensor
    elif not overridden(tensor) and (
        tensor.dtype.is_complex or tensor.is_nested or torch._C._functorch.is_batchedtensor(tensor)
    ):
        _routes.let_torch_refuse(original.trunc_normal_, tensor, mean, std, a, b)
    return _routes.by_torch(
        original.trunc_normal_, tensor, mean, std, a, b, for_torch(generator, tensor)
    )


def _warn_of_far_mean(mean: float, std: float, low: float, high: float) -> None:
    if mean < low - 2 * std or mean > high + 2 * std:
        warn(
            "mean is more than 2 std from [a, b] in nn.init.trunc_normal_. "
            "The distribution of values may be incorrect."
        )


def _refuse_no_distribution(mean: float, std: float, a: float, b: float) -> None:
    """Refuse parameters that no distribution has, and that torch answers with numbers of another one."""
    if all(map(is_float_argument, (mean, std, a, b))) and (
        not math.isfinite(mean) or math.isnan(std)
    ):
        raise ValueError(
            f"trunc_normal_ takes a finite mean and a std that is a number, got {mean=}, {std=}"
        )


@fills
def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill with ``val``.

    Args:
        tensor: a tensor of any shape
        val: a number within the range of the dtype, an infinity or NaN

    Returns:
        ``tensor``.

    Raises:
        RuntimeError: if the dtype cannot hold ``val``.

    Example:
        >>> import torch, pyinit
        >>> pyinit.constant_(torch.empty(2, 3), 0.5)
        tensor([[0.5000, 0.5000, 0.5000],
                [0.5000, 0.5000, 0.5000]])
    """
    view = writable_flat_view(tensor)
    if view is None or not _is_exact_float(val) or LARGEST[view.dtype] < abs(val) < math.inf:
        if view is None and sharded_fills.fill_constant(tensor, next(as_floats(val))):
            return tensor
        return _routes.by_torch(original.constant_, tensor, val)
    if view.dtype in _HALVES:
        val = float(np.float32(val))  # torch rounds twice, by way of float32
    _core.fill_constant(view, val, threads())
    increment_version((tensor,))
    return tensor


def _is_exact_float(value: object) -> bool:
    """Whether the value is a float, or an integer that a float holds exactly."""
    return isinstance(value, float) or (isinstance(value, int) and -(2**53) <= value <= 2**53)


@fills
def ones_(tensor: Tensor) -> Tensor:
    """Fill with ones.

    Args:
        tensor: a tensor of any shape

    Returns:
        ``tensor``.

    Example:
        >>> import torch, pyinit
        >>> pyinit.ones_(torch.empty(3))
        tensor([1., 1., 1.])
    """
    view = writable_flat_view(tensor)
    if view is None:
        if sharded_fills.fill_constant(tensor, 1.0):
            return tensor
        return _routes.by_torch(original.ones_, tensor)
    _core.fill_constant(view, 1.0, threads())
    increment_version((tensor,))
    return tensor


@fills
def zeros_(tensor: Tensor) -> Tensor:
    """Fill with zeros.

    Args:
        tensor: a tensor of any shape

    Returns:
        ``tensor``.

    Example:
        >>> import torch, pyinit
        >>> pyinit.zeros_(torch.empty(3))
        tensor([0., 0., 0.])
    """
    view = writable_flat_view(tensor)
    if view is None:
        if sharded_fills.fill_constant(tensor, 0.0):
            return tensor
        return _routes.by_torch(original.zeros_, tensor)
    _core.fill_constant(view, 0.0, threads())
    increment_version((tensor,))
    return tensor
