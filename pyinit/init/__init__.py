"""Initializers: the names of ``torch.nn.init``, and more.

Each fills its tensor in place, under no autograd history, and returns it. Signatures, errors and
warnings are torch's; what pyinit adds is keyword-only. Tensors that the kernels cannot write
(other devices and dtypes, sparse, quantized, subclasses, meta) go to torch's own function. A DTensor is
refused where an element's value depends on its place: ``eye_``, ``dirac_``, ``sparse_``, ``hadamard_``
and the orthogonal ones write to parts of a tensor, and what is written there does not reach its shards.

Numbers depend on the key of the call and on an element's place in the tensor alone, so memory
layout, thread count and instruction set do not change them (orthogonal matrices only to rounding, on
a CPU without fused multiply-add). A call draws its key, 64 bits, from ``generator`` or from torch's
default generator: ``torch.manual_seed`` governs it.

Every fan-based initializer takes ``groups=`` and ``transposed=``. With the defaults fans are
torch's. A convolution's weight (out, in/groups, *kernel) has fan_in = in/groups * taps and, once
``groups`` is given, fan_out = out/groups * taps. With ``transposed=True`` the weight is a transposed
convolution's, (in, out/groups, *kernel): fan_in = in/groups * taps, fan_out = out/groups * taps.
Strides are not counted. The orthogonal initializers take ``groups=``: a matrix for each.
"""

import math
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.overrides import has_torch_function_variadic

from pyinit import _core
from pyinit._device import fills as device_fills
from pyinit._messages import warn
from pyinit._random import orthogonal as _orthogonal
from pyinit._random import torch_stream
from pyinit._random.rng import Source, for_torch, get_rng, take_key
from pyinit._scale.fans import checked_groups, fans, mean_fan, one_fan
from pyinit._scale.gain import Nonlinearity, calculate_gain
from pyinit._torch.eager import eager
from pyinit._torch.original import original as _torch
from pyinit._torch.placement import refuse_distributed
from pyinit._torch.views import LARGEST, native_view, overridden, refuse_inference, shaped_view

__all__ = [
    "calculate_gain",
    "constant",
    "constant_",
    "delta_orthogonal_",
    "dirac",
    "dirac_",
    "eye",
    "eye_",
    "hadamard_",
    "kaiming_normal",
    "kaiming_normal_",
    "kaiming_uniform",
    "kaiming_uniform_",
    "lecun_normal_",
    "lecun_uniform_",
    "normal",
    "normal_",
    "ones_",
    "orthogonal",
    "orthogonal_",
    "orthogonal_many_",
    "sparse",
    "sparse_",
    "trunc_normal_",
    "uniform",
    "uniform_",
    "variance_scaling_",
    "xavier_normal",
    "xavier_normal_",
    "xavier_uniform",
    "xavier_uniform_",
    "zeros_",
]

_P = ParamSpec("_P")
_R = TypeVar("_R")

_ROOT_3 = math.sqrt(3.0)

# Standard deviation of the standard normal truncated to [-2, 2].
_TRUNCATED_STD = 0.87962566103423978

_HALVES = (_core.FLOAT16, _core.BFLOAT16)

_increment_version = torch._C._increment_version
_threads = torch.get_num_threads


def _by_torch(function: Callable[..., Tensor], tensor: Tensor, *args: Any) -> Tensor:
    return function(tensor, *args)


def _let_torch_refuse(function: Callable[..., Tensor], tensor: Tensor, *args: Any) -> None:
    """Have torch fill a copy, of kinds that it refuses only once it has written."""
    function(tensor.clone(), *args)


def _is_unstrided(tensor: Tensor) -> bool:
    """Whether it is sparse or of another layout; not asked of what has to see each question."""
    return not overridden(tensor) and tensor.layout is not torch.strided


def _is_number(value: object) -> bool:
    """Whether torch takes the value as a float argument."""
    return isinstance(value, (float, int, np.floating, np.integer, np.bool_)) or (
        isinstance(value, Tensor)
        and value.dim() == 0
        and not value.requires_grad
        and not value.is_complex()
    )


def _numbers(*values: Any) -> Iterator[float]:
    """The values as floats; NaN for what is no number, which no range holds."""
    return (float(value) if _is_number(value) else math.nan for value in values)


@eager
def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Source = None) -> Tensor:
    r"""Fill with numbers drawn uniformly from :math:`[a, b)`.

    Args:
        tensor: a tensor of any shape
        a: the lower bound
        b: the upper bound, at least ``a``; ``b - a`` must be finite in the tensor's dtype
        generator: the ``torch.Generator`` to draw the key from (default: torch's own)

    Raises:
        RuntimeError: for bounds that are out of order or beyond the dtype's range.
    """
    if get_rng() == "torch" and torch_stream.small(Tensor.uniform_, tensor, a, b, generator):
        return tensor
    view = native_view(tensor)
    if view is not None:
        low, high = (a, b) if a.__class__ is float and b.__class__ is float else _numbers(a, b)
        largest = LARGEST[view[1]]
        if -largest <= low <= high <= largest and high - low <= largest:
            key = take_key(generator)
            if key is not None:
                _core.fill_uniform(view, low, high, key, _threads())
                _increment_version((tensor,))
                return tensor
            if torch_stream.uniform(tensor, view, low, high, generator):
                return tensor
    elif device_fills.reaches(tensor) and device_fills.fill(
        tensor, device_fills.UNIFORM, tuple(_numbers(a, b)), generator
    ):
        return tensor
    return _by_torch(_torch.uniform_, tensor, a, b, for_torch(generator, tensor))


