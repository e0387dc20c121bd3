"""Keras 3's initializers, drawn by pyinit: the same numbers on every backend, many times as fast.

Each class is a subclass of Keras's class of the same name, with its arguments and its configuration, and goes
wherever Keras takes an initializer. Its numbers are those of ``pyinit.fill`` for ``key=seed`` and stream 0, drawn with
Keras's fans of the shape. With a ``keras.random.SeedGenerator`` the key is its seed, and each call
takes the next stream. ``import pyinit`` does not import Keras; this module does.

float16, bfloat16, float32 and float64 are drawn; other dtypes are refused. Within a function that a
backend traces, a kernel is made on the host while it is traced, and is a constant of its graph.

Example:
    >>> import keras, pyinit
    >>> layer = keras.layers.Dense(8, kernel_initializer=pyinit.keras.HeUniform(seed=0))
    >>> layer.build((None, 4))
    >>> import numpy as np
    >>> limit = (6 / 4) ** 0.5
    >>> same = pyinit.fill.uniform(np.empty((4, 8), np.float32), -limit, limit, key=0)
    >>> bool(keras.ops.all(layer.kernel.value == keras.ops.convert_to_tensor(same)))
    True
"""

from inspect import signature
from typing import Any, TypeVar

from pyinit._messages import needed
from pyinit._random.rng import Key
from pyinit.initializers import kernels
from pyinit.initializers.keras_names import KERAS_NAMES, from_keras

needed("keras", "pyinit.keras", "Keras 3", "keras")

import keras

if keras.__version__.split(".")[0] != "3":
    raise ImportError(f"pyinit.keras needs Keras 3, got {keras.__version__}", name="keras")

__all__ = [
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Identity",
    "LecunNormal",
    "LecunUniform",
    "Ones",
    "Orthogonal",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "VarianceScaling",
    "Zeros",
]

_Class = TypeVar("_Class", bound=type)


class _ByPyinit:
    """What draws the numbers of Keras's class that comes after it."""

    name_in_keras: str

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        """A tensor of the backend's with that shape and dtype (default: Keras's ``floatx``)."""
        sizes = kernels.checked_shape(shape)
        chosen = kernels.checked_dtype(keras.backend.standardize_dtype(dtype))
        options = signature(KERAS_NAMES[self.name_in_keras]).parameters
        initializer = from_keras(
            self.name_in_keras, **{option: getattr(self, option) for option in options}
        )
        inputs, outputs = (getattr(self, name, None) for name in ("input_axes", "output_axes"))
        fans = (
            kernels.keras_fans(sizes)
            if inputs is None or outputs is None
            else kernels.fans_of_axes(sizes, inputs, outputs)
        )
        plan = kernels.planned(initializer, sizes, chosen, fans)
        kernel = plan.filled(_take_key(self))
        is_torchs = keras.backend.backend() == "torch"
        return keras.ops.convert_to_tensor(kernel if is_torchs else kernels.as_numpy(kernel))


def _take_key(initializer: Any) -> Key:
    """The key of the next call: the seed; of a generator of seeds also its count, which goes up."""
    seed = getattr(initializer, "seed", 0)
    if isinstance(seed, int):
        return kernels.checked_key("seed", seed)
    try:
        state = seed.state.value
        bits = 32 if "32" in keras.backend.standardize_dtype(state.dtype) else 64
        first, count = (int(state[i]) % 2**bits for i in range(2))
    except Exception as error:
        raise TypeError(
            "seed must have a value here, got a SeedGenerator inside of a function that is traced"
        ) from error
    seed.next()
    return kernels.checked_key("seed", first, count)


def _serializable(cls: _Class) -> _Class:
    cls.name_in_keras = cls.__name__  # type: ignore[attr-defined]
    registered: _Class = keras.saving.register_keras_serializable("pyinit")(cls)
    return registered


@_serializable
class Zeros(_ByPyinit, keras.initializers.Zeros):
    """Keras's ``Zeros``: zeros.

    Example:
        >>> import keras, pyinit
        >>> [float(value) for value in pyinit.keras.Zeros()((2,))]
        [0.0, 0.0]
    """


@_serializable
class Ones(_ByPyinit, keras.initializers.Ones):
    """Keras's ``Ones``: ones.

    Example:
        >>> import keras, pyinit
        >>> [float(value) for value in pyinit.keras.Ones()((2,))]
        [1.0, 1.0]
    """


@_serializable
class Constant(_ByPyinit, keras.initializers.Constant):
    """Keras's ``Constant``: one value everywhere.

    Args:
        value: the value, a number

    Example:
        >>> import keras, pyinit
        >>> [float(value) for value in pyinit.keras.Constant(0.5)((2,))]
        [0.5, 0.5]
    """


