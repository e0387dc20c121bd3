"""Prints the polynomial coefficients of csrc/simd/math.hpp, exponential.hpp and accurate.hpp.

Each polynomial interpolates a smooth factor of its function at Chebyshev nodes, in 60 digits. The
error that is printed is the largest relative error of the whole function with exact coefficients.

Run: python tools/fit_polynomials.py
"""

from collections.abc import Callable
from typing import NamedTuple

import mpmath as mp

mp.mp.dps = 60
Function = Callable[[mp.mpf], mp.mpf]


class Fit(NamedTuple):
    """A polynomial of some degree that stands for a factor of a function on [low, high].

    whole: the function itself, of x and of the value that its factor has there
    """

    name: str
    factor: Function
    low: mp.mpf
    high: mp.mpf
    degree: int
    whole: Callable[[mp.mpf, mp.mpf], mp.mpf]


def interpolate(fit: Fit) -> list[mp.mpf]:
    n = fit.degree + 1
    nodes = [
        (fit.low + fit.high) / 2 + (fit.high - fit.low) / 2 * mp.cos(mp.pi * (2 * k + 1) / (2 * n))
        for k in range(n)
    ]
    matrix = mp.matrix(n, n)
    for i, x in enumerate(nodes):
        for j in range(n):
            matrix[i, j] = x**j
    return list(mp.lu_solve(matrix, mp.matrix([fit.factor(x) for x in nodes])))


def worst_error(fit: Fit, coefficients: list[mp.mpf]) -> mp.mpf:
    worst = mp.mpf(0)
    for k in range(1, 2000):
        x = fit.low + (fit.high - fit.low) * k / 2000
        exact = fit.whole(x, fit.factor(x))
        value = fit.whole(x, mp.polyval(coefficients[::-1], x))
        worst = max(worst, abs(value / exact - 1) if exact else mp.mpf(0))
    return worst


def log_factor(f: mp.mpf) -> mp.mpf:
    """(log(1 + f) - f + f^2/2) / f^3."""
    if abs(f) < mp.mpf("1e-12"):
        return mp.mpf(1) / 3 - f / 4
    return (mp.log1p(f) - f + f * f / 2) / f**3


def atanh_factor(w: mp.mpf) -> mp.mpf:
    """(2 atanh(s) / s - 2) / s^2 at s^2 = w."""
    s = mp.sqrt(w)
    return (2 * mp.atanh(s) / s - 2) / w if w > mp.mpf("1e-20") else mp.mpf(2) / 3 + 2 * w / 5


def sin_factor(z: mp.mpf) -> mp.mpf:
    y = mp.sqrt(z)
    return (mp.sin(y) / y - 1) / z if z > mp.mpf("1e-20") else -mp.mpf(1) / 6 + z / 120