@eager
def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Source = None
) -> Tensor:
    r"""Fill with numbers drawn from the normal distribution :math:`N(\text{mean}, \text{std}^2)`.

    Args:
        tensor: a tensor of any shape
        mean: the mean
        std: the standard deviation, at least 0
        generator: the ``torch.Generator`` to draw the key from (default: torch's own)

    Raises:
        RuntimeError: if ``std`` is negative or NaN.
    """
    if get_rng() == "torch" and torch_stream.small(Tensor.normal_, tensor, mean, std, generator):
        return tensor
    view = native_view(tensor)
    if view is not None:
        centre, width = (
            (mean, std)
            if mean.__class__ is float and std.__class__ is float
            else _numbers(mean, std)
        )
        largest = LARGEST[view[1]]
        if -largest <= centre <= largest and 0.0 <= width <= largest:
            key = take_key(generator)
            if key is not None:
                _core.fill_normal(view, centre, width, key, _threads())
                _increment_version((tensor,))
                return tensor
            if torch_stream.normal(tensor, view, centre, width, generator):
                return tensor
    elif device_fills.reaches(tensor) and device_fills.fill(
        tensor, device_fills.NORMAL, tuple(_numbers(mean, std)), generator
    ):
        return tensor
    return _by_torch(_torch.normal_, tensor, mean, std, for_torch(generator, tensor))


@eager
def trunc_normal_(  # noqa: PLR0917  torch's signature
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Source = None,
) -> Tensor:
    r"""Fill with numbers drawn from :math:`N(\text{mean}, \text{std}^2)` within :math:`[a, b]`.

    The inverse of the distribution function makes the numbers, so none is drawn twice, and far
    one-sided tails are as right as the middle.

    Args:
        tensor: a tensor of any shape
        mean: the mean of the normal distribution, before truncation
        std: its standard deviation, before truncation
        a: the lower bound; may be ``-inf``
        b: the upper bound; may be ``inf``
        generator: the ``torch.Generator`` to draw the key from (default: torch's own)

    Raises:
        ZeroDivisionError: if ``std`` is 0.
        RuntimeError: for bounds that are NaN, out of order or out of the dtype's range.
        ValueError: if ``mean`` is not finite or ``std`` is NaN.

    Warns:
        UserWarning: if ``mean`` is more than two ``std`` outside the bounds, as torch does.
    """
    return _trunc_normal(tensor, mean, std, a, b, generator)


def _trunc_normal(  # noqa: PLR0917
    tensor: Tensor, mean: float, std: float, a: float, b: float, generator: Source
) -> Tensor:
    view = native_view(tensor)
    if view is not None:
        centre, width, low, high = _numbers(mean, std, a, b)
        if get_rng() != "torch":
            _refuse_no_distribution(mean, std, a, b)
        largest = LARGEST[view[1]]
        # A negative std means its absolute value: torch squares it in the density.
        if (
            abs(centre) < math.inf
            and 0.0 < abs(width) < math.inf
            and low <= high
            and low <= largest
            and high >= -largest
        ):
            key = take_key(generator)
            if key is not None:
                _warn_of_far_mean(centre, width, low, high)
                _core.fill_trunc_normal(view, centre, abs(width), low, high, key, _threads())
                _increment_version((tensor,))
                return tensor
            if torch_stream.trunc_normal(tensor, view, centre, width, low, high, generator):
                return tensor
    elif device_fills.reaches(tensor):
        centre, width, low, high = _numbers(mean, std, a, b)
        numbers = centre, abs(width), low, high
        if device_fills.fill(tensor, device_fills.TRUNC_NORMAL, numbers, generator):
            _warn_of_far_mean(centre, width, low, high)
            return tensor
    elif not overridden(tensor) and (
        tensor.dtype.is_complex or tensor.is_nested or torch._C._functorch.is_batchedtensor(tensor)
    ):
        _let_torch_refuse(_torch.trunc_normal_, tensor, mean, std, a, b)
    return _by_torch(_torch.trunc_normal_, tensor, mean, std, a, b, for_torch(generator, tensor))


def _warn_of_far_mean(mean: float, std: float, low: float, high: float) -> None:
    if mean < low - 2 * std or mean > high + 2 * std:
        warn(
            "mean is more than 2 std from [a, b] in nn.init.trunc_normal_. "
            "The distribution of values may be incorrect."
        )


def _refuse_no_distribution(mean: float, std: float, a: float, b: float) -> None:
    """torch answers these with numbers of some other distribution."""
    if all(map(_is_number, (mean, std, a, b))) and (not math.isfinite(mean) or math.isnan(std)):
        raise ValueError(
            f"trunc_normal_ takes a finite mean and a std that is a number, got {mean=}, {std=}"
        )


