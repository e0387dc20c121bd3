"""The fills with a key of one's own, and what every fill promises about memory."""

import itertools
import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from dtypes import FLOATS
from hypothesis import given, settings

import pyinit
from pyinit import fill, init
from pyinit._random.rng import Key

DRAWS = {
    "uniform": (-1.0, 2.0),
    "normal": (0.5, 2.0),
    "trunc_normal": (0.0, 1.0, -1.0, 0.5),
    "bernoulli": (0.3,),
}
POISON = 77.0


def drawn(name: str, out, **kwargs):
    return getattr(fill, name)(out, *DRAWS[name], **{"key": 5, "stream": 9, **kwargs})


# -- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DRAWS)
def test_returns_what_it_was_given(name):
    for out in (torch.empty(3), np.empty(3, np.float32)):
        assert drawn(name, out) is out
        assert fill.constant(out, 2.0) is out
        assert (out == 2).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", DRAWS)
def test_array_and_tensor_get_the_same_bits(name, dtype):
    tensor = torch.empty(5, 7, dtype=dtype)
    assert torch.equal(torch.from_numpy(drawn(name, tensor.numpy().copy())), drawn(name, tensor))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", DRAWS)
def test_key_and_stream_choose_the_numbers(name, dtype):
    first, again, other_key, other_stream = (
        drawn(name, torch.empty(500, dtype=dtype), **choice)
        for choice in ({}, {}, {"key": 6}, {"stream": 10})
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other_key)
    assert not torch.equal(first, other_stream)
    assert not torch.equal(other_key, other_stream)


@pytest.mark.parametrize("word", [0, 1, 2**32, 2**63, 2**64 - 1, np.uint64(2**64 - 1), np.int8(3)])
def test_every_key_and_stream_of_64_bits_is_taken(word):
    assert fill.uniform(torch.full((4,), POISON), key=word, stream=word).max() < 1


@pytest.mark.parametrize("dtype", FLOATS)
def test_distributions(dtype):
    n = 50000
    uniform = fill.uniform(torch.empty(n, dtype=dtype), -1.0, 3.0, key=1).double()
    assert uniform.mean().item() == pytest.approx(1.0, abs=0.03)
    assert uniform.min() >= -1
    assert uniform.max() <= 3
    normal = fill.normal(torch.empty(n, dtype=dtype), 2.0, 0.5, key=1).double()
    assert normal.mean().item() == pytest.approx(2.0, abs=0.02)
    assert normal.std().item() == pytest.approx(0.5, rel=0.02)
    truncated = fill.trunc_normal(torch.empty(n, dtype=dtype), 0, 1, 0, math.inf, key=1).double()
    assert truncated.min() >= 0
    assert truncated.mean().item() == pytest.approx(math.sqrt(2 / math.pi), rel=0.02)
    mask = fill.bernoulli(torch.empty(n, dtype=dtype), 0.3, key=1).double()
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert mask.mean().item() == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("bounds", [(-0.6, 0.7), (0.1, 0.3), (-1.1, -0.3)], ids=str)
@pytest.mark.parametrize("dtype", FLOATS)
def test_no_truncated_normal_is_outside_its_bounds(dtype, bounds, isa):
    # Of which no 16-bit type holds one: rounded to nearest, the last values would be outside.
    out = fill.trunc_normal(torch.empty(1 << 18, dtype=dtype), 0.0, 1.0, *bounds, key=3)
    assert bounds[0] <= out.min().item()
    assert out.max().item() <= bounds[1]


@pytest.mark.parametrize(("probability", "value"), [(0, 0.0), (1, 1.0)])
def test_certain_bernoulli(probability, value):
    assert (fill.bernoulli(torch.empty(999), probability, key=3) == value).all()


@pytest.mark.parametrize("value", [math.inf, -math.inf, 0, -2.5, np.float32(1.5)])
def test_constant(value):
    assert (fill.constant(torch.empty(3, 2).t(), value) == value).all()
    assert fill.constant(torch.empty(3), math.nan).isnan().all()


