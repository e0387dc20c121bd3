"""What mean-field theory expects of a plain chain of layers: lengths, correlations and chi, from its inputs on."""

import math
from collections.abc import Iterator
from typing import NamedTuple, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from pyinit._scale.gain import AnyNonlinearity, activation_of
from pyinit._scale.pointwise import Array, Pointwise
from pyinit._torch.original import functional
from pyinit.inspection.calls import Call
from pyinit.inspection.rows import NAN
from pyinit.inspection.samples import angles
from pyinit.inspection.saturation import name_of_activation
from pyinit.inspection.statistics import describe

_CENTRED = 0.01  # of the mean square that the sums of independent weights have
_BY_CHANCE = 6.0  # standard errors that the mean of random weights may be off 0


class Expected(NamedTuple):
    """What the theory expects of one call.

    std: of the values that it puts out
    cosine: between two samples
    chi: the factor of a layer with weights on small differences, from the layer before; NaN of others
    """

    std: float = NAN
    cosine: float = NAN
    chi: float = NAN


class Chain:
    """Follows a pass as long as it is a plain chain: linear layers, convolutions and activations, of which
    each takes what the one before put out, as it is or flattened.

    It keeps what a call puts out until the next call, and no longer than the chain is plain.
    """

    def __init__(self) -> None:
        self._links: list[nn.Module | AnyNonlinearity] | None = []
        self._start = (NAN, NAN)  # the inputs' mean square and the mean cosine between two
        self._last: tuple[Tensor, int] | None = None

    def follow(self, call: Call) -> None:
        """The next call of the pass, while it is visited."""
        if self._links is None:
            return
        link, out = _link(call), call.tensor
        values = call.inputs[0] if call.inputs else None
        if link is None or out is None or not isinstance(values, Tensor):
            self._end()
        elif not self._links and _is_weighted(link):
            self._begin(link, values)
        elif not self._goes_on(values, out):
            self._end()
        if self._links is not None and link is not None and out is not None:
            self._links.append(link)
            self._last = out.detach(), out._version

    def expected(self) -> list[Expected] | None:
        """Of each call, once the pass is over; None if the model is no plain chain of random weights."""
        self._last = None
        if not self._links:
            return None
        try:
            return list(self._through(self._links))
        except Exception:  # noqa: BLE001  an activation that takes no vector may raise anything
            return None

    def _begin(self, link: object, values: Tensor) -> None:
        if values.dim() < 2 or not values.is_floating_point() or not values.numel():
            self._end()
            return
        seen = describe(values)
        samples = 1 if isinstance(link, _ConvNd) else values.dim() - 1
        self._start = seen.mean_square, angles(values.detach(), samples)[0]

    def _end(self) -> None:
        self._links = self._last = None

    def _goes_on(self, values: Tensor, out: Tensor) -> bool:
        if self._last is None:
            return False
        last, version = self._last
        is_same = values.shape == last.shape and values.stride() == last.stride()
        is_flat = values.dim() == 2 and len(values) == len(last) and values.is_contiguous()
        written = out.data_ptr() == values.data_ptr()  # by the call itself
        return (
            values.data_ptr() == last.data_ptr()
            and values.numel() == last.numel()
            and values._version == version + written
            and (is_same or is_flat)
        )

    def _through(self, links: list[nn.Module | AnyNonlinearity]) -> Iterator[Expected]:
        square, cosine = self._start
        product, mean, slope = square * cosine, 0.0, 1.0
        for link in links:
            if _is_weighted(link):
                of_weights, of_biases = _variances(link)
                if _is_centred(link):  # it does not see the mean
                    square, product = max(square - mean**2, 0.0), product - mean**2
                chi, slope, mean = of_weights * slope, 1.0, 0.0
                square = of_weights * square + of_biases
                product = of_weights * product + of_biases
                yield Expected(math.sqrt(square), _ratio(product, square), chi)
            else:
                function = Pointwise(activation_of(link))
                mean, square, product, slope = moments(function, square, _ratio(product, square))
                std = math.sqrt(max(square - mean**2, 0.0))
                yield Expected(std, _ratio(product, square))