@eager
def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill with ``val``.

    Args:
        tensor: a tensor of any shape
        val: a number within the range of the dtype, an infinity or NaN

    Raises:
        RuntimeError: if the dtype cannot hold ``val``.
    """
    view = native_view(tensor)
    if view is None or not _is_exact(val):
        return _by_torch(_torch.constant_, tensor, val)
    if LARGEST[view[1]] < abs(val) < math.inf:
        return _by_torch(_torch.constant_, tensor, val)
    if view[1] in _HALVES:
        val = float(np.float32(val))  # torch rounds twice, by way of float32
    _core.fill_constant(view, val, _threads())
    _increment_version((tensor,))
    return tensor


def _is_exact(value: object) -> bool:
    """Whether the value is a float, or an integer that a float holds exactly."""
    return isinstance(value, float) or (isinstance(value, int) and -(2**53) <= value <= 2**53)


@eager
def ones_(tensor: Tensor) -> Tensor:
    """Fill a tensor of any shape with 1."""
    view = native_view(tensor)
    if view is None:
        return _by_torch(_torch.ones_, tensor)
    _core.fill_constant(view, 1.0, _threads())
    _increment_version((tensor,))
    return tensor


@eager
def zeros_(tensor: Tensor) -> Tensor:
    """Fill a tensor of any shape with 0."""
    view = native_view(tensor)
    if view is None:
        return _by_torch(_torch.zeros_, tensor)
    _core.fill_constant(view, 0.0, _threads())
    _increment_version((tensor,))
    return tensor


@eager
def eye_(tensor: Tensor) -> Tensor:
    """Fill a matrix with ones on its diagonal and zeros elsewhere.

    Args:
        tensor: a tensor of 2 dimensions

    Raises:
        ValueError: if it has another number of dimensions.
    """
    view = shaped_view(tensor)
    if view is None or len(view[2]) != 2:
        refuse_distributed("tensor", tensor)
        return _by_torch(_torch.eye_, tensor)
    _core.fill_dirac(view, 1, _threads())
    _increment_version((tensor,))
    return tensor


@eager
def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Fill the weight of a convolution so that it passes on as many channels as it can.

    Within each group, output channel d is input channel d: one 1 at the centre tap (size // 2).

    Args:
        tensor: a tensor of 3, 4 or 5 dimensions, (out, in/groups, *kernel)
        groups: the convolution's groups; they must divide ``out``

    Raises:
        ValueError: for another number of dimensions, or groups that do not divide ``out``.
    """
    view = shaped_view(tensor)
    if view is None or len(view[2]) not in (3, 4, 5):
        refuse_distributed("tensor", tensor)
        if _is_unstrided(tensor):
            _let_torch_refuse(_torch.dirac_, tensor, groups)
        return _by_torch(_torch.dirac_, tensor, groups)
    shape = view[2]
    if shape[0] % groups or operator.index(groups) < 1 or 0 in shape:
        return _by_torch(_torch.dirac_, tensor, groups)
    _core.fill_dirac(view, operator.index(groups), _threads())
    _increment_version((tensor,))
    return tensor


@eager
def xavier_uniform_(
    tensor: Tensor,
    gain: float = 1.0,
    generator: Source = None,
    *,
    groups: int = 1,
    transposed: bool = False,
) -> Tensor:
    r"""Fill with uniform numbers of variance :math:`2 \text{gain}^2 / (\text{fan\_in} +
    \text{fan\_out})`.

    Glorot & Bengio (2010), `Understanding the difficulty of training deep feedforward neural
    networks`. The bounds are :math:`\pm \text{gain} \sqrt{6 / (\text{fan\_in} +
    \text{fan\_out})}`.

    Args:
        tensor: a weight of at least 2 dimensions, (out, in, *kernel)
        gain: a factor on the bounds
        generator: the ``torch.Generator`` to draw the key from (default: torch's own)
        groups: the convolution's groups; they must divide dim 0
        transposed: whether it is the weight of a transposed convolution

    Raises:
        ValueError: for fewer than 2 dimensions, or groups that do not divide dim 0.
    """
    if _torchs_call("xavier_uniform_", tensor, groups, transposed):
        return _by_torch(_torch.xavier_uniform_, tensor, gain, for_torch(generator, tensor))
    fan_in, fan_out = fans(tensor.shape, groups, transposed)
    std = gain * math.sqrt(2.0 / float(fan_in + fan_out))
    bound = _ROOT_3 * std
    return uniform_(tensor, -bound, bound, generator)


@eager
def xavier_normal_(
    tensor: Tensor,
    gain: float = 1.0,
    generator: Source = None,
    *,
    groups: int = 1,
    transposed: bool = False,
) -> Tensor:
    r"""Fill with normal numbers of variance :math:`2 \text{gain}^2 / (\text{fan\_in} +
    \text{fan\_out})`.

    Glorot & Bengio (2010), `Understanding the difficulty of training deep feedforward neural
    networks`.

    Args:
        tensor: a weight of at least 2 dimensions, (out, in, *kernel)
        gain: a factor on the standard deviation
        generator: the ``torch.Generator`` to draw the key from (default: torch's own)
        groups: the convolution's groups; they must divide dim 0
        transposed: whether it is the weight of a transposed convolution

    Raises:
        ValueError: for fewer than 2 dimensions, or groups that do not divide dim 0.
    """
    if _torchs_call("xavier_normal_", tensor, groups, transposed):
        return _by_torch(_torch.xavier_normal_, tensor, gain, for_torch(generator, tensor))
    fan_in, fan_out = fans(tensor.shape, groups, transposed)
    std = gain * math.sqrt(2.0 / float(fan_in + fan_out))
    return normal_(tensor, 0.0, std, generator)


