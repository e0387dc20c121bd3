"""Mean-field theory of signals in wide random networks: length, correlation, chi, depth scales.

A plain network with layers ``h[l+1] = W f(h[l]) + b``, weights of variance ``sigma_w**2 / fan_in`` and
biases of variance ``sigma_b**2`` has, in the limit of infinite width, normal pre-activations. So two numbers
tell what a layer does to a pair of inputs: the length q (the variance of the pre-activations) and the
correlation c between the two inputs' pre-activations.

Example:
    >>> from pyinit import theory
    >>> network = theory.MeanField("tanh", sigma_w=2.0, sigma_b=0.5)
    >>> network.phase, round(network.q_star, 3), round(network.c_star, 3)
    ('chaotic', 2.48, 0.521)
    >>> round(theory.critical_sigma_w("tanh", sigma_b=0.05**0.5) ** 2, 4)
    1.761
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from pyinit._scale.gain import AnyNonlinearity, activation_of
from pyinit._scale.pointwise import Pointwise
from pyinit._scale.quadrature import Array, Grid, UnboundedError, normal_density

__all__ = ["MeanField", "critical_sigma_w"]

_CRITICAL = 1e-9
"""How close to 1 chi is 1: what quadrature and the search of a critical point leave."""

_NOISE = 1e-12
_LEAST, _MOST = 2.0**-60, 2.0**60
_MOST_CRITICAL = 2.0**40
_TINY = 1e-100  # a scale for what happens as q goes to zero
_ACROSS, _ACROSS_PART = 1e-9, 0.01  # from an edge to each side; as a part of the panels there
_UNEXPLAINED = 1e-9  # a rise of f, as a part of its size, that f' does not make

Phase = Literal["ordered", "critical", "chaotic", "divergent"]


@dataclass(frozen=True)
class MeanField:
    """A wide random network of one activation, in the mean-field theory.

    Everything is computed from expectations under the normal law, by adaptive quadrature in float64 that
    finds kinks and jumps of the activation f and integrates between them. The derivative f' is
    autograd's: Stein's lemma gives ``E[f'(x)]`` without it, but chi wants ``E[f'(x)**2]``. The
    slope of the length map, which would want f'', and chi where f jumps are derivatives of the normal
    density instead.

    What is infinite or does not exist is ``inf`` or ``nan``:

    * ``q_star`` is ``inf`` if lengths grow without bound, as those of ReLU with ``sigma_w**2 > 2``.
      The phase is then "divergent", and all other values at the fixed point are ``nan``. The maps, and
      ``chi`` at a q that is given, remain.
    * ``c_star``, ``chi_c`` and ``xi_c`` are ``nan`` if ``q_star`` is 0: nothing is left to correlate.
    * ``chi_1`` is ``inf`` if the activation jumps within six standard deviations of its input: then
      neighbours part at once.
    * A depth scale is ``inf`` at a critical point, where convergence is not exponential.

    Args:
        activation: a name that ``pyinit.calculate_gain`` knows, a module, its class, or a function
            of a tensor. It must act element by element, be finite and the same at each call, and what
            happens to it must happen on a scale of order one. A module is copied when this object is
            made, and run in float64 and evaluation mode
        sigma_w: the standard deviation of the weights times the square root of fan_in
        sigma_b: the standard deviation of the biases

    Raises:
        ValueError: for an unknown activation, one that is not element-wise, or a sigma that is negative
            or not finite; later, from all that needs an expectation, if f or f' is too rough to integrate.
        TypeError: if the activation does not return a real tensor.

    References:
        Poole et al. (2016), `Exponential expressivity in deep neural networks through transient chaos`.
        Schoenholz et al. (2017), `Deep information propagation`. Hayou et al. (2019), `On the impact of
        the activation function on deep neural networks training`.

    Example:
        >>> from pyinit import theory
        >>> network = theory.MeanField("tanh", sigma_w=1.3, sigma_b=0.2)
        >>> network.phase, round(network.chi_1, 4), round(network.xi_c, 2)
        ('ordered', 0.9977, 437.31)
        >>> theory.MeanField("relu", sigma_w=2.0).q_star
        inf
    """

    activation: AnyNonlinearity
    sigma_w: float
    sigma_b: float = 0.0

    def __post_init__(self) -> None:
        for name in ("sigma_w", "sigma_b"):
            _check(name, getattr(self, name), 0.0, math.inf)
        _ = self._function  # what is wrong with it is said now

    # The maps

    def length_map(self, q: float) -> float:
        """The length after a layer: ``sigma_w**2 * E[f(sqrt(q) * z)**2] + sigma_b**2``.

        Args:
            q: the length before it, at least 0

        Returns:
            The length of the next pre-activations.

        Raises:
            ValueError: if q is negative or not finite, or f has no finite second moment.
        """
        _check("q", q, 0.0, math.inf)
        return self._next_length(q)

    def correlation_map(self, c: float, q: float | None = None) -> float:
        """The correlation after a layer of two inputs of the same length.

        It is ``(sigma_w**2 * E[f(u1) * f(u2)] + sigma_b**2) / V(q)`` for normal ``u1, u2`` of
        variance q and correlation c, where V is the length map. At 1 it is 1.

        Args:
            c: the correlation before it, from -1 to 1
            q: the length before it; ``q_star`` if None

        Returns:
            The correlation of the next pre-activations; ``nan`` where they have no finite length above 0.

        Raises:
            ValueError: for a c or q out of range.
        """
        _check("c", c, -1.0, 1.0)
        q = self._length(q)
        length = self._next_length(q) if math.isfinite(q) else math.nan
        if not length > 0:
            return math.nan
        if c == 1:
            return 1.0
        product = self._grid(q).mean_product(0, c)
        return (self.sigma_w**2 * product + self.sigma_b**2) / length

    def chi(self, c: float = 1.0, q: float | None = None) -> float:
        """The factor on small differences in a layer: ``sigma_w**2 * E[f'(u1) * f'(u2)]``.

        With c = 1 it is ``chi_1 = sigma_w**2 * E[f'(sqrt(q) * z)**2]``: by so much a layer multiplies
        the mean square of the gradient on its way back. At ``q_star`` it is the slope of the correlation
        map at c, so a fixed point c is stable where it is below 1.

        Args:
            c: the correlation of the normal ``u1`` and ``u2``, from -1 to 1
            q: their variance; ``q_star`` if None

        Returns:
            The factor; ``inf`` if f jumps and c is 1; ``nan`` if it jumps and c is -1 or q is 0, and
            where ``q_star`` is infinite.

        Raises:
            ValueError: for a c or q out of range, and if autograd's gradient of f is not its derivative.
        """
        _check("c", c, -1.0, 1.0)
        q = self._length(q)
        if math.isinf(q):
            return math.nan
        if self._jumps(q):
            if c == 1:
                return math.inf
            if c == -1 or q == 0:
                return math.nan
            return self.sigma_w**2 * self._grid(q).mean_product(0, c, by_c=True) / q
        grid = self._grid(q, slopes=True)
        return self.sigma_w**2 * (grid.mean_square(1) if c == 1 else grid.mean_product(1, c))

    # Fixed points

    @cached_property
    def q_star(self) -> float:
        """The fixed point of the length map that is next to 1 on the side that the map goes to from there.

        This is where inputs of unit length end; 1 itself if the map leaves it, as every length is left
        by ReLU with ``sigma_w**2 = 2``. It is ``inf`` if there is none below 2^60.
        """
        drift = self._drift(1.0)
        if drift == 0:
            return 1.0
        q = 1.0
        while True:
            last, q = q, q * 2 if drift > 0 else q / 2
            if q > _MOST:
                return math.inf
            if q < _LEAST and self._next_length(0.0) == 0:
                return 0.0
            try:
                now = self._drift(q)
            except UnboundedError:
                if drift > 0:
                    return math.inf
                raise
            if drift * now < 0:
                return _root(lambda q: self._next_length(q) - q, min(last, q), max(last, q))

    @cached_property
    def c_star(self) -> float:
        """The stable fixed point of the correlation map at ``q_star``.

        All correlations but some single ones end here. It is 1 if ``chi_1`` is at most 1. Above, the
        map, which is convex from 0 to 1, has exactly one further fixed point there, and that is it.
        """
        if math.isinf(self.q_star) or self.q_star == 0:
            return math.nan
        if self.chi_1 <= 1 + _CRITICAL:
            return 1.0
        c = 0.0
        while True:  # Newton's steps only go up, as the map is convex
            slope = self.chi(c) - 1
            step = (c - self.correlation_map(c)) / slope if slope < 0 else 0.0
            if not step > _NOISE:
                return c
            c = min(c + step, 1.0)

    @cached_property
    def chi_1(self) -> float:
        """chi at ``q_star`` for c = 1. Above 1 neighbours part and gradients explode; below, both vanish."""
        return self.chi()

    @cached_property
    def chi_c(self) -> float:
        """chi at ``q_star`` and ``c_star``: the slope of the correlation map, at most 1."""
        return math.nan if math.isnan(self.c_star) else self.chi(self.c_star)

    @cached_property
    def chi_q(self) -> float:
        """The slope of the length map at ``q_star``, at most 1 and never below -1/2.

        Below 1, lengths that are off by a little come back to ``q_star``, each layer by this factor.
        """
        q = self.q_star
        if math.isinf(q):
            return math.nan
        by_density = self._grid(q).mean_square(0, lambda z: (z * z - 1) / 2)
        return self.sigma_w**2 * by_density / (q or _TINY**2)

    @cached_property
    def xi_q(self) -> float:
        """The depth scale of lengths, in layers: ``abs(q[l] - q_star)`` falls as ``exp(-l / xi_q)``."""
        return _depth_scale(self.chi_q)

    @cached_property
    def xi_c(self) -> float:
        """The depth scale of correlations, in layers: ``abs(c[l] - c_star)`` falls as ``exp(-l / xi_c)``.

        Schoenholz et al. find that networks train up to about six times this depth.
        """
        return _depth_scale(self.chi_c)

    @cached_property
    def phase(self) -> Phase:
        """The phase: "ordered" (``chi_1`` below 1), "critical", "chaotic", or "divergent" (``q_star`` infinite)."""
        if math.isinf(self.q_star):
            return "divergent"
        if abs(self.chi_1 - 1) <= _CRITICAL:
            return "critical"
        return "ordered" if self.chi_1 < 1 else "chaotic"

    # Chains

    def lengths(self, depth: int, q: float = 1.0) -> Array:
        """The lengths through a plain chain of layers.

        Args:
            depth: the number of layers, at least 0
            q: the length of the first pre-activations

        Returns:
            An array of shape (depth + 1,), which begins with q.

        Raises:
            ValueError: if depth or q is out of range, or a length leaves the numbers of float64.
        """
        _check("depth", depth, 0, math.inf)
        _check("q", q, 0.0, math.inf)
        found = [q]
        for _ in range(depth):
            found.append(self.length_map(found[-1]))
        return np.array(found, dtype=np.float64)

    def correlations(self, depth: int, c: float, q: float = 1.0) -> Array:
        """The correlations of two inputs of one length through a plain chain of layers.

        Args:
            depth: the number of layers, at least 0
            c: the correlation of the first pre-activations
            q: their length

        Returns:
            An array of shape (depth + 1,), which begins with c.

        Raises:
            ValueError: as ``lengths``, and for a c out of range.
        """
        _check("c", c, -1.0, 1.0)
        found = [c]
        for length in self.lengths(depth, q)[:-1]:
            found.append(max(-1.0, min(1.0, self.correlation_map(found[-1], float(length)))))
        return np.array(found, dtype=np.float64)

    def gradients(self, depth: int, q: float = 1.0) -> Array:
        """The mean squares of a loss's gradient by the pre-activations of a plain chain of layers.

        A layer multiplies them by ``chi_1`` at its length on the way back, if all layers have the
        same width and the weights of the way back are taken as independent of those of the way there.

        Args:
            depth: the number of layers, at least 0
            q: the length of the first pre-activations

        Returns:
            An array of shape (depth + 1,), from the first pre-activations to the last, in units of the
            last.

        Raises:
            ValueError: as ``lengths``, and if autograd's gradient of f is not its derivative.
        """
        factors = [self.chi(1.0, float(length)) for length in self.lengths(depth, q)[:-1]]
        products: Array = np.cumprod([1.0, *factors[::-1]], dtype=np.float64)[::-1].copy()
        return products

    # Expectations

    @cached_property
    def _function(self) -> Pointwise:
        return Pointwise(activation_of(self.activation))

    @cached_property
    def _grids(self) -> dict[tuple[float, bool], Grid]:
        return {}

    def _grid(self, q: float, slopes: bool = False) -> Grid:
        """f, and its derivative if wanted, as functions of a standard normal."""
        key = q, slopes
        if key not in self._grids:
            scale = math.sqrt(q) if q > 0 else _TINY
            both = (self._function.values, self._function.slopes)
            functions = [_scaled(function, scale) for function in both[: 1 + slopes]]
            self._grids[key] = Grid.of(functions, scale)
        return self._grids[key]

    def _length(self, q: float | None) -> float:
        if q is None:
            return self.q_star
        _check("q", q, 0.0, math.inf)
        return float(q)

    def _next_length(self, q: float) -> float:
        if q == 0:
            square = float(self._function.values(np.zeros(1))[0]) ** 2
        else:
            square = self._grid(q).mean_square(0)
        return self.sigma_w**2 * square + self.sigma_b**2

    def _drift(self, q: float) -> int:
        """Whether lengths of q grow (1), shrink (-1), or stay as far as can be told (0)."""
        change = self._next_length(q) / q - 1
        return 0 if abs(change) <= _NOISE else int(math.copysign(1, change))

    def _jumps(self, q: float) -> bool:
        """Whether f jumps within six standard deviations: between panels f has breaks, within them f'.

        Raises:
            ValueError: if f is not the integral of f' within a panel.
        """
        scale = math.sqrt(q) if q > 0 else _TINY
        grid = self._grid(q, slopes=True)
        values, slopes = grid.functions
        widths = np.diff(grid.edges, prepend=-np.inf, append=np.inf)
        across = np.minimum(_ACROSS, _ACROSS_PART * np.minimum(widths[1:], widths[:-1]))
        edges = np.stack([grid.edges - across, grid.edges + across])
        before, after = values(edges)
        steps = 2 * across * scale * np.abs(slopes(edges)).max(0)
        _, weights, (_, derivative) = grid.nodes
        rises = scale * (derivative * weights).sum(-1)
        density = normal_density(grid.edges)
        worst = _UNEXPLAINED * math.sqrt(grid.mean_square(0))
        within = np.abs(before[1:] - after[:-1] - rises) - steps[1:] - steps[:-1]
        if (within * np.minimum(density[1:], density[:-1]) > worst).any():
            raise ValueError(
                f"autograd's gradient of {self.activation!r} is not its derivative: chi is unknown"
            )
        return bool(((np.abs(after - before) - 10 * steps) * density > worst).any())


def critical_sigma_w(activation: AnyNonlinearity, sigma_b: float = 0.0) -> float:
    """The sigma_w at which a network is critical: a point of the line between order and chaos.

    It is found along the length: at q, ``chi_1 = 1`` wants ``sigma_w**2 = 1 / E[f'**2]``, and q
    is a fixed point where ``q = sigma_w**2 * E[f**2] + sigma_b**2``. Of several, the one with the
    smallest q is given.

    Args:
        activation: as ``MeanField`` takes it
        sigma_b: the standard deviation of the biases

    Returns:
        sigma_w with ``MeanField(activation, sigma_w, sigma_b).phase == "critical"``, or ``nan`` if there
        is none. ReLU with biases has none: where its lengths have a bound, ``chi_1`` is below 1. With
        small biases GELU and SiLU have none: all lengths beside their fixed points of ``chi_1`` 1 move away.

    Raises:
        ValueError: as ``MeanField``.
        TypeError: if the activation does not return a real tensor.

    References:
        Schoenholz et al. (2017), `Deep information propagation`. Hayou et al. (2019), `On the impact of
        the activation function on deep neural networks training`, who call the line edge of chaos.

    Example:
        >>> from pyinit import theory
        >>> round(theory.critical_sigma_w("tanh"), 6), round(theory.critical_sigma_w("relu"), 6)
        (1.0, 1.414214)
        >>> theory.critical_sigma_w("relu", sigma_b=0.1)
        nan
    """
    unit = MeanField(activation, 1.0, sigma_b)

    def excess(q: float) -> float:
        """q less the length after a layer that keeps gradients."""
        chi = unit.chi(1.0, q)
        square = unit.length_map(q) - unit.sigma_b**2
        if chi > 0:
            change = q - square / chi - sigma_b**2
        else:
            change = q - sigma_b**2 if square == 0 else -_MOST
        return 0.0 if abs(change) <= _NOISE * q else change

    def critical_at(q: float) -> float:
        """The sigma_w for this length, if that is where the network goes; else nan."""
        chi = unit.chi(1.0, q)
        if not 0 < chi < math.inf:
            return math.nan
        sigma_w = 1 / math.sqrt(chi)
        is_critical = MeanField(activation, sigma_w, sigma_b).phase == "critical"
        return sigma_w if is_critical else math.nan

    if unit.length_map(0.0) == 0:
        sigma_w = critical_at(0.0)
        if not math.isnan(sigma_w):
            return sigma_w
    q = max(sigma_b**2, _LEAST)
    now = excess(q)
    while q < _MOST_CRITICAL:
        q, last = 2 * q, now
        try:
            now = excess(q)
        except UnboundedError:
            break
        if last * now < 0:
            sigma_w = critical_at(_root(excess, q / 2, q))
            if not math.isnan(sigma_w):
                return sigma_w
    return math.nan


def _scaled(function: Callable[[Array], Array], scale: float) -> Callable[[Array], Array]:
    """The function of ``scale * z``, for arrays of any shape."""
    return lambda z: function(scale * z.ravel()).reshape(z.shape)


def _check(name: str, value: float, least: float, most: float) -> None:
    if not (math.isfinite(value) and least <= value <= most):
        bounds = f"between {least:g} and {most:g}" if most < math.inf else "finite and at least 0"
        raise ValueError(f"{name} must be {bounds}, got {value!r}")


def _depth_scale(chi: float) -> float:
    size = abs(chi)
    if size == 0:
        return 0.0
    return math.inf if size >= 1 - _CRITICAL else -1 / math.log(size)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where the function changes its sign, by the Illinois method."""
    at_low, at_high = function(low), function(high)
    guess = low
    for _ in range(100):
        last, guess = guess, (low * at_high - high * at_low) / (at_high - at_low)
        value = function(guess)
        if value == 0 or abs(guess - last) <= 1e-15 * abs(guess):
            break
        if value * at_high < 0:
            low, at_low = high, at_high
        else:
            at_low /= 2
        high, at_high = guess, value
    return guess
