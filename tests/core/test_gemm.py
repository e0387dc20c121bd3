"""C = alpha A B + beta C: what it computes, what it leaves alone, and that its bits are one chain's."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pyinit import _core

CODES = {np.float32: _core.FLOAT32, np.float64: _core.FLOAT64}
Array = NDArray[Any]

# Around the sizes of register tiles (6, 8, 14 rows; panels of 4 to 32) and blocks (192, 256).
EDGES = (0, 1, 2, 3, 5, 6, 7, 8, 13, 14, 15, 16, 17, 31, 33, 48)
SHAPES = [
    *((m, n, k) for m in (1, 6, 17) for n in (1, 16, 33) for k in (0, 1, 19)),
    *((n, 5, 9) for n in EDGES),
    *((5, n, 9) for n in EDGES),
    *((7, 32, k) for k in (*EDGES, 255, 256, 257, 511, 513, 1025)),
    *((n, 40, 300) for n in (95, 97, 191, 193, 385)),
    (0, 3, 4),
    (3, 0, 4),
    (0, 0, 0),
    (100, 100, 100),
    (1, 1500, 2),
]


@pytest.fixture(params=CODES, ids=lambda t: t.__name__)
def dtype(request: pytest.FixtureRequest) -> Any:
    return request.param


def target(x: Array) -> tuple[int, int, tuple[int, ...], tuple[int, ...]]:
    strides = tuple(stride // x.itemsize for stride in x.strides)
    return x.ctypes.data, CODES[x.dtype.type], x.shape, strides


def gemm(
    a: Array, b: Array, c: Array, alpha: float = 1, beta: float = 0, *, threads: int = 1
) -> Array:
    _core.gemm(target(a), target(b), target(c), alpha, beta, threads)
    return c


def normal(dtype: Any, *shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


# Where the elements of a matrix of that shape may lie.
MATRICES = {
    "rows": lambda dtype, m, n: np.empty((m, n), dtype),
    "columns": lambda dtype, m, n: np.empty((n, m), dtype).T,
    "wide rows": lambda dtype, m, n: np.empty((m + 2, n + 64), dtype)[1:-1, 3 : n + 3],
    "wide columns": lambda dtype, m, n: np.empty((n + 1, m + 9), dtype).T[5 : m + 5, 1:],
    "no unit stride": lambda dtype, m, n: np.empty((2 * m, 3 * n), dtype)[::2, ::3],
    "backwards": lambda dtype, m, n: np.empty((m, n), dtype)[::-1, ::-1],
}


def laid_out(x: Array, layout: str) -> Array:
    out = MATRICES[layout](x.dtype, *x.shape)
    out[...] = x
    return out


def assert_product(
    got: Array, a: Array, b: Array, c: Array, *, alpha: float = 1, beta: float = 0
) -> None:
    """Within the error bound of a sum of rounded products, element by element."""
    a, b, c = (np.asarray(x, np.longdouble) for x in (a, b, c))
    expected = alpha * (a @ b) + (beta * c if beta else 0)
    size = abs(alpha) * (abs(a) @ abs(b)) + (abs(beta * c) if beta else 0)
    steps = 2 * a.shape[-1] + 3
    tiny = steps * np.finfo(got.dtype).smallest_subnormal
    assert np.all(abs(got - expected) <= steps * np.finfo(got.dtype).eps / 2 * size * 1.01 + tiny)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_product_is_within_the_error_bound(
    isa: str, dtype: Any, shape: tuple[int, int, int]
) -> None:
    m, n, k = shape
    a, b, c = normal(dtype, m, k), normal(dtype, k, n, seed=1), normal(dtype, m, n, seed=2)
    assert_product(gemm(a, b, c.copy(), 0.75, -1.5), a, b, c, alpha=0.75, beta=-1.5)


@pytest.mark.parametrize(
    "layouts", [(a, b, c) for a in MATRICES for b in MATRICES for c in MATRICES]
)
@pytest.mark.parametrize("shape", [(21, 35, 40), (96, 192, 9)], ids=str)
def test_layouts_do_not_change_the_bits(
    dtype: Any, layouts: tuple[str, str, str], shape: tuple[int, int, int]
) -> None:
    m, n, k = shape
    a, b, c = normal(dtype, m, k), normal(dtype, k, n, seed=1), normal(dtype, m, n, seed=2)
    got = gemm(*map(laid_out, (a, b, c), layouts), 1.1, 0.3)  # type: ignore[arg-type]
    assert np.array_equal(got, gemm(a, b, c, 1.1, 0.3))


@pytest.mark.parametrize("axis", [0, 1])
def test_inputs_may_repeat_their_elements(dtype: Any, axis: int) -> None:
    one = normal(dtype, *((1, 30) if axis == 0 else (30, 1)))
    a = np.broadcast_to(one, (30, 30))
    c = np.empty((30, 30), dtype)
    assert np.array_equal(gemm(a, a, c), gemm(a.copy(), a.copy(), c.copy()))


@pytest.mark.parametrize("shape", [(7, 9, 5), (40, 64, 300), (6, 16, 0)], ids=str)
@pytest.mark.parametrize("layout", ["rows", "columns", "no unit stride"])
def test_c_is_not_read_where_beta_is_zero(
    isa: str, dtype: Any, shape: tuple[int, int, int], layout: str
) -> None:
    m, n, k = shape
    a, b = normal(dtype, m, k), normal(dtype, k, n, seed=1)
    c = laid_out(np.full((m, n), np.nan, dtype), layout)
    assert_product(gemm(a, b, c), a, b, c)


@pytest.mark.parametrize("beta", [0, 0.3])
def test_a_and_b_are_not_read_where_alpha_is_zero(dtype: Any, beta: float) -> None:
    c = normal(dtype, 13, 21)
    got = gemm(np.full((13, 5), np.nan, dtype), normal(dtype, 5, 21), c.copy(), 0, beta)
    assert np.array_equal(got, dtype(beta) * c)


@pytest.mark.parametrize("beta", [0, 1, 0.3, -2.0])
def test_an_empty_sum_leaves_beta_c(dtype: Any, beta: float) -> None:
    c = normal(dtype, 13, 21)
    got = gemm(normal(dtype, 13, 0), normal(dtype, 0, 21), c.copy(), 3, beta)
    assert np.array_equal(got, dtype(beta) * c)


@pytest.mark.parametrize("alpha", [1, 0, -1, 0.1])
@pytest.mark.parametrize("beta", [0, 1, -1, 0.1])
@pytest.mark.parametrize("layout", ["rows", "columns"])
def test_alpha_and_beta_scale_a_and_c(dtype: Any, alpha: float, beta: float, layout: str) -> None:
    a, b, c = normal(dtype, 20, 30), normal(dtype, 30, 40), normal(dtype, 20, 40)
    expected = gemm(dtype(alpha) * a, b, dtype(beta) * c, 1, 1)
    assert np.array_equal(gemm(a, b, laid_out(c, layout), alpha, beta), expected)


@pytest.mark.parametrize("layout", MATRICES)
@pytest.mark.parametrize("threads", [1, 2])
def test_nothing_is_written_beside_c(isa: str, dtype: Any, layout: str, threads: int) -> None:
    m, n = 130, 135
    a, b = normal(dtype, m, 80), normal(dtype, 80, n)
    c = MATRICES[layout](dtype, m, n)
    memory = c
    while memory.base is not None:
        memory = memory.base
    memory.fill(7)
    c.fill(0)
    untouched = memory == 7
    gemm(a, b, c, threads=threads)
    assert np.all(memory[untouched] == 7)
    assert np.all(c != 0)


def chains(a: Array, b: Array, c: Array, alpha: float, beta: float) -> Array:
    """Each element by exact arithmetic, rounded to float32 after every step."""

    def rounded(x: Fraction) -> Fraction:
        if x == 0:
            return x
        unit = Fraction(2) ** (np.frexp(float(x))[1].item() - 24)
        return round(x / unit) * unit  # ties to even

    def element(row: Array, column: Array, start: np.float32) -> float:
        total = rounded(Fraction(float(np.float32(beta))) * Fraction(float(start)))
        for x, y in zip(row, column, strict=True):
            scaled = rounded(Fraction(float(np.float32(alpha))) * Fraction(float(x)))
            total = rounded(scaled * Fraction(float(y)) + total)
        return float(total)

    m, n = c.shape
    return np.array(
        [[element(a[i], b[:, j], c[i, j]) for j in range(n)] for i in range(m)], np.float32
    )


@pytest.fixture(params=[isa for isa in _core.available_isas() if isa != "baseline"])
def fused_isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test with each instruction set that has a fused multiply-add."""
    usual = _core.isa()
    _core.set_isa(request.param)
    yield request.param
    _core.set_isa(usual)


