"""Orthogonal matrices by torch's products, here on the CPU: those of the kernels but for rounding."""

import itertools
import math

import pytest
import torch
from dtypes import FLOATS
from poison import poisoned
from torch.utils._python_dispatch import TorchDispatchMode

import pyinit
from pyinit import fill
from pyinit._device import orthogonal as device_orthogonal
from pyinit._random.rng import Key

KEY = Key(0x0123456789ABCDEF, 3)
FULL = [torch.float32, torch.float64]
ERROR = {torch.float32: 5e-6, torch.float64: 1e-13}  # of an element
ORTHOGONALITY = {torch.float32: 5e-6, torch.float64: 2e-14}  # max |QtQ - I|

SHAPES = [(1, 1), (2, 2), (1, 9), (9, 1), (7, 7), (64, 64), (193, 193), (200, 3), (3, 200)]
SHAPES += [(130, 129), (129, 130), (8, 3, 5), (40, 3, 3, 3), (6, 5, 2, 3, 4), (520, 150)]


def draw(jobs):
    for tensor, (key, stream), first in jobs:
        place = {"whole": (first + len(tensor),), "start": (first,)}
        fill.normal(tensor, key=key, stream=stream, **place)


def fill_by_products(tensor, gain=1.0, key=KEY, groups=1):
    device_orthogonal.fill(device_orthogonal.matrices(tensor, gain, key, groups), draw)
    return tensor


def by_products(shape, dtype=torch.float32, **kwargs):
    return fill_by_products(poisoned(shape, dtype), **kwargs)


def by_kernels(shape, dtype=torch.float32, key=KEY, **kwargs):
    return pyinit.orthogonal_(poisoned(shape, dtype), generator=key, **kwargs)


def difference(a, b):
    return (a.double() - b.double()).abs().max().item()


def deviation(weight):
    """max |QtQ - I| in float64; of QQt where it is wide."""
    q = weight.flatten(1).double()
    gram = q.t() @ q if q.size(0) >= q.size(1) else q @ q.t()
    return difference(gram, torch.eye(len(gram)))


# ---- The numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FULL)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_are_the_kernels_but_for_rounding(shape, dtype):
    weight = by_products(shape, dtype)
    assert difference(weight, by_kernels(shape, dtype)) <= ERROR[dtype]
    assert deviation(weight) <= ORTHOGONALITY[dtype]


@pytest.mark.parametrize("dtype", FULL)
def test_every_small_shape_is_right(dtype):
    for shape in itertools.product(range(1, 13), repeat=2):
        assert difference(by_products(shape, dtype), by_kernels(shape, dtype)) <= ERROR[dtype]


@pytest.mark.parametrize("shape", [(97, 97), (97, 96), (150, 97), (97, 150), (400, 97)], ids=str)
@pytest.mark.parametrize("width", [32, 64])
def test_blocks_of_reflectors_make_the_same_matrix(shape, width, monkeypatch):
    monkeypatch.setattr(device_orthogonal, "_WIDTH", width)
    for dtype in FULL:
        weight = by_products(shape, dtype)
        assert difference(weight, by_kernels(shape, dtype)) <= ERROR[dtype]
        assert deviation(weight) <= ORTHOGONALITY[dtype]


def test_sums_of_squares_do_not_depend_on_how_many_rows_are_summed_at_once(monkeypatch):
    whole = by_products((300, 40), torch.float64)
    monkeypatch.setattr(device_orthogonal, "_SQUARES", 1000)
    assert difference(whole, by_products((300, 40), torch.float64)) <= 1e-14


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("gain", [1.0, 0.3, -2.7])
def test_16_bits_are_the_float32_matrix_rounded_once(gain, dtype):
    for shape in [(1, 1), (7, 7), (40, 3, 3, 3), (5, 130), (193, 193)]:
        full = by_products(shape, gain=gain)
        assert torch.equal(by_products(shape, dtype, gain=gain), full.to(dtype))


@pytest.mark.parametrize("gain", [0.0, 1.0, -1.0, 2.5, 1e-30, 1e30])
@pytest.mark.parametrize("dtype", FULL)
def test_gain_is_a_factor(gain, dtype):
    one = by_products((30, 20), dtype)
    scaled = by_products((30, 20), dtype, gain=gain)
    assert torch.equal(scaled, one * torch.tensor(gain, dtype=dtype))


