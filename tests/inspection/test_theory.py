"""Mean-field theory: maps, fixed points, slopes, depth scales and phases."""

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from numpy.typing import NDArray
from scipy import integrate
from scipy.special import ndtr
from scipy.stats import norm
from torch import Tensor, nn

import pyinit
from pyinit.inspection.theory import MeanField, critical_sigma_w

Array = NDArray[np.float64]

CORRELATIONS = [-1.0, -0.6, 0.0, 0.2, 0.9, 0.9999, 1 - 1e-7, 1.0]
RNG = np.random.default_rng(3)
PAIRS = [
    (float(q), float(c))
    for q, c in zip(10 ** RNG.uniform(-2, 1.5, 5), RNG.uniform(-1, 1, 5), strict=True)
]

SMOOTH: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "gelu": F.gelu,
    "silu": F.silu,
    "softplus": F.softplus,
    "sin": torch.sin,
}
# With kinks at each of which the slope changes by so much, from a slope and a value on the far left.
PIECEWISE: dict[str, tuple[nn.Module, float, Callable[[Array], Array], dict[float, float]]] = {
    "leaky_relu": (nn.LeakyReLU(0.2), 0.2, lambda x: 0.2 * x, {0.0: 0.8}),
    "hardtanh": (nn.Hardtanh(), 0.0, lambda x: -np.ones_like(x), {-1.0: 1.0, 1.0: -1.0}),
    "relu6": (nn.ReLU6(), 0.0, np.zeros_like, {0.0: 1.0, 6.0: -1.0}),
    "hardtanh_lopsided": (
        nn.Hardtanh(-0.7, 0.3),
        0.0,
        lambda x: np.full_like(x, -0.7),
        {-0.7: 1.0, 0.3: -1.0},
    ),
}


def sign(x: Tensor) -> Tensor:
    return x.sign()


# The maps against closed forms


