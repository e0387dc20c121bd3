"""Keras's names for initializers, and what each is here."""

import inspect
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pyinit._messages import near
from pyinit.initializers._base import Initializer, also_known, configured
from pyinit.initializers._drawn import Constant, Eye, Normal, Orthogonal, TruncNormal, Uniform
from pyinit.initializers._scaled import VarianceScaling

__all__ = ["KERAS_NAMES", "from_keras"]


def _constant(value: float = 0.0) -> Initializer:
    return Constant(float(value))


def _random_normal(mean: float = 0.0, stddev: float = 0.05) -> Initializer:
    return Normal(float(mean), float(stddev))


def _random_uniform(minval: float = -0.05, maxval: float = 0.05) -> Initializer:
    return Uniform(float(minval), float(maxval))


def _truncated_normal(mean: float = 0.0, stddev: float = 0.05) -> Initializer:
    return TruncNormal(float(mean), float(stddev), mean - 2 * stddev, mean + 2 * stddev)


def _variance_scaling(
    scale: float = 1.0, mode: str = "fan_in", distribution: str = "truncated_normal"
) -> Initializer:
    if mode not in _MODES:
        raise ValueError(f"mode must be one of {_MODES}, got {mode!r}")
    distribution = distribution.lower()
    # In Keras "normal" is an old name of the truncated one; in JAX and pyinit it is not truncated.
    is_old = distribution == "normal"
    return VarianceScaling(float(scale), mode, "truncated_normal" if is_old else distribution)


def _orthogonal(gain: float = 1.0) -> Initializer:
    return Orthogonal(float(gain))


def _identity(gain: float = 1.0) -> Initializer:
    return Eye(float(gain))


def _fixed(make: Callable[..., Initializer], *arguments: Any) -> Callable[[], Initializer]:
    return lambda: make(*arguments)


KERAS_NAMES: Mapping[str, Callable[..., Initializer]] = {
    "Zeros": _fixed(Constant, 0.0),
    "Ones": _fixed(Constant, 1.0),
    "Constant": _constant,
    "RandomNormal": _random_normal,
    "RandomUniform": _random_uniform,
    "TruncatedNormal": _truncated_normal,
    "VarianceScaling": _variance_scaling,
    "GlorotNormal": _fixed(VarianceScaling, 1.0, "fan_avg", "truncated_normal"),
    "GlorotUniform": _fixed(VarianceScaling, 1.0, "fan_avg", "uniform"),
    "HeNormal": _fixed(VarianceScaling, 2.0, "fan_in", "truncated_normal"),
    "HeUniform": _fixed(VarianceScaling, 2.0, "fan_in", "uniform"),
    "LecunNormal": _fixed(VarianceScaling, 1.0, "fan_in", "truncated_normal"),
    "LecunUniform": _fixed(VarianceScaling, 1.0, "fan_in", "uniform"),
    "Orthogonal": _orthogonal,
    "Identity": _identity,
}

_MODES = ("fan_in", "fan_out", "fan_avg")
_OTHER_NAMES = {re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(): name for name in KERAS_NAMES} | {
    "IdentityInitializer": "Identity",
    "OrthogonalInitializer": "Orthogonal",
    "normal": "RandomNormal",
    "one": "Ones",
    "uniform": "RandomUniform",
    "zero": "Zeros",
}
# What Keras writes into a configuration, and only its default means the same here.
_UNSET = ("seed", "input_axes", "output_axes")


def from_keras(name: str, **options: Any) -> Initializer:
    """The initializer that Keras knows by a name.

    Args:
        name: the name of a class of ``keras.initializers``, or the same with underscores
        options: what Keras's class takes. ``seed``, ``input_axes`` and ``output_axes``, which
            configurations have, must be None: the numbers come from the seed of the whole model, and the
            fans from the layer

    Returns:
        An initializer of the same distribution. Truncated normals are cut at two standard deviations,
        and those whose variance is scaled have it after the cut, as Keras's have.

    Raises:
        ValueError: for an unknown name, or an option that it does not have.

    Example:
        >>> from pyinit.initializers.keras_names import from_keras
        >>> print(from_keras("HeUniform"), "and", from_keras("random_normal", stddev=0.01))
        variance_scaling(scale=2.0, mode=fan_in, distribution=uniform) and normal(std=0.01)
    """
    make = KERAS_NAMES.get(_OTHER_NAMES.get(name, name))
    if make is None:
        raise ValueError(
            f"{name!r} is no initializer of Keras's that pyinit knows; {near(name, KERAS_NAMES)}"
        )
    for option in _UNSET:
        value = options.pop(option, None)
        if value is not None:
            raise ValueError(f"Keras's {name}: {option} must be None here, got {value!r}")
    taken = list(inspect.signature(make).parameters)
    for option in options:
        if option not in taken:
            has = ", ".join(taken) or "none"
            raise ValueError(f"Keras's {name} has no option {option!r}; it has {has}")
    try:
        return make(**options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Keras's {name}: {error}") from None


def is_keras_name(name: str) -> bool:
    """Whether Keras knows an initializer by this name."""
    return name in KERAS_NAMES or name in _OTHER_NAMES


def read_keras(value: str | Mapping[str, Any]) -> Initializer:
    """The initializer of Keras's that is given by its name, or by a table of its name and options.

    The table has a ``name`` and the options beside it, or is what Keras's ``serialize`` makes:
    a ``class_name`` and a ``config``.

    Raises:
        ValueError: as ``from_keras`` does, and for a table without a name.
    """
    if isinstance(value, str):
        return from_keras(value)
    options = dict(configured(value))
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise ValueError(f"an initializer of Keras's needs a name, got {dict(value)!r}")  # noqa: TRY004
    return from_keras(name, **options)


also_known({name: partial(from_keras, name) for name in (*KERAS_NAMES, *_OTHER_NAMES)})
