"""Where tensors lie in memory is found alike through DLPack and through torch's own methods."""

from collections.abc import Callable

import pytest
import torch

from pyinit import _core
from pyinit._torch import views

needs_dlpack = pytest.mark.skipif(
    not hasattr(torch.Tensor, "__dlpack_c_exchange_api__"),
    reason="this torch has no C exchange interface",
)
TENSORS: dict[str, Callable[[], torch.Tensor]] = {
    "scalar": lambda: torch.tensor(1.0),
    "empty": lambda: torch.zeros(2, 0, 3),
    "dense": lambda: torch.zeros(2, 3, 4, dtype=torch.bfloat16),
    "half": lambda: torch.zeros(5, dtype=torch.float16),
    "parameter": lambda: torch.nn.Parameter(torch.zeros(3, 1, 2)),
    "transposed": lambda: torch.zeros(3, 4, dtype=torch.float64).t(),
    "offset and gaps": lambda: torch.zeros(6, 7)[1:, 1::2],
    "channels last": lambda: torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "real part": lambda: torch.zeros(3, dtype=torch.complex64).real,
    "expanded": lambda: torch.zeros(3, 1).expand(3, 4),
    "overlapping": lambda: torch.zeros(10).as_strided((4, 4), (2, 1)),
    "integer": lambda: torch.zeros(3, dtype=torch.int32),
    "complex": lambda: torch.zeros(3, dtype=torch.complex64),
    "bool": lambda: torch.zeros(3, dtype=torch.bool),
    "float8": lambda: torch.zeros(3, dtype=torch.float8_e4m3fn),
    "sparse": lambda: torch.zeros(3, 4).to_sparse(),
    "mkldnn": lambda: torch.zeros(2, 3).to_mkldnn(),
    "meta": lambda: torch.zeros(3, device="meta"),
    "nested": lambda: torch.nested.nested_tensor([torch.zeros(3), torch.zeros(5)]),
    "zero tensor": lambda: torch._efficientzerotensor(3),
}
WRITABLE = list(TENSORS)[:9]


pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")


@needs_dlpack
@pytest.mark.parametrize("name", TENSORS)
def test_both_ways_find_the_same_memory(name: str) -> None:
    tensor = TENSORS[name]()
    assert _core.dlpack_target(tensor) == views.writable_by_methods(tensor)
    assert _core.dlpack_memory(tensor) == views.readable_by_methods(tensor)


@pytest.mark.parametrize("name", TENSORS)
def test_only_what_can_be_written_is_native(name: str) -> None:
    assert (views.writable_flat_view(TENSORS[name]()) is not None) == (name in WRITABLE)


@pytest.mark.parametrize("find", [views.view_of, views.readable_by_methods])
def test_a_view_names_its_fields(find: Callable[[torch.Tensor], views.View]) -> None:
    tensor = torch.zeros(6, 7, dtype=torch.bfloat16)[1:, 1::2]
    view = find(tensor)
    assert (view.address, view.dtype) == (tensor.data_ptr(), views.DTYPES[torch.bfloat16])
    assert (view.shape, view.strides) == (tuple(tensor.shape), tensor.stride())
    assert view == tuple(view) == (view.address, view.dtype, view.shape, view.strides)
    assert type(views.View(tuple(view))) is type(view) is views.View


def test_flat_and_shaped_views_are_of_the_same_memory() -> None:
    tensor = torch.zeros(3, 4)
    flat, shaped = views.writable_flat_view(tensor), views.writable_view(tensor)
    assert (flat.shape, flat.strides) == ((12,), (1,))
    assert (shaped.shape, shaped.strides) == ((3, 4), (4, 1))
    assert flat.address == shaped.address == tensor.data_ptr()
    assert views.with_shape(flat, tensor) == shaped == views.readable_view(tensor)


@needs_dlpack
def test_a_lazy_copy_is_made_real_before_it_is_written() -> None:
    original = torch.zeros(4)
    copy = torch._lazy_clone(original)
    address = _core.dlpack_target(copy)[0]
    assert address == copy.data_ptr()
    assert address != original.data_ptr()


def test_something_else_than_a_tensor_is_no_target() -> None:
    # DLPack's interface is only ever asked for exact tensors; this is what the kernels would see.
    with pytest.raises(TypeError, match="tuple"):
        _core.fill_constant("tensor", 1.0, 1)
