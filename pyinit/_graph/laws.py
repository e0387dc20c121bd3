"""Distributions of single elements of a tensor, as values with probabilities."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_POINTS = 4001  # of a normal law, over 8 standard deviations to each side
_COARSE = 90  # of each of two laws that are joined


@dataclass(frozen=True, eq=False)
class Law:
    """What an element of a tensor is distributed like, elements taken as independent.

    values, weights: values, and their probabilities, which add up to 1
    channels: how many channels the tensor has, if that is known
    """

    values: Array
    weights: Array
    channels: int | None = None

    @cached_property
    def mean(self) -> float:
        return float(self.values @ self.weights)

    @cached_property
    def second(self) -> float:
        """The mean of the squares."""
        return float(self.values**2 @ self.weights)

    @cached_property
    def variance(self) -> float:
        return max(self.second - self.mean**2, 0.0)

    def moved(self, scale: float = 1.0, shift: float = 0.0) -> "Law":
        """Of ``x * scale + shift``."""
        return Law(self.values * scale + shift, self.weights, self.channels)

    def normed(self, centred: bool) -> "Law":
        """What a norm makes of it."""
        shift = self.mean if centred else 0.0
        size = math.sqrt(self.variance if centred else self.second)
        return self.moved(shift=-shift).moved(1 / size if size > 0 else 1.0)

    def dropped(self, p: float) -> "Law":
        """What dropout makes of it in training."""
        if p >= 1:
            return self.moved(0.0)
        values = np.append(self.values / (1 - p), 0.0)
        return Law(values, np.append(self.weights * (1 - p), p), self.channels)

    def greatest_of(self, count: int) -> "Law":
        """Of the greatest of several independent ones."""
        order = np.argsort(self.values, kind="stable")
        upto = np.clip(np.cumsum(self.weights[order]), 0.0, 1.0) ** count
        upto[-1] = 1.0
        return Law(self.values[order], np.diff(upto, prepend=0.0), self.channels)

    def mean_of(self, count: int) -> "Law":
        """Of the mean of several independent ones, which is taken to be normal."""
        return self if count == 1 else normal(self.mean, self.variance / count, self.channels)

    def coarse(self) -> "Law":
        """With few values, and the same mean and variance."""
        if len(self.values) <= _COARSE:
            return self
        order = np.argsort(self.values, kind="stable")
        values, weights = self.values[order], self.weights[order]
        part = np.minimum(np.cumsum(weights) * _COARSE, _COARSE - 1).astype(np.int64)
        masses = np.bincount(part, weights, _COARSE)
        there = masses > 0
        centres = np.bincount(part, weights * values, _COARSE)[there] / masses[there]
        rough = Law(centres, masses[there] / masses.sum(), self.channels)
        spread = math.sqrt(self.variance / rough.variance) if rough.variance > 0 else 1.0
        return rough.moved(shift=-rough.mean).moved(spread, self.mean)

    def plus(self, other: "Law", sign: float = 1.0) -> "Law":
        """Of the sum with an independent one."""
        a, b = self.coarse(), other.coarse()
        return _outer(np.add.outer(a.values, sign * b.values), a, b)

    def times(self, other: "Law") -> "Law":
        """Of the product with an independent one."""
        a, b = self.coarse(), other.coarse()
        return _outer(np.multiply.outer(a.values, b.values), a, b)


def _outer(values: Array, a: Law, b: Law) -> Law:
    weights = np.multiply.outer(a.weights, b.weights)
    return Law(values.ravel(), weights.ravel(), a.channels or b.channels)


@lru_cache(maxsize=1)
def _grid() -> tuple[Array, Array]:
    z = np.linspace(-8.0, 8.0, _POINTS)
    density = np.exp(-0.5 * z * z)
    return z, density / density.sum()


def normal(mean: float = 0.0, variance: float = 1.0, channels: int | None = None) -> Law:
    """The normal law."""
    z, weights = _grid()
    return Law(math.sqrt(variance) * z + mean, weights, channels)


def joined(laws: Sequence[Law]) -> Law:
    """Of an element of tensors that are put side by side, by channels where these are known."""
    sizes = [law.channels for law in laws]
    known = [size for size in sizes if size is not None]
    is_known = len(known) == len(laws)
    total = sum(known) if is_known else len(laws)
    parts = known if is_known else [1] * len(laws)
    return Law(
        np.concatenate([law.values for law in laws]),
        np.concatenate([law.weights * part / total for law, part in zip(laws, parts, strict=True)]),
        total if is_known else None,
    )