@pytest.mark.parametrize("dtype", FULL)
@pytest.mark.parametrize(
    ("shape", "groups"), [((6, 2), 3), ((6, 9), 3), ((40, 3, 3), 4), ((24, 6), 4), ((5, 3), 5)]
)
def test_groups_have_the_numbers_of_their_place(shape, groups, dtype):
    ours = by_products(shape, dtype, groups=groups)
    assert difference(ours, by_kernels(shape, dtype, groups=groups)) <= ERROR[dtype]


def test_streams_differ():
    assert difference(by_products((5, 5)), by_products((5, 5), key=Key(KEY.key, 4))) > 1e-3


def test_the_same_call_gives_the_same_bits():
    for shape in SHAPES:
        assert torch.equal(by_products(shape), by_products(shape))


def test_a_column_of_zeros_is_left_as_it_is():
    target = poisoned((4, 3))
    matrix = device_orthogonal.Matrix(target, 1.0, KEY, 0)
    device_orthogonal.fill([matrix], lambda jobs: [job[0].zero_() for job in jobs])
    assert deviation(target) <= 1e-6


# ---- Targets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(12, 7), (7, 12), (9, 9)], ids=str)
def test_strides_do_not_matter(shape, dtype):
    expected = by_products(shape, dtype)
    rows, columns = shape
    base = torch.zeros(2 * rows, 3 * columns, dtype=dtype)
    layouts = [base[::2, ::3], poisoned((columns, rows), dtype).t()]
    for layout in layouts:
        assert torch.equal(fill_by_products(layout), expected)
    assert base.count_nonzero() == expected.count_nonzero()


def test_channels_last_has_the_same_elements():
    target = poisoned((8, 3, 3, 3)).to(memory_format=torch.channels_last)
    assert torch.equal(fill_by_products(target), by_products((8, 3, 3, 3)))


def test_groups_of_a_strided_target():
    target = poisoned((10, 12)).t()
    assert torch.equal(fill_by_products(target, groups=3), by_products((12, 10), groups=3))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 4)], ids=str)
def test_nothing_is_done_without_elements(shape):
    by_products(shape, groups=1)


@pytest.mark.parametrize("groups", [1, 2])
def test_parameters_are_filled_without_a_graph_and_marked_as_written(groups):
    parameter = torch.nn.Parameter(poisoned((6, 4)))
    version = parameter._version
    fill_by_products(parameter, groups=groups)
    assert parameter.grad_fn is None
    assert parameter._version > version
    assert torch.equal(parameter.detach(), by_products((6, 4), groups=groups))


# ---- Many together -------------------------------------------------------------------------------


def many(seed=0):
    """Tensors of few shapes and all dtypes, mixed, with gains of their own."""
    shapes = [(16, 16), (16, 9), (9, 16), (4, 2, 2, 4), (16, 3, 3), (1, 1), (5, 1), (1, 5)]
    jobs = []
    for i, (dtype, shape) in enumerate(itertools.product(FLOATS, shapes * 3)):
        jobs.append((poisoned(shape, dtype), 0.5 + i % 4, Key(KEY.key, seed + i)))
    return jobs


@pytest.mark.parametrize("scratch", [1, 20_000, 256 << 20])
def test_a_batch_gives_what_one_after_the_other_gives(scratch, monkeypatch):
    monkeypatch.setattr(device_orthogonal, "_SCRATCH_BYTES", scratch)
    jobs = many()
    listed = itertools.chain.from_iterable(device_orthogonal.matrices(*job) for job in jobs)
    device_orthogonal.fill(listed, draw)
    for tensor, gain, key in jobs:
        single = by_products(tensor.shape, tensor.dtype, gain=gain, key=key)
        # One rounding of the largest elements, or the sums' own errors.
        bound = max(gain * torch.finfo(tensor.dtype).eps, gain * 5e-15)
        assert difference(tensor, single) <= bound * (5 if tensor.dtype in FULL else 1)


