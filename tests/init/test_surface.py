"""The surface of torch.nn.init: names, signatures, values; and the initializers beyond it."""

import functools
import inspect
import math
import warnings

import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.stats
import torch
import torch.nn.functional as F  # noqa: N812
from dtypes import FLOATS
from torch import nn

import pyinit
from pyinit import init

TORCH_NAMES = torch.nn.init.__all__
PRIVATE_NAMES = [
    "_calculate_fan_in_and_fan_out",
    "_calculate_correct_fan",
    "_no_grad_uniform_",
    "_no_grad_normal_",
    "_no_grad_trunc_normal_",
    "_no_grad_fill_",
    "_no_grad_zero_",
]
ALIASES = [name for name in TORCH_NAMES if name + "_" in TORCH_NAMES]
BEYOND = [
    "variance_scaling_",
    "lecun_uniform_",
    "lecun_normal_",
    "delta_orthogonal_",
    "hadamard_",
    "orthogonal_many_",
]
ARGUMENTS = {"constant_": (0.5,), "sparse_": (0.5,)}
INITIALIZERS = [name for name in init.__all__ if name.endswith("_")]


def weight_for(name: str) -> torch.Tensor:
    """A tensor that the initializer accepts."""
    needs_kernel = name.startswith(("dirac", "delta"))
    return torch.full((6, 4, 3) if needs_kernel else (6, 4), 7.0)


def call(module, name: str, tensor: torch.Tensor) -> torch.Tensor:
    if name == "orthogonal_many_":
        return module.orthogonal_many_([tensor])[0]
    return getattr(module, name)(tensor, *ARGUMENTS.get(name.rstrip("_") + "_", ()))


@pytest.mark.parametrize("name", [*TORCH_NAMES, *BEYOND])
def test_name_stands_in_init_and_at_top_level(name):
    assert name in init.__all__
    assert getattr(pyinit, name) is getattr(init, name)
    assert name in pyinit.__all__


@pytest.mark.parametrize("name", [*TORCH_NAMES, *PRIVATE_NAMES])
def test_signature_is_torchs(name):
    """Names, order, kinds and defaults; anything more is keyword-only and optional."""
    theirs = inspect.signature(getattr(torch.nn.init, name)).parameters
    ours = inspect.signature(getattr(init, name)).parameters
    same = list(ours)[: len(theirs)]
    assert same == list(theirs)
    for parameter in same:
        assert ours[parameter].kind == theirs[parameter].kind
        assert ours[parameter].default == theirs[parameter].default
    for parameter in list(ours)[len(theirs) :]:
        assert ours[parameter].kind is inspect.Parameter.KEYWORD_ONLY
        assert ours[parameter].default is not inspect.Parameter.empty


@pytest.mark.parametrize("name", INITIALIZERS)
def test_returns_the_tensor_it_was_given(name):
    for tensor in (weight_for(name), nn.Parameter(weight_for(name))):
        assert call(pyinit, name, tensor) is tensor
        assert not (tensor == 7).any()


@pytest.mark.parametrize("name", ALIASES)
def test_alias_warns_as_torchs_and_does_the_same(name):
    with pytest.warns(FutureWarning) as theirs:
        call(torch.nn.init, name, weight_for(name))
    torch.manual_seed(1)
    with pytest.warns(FutureWarning) as ours:
        through_alias = call(pyinit, name, weight_for(name))
    torch.manual_seed(1)
    assert torch.equal(through_alias, call(pyinit, name + "_", weight_for(name)))
    assert str(ours[0].message) == str(theirs[0].message)
    assert ours[0].filename == __file__
    assert getattr(pyinit, name).__name__ == name


