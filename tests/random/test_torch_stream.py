"""``rng("torch")``: the numbers and the generator state that torch itself leaves, bit for bit.

What is compared is the whole memory (the gaps of strided tensors, too) after pyinit's function and
after torch's own, from generators in the same state, and that state after them. The tests hold with
any torch from 2.9 on: what pyinit leaves to it is equal, too.
"""

import functools
import itertools
import math
import multiprocessing
import os
import struct
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from bits import bits
from dtypes import FLOATS
from hypothesis import given, settings
from hypothesis import strategies as st
from poison import poisoned
from torch_versions import as_in_2_13

import pyinit
from pyinit import _core
from pyinit._random import torch_cases, torch_stream
from pyinit._random.rng import Key, for_torch
from pyinit._torch.original import original
from pyinit.init import _routes

INF = math.inf
SMALL = torch_stream._SMALL
THEIRS = original  # torch's own functions, whatever has been patched

Memory = tuple[torch.Tensor, torch.Tensor]
"""All that a fill may reach, and the tensor in it that is filled."""

# What is filled with which parameters; the last two are torch's other algorithm, for few accepted.
FILLS = {
    "uniform": ("uniform_", ()),
    "normal": ("normal_", ()),
    "trunc_normal": ("trunc_normal_", ()),
    "trunc_normal_wide": ("trunc_normal_", (0.0, 0.02)),
    "trunc_normal_tail": ("trunc_normal_", (0.0, 1.0, 2.0, 3.0)),
    "trunc_normal_narrow": ("trunc_normal_", (0.0, 1.0, -0.1, 0.1)),
}
ABOVE_30_PERCENT = ("uniform", "normal", "trunc_normal", "trunc_normal_wide")
dtypes = pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: str(dtype)[6:])
fills = pytest.mark.parametrize("fill", FILLS)

IS_FOLLOWED = torch.__version__ >= "2.13" and _core.isa() != "neon"
needs_this_torch = pytest.mark.skipif(not IS_FOLLOWED, reason="needs a torch that is followed")


# ---- Comparison ----------------------------------------------------------------------------------


def flat(count: int, dtype: torch.dtype) -> Memory:
    memory = poisoned((count,), dtype)
    return memory, memory


# Generators as a program may leave them.
PHASES: dict[str, Callable[[torch.Generator], object]] = {
    "fresh": lambda _: None,
    "a cached normal": lambda g: torch.empty(1).normal_(generator=g),
    **{
        f"{used} words used": functools.partial(
            lambda g, used: torch.empty(used).uniform_(generator=g), used=used
        )
        for used in (1, 620, 621, 622, 623, 624)
    },
    "a cached normal, 622 words used": lambda g: (
        torch.empty(618).uniform_(generator=g),
        torch.empty(3).normal_(generator=g),
    ),
}


def generator(phase: str = "fresh", seed: int = 5) -> torch.Generator:
    made = torch.Generator().manual_seed(seed)
    PHASES[phase](made)
    return made


def documented(name: str, tensor: torch.Tensor, arguments: tuple[Any, ...]) -> str:
    """Who makes the numbers, by the table of docs/torch.md."""
    if name != "trunc_normal_":
        return "pyinit"
    mean, std, low, high = (*arguments, *(0.0, 1.0, -2.0, 2.0)[len(arguments) :])
    is_near = std > 0 and low - 2 * std <= mean <= high + 2 * std
    span = 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    return "pyinit" if is_near and span == tensor.numel() else "torch"


def assert_same(
    name: str,
    make: Callable[[], Memory],
    arguments: tuple[Any, ...] = (),
    source: Callable[[], torch.Generator] = generator,
    by: str | None = "as documented",
    **keywords: Any,
) -> None:
    """Compare with torch, and see that the numbers were made ``by`` pyinit, by torch, or, if None, by either."""
    if by == "as documented":
        by = documented(name, make()[1], arguments)
    (ours, our_tensor), our_generator = make(), source()
    (theirs, their_tensor), their_generator = make(), source()
    _left_to_torch.clear()
    with pyinit.rng("torch"):
        returned = getattr(pyinit.init, name)(
            our_tensor, *arguments, **keywords, generator=our_generator
        )
    assert returned is our_tensor
    getattr(THEIRS, name)(their_tensor, *arguments, **keywords, generator=their_generator)
    with torch.no_grad():
        where = f"{name} {tuple(our_tensor.shape)} {our_tensor.stride()} {ours.dtype} {arguments}"
        assert torch.equal(bits(ours), bits(theirs)), where
    assert torch.equal(our_generator.get_state(), their_generator.get_state()), where
    if IS_FOLLOWED and by is not None and our_tensor.numel() > 0:
        assert ("torch" if _left_to_torch else "pyinit") == by, where


_left_to_torch: list[str] = []