def test_matrices_of_a_kind_are_drawn_at_once():
    calls = []

    def record(jobs):
        calls.append(len(jobs))
        draw(jobs)

    tensors = [poisoned((8, 8)) for _ in range(50)] + [poisoned((8, 4)) for _ in range(30)]
    jobs = [device_orthogonal.Matrix(t, 1.0, (1, i), 0) for i, t in enumerate(tensors)]
    device_orthogonal.fill(jobs, record)
    assert calls == [50, 30]


class Recorded(TorchDispatchMode):
    """The names of torch's operators that run meanwhile."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        self.names.add(operator.overloadpacket.__name__)
        return operator(*args, **(kwargs or {}))


# Operators whose result, or its shape, is read by the host, or that bring the host's data.
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "index", "lift_fresh", "is_nonzero"}


@pytest.mark.parametrize("gain", [1.0, 2.0])
@pytest.mark.parametrize("shape", [(100, 100), (3, 70), (70, 3), (5, 3, 3, 3)], ids=str)
def test_nothing_waits_for_the_device_or_comes_from_the_host(shape, gain, monkeypatch):
    monkeypatch.setattr(device_orthogonal, "_WIDTH", 32)
    targets = [poisoned(shape, dtype) for dtype in FLOATS]
    jobs = [device_orthogonal.Matrix(target, gain, KEY, 0) for target in targets]
    numbers = []
    with Recorded() as recorded:
        device_orthogonal.fill(jobs, numbers.append)
    assert numbers
    assert "bmm" in recorded.names
    assert not recorded.names & WAITING


# ---- Settings of torch's -------------------------------------------------------------------------


@pytest.fixture
def precision():
    """The settings that products of float32 have, by either of torch's ways; restored after."""
    matmul = torch.backends.cuda.matmul
    yield matmul
    torch.set_float32_matmul_precision("highest")
    matmul.fp32_precision = "none"


def seen_and_left(matmul):
    """The precision during a fill, and after it."""
    seen = []

    def look(jobs):
        seen.append(matmul.fp32_precision)
        draw(jobs)

    job = device_orthogonal.Matrix(poisoned((4, 4)), 1.0, KEY, 0)
    device_orthogonal.fill([job], look)
    return seen[0], matmul.fp32_precision


def test_full_precision_is_left_alone(precision):
    assert seen_and_left(precision) == ("none", "none")


def test_tf32_is_off_for_a_fill_and_on_again_after_it(precision):
    precision.fp32_precision = "tf32"
    assert seen_and_left(precision) == ("ieee", "tf32")


def test_tf32_allowed_in_the_older_way_can_still_be_asked_for_in_that_way(precision):
    torch.set_float32_matmul_precision("high")
    assert seen_and_left(precision) == ("ieee", "tf32")
    assert torch.get_float32_matmul_precision() == "high"


def test_tf32_of_all_backends_is_not_pinned_to_this_one(precision):
    with torch.backends.flags(fp32_precision="tf32"):
        assert seen_and_left(precision) == ("ieee", "tf32")
    with torch.backends.flags(fp32_precision="ieee"):
        assert precision.fp32_precision == "ieee"


def test_tf32_is_on_again_after_an_error(precision):
    precision.fp32_precision = "tf32"
    job = device_orthogonal.Matrix(poisoned((4, 4)), 1.0, KEY, 0)

    def fail(jobs):
        raise RuntimeError("no normals")

    with pytest.raises(RuntimeError, match="no normals"):
        device_orthogonal.fill([job], fail)
    assert precision.fp32_precision == "tf32"


def test_autocast_does_not_reach_the_products():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        weight = by_products((40, 30))
    assert torch.equal(weight, by_products((40, 30)))


def test_default_dtype_does_not_matter():
    expected = by_products((20, 10))
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(by_products((20, 10)), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_distribution_is_that_of_signs_too():
    """The mean of an orthogonal matrix is 0, element for element (Mezzadri 2007)."""
    tensors = [torch.empty(3, 3) for _ in range(2000)]
    jobs = [device_orthogonal.Matrix(t, 1.0, (7, i), 0) for i, t in enumerate(tensors)]
    device_orthogonal.fill(jobs, draw)
    mean = torch.stack(tensors).mean(0)
    assert mean.abs().max() <= 5 / math.sqrt(3 * len(tensors))
