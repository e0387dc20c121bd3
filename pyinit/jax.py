"""JAX's initializers, drawn by pyinit on the host.

The functions have the names, arguments and meanings of ``jax.nn.initializers``, and give ``init(key, shape, dtype)``. An
array's numbers are those of ``pyinit.fill`` whose key is the two words of JAX's key: for ``jax.random.key(seed)``,
``key=seed``. They are not the numbers that JAX draws. ``import pyinit`` does not import JAX; this module does.

The numbers are made outside of JAX, which cannot trace that. Inside of ``jax.jit``, ``vmap`` or ``eval_shape``, where keys are
tracers, a call is refused: make the parameters before, and pass them in.

Example:
    >>> import jax, numpy as np, pyinit
    >>> weight = pyinit.jax.he_normal()(jax.random.key(0), (300, 200))
    >>> weight.shape, round(float(weight.var()) * 150, 1)
    ((300, 200), 1.0)
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from pyinit._messages import needed
from pyinit._random.rng import Key
from pyinit.initializers import (
    Constant,
    DeltaOrthogonal,
    Initializer,
    Normal,
    TruncNormal,
    Uniform,
    VarianceScaling,
    kernels,
)
from pyinit.initializers import Orthogonal as _Orthogonal

needed("jax", "pyinit.jax", "JAX", "jax")

import jax
import jax.numpy

__all__ = [
    "constant",
    "delta_orthogonal",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "orthogonal",
    "truncated_normal",
    "uniform",
    "variance_scaling",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]

_Axes = int | Sequence[int]
_Init = Callable[..., Any]


def zeros(key: Any, shape: Sequence[int], dtype: Any = float) -> Any:
    """Make an array of zeros, as ``jax.nn.initializers.zeros`` does.

    Args:
        key: not used
        shape: the shape
        dtype: a floating-point dtype

    Returns:
        The array.

    Example:
        >>> import jax, pyinit
        >>> pyinit.jax.zeros(jax.random.key(0), (2,)).tolist()
        [0.0, 0.0]
    """
    return _made(Constant(0.0), key, shape, dtype, _any_fans)


def ones(key: Any, shape: Sequence[int], dtype: Any = float) -> Any:
    """Make an array of ones, as ``jax.nn.initializers.ones`` does.

    Args:
        key: not used
        shape: the shape
        dtype: a floating-point dtype

    Returns:
        The array.

    Example:
        >>> import jax, pyinit
        >>> pyinit.jax.ones(jax.random.key(0), (2,)).tolist()
        [1.0, 1.0]
    """
    return _made(Constant(1.0), key, shape, dtype, _any_fans)


def constant(value: float, dtype: Any = float) -> _Init:
    """Give what fills with ``value``.

    Args:
        value: the value, a number
        dtype: the dtype that ``init`` has where it is given none

    Returns:
        ``init(key, shape, dtype)``.

    Example:
        >>> import jax, pyinit
        >>> pyinit.jax.constant(0.5)(jax.random.key(0), (2,)).tolist()
        [0.5, 0.5]
    """
    return _initializer(Constant(float(value)), dtype, _any_fans)


def normal(stddev: float = 1e-2, dtype: Any = float) -> _Init:
    """Give what draws normal numbers of mean 0.

    Args:
        stddev: the standard deviation, at least 0
        dtype: the dtype that ``init`` has where it is given none

    Returns:
        ``init(key, shape, dtype)``.

    Example:
        >>> import jax, pyinit
        >>> round(float(pyinit.jax.normal(0.02)(jax.random.key(0), (100, 100)).std()), 3)
        0.02
    """
    return _initializer(Normal(0.0, float(stddev)), dtype, _any_fans)


def truncated_normal(
    stddev: float = 1e-2, dtype: Any = float, lower: float = -2.0, upper: float = 2.0
) -> _Init:
    """Give what draws normal numbers of mean 0 within bounds.

    Args:
        stddev: the standard deviation before truncation, above 0
        dtype: the dtype that ``init`` has where it is given none
        lower: the lower bound, in standard deviations
        upper: the upper bound, in standard deviations

    Returns:
        ``init(key, shape, dtype)``.

    Example:
        >>> import jax, pyinit
        >>> weight = pyinit.jax.truncated_normal(0.02)(jax.random.key(0), (100, 100))
        >>> bool(abs(weight).max() <= 0.04)
        True
    """
    std = float(stddev)
    return _initializer(TruncNormal(0.0, std, lower * std, upper * std), dtype, _any_fans)


def uniform(scale: float = 1e-2, dtype: Any = float) -> _Init:
    """Give what draws uniform numbers in [0, scale).

    Args:
        scale: the upper bound, which is never drawn
        dtype: the dtype that ``init`` has where it is given none

    Returns:
        ``init(key, shape, dtype)``.

    Example:
        >>> import jax, pyinit
        >>> weight = pyinit.jax.uniform(0.1)(jax.random.key(0), (100, 100))
        >>> bool(0.0 <= weight.min() <= weight.max() < 0.1)
        True
    """
    return _initializer(Uniform(0.0, float(scale)), dtype, _any_fans)


def variance_scaling(  # noqa: PLR0917  JAX's signature
    scale: float,
    mode: str,
    distribution: str,
    in_axis: _Axes = -2,
    out_axis: _Axes = -1,
    batch_axis: _Axes = (),
    dtype: Any = float,
) -> _Init:
    """Give what draws numbers of mean 0 and variance scale / fan.

    Args:
        scale: a positive factor on the variance
        mode: ``"fan_in"``, ``"fan_out"``, ``"fan_avg"`` or ``"fan_geo_avg"``
        distribution: ``"truncated_normal"``, ``"normal"``, which is not truncated, or ``"uniform"``
        in_axis: the axis of the inputs, or several
        out_axis: the axis of the outputs, or several
        batch_axis: the axes that count neither for fans nor for the window
        dtype: the dtype that ``init`` has where it is given none

    Returns:
        ``init(key, shape, dtype)``.

    References:
        He et al. (2015), `Delving deep into rectifiers`.

    Example:
        >>> import jax, pyinit
        >>> init = pyinit.jax.variance_scaling(2.0, "fan_out", "uniform")
        >>> round(float(init(jax.random.key(0), (300, 100)).var()), 2)
        0.02
    """
    return _scaled(scale, mode, distribution, (in_axis, out_axis, batch_axis), dtype)


def glorot_uniform(
    in_axis: _Axes = -2,
    out_axis: _Axes = -1,
    batch_axis: _Axes = (),
    dtype: Any = float,
) -> _Init:
    """Give what draws uniform numbers of variance 2 / (fan_in + fan_out).

    Args:
        in_axis: the axis of the inputs, or several
        out_axis: the axis of the outputs, or several
        batch_axis: the axes that count neither for fans nor for the window
        dtype: the dtype that ``init`` has where it is given none

    Returns:
        ``init(key, shape, dtype)``.

    References:
        Glorot & Bengio (2010), `Understanding the difficulty of training deep feedforward neural
        networks`.

    Example:
        >>> import jax, pyinit
        >>> weight = pyinit.jax.glorot_uniform()(jax.random.key(0), (3, 3, 50, 10))
        >>> round(float(weight.var()) / (2 / 540), 1)
        1.0
    """
    return _scaled(1.0, "fan_avg", "uniform", (in_axis, out_axis, batch_axis), dtype)


def glorot_normal(
    in_axis: _Axes = -2,
    out_axis: _Axes = -1,
    batch_axis: _Axes = (),
    dtype: Any = float,
) -> _Init:
    """Give what draws truncated normal numbers of variance 2 / (fan_in + fan_out).

    Args:
        in_axis: the axis of the inputs, or several
        out_axis: the axis of the outputs, or several
        batch_axis: the axes that count neither for fans nor for the window
        dtype: the dtype that ``init`` has where it is given none

    Returns:
        ``init(key, shape, dtype)``.

    References:
        Glorot & Bengio (2010), `Understanding the difficulty of training deep feedforward neural
        networks`.

    Example:
        >>> import jax, pyinit
        >>> weight = pyinit.jax.glorot_normal()(jax.random.key(0), (3, 3, 50, 10))
        >>> round(float(weight.var()) / (2 / 540), 1)
        1.0
    """
    return _scaled(1.0, "fan_avg", "truncated_normal", (in_axis, out_axis, batch_axis), dtype)


xavier_uniform = glorot_uniform
"""``glorot_uniform`` by its other name, as in JAX."""
xavier_normal = glorot_normal
"""``glorot_normal`` by its other name, as in JAX."""


def he_uniform(
    in_axis: _Axes = -2,
    out_axis: _Axes = -1,
    batch_axis: _Axes = (),
    dtype: Any = float,
) -> _Init:
    """Give what draws uniform numbers of variance 2 / fan_in.

    Args:
        in_axis: the axis of the inputs, or several
        out_axis: the axis of the outputs, or several
        batch_axis: the axes that count neither for fans nor for the window
        dtype: the dtype that ``init`` has where it is given none

    Returns:
        ``init(key, shape, dtype)``.

    References:
        He et al. (2015), `Delving deep into rectifiers`.

    Example:
        >>> import jax, pyinit
        >>> weight = pyinit.jax.he_uniform()(jax.random.key(0), (3, 3, 50, 10))
        >>> round(float(weight.var()) / (2 / 450), 1)
        1.0
    """
    return _scaled(2.0, "fan_in", "uniform", (in_axis, out_axis, batch_axis), dtype)


def he_normal(
    in_axis: _Axes = -2,
    out_axis: _Axes = -1,
    batch_axis: _Axes = (),
    dtype: Any = float,
) -> _Init:
    """Give what draws truncated normal numbers of variance 2 / fan_in.

    Args:
        in_axis: the axis of the inputs, or several
        out_axis: the axis of the outputs, or several
        batch_axis: the axes that count neither for fans nor for the window
        dtype: the dtype that ``init`` has where it is given none

    Returns:
        ``init(key, shape, dtype)``.

    References:
        He et al. (2015), `Delving deep into rectifiers`.

    Example:
        >>> import jax, pyinit
        >>> weight = pyinit.jax.he_normal()(jax.random.key(0), (3, 3, 50, 10))
        >>> round(float(weight.var()) / (2 / 450), 1)
        1.0
    """
    return _scaled(2.0, "fan_in", "truncated_normal", (in_axis, out_axis, batch_axis), dtype)


kaiming_uniform = he_uniform
"""``he_uniform`` by its other name, as in JAX."""
kaiming_normal = he_normal
"""``he_normal`` by its other name, as in JAX."""


def lecun_uniform(
    in_axis: _Axes = -2,
    out_axis: _Axes = -1,
    batch_axis: _Axes = (),
    dtype: Any = float,
) -> _Init:
    """Give what draws uniform numbers of variance 1 / fan_in.

    Args:
        in_axis: the axis of the inputs, or several
        out_axis: the axis of the outputs, or several
        batch_axis: the axes that count neither for fans nor for the window
        dtype: the dtype that ``init`` has where it is given none

    Returns:
        ``init(key, shape, dtype)``.

    References:
        LeCun et al. (1998), `Efficient BackProp`.

    Example:
        >>> import jax, pyinit
        >>> weight = pyinit.jax.lecun_uniform()(jax.random.key(0), (3, 3, 50, 10))
        >>> round(float(weight.var()) / (1 / 450), 1)
        1.0
    """
    return _scaled(1.0, "fan_in", "uniform", (in_axis, out_axis, batch_axis), dtype)


def lecun_normal(
    in_axis: _Axes = -2,
    out_axis: _Axes = -1,
    batch_axis: _Axes = (),
    dtype: Any = float,
) -> _Init:
    """Give what draws truncated normal numbers of variance 1 / fan_in.

    Args:
        in_axis: the axis of the inputs, or several
        out_axis: the axis of the outputs, or several
        batch_axis: the axes that count neither for fans nor for the window
        dtype: the dtype that ``init`` has where it is given none

    Returns:
        ``init(key, shape, dtype)``.

    References:
        LeCun et al. (1998), `Efficient BackProp`.

    Example:
        >>> import jax, pyinit
        >>> weight = pyinit.jax.lecun_normal()(jax.random.key(0), (3, 3, 50, 10))
        >>> round(float(weight.var()) / (1 / 450), 1)
        1.0
    """
    return _scaled(1.0, "fan_in", "truncated_normal", (in_axis, out_axis, batch_axis), dtype)


def orthogonal(scale: float = 1.0, column_axis: int = -1, dtype: Any = float) -> _Init:
    """Give what draws a Haar-random (semi-)orthogonal matrix, times ``scale``.

    Args:
        scale: a finite factor
        column_axis: the axis of the columns; all others are rows
        dtype: the dtype that ``init`` has where it is given none

    Returns:
        ``init(key, shape, dtype)``.

    References:
        Saxe et al. (2014), `Exact solutions to the nonlinear dynamics of learning in deep linear
        neural networks`.

    Example:
        >>> import jax, pyinit
        >>> q = pyinit.jax.orthogonal()(jax.random.key(0), (5, 3))
        >>> bool(jax.numpy.allclose(q.T @ q, jax.numpy.eye(3), atol=1e-5))
        True
    """
    last = _initializer(_Orthogonal(float(scale)), dtype, _any_fans)

    def init(key: Any, shape: Sequence[int], dtype: Any = dtype) -> Any:
        sizes = [*kernels.checked_shape(shape)]
        sizes.append(sizes.pop(column_axis))
        return jax.numpy.moveaxis(last(key, sizes, dtype), -1, column_axis)

    return init


def delta_orthogonal(scale: float = 1.0, dtype: Any = float) -> _Init:
    """Give what draws zeros but for an orthogonal matrix at a convolution's centre tap, (size - 1) // 2.

    Args:
        scale: a finite factor
        dtype: the dtype that ``init`` has where it is given none

    Returns:
        ``init(key, shape, dtype)``.

    References:
        Xiao et al. (2018), `Dynamical isometry and a mean field theory of CNNs`.

    Example:
        >>> import jax, pyinit
        >>> kernel = pyinit.jax.delta_orthogonal()(jax.random.key(0), (3, 3, 4, 4))
        >>> bool(jax.numpy.allclose(kernel[1, 1].T @ kernel[1, 1], jax.numpy.eye(4), atol=1e-5))
        True
    """
    return _initializer(DeltaOrthogonal(float(scale)), dtype, _any_fans)


def _initializer(
    initializer: Initializer, dtype: Any, fans: Callable[[tuple[int, ...]], tuple[int, int]]
) -> _Init:
    default = dtype

    def init(key: Any, shape: Sequence[int], dtype: Any = default) -> Any:
        return _made(initializer, key, shape, dtype, fans)

    return init


def _scaled(
    scale: float,
    mode: str,
    distribution: str,
    axes: tuple[_Axes, _Axes, _Axes],
    dtype: Any,
) -> _Init:
    initializer = VarianceScaling(float(scale), mode, distribution)
    return _initializer(initializer, dtype, lambda shape: _fans(shape, *axes))


_TRACED = "{} must have a value, got a JAX tracer: pyinit draws on the host, which JAX cannot trace"


def _made(
    initializer: Initializer,
    key: Any,
    shape: Sequence[int],
    dtype: Any,
    fans: Callable[[tuple[int, ...]], tuple[int, int]],
) -> Any:
    for name, value in (("key", key), ("shape", shape)):
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
            raise TypeError(_TRACED.format(name))
    sizes = kernels.checked_shape(shape)
    chosen = kernels.checked_dtype(jax.dtypes.canonicalize_dtype(dtype).name)
    plan = kernels.planned(initializer, sizes, chosen, fans(sizes))
    return jax.numpy.asarray(kernels.as_numpy(plan.filled(_key_of(key))))


def _key_of(key: Any) -> Key:
    """The two words of a JAX key as one number."""
    is_key = isinstance(key, jax.Array) and jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)
    words = jax.random.key_data(key) if is_key else key
    if isinstance(
        words, jax.core.Tracer
    ):  # of a key with a value, inside of a function that is traced
        raise TypeError(_TRACED.format("key"))
    if getattr(words, "shape", None) != (2,) or words.dtype != "uint32":
        raise TypeError(
            "key must be one JAX key of two 32-bit words (threefry2x32), got "
            f"{getattr(key, 'dtype', type(key).__name__)} of shape {getattr(key, 'shape', None)}"
        )
    high, low = map(int, words)
    return Key(high << 32 | low)


def _any_fans(_: tuple[int, ...]) -> tuple[int, int]:
    """For initializers that do not ask."""
    return 1, 1


def _fans(
    shape: tuple[int, ...], in_axis: _Axes, out_axis: _Axes, batch_axis: _Axes
) -> tuple[int, int]:
    """Fan in and fan out as JAX counts them: the axes that are none of the three are the window."""
    if len(shape) < 2:
        raise ValueError(f"shape must have at least 2 dimensions, got {shape}")
    listed = [_listed(axes) for axes in (in_axis, out_axis, batch_axis)]
    for name, axes in zip(("in_axis", "out_axis", "batch_axis"), listed, strict=True):
        if any(not -len(shape) <= axis < len(shape) for axis in axes):
            raise IndexError(f"{name} must name axes of shape {shape}, got {axes}")
    named = [axis % len(shape) for axes in listed for axis in axes]
    window = math.prod(size for axis, size in enumerate(shape) if axis not in named)
    inputs, outputs = kernels.fans_of_axes(shape, *listed[:2])
    return inputs * window, outputs * window


def _listed(axes: _Axes) -> Sequence[int]:
    return (axes,) if isinstance(axes, int) else axes