@pytest.fixture(autouse=True)
def left_to_torch(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of torch's own functions that pyinit has called."""
    _left_to_torch.clear()
    by_torch = _routes.by_torch

    def note(function: Callable[..., torch.Tensor], *args: Any) -> torch.Tensor:
        _left_to_torch.append(function.__name__)
        return by_torch(function, *args)

    monkeypatch.setattr(_routes, "by_torch", note)
    return _left_to_torch


@pytest.fixture(autouse=True)
def natively(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small tensors are filled by pyinit, too, which leaves them to torch where that is faster."""
    monkeypatch.setattr(torch_stream, "_SMALL", -1)


@pytest.fixture
def as_shipped(natively: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_stream, "_SMALL", SMALL)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has been compared with torch yet."""
    for name in ("_verdicts", "_notes", "_agreements"):
        monkeypatch.setattr(torch_cases, name, {})


# ---- Sizes ---------------------------------------------------------------------------------------


@dtypes
@fills
def test_every_size_to_40_in_every_phase_of_the_generator(fill, dtype):
    name, arguments = FILLS[fill]
    for phase, count in itertools.product(PHASES, range(41)):
        assert_same(
            name,
            functools.partial(flat, count, dtype),
            arguments,
            functools.partial(generator, phase, seed=count),
        )


@dtypes
@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize("fill", ["uniform", "normal"])
def test_sizes_where_torch_is_faster(fill, dtype):
    name, arguments = FILLS[fill]
    for phase, count in itertools.product(PHASES, (0, 1, 7, 16, SMALL - 1, SMALL, SMALL + 1)):
        source = functools.partial(generator, phase)
        assert_same(name, functools.partial(flat, count, dtype), arguments, source, by=None)
        rows = functools.partial(_at(2 * count, lambda m: m.view(-1, 2).t()), dtype)
        assert_same(name, rows, arguments, source, by=None)


# Blocks of the generator's words, of normals and of buffers; pieces that threads take; what gives
# up the GIL and what is worth a thread; all with one, two or four words an element, too.
BOUNDARIES = (156, 312, 512, 624, 2496, 4992, 9984, 1 << 14, 19968, 1 << 15, 1 << 16)


@dtypes
@pytest.mark.parametrize("fill", ABOVE_30_PERCENT)
def test_sizes_around_the_bounds_of_blocks_pieces_and_threads(fill, dtype):
    name, arguments = FILLS[fill]
    for boundary, around, phase in itertools.product(
        BOUNDARIES, (-1, 0, 1), ("fresh", "622 words used")
    ):
        make = functools.partial(flat, boundary + around, dtype)
        assert_same(name, make, arguments, functools.partial(generator, phase))


@dtypes
@pytest.mark.parametrize("fill", ["trunc_normal_tail", "trunc_normal_narrow"])
def test_low_acceptance_around_the_bounds_of_blocks_and_pieces(fill, dtype):
    name, arguments = FILLS[fill]
    for boundary, around in itertools.product(BOUNDARIES[:8], (-1, 0, 1)):
        assert_same(name, functools.partial(flat, boundary + around, dtype), arguments)


@dtypes
@pytest.mark.parametrize("fill", [*ABOVE_30_PERCENT, "trunc_normal_narrow"])
def test_a_million_elements(fill, dtype):
    name, arguments = FILLS[fill]
    assert_same(name, functools.partial(flat, 2**20 + 5, dtype), arguments)


@dtypes
@pytest.mark.parametrize("fill", ["uniform", "normal", "trunc_normal"])
def test_a_large_strided_tensor(fill, dtype):
    name, arguments = FILLS[fill]

    def make() -> Memory:
        memory = poisoned((400 * 300,), dtype)
        return memory, memory.view(400, 300)[:, 5:-7].t()

    assert_same(name, make, arguments)


@pytest.mark.large
@pytest.mark.parametrize("fill", ["uniform", "normal", "trunc_normal"])
def test_sixteen_million_elements(fill):
    name, arguments = FILLS[fill]
    assert_same(name, functools.partial(flat, 2**24 + 3, torch.float32), arguments)


# ---- Memory --------------------------------------------------------------------------------------


def _at(size: int, view: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., Memory]:
    def make(dtype: torch.dtype) -> Memory:
        memory = poisoned((size,), dtype)
        return memory, view(memory)

    return make


PLACES = {
    "no dimension": _at(1, lambda m: m[0]),
    "no dimension, inside": _at(3, lambda m: m[1]),
    "no elements": _at(7, lambda m: m.view(7, 1)[:, :0]),
    "offset": _at(103, lambda m: m[3:]),
    "offset, small": _at(12, lambda m: m[3:10]),
    "matrix": _at(77, lambda m: m.view(7, 11)),
    "transposed": _at(77, lambda m: m.view(7, 11).t()),
    "transposed, small": _at(12, lambda m: m.view(3, 4).t()),
    "channels last": _at(240, lambda m: m.view(2, 3, 4, 10).permute(0, 3, 1, 2)),
    "channels last, in three dimensions": _at(
        480, lambda m: m.view(2, 3, 4, 2, 10).permute(0, 4, 1, 2, 3)
    ),
    "permuted": _at(210, lambda m: m.view(5, 6, 7).permute(2, 0, 1)),
    "permuted rows": _at(210, lambda m: m.view(5, 6, 7).transpose(0, 1)),
    "every other element": _at(101, lambda m: m[::2]),
    "every third row": _at(110, lambda m: m.view(11, 10)[1::3]),
    "gaps between rows": _at(110, lambda m: m.view(11, 10)[:, 2:-1]),
    "gaps between columns": _at(110, lambda m: m.view(11, 10)[:, 2:-1].t()),
    "gaps on all sides": _at(504, lambda m: m.view(7, 8, 9)[1:-1, ::3, 2:7].permute(1, 2, 0)),
    "one column": _at(99, lambda m: m.view(33, 3)[:, 1]),
    "one row": _at(99, lambda m: m.view(3, 33)[1]),
    "size-1 dimensions of odd strides": _at(
        60, lambda m: m.as_strided((1, 20, 1, 3), (7, 3, 999, 1))
    ),
    "size-1 dimensions, transposed": _at(60, lambda m: m.as_strided((20, 1, 3), (1, 41, 20))),
    "one element of an odd stride": _at(5, lambda m: m.as_strided((1,), (17,), 2)),
    "padding in the middle": _at(200, lambda m: m.as_strided((4, 5, 6), (48, 8, 1), 3)),
}


@dtypes
@fills
@pytest.mark.parametrize("layout", PLACES)
def test_layouts(layout, fill, dtype):
    name, arguments = FILLS[fill]
    for phase in ("fresh", "a cached normal"):
        make = functools.partial(PLACES[layout], dtype)
        assert_same(name, make, arguments, functools.partial(generator, phase))


@dtypes
@pytest.mark.parametrize(
    "memory_format", [torch.channels_last, torch.channels_last_3d, torch.contiguous_format]
)
def test_memory_formats_of_torch(memory_format, dtype):
    shape = (2, 10, 3, 2, 4) if memory_format is torch.channels_last_3d else (2, 10, 3, 4)
    for name, arguments in FILLS.values():

        def make() -> Memory:
            tensor = torch.empty(shape, dtype=dtype).to(memory_format=memory_format).fill_(math.nan)
            return tensor.as_strided((tensor.numel(),), (1,)), tensor

        assert_same(name, make, arguments)


@fills
@pytest.mark.parametrize("way", ["natively", "as_shipped"])
def test_a_parameter_is_filled_without_history(fill, way, request):
    request.getfixturevalue(way)
    name, arguments = FILLS[fill]

    def make() -> Memory:
        memory = torch.nn.Parameter(poisoned((35,), torch.float32).view(5, 7))
        return memory.detach(), memory

    assert_same(name, make, arguments, by="as documented" if way == "natively" else None)
    parameter = make()[1]
    with pyinit.rng("torch"):
        getattr(pyinit.init, name)(parameter, *arguments)
    assert parameter.is_leaf
    assert parameter.requires_grad
    assert parameter.grad_fn is None


@as_in_2_13
@pytest.mark.parametrize("fill", ABOVE_30_PERCENT)
@pytest.mark.parametrize("count", [7, 40, 1 << 15])
@pytest.mark.parametrize("way", ["natively", "as_shipped"])
def test_a_fill_is_one_change_to_autograd(fill, count, way, request):
    request.getfixturevalue(way)
    name, arguments = FILLS[fill]
    tensor = torch.empty(count)
    before = tensor._version
    with pyinit.rng("torch"):
        getattr(pyinit.init, name)(tensor, *arguments)
    assert tensor._version == before + 1


@fills
def test_inference_tensors(fill):
    name, arguments = FILLS[fill]
    with torch.inference_mode():
        assert_same(name, functools.partial(flat, 50, torch.float32), arguments)


@fills
def test_a_device_context_makes_no_difference(fill):
    name, arguments = FILLS[fill]
    expected, got = poisoned((50,), torch.float32), poisoned((50,), torch.float32)
    first, second = generator(), generator()
    getattr(THEIRS, name)(expected, *arguments, generator=first)
    with torch.device("meta"), pyinit.rng("torch"):
        getattr(pyinit.init, name)(got, *arguments, generator=second)
    assert torch.equal(bits(got), bits(expected))
    assert torch.equal(first.get_state(), second.get_state())


@pytest.fixture
def double_by_default() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@dtypes
@pytest.mark.usefixtures("double_by_default", "unchecked")
def test_the_default_dtype_makes_no_difference(dtype):
    for (name, arguments), count in itertools.product(FILLS.values(), (9, 50)):
        assert_same(name, functools.partial(flat, count, dtype), arguments)


# ---- Parameters ----------------------------------------------------------------------------------


PARAMETERS = {
    "uniform_": [
        (-0.1, 0.3),
        (-3.0, -1.0),
        (0.5, 0.5),
        (0.0, 0.0),
        (-0.0, 0.0),
        (0, 1),
        (-2, True),
        (np.float64(0.1), np.float32(0.7)),
        (np.int64(-1), 3),
        (1.0, 1.0 + 2.0**-23),
        (1.0, 1.0 + 2.0**-21),
        (1.0, 1.0 + 2.0**-50),
        (1.0, 1.0 + 2.0**-8),
        (1.0, 1.0 + 2.0**-6),
        (0.1, 0.1 + 2.0**-10),
        (-1.0 - 2.0**-9, -1.0),
        (2.0**-24, 2.0**-23),
        (0.0, 1e-40),
        (0.0, 1e-310),
        (-3e4, 3e4),
        (torch.tensor(-1.5), torch.tensor(2)),
    ],
    "normal_": [
        (0.3, 0.02),
        (-5.0, 2.0),
        (1.0, 0.0),
        (0.0, 0.0),
        (-0.0, 0.0),
        (1.0, 0.5),
        (0, 1),
        (np.float32(0.3), np.float64(2.5)),
        (np.int32(2), True),
        (1e-3, 1e-30),
        (0.1, 1e-45),
        (2.0**-25, 2.0**-20),
        (1e4, 2e4),
        (torch.tensor(-1.5), torch.tensor(2)),
    ],
    "trunc_normal_": [
        (0.3, 2.0, -1.0, 1.1),
        (0, 1, -1, 2),
        (np.float32(0.5), np.float64(0.1), -2, np.int64(2)),
        (0.0, 1.0, -INF, 1.0),
        (0.0, 1.0, 0.0, INF),
        (0.0, 1.0, -INF, INF),
        (0.0, 1.0, -1.0, 0.0),
        (0.0, 1.0, -0.0, 1.0),
        (0.5, 0.01, -10.0, 0.5),
        (1.0, 0.001, 0.9995, 1.0005),  # few values of the 16-bit types lie there
        (0.1, 0.1, 0.1, 0.3),
        (0.0, 1.0, -0.70001, 0.70001),
        (0.0, 1.0, 2.0, 3.0),
        (0.0, 1.0, -3.0, -2.0),
        (0.0, 1.0, -0.1, 0.1),
        (0.0, 1.0, 1.9, 6.0),
        (1.0, 1.0, -1.0, 0.0),
        (0.1, 3.0, 0.3, 0.30078125),
        (0.0, 1e-3, 1e-3, 2e-3),
        (5.0, 2, 1, 2),
        (-0.0, 1.0, 0.0, 0.25),
        *([(0.0, -1.0)] if torch.__version__ >= "2.12" else []),  # torch squares it
        (0.0, 1.0, 0.5, 0.5),
        (0.0, 1.0, -1e-4, 1e-4),
        (0.0, 1e3, -1.0, 1.0),
    ],
}  # fmt: skip


@dtypes
@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name, dtype):
    for arguments, count in itertools.product(PARAMETERS[name], (5, 15, 16, 100, 1000)):
        for make in (
            functools.partial(flat, count, dtype),
            functools.partial(_at(2 * count, lambda m: m.view(-1, 2).t()), dtype),
        ):
            assert_same(name, make, arguments)


@pytest.mark.filterwarnings("ignore:mean is more than 2 std:UserWarning")
@dtypes
@pytest.mark.parametrize("bounds", [(5.0, 6.0), (-8.0, -7.5), (3.0, 3.5)])
def test_far_tails(bounds, dtype):
    for count in (1, 15, 100, 5000):
        assert_same("trunc_normal_", functools.partial(flat, count, dtype), (0.0, 1.0, *bounds))


def test_far_tails_warn_as_torch():
    with (
        pyinit.rng("torch"),
        pytest.warns(UserWarning, match="mean is more than 2 std from"),
    ):
        pyinit.init.trunc_normal_(torch.empty(3), 0.0, 1.0, 5.0, 6.0)


@dtypes
def test_narrow_ranges_hold_values_rounded_up_to_the_end(dtype):
    """The upper bound becomes the lower one, as in torch from 2.12 on."""
    low, high = 1.0, 1.0 + 8 * torch.finfo(dtype).eps
    tensor = torch.empty(10000, dtype=dtype)
    with pyinit.rng("torch"):
        pyinit.init.uniform_(tensor, low, high)
    assert tensor.min() == low
    if torch.__version__ >= "2.12":
        assert tensor.max() < high
    assert_same("uniform_", functools.partial(flat, 10000, dtype), (low, high))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("uniform_", (1.0, 0.0)),
        ("normal_", (0.0, -1.0)),
        ("trunc_normal_", (0.0, 0.0)),
        pytest.param("trunc_normal_", (0.0, 1.0, 2.0, INF), marks=needs_this_torch),
        ("trunc_normal_", (0.0, 1.0, 1e39, 1e40)),
        ("sparse_", (math.nan,)),
    ],
)
@pytest.mark.filterwarnings("ignore:mean is more than 2 std:UserWarning")
def test_what_torch_refuses_is_refused_in_its_words(name, arguments):
    first, second = generator(), generator()
    with pytest.raises(Exception) as theirs:  # noqa: PT011  whatever torch raises
        getattr(THEIRS, name)(torch.empty(4, 4), *arguments, generator=first)
    with pyinit.rng("torch"), pytest.raises(theirs.type) as ours:
        getattr(pyinit.init, name)(torch.empty(4, 4), *arguments, generator=second)
    assert str(ours.value) == str(theirs.value)
    assert torch.equal(first.get_state(), second.get_state())


