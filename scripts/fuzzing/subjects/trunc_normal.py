"""Truncated normals: each element must be its normal, or lie at its quantile, which mpmath computes for any parameters."""

import math
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np

from fuzzing.case import Draws, Expected, Names, Program, choice
from fuzzing.subjects.fills import Keyed

# From so many standard deviations on, a tail is exponential to 1e-10.
_FAR = 1e5
_MOST = 24  # the most elements whose quantiles are computed
_LEAST_INSIDE = 0.92  # from so many normals within the bounds on, elements are normals


@dataclass(frozen=True, kw_only=True)
class TruncNormal(Keyed):
    name = "trunc_normal"

    mean: float
    std: float
    low: float
    high: float
    version: str = choice("2", "1")

    @classmethod
    def draw(cls, rng: Draws) -> "TruncNormal":
        common = Keyed.drawn(rng)
        largest = {"float64": 1.7e308, "float16": 65504.0}.get(common["dtype"], 3.3e38)
        most = math.log10(largest)
        mean = rng.choice((0.0, 0.0, round(rng.uniform(-3, 3), 3)))
        std = rng.choice((1.0, 0.02, round(rng.uniform(0.01, 3), 3)))
        low, high = sorted(round(rng.uniform(-4, 4), 3) for _ in range(2))
        kind = rng.choice(
            ("usual", "usual", "wide", "wide", "tail", "narrow", "extreme", "extreme")
        )
        if kind == "tail":
            low = mean + std * rng.uniform(3, 60)
            high = rng.choice((math.inf, low + std * 10 ** rng.uniform(-4, 2)))
            if rng.chance(0.5):
                low, high = 2 * mean - high, 2 * mean - low
        elif kind == "wide":
            low, high = (
                rng.choice((sign * math.inf, mean + sign * std * rng.uniform(1, 12)))
                for sign in (-1, 1)
            )
        elif kind == "narrow":
            high = low + 10 ** rng.uniform(-6, 0)
        elif kind == "extreme":
            if rng.chance(0.5):
                mean = rng.magnitude()
            if rng.chance(0.7):
                std = abs(rng.magnitude())
            ends = (
                low,
                0.0,
                mean,
                -math.inf,
                largest,
                -largest,
                rng.magnitude(most),
                rng.magnitude(most),
            )
            low, high = sorted(
                (rng.choice(ends), rng.choice((high, *ends[1:3], math.inf, *ends[4:])))
            )
        low, high = (x if math.isinf(x) else min(max(x, -largest), largest) for x in (low, high))
        if low == high and math.isinf(low):
            low, high = -math.inf, math.inf
        version = rng.choice(("1", "2", "2"))
        return cls(**common, mean=mean, std=std, low=low, high=high, version=version)

    def label(self) -> str:
        return f"fill.trunc_normal {self.dtype}"

    def program(self) -> Program:
        numbers = f"{self.mean}, {self.std}, {self.low}, {self.high}"
        empty = f"torch.empty({self.shape}, dtype=torch.{self.dtype})"
        # torch has another distribution where the parameters are extreme. It shows how long a call takes.
        torchs = f"torch.nn.init.trunc_normal_({empty}, {numbers})"
        ours = f"fill.trunc_normal(out, {numbers}, {self.place()})"
        if self.version != "2":
            ours = f"pyinit.rng('philox', {self.version})(fill.trunc_normal)(out, {numbers}, {self.place()})"
        return Program(self.room(), ours, torchs)

    def expected(self, names: Names) -> list[Expected]:  # noqa: ARG002
        return [Expected(np.zeros(self.shape), math.inf)]

    def finding(self, names: Names, results: list[Any]) -> str | None:  # noqa: ARG002
        values = (
            np.asarray(results[0].double() if self.dtype == "bfloat16" else results[0])
            .astype(np.float64)
            .ravel()
        )
        if not len(values):
            return None
        if np.isnan(values).any():
            return f"{np.isnan(values).sum()} elements are NaN"
        exact = _Truncated(self.mean, self.std, self.low, self.high)
        if outside := self._outside(values):
            return outside
        if self.version == "2" and self._fits_lanes() and abs(exact.inside - _LEAST_INSIDE) < 1e-9:
            return None  # either way is right
        if self.version == "2" and self._fits_lanes() and exact.inside > _LEAST_INSIDE:
            z = self.normals()
            margin = 1e-12 if self.dtype == "float64" else 4e-5
            kept = (z > exact.alpha + margin) & (z < exact.beta - margin)
            anew = (z < exact.alpha - margin) | (z > exact.beta + margin)
            fractions = self.fractions(further=True)
            return self._not_normals(values, z, kept) or self._not_quantiles(
                values, fractions, np.nonzero(anew)[0], exact
            )
        everywhere = np.arange(len(values))
        return self._not_monotone(values) or self._not_quantiles(
            values, self.fractions(), everywhere, exact
        )

    def _fits_lanes(self) -> bool:
        return self.dtype == "float64" or max(abs(self.mean), self.std) < 2.0**127

    def _not_normals(self, values: Any, z: Any, kept: Any) -> str | None:
        with np.errstate(over="ignore"):
            expected = np.clip(
                np.longdouble(self.mean) + z * np.longdouble(self.std), self.low, self.high
            )
        largest = self.info.max
        error = self.std * (1.2e-14 if self.dtype == "float64" else 2e-6)
        slack = error + 2 * self.spacing(expected) + self.spacing(self._in_range(self.mean))
        is_beyond = (np.abs(expected) + slack >= largest) & (np.abs(values) >= largest)
        wrong = np.nonzero(kept & ~is_beyond & ~(np.abs(values - expected) <= slack))[0]
        if not len(wrong):
            return None
        i = wrong[0]
        return f"element {i} is {values[i]!r}, and its normal is {expected[i]!r}"

    def _outside(self, values: Any) -> str | None:
        least, most = values.min(), values.max()
        slack = self.spacing(np.clip([self.low, self.high], -1e308, 1e308))
        has_room = self.high - self.low > 4 * max(slack) or math.isinf(self.high - self.low)
        below, above = (0, 0) if has_room else slack
        if least < self.low - below or most > self.high + above:
            return f"from {least!r} to {most!r}, outside of [{self.low}, {self.high}]"
        return None

    def _not_monotone(self, values: Any) -> str | None:
        order = np.argsort(self.fractions(), kind="stable")
        # Quantiles are known to so many digits.
        unit = 4e-15 if self.dtype == "float64" else 8e-7
        least, most = np.clip((values.min(), values.max()), -1e308, 1e308)
        by = unit * max(abs(least - self.mean), abs(most - self.mean), self.std)
        falls = np.nonzero(np.diff(values[order]) < -by - self.spacing(max(-least, most)))[0]
        if not len(falls):
            return None
        one, other = order[falls[0]], order[falls[0] + 1]
        return f"elements {one} and {other} are out of order: {values[one]!r}, {values[other]!r}"

    def _not_quantiles(
        self, values: Any, fractions: Any, places: Any, exact: "_Truncated"
    ) -> str | None:
        chosen = places[
            np.unique(np.linspace(0, len(places) - 1, min(_MOST, len(places))).astype(int))
        ]
        largest = self.info.max
        unit = 4e-14 if self.dtype == "float64" else 2e-6
        for i in chosen:
            x, u = max(min(float(values[i]), largest), -largest), float(fractions[i])
            rounding = 2 * self.spacing(x) + self.spacing(self._in_range(self.mean)) * 2
            with mpmath.workdps(exact.digits):
                at = abs((mpmath.mpf(x) - self.mean) / self.std)
                # The error of a quantile whose probability is known to so many digits.
                by = unit * (1 + min(at, exact.ends)) * mpmath.mpf(self.std) + float(rounding)
                # The dtype's largest number stands for all numbers beyond it.
                first = exact.below(mpmath.mpf(x) - by) if x > -largest else 0
                last = exact.below(mpmath.mpf(x) + by) if x < largest else 1
                if not first <= u <= last:
                    found = mpmath.nstr(exact.below(mpmath.mpf(x)), 8)
                    return f"element {i} is {x!r}, but {found} of the distribution lies below it; right is {u:.8g}"
        return None

    def _in_range(self, x: float) -> float:
        return max(min(x, 1e308), -1e308)


