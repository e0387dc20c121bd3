"""Keras's names for initializers, and what each is here."""

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from pyinit._messages import near
from pyinit.initializers import (
    Constant,
    Eye,
    Initializer,
    Normal,
    Orthogonal,
    TruncNormal,
    Uniform,
    VarianceScaling,
)

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
    return VarianceScaling(float(scale), mode, distribution)


def _orthogonal(gain: float = 1.0) -> Initializer:
    return Orthogonal(float(gain))


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
    "Identity": Eye,
}

_SNAKE = {re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(): name for name in KERAS_NAMES}


def from_keras(name: str, **options: Any) -> Initializer:
    """The initializer that Keras knows by a name.

    Args:
        name: the name of a class of ``keras.initializers``, or the same with underscores
        options: what Keras's class takes, but for the seed

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
    make = KERAS_NAMES.get(_SNAKE.get(name, name))
    if make is None:
        raise ValueError(f"Keras has no initializer {name!r}; {near(name, KERAS_NAMES)}")
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
    return name in KERAS_NAMES or name in _SNAKE
