"""Activation functions: the errors that docs/activations.md states, torch's meaning everywhere else."""

import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import mpmath
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import special
from torch import Tensor
from torch.nn import functional as torchs

from pyinit import _core
from pyinit import functional as activations
from pyinit._functional.activations import ACTIVATIONS

Exact = NDArray[np.longdouble]
long_double = pytest.mark.skipif(
    np.finfo(np.longdouble).nmant < 63, reason="needs an 80-bit long double as reference"
)
LONG = np.longdouble
LONG_PI = LONG("3.141592653589793238462643383279503")
FUSED_ISAS = [isa for isa in _core.available_isas() if isa != "baseline"]
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


SELU_ALPHA, SELU_SCALE = (
    LONG("1.6732632423543772848170429916717"),
    LONG("1.05070098735548049341933498529"),
)


def normal_cdf(x: Exact) -> Exact:
    return special.ndtr(x.astype(np.float64)).astype(LONG)


def logistic(x: Exact) -> Exact:
    return 1 / (1 + np.exp(-x))


def logistic_slope(x: Exact) -> Exact:
    return logistic(x) * logistic(-x)


def twice_u(x: Exact) -> Exact:
    return 2 * np.sqrt(2 / LONG_PI) * (x + LONG("0.044715") * x**3)


def gelu_tanh_slope(x: Exact) -> Exact:
    slope = 2 * np.sqrt(2 / LONG_PI) * (1 + 3 * LONG("0.044715") * x**2)
    return logistic(twice_u(x)) + x * logistic_slope(twice_u(x)) * slope


class Definition(NamedTuple):
    ours: Callable[..., Tensor]
    torchs: Callable[..., Tensor]
    exact: Callable[[Exact], Exact]
    slope: Callable[[Exact], Exact]
    ulps: float
    of_input: bool = False
    """Whether these are ulps of x, not of the result."""


CASES = {
    "relu": Definition(
        activations.relu,
        torchs.relu,
        lambda x: np.maximum(x, 0),
        lambda x: (x > 0).astype(LONG),
        0,
    ),
    "leaky_relu": Definition(
        activations.leaky_relu,
        torchs.leaky_relu,
        lambda x: np.where(x > 0, x, x * 0.01),
        lambda x: np.where(x > 0, LONG(1), LONG(0.01)),
        1,
    ),
    "elu": Definition(
        activations.elu,
        torchs.elu,
        lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
        lambda x: np.exp(np.minimum(x, 0)),
        1.3,
    ),
    "selu": Definition(
        activations.selu,
        torchs.selu,
        lambda x: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0))),
        lambda x: SELU_SCALE * np.where(x > 0, 1, SELU_ALPHA * np.exp(np.minimum(x, 0))),
        3,
    ),
    "gelu": Definition(
        activations.gelu,
        torchs.gelu,
        lambda x: x * normal_cdf(x),
        lambda x: normal_cdf(x) + x * np.exp(-x * x / 2) / np.sqrt(2 * LONG_PI),
        5.5,
        True,
    ),
    "gelu_tanh": Definition(
        lambda x: activations.gelu(x, approximate="tanh"),
        lambda x: torchs.gelu(x, approximate="tanh"),
        lambda x: x * logistic(twice_u(x)),
        gelu_tanh_slope,
        2.5,
        True,
    ),
    "silu": Definition(
        activations.silu,
        torchs.silu,
        lambda x: x * logistic(x),
        lambda x: logistic(x) + x * logistic_slope(x),
        2.5,
        True,
    ),
    "sigmoid": Definition(activations.sigmoid, torch.sigmoid, logistic, logistic_slope, 2.7),
    "tanh": Definition(activations.tanh, torch.tanh, np.tanh, lambda x: 1 - np.tanh(x) ** 2, 2.7),
    "softplus": Definition(
        activations.softplus,
        torchs.softplus,
        lambda x: np.where(x > 20, x, np.log1p(np.exp(np.minimum(x, 20)))),
        lambda x: np.where(x > 20, 1, logistic(x)),
        3,
    ),
}
ALL = pytest.mark.parametrize("name", CASES)


