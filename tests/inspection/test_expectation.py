"""What ``inspect`` says that theory expects, against simulation and against the theory's own quadrature."""

import math
import statistics
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from faults import numbers
from torch import Tensor, nn
from torch.nn import functional

import pyinit
from pyinit._scale.pointwise import Pointwise
from pyinit.inspection.expectation import moments
from pyinit.inspection.theory import MeanField

WIDTH, DEPTH = 512, 30


class ErfActivation(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.erf()


def chain(
    activation: Callable[[], nn.Module], sigma_w: float, sigma_b: float, depth: int, seed: int = 0
) -> nn.Sequential:
    generator = torch.Generator().manual_seed(100 + seed)
    parts = [part for _ in range(depth) for part in (nn.Linear(WIDTH, WIDTH), activation())]
    for layer in parts[::2]:
        nn.init.normal_(layer.weight, 0, sigma_w / WIDTH**0.5, generator=generator)  # type: ignore[arg-type]
        nn.init.normal_(layer.bias, 0, sigma_b, generator=generator)  # type: ignore[arg-type]
    return nn.Sequential(*parts)


@pytest.mark.parametrize(
    ("activation", "sigma_w", "sigma_b"),
    [
        (nn.Tanh, 1.5, 0.3),
        (nn.Tanh, 1.0, 0.0),
        (nn.Tanh, 3.0, 0.1),
        (ErfActivation, 1.2, 0.1),
        (nn.ReLU, 1.3, 0.2),
        (nn.ReLU, 2**0.5, 0.0),
    ],
)
def test_lengths_and_correlations_are_as_simulated(
    activation: type[nn.Module], sigma_w: float, sigma_b: float
) -> None:
    x = numbers(32, WIDTH) + 0.7  # of correlation 1/3
    networks = [
        chain(activation, sigma_w, sigma_b, DEPTH, seed).requires_grad_(False) for seed in range(4)
    ]
    reports = [pyinit.inspect(network, x) for network in networks]
    # The lengths of scale-free networks drift by chance: the logarithm of a ReLU's by a variance of
    # 5 / width a layer (Hanin and Rolnick 2018).
    for depth, calls in enumerate(zip(*reports, strict=True)):
        drift = math.sqrt(5 / WIDTH * depth / 2 / len(calls)) / 2 if activation is nn.ReLU else 0.0
        stds = [math.log(call.forward.std / call.forward.expected_std) for call in calls]
        assert statistics.mean(stds) == pytest.approx(0, abs=0.05 + 2 * drift)
        cosines = [call.forward.mean_cosine - call.forward.expected_cosine for call in calls]
        assert statistics.mean(cosines) == pytest.approx(0, abs=0.06)


@pytest.mark.parametrize("activation", [nn.Sigmoid, nn.Softplus])
def test_centred_weights_do_not_see_a_mean(activation: type[nn.Module]) -> None:
    model = nn.Sequential(
        *(part for _ in range(12) for part in (nn.Linear(WIDTH, WIDTH), activation()))
    )
    pyinit.initialize_(model, "auto", seed=0)
    for row in pyinit.inspect(model, numbers(64, WIDTH)):
        assert row.forward.std == pytest.approx(row.forward.expected_std, rel=0.1)
        assert row.forward.mean_cosine == pytest.approx(row.forward.expected_cosine, abs=0.05)


def test_chi_is_the_jacobians() -> None:
    report = pyinit.inspect(chain(nn.Tanh, 1.5, 0.3, 12), numbers(64, WIDTH), jacobians=True)
    layers = report[::2]
    for layer, after in pairwise(layers):
        assert layer.backward is not None
        assert layer.backward.jacobian == pytest.approx(after.forward.chi, rel=0.1)


@pytest.mark.parametrize("name", ["tanh", "relu", "selu", "gelu", "sigmoid"])
@pytest.mark.parametrize("q", [1e-4, 1.0, 30.0])
@pytest.mark.parametrize("c", [-0.5, 0.0, 0.9, 1.0])
def test_quadrature_on_a_fixed_grid_is_that_of_the_theory(name: str, q: float, c: float) -> None:
    function = getattr(functional, name)
    network = MeanField(function, 1.0)
    mean, square, product, slope = moments(Pointwise(function), q, c)
    assert square == pytest.approx(network.length_map(q), rel=1e-6)
    assert product / square == pytest.approx(network.correlation_map(c, q), abs=1e-3)
    assert mean**2 / square == pytest.approx(network.correlation_map(0.0, q), abs=1e-3)
    assert slope == pytest.approx(network.chi(1.0, q), rel=1e-3)


def test_a_chain_of_linear_layers_keeps_the_cosine() -> None:
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3)))
    for layer in model:
        nn.init.orthogonal_(layer.weight, 2.0, generator=torch.Generator().manual_seed(0))
    report = pyinit.inspect(model, numbers(64, WIDTH) + 1)
    for depth, row in enumerate(report, 1):
        assert row.forward.chi == pytest.approx(4)
        assert row.forward.expected_std == pytest.approx(2**depth * 2**0.5, rel=0.01)
        assert row.forward.mean_cosine == pytest.approx(row.forward.expected_cosine, abs=1e-3)