class _Truncated:
    """A truncated normal distribution, computed with as many digits as its parameters need."""

    def __init__(self, mean: float, std: float, low: float, high: float) -> None:
        # A double has up to 309 digits before the point and 324 after it.
        with mpmath.workdps(700):
            self.mean, self.std, self.low, self.high = map(mpmath.mpf, (mean, std, low, high))
            alpha, beta = ((x - self.mean) / self.std for x in (self.low, self.high))
            self.is_mirrored = alpha >= 0
            near = alpha if self.is_mirrored else beta if beta <= 0 else mpmath.mpf(0)
            width = min(beta - alpha, mpmath.mpf(1))
            # Near the inner end, the probability changes by its own size over a step of this size.
            relative = width * max(abs(near), 1)
            lost = -mpmath.log10(relative) if 0 < relative < 1 else 0
            ends = [abs(x) for x in (alpha, beta) if x and not mpmath.isinf(x)]
            scale = max((mpmath.log10(x) for x in ends), default=0)
            self.digits = int(60 + lost + max(scale, 0) * 2)
            self.ends = max(ends, default=mpmath.inf)
            self.alpha, self.beta = (float(min(max(x, -1e300), 1e300)) for x in (alpha, beta))
            self.inside = _tail(mpmath.mpf(self.alpha)) - _tail(mpmath.mpf(self.beta))

    def below(self, x: Any) -> Any:
        """The part of the distribution that lies below x."""
        if x <= self.low:
            return mpmath.mpf(0)
        if x >= self.high:
            return mpmath.mpf(1)
        z, alpha, beta = ((end - self.mean) / self.std for end in (x, self.low, self.high))
        if self.is_mirrored:
            return self._from(alpha, beta, z)
        if beta <= 0:
            return 1 - self._from(-beta, -alpha, -z)
        start = _tail(-alpha)
        return (_tail(-z) - start) / (_tail(-beta) - start)

    @staticmethod
    def _from(near: Any, far: Any, z: Any) -> Any:
        """The part of [near, far], an interval right of the mean, that lies between near and z."""
        if near > _FAR:

            def of(end: Any) -> Any:
                """1 - Q(end) / Q(near), where Q(x) is nearly exp(-x^2 / 2) / x."""
                return -mpmath.expm1((near - end) * (near + end) / 2 - mpmath.log(end / near))

            return of(z) / (1 if mpmath.isinf(far) else of(far))
        start = _tail(near)
        return (start - _tail(z)) / (start - _tail(far))


def _tail(z: Any) -> Any:
    """The probability beyond z. It counts as 0 where it is too small for mpmath."""
    if z < 0:
        return 1 - _tail(-z)
    return mpmath.mpf(0) if z > 10 * _FAR else mpmath.erfc(z / mpmath.sqrt(2)) / 2