def numbers(dtype: torch.dtype) -> Tensor:
    """Numbers of every magnitude, and many where the functions bend."""
    rng = np.random.default_rng(1)
    if dtype is torch.float32:
        bits = np.arange(0, 2**32, 20_011, dtype=np.uint64).astype(np.uint32).view(np.float32)
    else:
        bits = rng.integers(0, 2**64, 100_000, dtype=np.uint64).view(np.float64)
    x = torch.from_numpy(bits[np.abs(bits) < np.finfo(bits.dtype).max / 2].copy())
    near = torch.from_numpy(
        np.concatenate([rng.uniform(-9, 9, 200_000), rng.normal(0, 60, 50_000)])
    )
    return torch.cat([x, near.to(dtype)])


def errors(got: Tensor, exact: Exact, of: Tensor | None = None) -> NDArray[np.longdouble]:
    """In units in the last place of the results, or of other numbers."""
    kind = got.numpy().dtype
    unit = np.abs(exact.astype(kind) if of is None else of.numpy())
    spacing = np.spacing(np.maximum(unit, np.finfo(kind).tiny)).astype(LONG)
    return np.abs(got.numpy().astype(LONG) - exact) / spacing


@long_double
@DTYPES
@ALL
def test_functions_keep_their_error(
    isa: str, name: str, dtype: torch.dtype, native_calls: Counter[str]
) -> None:
    case, x = CASES[name], numbers(dtype)
    with np.errstate(over="ignore", under="ignore"):
        exact = case.exact(x.numpy().astype(LONG))
    got = case.ours(x)
    assert float(np.max(errors(got, exact, x if case.of_input else None))) <= case.ulps
    assert native_calls == {"activate": 1}


def test_gelu_keeps_its_error_in_the_tails() -> None:
    x = torch.linspace(-37, -1, 300, dtype=torch.float64)
    with mpmath.workdps(40):
        for a, y, single in zip(x, activations.gelu(x), activations.gelu(x.float()), strict=True):
            exact = mpmath.mpf(float(a)) * mpmath.ncdf(float(a))
            assert abs(float(y) / exact - 1) < 4e-14
            a32 = float(a.float())
            exact = mpmath.mpf(a32) * mpmath.ncdf(a32)
            assert abs(float(single) - exact) < max(2e-6 * abs(exact), 1e-43)


def derivatives(name: str, x: Tensor, grad: Tensor) -> dict[str, Tensor]:
    """Of the kernels: from the input, and from the output, as far as there are any."""
    known = ACTIVATIONS[name]
    output = CASES[name].ours(x)
    results = {}
    for saved, of in ((x, 0), (output, 1)):
        if (of and known.from_output) or (not of and name not in ("sigmoid", "tanh")):
            result = torch.full_like(x, torch.nan)
            _core.activate_backward(
                *(_core.dlpack_memory(t) for t in (grad, saved, result)),
                known.code,
                known.parameter,
                of,
                1,
            )
            results["output" if of else "input"] = result
    return results


@long_double
@DTYPES
@ALL
def test_derivatives_keep_their_error(isa: str, name: str, dtype: torch.dtype) -> None:
    x = numbers(dtype)
    x = x[x.abs() < 1e4]
    with np.errstate(over="ignore", under="ignore"):
        exact = CASES[name].slope(x.numpy().astype(LONG))
    for got in derivatives(name, x, torch.ones_like(x)).values():
        assert np.max(np.abs(got.numpy().astype(LONG) - exact)) <= 4 * torch.finfo(dtype).eps


SPECIAL = [torch.nan, torch.inf, -torch.inf, 0.0, -0.0, 1e-42, -1e-42, 3e38, -3e38, 100.0, -200.0]


@DTYPES
@ALL
def test_special_values_are_torchs(
    isa: str, name: str, dtype: torch.dtype, native_calls: Counter[str]
) -> None:
    x = torch.tensor(SPECIAL * 6, dtype=dtype)  # enough that torch takes its vector code, too
    # In double precision: in float32, torch's gelu(inf) is NaN on machines with AVX-512.
    got, expected = CASES[name].ours(x), CASES[name].torchs(x.double()).to(dtype)
    torch.testing.assert_close(got, expected, equal_nan=True, rtol=1e-5, atol=1e-35)
    assert native_calls == {"activate": 1}
    if name in ("relu", "leaky_relu", "elu", "selu", "tanh"):
        zeros = x == 0
        assert torch.equal(torch.signbit(got[zeros]), torch.signbit(x[zeros]))


