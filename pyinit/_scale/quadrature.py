"""Expectations under the normal law, of functions that are smooth but for a few kinks or jumps.

A panel whose two estimates (whole, and by halves) differ too much is halved, again and again, so a kink
or a jump costs a few small panels wherever it is.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Function = Callable[[Array], Array]

REACH = 16.0
"""Standard deviations to integrate over. Further out the normal density is below 1e-55."""

_PANEL_TOLERANCE = 1e-13  # as a part of the whole integral
_WORST = 1e-6
_ROUNDS = 64
_MOST_PANELS = 1 << 14

_STEP = 0.5
_OFFSET = 0.191  # so that no edge lies on a kink at a round number, which would hide it
_BREAK_ROUND = 8  # a panel halved so often has a kink or a jump in it
_MOST_BREAKS = 64
_BISECTIONS = 30
_INNER_REACH = 12.0
_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Rule:
    """Nodes and weights for a panel from -1 to 1, and the part of it at which it is split."""

    nodes: Array
    weights: Array
    split: float


def _lobatto(count: int) -> Rule:
    last = np.polynomial.Legendre.basis(count - 1)
    nodes = np.concatenate([[-1.0], np.sort(last.deriv().roots().real), [1.0]])
    return Rule(nodes, 2 / (count * (count - 1) * last(nodes) ** 2), 0.45)


GAUSS = Rule(*np.polynomial.legendre.leggauss(12), 0.5)
"""The rule that integrates."""

_SEARCH = _lobatto(12)
"""The rule that finds jumps: none hides behind a panel's last node, nor where its parts agree by symmetry."""


class UnboundedError(ValueError):
    """What has no expectation, or none within the numbers of float64."""


@dataclass(frozen=True)
class Integral:
    """Integrals of several functions (the first axis), and the panels that they were computed on.

    Attributes:
        value: the integrals
        mass: the sums of the panels' absolute integrals
        doubt: the estimated errors
        left, right: the panels' ends
        rounds: how many times each panel comes from halving
    """

    value: Array
    mass: Array
    doubt: Array
    left: Array
    right: Array
    rounds: NDArray[np.int64]

    @property
    def is_rough(self) -> bool:
        return bool((self.doubt > _WORST * self.mass).any())


def normal_density(z: Array) -> Array:
    density: Array = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    return density


def uniform_edges(offset: float = 0.0) -> Array:
    """Panels of half a standard deviation."""
    inner = np.arange(-REACH, REACH + _STEP / 2, _STEP) + _STEP * offset
    return inner if offset == 0.0 else np.concatenate([[-REACH], inner[:-1], [REACH]])


def integrate(integrand: Function, edges: Array, rule: Rule = GAUSS) -> Integral:
    """Integrals over the panels between the edges and those that they are halved into.

    The integrand makes an array with an axis more, the first, from points of any shape.
    """
    left, right = edges[:-1], edges[1:]
    whole = _integrals(integrand, left, right, rule)
    _check_tails(whole)
    value = np.zeros(len(whole))
    mass, doubt = value.copy(), value.copy()
    panels: list[tuple[Array, Array, NDArray[np.int64]]] = []
    for turn in range(_ROUNDS + 1):
        middle = left * (1 - rule.split) + right * rule.split
        parts = np.stack([left, middle]), np.stack([middle, right])
        halves = _integrals(integrand, *parts, rule)
        finer = halves.sum(1)
        size = np.abs(finer)
        error = np.abs(finer - whole)
        limit = _PANEL_TOLERANCE * (mass + size.sum(-1))
        rough = (error > limit[:, None]).any(0)
        if turn == _ROUNDS or 2 * rough.sum() > _MOST_PANELS:
            doubt += error[:, rough].sum(-1)
            rough[:] = False
        value += finer[:, ~rough].sum(-1)
        mass += size[:, ~rough].sum(-1)
        doubt += error[:, ~rough].sum(-1)
        panels.append((left[~rough], right[~rough], np.full((~rough).sum(), turn)))
        if not rough.any():
            break
        left, right = (
            np.append(left[rough], middle[rough]),
            np.append(middle[rough], right[rough]),
        )
        whole = np.concatenate([halves[:, 0, rough], halves[:, 1, rough]], axis=-1)
    lefts, rights, rounds = (np.concatenate(each) for each in zip(*panels, strict=True))
    order = np.argsort(lefts)
    return Integral(value, mass, doubt, lefts[order], rights[order], rounds[order])