@eager
def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: Nonlinearity = "leaky_relu",
    generator: Source = None,
    *,
    groups: int = 1,
    transposed: bool = False,
) -> Tensor:
    r"""Fill with uniform numbers of variance :math:`\text{gain}^2 / \text{fan}`.

    He et al. (2015), `Delving deep into rectifiers: surpassing human-level performance on ImageNet
    classification`. The bounds are :math:`\pm \text{gain} \sqrt{3 / \text{fan}}`.

    Args:
        tensor: a weight of at least 2 dimensions, (out, in, *kernel)
        a: the negative slope of ``"leaky_relu"``
        mode: ``"fan_in"`` keeps the scale of the forward pass, ``"fan_out"`` of the backward pass
        nonlinearity: what follows the layer: a name or an activation, as ``calculate_gain`` takes
        generator: the ``torch.Generator`` to draw the key from (default: torch's own)
        groups: the convolution's groups; they must divide dim 0
        transposed: whether it is the weight of a transposed convolution

    Raises:
        ValueError: for fewer than 2 dimensions, an unknown mode or nonlinearity, or groups that do
            not divide dim 0.

    Warns:
        UserWarning: if the tensor has no elements; nothing is done then.
    """
    if _torchs_call("kaiming_uniform_", tensor, groups, transposed, nonlinearity):
        return _by_torch(
            _torch.kaiming_uniform_, tensor, a, mode, nonlinearity, for_torch(generator, tensor)
        )
    shape = tensor.shape
    if 0 in shape:
        _warn_of_no_elements()
        return tensor
    fan = one_fan(shape, mode, groups, transposed)
    std = calculate_gain(nonlinearity, a) / math.sqrt(fan)
    bound = _ROOT_3 * std
    return uniform_(tensor, -bound, bound, generator)


@eager
def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: Nonlinearity = "leaky_relu",
    generator: Source = None,
    *,
    groups: int = 1,
    transposed: bool = False,
) -> Tensor:
    r"""Fill with normal numbers of variance :math:`\text{gain}^2 / \text{fan}`.

    He et al. (2015), `Delving deep into rectifiers: surpassing human-level performance on ImageNet
    classification`.

    Args:
        tensor: a weight of at least 2 dimensions, (out, in, *kernel)
        a: the negative slope of ``"leaky_relu"``
        mode: ``"fan_in"`` keeps the scale of the forward pass, ``"fan_out"`` of the backward pass
        nonlinearity: what follows the layer: a name or an activation, as ``calculate_gain`` takes
        generator: the ``torch.Generator`` to draw the key from (default: torch's own)
        groups: the convolution's groups; they must divide dim 0
        transposed: whether it is the weight of a transposed convolution

    Raises:
        ValueError: for fewer than 2 dimensions, an unknown mode or nonlinearity, or groups that do
            not divide dim 0.

    Warns:
        UserWarning: if the tensor has no elements; nothing is done then.
    """
    if _torchs_call("kaiming_normal_", tensor, groups, transposed, nonlinearity):
        return _by_torch(
            _torch.kaiming_normal_, tensor, a, mode, nonlinearity, for_torch(generator, tensor)
        )
    shape = tensor.shape
    if 0 in shape:
        _warn_of_no_elements()
        return tensor
    fan = one_fan(shape, mode, groups, transposed)
    std = calculate_gain(nonlinearity, a) / math.sqrt(fan)
    return normal_(tensor, 0.0, std, generator)


def _torchs_call(
    name: str, tensor: Tensor, groups: int, transposed: bool, nonlinearity: Nonlinearity = ""
) -> bool:
    """Whether torch's own function must see this very call, and can take its arguments."""
    return (
        (has_torch_function_variadic(tensor) or get_rng() == "torch")
        and groups == 1
        and not transposed
        and isinstance(nonlinearity, str)
        and (overridden(tensor) or _torch_differs(name))
    )


def _torch_differs(name: str) -> bool:
    """Whether torch's numbers are asked for and the installed torch computes them otherwise."""
    return get_rng() == "torch" and not torch_stream.agrees(
        name, globals()[name], getattr(_torch, name)
    )


def _warn_of_no_elements() -> None:
    warn("Initializing zero-element tensors is a no-op")