@DTYPES
@ALL
def test_special_derivatives_are_torchs(
    isa: str, name: str, dtype: torch.dtype, native_calls: Counter[str]
) -> None:
    x = torch.tensor(SPECIAL * 6, dtype=dtype, requires_grad=True)
    # torch answers with NaN or with 1, by the length of the tensor.
    known = ~x.isnan() if name in ("elu", "selu") else torch.ones_like(x, dtype=torch.bool)
    got, expected = (
        torch.autograd.grad(f(x), x, torch.full_like(x, 3))[0]
        for f in (CASES[name].ours, CASES[name].torchs)
    )
    torch.testing.assert_close(got[known], expected[known], equal_nan=True, rtol=1e-5, atol=1e-35)
    assert native_calls == {"activate": 1, "activate_backward": 1}


@ALL
def test_gradients_of_first_and_second_order(name: str, native_calls: Counter[str]) -> None:
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(CASES[name].ours, x)
    assert torch.autograd.gradgradcheck(CASES[name].ours, x)
    assert native_calls.keys() == {"activate", "activate_backward"}


@pytest.mark.parametrize("parameter", [0.0, 0.3, -0.5])
@pytest.mark.parametrize("name", ["leaky_relu", "elu"])
def test_parameters(name: str, parameter: float, native_calls: Counter[str]) -> None:
    x = torch.randn(1000, requires_grad=True)
    ours, theirs = (getattr(module, name)(x, parameter) for module in (activations, torchs))
    torch.testing.assert_close(ours, theirs)
    (got,), (expected,) = (torch.autograd.grad(y.sum(), x) for y in (ours, theirs))
    torch.testing.assert_close(got, expected)
    assert native_calls == {"activate": 1, "activate_backward": 1}


def test_other_than_default_softplus(native_calls: Counter[str]) -> None:
    x = torch.randn(100) * 30
    got = activations.softplus(x, beta=2, threshold=5)
    assert torch.equal(got, torchs.softplus(x, beta=2, threshold=5))
    assert not native_calls


VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.transpose(0, 2),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "columns": lambda x: x[..., ::2],
    "part": lambda x: x[1:, :, 2:7, 1:],
    "expanded": lambda x: x[:, :1].expand(-1, 4, -1, -1),
    "one": lambda x: x[0, 0, 0, 0],
    "none": lambda x: x[:0],
}


@DTYPES
@pytest.mark.parametrize("layout", VIEWS)
@ALL
def test_layouts(name: str, layout: str, dtype: torch.dtype, native_calls: Counter[str]) -> None:
    x = VIEWS[layout](torch.randn(3, 5, 8, 7, dtype=dtype)).detach().requires_grad_()
    ours, theirs = CASES[name].ours(x), CASES[name].torchs(x)
    assert ours.stride() == theirs.stride()
    torch.testing.assert_close(ours, theirs)
    grad = VIEWS[layout](torch.randn(3, 5, 8, 7, dtype=dtype))
    (got,), (expected,) = (torch.autograd.grad(y, x, grad) for y in (ours, theirs))
    torch.testing.assert_close(got, expected)
    (got,), (expected,) = (torch.autograd.grad(f(x).sum(), x) for f in CASES[name][:2])
    torch.testing.assert_close(got, expected)
    assert native_calls == {"activate": 2, "activate_backward": 2}


@DTYPES
@ALL
def test_values_do_not_depend_on_the_place(isa: str, name: str, dtype: torch.dtype) -> None:
    known = ACTIVATIONS[name]
    x, grad = torch.randn(71, dtype=dtype), torch.randn(71, dtype=dtype)
    whole, slopes = CASES[name].ours(x), derivatives(name, x, grad)
    for count in range(71):
        memory = torch.full((count + 16,), torch.nan, dtype=dtype)
        out = memory[:count]
        view = _core.dlpack_memory(out)
        _core.activate(_core.dlpack_memory(x[:count]), view, known.code, known.parameter, 1)
        assert torch.equal(out, whole[:count])
        assert memory[count:].isnan().all()
        for source, slope in derivatives(name, x[:count], grad[:count]).items():
            assert torch.equal(slope, slopes[source][:count])


@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_long_outputs_have_the_values_of_short_ones(isa: str, name: str) -> None:
    known, count = ACTIVATIONS[name], (1 << 21) + 5  # more than 8 MiB, which go past the caches
    x, grad = torch.randn(2, count).unbind()
    y = CASES[name].ours(x)
    pieces = [CASES[name].ours(piece) for piece in x.split(1 << 19)]
    assert torch.equal(y, torch.cat(pieces))
    slopes = [
        derivatives(name, a, g)["output"]
        for a, g in zip(x.split(1 << 19), grad.split(1 << 19), strict=True)
    ]
    for start in (0, 1, 3):  # aligned, and not
        memory = torch.full((count + 16,), torch.nan)
        out = memory[start : start + count]
        views = (_core.dlpack_memory(t) for t in (grad, y, out))
        _core.activate_backward(*views, known.code, known.parameter, 1, 2)
        assert torch.equal(out, torch.cat(slopes))
        assert memory[:start].isnan().all()
        assert memory[start + count :].isnan().all()