def test_tensor_write_bumps_the_version_counter():
    weight = torch.ones(3, requires_grad=True)
    loss = weight.square().sum()
    fill.normal(weight.detach(), key=1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.usefixtures("isa")
def test_an_element_does_not_depend_on_its_neighbours():
    for name, dtype in itertools.product(DRAWS, FLOATS):
        out = drawn(name, torch.empty(103, dtype=dtype))
        alone = torch.stack(
            [
                drawn(name, torch.empty(1, dtype=dtype), whole=(103,), start=(i,))[0]
                for i in range(103)
            ]
        )
        assert torch.equal(out, alone)


# -- blocks of a larger tensor ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", DRAWS)
def test_shards_assemble_to_the_whole(name, dtype):
    whole = (6, 5, 8)
    expected = drawn(name, torch.empty(whole, dtype=dtype))
    assembled = torch.full(whole, POISON, dtype=dtype)
    for i, j, k in itertools.product((0, 2), (0, 1), (0, 3)):
        part = assembled[i : i + (2, 4)[i > 0], j : j + (1, 4)[j > 0], k : k + (3, 5)[k > 0]]
        drawn(name, part, whole=whole, start=(i, j, k))
    assert torch.equal(assembled, expected)


@pytest.mark.parametrize("columns", [1, 2, 3, 5, 8, 31, 64, 127, 129, 300, 500, 2049])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.usefixtures("isa")
def test_columns_of_any_width_are_those_of_the_whole(dtype, columns):
    rows, first = 70, 7
    whole = (rows, columns + 11)
    for name in DRAWS:
        expected = drawn(name, torch.empty(whole, dtype=dtype))[:, first : first + columns]
        around = torch.full((rows * columns + 64,), POISON, dtype=dtype)
        for block in (
            around[32:-32].view(rows, columns),
            around[32:-32].view(columns, rows).T,
            torch.empty(rows, columns + 1, dtype=dtype)[:, 1:],
        ):
            drawn(name, block, whole=whole, start=(0, first))
            assert torch.equal(block, expected), name
        assert (around[:32] == POISON).all()
        assert (around[-32:] == POISON).all()


def test_start_is_the_origin_by_default():
    block = drawn("normal", torch.empty(2, 3), whole=(5, 7))
    assert torch.equal(block, drawn("normal", torch.empty(5, 7))[:2, :3])


def test_block_deep_in_a_tensor_larger_than_memory():
    whole, row = (1 << 40, 1 << 20), (1 << 40) - 1
    block = drawn("uniform", torch.empty(1, 64), whole=whole, start=(row, 1 << 19))
    again = drawn("uniform", torch.empty(1, 32), whole=whole, start=(row, (1 << 19) + 32))
    assert torch.equal(block[:, 32:], again)


def test_scalar_and_empty_blocks():
    assert drawn("uniform", torch.empty(()), whole=(), start=()).shape == ()
    assert drawn("uniform", torch.empty(0, 3), whole=(4, 3), start=(4, 0)).shape == (0, 3)


# -- memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", [*DRAWS, "constant"])
def test_fills_of_every_size_write_nothing_around(name, dtype, isa):
    for size in (*range(71), 127, 129, 255, 257):
        for first in (16, 17):
            memory = torch.full((size + 64,), POISON, dtype=dtype)
            out = memory[first : first + size]
            fill.constant(out, -1.5) if name == "constant" else drawn(name, out)
            assert (memory[:first] == POISON).all()
            assert (memory[first + size :] == POISON).all(), size
            assert (out != POISON).all(), size


@st.composite
def views(draw):
    """A view of poisoned memory, with a mask of what of that memory belongs to it."""
    dtype = draw(st.sampled_from(FLOATS))
    sizes = draw(st.lists(st.integers(0, 9), min_size=0, max_size=4))
    steps = [draw(st.integers(1, 3)) for _ in sizes]
    margins = [draw(st.integers(0, 2)) for _ in sizes]
    order = draw(st.permutations(range(len(sizes))))
    offset = draw(st.integers(0, 5))
    room = [size * step + margin for size, step, margin in zip(sizes, steps, margins, strict=True)]
    memory = torch.full((offset + math.prod(room) + 5,), POISON, dtype=dtype)
    inside = torch.zeros(memory.shape, dtype=torch.bool)

    def view(base: torch.Tensor) -> torch.Tensor:
        block = base[offset : offset + math.prod(room)].view([room[axis] for axis in order])
        block = block.permute([order.index(axis) for axis in range(len(order))])
        for axis, (size, step, margin) in enumerate(zip(sizes, steps, margins, strict=True)):
            block = block.narrow(axis, margin, size * step)
            block = block[(slice(None),) * axis + (slice(None, None, step),)]
        return block

    view(inside).fill_(value=True)
    return view(memory), memory, inside


FILLS = st.one_of(
    st.tuples(
        st.just("uniform_"),
        st.tuples(st.floats(-9, 0), st.floats(0, 9)),
    ),
    st.tuples(st.just("normal_"), st.tuples(st.floats(-9, 9), st.floats(0, 9))),
    st.tuples(
        st.just("trunc_normal_"),
        st.tuples(st.floats(-1, 1), st.floats(0.1, 9), st.floats(-9, -1), st.floats(1, 9)),
    ),
    st.tuples(st.just("constant_"), st.tuples(st.floats(-9, 9))),
)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    place=views(),
    fill_call=FILLS,
    key=st.builds(Key, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)),
    threads=st.integers(1, 3),
)
def test_any_view_holds_what_a_contiguous_tensor_would(place, fill_call, key, threads):
    """Shape, strides and offset change where numbers stand, not which; memory around is left."""
    view, memory, inside = place
    name, arguments = fill_call
    generator = {} if name == "constant_" else {"generator": key}
    usual = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        contiguous = torch.full(view.shape, POISON, dtype=view.dtype)
        getattr(init, name)(contiguous, *arguments, **generator)
        getattr(init, name)(view, *arguments, **generator)
    finally:
        torch.set_num_threads(usual)
    assert torch.equal(view, contiguous)
    assert (memory[~inside] == POISON).all()
    assert not (contiguous == POISON).any()