@eager
def variance_scaling_(
    tensor: Tensor,
    scale: float = 1.0,
    mode: str = "fan_in",
    distribution: str = "truncated_normal",
    generator: Source = None,
    *,
    groups: int = 1,
    transposed: bool = False,
) -> Tensor:
    r"""Fill with numbers of mean 0 and variance :math:`\text{scale} / \text{fan}`.

    The formula of which LeCun, Glorot and He initialization are cases, named as in Keras and JAX.

    Args:
        tensor: a weight of at least 2 dimensions, (out, in, *kernel)
        scale: a positive factor on the variance
        mode: ``"fan_in"``, ``"fan_out"``, or their mean: ``"fan_avg"`` (arithmetic),
            ``"fan_geo_avg"`` (geometric)
        distribution: ``"truncated_normal"``, cut at two of its own standard deviations and widened
            so that the variance after the cut is right; ``"normal"``, also called
            ``"untruncated_normal"``; or ``"uniform"``
        generator: the ``torch.Generator`` to draw the key from (default: torch's own)
        groups: the convolution's groups; they must divide dim 0
        transposed: whether it is the weight of a transposed convolution

    Raises:
        ValueError: for fewer than 2 dimensions, a scale that is not positive and finite, an unknown
            mode or distribution, or groups that do not divide dim 0.

    Warns:
        UserWarning: if the tensor has no elements; nothing is done then.
    """
    return _variance_scaling(
        tensor, scale, mode, distribution, generator, groups=groups, transposed=transposed
    )


@eager
def lecun_uniform_(
    tensor: Tensor, generator: Source = None, *, groups: int = 1, transposed: bool = False
) -> Tensor:
    r"""Fill with uniform numbers of variance :math:`1 / \text{fan\_in}`.

    LeCun et al. (1998), `Efficient BackProp`; the scale at which SELU networks normalize themselves
    (Klambauer et al. 2017, `Self-normalizing neural networks`).

    Args:
        tensor: a weight of at least 2 dimensions, (out, in, *kernel)
        generator: the ``torch.Generator`` to draw the key from (default: torch's own)
        groups: the convolution's groups; they must divide dim 0
        transposed: whether it is the weight of a transposed convolution

    Raises:
        ValueError: for fewer than 2 dimensions, or groups that do not divide dim 0.

    Warns:
        UserWarning: if the tensor has no elements; nothing is done then.
    """
    return _variance_scaling(
        tensor, 1.0, "fan_in", "uniform", generator, groups=groups, transposed=transposed
    )


@eager
def lecun_normal_(
    tensor: Tensor, generator: Source = None, *, groups: int = 1, transposed: bool = False
) -> Tensor:
    r"""Fill with truncated normal numbers of variance :math:`1 / \text{fan\_in}`.

    LeCun et al. (1998), `Efficient BackProp`; the scale at which SELU networks normalize themselves
    (Klambauer et al. 2017, `Self-normalizing neural networks`). Truncated as in Keras and JAX.

    Args:
        tensor: a weight of at least 2 dimensions, (out, in, *kernel)
        generator: the ``torch.Generator`` to draw the key from (default: torch's own)
        groups: the convolution's groups; they must divide dim 0
        transposed: whether it is the weight of a transposed convolution

    Raises:
        ValueError: for fewer than 2 dimensions, or groups that do not divide dim 0.

    Warns:
        UserWarning: if the tensor has no elements; nothing is done then.
    """
    return _variance_scaling(
        tensor, 1.0, "fan_in", "truncated_normal", generator, groups=groups, transposed=transposed
    )


def _variance_scaling(
    tensor: Tensor,
    scale: float,
    mode: str,
    distribution: str,
    generator: Source,
    *,
    groups: int,
    transposed: bool,
) -> Tensor:
    draw = _DISTRIBUTIONS.get(distribution)
    if draw is None:
        raise ValueError(
            f"distribution must be one of {list(_DISTRIBUTIONS)}, got {distribution!r}"
        )
    if not (_is_number(scale) and 0.0 < scale < math.inf):
        raise ValueError(f"scale must be a positive finite number, got {scale!r}")
    fan = mean_fan(tensor.shape, mode, groups, transposed)
    if 0 in tensor.shape:
        _warn_of_no_elements()
        return tensor
    return draw(tensor, math.sqrt(scale / fan), generator)


def _uniform_of_std(tensor: Tensor, std: float, generator: Source) -> Tensor:
    bound = _ROOT_3 * std
    return uniform_(tensor, -bound, bound, generator)


def _normal_of_std(tensor: Tensor, std: float, generator: Source) -> Tensor:
    return normal_(tensor, 0.0, std, generator)


def _truncated_normal_of_std(tensor: Tensor, std: float, generator: Source) -> Tensor:
    std /= _TRUNCATED_STD
    return trunc_normal_(tensor, 0.0, std, -2 * std, 2 * std, generator)


_DISTRIBUTIONS: dict[str, Callable[[Tensor, float, Source], Tensor]] = {
    "truncated_normal": _truncated_normal_of_std,
    "normal": _normal_of_std,
    "untruncated_normal": _normal_of_std,
    "uniform": _uniform_of_std,
}