@pytest.mark.parametrize("layout", ["rows", "columns"])
@pytest.mark.parametrize(("alpha", "beta"), [(1, 0), (1, 1), (0.7, -0.3)])
@pytest.mark.parametrize("shape", [(7, 17, 20), (1, 3, 600)], ids=str)
def test_an_element_is_one_chain_of_multiply_adds(
    fused_isa: str, layout: str, alpha: float, beta: float, shape: tuple[int, int, int]
) -> None:
    m, n, k = shape
    a, b, c = normal(np.float32, m, k), normal(np.float32, k, n), normal(np.float32, m, n)
    got = gemm(a, b, laid_out(c, layout), alpha, beta)
    assert np.array_equal(got, chains(a, b, c, alpha, beta))


@pytest.fixture
def large_product(dtype: Any) -> tuple[Array, ...]:
    """Operands enough for several threads, and their product as 200 columns of A at a time make it."""
    a, b, c = normal(dtype, 151, 600), normal(dtype, 600, 203), normal(dtype, 151, 203)
    expected = c.copy()
    usual = _core.isa()
    _core.set_isa(_core.available_isas()[-1])
    for k in range(0, 600, 200):
        gemm(a[:, k : k + 200], b[k : k + 200], expected, -0.9, 1)
    _core.set_isa(usual)
    return a, b, c, expected


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("layout", ["rows", "columns"])
def test_bits_depend_on_neither_threads_nor_instruction_set(
    fused_isa: str, large_product: tuple[Array, ...], threads: int, layout: str
) -> None:
    a, b, c, expected = large_product
    assert np.array_equal(gemm(a, b, laid_out(c, layout), -0.9, 1, threads=threads), expected)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("batch", [0, 1, 2, 5, 30])