@_serializable
class Identity(_ByPyinit, keras.initializers.Identity):
    """Keras's ``Identity``: the identity matrix, cut to the shape, times ``gain``.

    Args:
        gain: a finite factor

    Example:
        >>> import keras, pyinit
        >>> [[float(value) for value in row] for row in pyinit.keras.Identity(2.0)((2, 3))]
        [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]]
    """

    def get_config(self) -> dict[str, Any]:
        """The arguments, of which Keras's own class tells none."""
        return {"gain": self.gain}


@_serializable
class RandomNormal(_ByPyinit, keras.initializers.RandomNormal):
    """Keras's ``RandomNormal``: normal numbers.

    Args:
        mean: the mean
        stddev: the standard deviation, at least 0
        seed: an integer in [0, 2^64), a ``keras.random.SeedGenerator``, or None for an integer that Keras
            draws once, when the initializer is made

    Example:
        >>> import keras, pyinit
        >>> kernel = pyinit.keras.RandomNormal(stddev=0.02, seed=0)((100, 100))
        >>> round(float(keras.ops.std(kernel)), 3)
        0.02
    """


@_serializable
class RandomUniform(_ByPyinit, keras.initializers.RandomUniform):
    """Keras's ``RandomUniform``: uniform numbers.

    Args:
        minval: the lower bound
        maxval: the upper bound, which is never drawn
        seed: an integer in [0, 2^64), a ``keras.random.SeedGenerator``, or None for an integer that Keras
            draws once, when the initializer is made

    Example:
        >>> import keras, pyinit
        >>> kernel = pyinit.keras.RandomUniform(0.0, 0.1, seed=0)((100, 100))
        >>> 0.0 <= float(keras.ops.min(kernel)) <= float(keras.ops.max(kernel)) < 0.1
        True
    """


@_serializable
class TruncatedNormal(_ByPyinit, keras.initializers.TruncatedNormal):
    """Keras's ``TruncatedNormal``: normal numbers within two standard deviations of the mean.

    Args:
        mean: the mean
        stddev: the standard deviation before truncation, above 0
        seed: an integer in [0, 2^64), a ``keras.random.SeedGenerator``, or None for an integer that Keras
            draws once, when the initializer is made

    Example:
        >>> import keras, pyinit
        >>> kernel = pyinit.keras.TruncatedNormal(stddev=0.02, seed=0)((100, 100))
        >>> bool(keras.ops.max(keras.ops.abs(kernel)) <= 0.04)
        True
    """


@_serializable
class VarianceScaling(_ByPyinit, keras.initializers.VarianceScaling):
    """Keras's ``VarianceScaling``: numbers of variance scale / fan.

    Args:
        scale: a positive factor on the variance
        mode: ``"fan_in"``, ``"fan_out"`` or ``"fan_avg"``
        distribution: ``"truncated_normal"``, which Keras also calls ``"normal"``,
            ``"untruncated_normal"`` or ``"uniform"``
        input_axes: the axes whose sizes make the fan in (default: all but the last)
        output_axes: the axes whose sizes make the fan out (default: all but the last but one)
        seed: an integer in [0, 2^64), a ``keras.random.SeedGenerator``, or None for an integer that Keras
            draws once, when the initializer is made

    References:
        He et al. (2015), `Delving deep into rectifiers`.

    Example:
        >>> import keras, pyinit
        >>> init = pyinit.keras.VarianceScaling(2.0, "fan_out", "uniform", seed=0)
        >>> round(float(keras.ops.var(init((300, 100)))), 2)
        0.02
    """


@_serializable
class GlorotUniform(_ByPyinit, keras.initializers.GlorotUniform):
    """Keras's ``GlorotUniform``: uniform numbers of variance 2 / (fan_in + fan_out).

    Args:
        seed: an integer in [0, 2^64), a ``keras.random.SeedGenerator``, or None for an integer that Keras
            draws once, when the initializer is made
        input_axes: the axes whose sizes make the fan in (default: all but the last)
        output_axes: the axes whose sizes make the fan out (default: all but the last but one)

    References:
        Glorot & Bengio (2010), `Understanding the difficulty of training deep feedforward neural
        networks`.

    Example:
        >>> import keras, pyinit
        >>> kernel = pyinit.keras.GlorotUniform(seed=0)((3, 3, 50, 10))
        >>> bool(keras.ops.max(keras.ops.abs(kernel)) <= (3 * 2 / 540) ** 0.5)
        True
    """