@pytest.mark.parametrize(
    "name", ["kaiming_uniform_", "kaiming_normal_", "lecun_uniform_", "variance_scaling_"]
)
def test_no_elements_warns_the_caller_as_torch(name):
    with pytest.warns(UserWarning, match="Initializing zero-element tensors is a no-op") as caught:
        getattr(pyinit, name)(torch.empty(0, 3))
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize("name", ["trunc_normal_", "_no_grad_trunc_normal_"])
@pytest.mark.parametrize(("mean", "warns"), [(0, 0), (4, 0), (4.001, 1), (-4, 0), (-4.001, 1)])
def test_mean_far_outside_the_bounds_warns_the_caller(name, mean, warns):
    with warnings.catch_warnings(record=True) as theirs:
        warnings.simplefilter("always")
        getattr(torch.nn.init, name)(torch.empty(3), mean, 1.0, -2.0, 2.0)
    with warnings.catch_warnings(record=True) as ours:
        warnings.simplefilter("always")
        getattr(init, name)(torch.empty(3), mean, 1.0, -2.0, 2.0)
    assert len(ours) == len(theirs) == warns
    for our, their in zip(ours, theirs, strict=True):
        assert str(our.message) == str(their.message)
        assert our.category is their.category
        assert our.filename == __file__


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["zeros_", "ones_", "eye_", "dirac_"])
def test_fixed_patterns_are_torchs(name, dtype):
    shapes = [(5, 3), (3, 5), (4, 4), (1, 7), (0, 3)]
    if name == "dirac_":
        shapes = [(6, 4, 3), (2, 6, 4), (6, 2, 3, 2), (4, 4, 1, 2, 3), (0, 2, 3)]
    for shape in shapes:
        ours, theirs = torch.full(shape, 7, dtype=dtype), torch.full(shape, 7, dtype=dtype)
        assert torch.equal(call(pyinit, name, ours), call(torch.nn.init, name, theirs))


@pytest.mark.parametrize("groups", [1, 2, 3, 6, True, np.int64(3), -1, -6])
@pytest.mark.parametrize("shape", [(6, 4, 3), (6, 1, 2, 3), (12, 2, 1, 1, 5)])
def test_dirac_groups_are_torchs(shape, groups):
    ours, theirs = torch.full(shape, 7.0), torch.full(shape, 7.0)
    assert torch.equal(pyinit.dirac_(ours, groups), torch.nn.init.dirac_(theirs, groups))


@pytest.mark.parametrize("dtype", FLOATS)
def test_constants_are_rounded_as_torch_rounds_them(dtype):
    """Ties, subnormals, huge integers and special values."""
    largest = torch.finfo(dtype).max
    values = [0.1, -1 / 3, 2**-24 * 1.5, 2**-25, 1e-300, largest, -largest, 1 + 2**-11, 1 + 2**-9]
    values += [
        1 + 2**-11 + 2**-30,
        math.inf,
        -math.inf,
        math.nan,
        -0.0,
        3,
        True,
        2049,
        np.float32(0.1),
    ]
    values += [2**53 + 1, 2**60 + 2**36 + 1] if dtype in (torch.float32, torch.float64) else []
    for value in values:
        ours = pyinit.constant_(torch.empty(3, dtype=dtype), value)
        theirs = torch.nn.init.constant_(torch.empty(3, dtype=dtype), value)
        assert torch.equal(ours.view(torch.uint8), theirs.view(torch.uint8)), value


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("uniform_", (-1.5, 0.25)),
        ("normal_", (0.5, 2.0)),
        ("trunc_normal_", (0.1, 0.5, -0.2, 1.0)),
        ("xavier_uniform_", (1.3,)),
        ("xavier_normal_", (1.3,)),
        ("kaiming_uniform_", (0.2,)),
        ("kaiming_normal_", (0.2, "fan_out")),
    ],
)
def test_distribution_is_torchs(name, arguments, dtype):
    """Same mean, spread and bounds as torch's own, at 40,000 elements."""
    ours = getattr(pyinit, name)(torch.empty(160, 250, dtype=dtype), *arguments).double()
    theirs = getattr(torch.nn.init, name)(torch.empty(160, 250, dtype=dtype), *arguments).double()
    spread = theirs.std().item()
    assert abs(ours.mean() - theirs.mean()) < 0.03 * spread
    assert ours.std().item() == pytest.approx(spread, rel=0.02)
    if "normal_" not in name or name == "trunc_normal_":
        assert ours.min().item() == pytest.approx(theirs.min().item(), abs=0.01 * spread)
        assert ours.max().item() == pytest.approx(theirs.max().item(), abs=0.01 * spread)
    assert ours.unique().numel() > 100