@eager
def orthogonal_(
    tensor: Tensor, gain: float = 1, generator: Source = None, *, groups: int = 1
) -> Tensor:
    r"""Fill with a (semi-)orthogonal matrix, drawn uniformly (Haar) among all.

    Saxe et al. (2014), `Exact solutions to the nonlinear dynamics of learning in deep linear neural
    networks`; Stewart (1980), `The efficient generation of random orthogonal matrices with an
    application to condition estimators`; Mezzadri (2007), `How to generate random matrices from the
    classical compact groups`. float16 and bfloat16 are computed in float32 and rounded once.

    Args:
        tensor: a tensor of at least 2 dimensions, (out, in, *kernel); those after the first count
            as one
        gain: a factor, finite (with torch's own numbers it is a factor like any other)
        generator: the ``torch.Generator`` to draw the key from (default: torch's own)
        groups: the convolution's groups; they must divide dim 0. Each gets a matrix of its own

    Raises:
        ValueError: for fewer than 2 dimensions, a gain that is not finite, or groups that do not
            divide dim 0.
    """
    view = shaped_view(tensor)
    if (groups.__class__ is not int or groups != 1) and tensor.dim() >= 2:
        checked_groups(groups, tensor.shape[0])
    if view is not None and len(view[2]) >= 2 and 0 not in view[2]:
        if get_rng() != "torch":
            factor = _orthogonal.factor(gain, view)
            key = take_key(generator)
            if key is not None:
                _core.fill_orthogonal(_orthogonal.jobs(view, factor, key, groups), _threads())
                _increment_version((tensor,))
                return tensor if factor is not None else _multiplied(tensor, gain)
        elif not _torch_differs("orthogonal_") and _orthogonal.fill_from_torchs_numbers(
            tensor, view, gain, generator, groups
        ):
            return tensor
    elif view is None and device_fills.orthogonal(tensor, gain, generator, groups):
        return tensor
    return _orthogonal_by_torch(tensor, gain, for_torch(generator, tensor), groups)


def _orthogonal_by_torch(
    tensor: Tensor, gain: float, generator: torch.Generator | None, groups: int
) -> Tensor:
    refuse_distributed("tensor", tensor)
    if groups == 1 or tensor.dim() < 2:
        return _by_torch(_torch.orthogonal_, tensor, gain, generator)
    if tensor.numel() == 0 or tensor.is_meta:
        return tensor
    refuse_inference(tensor)
    rows, *others = tensor.size(0) // groups, *tensor.shape[1:]
    with torch.no_grad():
        parts = [
            _by_torch(_torch.orthogonal_, tensor.new_empty((rows, *others)), 1, generator)
            for _ in range(groups)
        ]
        return tensor.copy_(_multiplied(torch.cat(parts), gain))


def _multiplied(tensor: Tensor, factor: Any) -> Tensor:
    with torch.no_grad():
        return tensor.mul_(factor)


@eager
def orthogonal_many_(
    tensors: Iterable[Tensor], gain: float | Iterable[float] = 1, generator: Source = None
) -> list[Tensor]:
    r"""Fill each of many tensors as ``orthogonal_`` does, in one call.

    The values are those of ``orthogonal_`` called on one tensor after the other. Small matrices are
    made at the same time, each by one thread.

    Args:
        tensors: tensors of at least 2 dimensions, of any shapes and dtypes, in any order
        gain: a finite factor, or one for each tensor
        generator: the ``torch.Generator`` to draw the keys from, one for each tensor in turn
            (default: torch's own). A ``Key`` gives tensor i the stream numbered i higher

    Returns:
        A list of the tensors.

    Raises:
        TypeError: if ``tensors`` holds anything but tensors, or is a tensor itself.
        ValueError: if there are not as many gains as tensors, for a tensor of fewer than 2
            dimensions, or a gain that is not finite.
    """
    matrices = _orthogonal.listed_tensors(tensors)
    gains = _orthogonal.listed_gains(gain, len(matrices))
    sources = _orthogonal.listed_sources(generator, matrices)
    if device_fills.orthogonal_many(matrices, gains, sources):
        return matrices
    views = [shaped_view(tensor) for tensor in matrices]
    is_native = get_rng() != "torch"
    factors: list[float | None] = []
    for i, (tensor, one, view) in enumerate(zip(matrices, gains, views, strict=True)):
        if is_native and view is not None:
            factors.append(_orthogonal.factor(one, view))
        else:
            factors.append(None)
            _try(f"tensors[{i}]", tensor, one)
    if not is_native or _orthogonal.may_share_memory(filter(None, views)):
        for tensor, one, source in zip(matrices, gains, sources, strict=True):
            orthogonal_(tensor, one, source)
        return matrices

    jobs: list[_orthogonal.Job] = []
    filled: list[Tensor] = []
    for tensor, one, source, view, factor in zip(
        matrices, gains, sources, views, factors, strict=True
    ):
        is_ready = view is not None and factor is not None and 0 not in view[2]
        key = take_key(source) if is_ready else None
        if view is not None and key is not None:
            jobs += _orthogonal.jobs(view, factor, key, 1)
            filled.append(tensor)
        else:  # it may share memory with those before
            _fill_orthogonal(jobs, filled)
            jobs, filled = [], []
            orthogonal_(tensor, one, source)
    _fill_orthogonal(jobs, filled)
    return matrices


def _fill_orthogonal(jobs: list[_orthogonal.Job], tensors: list[Tensor]) -> None:
    _core.fill_orthogonal(jobs, _threads())
    _increment_version(tuple(tensors))


