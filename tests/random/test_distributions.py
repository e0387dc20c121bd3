"""One table says which parameters a distribution takes: fills of both kinds and initializers keep to it."""

import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch

import pyinit
from pyinit._random.distributions import (
    BERNOULLI,
    CONSTANT,
    NORMAL,
    TRUNC_NORMAL,
    UNIFORM,
    Distribution,
)
from pyinit.init import _routes
from pyinit.initializers import Constant, Normal, TruncNormal, Uniform

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
VALUES = (0.0, -0.0, 1.0, -1.0, 0.5, 4e4, -4e4, 7e4, 2e38, -2e38, 1e39, 1e308, -1e308)
VALUES += (math.inf, -math.inf, math.nan)
FEW = (0.0, 1.0, -1.0, 7e4, 1e39, math.inf, -math.inf, math.nan)

dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def parameters(count: int) -> Iterable[tuple[float, ...]]:
    return itertools.product(VALUES if count < 3 else FEW, repeat=count)


@dtypes
@pytest.mark.parametrize(
    ("name", "distribution", "count"),
    [
        ("uniform", UNIFORM, 2),
        ("normal", NORMAL, 2),
        ("trunc_normal", TRUNC_NORMAL, 4),
        ("bernoulli", BERNOULLI, 1),
        ("constant", CONSTANT, 1),
    ],
)
def test_a_fill_with_a_key_takes_what_the_table_says(
    name: str, distribution: Distribution, count: int, dtype: torch.dtype
) -> None:
    out, largest = torch.empty(2, dtype=dtype), torch.finfo(dtype).max
    key = {} if name == "constant" else {"key": 1}
    for values in parameters(count):
        try:
            getattr(pyinit.fill, name)(out, *values, **key)
        except ValueError:
            is_taken = False
        else:
            is_taken = True
        assert is_taken == distribution.takes(largest, *values), values


@dtypes
@pytest.mark.parametrize(
    ("name", "distribution", "count"),
    [("uniform_", UNIFORM, 2), ("normal_", NORMAL, 2), ("constant_", CONSTANT, 1)],
)
def test_a_kernel_fills_what_the_table_takes_and_torch_judges_the_rest(
    name: str,
    distribution: Distribution,
    count: int,
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left: list[tuple[Any, ...]] = []

    def by_torch(function: Callable[..., Any], tensor: torch.Tensor, *arguments: Any) -> Any:
        left.append(arguments)
        return tensor

    monkeypatch.setattr(_routes, "by_torch", by_torch)
    tensor, largest = torch.empty(2, dtype=dtype), torch.finfo(dtype).max
    for values in parameters(count):
        left.clear()
        getattr(pyinit.init, name)(tensor, *values)
        assert bool(left) != distribution.takes(largest, *values), values


@pytest.mark.parametrize(
    ("initializer", "distribution", "count"),
    [(Uniform, UNIFORM, 2), (Normal, NORMAL, 2), (TruncNormal, TRUNC_NORMAL, 4)],
)
def test_an_initializer_is_made_of_what_some_dtype_might_take(
    initializer: Callable[..., Any], distribution: Distribution, count: int
) -> None:
    for values in parameters(count):
        finite = values if count < 3 else values[:2]
        exists = all(map(math.isfinite, finite)) and distribution.takes(math.inf, *values)
        try:
            made = initializer(*values)
        except ValueError:
            assert not exists, values
            continue
        assert exists, values
        for dtype in DTYPES:
            largest = torch.finfo(dtype).max
            assert made.fits(largest) == distribution.takes(largest, *values), values


def test_a_constant_fits_where_the_table_takes_it() -> None:
    for value, dtype in itertools.product(VALUES, DTYPES):
        largest = torch.finfo(dtype).max
        assert Constant(value).fits(largest) == CONSTANT.takes(largest, value), (value, dtype)
