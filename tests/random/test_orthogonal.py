"""Orthogonal matrices: the numbers of docs/random.md, in every layout, by any number of threads.

``pytest -rA`` shows the p-values of the tests of their distribution.
"""

import itertools
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import reference
import torch
import torch.nn.functional as F  # noqa: N812
from bits import digest
from dtypes import FLOATS
from numpy.typing import NDArray
from poison import poisoned
from scipy import stats
from torch import nn

import pyinit
from pyinit import _core, fill
from pyinit._random.rng import Key

KEY = Key(0x0123456789ABCDEF, 3)
HALVES = [torch.float16, torch.bfloat16]
FULL = [torch.float32, torch.float64]
ERROR = {torch.float32: 5e-6, torch.float64: 1e-13}  # of an element
ORTHOGONALITY = {torch.float32: 5e-6, torch.float64: 2e-14}  # max |QtQ - I|
FROBENIUS = {torch.float32: 2e-6, torch.float64: 4e-15}  # times sqrt(n)

SQUARES = [(n, n) for n in (*range(1, 34), 47, 48, 63, 64, 65, 95, 96, 97, 127, 128, 129, 193)]
OTHERS = [(1, 9), (9, 1), (200, 3), (3, 200), (300, 97), (97, 300), (130, 129), (129, 130)]
CONVOLUTIONS = [(8, 3, 5), (40, 3, 3, 3), (16, 8, 3, 3), (6, 5, 2, 3, 4), (200, 2, 3, 3, 3)]


def filled(
    shape: tuple[int, ...], dtype: torch.dtype = torch.float32, **kwargs: Any
) -> torch.Tensor:
    return pyinit.orthogonal_(poisoned(shape, dtype), **{"generator": KEY, **kwargs})


def expected(
    shape: tuple[int, ...], dtype: torch.dtype, groups: int = 1, key: Key = KEY
) -> torch.Tensor:
    """By reflections in numpy and float64, from the normals of the dtype."""
    rows, columns = shape[0] // groups, math.prod(shape[1:])
    count = rows * columns
    matrices = []
    for group in range(groups):
        out = torch.empty(count, dtype=dtype)
        block = {"whole": (groups * count,), "start": (group * count,)}
        normals = fill.normal(out, key=key.key, stream=key.stream, **block).double().numpy()
        if rows >= columns:
            matrices.append(reference.orthogonal(normals, rows, columns))
        else:
            matrices.append(reference.orthogonal(normals, columns, rows).T)
    return torch.from_numpy(np.concatenate(matrices)).view(shape)


def deviation(weight: torch.Tensor) -> torch.Tensor:
    """QtQ - I in float64; QQt - I of a wide one."""
    q = weight.flatten(1).double()
    gram = q.t() @ q if q.size(0) >= q.size(1) else q @ q.t()
    return gram - torch.eye(len(gram), dtype=torch.float64)


# ---- The numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FULL)
def test_values_are_those_of_the_reflections_that_the_normals_make(dtype, isa):
    for shape in SQUARES + OTHERS + CONVOLUTIONS:
        error = (filled(shape, dtype).double() - expected(shape, dtype)).abs().max().item()
        assert error <= ERROR[dtype], shape


@pytest.mark.parametrize("dtype", FULL)
def test_every_small_shape_is_right_and_orthogonal(dtype):
    for shape in itertools.product(range(1, 21), repeat=2):
        weight = filled(shape, dtype)
        assert (weight.double() - expected(shape, dtype)).abs().max() <= ERROR[dtype], shape
        assert deviation(weight).abs().max() <= ORTHOGONALITY[dtype], shape


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("gain", [1, 0.3, -2.7])
def test_16_bits_are_the_float32_matrix_rounded_once(gain, dtype):
    for shape in [(1, 1), (7, 7), (40, 3, 3, 3), (5, 130), (193, 193)]:
        ours = filled(shape, dtype, gain=gain)
        assert torch.equal(ours, filled(shape, gain=gain).to(dtype))


@pytest.mark.parametrize("gain", [0, 1, -1, 2.5, 1e-30, 1e30])
@pytest.mark.parametrize("dtype", FULL)
def test_gain_is_a_factor(gain, dtype):
    one = filled((30, 20), dtype)
    assert torch.equal(filled((30, 20), dtype, gain=gain), one * torch.tensor(gain, dtype=dtype))