@DTYPES
@ALL
def test_threads_and_fused_instruction_sets_give_the_same_bits(
    name: str, dtype: torch.dtype, set_threads: Callable[[int], None]
) -> None:
    x, grad = torch.randn(2, 1 << 17, dtype=dtype).unbind()
    x = x * 8
    results = set()
    usual = _core.isa()
    for isa in FUSED_ISAS:
        _core.set_isa(isa)
        for threads in (1, 2):
            set_threads(threads)
            for t in (x, x.view(512, 256).t()[:, 1:]):
                leaf = t.detach().requires_grad_()
                y = CASES[name].ours(leaf)
                (slope,) = torch.autograd.grad(y, leaf, grad[: t.numel()].view(t.shape))
                results.add((t.dim(), y.detach().numpy().tobytes(), slope.numpy().tobytes()))
    _core.set_isa(usual)
    assert len(results) == 2 * bool(FUSED_ISAS)


@DTYPES
@pytest.mark.parametrize("name", [*CASES, "none"])
def test_bias_is_added_before_the_function(isa: str, name: str, dtype: torch.dtype) -> None:
    code, parameter = (0, 0.0) if name == "none" else ACTIVATIONS[name][:2]
    function = (lambda x: x) if name == "none" else CASES[name].ours
    for count in (0, 1, 5, 16, 37):
        x, biases = torch.randn(2, count, dtype=dtype).unbind()
        for bias in (torch.tensor(0.375, dtype=dtype), biases):
            expected, out = function(x + bias), x.clone()  # in place
            view = _core.dlpack_memory(out)
            _core.activate_biased(view, _core.dlpack_memory(bias), view, code, parameter)
            assert torch.equal(out, expected)


IN_PLACE = ["relu", "leaky_relu", "elu", "selu", "silu"]


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place(name: str, native_calls: Counter[str]) -> None:
    x = torch.randn(6, 10)
    expected, version = CASES[name].ours(x), x._version
    assert CASES[name].ours(x, inplace=True) is x
    assert torch.equal(x, expected)
    assert x._version == version + 1
    view = torch.randn(6, 10).t()[::2]
    expected = CASES[name].ours(view)
    assert torch.equal(CASES[name].ours(view, inplace=True), expected)
    assert native_calls == {"activate": 4}


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_while_autograd_records(name: str, native_calls: Counter[str]) -> None:
    x = torch.randn(6, 10, requires_grad=True)
    got, expected = (
        torch.autograd.grad(f(x * 2, inplace=True).sum(), x)[0] for f in CASES[name][:2]
    )
    torch.testing.assert_close(got, expected)
    with pytest.raises(RuntimeError, match="leaf Variable"):
        CASES[name].ours(x, inplace=True)
    assert not native_calls


def test_in_place_of_memory_that_overlaps_is_refused() -> None:
    with pytest.raises(RuntimeError, match="single memory location"):
        activations.relu(torch.randn(3, 1).expand(3, 4), inplace=True)


@ALL
def test_an_output_may_be_written_over_where_torchs_may(name: str) -> None:
    x = torch.randn(5, requires_grad=True)
    ours, theirs = (f(x).mul_(2).sum() for f in CASES[name][:2])
    if ACTIVATIONS[name].saves_output:
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            theirs.backward()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            ours.backward()
    else:
        torch.testing.assert_close(*(torch.autograd.grad(y, x)[0] for y in (ours, theirs)))


# ---- What goes to torch --------------------------------------------------------------------------


# torch's own rules of forward-mode differentiation are scripts.
SCRIPTS = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


class Wrapped(Tensor):
    pass


OTHERS: dict[str, Callable[[], Tensor]] = {
    "float16": lambda: torch.randn(7).half(),
    "bfloat16": lambda: torch.randn(7).bfloat16(),
    "meta": lambda: torch.empty(7, device="meta"),
    "subclass": lambda: torch.randn(7).as_subclass(Wrapped),
    "negative view": lambda: torch._neg_view(torch.randn(7)),
    "zero tensor": lambda: torch._efficientzerotensor(7),
}