def cos_factor(z: mp.mpf) -> mp.mpf:
    return (
        (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2 if z > mp.mpf("1e-20") else mp.mpf(1) / 24 - z / 720
    )


def quantile(w: mp.mpf) -> tuple[mp.mpf, mp.mpf]:
    """(x, v) with 4 q (1 - q) = exp(-w), q <= 1/2, v = 1 - 2q and x = -quantile(q)."""
    v = mp.sqrt(-mp.expm1(-w))
    q = mp.exp(-w) / (2 * (1 + v))
    # Newton steps on log Q, from the leading asymptotic term.
    x = mp.sqrt(2) * mp.erfinv(v) if w < 20 else mp.sqrt(2 * w)
    for _ in range(60):
        tail = mp.erfc(x / mp.sqrt(2)) / 2
        step = mp.log(tail / q) * tail / mp.npdf(x)
        x += step
        if abs(step) < mp.mpf("1e-40"):
            break
    return x, v


def quantile_centre(t: mp.mpf) -> mp.mpf:
    w = max(t + CENTRE, mp.mpf("1e-25"))
    x, v = quantile(w)
    return x / v


def quantile_tail(t: mp.mpf) -> mp.mpf:
    return quantile((t + TAIL) ** 2)[0]


def exp_factor(r: mp.mpf) -> mp.mpf:
    """(exp(r) - 1 - r) / r^2."""
    return (mp.expm1(r) - r) / r**2 if abs(r) > mp.mpf("1e-20") else mp.mpf(1) / 2 + r / 6


def tail_factor(k: mp.mpf, slope: mp.mpf) -> mp.mpf:
    """Q(a) exp(a^2 / 2) / k at k = 1 / (1 + slope a), Q(a) being the normal distribution's tail."""
    a = (1 / k - 1) / slope
    return mp.erfc(a / mp.sqrt(2)) * mp.exp(a * a / 2) / (2 * k)


ROOT = mp.sqrt(2)
HALF_LOG_2 = mp.log(2) / 2 + mp.mpf("1e-4")
SLOPE32, SLOPE64 = mp.mpf("0.24"), mp.mpf("0.16")
EIGHTH = (mp.pi / 4) ** 2
PIECE = (mp.pi / 128) ** 2
NEAR_ONE = mp.mpf(2) ** -8
SPLIT = mp.mpf("6.25")  # the w at which the tail begins
CENTRE, TAIL = mp.mpf(3), mp.mpf(5)
FITS = [
    Fit("log32", log_factor, 1 / ROOT - 1, ROOT - 1, 7, lambda f, p: f - f * f / 2 + f**3 * p),
    Fit(
        "log64", atanh_factor, mp.mpf(0), ((ROOT - 1) / (ROOT + 1)) ** 2, 6, lambda w, p: 2 + w * p
    ),
    Fit("sin32", sin_factor, mp.mpf(0), EIGHTH, 2, lambda z, p: 1 + z * p),
    Fit("cos32", cos_factor, mp.mpf(0), EIGHTH, 2, lambda z, p: 1 - z / 2 + z * z * p),
    Fit("sin64", sin_factor, mp.mpf(0), EIGHTH, 5, lambda z, p: 1 + z * p),
    Fit("cos64", cos_factor, mp.mpf(0), EIGHTH, 5, lambda z, p: 1 - z / 2 + z * z * p),
    Fit("accurate log", log_factor, -NEAR_ONE, NEAR_ONE, 4, lambda f, p: f - f * f / 2 + f**3 * p),
    Fit("accurate sin", sin_factor, mp.mpf(0), PIECE, 2, lambda z, p: 1 + z * p),
    Fit("accurate cos", cos_factor, mp.mpf(0), PIECE, 2, lambda z, p: 1 - z / 2 + z * z * p),
    Fit("quantile32 centre", quantile_centre, -CENTRE, SPLIT - CENTRE, 10, lambda _, p: p),
    Fit(
        "quantile32 tail",
        quantile_tail,
        mp.sqrt(SPLIT) - TAIL,
        mp.mpf("8.1") - TAIL,
        12,
        lambda _, p: p,
    ),
    Fit("exp32", exp_factor, -HALF_LOG_2, HALF_LOG_2, 4, lambda r, p: 1 + r + r * r * p),
    Fit("exp64", exp_factor, -HALF_LOG_2, HALF_LOG_2, 10, lambda r, p: 1 + r + r * r * p),
    Fit("log1p32", atanh_factor, mp.mpf(0), mp.mpf(1) / 9, 3, lambda w, p: 2 + w * p),
    Fit("log1p64", atanh_factor, mp.mpf(0), mp.mpf(1) / 9, 9, lambda w, p: 2 + w * p),
    Fit(
        "normal tail32",
        lambda k: tail_factor(k, SLOPE32),
        1 / (1 + SLOPE32 * mp.mpf("14.42")),
        mp.mpf(1),
        9,
        lambda _, p: p,
    ),
    Fit(
        "normal tail64",
        lambda k: tail_factor(k, SLOPE64),
        1 / (1 + SLOPE64 * mp.mpf("38.62")),
        mp.mpf(1),
        22,
        lambda _, p: p,
    ),
]

if __name__ == "__main__":
    for fit in FITS:
        coefficients = interpolate(fit)
        print(f"{fit.name}: relative error {mp.nstr(worst_error(fit, coefficients), 3)}")
        digits = 10 if "32" in fit.name else 18
        print("  " + ", ".join(mp.nstr(c, digits, min_fixed=0, max_fixed=0) for c in coefficients))