@pytest.mark.parametrize("argument", [np.float32(0.5), np.int64(1), torch.tensor(0.5), True, 1])
def test_numbers_of_every_kind_are_native(argument):
    """Whatever torch takes as a float gives pyinit's numbers, not torch's."""
    value = float(argument)
    for name, given, plain in [
        ("uniform_", (-1.0, argument), (-1.0, value)),
        ("normal_", (argument, argument), (value, value)),
        ("trunc_normal_", (0.0, argument), (0.0, value)),
    ]:
        torch.manual_seed(3)
        first = getattr(pyinit, name)(torch.empty(10), *given)
        torch.manual_seed(3)
        assert torch.equal(first, getattr(pyinit, name)(torch.empty(10), *plain))


@pytest.mark.filterwarnings("ignore:mean is more than 2 std:UserWarning")
@pytest.mark.parametrize(
    ("mean", "std", "low", "high"),
    [
        (0.0, 1.0, 1.0, math.inf),
        (0.0, 1.0, -math.inf, -3.0),
        (0.0, 1.0, -math.inf, math.inf),
        (0.0, 1.0, 8.0, 9.0),
        (5.0, 0.1, -1.0, 1.0),
        (0.0, 1.0, -1e39, 1e39),
        (2.0, 1e3, -1.0, 3.0),
    ],
)
def test_trunc_normal_is_right_in_tails_and_with_infinite_bounds(mean, std, low, high):
    drawn = pyinit.trunc_normal_(torch.empty(40000), mean, std, low, high).double()
    assert drawn.min() >= low
    assert drawn.max() <= high
    exact = scipy.stats.truncnorm((low - mean) / std, (high - mean) / std, mean, std)
    assert abs(drawn.mean().item() - exact.mean()) < 0.03 * exact.std() + 1e-7
    assert drawn.std().item() == pytest.approx(exact.std(), rel=0.03)


def test_trunc_normal_squares_away_the_sign_of_std_as_torch_does():
    with pytest.warns(UserWarning, match="more than 2 std"):
        negative = pyinit.trunc_normal_(torch.empty(10), 0.0, -1.0, -1.0, 1.0)
    torch.manual_seed(2024)
    assert torch.equal(negative, pyinit.trunc_normal_(torch.empty(10), 0.0, 1.0, -1.0, 1.0))


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg", "fan_geo_avg"])
@pytest.mark.parametrize(
    ("distribution", "reach"),
    [
        ("uniform", math.sqrt(3)),
        ("truncated_normal", 2 / 0.87962566103423978),
        ("normal", None),
        ("untruncated_normal", None),
    ],
)
def test_variance_scaling_has_the_variance_and_the_reach(distribution, reach, mode):
    weight = torch.empty(400, 100)
    std = math.sqrt(3 / {"fan_in": 100, "fan_out": 400, "fan_avg": 250, "fan_geo_avg": 200}[mode])
    pyinit.variance_scaling_(weight, 3.0, mode, distribution)
    assert weight.std().item() == pytest.approx(std, rel=0.02)
    if reach is None:
        assert weight.abs().max() > 3.5 * std
    else:
        assert weight.abs().max().item() == pytest.approx(reach * std, rel=0.01)


@pytest.mark.parametrize(
    ("name", "distribution"), [("lecun_uniform_", "uniform"), ("lecun_normal_", "truncated_normal")]
)
def test_lecun_is_variance_scaling(name, distribution):
    torch.manual_seed(1)
    first = getattr(pyinit, name)(torch.empty(8, 6))
    torch.manual_seed(1)
    second = pyinit.variance_scaling_(torch.empty(8, 6), 1.0, "fan_in", distribution)
    assert torch.equal(first, second)


def orthogonality_error(matrix: torch.Tensor) -> float:
    tall = matrix if matrix.size(0) >= matrix.size(1) else matrix.t()
    return (tall.t() @ tall - torch.eye(tall.size(1))).abs().max().item()


@pytest.mark.parametrize("rows", [1, 7, 40])
@pytest.mark.parametrize("sparsity", [0, 0.1, 0.5, 1, 1.5, -0.5, -2, np.float32(0.3)])
def test_sparse_zeros_as_many_of_each_column_as_torch(sparsity, rows):
    ours = pyinit.sparse_(torch.empty(rows, 30), sparsity, std=3.0)
    theirs = torch.nn.init.sparse_(torch.empty(rows, 30), sparsity, std=3.0)
    assert torch.equal((ours == 0).sum(0), (theirs == 0).sum(0))