def moments(function: Pointwise, q: float, c: float) -> tuple[float, float, float, float]:
    """E[f(u)], E[f(u)^2], E[f(u) f(v)] and E[f'(u)^2] for normal u and v of variance q and correlation c.

    By the trapezoidal rule, whose error is below a thousandth also where f has kinks. ``theory.MeanField``
    has ten digits, and takes a hundred times as long.
    """
    if not (math.isfinite(q) and q >= 0):
        return NAN, NAN, NAN, NAN
    scale = math.sqrt(q)
    values = function.values(scale * _FINE)
    mean, square = float(values @ _FINE_WEIGHTS), float(values**2 @ _FINE_WEIGHTS)
    slope = float(function.slopes(scale * _FINE) ** 2 @ _FINE_WEIGHTS)
    if math.isnan(c):
        return mean, square, NAN, slope
    c = max(-1.0, min(1.0, c))
    other = c * _COARSE[:, None] + math.sqrt(1 - c * c) * _COARSE
    of_other = function.values(scale * other.ravel()).reshape(other.shape) @ _COARSE_WEIGHTS
    product = float(function.values(scale * _COARSE) * of_other @ _COARSE_WEIGHTS)
    return mean, square, product, slope


def _normal_nodes(count: int) -> tuple[Array, Array]:
    """An even count puts 0, where most kinks are, between two nodes."""
    nodes = np.linspace(-7.0, 7.0, count)
    density = np.exp(-nodes * nodes / 2)
    return nodes, density / density.sum()


_FINE, _FINE_WEIGHTS = _normal_nodes(2000)
_COARSE, _COARSE_WEIGHTS = _normal_nodes(128)


def _is_weighted(link: object) -> TypeGuard[nn.Module]:
    return isinstance(link, (nn.Linear, _ConvNd))


def _link(call: Call) -> nn.Module | AnyNonlinearity | None:
    """The layer or the activation that a call is; None where the theory says nothing of it."""
    module = call.module
    if call.kind == "activation":
        if not call.layer.function:
            return None if isinstance(module, nn.RReLU) else module
        has_arguments = len(call.inputs) > 1 or set(call.keywords) - {"inplace"}
        return None if has_arguments else getattr(functional, name_of_activation(call.layer), None)
    if call.layer.function or "weight" not in module._parameters:
        return None
    return module if isinstance(module, nn.Linear) or _is_even(module) else None


def _is_even(module: nn.Module) -> bool:
    """Whether it is a convolution that makes all places alike: no zeros at the borders, one group."""
    if not isinstance(module, _ConvNd) or isinstance(module, _ConvTransposeNd):
        return False
    padding = module.padding
    padded = padding == "same" if isinstance(padding, str) else any(padding)
    is_wide = max(module.kernel_size) > 1
    return module.groups == 1 and not (padded and is_wide and module.padding_mode == "zeros")


def _variances(layer: nn.Module) -> tuple[float, float]:
    """sigma_w^2 and sigma_b^2, as they are.

    Raises:
        ValueError: if they are not random about 0.
    """
    found = []
    for name in ("weight", "bias"):
        values = layer._parameters[name]
        square = 0.0
        if values is not None:
            seen = describe(values.detach())
            square = seen.mean_square
            if not abs(seen.mean) * math.sqrt(seen.count) <= _BY_CHANCE * math.sqrt(square):
                raise ValueError(f"{name} has a mean of {seen.mean}")
        found.append(square)
    weight = layer._parameters["weight"]
    fan_in = 0 if weight is None else weight[0].numel()
    return fan_in * found[0], found[1]


def _is_centred(layer: nn.Module) -> bool:
    """Whether the weights of each output add up to nothing, at each tap of a convolution.

    Those of random weights add up to as much as one weight times the root of their number.
    """
    weight = layer._parameters["weight"]
    if weight is None or weight.shape[1] < 2:
        return False
    sums = weight.detach().to(torch.float64).sum(1)
    squares = describe(weight.detach()).mean_square * weight.shape[1]
    return bool(sums.square().mean() < _CENTRED * squares)


def _ratio(product: float, square: float) -> float:
    return product / square if square > 0 else NAN