def _try(name: str, tensor: Tensor, gain: float) -> None:
    """Raise what torch's function would raise for such a tensor and gain, without writing or drawing."""
    refuse_distributed(name, tensor)
    refuse_inference(tensor)
    if tensor.numel() == 0 or tensor.is_meta:
        return
    if tensor.layout is torch.strided and _is_expanded(tensor):
        raise ValueError(
            f"{name} must not have elements that share memory, got strides {tensor.stride()}"
        )
    alike = tensor.new_empty((1, 1))
    _by_torch(_torch.orthogonal_, alike, gain, torch.Generator(tensor.device))


def _is_expanded(tensor: Tensor) -> bool:
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return any(size > 1 and stride == 0 for size, stride in sizes)


@eager
def delta_orthogonal_(
    tensor: Tensor, gain: float = 1, generator: Source = None, *, groups: int = 1
) -> Tensor:
    """Fill the weight of a convolution with zeros but for an orthogonal matrix at its centre.

    With it a convolution keeps the norm of its input. Xiao et al. (2018), `Dynamical isometry and a
    mean field theory of CNNs: how to train 10,000-layer vanilla convolutional neural networks`.

    Args:
        tensor: a tensor of 3, 4 or 5 dimensions, (out, in/groups, *kernel), with out >= in; the
            matrix's columns are orthonormal and stand at the centre tap (size // 2). It is the one
            that ``orthogonal_`` makes for the shape (out, in/groups)
        gain: a factor, finite (with torch's own numbers it is a factor like any other)
        generator: the ``torch.Generator`` to draw the key from (default: torch's own)
        groups: the convolution's groups; they must divide dim 0. Each gets a matrix of its own

    Raises:
        ValueError: for another number of dimensions, out < in, a gain that is not finite, or groups
            that do not divide dim 0.
    """
    if tensor.dim() not in (3, 4, 5):
        raise ValueError(f"tensor must have 3, 4 or 5 dimensions, got {tensor.dim()}")
    rows, columns = tensor.shape[0] // checked_groups(groups, tensor.shape[0]), tensor.shape[1]
    if rows < columns:
        raise ValueError(
            "tensor must have at least as many output as input channels"
            f"{'' if groups == 1 else ' in each group'}, got {rows} < {columns}"
        )
    if tensor.numel() == 0 or tensor.is_meta:
        return tensor
    view = shaped_view(tensor)
    if view is not None and get_rng() != "torch":
        centre = _orthogonal.centre_of(view)
        factor = _orthogonal.factor(gain, centre)
        key = take_key(generator)
        if key is not None:
            _core.fill_constant(view, 0.0, _threads())
            _core.fill_orthogonal(_orthogonal.jobs(centre, factor, key, groups), _threads())
            _increment_version((tensor,))
            if factor is None:
                with torch.no_grad():
                    _at_centre(tensor).mul_(gain)
            return tensor
    refuse_distributed("tensor", tensor)
    refuse_inference(tensor)
    with torch.no_grad():
        matrix = tensor.new_empty((groups * rows, columns))
        return _copy_to_centre(tensor, orthogonal_(matrix, gain, generator, groups=groups))


@eager
def hadamard_(tensor: Tensor) -> Tensor:
    r"""Fill with ZerO: a (partial) identity, or a part of a Hadamard matrix where out > in.

    Zhao et al. (2022), `ZerO initialization: initializing neural networks with only zeros and
    ones`. With m the least integer such that :math:`2^m \geq \text{out}`, the weight for out > in is
    the upper left part of Sylvester's Hadamard matrix of size :math:`2^m`, divided by
    :math:`2^{m/2}`: its columns are orthonormal where out is a power of two. Deterministic.

    Args:
        tensor: a floating-point weight of 2 to 5 dimensions, (out, in, *kernel); a convolution's
            matrix stands at its centre tap (size // 2)

    Raises:
        ValueError: for another number of dimensions.
        TypeError: if the dtype is not floating point.
    """
    if tensor.dim() not in (2, 3, 4, 5):
        raise ValueError(f"tensor must have 2 to 5 dimensions, got {tensor.dim()}")
    if not tensor.is_floating_point():
        raise TypeError(f"tensor must be of a floating-point dtype, got {tensor.dtype}")
    if tensor.numel() == 0 or tensor.is_meta:
        return tensor
    rows, columns = tensor.shape[:2]
    if rows <= columns and native_view(tensor) is not None:
        return eye_(tensor) if tensor.dim() == 2 else dirac_(tensor)
    refuse_distributed("tensor", tensor)
    refuse_inference(tensor)
    matrix = torch.empty((rows, columns), dtype=tensor.dtype, device=tensor.device)
    with torch.no_grad():
        return _copy_to_centre(tensor, eye_(matrix) if rows <= columns else _hadamard(matrix))


def _hadamard(matrix: Tensor) -> Tensor:
    """Sylvester's construction, each step doubling what is there, cut to the matrix's size."""
    rows = matrix.size(0)
    steps = (rows - 1).bit_length()
    matrix[0, 0] = 1.0 / math.sqrt(1 << steps)
    for size in (1 << step for step in range(steps)):
        below = matrix[size : 2 * size]
        right = matrix[:size, size : 2 * size]
        below[:, :size] = matrix[: len(below), :size]
        right.copy_(matrix[:size, : right.size(1)])
        below[:, size : 2 * size] = -right[: len(below)]
    return matrix