# ---- Functions made of the fills -------------------------------------------------------------------


WEIGHTS = {
    "matrix": _at(17 * 12, lambda m: m.view(17, 12)),
    "small": _at(6, lambda m: m.view(2, 3)),
    "transposed": _at(17 * 12, lambda m: m.view(17, 12).t()),
    "convolution": _at(8 * 4 * 9, lambda m: m.view(8, 4, 3, 3)),
    "channels last": _at(8 * 4 * 9, lambda m: m.view(8, 3, 3, 4).permute(0, 3, 1, 2)),
}
weights = pytest.mark.parametrize("weight", WEIGHTS)


@dtypes
@weights
@pytest.mark.parametrize("name", ["xavier_uniform_", "xavier_normal_"])
def test_xavier(name, weight, dtype):
    for gain in (1.0, 5 / 3, 0, 2, np.float64(0.3)):
        assert_same(name, functools.partial(WEIGHTS[weight], dtype), (gain,))


@dtypes
@weights
@pytest.mark.parametrize("name", ["kaiming_uniform_", "kaiming_normal_"])
def test_kaiming(name, weight, dtype):
    nonlinearities = ("linear", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu")
    for mode, nonlinearity in itertools.product(("fan_in", "fan_out"), nonlinearities):
        make = functools.partial(WEIGHTS[weight], dtype)
        assert_same(name, make, mode=mode, nonlinearity=nonlinearity)
    for slope in (math.sqrt(5), 0.3, 1, -0.01):
        assert_same(name, functools.partial(WEIGHTS[weight], dtype), (slope,))


@pytest.mark.parametrize(
    "shape", [(40, 7), (7, 40), (12, 12), (1, 5), (5, 1), (8, 4, 3, 3), (0, 3)]
)
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_orthogonal_is_close_and_leaves_the_same_state(shape, dtype, error):
    for gain, phase in itertools.product((1, 1.7), ("fresh", "a cached normal")):
        ours, theirs = torch.empty(shape, dtype=dtype), torch.empty(shape, dtype=dtype)
        first, second = generator(phase), generator(phase)
        with pyinit.rng("torch"):
            pyinit.init.orthogonal_(ours, gain, generator=first)
        THEIRS.orthogonal_(theirs, gain, generator=second)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=error)
        assert torch.equal(first.get_state(), second.get_state())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_orthogonal_refuses_16_bits_as_torch(dtype):
    with pytest.raises(RuntimeError) as theirs:
        THEIRS.orthogonal_(torch.empty(4, 3, dtype=dtype))
    with pyinit.rng("torch"), pytest.raises(RuntimeError) as ours:
        pyinit.init.orthogonal_(torch.empty(4, 3, dtype=dtype))
    assert str(ours.value) == str(theirs.value)


