"""JAX's initializers, drawn by pyinit on the host."""

import math
from typing import Any

import numpy as np
import pytest
import torch

import pyinit
from pyinit._random.rng import Key

jax = pytest.importorskip("jax")

SEED = 2**31 - 9
SHAPE = (3, 3, 4, 8)  # fans of 36 and 72
TRUNCATED = 0.87962566103423978  # the standard deviation of a normal number cut at two of them


def key() -> Any:
    return jax.random.key(SEED)


def uniform(variance: float) -> torch.Tensor:
    limit = math.sqrt(3 * variance)
    return pyinit.fill.uniform(torch.empty(SHAPE), -limit, limit, key=SEED)


def cut(variance: float) -> torch.Tensor:
    std = math.sqrt(variance) / TRUNCATED
    return pyinit.fill.trunc_normal(torch.empty(SHAPE), 0.0, std, -2 * std, 2 * std, key=SEED)


def delta() -> torch.Tensor:
    weight = pyinit.delta_orthogonal_(torch.empty(8, 4, 3, 3), 2.0, Key(SEED))
    return weight.permute(2, 3, 1, 0)


EXPECTED: dict[str, tuple[Any, Any]] = {
    "he_normal": (pyinit.jax.he_normal(), cut(2 / 36)),
    "he_uniform": (pyinit.jax.he_uniform(), uniform(2 / 36)),
    "kaiming_normal": (pyinit.jax.kaiming_normal(), cut(2 / 36)),
    "kaiming_uniform": (pyinit.jax.kaiming_uniform(), uniform(2 / 36)),
    "glorot_normal": (pyinit.jax.glorot_normal(), cut(1 / 54)),
    "glorot_uniform": (pyinit.jax.glorot_uniform(), uniform(1 / 54)),
    "xavier_normal": (pyinit.jax.xavier_normal(), cut(1 / 54)),
    "xavier_uniform": (pyinit.jax.xavier_uniform(), uniform(1 / 54)),
    "lecun_normal": (pyinit.jax.lecun_normal(), cut(1 / 36)),
    "lecun_uniform": (pyinit.jax.lecun_uniform(), uniform(1 / 36)),
    "variance_scaling": (
        pyinit.jax.variance_scaling(3.0, "fan_out", "normal"),
        pyinit.fill.normal(torch.empty(SHAPE), 0.0, math.sqrt(3 / 72), key=SEED),
    ),
    "normal": (pyinit.jax.normal(0.5), pyinit.fill.normal(torch.empty(SHAPE), 0.0, 0.5, key=SEED)),
    "uniform": (
        pyinit.jax.uniform(0.5),
        pyinit.fill.uniform(torch.empty(SHAPE), 0.0, 0.5, key=SEED),
    ),
    "truncated_normal": (
        pyinit.jax.truncated_normal(0.5, lower=-1.0, upper=3.0),
        pyinit.fill.trunc_normal(torch.empty(SHAPE), 0.0, 0.5, -0.5, 1.5, key=SEED),
    ),
    "constant": (pyinit.jax.constant(0.25), torch.full(SHAPE, 0.25)),
    "zeros": (pyinit.jax.zeros, torch.zeros(SHAPE)),
    "ones": (pyinit.jax.ones, torch.ones(SHAPE)),
    "orthogonal": (
        pyinit.jax.orthogonal(2.0),
        pyinit.orthogonal_(torch.empty(36, 8), 2.0, Key(SEED)).view(SHAPE),
    ),
    "delta_orthogonal": (pyinit.jax.delta_orthogonal(2.0), delta()),
}


def test_all_of_them_are_here() -> None:
    assert [*sorted(EXPECTED)] == pyinit.jax.__all__
    assert all(hasattr(jax.nn.initializers, name) for name in pyinit.jax.__all__)


@pytest.mark.parametrize("name", EXPECTED)
def test_an_array_has_the_numbers_of_its_key(name: str) -> None:
    init, expected = EXPECTED[name]
    made = init(key(), SHAPE)
    assert isinstance(made, jax.Array)
    assert made.dtype == np.float32
    assert np.allclose(made, expected.numpy(), rtol=2e-7, atol=0)


def factory(module: Any, name: str) -> Any:
    arguments = {"constant": (0.5,), "variance_scaling": (2.0, "fan_avg", "normal")}
    value = getattr(module, name)
    return value if name in ("zeros", "ones") else value(*arguments.get(name, ()))


@pytest.mark.parametrize("name", EXPECTED)
def test_arrays_have_jaxs_own_distribution(name: str) -> None:
    shape = (3, 3, 40, 80)
    ours, theirs = (
        np.asarray(factory(module, name)(key(), shape), np.float64)
        for module in (pyinit.jax, jax.nn.initializers)
    )
    assert ours.std() == pytest.approx(theirs.std(), rel=0.03)
    assert ours.mean() == pytest.approx(theirs.mean(), abs=0.02)
    assert abs(ours).max() == pytest.approx(abs(theirs).max(), rel=0.3)
    assert ((ours == 0) == (theirs == 0)).all()


