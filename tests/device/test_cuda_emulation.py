"""Every CUDA kernel, compiled for the CPU, makes the bits that the CPU's own kernels make."""

from collections.abc import Iterator
from types import ModuleType, SimpleNamespace

import pytest
import torch
from cuda_cases import Layout, cases_by_kernel, queue, strided

from pyinit import _core

CASES = cases_by_kernel()
MATRIX = strided("dense", (6, 5), (0, 1))


@pytest.fixture(params=[0, 1, 96, 256], ids=["usual", "single", "96", "256"])
def kernels(emulation: ModuleType, request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """The module with blocks of so many threads."""
    emulation.set_threads(request.param)
    yield emulation
    emulation.set_threads(0)


@pytest.mark.parametrize("kernel", CASES)
def test_bits_are_the_cpus(kernels, kernel):
    assert [case for case in CASES[kernel] if not case.matches(kernels, "cpu")] == []


def test_other_bits_and_writes_outside_are_seen():
    """The comparison's own test, with modules that are wrong in one place."""
    case = next(case for case in CASES["constant"] if case.layout == "dense")

    def wrong(where: int) -> SimpleNamespace:
        def fill_many(fills, _):
            (address, code, shape, strides), _, numbers, *_ = fills[0]
            assert code == _core.FLOAT16
            _core.fill_constant((address, code, shape, strides), numbers[0], 1)
            _core.fill_constant((address + 2 * where, code, (1,), (1,)), 7.0, 1)

        return SimpleNamespace(fill_many=fill_many)

    nowhere = SimpleNamespace(fill_many=lambda *_: None)
    assert [case.matches(module, "cpu") for module in (wrong(0), wrong(-1), nowhere)] == [False] * 3


def view_of(layout: Layout, dtype: torch.dtype) -> tuple[torch.Tensor, tuple]:
    memory = layout.memory(dtype, "cpu")
    return memory, layout.view(memory)


@pytest.mark.parametrize(
    ("layout", "zeros", "text"),
    [
        (MATRIX, 7, "zeros: must lie in"),
        (MATRIX, -1, "zeros: must lie in"),
        (strided("", (6,), (0,)), 1, "shape: needs two dimensions"),
        (strided("", (2, 3, 5), (0, 1, 2)), 1, "shape: needs two dimensions"),
    ],
)
def test_sparse_refuses_before_anything_is_written(emulation, layout, zeros, text):
    memory, view = view_of(layout, torch.float32)
    with pytest.raises(ValueError, match=text):
        emulation.fill_sparse(view, zeros, 1.0, (1, 0), queue("cpu"))
    assert memory.isnan().all()


def test_one_bad_fill_refuses_all(emulation):
    """Six dimensions of which no two join are more than a table's entry holds."""
    good, view = view_of(MATRIX, torch.float32)
    bad, bad_view = view_of(strided("", (2,) * 6, tuple(range(6)), gap=1), torch.float32)
    fills = [(each, 2, (0.0, 1.0, 0.0, 0.0), (1, 0), None, None) for each in (view, bad_view)]
    with pytest.raises(ValueError, match="too many dimensions"):
        emulation.fill_many(fills, queue("cpu"))
    assert good.isnan().all()
    assert bad.isnan().all()


@pytest.mark.parametrize(
    ("code", "distribution", "text"), [(9, 2, "dtype: unknown"), (0, 6, "distribution: unknown")]
)
def test_unknown_codes_are_refused(emulation, code, distribution, text):
    memory, (address, _, *rest) = view_of(MATRIX, torch.float32)
    one = ((address, code, *rest), distribution, (0.0,) * 4, (1, 0), None, None)
    with pytest.raises(ValueError, match=text):
        emulation.fill_many([one], queue("cpu"))
    assert memory.isnan().all()


SEVEN_DIMS = torch.zeros((3,) * 7)[(slice(2),) * 7]


@pytest.mark.parametrize(
    ("kernel", "values", "numbers", "text"),
    [
        ("describe_many", SEVEN_DIMS, ([(0.0, 1.0)],), "has too many dimensions"),
        ("describe_many", torch.zeros(3), ([],), "bounds: must be as many as targets"),
        ("describe_channels", torch.zeros(2, 3), (1, 2, 0.0, 1.0), "channel: must be a dimension"),
        ("describe_channels", torch.zeros(2, 3), (2, 1, 0.0, 1.0), "channel: must be a dimension"),
    ],
)
def test_what_cannot_be_described_is_refused(emulation, kernel, values, numbers, text):
    memory = torch.full((4096,), 7.0, dtype=torch.float64)
    view = values.data_ptr(), _core.FLOAT32, tuple(values.shape), values.stride()
    target = [view] if kernel == "describe_many" else view
    with pytest.raises(ValueError, match=text):
        getattr(emulation, kernel)(target, *numbers, *[memory.data_ptr()] * 2, queue("cpu"))
    assert (memory == 7.0).all()


@pytest.mark.parametrize("kernel", ["im2col", "col2im"])
@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"dtype": torch.float16}, "dtype: takes float32 or float64"),
        ({"rows": 4}, "columns: takes"),
        ({"stride": 0}, "stride: takes numbers from 1 on"),
    ],
)
def test_columns_that_do_not_fit_are_refused(emulation, kernel, changes, text):
    arguments = {"dtype": torch.float32, "rows": 3, "stride": 1, **changes}
    dtype, rows, stride = arguments.values()
    images, images_view = view_of(strided("", (1, 1, 9), (0, 1, 2)), dtype)
    columns, columns_view = view_of(strided("", (1, rows, 7), (0, 1, 2)), dtype)
    views = (images_view, columns_view) if kernel == "im2col" else (columns_view, images_view)
    for module, last in ((emulation, queue("cpu")), (_core, 1)):
        with pytest.raises(ValueError, match=text):
            getattr(module, kernel)(*views, (3,), (7,), (stride,), (0,), (1,), last)
    assert images.isnan().all()
    assert columns.isnan().all()