SPARSE_SHAPES = [(1, 1), (1, 9), (9, 1), (4, 4), (40, 17), (17, 40), (625, 33), (3, 0)]


@dtypes
@pytest.mark.parametrize("is_transposed", [False, True])
@pytest.mark.parametrize("given", [False, True])
def test_sparse_places_its_zeros_by_the_default_generator(given, is_transposed, dtype):
    def make(rows: int, columns: int) -> Memory:
        memory = poisoned((rows * columns,), dtype)
        matrix = memory.view(columns, rows).t() if is_transposed else memory.view(rows, columns)
        return memory, matrix

    for shape, sparsity in itertools.product(SPARSE_SHAPES, (0.0, 0.1, 0.5, 1.0)):
        outcomes = []
        for function in (pyinit.init.sparse_, THEIRS.sparse_):
            torch.manual_seed(8)
            torch.rand(600)
            source = generator("a cached normal") if given else None
            memory, matrix = make(*shape)
            with pyinit.rng("torch"):
                function(matrix, sparsity, 0.3, generator=source)
            state = source.get_state() if source is not None else torch.empty(0)
            outcomes.append((bits(memory), torch.get_rng_state(), state))
        for ours, theirs in zip(*outcomes, strict=True):
            assert torch.equal(ours, theirs), (shape, sparsity)