def test_sparse_places_zeros_evenly_and_leaves_the_rest_normal():
    weight = pyinit.sparse_(torch.empty(20, 4000), 0.25, std=0.5)
    zeros = weight == 0
    assert ((zeros.sum(1) - 1000).abs() < 150).all()
    assert weight[~zeros].std().item() == pytest.approx(0.5, rel=0.02)
    assert zeros.t().unique(dim=0).size(0) > 1000


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("rows", [2, 3, 8, 13, 64])
@pytest.mark.parametrize("columns", [1, 2, 5, 7])
def test_hadamard_is_zero_initialization(rows, columns, dtype):
    weight = pyinit.hadamard_(torch.full((rows, columns), 7, dtype=dtype))
    if rows <= columns:
        expected = torch.eye(rows, columns, dtype=dtype)
    else:
        size = 1 << (rows - 1).bit_length()
        signs = torch.from_numpy(scipy.linalg.hadamard(size)[:rows, :columns])
        expected = (signs.double() / math.sqrt(size)).to(dtype)
    assert torch.equal(weight, expected)


def test_hadamard_columns_are_orthonormal_at_a_power_of_two():
    assert orthogonality_error(pyinit.hadamard_(torch.empty(64, 40))) < 1e-6


@pytest.mark.parametrize("shape", [(6, 4, 3), (4, 6, 3, 5), (3, 2, 1, 2, 4)])
def test_hadamard_stands_at_the_centre_of_a_convolution(shape):
    weight = pyinit.hadamard_(torch.full(shape, 7.0))
    centre = weight[(slice(None), slice(None), *(size // 2 for size in shape[2:]))]
    assert torch.equal(centre, pyinit.hadamard_(torch.empty(shape[:2])))
    assert torch.count_nonzero(weight) == torch.count_nonzero(centre)


@pytest.mark.parametrize(
    ("nonlinearity", "param"),
    [
        *((name, None) for name in torch.nn.init._NonlinearityType.__args__),
        ("leaky_relu", 0.3),
        ("leaky_relu", 0),
        ("leaky_relu", -2),
        ("relu", "ignored"),
    ],
)
def test_gain_of_a_name_is_torchs(nonlinearity, param):
    theirs = torch.nn.init.calculate_gain(nonlinearity, param)
    assert pyinit.calculate_gain(nonlinearity, param) == theirs


@pytest.mark.parametrize(
    ("activation", "name", "param"),
    [
        (nn.ReLU(), "relu", None),
        (nn.ReLU(inplace=True), "relu", None),
        (nn.ReLU, "relu", None),
        (F.relu, "relu", None),
        (torch.relu, "relu", None),
        (torch.relu_, "relu", None),
        (torch.Tensor.relu, "relu", None),
        (nn.Tanh(), "tanh", None),
        (F.tanh, "tanh", None),
        (torch.tanh, "tanh", None),
        (nn.Sigmoid(), "sigmoid", None),
        (torch.sigmoid, "sigmoid", None),
        (F.sigmoid, "sigmoid", None),
        (nn.SELU(), "selu", None),
        (F.selu, "selu", None),
        (nn.Identity(), "linear", None),
        (F.linear, "linear", None),
        (nn.LeakyReLU(0.3), "leaky_relu", 0.3),
        (F.leaky_relu, "leaky_relu", None),
    ],
)
def test_activation_that_torch_names_has_the_gain_of_its_name(activation, name, param):
    assert pyinit.calculate_gain(activation) == torch.nn.init.calculate_gain(name, param)


def test_slope_of_a_module_stands_above_param():
    assert pyinit.calculate_gain(nn.LeakyReLU(0.3), 0.9) == pyinit.calculate_gain("leaky_relu", 0.3)
    assert pyinit.calculate_gain(F.leaky_relu, 0.9) == pyinit.calculate_gain("leaky_relu", 0.9)


def step(x: torch.Tensor) -> torch.Tensor:
    return (x > 0.1234567).to(x.dtype)


def cube_in_place(x: torch.Tensor) -> torch.Tensor:
    return x.pow_(3)


class Counter(nn.Module):
    """A module that would notice being run, changed or left in another mode."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.scale * x


@pytest.mark.parametrize(
    "activation",
    [
        nn.GELU(),
        nn.GELU(approximate="tanh"),
        nn.SiLU(),
        nn.Mish(),
        nn.ELU(1.3),
        nn.Softplus(),
        nn.Hardswish(),
        nn.Hardtanh(-0.7, 0.3),
        nn.Softsign(),
        nn.PReLU(init=0.2),
        nn.RReLU(),
        torch.sin,
        torch.exp,
        step,
        cube_in_place,
        functools.partial(F.leaky_relu, negative_slope=0.2),
        lambda x: x.abs().sqrt(),
    ],
    ids=lambda activation: str(activation) if isinstance(activation, nn.Module) else None,
)
def test_gain_of_any_activation_is_that_of_its_second_moment(activation):
    reference = activation.eval().double() if isinstance(activation, nn.Module) else activation

    def integrand(z: float) -> float:
        with torch.no_grad():
            out = reference(torch.tensor([z], dtype=torch.float64))
        return out.item() ** 2 * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    kinks = [-3, -0.7, 0, 0.1234567, 0.3, 3]
    moment, _ = scipy.integrate.quad(integrand, -12, 12, points=kinks, epsabs=1e-13, limit=400)
    assert pyinit.calculate_gain(activation) == pytest.approx(moment**-0.5, rel=1e-9)


def test_gain_leaves_a_module_as_it_was():
    module = Counter().train()
    assert pyinit.calculate_gain(module) == pytest.approx(0.5, rel=1e-10)
    assert module.calls == 0
    assert module.training
    assert module.scale.dtype == torch.float32
    assert module.scale.grad is None


@pytest.mark.parametrize(
    ("activation", "error", "text"),
    [
        (torch.zeros_like, ValueError, "second moment zero"),
        (lambda x: torch.exp(x * x), ValueError, "no finite second moment"),
        (lambda x: torch.exp(x * x / 4), ValueError, "no finite second moment"),
        (torch.sqrt, ValueError, "must be finite"),
        (lambda x: torch.sin(1e9 * x), ValueError, "too rough"),
        (lambda x: x.softmax(0), ValueError, "each element alone"),
        (lambda x: x + torch.rand_like(x), ValueError, "each element alone"),
        (lambda x: x[:-1], ValueError, "must keep the shape"),
        (lambda _: 3.0, TypeError, "must return a real tensor, got float"),
        (lambda x: x + 1j, TypeError, "must return a real tensor"),
        (object(), ValueError, "Unsupported nonlinearity"),
    ],
)
def test_activation_without_a_gain_is_refused(activation, error, text):
    with pytest.raises(error, match=text):
        pyinit.calculate_gain(activation)


@pytest.mark.parametrize("name", ["kaiming_uniform_", "kaiming_normal_"])
def test_kaiming_takes_an_activation(name):
    def values(nonlinearity):
        torch.manual_seed(1)
        return getattr(pyinit, name)(torch.empty(8, 6), nonlinearity=nonlinearity)

    assert torch.equal(values(nn.ReLU()), values("relu"))
    ratio = pyinit.calculate_gain(nn.GELU()) / pyinit.calculate_gain("relu")
    torch.testing.assert_close(values(F.gelu), values("relu") * ratio)


@pytest.mark.parametrize(
    ("name", "arguments", "public"),
    [
        ("_no_grad_uniform_", (-1.0, 2.0), "uniform_"),
        ("_no_grad_normal_", (1.0, 2.0), "normal_"),
        ("_no_grad_trunc_normal_", (0.0, 1.0, -1.0, 2.0), "trunc_normal_"),
        ("_no_grad_fill_", (3.0,), "constant_"),
        ("_no_grad_zero_", (), "zeros_"),
    ],
)
def test_private_helper_is_its_public_function(name, arguments, public):
    torch.manual_seed(1)
    tensor = torch.empty(6, requires_grad=True)
    assert getattr(init, name)(tensor, *arguments) is tensor
    torch.manual_seed(1)
    assert torch.equal(tensor, getattr(pyinit, public)(torch.empty(6), *arguments))