def _integrals(integrand: Function, left: Array, right: Array, rule: Rule) -> Array:
    z, weights = _points(left, right, rule)
    with np.errstate(over="ignore", under="ignore"):
        values = integrand(z)
    if not np.isfinite(values).all():
        raise UnboundedError("nonlinearity has no finite second moment")
    result: Array = (values * weights).sum(-1)
    return result


def _points(left: Array, right: Array, rule: Rule = GAUSS) -> tuple[Array, Array]:
    """Nodes and weights of each panel, along a new last axis."""
    half_width = (right - left)[..., None] / 2
    return (left + right)[..., None] / 2 + half_width * rule.nodes, rule.weights * half_width


def _check_tails(panels: Array) -> None:
    """At the ends there must be next to nothing, or ever less: an activation may be zero up to there."""
    sizes = np.abs(panels)
    ends, before = sizes[:, [0, -1]], sizes[:, [1, -2]]
    is_much = ends > _PANEL_TOLERANCE * sizes.sum(-1, keepdims=True)
    if (is_much & (before > 0) & (ends > 0.01 * before)).any():
        raise UnboundedError("nonlinearity has no finite second moment: it grows too fast")


@dataclass(frozen=True)
class Grid:
    """Functions of a standard normal z, and panels on which 12 nodes integrate them and their squares.

    Attributes:
        functions: each from an array to one of its shape
        edges: the ends of the panels, in order
        breaks: those at which there is a kink or a jump
    """

    functions: Sequence[Function]
    edges: Array
    breaks: Array

    @classmethod
    def of(cls, functions: Sequence[Function], scale: float) -> "Grid":
        """The panels for functions of ``scale * z`` whose own scale is about one.

        Raises:
            ValueError: if a function is too rough.
            UnboundedError: if it has no finite second moment.
        """
        step = _STEP / max(scale / 8, 1.0)  # nodes at most half a unit of the activation apart
        near: Array = (np.arange(-16.0, 16.0) + _OFFSET) * step
        far: Array = near[-1] * 2.0 ** np.arange(1.0, 64.0)
        regular = uniform_edges(_OFFSET)
        outside = regular[(regular < near[0] - step) | (regular > near[-1] + step)]
        edges = _merged(outside, near, far, -far)
        grid = cls(functions, edges, np.empty(0))
        left, right = _breaks(grid._integral(_SEARCH))
        if len(left) > _MOST_BREAKS:
            raise ValueError("nonlinearity is too rough to integrate")
        breaks = grid._located(left, right) if len(left) else left
        fine = replace(grid, edges=_merged(edges, breaks))._integral(GAUSS)
        return cls(functions, np.append(fine.left, fine.right[-1:]), breaks)

    def _integral(self, rule: Rule) -> Integral:
        def integrand(z: Array) -> Array:
            values = self._values(z)
            return np.concatenate([values, values**2]) * normal_density(z)

        integral = integrate(integrand, self.edges, rule)
        if integral.is_rough:
            raise ValueError("nonlinearity is too rough to integrate")
        return integral

    def _located(self, left: Array, right: Array) -> Array:
        """The kink or jump in each interval: up to it the functions follow their tangents on the left."""
        width = right - left
        start, end = self._values(left), self._values(right)
        rise, fall = start - self._values(left - width), self._values(right + width) - end
        low, high = np.zeros_like(width), np.ones_like(width)  # parts of the interval
        for _ in range(_BISECTIONS):
            part = (low + high) / 2
            at = self._values(left + part * width)
            off_left = np.abs(at - start - rise * part).sum(0)
            off_right = np.abs(at - end + fall * (1 - part)).sum(0)
            is_left = off_left < off_right
            low, high = np.where(is_left, part, low), np.where(is_left, high, part)
        located: Array = left + (low + high) / 2 * width
        return located

    def _values(self, z: Array) -> Array:
        return np.stack([function(z) for function in self.functions])

    @cached_property
    def nodes(self) -> tuple[Array, Array, Array]:
        """The points of all panels, their weights without the density, and the functions' values there."""
        z, weights = _points(self.edges[:-1], self.edges[1:])
        return z, weights, self._values(z)

    def mean_square(self, which: int, weight: Function = np.ones_like) -> float:
        """E[weight(z) f(z)^2]."""
        z, weights, values = self.nodes
        return float((values[which] ** 2 * weight(z) * normal_density(z) * weights).sum())

    def mean_product(self, which: int, c: float, by_c: bool = False) -> float:
        """E[f(z1) f(z2)] for standard normal z1 and z2 with covariance c; or its derivative by c.

        With independent s and t, z1 = a s + b t and z2 = a s - b t. For one s the product has its kinks
        at known t, and what is left, a function of s, has them where kinks of both factors meet. The
        derivative is that of the density: that of f is not needed, and a jump has its part.
        """
        function = self.functions[which]
        a, b = math.sqrt((1 + c) / 2), math.sqrt((1 - c) / 2)
        sharp = self._sharp_edges
        width = min(_STEP / b, 1.0)
        regular = np.linspace(0.0, _INNER_REACH, 1 + math.ceil(_INNER_REACH / width))

        def over_t(s: Array) -> Array:
            with np.errstate(divide="ignore", invalid="ignore"):
                cuts = np.abs(sharp - a * s[:, None]) / b
            cuts = np.nan_to_num(np.minimum(cuts, _INNER_REACH))
            edges = np.sort(np.concatenate([np.tile(regular, (len(s), 1)), cuts], axis=1), axis=1)
            t, weights = _points(edges[:, :-1], edges[:, 1:])
            center, shift = a * s[:, None, None], b * t
            product = function(center + shift) * function(center - shift)
            if by_c:
                product *= ((s * s - 1) / (4 * a * a))[:, None, None] - (t * t - 1) / (4 * b * b)
            inner: Array = 2 * (product * normal_density(t) * weights).sum((1, 2))
            return inner

        def over_s(s: Array) -> Array:
            points = s.ravel()
            per_point = 12 * (len(regular) + len(sharp))
            pieces = np.array_split(points, 1 + len(points) * per_point // _AT_ONCE)
            inner = np.concatenate([over_t(piece) for piece in pieces]).reshape(s.shape)
            return (inner * normal_density(s))[None]

        meetings = (self.breaks[:, None] + self.breaks).ravel() / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            near = b * np.append(0.0, 2.0 ** np.arange(max(0.0, -math.log2(b))))
            around = (meetings[:, None] + np.concatenate([-near, near])).ravel()
            edges = _merged(np.arange(-REACH, REACH + 1), around / a, sharp / a)
        integral = integrate(over_s, edges)
        if integral.is_rough:
            raise ValueError("nonlinearity is too rough to integrate")
        return float(integral.value[0])

    @cached_property
    def _sharp_edges(self) -> Array:
        """The ends of panels that are too narrow for those of ``mean_product`` to do without."""
        narrow = np.diff(self.edges) < 0.9 * _STEP
        sharp: Array = self.edges[np.append(narrow, False) | np.append(False, narrow)]
        return sharp


def _merged(edges: Array, *others: Array) -> Array:
    """All the edges within the reach, in order."""
    more = np.concatenate(others)
    return np.unique(np.concatenate([edges, more[np.abs(more) < REACH]]))


def _breaks(integral: Integral) -> tuple[Array, Array]:
    """Left and right of the tiniest panels in each run of tiny ones, with as much again on both sides."""
    tiny = np.flatnonzero(integral.rounds >= _BREAK_ROUND)
    runs = np.split(tiny, np.flatnonzero(np.diff(tiny) > 1) + 1) if len(tiny) else []
    deepest = [run[integral.rounds[run] == integral.rounds[run].max()] for run in runs]
    left = np.array([integral.left[panels[0]] for panels in deepest])
    right = np.array([integral.right[panels[-1]] for panels in deepest])
    return 2 * left - right, 2 * right - left