# ---- Generators ----------------------------------------------------------------------------------


@fills
@pytest.mark.parametrize("way", ["natively", "as_shipped"])
def test_the_default_generator(fill, way, request):
    request.getfixturevalue(way)
    name, arguments = FILLS[fill]
    states = []
    for module in (pyinit.init, THEIRS):
        torch.manual_seed(3)
        tensors = [torch.empty(count) for count in (3, 16, 700)]
        with pyinit.rng("torch"):
            for tensor in tensors:
                getattr(module, name)(tensor, *arguments)
        states.append((*map(bits, tensors), torch.get_rng_state()))
    for ours, theirs in zip(*states, strict=True):
        assert torch.equal(ours, theirs)


def test_a_given_generator_leaves_the_default_one_alone():
    before = torch.get_rng_state()
    with pyinit.rng("torch"):
        for name, arguments in FILLS.values():
            getattr(pyinit.init, name)(torch.empty(50), *arguments, generator=generator())
    assert torch.equal(torch.get_rng_state(), before)


@dtypes
@fills
@pytest.mark.parametrize("way", ["natively", "as_shipped"])
def test_a_key_stands_for_the_generator_it_seeds(fill, dtype, way, request):
    request.getfixturevalue(way)
    name, arguments = FILLS[fill]
    ours, theirs = poisoned((50,), dtype), poisoned((50,), dtype)
    with pyinit.rng("torch"):
        getattr(pyinit.init, name)(ours, *arguments, generator=Key(3, 4))
    getattr(THEIRS, name)(theirs, *arguments, generator=for_torch(Key(3, 4), theirs))
    assert torch.equal(bits(ours), bits(theirs))


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, 2**32, 2**63 + 12345, 2**64 - 1, -1])
def test_every_seed(seed):
    def source() -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    for (name, arguments), count in itertools.product(FILLS.values(), (3, 1000)):
        assert_same(name, functools.partial(flat, count, torch.float32), arguments, source)


@pytest.mark.parametrize("way", ["natively", "as_shipped"])
def test_torch_and_pyinit_draw_from_one_generator_in_turn(way, request):
    request.getfixturevalue(way)
    counts = (1, 3, 16, 7, 623, 15, 40, 20000, 5)
    first, second = generator(), generator()
    for turn, (count, dtype) in enumerate(itertools.product(counts, FLOATS)):
        name, arguments = list(FILLS.values())[turn % len(FILLS)]
        ours, theirs = poisoned((count,), dtype), poisoned((count,), dtype)
        with pyinit.rng("torch"):
            getattr(THEIRS if turn % 3 == 1 else pyinit.init, name)(
                ours, *arguments, generator=first
            )
        getattr(THEIRS, name)(theirs, *arguments, generator=second)
        assert torch.equal(bits(ours), bits(theirs))
        assert torch.equal(first.get_state(), second.get_state())
        assert torch.equal(torch.rand(2, generator=first), torch.rand(2, generator=second))


def with_fields(source: torch.Generator, left: int, following: int) -> torch.Generator:
    """A generator of the same words that counts otherwise how many of them are used."""
    state = bytearray(source.get_state().numpy().tobytes())
    struct.pack_into("<i", state, 8, left)
    struct.pack_into("<Q", state, 16, following)
    made = torch.Generator()
    made.set_state(torch.frombuffer(state, dtype=torch.uint8))
    return made


UNKNOWN_STATES = [(3, 5), (624, 624), (1, 5), (600, 0), (624, 0), (1, 623), (600, 26)]


@needs_this_torch
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("left", "following"), UNKNOWN_STATES)
@fills
def test_a_state_that_torch_alone_understands_is_left_to_torch(fill, left, following):
    name, arguments = FILLS[fill]

    # No more than torch reads within its own state.
    count = 16 if fill in ("uniform", "normal") else 1
    for _ in range(2):
        assert_same(
            name,
            functools.partial(flat, min(count, 624 - following), torch.float32),
            arguments,
            lambda: with_fields(generator(), left, following),
            by="torch",
        )
    notes = pyinit.info()["torch_fallbacks"]
    assert sum("state is not that of torch's MT19937" in note for note in notes) == 1


@fills
def test_the_count_of_a_seed_over_used_words_is_understood(fill, left_to_torch):
    name, arguments = FILLS[fill]
    for count in (1, 16, 700):
        assert_same(
            name,
            functools.partial(flat, count, torch.float32),
            arguments,
            lambda: with_fields(generator("622 words used"), 1, 0),
        )
    if torch.__version__ >= "2.13":
        assert not left_to_torch


class ElsewhereGenerator(torch.Generator):
    """A generator of this machine's CPU that says it is of another device."""

    device = torch.device("cuda")


@pytest.mark.usefixtures("unchecked")
@fills
def test_a_generator_of_another_device_is_left_to_torch(fill):
    name, arguments = FILLS[fill]

    def source() -> torch.Generator:
        made = ElsewhereGenerator()
        made.manual_seed(3)
        return made

    for _ in range(2):
        assert_same(name, functools.partial(flat, 20, torch.float32), arguments, source, by="torch")
    assert pyinit.info()["torch_fallbacks"] == ["generators of device cuda"]


# ---- Instruction sets and threads ------------------------------------------------------------------