@pytest.mark.parametrize(
    "gain", [-1, torch.tensor(3.0), torch.full((4, 4), 2.0), True, np.float32(0.1), np.int64(3)]
)
@pytest.mark.parametrize("dtype", FULL)
def test_takes_every_gain_that_torch_takes(gain, dtype):
    one = filled((4, 4), dtype)
    version = poisoned((4, 4))._version
    weight = filled((4, 4), dtype, gain=gain)
    assert torch.equal(weight, one * gain)
    assert weight._version > version


def test_one_key_a_call_is_drawn():
    calls: list[Callable[[torch.Generator], object]] = [
        lambda g: pyinit.orthogonal_(torch.empty(6, 4), generator=g),
        lambda g: pyinit.orthogonal_(torch.empty(6, 4), generator=g, groups=3),
        lambda g: pyinit.orthogonal_(torch.empty(6, 4), torch.tensor(2.0), g),
        lambda g: pyinit.delta_orthogonal_(torch.empty(6, 2, 3), generator=g, groups=3),
    ]
    for call in calls:
        ours, theirs = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
        call(ours)
        torch.empty((), dtype=torch.int64).random_(-(2**63), None, generator=theirs)
        assert torch.equal(ours.get_state(), theirs.get_state())


# ---- Orthogonality -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        *itertools.product(
            [(n, n) for n in (32, 33, 100, 191, 192, 193, 255, 384, 512, 777, 1024)]
            + [(2000, 64), (64, 2000), (1500, 700), (256, 128, 3, 3), (700, 30, 5)],
            FULL,
        ),
        *(((rows, columns), torch.float32) for rows, columns in ((2048, 2048), (3000, 1500))),
    ],
)
def test_orthogonal_to_rounding(shape, dtype):
    error = deviation(filled(shape, dtype))
    assert error.abs().max() <= ORTHOGONALITY[dtype]
    assert error.norm() <= FROBENIUS[dtype] * math.sqrt(len(error))


# ---- torch's own numbers -------------------------------------------------------------------------

FACTORIZED = [(193, 193), (97, 97), (3000, 70), (130, 1100), (64, 64, 3, 3), (5, 3)]


def from_torchs_numbers(weight: torch.Tensor, gain: float = 1) -> torch.Tensor:
    with pyinit.rng("torch"):
        return pyinit.orthogonal_(weight, gain, torch.Generator().manual_seed(3))


def torchs_factor(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """torch's formula on torch's numbers, in float64."""
    drawn = torch.Generator().manual_seed(3)
    normals = torch.empty(shape[0], math.prod(shape[1:]), dtype=dtype).normal_(generator=drawn)
    is_wide = normals.size(0) < normals.size(1)
    q, r = torch.linalg.qr((normals.t() if is_wide else normals).double())
    q *= r.diagonal().sign()
    return (q.t() if is_wide else q).reshape(shape)


@pytest.mark.parametrize("dtype", FULL)
@pytest.mark.parametrize(
    "shape", [*SQUARES, *OTHERS, *CONVOLUTIONS, (1024, 33), (1025, 65), (40, 2049), (500, 500)]
)
def test_torchs_numbers_are_factorized_as_torch_does(shape, dtype):
    weight = from_torchs_numbers(poisoned(shape, dtype))
    error = 1e-5 if dtype is torch.float32 else 1e-12
    assert (weight.double() - torchs_factor(shape, dtype)).abs().max() <= error
    assert deviation(weight).abs().max() <= ORTHOGONALITY[dtype]


@pytest.mark.parametrize("gain", [-2.5, math.nan, math.inf, True, torch.tensor(3.0)])
def test_any_factor_of_torchs_numbers_is_torchs(gain):
    theirs = torch.nn.init.orthogonal_(torch.empty(9, 5), gain, torch.Generator().manual_seed(3))
    ours = from_torchs_numbers(torch.empty(9, 5), gain)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5, equal_nan=True)


# ---- Layouts -------------------------------------------------------------------------------------

# Dimensions from the outermost in memory to the innermost, elements between neighbours, offset.
ORDERS = {
    "contiguous": ((0, 1, 2, 3, 4), 1, 0),
    "offset": ((0, 1, 2, 3, 4), 1, 13),
    "gaps": ((0, 1, 2, 3, 4), 3, 5),
    "transposed": ((1, 0, 2, 3, 4), 1, 0),
    "channels_last": ((0, 2, 3, 4, 1), 1, 0),
    "channels_last with gaps": ((0, 2, 3, 4, 1), 2, 1),
    "out innermost": ((2, 3, 4, 1, 0), 1, 0),
    "mixed": ((4, 0, 2, 1, 3), 1, 7),
    "reversed": ((4, 3, 2, 1, 0), 2, 3),
}