@pytest.mark.parametrize("q", [1e-3, 1.0, 70.0])
@pytest.mark.parametrize("c", CORRELATIONS)
def test_relu_has_the_arc_cosine_kernels(c: float, q: float) -> None:
    """Cho and Saul (2009)."""
    network = MeanField("relu", 1.3, 0.4)
    angle = math.acos(c)
    product = q * (math.sin(angle) + (math.pi - angle) * c) / (2 * math.pi)
    length = 1.69 * q / 2 + 0.16
    assert network.length_map(q) == pytest.approx(length, rel=1e-12)
    expected = (1.69 * product + 0.16) / length
    assert network.correlation_map(c, q) == pytest.approx(expected, rel=1e-11)
    expected = 1.69 * (math.pi - angle) / (2 * math.pi)
    assert network.chi(c, q) == pytest.approx(expected, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("q", [1e-3, 1.0, 70.0])
@pytest.mark.parametrize("c", CORRELATIONS)
def test_erf_has_the_arc_sine_kernel(c: float, q: float) -> None:
    """Williams (1997)."""
    network = MeanField(torch.erf, 1.3, 0.4)
    part = 2 * q / (1 + 2 * q)
    length = 1.69 * 2 / math.pi * math.asin(part) + 0.16
    assert network.length_map(q) == pytest.approx(length, rel=1e-12)
    expected = (1.69 * 2 / math.pi * math.asin(part * c) + 0.16) / length
    assert network.correlation_map(c, q) == pytest.approx(expected, rel=1e-11)
    expected = 1.69 * 4 / math.pi / math.sqrt((1 + 2 * q) ** 2 - (2 * q * c) ** 2)
    assert network.chi(c, q) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("q", [0.2, 30.0])
@pytest.mark.parametrize("c", [-0.6, 0.0, 0.2, 0.9, 0.999])
def test_a_jump_has_its_part_in_the_slope(c: float, q: float) -> None:
    network = MeanField(sign, 1.3)
    assert network.correlation_map(c, q) == pytest.approx(2 / math.pi * math.asin(c), abs=1e-11)
    slope = 1.69 * 2 / math.pi / math.sqrt(1 - c * c) / q
    assert network.chi(c, q) == pytest.approx(slope, rel=1e-8)


# The maps against other quadratures


@pytest.mark.parametrize(("q", "c"), PAIRS)
@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_maps_are_sums_over_a_fine_lattice(name: str, q: float, c: float) -> None:
    """The trapezoidal rule converges exponentially for them, and shares nothing with the one tested."""
    network = MeanField(SMOOTH[name], 1.5, 0.3)
    z = np.arange(-9, 9.01, 0.02)
    weights = norm.pdf(z) * 0.02
    u = torch.from_numpy(math.sqrt(q) * z)
    v = torch.from_numpy(math.sqrt(q) * (c * z[:, None] + math.sqrt(1 - c * c) * z))

    def mean(of_pair: Callable[[Tensor], Tensor]) -> tuple[float, float]:
        first, second = of_pair(u).numpy(), of_pair(v).numpy()
        return float(weights @ first**2), float(weights @ (first[:, None] * second) @ weights)

    def slope(x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        return torch.autograd.grad(SMOOTH[name](x).sum(), x)[0]

    square, product = mean(SMOOTH[name])
    square_of_slope, product_of_slopes = mean(slope)
    length = 2.25 * square + 0.09
    assert network.length_map(q) == pytest.approx(length, rel=1e-11)
    assert network.correlation_map(c, q) == pytest.approx(
        (2.25 * product + 0.09) / length, abs=1e-11
    )
    assert network.chi(1.0, q) == pytest.approx(2.25 * square_of_slope, rel=1e-10)
    assert network.chi(c, q) == pytest.approx(2.25 * product_of_slopes, abs=1e-10)


@pytest.mark.parametrize(("q", "c"), PAIRS)
@pytest.mark.parametrize("name", PIECEWISE)
def test_maps_with_kinks_are_single_integrals_of_closed_ones(name: str, q: float, c: float) -> None:
    """Given the first of a pair, the mean of a ramp, or of a step, of the second is known."""
    activation, far_slope, far_value, kinks = PIECEWISE[name]
    network = MeanField(activation, 1.5, 0.3)
    scale, rest = math.sqrt(q), math.sqrt(q * (1 - c * c))

    def ramp(mean: Array, sd: float) -> Array:
        if sd == 0:
            return np.maximum(mean, 0)
        return mean * ndtr(mean / sd) + sd * norm.pdf(mean / sd)

    def value(mean: Array, sd: float) -> Array:
        return far_value(mean) + sum(by * ramp(mean - at, sd) for at, by in kinks.items())

    def slope(mean: Array, sd: float) -> Array:
        steps = ((by, mean - at) for at, by in kinks.items())
        return far_slope + sum(by * (ndtr(x / sd) if sd else x > 0) for by, x in steps)

    def mean_product(function: Callable[[Array, float], Array], given: float, sd: float) -> float:
        def integrand(z: float) -> float:
            x = np.array(scale * z)
            return float(function(x, 0.0) * function(given * x, sd) * norm.pdf(z))

        points = [at / scale for at in kinks]
        return float(integrate.quad(integrand, -9, 9, points=points, epsabs=1e-12, limit=300)[0])

    length = 2.25 * mean_product(value, 1.0, 0.0) + 0.09
    assert network.length_map(q) == pytest.approx(length, rel=1e-9)
    expected = (2.25 * mean_product(value, c, rest) + 0.09) / length
    assert network.correlation_map(c, q) == pytest.approx(expected, abs=1e-9)
    assert network.chi(1.0, q) == pytest.approx(2.25 * mean_product(slope, 1.0, 0.0), rel=1e-9)
    assert network.chi(c, q) == pytest.approx(2.25 * mean_product(slope, c, rest), abs=1e-9)


def precise_mean(function: Callable[[Any], Any], q: Any) -> Any:
    places = [-12, -6, -3, -1, 0, 1, 3, 6, 12]
    return mpmath.quad(lambda z: function(mpmath.sqrt(q) * z) * mpmath.npdf(z), places)


PRECISE = {
    "tanh": (torch.tanh, mpmath.tanh),
    "gelu": (F.gelu, lambda x: x * mpmath.ncdf(x)),
    "softplus": (F.softplus, lambda x: mpmath.log1p(mpmath.exp(x))),
    "selu": (
        F.selu,
        lambda x: (
            mpmath.mpf("1.0507009873554805")
            * (x if x > 0 else mpmath.mpf("1.6732632423543772") * mpmath.expm1(x))
        ),
    ),
}


@pytest.mark.parametrize("name", PRECISE)
@pytest.mark.parametrize("q", [0.05, 1.7])
def test_lengths_and_chi_are_those_of_many_digits(name: str, q: float) -> None:
    activation, precise = PRECISE[name]
    with mpmath.workdps(25):
        square = precise_mean(lambda x: precise(x) ** 2, q)
        of_slope = precise_mean(lambda x: mpmath.diff(precise, x) ** 2 if x else 0, q)
    network = MeanField(activation, 1.0)
    assert network.length_map(q) == pytest.approx(float(square), rel=1e-12)
    assert network.chi(1.0, q) == pytest.approx(float(of_slope), rel=1e-10)


# Fixed points

NETWORKS = {
    "ordered": MeanField("tanh", 1.2, 0.3),
    "chaotic": MeanField("tanh", 2.0, 0.3),
    "kinked": MeanField(nn.Hardtanh(), 2.0, 0.3),
    "one-sided": MeanField("relu", 1.2, 0.3),
    "sigmoid": MeanField("sigmoid", 5.0, 0.1),
    "jumping": MeanField(sign, 1.0, 0.5),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_maps_come_to_their_fixed_points_at_the_rate_of_the_depth_scales(name: str) -> None:
    network = NETWORKS[name]
    q = 1.1 * network.q_star
    distances = [abs(q - network.q_star)]
    while distances[-1] > 1e-6 and network.chi_q > 1e-6:
        q = network.length_map(q)
        distances.append(abs(q - network.q_star))
    if network.chi_q > 1e-6:
        assert distances[-1] / distances[-2] == pytest.approx(math.exp(-1 / network.xi_q), rel=1e-3)

    c = network.c_star - 1e-4
    assert network.correlation_map(network.c_star) == pytest.approx(network.c_star, abs=1e-10)
    for _ in range(2):
        last, c = c, network.correlation_map(c)
    rate = (network.c_star - c) / (network.c_star - last)
    assert rate == pytest.approx(math.exp(-1 / network.xi_c), rel=0.02)
    assert rate < 1


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("c", [-0.5, 0.1, 0.8])
def test_chi_and_chi_q_are_the_slopes_of_the_maps(name: str, c: float) -> None:
    network = NETWORKS[name]
    step = 1e-3
    above, below = (network.correlation_map(c + sign * step) for sign in (1, -1))
    assert network.chi(c) == pytest.approx((above - below) / (2 * step), rel=1e-4)
    above, below = (network.length_map(network.q_star + sign * step) for sign in (1, -1))
    assert network.chi_q == pytest.approx((above - below) / (2 * step), rel=1e-4, abs=1e-9)


def test_the_lengths_of_tanh_have_the_known_slope_with_its_second_derivative() -> None:
    """Schoenholz et al. (2017): the slope is chi_1 + sigma_w^2 E[f f'']."""
    network = NETWORKS["chaotic"]

    def second(x: Any) -> Any:
        return -2 * mpmath.tanh(x) ** 2 * mpmath.sech(x) ** 2

    expected = network.chi_1 + 4 * float(precise_mean(second, network.q_star))
    assert network.chi_q == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("sigma_w", [1.2, 2.0, 5.0])
def test_above_the_critical_line_alone_there_is_a_second_fixed_point(sigma_w: float) -> None:
    network = MeanField("tanh", sigma_w, 0.3)
    is_chaotic = sigma_w > critical_sigma_w("tanh", 0.3)
    assert network.phase == ("chaotic" if is_chaotic else "ordered")
    assert (network.chi_1 > 1) == is_chaotic == (network.c_star < 1)
    assert network.chi_c < 1


# The critical line


@pytest.mark.parametrize("variance", ["0.01", "0.05", "0.3"])
def test_the_critical_line_of_tanh_is_that_of_many_digits(variance: str) -> None:
    """By the trapezoidal rule, which converges exponentially here."""

    def mean(function: Callable[[Any], Any], q: Any) -> Any:
        z = [mpmath.mpf(k) / 8 for k in range(-72, 73)]
        return mpmath.fsum(function(mpmath.sqrt(q) * x) * mpmath.npdf(x) for x in z) / 8

    def excess(q: Any) -> Any:
        square, of_slope = (
            mean(lambda x: mpmath.tanh(x) ** 2, q),
            mean(lambda x: mpmath.sech(x) ** 4, q),
        )
        return q - mpmath.mpf(variance) - square / of_slope

    with mpmath.workdps(20):
        q = mpmath.findroot(excess, (0.1, 0.7), solver="anderson")
        expected = 1 / mean(lambda x: mpmath.sech(x) ** 4, q)
    found = critical_sigma_w("tanh", math.sqrt(float(variance))) ** 2
    assert found == pytest.approx(float(expected), rel=1e-12)


def test_the_critical_point_of_tanh_is_the_published_one() -> None:
    """Schoenholz et al. (2017), figures at a bias of variance 0.05."""
    assert critical_sigma_w("tanh", math.sqrt(0.05)) ** 2 == pytest.approx(1.76, abs=0.005)


@pytest.mark.parametrize(
    ("activation", "sigma_w"),
    [
        ("tanh", 1.0),
        ("linear", 1.0),
        ("relu", math.sqrt(2)),
        (nn.LeakyReLU(0.3), math.sqrt(2 / 1.09)),
        (torch.erf, math.sqrt(math.pi) / 2),
        (nn.Hardtanh, 1.0),
    ],
)
def test_critical_points_without_biases(activation: Any, sigma_w: float) -> None:
    assert critical_sigma_w(activation) == pytest.approx(sigma_w, rel=1e-11)
    network = MeanField(activation, sigma_w)
    assert network.phase == "critical"
    assert network.xi_q == math.inf


@pytest.mark.parametrize("activation", ["selu", "sigmoid", nn.ELU(), torch.sin, nn.Hardtanh()])
def test_a_point_of_the_critical_line_is_critical(activation: Any) -> None:
    network = MeanField(activation, critical_sigma_w(activation, 0.2), 0.2)
    assert network.chi_1 == pytest.approx(1, abs=1e-9)
    assert (network.phase, network.c_star, network.xi_c) == ("critical", 1.0, math.inf)


@pytest.mark.parametrize(
    "activation",
    ["relu", "linear", nn.GELU(), sign, torch.zeros_like, nn.Hardshrink(), torch.ones_like],
)
def test_where_no_network_is_critical_there_is_no_number(activation: Any) -> None:
    assert math.isnan(critical_sigma_w(activation, 0.2))


def test_gelu_is_critical_with_large_biases_alone() -> None:
    """Where chi_q is below 1, lengths come to the fixed point; with small biases they leave it."""
    sigma_w = critical_sigma_w(nn.GELU(), 0.5)
    assert sigma_w == pytest.approx(1.39987, abs=1e-5)
    assert MeanField(nn.GELU(), sigma_w, 0.5).chi_q < 1
    assert MeanField(nn.GELU(), 1.547009, 0.2).phase == "divergent"


@pytest.mark.parametrize("reach", [5.0, 13.9, 14.7, 17.0])
def test_an_activation_that_is_zero_up_to_far_out_has_a_small_length(reach: float) -> None:
    q = (0.5 / reach) ** 2
    expected = 2 * ((1 + reach**2) * ndtr(-reach) - reach * norm.pdf(reach))
    found = MeanField(nn.Softshrink(0.5), 1.0).length_map(q) / q
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-40)


# What grows, vanishes or jumps


@pytest.mark.parametrize(
    "network",
    [
        MeanField("relu", 1.5),
        MeanField("relu", math.sqrt(2), 0.1),
        MeanField("linear", 1.0, 0.1),
        MeanField(torch.exp, 1.0, 0.1),
        MeanField(torch.square, 1.0, 0.1),
    ],
    ids=["relu", "relu with a bias", "linear with a bias", "exp", "square"],
)
def test_lengths_without_bound_are_told(network: MeanField) -> None:
    assert network.q_star == math.inf
    assert network.phase == "divergent"
    values = [network.c_star, network.chi_1, network.chi_c, network.chi_q, network.xi_q]
    assert np.isnan([*values, network.xi_c, network.chi(0.5), network.correlation_map(0.5)]).all()
    assert math.isfinite(network.length_map(1.0) + network.chi(0.5, 1.0))


def test_signals_that_vanish_have_no_correlation() -> None:
    network = MeanField("tanh", 0.9)
    assert network.q_star == 0
    assert network.phase == "ordered"
    assert network.chi_1 == pytest.approx(0.81, rel=1e-12)
    assert network.chi_q == pytest.approx(0.81, rel=1e-12)
    assert np.isnan([network.c_star, network.xi_c, network.correlation_map(0.3)]).all()


def test_relu_at_its_critical_point_keeps_every_length() -> None:
    network = MeanField("relu", math.sqrt(2))
    assert network.q_star == 1
    assert network.lengths(20, 3.0) == pytest.approx(np.full(21, 3.0))
    assert network.xi_q == network.xi_c == math.inf


@pytest.mark.parametrize("activation", [sign, nn.Hardshrink(), lambda x: (x > 0.3) * 1.0])
def test_where_f_jumps_neighbours_part_at_once(activation: Any) -> None:
    network = MeanField(activation, 1.0, 0.5)
    assert network.chi(1.0, 1.0) == math.inf
    assert network.chi(0.5, 1.0) < math.inf
    assert np.isnan(network.chi(-1.0, 1.0))


def test_a_jump_at_zero_leaves_no_slope_for_signals_without_length() -> None:
    assert np.isnan(MeanField(sign, 1.0, 0.5).chi(0.5, 0.0))
    assert MeanField(nn.Hardshrink(), 1.0, 0.5).chi(0.5, 0.0) == 0


class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(_: Any, grad: Tensor) -> Tensor:
        return grad


@pytest.mark.parametrize(
    "activation",
    [StraightThrough.apply, lambda x: x.detach().tanh()],
    ids=["estimator", "detached"],
)
def test_a_gradient_that_is_no_derivative_is_refused(activation: Any) -> None:
    network = MeanField(activation, 1.0, 0.5)
    assert 0 < network.length_map(1.0) < 2
    assert 0 < network.correlation_map(0.5, 1.0) < 1
    with pytest.raises(ValueError, match="is not its derivative"):
        network.chi(1.0, 1.0)


# Chains


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_chains_are_those_of_wide_random_networks(activation: str) -> None:
    """Within five standard errors, as the networks themselves tell them."""
    width, depth, count, q, c = 256, 4, 30, 0.8, 0.4
    sigma_w, sigma_b = 1.6, 0.3
    function = getattr(torch, activation)
    generator = torch.Generator().manual_seed(5)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    measured = []
    for _ in range(count):
        first = normal(width, 2)
        second = c * first[:, 0] + math.sqrt(1 - c * c) * first[:, 1]
        h = math.sqrt(q) * torch.stack([first[:, 0], second], dim=1).requires_grad_()
        layers = [h]
        for _ in range(depth):
            weight = normal(width, width) * sigma_w / math.sqrt(width)
            layers.append(weight @ function(layers[-1]) + sigma_b * normal(width, 1))
        gradients = torch.autograd.grad(layers[-1], layers, normal(width, 2))
        squares = torch.stack([h.square().mean() for h in layers])
        products = torch.stack([h.prod(1).mean() for h in layers])
        backward = torch.stack([g.square().mean() for g in gradients])
        measured.append(torch.stack([squares, products, backward]))
    samples = torch.stack(measured).detach().double().numpy()
    network = MeanField(activation, sigma_w, sigma_b)
    lengths = network.lengths(depth, q)
    theory = np.stack(
        [lengths, network.correlations(depth, c, q) * lengths, network.gradients(depth, q)]
    )
    error = samples.std(0, ddof=1) / math.sqrt(count)
    assert (np.abs(samples.mean(0) - theory) < 5 * error).all()
    assert (error < 0.15 * theory).all()


def test_chains_iterate_the_maps() -> None:
    network = MeanField("tanh", 1.5, 0.2)
    lengths, correlations = network.lengths(3, 2.0), network.correlations(3, 0.1, 2.0)
    gradients = network.gradients(3, 2.0)
    assert lengths.shape == correlations.shape == gradients.shape == (4,)
    for i in range(3):
        q = float(lengths[i])
        assert lengths[i + 1] == network.length_map(q)
        assert correlations[i + 1] == network.correlation_map(float(correlations[i]), q)
        assert gradients[i] == pytest.approx(gradients[i + 1] * network.chi(1.0, q))
    assert (lengths[0], correlations[0], gradients[3]) == (2.0, 0.1, 1.0)
    assert network.lengths(0).tolist() == [1.0]


# What is given


def test_an_activation_may_come_in_any_of_its_forms() -> None:
    forms = ("tanh", nn.Tanh, nn.Tanh(), torch.tanh, F.tanh, pyinit.functional.tanh)
    stars = [MeanField(form, 1.5, 0.2).q_star for form in forms]
    assert stars == pytest.approx([stars[0]] * len(stars), rel=1e-12)
    assert MeanField("leaky_relu", 1.0).length_map(1.0) == pytest.approx((1 + 1e-4) / 2)
    assert MeanField("conv2d", 1.0).length_map(0.3) == pytest.approx(0.3)


def test_a_module_is_copied_and_left_as_it_was() -> None:
    module = nn.PReLU(init=0.5).train()
    module.weight.grad = torch.ones(1)
    network = MeanField(module, 1.0)
    with torch.no_grad():
        module.weight.fill_(0.0)
    assert network.chi(1.0, 2.0) == pytest.approx(0.625)
    assert module.training
    assert module.weight.dtype == torch.float32
    assert module.weight.grad is not None
    assert module.weight.grad.item() == 1


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_derivatives_are_there_whatever_mode_is_on(mode: Any) -> None:
    with mode():
        assert MeanField("tanh", 1.0).chi(1.0, 0.0) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: MeanField("tan", 1.0), ValueError, "Unsupported nonlinearity tan"),
        (lambda: MeanField(3, 1.0), ValueError, "Unsupported nonlinearity 3"),  # type: ignore[arg-type]
        (lambda: MeanField(lambda x: x.softmax(0), 1.0), ValueError, "each element alone"),
        (lambda: MeanField(lambda x: x + 1j, 1.0), TypeError, "real tensor"),
        (lambda: MeanField("tanh", -1.0), ValueError, "sigma_w must be finite and at least 0"),
        (lambda: MeanField("tanh", 1.0, math.nan), ValueError, "sigma_b must be"),
        (lambda: MeanField("tanh", 1.0).length_map(-1.0), ValueError, "q must be"),
        (lambda: MeanField("tanh", 1.0).chi(1.1), ValueError, "c must be between -1 and 1"),
        (lambda: MeanField("tanh", 1.0).correlation_map(-2, 1.0), ValueError, "c must be between"),
        (lambda: MeanField("tanh", 1.0).lengths(-1), ValueError, "depth must be"),
        (lambda: MeanField("tanh", 1.0).lengths(0, -1.0), ValueError, "q must be"),
        (lambda: MeanField("tanh", 1.0).correlations(0, 2.0), ValueError, "c must be"),
        (lambda: MeanField(torch.exp, 1.0).length_map(1e3), ValueError, "no finite second moment"),
        (lambda: critical_sigma_w("tanh", -1.0), ValueError, "sigma_b must be"),
    ],
)
def test_bad_input_is_refused_by_name(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()