@dtypes
@fills
def test_instruction_sets_and_threads_make_no_difference(fill, dtype, isa, set_threads):
    name, arguments = FILLS[fill]
    size = 1 << 13 if fill.endswith(("tail", "narrow")) else 1 << 17
    shapes = {
        "contiguous": _at(size + 3, lambda m: m),
        "transposed": _at(size // 2, lambda m: m.view(-1, 64).t()),
    }
    for make in shapes.values():
        expected, tensor = make(dtype)
        getattr(THEIRS, name)(tensor, *arguments, generator=generator("622 words used"))
        for threads in (1, 2, 3, 8):
            set_threads(threads)
            got, tensor = make(dtype)
            with pyinit.rng("torch"):
                getattr(pyinit.init, name)(
                    tensor, *arguments, generator=generator("622 words used")
                )
            assert torch.equal(bits(got), bits(expected)), threads
        set_threads(2)


def test_sparse_does_not_depend_on_instruction_sets_and_threads(isa, set_threads):
    results = []
    for threads in (1, 2, 3, 8):
        set_threads(threads)
        torch.manual_seed(1)
        with pyinit.rng("torch"):
            results.append(pyinit.init.sparse_(torch.full((700, 300), math.nan), 0.3))
    torch.manual_seed(1)
    expected = THEIRS.sparse_(torch.empty(700, 300), 0.3)
    assert all(torch.equal(bits(result), bits(expected)) for result in results)


# ---- Any tensor, any parameters ---------------------------------------------------------------------


@st.composite
def memories(draw: st.DrawFn) -> Callable[[], Memory]:
    """Non-overlapping tensors: dimensions in any order, any steps and gaps, anywhere in memory."""
    dtype = draw(st.sampled_from(FLOATS))
    dimensions = draw(st.integers(0, 4))
    shape = [draw(st.integers(0, 40 if dimensions < 3 else 9)) for _ in range(dimensions)]
    strides = [0] * dimensions
    extent = 1
    for dimension in draw(st.permutations(range(dimensions))):
        strides[dimension] = extent * draw(st.sampled_from((1, 1, 1, 2, 3)))
        extent = strides[dimension] * max(shape[dimension], 1) + draw(st.sampled_from((0, 0, 1, 5)))
    first = draw(st.integers(0, 5))

    def make() -> Memory:
        memory = poisoned((first + extent + 3,), dtype)
        return memory, memory.as_strided(shape, strides, first)

    return make


@st.composite
def sources(draw: st.DrawFn) -> Callable[[], torch.Generator]:
    seed = draw(st.integers(0, 2**64 - 1))
    before = draw(st.integers(0, 1300))
    is_cached = draw(st.booleans())

    def make() -> torch.Generator:
        made = torch.Generator().manual_seed(seed)
        torch.empty(before).uniform_(generator=made)
        if is_cached:
            torch.empty(1).normal_(generator=made)
        return made

    return make


reals = st.floats(-3e4, 3e4) | st.floats(-1, 1) | st.floats(-1e-30, 1e-30)
widths = st.floats(0, 100) | st.floats(0, 1e-3) | st.sampled_from((0.0, 1.0, 1e-40))
standard_bounds = st.sampled_from(
    [(-2, 2), (-INF, 0.5), (-0.6, INF), (-1, 0.4), (0, 1), (-0.1, 0.1), (1, 2), (2, 2.5), (-2, -1)]
)


@st.composite
def truncations(draw: st.DrawFn) -> tuple[float, ...]:
    mean, std = draw(st.floats(-2, 2)), draw(st.floats(0.05, 3))
    low, high = draw(standard_bounds)
    return mean, std, mean + low * std, mean + high * std


CALLS = st.one_of(
    st.tuples(st.just("uniform_"), st.tuples(reals, reals).map(lambda p: tuple(sorted(p)))),
    st.tuples(st.just("normal_"), st.tuples(reals, widths)),
    st.tuples(st.just("trunc_normal_"), truncations()),
)


@pytest.mark.filterwarnings("ignore:mean is more than 2 std:UserWarning")
@settings(max_examples=1500, derandomize=True, deadline=None, database=None)
@given(call=CALLS, make=memories(), source=sources())
def test_any_call_on_any_tensor(call, make, source):
    name, arguments = call
    assert_same(name, make, arguments, source, by=None)


# ---- The installed torch draws other numbers --------------------------------------------------------


Case = torch_cases.Case
# Where each case stands, and a call that uses it.
CASES: dict[str, tuple[str, bool | None, str, tuple[Any, ...], tuple[int, ...]]] = {
    "uniform_": ("UNIFORM", None, "uniform_", (), (20,)),
    "normal_, contiguous": ("NORMAL", True, "normal_", (), (20,)),
    "normal_, small or strided": ("NORMAL", False, "normal_", (), (9,)),
    "trunc_normal_, contiguous": ("TRUNC_NORMAL", True, "trunc_normal_", (), (20,)),
    "trunc_normal_, small or strided": ("TRUNC_NORMAL", False, "trunc_normal_", (), (9,)),
    "sparse_, contiguous": ("SPARSE", True, "sparse_", (0.3,), (8, 6)),
    "sparse_, small or strided": ("SPARSE", False, "sparse_", (0.3,), (3, 4)),
}
if hasattr(torch_cases, "REJECT_TRUNC_NORMAL"):
    CASES[torch_cases.REJECT_TRUNC_NORMAL.name] = (
        "REJECT_TRUNC_NORMAL",
        None,
        "trunc_normal_",
        (0.0, 1.0, 2.0, 3.0),
        (20,),
    )
cases = pytest.mark.parametrize("case", CASES)


def replace_torchs(
    monkeypatch: pytest.MonkeyPatch, case: str, change: Callable[[Case], Callable[..., object]]
) -> None:
    attribute, key, *_ = CASES[case]
    held = getattr(torch_cases, attribute)
    old: Case = held if key is None else held[key]
    new = old._replace(torchs=change(old))
    if key is None:
        monkeypatch.setattr(torch_cases, attribute, new)
    else:
        monkeypatch.setitem(held, key, new)


def other_bit(dtype: torch.dtype, old: Case) -> Callable[..., object]:
    """A torch whose last element differs in its last bit, in one dtype."""

    def torchs(tensor: torch.Tensor, parameters: Any, source: torch.Generator) -> None:
        old.torchs(tensor, parameters, source)
        if tensor.dtype == dtype:
            place = (-1,) * tensor.dim()
            bits(tensor)[place] ^= 1

    return torchs


def other_state(dtype: torch.dtype, old: Case) -> Callable[..., object]:
    """A torch that draws one number more, in one dtype."""

    def torchs(tensor: torch.Tensor, parameters: Any, source: torch.Generator) -> None:
        old.torchs(tensor, parameters, source)
        if tensor.dtype == dtype:
            torch.rand((), generator=source)

    return torchs


def refusing(dtype: torch.dtype, old: Case) -> Callable[..., object]:
    """A torch that refuses one dtype."""

    def torchs(tensor: torch.Tensor, parameters: Any, source: torch.Generator) -> None:
        if tensor.dtype == dtype:
            raise NotImplementedError
        old.torchs(tensor, parameters, source)

    return torchs


def call_case(case: str, dtype: torch.dtype, module: Any = pyinit.init) -> tuple[torch.Tensor, ...]:
    """Numbers and states after a call that uses the case."""
    _, _, name, arguments, shape = CASES[case]
    torch.manual_seed(2)
    source = generator()
    tensor = torch.full(shape, math.nan, dtype=dtype)
    with pyinit.rng("torch"):
        getattr(module, name)(tensor, *arguments, generator=source)
    return bits(tensor), source.get_state(), torch.get_rng_state()


@needs_this_torch
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("change", [other_bit, other_state, refusing])
@dtypes
@cases
def test_a_torch_that_differs_draws_itself(case, dtype, change, monkeypatch, left_to_torch):
    replace_torchs(monkeypatch, case, functools.partial(change, dtype))
    for _ in range(2):
        left_to_torch.clear()
        for ours, theirs in zip(
            call_case(case, dtype), call_case(case, dtype, THEIRS), strict=True
        ):
            assert torch.equal(ours, theirs)
        assert left_to_torch == [CASES[case][2]]
    short = str(dtype).removeprefix("torch.")
    expected = f"{case}, {short}: torch {torch.__version__} draws other numbers"
    assert pyinit.info()["torch_fallbacks"] == [expected]


@needs_this_torch
@pytest.mark.usefixtures("unchecked")
@cases
def test_other_cases_go_on_where_one_differs(case, monkeypatch, left_to_torch):
    replace_torchs(monkeypatch, case, functools.partial(other_bit, torch.float32))
    for other, dtype in itertools.product(CASES, FLOATS):
        if (other, dtype) == (case, torch.float32):
            continue
        for ours, theirs in zip(
            call_case(other, dtype), call_case(other, dtype, THEIRS), strict=True
        ):
            assert torch.equal(ours, theirs)
    assert not left_to_torch
    assert pyinit.info()["torch_fallbacks"] == []


@needs_this_torch
@pytest.mark.usefixtures("unchecked")
def test_this_torch_is_followed_in_every_case(left_to_torch):
    for case, dtype in itertools.product(CASES, FLOATS):
        call_case(case, dtype)
    assert not left_to_torch
    assert pyinit.info()["torch_fallbacks"] == []


@pytest.mark.usefixtures("unchecked")
def test_the_check_draws_from_no_generator_of_the_program():
    before = torch.get_rng_state()
    for case, dtype in itertools.product(CASES, FLOATS):
        if not case.startswith("sparse_"):
            with pyinit.rng("torch"):
                _, _, name, arguments, shape = CASES[case]
                tensor = torch.empty(shape, dtype=dtype)
                getattr(pyinit.init, name)(tensor, *arguments, generator=generator())
    assert torch.equal(torch.get_rng_state(), before)


FORMULAS = [
    ("xavier_uniform_", ()),
    ("xavier_normal_", ()),
    ("kaiming_uniform_", (0.2,)),
    ("kaiming_normal_", (0.2,)),
    ("orthogonal_", ()),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("name", "arguments"), FORMULAS)
def test_a_torch_of_another_formula_computes_itself(name, arguments, monkeypatch):
    torchs = getattr(THEIRS, name)

    def half_as_wide(tensor: torch.Tensor, *args: Any, **keywords: Any) -> torch.Tensor:
        torchs(tensor, *args, **keywords)
        with torch.no_grad():
            return tensor.mul_(0.5)

    monkeypatch.setattr(THEIRS, name, half_as_wide)
    for _ in range(2):
        assert_same(
            name, functools.partial(WEIGHTS["matrix"], torch.float32), arguments, by="torch"
        )
    others = [other for other, _ in FORMULAS if other not in (name, "orthogonal_")]
    for other in others:
        assert_same(other, functools.partial(WEIGHTS["matrix"], torch.float32))
    notes = [note for note in pyinit.info()["torch_fallbacks"] if "otherwise" in note]
    assert notes == [f"{name}: torch {torch.__version__} computes it otherwise"]


# Ways of rounding that give the same numbers: in doubles there is no vector code, and a uniform
# number is a product and a sum. The serial normals of other dtypes are rounded from doubles.
ALIKE = {
    ("UNIFORM", None): {dtype: {(0, 1)} for dtype in FLOATS},
    ("NORMAL", True): {
        torch.float64: {(0, 1)},
        torch.float32: set(),
        torch.float16: set(),
        torch.bfloat16: set(),
    },
    ("NORMAL", False): {torch.float64: {(0, 1)}},
}


@pytest.mark.parametrize(
    ("attribute", "key", "dtype"),
    [(*where, dtype) for where, of_dtype in ALIKE.items() for dtype in of_dtype],
)
def test_the_check_tells_the_ways_of_rounding_apart(attribute, key, dtype):
    held = getattr(torch_cases, attribute)
    case: Case = held if key is None else held[key]

    def drawn(way: int) -> torch.Tensor:
        results = []
        for seed in case.seeds:
            state = torch.Generator().manual_seed(seed).get_state()
            states = state.data_ptr(), state.data_ptr()  # before and after
            for sample, parameters in itertools.product(case.samples, case.parameters):
                tensor = sample(dtype)
                view = torch_cases.writable_flat_view(tensor)
                assert view is not None
                assert case.ours(tensor, view, parameters, states, way)
                results.append(bits(tensor.contiguous()).flatten())
        return torch.cat(results)

    ways = [drawn(way) for way in range(_core.TORCH_ARITHMETICS)]
    pairs = itertools.combinations(range(len(ways)), 2)
    assert {(a, b) for a, b in pairs if torch.equal(ways[a], ways[b])} == ALIKE[attribute, key][
        dtype
    ]


# ---- Several threads, forks, compiled code ----------------------------------------------------------


@pytest.fixture
def hurried_threads() -> Iterator[None]:
    """Python changes threads as often as it can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def run_threads(count: int, work: Callable[[int], None]) -> None:
    start = threading.Barrier(count)

    def run(k: int) -> None:
        start.wait()
        with pyinit.rng("torch"):
            work(k)

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(run, range(count)))


@pytest.mark.usefixtures("hurried_threads")
@pytest.mark.parametrize(("name", "size", "draws"), [
    ("uniform_", 8, 3000),
    ("normal_", 20, 3000),
    ("uniform_", 20000, 40),
    ("normal_", 20000, 20),
])  # fmt: skip
@pytest.mark.parametrize("way", ["natively", "as_shipped"])
def test_threads_that_share_a_generator_draw_what_one_would(name, size, draws, way, request):
    request.getfixturevalue(way)
    shared, serial = generator(), generator()
    drawn: list[list[torch.Tensor]] = [[] for _ in range(4)]

    def work(k: int) -> None:
        for _ in range(draws):
            drawn[k].append(getattr(pyinit.init, name)(torch.empty(size), generator=shared))

    run_threads(4, work)
    expected = [
        getattr(THEIRS, name)(torch.empty(size), generator=serial) for _ in range(4 * draws)
    ]
    assert torch.equal(shared.get_state(), serial.get_state())
    assert sorted(t.tolist() for ts in drawn for t in ts) == sorted(t.tolist() for t in expected)


@pytest.mark.usefixtures("hurried_threads")
@pytest.mark.parametrize("size", [8, 20000])
def test_threads_of_torch_and_pyinit_leave_one_generator_whole(size):
    """They may draw the same numbers, but no others than the generator's, and it goes on."""
    shared, serial = generator(), generator()
    draws = 40
    drawn: list[list[torch.Tensor]] = [[] for _ in range(4)]

    def work(k: int) -> None:
        module = THEIRS if k % 2 else pyinit.init
        for _ in range(draws):
            drawn[k].append(module.uniform_(torch.empty(size), generator=shared))

    run_threads(4, work)
    states, expected = [], set()
    for _ in range(4 * draws):
        expected.add(tuple(THEIRS.uniform_(torch.empty(size), generator=serial).tolist()))
        states.append(serial.get_state())
    assert any(torch.equal(shared.get_state(), state) for state in states)
    assert {tuple(t.tolist()) for ts in drawn for t in ts} <= expected


@pytest.mark.usefixtures("hurried_threads", "unchecked")
@pytest.mark.parametrize("size", [9, 40, 20000])
def test_threads_with_generators_of_their_own_draw_as_alone(size):
    drawn: list[list[torch.Tensor]] = [[] for _ in range(4)]
    calls = [FILLS[fill] for fill in ABOVE_30_PERCENT] * 5

    def work(k: int) -> None:
        own = generator(seed=k)
        for name, arguments in calls:
            drawn[k].append(
                getattr(pyinit.init, name)(torch.empty(size), *arguments, generator=own)
            )

    run_threads(4, work)
    for k, tensors in enumerate(drawn):
        own = generator(seed=k)
        for tensor, (name, arguments) in zip(tensors, calls, strict=True):
            expected = getattr(THEIRS, name)(torch.empty(size), *arguments, generator=own)
            assert torch.equal(bits(tensor), bits(expected))


def _draw_and_exit(expected: list[bytes]) -> None:
    source = generator()
    with pyinit.rng("torch"):
        drawn = [pyinit.init.normal_(torch.empty(size), generator=source) for size in (7, 1 << 17)]
    # By no operation of torch that takes threads: these have stayed in the parent.
    os._exit(0 if [tensor.numpy().tobytes() for tensor in drawn] == expected else 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_draws_the_same(set_threads):
    set_threads(2)
    source = generator()
    drawn = [THEIRS.normal_(torch.empty(size), generator=source) for size in (7, 1 << 17)]
    expected = [tensor.numpy().tobytes() for tensor in drawn]
    with pyinit.rng("torch"):
        pyinit.init.normal_(torch.empty(1 << 17))  # threads exist from here on
    context = multiprocessing.get_context("fork")
    child = context.Process(target=_draw_and_exit, args=(expected,))
    child.start()
    child.join(60)
    if child.is_alive():
        child.kill()
    assert child.exitcode == 0


@pytest.mark.parametrize("fill", ABOVE_30_PERCENT)
def test_compiled_code_draws_the_same(fill):
    name, arguments = FILLS[fill]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch._dynamo  # noqa: PLC0415

        def program(tensor: torch.Tensor) -> torch.Tensor:
            return getattr(pyinit.init, name)(tensor * 1, *arguments) + 1

        compiled = torch.compile(program, backend="eager")
        torch.manual_seed(4)
        with pyinit.rng("torch"):
            got = compiled(torch.zeros(50))
        torch._dynamo.reset()
    torch.manual_seed(4)
    expected = getattr(THEIRS, name)(torch.zeros(50), *arguments) + 1
    after = torch.get_rng_state()
    assert torch.equal(bits(got), bits(expected))
    torch.manual_seed(4)
    with pyinit.rng("torch"):
        getattr(pyinit.init, name)(torch.zeros(50), *arguments)
    assert torch.equal(after, torch.get_rng_state())
