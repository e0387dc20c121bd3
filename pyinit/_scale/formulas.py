"""Formulas: the standard deviations that fans and gains ask for, and distributions that have them."""

import math

_ROOT_2, _ROOT_3 = math.sqrt(2.0), math.sqrt(3.0)

TRUNCATED_STD = 0.87962566103423978
"""Standard deviation of the standard normal distribution truncated to [-2, 2]."""


def variance_scaling_std(scale: float, fan: float) -> float:
    """The standard deviation with variance scale / fan."""
    return math.sqrt(scale / fan)


def xavier_std(gain: float, fan_in: int, fan_out: int) -> float:
    """Glorot's: the variance is 2 gain^2 / (fan_in + fan_out)."""
    return gain * math.sqrt(2.0 / float(fan_in + fan_out))


def kaiming_std(gain: float, fan: float) -> float:
    """He's: the variance is gain^2 / fan."""
    return gain / math.sqrt(fan)


def uniform_of_std(std: float) -> tuple[float, float]:
    """Low and high of the uniform distribution around 0 with this standard deviation."""
    bound = _ROOT_3 * std
    return -bound, bound


def normal_of_std(std: float) -> tuple[float, float]:
    """Mean and std of the normal distribution around 0."""
    return 0.0, std


def truncated_normal_of_std(std: float) -> tuple[float, float, float, float]:
    """Mean, std, low and high of the normal distribution around 0 that is cut at two of its standard
    deviations, and so wide that what is left has this one."""
    std /= TRUNCATED_STD
    return 0.0, std, -2 * std, 2 * std


def std_of_truncated_normal(mean: float, std: float, low: float, high: float) -> float | None:
    """The standard deviation that a normal distribution has once it is cut to [low, high].

    None far in a tail, where this formula (Johnson et al. 1994, section 13.10) has no digits left.
    """
    alpha, beta = (low - mean) / std, (high - mean) / std
    mass = (math.erf(beta / _ROOT_2) - math.erf(alpha / _ROOT_2)) / 2
    if mass < 1e-6:
        return None
    at_alpha, at_beta = _density(alpha), _density(beta)
    slope = (alpha * at_alpha if at_alpha else 0.0) - (beta * at_beta if at_beta else 0.0)
    ratio = math.sqrt(max(0.0, 1 + slope / mass - ((at_alpha - at_beta) / mass) ** 2))
    return std * ratio


def _density(x: float) -> float:
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi) if abs(x) < 38 else 0.0