@_serializable
class GlorotNormal(_ByPyinit, keras.initializers.GlorotNormal):
    """Keras's ``GlorotNormal``: truncated normal numbers of variance 2 / (fan_in + fan_out).

    Args:
        seed: an integer in [0, 2^64), a ``keras.random.SeedGenerator``, or None for an integer that Keras
            draws once, when the initializer is made
        input_axes: the axes whose sizes make the fan in (default: all but the last)
        output_axes: the axes whose sizes make the fan out (default: all but the last but one)

    References:
        Glorot & Bengio (2010), `Understanding the difficulty of training deep feedforward neural
        networks`.

    Example:
        >>> import keras, pyinit
        >>> kernel = pyinit.keras.GlorotNormal(seed=0)((3, 3, 50, 10))
        >>> round(float(keras.ops.var(kernel)) / (2 / 540), 1)
        1.0
    """


@_serializable
class HeUniform(_ByPyinit, keras.initializers.HeUniform):
    """Keras's ``HeUniform``: uniform numbers of variance 2 / fan_in.

    Args:
        seed: an integer in [0, 2^64), a ``keras.random.SeedGenerator``, or None for an integer that Keras
            draws once, when the initializer is made
        input_axes: the axes whose sizes make the fan in (default: all but the last)
        output_axes: the axes whose sizes make the fan out (default: all but the last but one)

    References:
        He et al. (2015), `Delving deep into rectifiers`.

    Example:
        >>> import keras, pyinit
        >>> kernel = pyinit.keras.HeUniform(seed=0)((3, 3, 50, 10))
        >>> bool(keras.ops.max(keras.ops.abs(kernel)) <= (3 * 2 / 450) ** 0.5)
        True
    """


@_serializable
class HeNormal(_ByPyinit, keras.initializers.HeNormal):
    """Keras's ``HeNormal``: truncated normal numbers of variance 2 / fan_in.

    Args:
        seed: an integer in [0, 2^64), a ``keras.random.SeedGenerator``, or None for an integer that Keras
            draws once, when the initializer is made
        input_axes: the axes whose sizes make the fan in (default: all but the last)
        output_axes: the axes whose sizes make the fan out (default: all but the last but one)

    References:
        He et al. (2015), `Delving deep into rectifiers`.

    Example:
        >>> import keras, pyinit
        >>> kernel = pyinit.keras.HeNormal(seed=0)((3, 3, 50, 10))
        >>> round(float(keras.ops.var(kernel)) / (2 / 450), 1)
        1.0
    """


@_serializable
class LecunUniform(_ByPyinit, keras.initializers.LecunUniform):
    """Keras's ``LecunUniform``: uniform numbers of variance 1 / fan_in.

    Args:
        seed: an integer in [0, 2^64), a ``keras.random.SeedGenerator``, or None for an integer that Keras
            draws once, when the initializer is made
        input_axes: the axes whose sizes make the fan in (default: all but the last)
        output_axes: the axes whose sizes make the fan out (default: all but the last but one)

    References:
        LeCun et al. (1998), `Efficient BackProp`.

    Example:
        >>> import keras, pyinit
        >>> kernel = pyinit.keras.LecunUniform(seed=0)((3, 3, 50, 10))
        >>> bool(keras.ops.max(keras.ops.abs(kernel)) <= (3 * 1 / 450) ** 0.5)
        True
    """


@_serializable
class LecunNormal(_ByPyinit, keras.initializers.LecunNormal):
    """Keras's ``LecunNormal``: truncated normal numbers of variance 1 / fan_in.

    Args:
        seed: an integer in [0, 2^64), a ``keras.random.SeedGenerator``, or None for an integer that Keras
            draws once, when the initializer is made
        input_axes: the axes whose sizes make the fan in (default: all but the last)
        output_axes: the axes whose sizes make the fan out (default: all but the last but one)

    References:
        LeCun et al. (1998), `Efficient BackProp`.

    Example:
        >>> import keras, pyinit
        >>> kernel = pyinit.keras.LecunNormal(seed=0)((3, 3, 50, 10))
        >>> round(float(keras.ops.var(kernel)) / (1 / 450), 1)
        1.0
    """


@_serializable
class Orthogonal(_ByPyinit, keras.initializers.Orthogonal):
    """Keras's ``Orthogonal``: a Haar-random (semi-)orthogonal matrix.

    A kernel of more dimensions counts as a matrix with a column for each output.

    Args:
        gain: a finite factor
        seed: an integer in [0, 2^64), a ``keras.random.SeedGenerator``, or None for an integer that Keras
            draws once, when the initializer is made

    References:
        Saxe et al. (2014), `Exact solutions to the nonlinear dynamics of learning in deep linear
        neural networks`.

    Example:
        >>> import keras, pyinit
        >>> q = pyinit.keras.Orthogonal(seed=0)((5, 3))
        >>> product = keras.ops.matmul(keras.ops.transpose(q), q)
        >>> float(keras.ops.max(keras.ops.abs(product - keras.ops.eye(3)))) < 1e-5
        True
    """