@pytest.mark.parametrize(
    "axes",
    [
        {"in_axis": 0, "out_axis": 1},
        {"in_axis": (0, 1), "out_axis": 2},
        {"in_axis": 1, "out_axis": -1, "batch_axis": 0},
    ],
    ids=str,
)
def test_axes_make_the_fans_as_in_jax(axes: dict[str, Any]) -> None:
    shape = (40, 30, 50)
    ours, theirs = (
        module.variance_scaling(1.0, "fan_in", "uniform", **axes)(key(), shape)
        for module in (pyinit.jax, jax.nn.initializers)
    )
    assert float(abs(ours).max()) == pytest.approx(float(abs(theirs).max()), rel=1e-3)


def test_a_column_axis_in_the_middle() -> None:
    q = pyinit.jax.orthogonal(column_axis=1)(key(), (4, 3, 5))
    columns = np.asarray(jax.numpy.moveaxis(q, 1, -1)).reshape(20, 3)
    assert np.allclose(columns.T @ columns, np.eye(3), atol=1e-5)


def test_keys_of_both_kinds_and_what_is_split_off() -> None:
    init = pyinit.jax.normal()
    old, new = jax.random.PRNGKey(SEED), key()
    assert (init(old, (9,)) == init(new, (9,))).all()
    first, second = jax.random.split(new)
    assert (init(first, (9,)) != init(second, (9,))).any()
    high, low = map(int, jax.random.key_data(first))
    expected = pyinit.fill.normal(np.empty(9, np.float32), 0.0, 0.01, key=high << 32 | low)
    assert np.array_equal(init(first, (9,)), expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_every_dtype_that_kernels_write(dtype: str) -> None:
    made = pyinit.jax.normal(1.0)(key(), (5, 3), jax.numpy.dtype(dtype))
    assert made.dtype == dtype
    expected = pyinit.fill.normal(torch.empty(5, 3, dtype=getattr(torch, dtype)), key=SEED)
    assert np.array_equal(np.asarray(made, np.float32), expected.float().numpy())
    assert pyinit.jax.normal(dtype=jax.numpy.dtype(dtype))(key(), (3,)).dtype == dtype


def test_float64_is_what_jax_makes_of_it() -> None:
    assert pyinit.jax.normal()(key(), (3,), np.float64).dtype == np.float32
    with jax.enable_x64(True):
        assert pyinit.jax.normal()(key(), (3,)).dtype == np.float64


TRACED = [
    lambda key: pyinit.jax.he_normal()(key, (3, 3)),
    lambda key: pyinit.jax.zeros(key, (3, 3)),
    lambda key: pyinit.jax.orthogonal()(key, (3, 3)),
]


@pytest.mark.parametrize("call", TRACED, ids=["he_normal", "zeros", "orthogonal"])
def test_a_tracer_is_refused_by_name(call: Any) -> None:
    for transform in (jax.jit, lambda f: lambda k: jax.eval_shape(f, k)):
        with pytest.raises(TypeError, match="key must have a value, got a JAX tracer"):
            transform(call)(key())
    with pytest.raises(TypeError, match="key must have a value, got a JAX tracer"):
        jax.vmap(call)(jax.random.split(key()))


def test_a_key_with_a_value_is_refused_by_name_inside_of_what_is_traced() -> None:
    with pytest.raises(TypeError, match="key must have a value, got a JAX tracer"):
        jax.jit(lambda x: x * pyinit.jax.he_normal()(key(), (3, 3)))(1.0)


def test_a_traced_shape_is_refused() -> None:
    made = jax.jit(lambda n: pyinit.jax.he_normal()(key(), (n, 3)))
    with pytest.raises(TypeError, match="must have a value, got a JAX tracer"):
        made(3)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: pyinit.jax.normal()(5, (3,)), TypeError, "key must be one JAX key .* got int"),
        (lambda: pyinit.jax.normal()(jax.random.split(key()), (3,)), TypeError, "one JAX key"),
        (
            lambda: pyinit.jax.normal()(jax.random.key(0, impl="rbg"), (3,)),
            TypeError,
            "two 32-bit words",
        ),
        (lambda: pyinit.jax.normal()(key(), 3), TypeError, "shape must be a sequence of integers"),
        (lambda: pyinit.jax.normal()(key(), (3,), "int32"), TypeError, "dtype must be .* int32"),
        (lambda: pyinit.jax.he_normal()(key(), (3,)), ValueError, "at least 2 dimensions"),
        (lambda: pyinit.jax.delta_orthogonal()(key(), (3, 3)), ValueError, "3 to 5 dimensions"),
        (
            lambda: pyinit.jax.delta_orthogonal()(key(), (3, 8, 4)),
            ValueError,
            "at least as many outputs",
        ),
        (
            lambda: pyinit.jax.variance_scaling(1.0, "fan", "normal"),
            ValueError,
            "Mode fan not supported",
        ),
        (lambda: pyinit.jax.normal(-1.0), ValueError, "std must be at least 0"),
        (
            lambda: pyinit.jax.he_normal(batch_axis=3)(key(), (2, 3, 4)),
            IndexError,
            r"batch_axis must name axes of shape \(2, 3, 4\), got \(3,\)",
        ),
        (
            lambda: pyinit.jax.he_normal(in_axis=-4)(key(), (2, 3, 4)),
            IndexError,
            "in_axis must name",
        ),
    ],
)
def test_what_cannot_be_made_is_refused(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()