def _copy_to_centre(tensor: Tensor, matrix: Tensor) -> Tensor:
    """Write the matrix over a weight: at a convolution's centre tap, with zeros around it."""
    kernel = tensor.shape[2:]
    around = [zeros for n in reversed(kernel) for zeros in (n // 2, n - n // 2 - 1)]
    matrix = matrix.reshape(*matrix.shape, *(1 for _ in kernel))
    return tensor.copy_(torch.nn.functional.pad(matrix, around))


def _at_centre(weight: Tensor) -> Tensor:
    """The matrix (out, in) at a convolution's centre tap."""
    centre = tuple(size // 2 for size in weight.shape[2:])
    return weight.movedim((0, 1), (-2, -1))[centre]


@eager
def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Source = None) -> Tensor:
    r"""Fill a matrix with normal numbers, the same count of random zeros in each column.

    Martens (2010), `Deep learning via Hessian-free optimization`.

    Args:
        tensor: a tensor of 2 dimensions
        sparsity: the fraction of each column that is zero, rounded up to whole elements
        std: the standard deviation of the other elements, at least 0
        generator: the ``torch.Generator`` to draw the key from (default: torch's own); it governs
            both the numbers and the places of the zeros

    Raises:
        ValueError: for another number of dimensions, or if ``sparsity`` is NaN.
        RuntimeError: if ``std`` is negative or NaN.
    """
    view = shaped_view(tensor)
    if view is None and device_fills.reaches(tensor) and tensor.dim() == 2:
        count = len(range(tensor.size(0))[: math.ceil(sparsity * tensor.size(0))])
        if device_fills.sparse(tensor, count, next(_numbers(std)), generator):
            return tensor
    if view is None or len(view[2]) != 2:
        refuse_distributed("tensor", tensor)
        if _is_unstrided(tensor):
            _let_torch_refuse(_torch.sparse_, tensor, sparsity, std)
        return _by_torch(_torch.sparse_, tensor, sparsity, std, for_torch(generator, tensor))
    rows = view[2][0]
    zeros = len(range(rows)[: math.ceil(sparsity * rows)])  # torch takes a slice of the rows
    (width,) = _numbers(std)
    if 0.0 <= width <= LARGEST[view[1]]:
        key = take_key(generator)
        if key is not None:
            _core.fill_sparse(view, zeros, width, key, _threads())
            _increment_version((tensor,))
            return tensor
        if torch_stream.sparse(tensor, zeros, width, generator):
            return tensor
    return _by_torch(_torch.sparse_, tensor, sparsity, std, for_torch(generator, tensor))


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    return fans(tensor.shape)


def _calculate_correct_fan(tensor: Tensor, mode: str) -> int:
    return one_fan(tensor.shape, mode)


@eager
def _no_grad_uniform_(tensor: Tensor, a: float, b: float, generator: Source = None) -> Tensor:
    if overridden(tensor):
        return _by_torch(_torch._no_grad_uniform_, tensor, a, b, for_torch(generator, tensor))
    return uniform_(tensor, a, b, generator)


@eager
def _no_grad_normal_(tensor: Tensor, mean: float, std: float, generator: Source = None) -> Tensor:
    if overridden(tensor):
        return _by_torch(_torch._no_grad_normal_, tensor, mean, std, for_torch(generator, tensor))
    return normal_(tensor, mean, std, generator)


@eager
def _no_grad_trunc_normal_(  # noqa: PLR0917  torch's signature
    tensor: Tensor, mean: float, std: float, a: float, b: float, generator: Source = None
) -> Tensor:
    return _trunc_normal(tensor, mean, std, a, b, generator)


@eager
def _no_grad_fill_(tensor: Tensor, val: float) -> Tensor:
    return _torch._no_grad_fill_(tensor, val) if overridden(tensor) else constant_(tensor, val)


@eager
def _no_grad_zero_(tensor: Tensor) -> Tensor:
    return zeros_(tensor)


def _make_deprecate(function: Callable[_P, _R]) -> Callable[_P, _R]:
    new = function.__name__
    old = new[:-1]

    def deprecated_init(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        warn(
            f"`nn.init.{old}` is now deprecated in favor of `nn.init.{new}`.",
            FutureWarning,
        )
        return function(*args, **kwargs)

    deprecated_init.__name__ = deprecated_init.__qualname__ = old
    deprecated_init.__doc__ = f"Deprecated: use ``{new}``."
    return deprecated_init


uniform = _make_deprecate(uniform_)
normal = _make_deprecate(normal_)
constant = _make_deprecate(constant_)
eye = _make_deprecate(eye_)
dirac = _make_deprecate(dirac_)
xavier_uniform = _make_deprecate(xavier_uniform_)
xavier_normal = _make_deprecate(xavier_normal_)
kaiming_uniform = _make_deprecate(kaiming_uniform_)
kaiming_normal = _make_deprecate(kaiming_normal_)
orthogonal = _make_deprecate(orthogonal_)
sparse = _make_deprecate(sparse_)