@pytest.mark.parametrize("name", ["uniform_", "normal_", "trunc_normal_", "kaiming_uniform_"])
@pytest.mark.parametrize(
    "layout",
    [
        lambda t: t.contiguous(memory_format=torch.channels_last),
        lambda t: t.transpose(0, 3),
        lambda t: t[::2],
        lambda t: t[..., 1:-1],
        lambda t: t.flip(1).as_strided(t.shape, t.stride()),
    ],
    ids=["channels_last", "transposed", "stepped", "sliced", "offset"],
)
def test_large_layouts_equal_contiguous(name, layout):
    view = layout(torch.empty(70, 30, 31, 33))
    contiguous = torch.empty(view.shape)
    for tensor in (view, contiguous):
        getattr(pyinit, name)(tensor, generator=Key(8))
    assert torch.equal(view, contiguous)


def test_reversed_array_is_filled_in_its_own_order():
    backwards = np.empty((4, 6), np.float32)[::-1, ::-2]
    drawn("normal", backwards)
    assert np.array_equal(backwards, drawn("normal", np.empty((4, 3), np.float32)))


def test_memory_mapped_file_is_filled(tmp_path):
    mapped = np.memmap(tmp_path / "weights", np.float32, "w+", shape=(8, 4))
    drawn("normal", mapped)
    assert np.array_equal(mapped, drawn("normal", np.empty((8, 4), np.float32)))


# -- bad input -------------------------------------------------------------------------------------


def read_only() -> np.ndarray:
    array = np.full(3, POISON, np.float32)
    array.flags.writeable = False
    return array


def misaligned() -> np.ndarray:
    return np.frombuffer(bytearray(17), np.uint8)[1:].view(np.float32)