def placed(
    shape: tuple[int, ...], layout: str, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """NaN-filled memory and a tensor in it, with more rows in memory than it uses."""
    order, step, offset = ORDERS[layout]
    strides = [0] * len(shape)
    stride = step
    for dim in reversed([dim for dim in order if dim < len(shape)]):
        strides[dim] = stride
        stride *= shape[dim] + (step > 1)
    memory = poisoned((offset + stride + 9,), dtype)
    return memory, memory.as_strided(shape, strides, offset)


@pytest.mark.parametrize("layout", ORDERS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_layout_changes_no_bit_and_no_neighbour(layout, dtype):
    shapes = [(37, 21), (21, 37), (24, 10, 3), (24, 10, 3, 3), (9, 4, 2, 3, 2), (130, 11, 3, 3)]
    for shape in shapes:
        memory, weight = placed(shape, layout, dtype)
        pyinit.orthogonal_(weight, 1.5, KEY)
        assert torch.equal(weight, filled(shape, dtype, gain=1.5))
        weight.fill_(torch.nan)
        assert memory.isnan().all()


@pytest.mark.parametrize("layout", ORDERS)
@pytest.mark.parametrize("dtype", FULL)
def test_layout_changes_no_bit_of_torchs_numbers_and_no_neighbour(layout, dtype):
    for shape in [(37, 21), (21, 37), (24, 10, 3, 3), (9, 4, 2, 3, 2), (130, 11, 3, 3)]:
        memory, weight = placed(shape, layout, dtype)
        from_torchs_numbers(weight, 1.5)
        assert torch.equal(weight, from_torchs_numbers(poisoned(shape, dtype), 1.5))
        weight.fill_(torch.nan)
        assert memory.isnan().all()


@pytest.mark.parametrize("layout", ORDERS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_delta_layout_changes_no_bit_and_no_neighbour(layout, dtype):
    for shape in [(24, 10, 3), (24, 10, 3, 4), (130, 101, 1, 3), (9, 4, 2, 3, 2)]:
        memory, weight = placed(shape, layout, dtype)
        pyinit.delta_orthogonal_(weight, 1.5, KEY)
        same = pyinit.delta_orthogonal_(poisoned(shape, dtype), 1.5, KEY)
        assert torch.equal(weight, same)
        weight.fill_(torch.nan)
        assert memory.isnan().all()


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.channels_last_3d])
def test_memory_formats_of_torch(memory_format):
    shape = (20, 6, 3, 5) if memory_format is torch.channels_last else (20, 6, 3, 2, 2)
    weight = nn.Parameter(poisoned(shape).to(memory_format=memory_format))
    assert torch.equal(pyinit.orthogonal_(weight, generator=KEY), filled(shape))
    assert weight.is_contiguous(memory_format=memory_format)


# ---- Threads and instruction sets ----------------------------------------------------------------


def many_shapes(dtype: torch.dtype) -> list[torch.Tensor]:
    """Large matrices one by one, and small ones of many sizes at once."""
    large = [filled(shape, dtype) for shape in ((300, 300), (700, 130), (97, 900), (64, 64, 3, 3))]
    small = [poisoned((n, 40 - n), dtype) for n in range(1, 40)]
    small += [poisoned((150, 150), dtype), poisoned((420, 310), dtype)]
    return large + pyinit.orthogonal_many_(small, generator=KEY)


def factorized_shapes(dtype: torch.dtype) -> list[torch.Tensor]:
    """Of torch's numbers, one of so many rows that threads share them."""
    return [from_torchs_numbers(poisoned(shape, dtype)) for shape in FACTORIZED]


@pytest.mark.parametrize(
    ("make", "dtype"),
    [*itertools.product([many_shapes], FLOATS), *itertools.product([factorized_shapes], FULL)],
)
def test_threads_and_instruction_set_change_no_bit(make, dtype, set_threads):
    digests = set()
    usual = _core.isa()
    try:
        for name in _core.available_isas():
            if name == "baseline":  # no fused multiply-add
                continue
            _core.set_isa(name)
            for threads in (1, 2, 3, 7):
                set_threads(threads)
                digests.add(digest(*make(dtype)))
    finally:
        _core.set_isa(usual)
    assert len(digests) == 1


@pytest.mark.parametrize("make", [many_shapes, factorized_shapes])
@pytest.mark.parametrize("dtype", FULL)
def test_baseline_gives_the_same_matrices_to_rounding_and_its_own_bits_always(
    dtype, make, set_threads
):
    usual = make(dtype)
    before = _core.isa()
    _core.set_isa("baseline")
    try:
        digests = set()
        for threads in (1, 2, 3):
            set_threads(threads)
            baseline = make(dtype)
            digests.add(digest(*baseline))
    finally:
        _core.set_isa(before)
    assert len(digests) == 1
    for ours, theirs in zip(baseline, usual, strict=True):
        assert (ours.double() - theirs.double()).abs().max() <= ERROR[dtype]


# ---- Groups --------------------------------------------------------------------------------------

GROUPED = [((12, 5), 3), ((12, 5), 12), ((12, 20), 2), ((64, 4, 3, 3), 8), ((30, 2, 5), 5)]


@pytest.mark.parametrize("dtype", FULL)
@pytest.mark.parametrize(("shape", "groups"), GROUPED)
def test_each_group_is_orthogonal_and_of_its_own_normals(shape, groups, dtype):
    weight = filled(shape, dtype, groups=groups)
    for group in weight.chunk(groups):
        assert deviation(group).abs().max() <= ORTHOGONALITY[dtype]
    error = (weight.double() - expected(shape, dtype, groups)).abs().max()
    assert error <= ERROR[dtype]


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(("shape", "groups"), GROUPED)
def test_16_bit_groups_are_the_float32_ones_rounded(shape, groups, dtype):
    assert torch.equal(filled(shape, dtype, groups=groups), filled(shape, groups=groups).to(dtype))


@pytest.mark.parametrize("layout", ORDERS)
def test_groups_in_any_layout(layout):
    memory, weight = placed((24, 3, 2, 3), layout, torch.float32)
    pyinit.orthogonal_(weight, 2, KEY, groups=4)
    assert torch.equal(weight, filled((24, 3, 2, 3), gain=2, groups=4))
    weight.fill_(torch.nan)
    assert memory.isnan().all()


def test_one_group_is_no_groups():
    assert torch.equal(filled((12, 5), groups=1), filled((12, 5)))


@pytest.mark.parametrize("gain", [torch.tensor(3.0), torch.arange(60.0).view(12, 5)])
def test_groups_with_a_tensor_for_gain(gain):
    one = filled((12, 5), groups=3)
    assert torch.equal(filled((12, 5), groups=3, gain=gain), one * gain)


def test_grouped_convolution_keeps_the_norm_of_each_group():
    weight = pyinit.delta_orthogonal_(torch.empty(24, 4, 3, 5), groups=3)
    x = torch.randn(2, 12, 10, 10)
    y = F.conv2d(x, weight, padding=(1, 2), groups=3)
    for of_y, of_x in zip(y.chunk(3, 1), x.chunk(3, 1), strict=True):
        assert of_y.norm().item() == pytest.approx(of_x.norm().item(), rel=1e-5)


@pytest.mark.parametrize("dtype", FULL)
@pytest.mark.parametrize(("shape", "groups"), GROUPED)
def test_groups_with_torchs_numbers_are_those_of_one_gaussian(shape, groups, dtype):
    with pyinit.rng("torch"):
        weight = filled(shape, dtype, groups=groups, generator=torch.Generator().manual_seed(3))
    drawn = torch.Generator().manual_seed(3)
    flat = torch.empty(shape[0], math.prod(shape[1:]), dtype=dtype).normal_(generator=drawn)
    for group, normals in zip(weight.flatten(1).chunk(groups), flat.chunk(groups), strict=True):
        is_wide = normals.size(0) < normals.size(1)
        q, r = torch.linalg.qr(normals.t() if is_wide else normals)
        q *= r.diagonal().sign()
        torch.testing.assert_close(group, q.t() if is_wide else q, rtol=0, atol=ERROR[dtype])


class Subclass(torch.Tensor):
    """Not native: torch fills it."""


@pytest.mark.parametrize("gain", [2.0, torch.arange(60.0).view(12, 5)])
def test_groups_of_a_tensor_that_is_not_native_are_torchs(gain):
    weight = poisoned((12, 5)).as_subclass(Subclass)
    source = torch.Generator().manual_seed(3)
    assert pyinit.orthogonal_(weight, gain, source, groups=3) is weight
    source = torch.Generator().manual_seed(3)
    groups = [torch.nn.init.orthogonal_(torch.empty(4, 5), 1, source) for _ in range(3)]
    assert torch.equal(weight.as_subclass(torch.Tensor), torch.cat(groups) * gain)


# ---- Delta-orthogonal ----------------------------------------------------------------------------


def centre(weight: torch.Tensor) -> torch.Tensor:
    return weight[(slice(None), slice(None), *((size - 1) // 2 for size in weight.shape[2:]))]


@pytest.mark.parametrize("gain", [3.0, torch.tensor(3.0)])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("shape", "groups"),
    [
        ((8, 8, 3, 3), 1),
        ((12, 8, 3), 1),
        ((9, 1, 3, 3, 3), 1),
        ((8, 8, 2, 4), 1),
        ((300, 140, 1, 2), 1),
        ((12, 4, 3), 3),
        ((6, 1, 3, 3), 6),
    ],
)
def test_delta_orthogonal_is_orthogonal_at_its_centre_alone(shape, groups, dtype, gain):
    weight = pyinit.delta_orthogonal_(poisoned(shape, dtype), gain, KEY, groups=groups)
    assert torch.equal(centre(weight), filled(shape[:2], dtype, gain=gain, groups=groups))
    assert torch.count_nonzero(weight) == torch.count_nonzero(centre(weight))
    assert weight._version > 0


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6])
def test_delta_orthogonal_with_same_padding_leaves_every_pixel_in_its_place(size):
    weight = pyinit.delta_orthogonal_(torch.empty(3, 3, size, size))
    x = torch.zeros(1, 3, 9, 9)
    x[0, 0, 4, 4] = 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch pads even kernels by a copy, and says so
        y = F.conv2d(x, weight, padding="same")
    assert y.abs().sum((0, 1)).nonzero().tolist() == [[4, 4]]


def test_delta_orthogonal_convolution_keeps_the_norm():
    weight = pyinit.delta_orthogonal_(torch.empty(16, 6, 3, 5))
    x = torch.randn(2, 6, 10, 10)
    y = F.conv2d(x, weight, padding=(1, 2))
    assert y.norm().item() == pytest.approx(x.norm().item(), rel=1e-5)


@pytest.mark.parametrize("kind", ["subclass", "torch's numbers"])
def test_delta_orthogonal_beyond_the_kernels(kind):
    weight = torch.full((12, 4, 3), 7.0)
    given = weight.as_subclass(Subclass) if kind == "subclass" else weight
    with pyinit.rng("torch" if kind == "torch's numbers" else "philox"):
        assert pyinit.delta_orthogonal_(given, 3.0, groups=3) is given
    for group in centre(weight).chunk(3):
        assert (group.mH @ group / 9 - torch.eye(4)).abs().max() < 1e-5
    assert torch.count_nonzero(weight) == 48


# ---- Many at once --------------------------------------------------------------------------------


def assorted() -> list[torch.Tensor]:
    """Native tensors of all kinds among some that torch fills, or that nobody does."""
    return [
        poisoned((5, 5)),
        nn.Parameter(poisoned((40, 3, 3, 3), torch.bfloat16)),
        poisoned((4, 3)).as_subclass(Subclass),
        poisoned((7, 30), torch.float64).t(),
        torch.empty(0, 4),
        torch.empty(3, 4, device="meta"),
        poisoned((6, 6, 2, 2)).to(memory_format=torch.channels_last),
        poisoned((9, 9), torch.float16),
        poisoned((200, 150)),
    ]


def same(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> bool:
    return all(a.is_meta or torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize(
    "gain", [2.5, [1, 0.5, 2, -1, 3, 4, torch.tensor(0.1), np.float32(0.3), 1.0]]
)
def test_many_are_as_one_by_one(gain, given):
    gains = gain if isinstance(gain, list) else [gain] * 9
    torch.manual_seed(9)
    source = torch.Generator().manual_seed(5) if given else None
    theirs = [pyinit.orthogonal_(t, g, source) for t, g in zip(assorted(), gains, strict=True)]
    state = (source or torch.default_generator).get_state()
    torch.manual_seed(9)
    source = torch.Generator().manual_seed(5) if given else None
    tensors = assorted()
    ours = pyinit.orthogonal_many_(iter(tensors), gain, source)
    assert type(ours) is list
    assert all(a is b for a, b in zip(ours, tensors, strict=True))
    assert same(ours, theirs)
    assert torch.equal((source or torch.default_generator).get_state(), state)
    assert all(t._version > 0 for t in ours if t.numel() and not t.is_meta)


def test_many_with_torchs_numbers_are_as_one_by_one():
    shapes = [(5, 5), (40, 3, 3, 3), (6, 20)]
    with pyinit.rng("torch"):
        torch.manual_seed(9)
        theirs = [pyinit.orthogonal_(torch.empty(shape), math.nan) for shape in shapes[:1]]
        theirs += [pyinit.orthogonal_(torch.empty(shape), 2.0) for shape in shapes]
        torch.manual_seed(9)
        tensors = [torch.empty(shape) for shape in [shapes[0], *shapes]]
        ours = pyinit.orthogonal_many_(tensors, [math.nan, 2.0, 2.0, 2.0])
    assert ours[0].isnan().all()
    assert same(ours[1:], theirs[1:])


def test_many_with_a_key_take_one_stream_after_the_other():
    ours = pyinit.orthogonal_many_([torch.empty(4, 4) for _ in range(3)], generator=KEY)
    for i, matrix in enumerate(ours):
        assert torch.equal(matrix, filled((4, 4), generator=Key(KEY.key, KEY.stream + i)))


def test_of_many_in_the_same_memory_the_last_one_stays():
    def overlapping() -> list[torch.Tensor]:
        memory = poisoned((4000,))
        whole = memory[:3600].view(60, 60)
        return [whole, memory[100:].view(60, 65), whole, whole[:, ::2], whole.t()[3:20]]

    for _ in range(5):
        torch.manual_seed(1)
        ours = pyinit.orthogonal_many_(overlapping())
        torch.manual_seed(1)
        theirs = [pyinit.orthogonal_(tensor) for tensor in overlapping()]
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


def test_many_of_none():
    state = torch.get_rng_state()
    assert pyinit.orthogonal_many_([]) == []
    assert pyinit.orthogonal_many_([], []) == []
    assert torch.equal(torch.get_rng_state(), state)


def test_many_slices_of_one_tensor():
    batch = poisoned((50, 7, 7))
    pyinit.orthogonal_many_(batch.unbind())
    assert max(deviation(matrix).abs().max() for matrix in batch) <= ORTHOGONALITY[torch.float32]
    assert len(batch.flatten(1).unique(dim=0)) == 50


# ---- Distribution --------------------------------------------------------------------------------

SMALLEST_P = 1e-4
Samples = NDArray[np.float64]


def judge(what: str, *p_values: float) -> None:
    """All of several p-values together, by their least (Sidak)."""
    p = 1 - (1 - min(p_values)) ** len(p_values)
    print(f"p = {p:.4f}: {what}")
    assert p > SMALLEST_P, f"{what}: p-values {p_values}"


def haar(
    rows: int, columns: int, stream: int = 0, dtype: str = "float32", count: int | None = None
) -> Samples:
    count = count or (20000 if rows * columns < 100 else 5000)
    memory = poisoned((count, rows, columns), getattr(torch, dtype))
    pyinit.orthogonal_many_(memory.unbind(), generator=Key(20241117, stream << 32))
    return memory.double().numpy()


def p_of_score(score: float) -> float:
    return float(2 * stats.norm.sf(abs(score)))


def p_of_mean(values: Samples, mean: float, std: float | None = None) -> float:
    """Of a mean over samples with a known deviation, or with that of the samples."""
    deviation = values.std() if std is None else std
    return p_of_score((values.mean() - mean) / deviation * math.sqrt(len(values)))


def p_of_coordinate(values: Samples, n: int) -> float:
    """Of one coordinate of uniform points on the sphere in n dimensions."""
    return float(stats.kstest((1 + values) / 2, stats.beta((n - 1) / 2, (n - 1) / 2).cdf).pvalue)


def p_of_norm(squares: Samples, n: int, part: int) -> float:
    """Of the squares' sum of some of the coordinates."""
    return float(stats.kstest(squares, stats.beta(part / 2, (n - part) / 2).cdf).pvalue)


def directions(count: int, n: int) -> Samples:
    vectors = np.random.default_rng(count * n).standard_normal((count, n))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [2, 3, 5, 8, 20])
def test_traces_have_the_moments_of_haar_matrices(n, dtype):
    """Diaconis & Shahshahani (1994): the normal's, up to the 2n-th."""
    trace = haar(n, n, 0, dtype).trace(axis1=1, axis2=2)
    p_values = [
        p_of_mean(trace, 0, 1),
        p_of_mean(trace**2, 1, math.sqrt(2)),
        p_of_mean(trace**3, 0),
    ]
    judge(f"trace, n = {n}, {dtype}", *p_values, p_of_mean(trace**4, 3))


@pytest.mark.parametrize("n", [2, 3, 5, 8, 20])
def test_moments_of_the_elements(n):
    """E q^4 = 3/(n(n+2)), E q11^2 q22^2 = (n+1)/((n-1)n(n+2)), E q11 q22 q12 q21 = -1/((n-1)n(n+2))."""
    q = haar(n, n)
    first, second = q[:, 0], q[:, 1]
    unit = 1 / ((n - 1) * n * (n + 2))
    judge(
        f"moments, n = {n}",
        p_of_mean((q**4).mean(axis=(1, 2)), 3 * (n - 1) * unit) if n > 2 else 1,
        p_of_mean(q[:, -1, 0] ** 4, 3 * (n - 1) * unit),
        p_of_mean((first[:, 0] * second[:, 1]) ** 2, (n + 1) * unit),
        p_of_mean(first[:, 0] * second[:, 1] * first[:, 1] * second[:, 0], -unit),
    )


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 20])
def test_both_determinants_are_equally_likely(n):
    signs = np.linalg.slogdet(haar(n, n)).sign
    judge(f"determinant, n = {n}", stats.binomtest(int((signs > 0).sum()), len(signs)).pvalue)