def test_convolutions_without_borders_are_a_chain() -> None:
    parts = (
        part
        for _ in range(4)
        for part in (
            nn.Conv2d(96, 96, 3, padding=1, padding_mode="circular"),
            nn.SELU(inplace=True),
        )
    )
    model = nn.Sequential(*parts, nn.Flatten(), nn.Linear(96 * 36, 200))
    pyinit.initialize_(model, "lecun", seed=1)
    report = pyinit.inspect(model, numbers(16, 96, 6, 6))
    for row in report:
        assert row.forward.std == pytest.approx(row.forward.expected_std, rel=0.1)
        assert row.forward.mean_cosine == pytest.approx(row.forward.expected_cosine, abs=0.05)


class Called(nn.Module):
    """Two layers, and something between them."""

    def __init__(self, between: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.between = nn.Linear(16, 16), nn.Linear(16, 16), between

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(x, self.first(x)))


@pytest.mark.parametrize(
    ("between", "is_plain"),
    [
        (lambda _, h: h.relu(), True),
        (lambda _, h: functional.gelu(h), True),
        (lambda _, h: h, True),
        (lambda _, h: h.relu_(), True),
        (lambda x, h: x + h, False),
        (lambda _, h: 2 * h, False),
        (lambda _, h: h.mul_(2), False),
        (lambda _, h: functional.silu(h).mul_(2), False),
        (lambda _, h: functional.elu(h, 0.5), False),
        (lambda _, h: functional.rrelu(h), False),
        (lambda _, h: functional.layer_norm(h, (16,)), False),
        (lambda x, _: x.relu(), False),
        (lambda _, h: h.t(), False),
        (lambda _, h: h.softmax(1), False),
    ],
)
def test_only_a_plain_chain_is_compared(
    between: Callable[[Tensor, Tensor], Tensor], is_plain: bool
) -> None:
    model = Called(between)
    pyinit.initialize_(model, "lecun", seed=0)
    report = pyinit.inspect(model, numbers(16, 16))
    assert all((row.forward.expected_std > 0) == is_plain for row in report)
    for title in ("theory std", "theory cosine", "chi"):
        assert (title in str(report)) == is_plain


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()),
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 1)),
        nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.ReLU()),
        nn.Sequential(nn.ConvTranspose2d(3, 6, 3), nn.ReLU()),
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.PReLU(8)),
    ],
)
def test_other_models_are_not_compared(model: nn.Module) -> None:
    report = pyinit.inspect(model, numbers(8, 3, 8, 8), recipes="lecun", seed=0)
    assert not any(row.forward.expected_std > 0 for row in report)


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_parameters_that_are_not_random_about_0_are_not_compared(name: str) -> None:
    model = chain(nn.Tanh, 1.0, 0.1, 2)
    assert all(row.forward.expected_std > 0 for row in pyinit.inspect(model, numbers(8, WIDTH)))
    with torch.no_grad():
        getattr(model[2], name).add_(1)
    assert not any(row.forward.expected_std > 0 for row in pyinit.inspect(model, numbers(8, WIDTH)))


def test_expectations_stand_in_records_and_files() -> None:
    report = pyinit.inspect(chain(nn.Tanh, 1.0, 0.1, 2), numbers(8, WIDTH))
    record = report.to_records()[0]
    assert record["forward_expected_std"] == report[0].forward.expected_std
    assert {"forward_expected_cosine", "forward_chi"} <= record.keys()
    assert pyinit.Inspection.from_dict(report.to_dict())[0] == report[0]