BAD_OUT = [
    ([1.0], TypeError, "out must be a torch.Tensor or a numpy.ndarray, got list"),
    (None, TypeError, "got NoneType"),
    (np.float32(1), TypeError, "got float32"),
    (np.ma.ones(3), TypeError, "got MaskedArray"),
    (np.zeros(3, int), TypeError, "dtype float16, bfloat16, float32 or float64 .* got int64"),
    (np.zeros(3, complex), TypeError, "got complex128"),
    (np.zeros(3, ">f4"), TypeError, "native byte order, got >f4"),
    (read_only(), ValueError, "out must be writable, got a read-only array"),
    (
        np.lib.stride_tricks.as_strided(np.zeros(9, "f4"), (3, 3), (4, 4)),
        ValueError,
        "share memory",
    ),
    (np.zeros(3, [("a", "i2"), ("b", "f4")])["b"], ValueError, "aligned to its elements"),
    (misaligned(), ValueError, "aligned to its elements"),
    (torch.zeros(3, dtype=torch.int32), TypeError, "one of the dtypes .* got torch.int32"),
    (torch.zeros(3, dtype=torch.complex64), TypeError, "got torch.complex64"),
    (torch.zeros(3, device="meta"), ValueError, "on the CPU, got device meta"),
    (torch.eye(3).to_sparse(), ValueError, "strided, got layout torch.sparse_coo"),
    (torch.zeros(1).expand(3), ValueError, r"share memory, got strides \(0,\)"),
    (torch.zeros(3).as_subclass(type("Mine", (torch.Tensor,), {})), TypeError, "got Mine"),
    (torch.zeros(3)._neg_view(), TypeError, "plain tensor"),
]
BAD_ARGUMENTS = [
    ("uniform", {"low": math.nan}, ValueError, "low must be finite, got nan"),
    ("uniform", {"high": math.inf}, ValueError, "high must be finite, got inf"),
    ("uniform", {"low": 2.0}, ValueError, "low must be at most high, got low=2.0 and high=1.0"),
    ("uniform", {"low": -3e38, "high": 3e38}, ValueError, "high - low must be at most"),
    ("uniform", {"low": "0"}, TypeError, "low must be a real number, got '0'"),
    ("uniform", {"low": True}, TypeError, "low must be a real number, got True"),
    ("uniform", {"high": 1j}, TypeError, "high must be a real number"),
    ("uniform", {"high": 10**400}, ValueError, "high must fit a double"),
    ("normal", {"mean": math.inf}, ValueError, "mean must be finite, got inf"),
    ("normal", {"std": math.nan}, ValueError, "std must be finite, got nan"),
    ("normal", {"std": -1.0}, ValueError, "std must be at least 0, got -1.0"),
    ("normal", {"std": 1e39}, ValueError, "std must be within"),
    ("trunc_normal", {"std": 0.0}, ValueError, "std must be above 0, got 0.0"),
    ("trunc_normal", {"mean": math.nan}, ValueError, "mean must be finite"),
    ("trunc_normal", {"low": math.nan}, ValueError, "low must be at most high"),
    ("trunc_normal", {"low": 3.0}, ValueError, "low must be at most high"),
    ("trunc_normal", {"low": 1e39, "high": math.inf}, ValueError, "leave room"),
    ("bernoulli", {"probability": 1.5}, ValueError, r"probability must be in \[0, 1\], got 1.5"),
    ("bernoulli", {"probability": math.nan}, ValueError, "probability must be in"),
    ("bernoulli", {"probability": None}, TypeError, "probability must be a real number"),
    *(
        (name, arguments, error, text)
        for name in DRAWS
        for arguments, error, text in [
            ({"key": -1}, ValueError, r"key must be in \[0, 2\^64\), got -1"),
            ({"key": 2**64}, ValueError, "key must be in"),
            ({"key": 1.0}, TypeError, "key must be an integer, got 1.0"),
            ({"key": True}, TypeError, "key must be an integer, got True"),
            ({"stream": -1}, ValueError, "stream must be in"),
            ({"stream": None}, TypeError, "stream must be an integer, got None"),
            ({"start": (0, 0)}, ValueError, "needs whole"),
            ({"whole": (4,)}, ValueError, "whole must have 2 entries"),
            ({"whole": 4}, TypeError, "whole must be a sequence of integers, got 4"),
            ({"whole": (4.0, 4)}, TypeError, "whole must be an integer, got 4.0"),
            ({"whole": (4, 4), "start": (1,)}, ValueError, "start must have 2 entries"),
            ({"whole": (4, 4), "start": (0, 2)}, ValueError, "must lie inside"),
            ({"whole": (4, 4), "start": (-1, 0)}, ValueError, "must lie inside"),
            ({"whole": (1, 4)}, ValueError, "must lie inside"),
            ({"whole": (2**40, 2**40)}, ValueError, r"fewer than 2\^63 elements"),
        ]
    ),
]


@pytest.mark.parametrize(("out", "error", "text"), BAD_OUT)
@pytest.mark.parametrize("name", [*DRAWS, "constant"])
def test_bad_out_is_refused(name, out, error, text):
    arguments = (1.0,) if name == "constant" else ()
    keyword = {} if name == "constant" else {"key": 1}
    with pytest.raises(error, match=text):
        getattr(fill, name)(out, *arguments, **keyword)


@pytest.mark.parametrize(("name", "arguments", "error", "text"), BAD_ARGUMENTS)
def test_bad_argument_is_refused_untouched(name, arguments, error, text):
    out = torch.full((2, 3), POISON)
    with pytest.raises(error, match=text):
        getattr(fill, name)(out, **{"key": 1, **arguments})
    assert (out == POISON).all()


@pytest.mark.parametrize("value", [1e39, -70000.0, "1", None, 1j, True])
def test_bad_constant_is_refused_untouched(value):
    out = torch.full((3,), POISON, dtype=torch.float16)
    with pytest.raises((ValueError, TypeError), match="value must"):
        fill.constant(out, value)
    assert (out == POISON).all()


def test_key_is_required():
    with pytest.raises(TypeError, match="key"):
        fill.uniform(torch.empty(3))
