"""Fans, and the initializers that scale by them."""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

import pyinit
from pyinit import init
from pyinit._scale.fans import fans, mean_fan

SHAPES = [(5, 3), (7, 1), (6, 4, 3), (8, 2, 3, 5), (4, 6, 1, 2, 3)]
CONVOLUTIONS = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}
TRANSPOSED = {3: F.conv_transpose1d, 4: F.conv_transpose2d, 5: F.conv_transpose3d}
# weight shape, groups: plain, grouped, depthwise with multiplier
GROUPED = [((6, 4, 3), 1), ((6, 4, 3), 2), ((8, 1, 3, 3), 4), ((4, 2, 2, 1, 3), 2)]
FAN_BASED = [
    "xavier_uniform_",
    "xavier_normal_",
    "kaiming_uniform_",
    "kaiming_normal_",
    "lecun_uniform_",
    "lecun_normal_",
    "variance_scaling_",
]


def expected_variance(name: str, fan_in: int, fan_out: int) -> float:
    if name.startswith("xavier"):
        return 2 / (fan_in + fan_out)
    return (2 if name.startswith("kaiming") else 1) / fan_in


def counted_fans(shape: tuple[int, ...], groups: int, transposed: bool) -> tuple[float, float]:
    """Fans counted on an actual convolution of ones, away from the edges."""
    weight = torch.ones(shape)
    kernel = shape[2:]
    channels = shape[0] if transposed else shape[1] * groups
    x = torch.ones(1, channels, *(4 * size + 1 for size in kernel), requires_grad=True)
    convolve = (TRANSPOSED if transposed else CONVOLUTIONS)[len(shape)]
    y = convolve(x, weight, groups=groups)
    y.sum().backward()
    middle = (0, 0, *(2 * size for size in kernel))
    return y[middle].item(), x.grad[middle].item()


@pytest.mark.parametrize("shape", SHAPES)
def test_fans_are_torchs_by_default(shape):
    weight = torch.empty(shape)
    expected = torch.nn.init._calculate_fan_in_and_fan_out(weight)
    assert fans(shape) == init._calculate_fan_in_and_fan_out(weight) == expected


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "FAN_OUT"])
def test_correct_fan_is_torchs(mode):
    weight = torch.empty(6, 4, 3)
    expected = torch.nn.init._calculate_correct_fan(weight, mode)
    assert init._calculate_correct_fan(weight, mode) == expected


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("shape", "groups"), GROUPED)
def test_fans_count_what_the_convolution_connects(shape, groups, transposed):
    assert fans(shape, groups, transposed) == counted_fans(shape, groups, transposed)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("name", FAN_BASED)
def test_variance_follows_the_fans(name, groups, transposed):
    weight = getattr(pyinit, name)(torch.empty(64, 32, 5, 5), groups=groups, transposed=transposed)
    variance = expected_variance(name, *fans(weight.shape, groups, transposed))
    assert weight.mean().abs() < 5 * math.sqrt(variance / weight.numel())
    assert weight.square().mean().item() == pytest.approx(variance, rel=0.03)


@pytest.mark.parametrize("name", FAN_BASED)
def test_defaults_of_the_fan_arguments_change_nothing(name):
    torch.manual_seed(1)
    plain = getattr(pyinit, name)(torch.empty(6, 4, 3))
    torch.manual_seed(1)
    assert torch.equal(
        plain, getattr(pyinit, name)(torch.empty(6, 4, 3), groups=1, transposed=False)
    )


@pytest.mark.parametrize("name", FAN_BASED)
@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"groups": 0}, ValueError, r"groups must be at least 1 and divide dim 0 \(6\), got 0"),
        ({"groups": -2}, ValueError, "groups must be at least 1"),
        ({"groups": 4}, ValueError, r"divide dim 0 \(6\), got 4"),
        ({"groups": 2.0}, TypeError, "groups must be an int, got 2.0"),
        ({"groups": True}, TypeError, "groups must be an int, got True"),
        ({"groups": "2"}, TypeError, "groups must be an int, got '2'"),
        ({"transposed": 1}, TypeError, "transposed must be a bool, got 1"),
        ({"transposed": None}, TypeError, "transposed must be a bool, got None"),
        ({"batch_dims": 2}, ValueError, r"batch_dims must .* leave at least 2 .* \(6, 4, 3\)"),
        ({"batch_dims": -1}, ValueError, "batch_dims must be at least 0 .* got -1"),
        ({"batch_dims": True}, TypeError, "batch_dims must be an int, got True"),
        ({"batch_dims": 1.0}, TypeError, "batch_dims must be an int, got 1.0"),
    ],
)
def test_bad_fan_arguments_are_refused_untouched(name, arguments, error, text):
    weight = torch.full((6, 4, 3), 7.0)
    with pytest.raises(error, match=text):
        getattr(pyinit, name)(weight, **arguments)
    assert (weight == 7).all()


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("batch", [(5,), (2, 3)])
@pytest.mark.parametrize(("shape", "groups"), GROUPED)
def test_fans_of_stacked_weights_are_those_of_one(shape, groups, batch, transposed):
    stacked = fans((*batch, *shape), groups, transposed, len(batch))
    assert stacked == fans(shape, groups, transposed)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("name", FAN_BASED)
def test_stacked_weights_have_the_std_of_one(name, transposed):
    generator = torch.Generator().manual_seed(3)
    options = {"nonlinearity": "relu"} if name.startswith("kaiming") else {}
    weight = torch.empty(4, 3, 60, 200)
    getattr(pyinit, name)(
        weight, generator=generator, batch_dims=2, transposed=transposed, **options
    )
    fan_in, fan_out = (60, 200) if transposed else (200, 60)
    expected = expected_variance(name, fan_in, fan_out)
    assert weight.var().item() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("rng", ["philox", "torch"])
def test_one_dimension_of_weights_changes_the_scale_alone(rng):
    with pyinit.rng(rng):
        torch.manual_seed(4)
        stacked = pyinit.xavier_uniform_(torch.empty(3, 8, 8), batch_dims=1)
        torch.manual_seed(4)
        flat = pyinit.uniform_(torch.empty(3, 8, 8), -math.sqrt(6 / 16), math.sqrt(6 / 16))
    assert torch.equal(stacked, flat)


def test_means_of_fans():
    assert mean_fan((8, 2), "fan_avg") == 5
    assert mean_fan((8, 2), "fan_geo_avg") == 4
    assert mean_fan((8, 2, 3), "fan_in") == 6
    assert mean_fan((8, 2, 3), "Fan_Out", groups=2) == 12


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("groups", [1, 8])
def test_kaiming_keeps_the_variance_of_a_grouped_convolution(groups, transposed):
    weight = torch.empty(64, 64 // groups, 3, 3)
    pyinit.kaiming_normal_(weight, nonlinearity="linear", groups=groups, transposed=transposed)
    x = torch.randn(4, 64, 12, 12)
    convolve = F.conv_transpose2d if transposed else F.conv2d
    y = convolve(x, weight, groups=groups)[..., 2:-2, 2:-2]
    assert y.square().mean().item() == pytest.approx(1.0, rel=0.1)