@pytest.mark.parametrize("size", [4, 100])
def test_a_batch_is_its_products_one_by_one(
    dtype: Any, batch: int, threads: int, size: int
) -> None:
    a, b = normal(dtype, batch, size, 90), normal(dtype, 90, batch, size).transpose(1, 0, 2)
    c = normal(dtype, size, batch, size).transpose(1, 0, 2)
    expected = c.copy()
    for i in range(batch):
        gemm(a[i], b[i], expected[i], 2, 0.5)
    assert np.array_equal(gemm(a, b, c, 2, 0.5, threads=threads), expected)


def test_a_batch_may_share_an_operand(dtype: Any) -> None:
    a, b = np.broadcast_to(normal(dtype, 8, 9), (3, 8, 9)), normal(dtype, 3, 9, 10)
    c = np.empty((3, 8, 10), dtype)
    assert np.array_equal(gemm(a, b, c), gemm(a.copy(), b, c.copy()))


X = np.zeros((4, 6), np.float32)
Y = np.zeros((6, 5), np.float32)
Z = np.full((4, 5), 7, np.float32)
HALF = (Z.ctypes.data, _core.FLOAT16, (4, 5), (5, 1))


@pytest.mark.parametrize(
    ("a", "b", "c", "message"),
    [
        (HALF, Y, Z, r"a: dtype: got code 0, takes FLOAT32 or FLOAT64"),
        (X, HALF, Z, r"b: dtype: got code 0, takes FLOAT32 or FLOAT64"),
        (X, Y.astype(np.float64), Z, r"b: dtype: got code 3, takes that of a, code 2"),
        (X, Y, Z.astype(np.float64), r"c: dtype: got code 3, takes that of a, code 2"),
        (X[0], Y, Z, r"a: shape: got \(6\), takes 2 or 3 dimensions"),
        (X, Y[:5], Z, r"b: shape: got \(5, 5\), takes .* \(4, 6\)"),
        (X, Y[None], Z, r"b: shape: got \(1, 6, 5\), takes .* \(4, 6\)"),
        (X[None], np.stack([Y, Y]), Z[None], r"b: shape: got \(2, 6, 5\), takes .* \(1, 4, 6\)"),
        (X, Y, Z[:3], r"c: shape: got \(3, 5\), takes \(4, 5\)"),
        (X, Y, Z[None], r"c: shape: got \(1, 4, 5\), takes \(4, 5\)"),
        (X, Y, np.broadcast_to(Z[:1], (4, 5)), r"c: strides: got \(0, 1\), takes .* not overlap"),
        ((X.ctypes.data, 2, (4, 6), (6,)), Y, Z, r"a: strides: got \(6\), takes one per dim"),
        ((X.ctypes.data, 2, (-4, 6), (6, 1)), Y, Z, r"a: shape: got \(-4, 6\), takes no negative"),
    ],
)
def test_bad_input_is_refused_and_nothing_written(a: Any, b: Any, c: Any, message: str) -> None:
    targets = [x if isinstance(x, tuple) else target(x) for x in (a, b, c)]
    with pytest.raises(ValueError, match=message):
        _core.gemm(*targets, 1.0, 0.0, 1)
    assert np.all(Z == 7)


def test_multiply_adds_tells_how_many_it_did(isa: str, dtype: Any) -> None:
    one = _core.multiply_adds(CODES[dtype], 1)
    assert one > 0
    assert _core.multiply_adds(CODES[dtype], 1000) == 1000 * one


def test_multiply_adds_refuses_other_dtypes() -> None:
    with pytest.raises(ValueError, match="dtype: got code 1, takes FLOAT32 or FLOAT64"):
        _core.multiply_adds(_core.BFLOAT16, 1)