@pytest.mark.parametrize("kind", OTHERS)
@ALL
def test_other_tensors_go_to_torch(name: str, kind: str, native_calls: Counter[str]) -> None:
    x = OTHERS[kind]()
    got, expected = CASES[name].ours(x), CASES[name].torchs(x)
    assert (type(got), got.dtype, got.device) == (type(expected), expected.dtype, expected.device)
    if kind != "meta":
        torch.testing.assert_close(got, expected)
    assert not native_calls


@SCRIPTS
@ALL
def test_transforms_of_torch_func(name: str, native_calls: Counter[str]) -> None:
    x = torch.randn(4, 6, dtype=torch.float64)
    for transform in (
        torch.func.vmap,
        torch.func.jacrev,
        torch.func.jacfwd,
        lambda f: torch.func.grad(lambda x: f(x).sum()),
    ):
        got, expected = (transform(f)(x) for f in CASES[name][:2])
        torch.testing.assert_close(got, expected)
    assert not native_calls


@SCRIPTS
@ALL
def test_forward_mode(name: str, native_calls: Counter[str]) -> None:
    x, tangent = torch.randn(2, 6, dtype=torch.float64).unbind()
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, tangent)
        got, expected = (
            torch.autograd.forward_ad.unpack_dual(f(dual)).tangent for f in CASES[name][:2]
        )
    torch.testing.assert_close(got, expected)
    assert not native_calls


@ALL
def test_the_compiler_sees_torchs_function(
    name: str, compiler: Callable[..., Any], native_calls: Counter[str]
) -> None:
    x = torch.randn(6)
    got = compiler(CASES[name].ours, fullgraph=True)(x)
    assert torch.equal(got, CASES[name].torchs(x))
    assert not native_calls


def test_the_compiler_sees_torchs_softmax(
    compiler: Callable[..., Any], native_calls: Counter[str]
) -> None:
    x = torch.randn(6, 3)
    got = compiler(lambda x: activations.softmax(x, 1), fullgraph=True)(x)
    assert torch.equal(got, torchs.softmax(x, 1))
    assert not native_calls


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.relu("no tensor"),
        lambda m: m.relu(torch.tensor([True])),
        lambda m: m.sigmoid(None),
        lambda m: m.silu(torch.arange(3)),
        lambda m: m.gelu(torch.ones(3), approximate="erf"),
        lambda m: m.gelu(torch.ones(3), approximate=None),
        lambda m: m.softplus(torch.ones(3), 1, 20, None),
        lambda m: m.leaky_relu(torch.ones(3), "0.1"),
        lambda m: m.elu(torch.ones(3), None),
        lambda m: m.softplus(torch.ones(3), "1"),
        lambda m: m.softmax(torch.ones(3), 1),
        lambda m: m.softmax(torch.ones(3), -2),
        lambda m: m.softmax(torch.ones(3), 0.5),
        lambda m: m.log_softmax(torch.arange(3), 0),
    ],
)
def test_what_torch_refuses_is_refused_in_its_words(call: Callable[[Any], Tensor]) -> None:
    with pytest.raises(Exception) as expected:  # noqa: PT011  # whatever torch raises
        call(torchs)
    with pytest.raises(expected.type) as got:
        call(activations)
    assert str(got.value) == str(expected.value)


# ---- Softmax -------------------------------------------------------------------------------------

SOFTMAXES = pytest.mark.parametrize("name", ["softmax", "log_softmax"])