def angles(q: Samples, is_rotation: bool) -> Samples:
    """The eigenvalues' angles in (0, pi), one of each conjugate pair."""
    n = q.shape[1]
    all_angles = np.sort(np.abs(np.angle(np.linalg.eigvals(q))), axis=1)
    has_1, has_minus_1 = is_rotation == (n % 2 == 1), not is_rotation
    return all_angles[:, has_1 : n - has_minus_1 : 2]


def cdf_of_angle(angle: Samples, n: int, is_rotation: bool) -> Samples:
    """The exact one-level distribution; Katz & Sarnak (1999), `Random matrices, Frobenius eigenvalues,
    and monodromy`, 5.0: density (n - 1)/(2 pi) +- sin((n - 1) t)/(2 pi sin t), times a constant."""
    pairs = (n - (is_rotation == (n % 2 == 1)) - (not is_rotation)) // 2
    if n % 2 == 0:
        total = angle + sum(np.sin(2 * j * angle) / j for j in range(1, n // 2))
    else:
        total = 2 * sum(np.sin((2 * j - 1) * angle) / (2 * j - 1) for j in range(1, n // 2 + 1))
    sign = 1 if is_rotation == (n % 2 == 0) else -1
    return ((n - 1) * angle + sign * total) / (2 * np.pi * pairs)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 20])
def test_eigenvalues_have_their_exact_density(n):
    """One eigenvalue of each matrix: those of one matrix repel each other."""
    q = haar(n, n, 1, "float64")
    choose = np.random.default_rng(n)
    p_values = []
    for is_rotation in (True, False):
        found = angles(q[(np.linalg.det(q) > 0) == is_rotation], is_rotation)
        if found.shape[1]:
            one = choose.permuted(found, axis=1)[:, 0]
            p_values.append(stats.kstest(cdf_of_angle(one, n, is_rotation), "uniform").pvalue)
    judge(f"eigenvalues, n = {n}", *p_values)


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_as_scipys_orthogonal_matrices(n):
    """Statistics that see several eigenvalues at once, on two samples."""
    ours = haar(n, n, 2)
    theirs = stats.ortho_group.rvs(n, size=len(ours), random_state=np.random.default_rng(7))

    def statistics(q: Samples) -> list[Samples]:
        square = q @ q
        seen = [
            square.trace(axis1=1, axis2=2),
            (square @ q).trace(axis1=1, axis2=2),
            np.abs(q).max(axis=(1, 2)),
            np.linalg.norm(q - q.swapaxes(1, 2), axis=(1, 2)),
        ]
        return [x.round(5) for x in seen]  # of reflections some are constant to rounding

    pairs = zip(statistics(ours), statistics(theirs), strict=True)
    judge(f"against scipy, n = {n}", *(stats.ks_2samp(*pair).pvalue for pair in pairs))


@pytest.mark.parametrize("n", [2, 3, 5, 8, 20])
def test_columns_and_rows_are_uniform_on_the_sphere(n):
    q = haar(n, n, 3)
    along = directions(4, n)
    random_column = np.random.default_rng(n).integers(n, size=len(q))
    vectors = [q[:, :, 0], q[:, :, -1], q[:, 0], q[np.arange(len(q)), :, random_column]]
    pairs = zip(vectors, along, strict=True)
    judge(f"columns, n = {n}", *(p_of_coordinate(x @ direction, n) for x, direction in pairs))


@pytest.mark.parametrize("n", [2, 3, 5, 8, 20])
def test_a_rotation_from_either_side_changes_nothing(n):
    one, other = haar(n, n, 4), haar(n, n, 5)
    rotation = stats.ortho_group.rvs(n, random_state=np.random.default_rng(n))
    u, v = directions(2, n)
    usual = other.trace(axis1=1, axis2=2).round(5)
    p_values = [
        stats.ks_2samp(moved.trace(axis1=1, axis2=2).round(5), usual).pvalue
        for moved in (rotation @ one, one @ rotation, rotation @ one @ rotation)
    ]
    judge(f"rotated, n = {n}", *p_values, p_of_coordinate(one @ v @ u, n))


@pytest.mark.parametrize("shape", [(20, 8), (8, 20), (3, 1), (1, 3), (5, 2), (4, 50)])
def test_tall_and_wide_matrices_are_uniform_too(shape):
    q = haar(*shape, 7 + shape[0])
    tall = q if shape[0] >= shape[1] else q.swapaxes(1, 2)
    m, n = tall.shape[1:]
    u, v = directions(1, m)[0], directions(1, n)[0]
    part = min(n, m - 1)
    p_values = [
        p_of_coordinate(tall[:, 0, 0], m),
        p_of_coordinate(tall[:, -1, -1], m),
        p_of_coordinate(tall @ v @ u, m),
        p_of_norm((tall[:, 0] ** 2).sum(axis=1), m, part) if n < m else 1.0,
        p_of_norm((tall[:, :1, -1] ** 2).sum(axis=1), m, 1),
    ]
    judge(f"shape {shape}", *p_values)


@pytest.mark.parametrize("shape", [(128, 128), (300, 200), (200, 300)])
def test_matrices_of_several_blocks_are_uniform(shape):
    q = haar(*shape, 7 + shape[0], count=500)
    tall = q if shape[0] >= shape[1] else q.swapaxes(1, 2)
    m, n = tall.shape[1:]
    u, v = directions(1, m)[0], directions(1, n)[0]
    p_values = [p_of_coordinate(tall @ v @ u, m)]
    for j in (0, 1, n // 2, 2 * n // 3, n - 2, n - 1):
        p_values.append(p_of_coordinate(tall[:, :, j] @ u, m))
        p_values.append(p_of_norm((tall[:, : m // 3, j] ** 2).sum(axis=1), m, m // 3))
    if n < m:
        p_values += [p_of_norm((tall[:, i] ** 2).sum(axis=1), m, n) for i in (0, m // 2, m - 1)]
    # The elements of each matrix, which are hardly dependent: mean, and fourth moment.
    p_values.append(p_of_mean((tall**2 * tall**2).mean(axis=(1, 2)), 3 / (m * (m + 2))))
    p_values.append(p_of_mean(tall.mean(axis=(1, 2)), 0))
    judge(f"shape {shape}", *p_values)


@pytest.mark.parametrize("n", [2, 5])
def test_streams_and_groups_are_independent(n):
    """tr(Q'P) of neighbours is the trace of a Haar matrix."""
    streams = haar(n, n, 6)
    weight = filled((20000 * n, n), groups=20000).double().view(-1, n, n).numpy()
    p_values = []
    for q in (streams, weight):
        between = np.einsum("kij,kij->k", q[0::2], q[1::2])
        p_values += [p_of_mean(between, 0, 1), p_of_mean(between**2, 1, math.sqrt(2))]
    judge(f"neighbours, n = {n}", *p_values)


@pytest.mark.parametrize("shape", [(5, 5), (6, 3)])
def test_with_torchs_numbers_they_are_uniform_too(shape):
    with pyinit.rng("torch"):
        q = torch.stack([pyinit.orthogonal_(torch.empty(shape)) for _ in range(500)]).double()
    m, n = shape
    u, v = directions(1, m)[0], directions(1, n)[0]
    judge(f"torch's numbers, {shape}", p_of_coordinate(q.numpy() @ v @ u, m))