def both(name: str, x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    return getattr(activations, name)(x, dim), getattr(torchs, name)(x.double(), dim)


@DTYPES
@SOFTMAXES
@pytest.mark.parametrize("dim", [0, 1, 2, 3, -1, -2])
def test_softmax_along_every_dim(
    isa: str, name: str, dim: int, dtype: torch.dtype, native_calls: Counter[str]
) -> None:
    for shape in [(3, 5, 7, 18), (2, 1, 131, 3), (33, 2, 1, 1), (1, 2, 3, 300), (2, 0, 3, 4)]:
        x = (torch.randn(shape, dtype=dtype) * 4).requires_grad_()
        got, exact = both(name, x, dim)
        assert got.stride() == getattr(torchs, name)(x, dim).stride()
        limits = {"rtol": 8 * torch.finfo(dtype).eps, "atol": 4 * torch.finfo(dtype).eps}
        torch.testing.assert_close(got.double(), exact, **limits)
        grad = torch.randn(shape, dtype=dtype)
        slope = torch.autograd.grad(got, x, grad)[0].double()
        expected = torch.autograd.grad(exact, x, grad.double())[0].double()
        limits["atol"] *= 8
        torch.testing.assert_close(slope, expected, **limits)
    assert native_calls == {"softmax": 5, "softmax_backward": 5}


@SOFTMAXES
def test_softmax_of_every_length(isa: str, name: str, native_calls: Counter[str]) -> None:
    for count in [*range(1, 20), 63, 4096]:
        x = torch.randn(3, count)
        for t, dim in ((x, 1), (x.t().contiguous(), 0), (x.t(), 0)):
            got, exact = both(name, t, dim)
            torch.testing.assert_close(got.double(), exact, rtol=1e-6, atol=3e-7)
    assert native_calls == {"softmax": 3 * 21}


@SOFTMAXES
def test_softmax_of_special_values(isa: str, name: str, native_calls: Counter[str]) -> None:
    inf, nan = torch.inf, torch.nan
    rows = [
        [0, -inf, 1],
        [-inf, -inf, -inf],
        [inf, 1, 2],
        [nan, 1, 2],
        [1e30, -1e30, 0],
        [-200, 0, 1],
    ]
    x = torch.tensor(rows).repeat(7, 1)
    for t, dim in ((x, 1), (x.t().contiguous(), 0)):
        got, expected = getattr(activations, name)(t, dim), getattr(torchs, name)(t, dim)
        torch.testing.assert_close(got, expected, equal_nan=True, rtol=1e-6, atol=1e-37)
    assert native_calls == {"softmax": 2}


@SOFTMAXES
@pytest.mark.parametrize("dim", [0, 1])
def test_gradients_of_softmax(name: str, dim: int, native_calls: Counter[str]) -> None:
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    function = getattr(activations, name)
    assert torch.autograd.gradcheck(lambda x: function(x, dim), x)
    assert torch.autograd.gradgradcheck(lambda x: function(x, dim), x)
    assert native_calls.keys() == {"softmax", "softmax_backward"}


@SOFTMAXES
@pytest.mark.parametrize("dim", [0, 1, 2])
def test_softmax_has_the_same_bits_for_threads_and_fused_instruction_sets(
    name: str, dim: int, set_threads: Callable[[int], None]
) -> None:
    x = torch.randn(31, 41, 151, requires_grad=True)
    grad = torch.randn(31, 41, 151)
    results = set()
    usual = _core.isa()
    for isa in FUSED_ISAS:
        _core.set_isa(isa)
        for threads in (1, 2):
            set_threads(threads)
            y = getattr(activations, name)(x, dim)
            slope = torch.autograd.grad(y, x, grad)[0]
            results.add((y.detach().numpy().tobytes(), slope.numpy().tobytes()))
    _core.set_isa(usual)
    assert len(results) == bool(FUSED_ISAS)


def test_softmax_without_dim_warns_as_torch_does() -> None:
    with pytest.warns(UserWarning, match="Implicit dimension choice") as caught:
        got = activations.softmax(torch.ones(2, 4))
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.equal(got, torchs.softmax(torch.ones(2, 4)))


def test_softmax_in_another_dtype(native_calls: Counter[str]) -> None:
    x = torch.randn(3, 4)
    got = activations.softmax(x, 1, dtype=torch.float64)
    assert torch.equal(got, torchs.softmax(x, 1, dtype=torch.float64))
    assert torch.equal(activations.softmax(x, 1, dtype=torch.float32), activations.softmax(x, 1))
    assert native_calls == {"softmax": 2}


@pytest.mark.parametrize("name", CASES)
def test_empty_results_lie_as_torchs(name: str) -> None:
    for shape, strides in (
        ((0,), (3,)),
        ((0, 3), (1, 7)),
        ((3, 0), (1, 5)),
        ((2, 0, 3), (9, 1, 2)),
        ((2, 0, 3, 4), (0, 1, 0, 0)),
        ((0, 3, 4, 4), (48, 1, 12, 3)),
    ):
        x = torch.empty_strided(shape, strides)
        result, wanted = CASES[name].ours(x), CASES[name].torchs(x)
        assert result.stride() == wanted.stride(), (shape, strides)
        assert activations.softmax(x, -1).stride() == torchs.softmax(x, -1).stride()
