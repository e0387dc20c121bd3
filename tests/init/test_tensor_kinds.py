"""Tensors that are no plain memory: each initializer fills them right, or refuses and writes nothing."""

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed
import torch.utils._pytree as pytree
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import return_and_correct_aliasing

import pyinit
from pyinit._random.rng import Key

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*(nested tensors|quantize|Sparse CSR|mean is more than):UserWarning"
)
NUMBER = 7.0  # what tensors hold before
ARGUMENTS = {"constant_": (0.5,), "sparse_": (0.5,)}


class Call(NamedTuple):
    name: str
    shape: tuple[int, ...]
    options: dict[str, Any] = {}  # noqa: RUF012

    def fill(self, tensor: Tensor, module: Any = pyinit) -> Tensor:
        torch.manual_seed(1)
        function: Callable[..., Any] = getattr(module, self.name)
        if self.name == "orthogonal_many_":
            return function([tensor], **self.options)[0]
        return function(tensor, *ARGUMENTS.get(self.name, ()), **self.options)

    @property
    def is_torchs(self) -> bool:
        return self.name == "dirac_" or (not self.options and hasattr(torch.nn.init, self.name))

    def __str__(self) -> str:
        options = "".join(f", {name}" for name in self.options)
        return f"{self.name}{len(self.shape)}d{options}"


MATRIX, WIDE, KERNEL = (64, 32), (32, 64), (64, 32, 3)
ELEMENTWISE = [
    *(Call(name, MATRIX) for name in ("uniform_", "normal_", "trunc_normal_", "constant_")),
    *(Call(name, MATRIX) for name in ("ones_", "zeros_", "lecun_uniform_", "lecun_normal_")),
    *(Call(name, MATRIX) for name in ("xavier_uniform_", "xavier_normal_", "variance_scaling_")),
    *(Call(name, KERNEL) for name in ("kaiming_uniform_", "kaiming_normal_")),
    Call("xavier_normal_", KERNEL, {"groups": 2}),
    Call("kaiming_uniform_", KERNEL, {"transposed": True}),
    Call("variance_scaling_", MATRIX, {"distribution": "uniform"}),
]
STRUCTURED = [
    *(Call(name, MATRIX) for name in ("eye_", "sparse_", "hadamard_", "orthogonal_")),
    *(Call(name, KERNEL) for name in ("dirac_", "hadamard_", "orthogonal_", "delta_orthogonal_")),
    *(Call(name, WIDE) for name in ("hadamard_", "orthogonal_", "orthogonal_many_")),
    *(Call(name, KERNEL, {"groups": 2}) for name in ("dirac_", "orthogonal_", "delta_orthogonal_")),
    Call("orthogonal_many_", MATRIX),
]
ALL = ELEMENTWISE + STRUCTURED


def check(call: Call, values: Tensor) -> None:
    """Whether the values are of the call's distribution."""
    like = call.fill(torch.full(call.shape, NUMBER))
    assert values.shape == like.shape
    rows, groups = call.shape[0], call.options.get("groups", 1)
    if call.name in {"constant_", "ones_", "zeros_", "eye_", "dirac_", "hadamard_"}:
        torch.testing.assert_close(values, like)
        return
    if call.name == "sparse_":
        assert torch.equal((values == 0).sum(0), torch.full((call.shape[1],), math.ceil(rows / 2)))
    elif "orthogonal" in call.name:
        if call.name == "delta_orthogonal_":
            assert not values[..., [0, 2]].any()
            values, like = values[..., 1], like[..., 1]
        for part in values.flatten(1).chunk(groups):
            tall = part if part.shape[0] >= part.shape[1] else part.T
            torch.testing.assert_close(tall.T @ tall, torch.eye(tall.shape[1]), atol=1e-5, rtol=0)
    assert abs(values.std() / like.std() - 1) < 0.15
    assert abs(values.mean()) < 0.1 + abs(like.mean()) * 1.1
    assert values.unique().numel() > values.numel() / 4


def number(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.full(shape, NUMBER, dtype=dtype)


class Wrapper(Tensor):
    """Holds another tensor, and gives every operator to it."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> Any:
        made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.shape, strides=inner.stride(), dtype=inner.dtype, device=inner.device
        )
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        open_ = lambda x: x.inner if isinstance(x, Wrapper) else x
        out = func(*pytree.tree_map(open_, args), **pytree.tree_map(open_, kwargs or {}))
        out = pytree.tree_map(lambda x: cls(x) if type(x) is Tensor else x, out)
        return return_and_correct_aliasing(func, args, kwargs or {}, out)


class Overrider(Tensor):
    """Sees every function."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return super().__torch_function__(func, types, args, kwargs or {})


class Kind(NamedTuple):
    make: Callable[[tuple[int, ...]], Any]
    values: Callable[[Any], Tensor]
    """All that it holds, as a plain tensor."""


SUBCLASSES = {
    "wrapper": Kind(lambda shape: Wrapper(number(shape)), lambda x: x.inner),
    "overrider": Kind(
        lambda shape: number(shape).as_subclass(Overrider), lambda x: x.as_subclass(Tensor)
    ),
    "parameter of a subclass": Kind(
        lambda shape: torch.nn.Parameter(number(shape).as_subclass(Overrider)),
        lambda x: x.detach().as_subclass(Tensor),
    ),
    "negative": Kind(lambda shape: torch._neg_view(number(shape)), Tensor.resolve_neg),
    "float16": Kind(lambda shape: number(shape, torch.float16), Tensor.float),
}


@pytest.mark.parametrize("kind", ["wrapper", "overrider", "parameter of a subclass", "complex"])
def test_places_of_zeros_follow_from_a_key(kind: str) -> None:
    def fill(seed: int) -> Tensor:
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        if kind == "complex":
            tensor = torch.zeros(MATRIX, dtype=torch.complex64)
            pyinit.sparse_(tensor, 0.5, generator=Key(3, 4))
        else:
            made = SUBCLASSES[kind].make(MATRIX)
            pyinit.sparse_(made, 0.5, generator=Key(3, 4))
            tensor = SUBCLASSES[kind].values(made)
        assert torch.equal(torch.get_rng_state(), state)
        return tensor

    drawn = fill(0)
    assert torch.equal(drawn, fill(1))
    assert ((drawn == 0).sum(0) == MATRIX[0] // 2).all()


@pytest.mark.parametrize("call", ALL, ids=str)
@pytest.mark.parametrize("kind", SUBCLASSES)
def test_subclasses_are_filled_or_left_alone(kind: str, call: Call) -> None:
    make, values = SUBCLASSES[kind]
    tensor = make(call.shape)
    before = values(tensor).clone()
    try:
        assert call.fill(tensor) is tensor
    except (RuntimeError, TypeError):
        assert kind == "negative"  # truncated normals, by torch
        assert torch.equal(values(tensor), before)
    else:
        if kind == "float16":
            torch.testing.assert_close(
                values(tensor), call.fill(number(call.shape)), rtol=1e-2, atol=1e-2
            )
        else:
            check(call, values(tensor))


@pytest.mark.parametrize("call", ALL, ids=str)
def test_both_parts_of_two_are_filled(call: Call) -> None:
    from torch.testing._internal.two_tensor import TwoTensor  # noqa: PLC0415

    tensor = TwoTensor(number(call.shape), number(call.shape))
    assert call.fill(tensor) is tensor
    check(call, tensor.a)
    check(call, tensor.b)


def fake(shape: tuple[int, ...]) -> Tensor:
    mode = FakeTensorMode()
    made: Tensor = mode.from_tensor(number(shape))
    return made


def dense(x: Tensor) -> Tensor:
    x = x.to_dense() if x.layout is not torch.strided else x
    return x.dequantize() if x.is_quantized else x.resolve_neg().resolve_conj()


OTHERS = {
    "int": Kind(lambda shape: number(shape, torch.int32), dense),
    "bool": Kind(lambda shape: number(shape, torch.bool), dense),
    "float8": Kind(lambda shape: number(shape, torch.float8_e4m3fn), Tensor.float),
    "complex": Kind(lambda shape: number(shape, torch.complex64), dense),
    "conjugate": Kind(lambda shape: number(shape, torch.complex64).conj(), dense),
    "expanded": Kind(lambda shape: number((1, *shape[1:])).expand(shape), dense),
    "zero": Kind(torch._efficientzerotensor, lambda x: x + 0),
    "coo": Kind(lambda shape: number(shape).to_sparse(), dense),
    "csr": Kind(
        lambda shape: number(shape if len(shape) == 2 else (2, *shape[:2])).to_sparse_csr(), dense
    ),
    "mkldnn": Kind(lambda shape: number(shape).to_mkldnn(), dense),
    "quantized": Kind(
        lambda shape: torch.quantize_per_tensor(number(shape), 0.1, 0, torch.quint8), dense
    ),
    "nested": Kind(
        lambda shape: torch.nested.nested_tensor([number(shape[1:])] * 3),
        lambda x: torch.stack(x.unbind()),
    ),
    "jagged": Kind(
        lambda shape: torch.nested.nested_tensor([number(shape[1:])] * 3, layout=torch.jagged),
        lambda x: x.values(),
    ),
    "meta": Kind(
        lambda shape: torch.empty(shape, device="meta"), lambda x: torch.empty(tuple(x.shape))[:0]
    ),
    "fake": Kind(fake, lambda x: torch.empty(tuple(x.shape))[:0]),
}


@pytest.mark.parametrize("call", ALL, ids=str)
@pytest.mark.parametrize("kind", OTHERS)
def test_other_kinds_are_torchs_or_left_alone(kind: str, call: Call) -> None:
    make, values = OTHERS[kind]
    tensor = make(call.shape)
    before = values(tensor).clone()
    try:
        assert call.fill(tensor) is tensor
    except Exception:  # noqa: BLE001  torch has many
        assert torch.equal(values(tensor), before)
        return
    after = values(tensor)
    if call.is_torchs:
        theirs = make(call.shape)
        call.fill(theirs, torch.nn.init)
        assert torch.equal(after, values(theirs))
    elif after.numel():
        assert kind != "expanded"
        assert (after.abs() < NUMBER - 1).all()


# ---- Distributed tensors -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mesh() -> Iterator[Any]:
    """Two processes, of which this is the first, and the other is not there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.distributed.device_mesh import init_device_mesh  # noqa: PLC0415
        from torch.testing._internal.distributed.fake_pg import FakeStore  # noqa: PLC0415

        torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
        yield init_device_mesh("cpu", (2,))
        torch.distributed.destroy_process_group()


def distributed(mesh: Any, shape: tuple[int, ...], placement: str) -> Any:
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor  # noqa: PLC0415

    places = {"rows": Shard(0), "columns": Shard(1), "all": Replicate()}
    return distribute_tensor(number(shape), mesh, [places[placement]])


def here(whole: Tensor, placement: str) -> Tensor:
    """What the first of two processes holds of a tensor."""
    if placement == "all":
        return whole
    return whole.chunk(2, dim=0 if placement == "rows" else 1)[0]


@pytest.mark.parametrize("placement", ["rows", "columns", "all"])
@pytest.mark.parametrize("call", STRUCTURED, ids=str)
def test_torchs_own_numbers_are_refused_to_a_distributed_tensor_whose_elements_depend_on_each_other(
    call: Call, placement: str, mesh: Any
) -> None:
    if call.name in {"eye_", "dirac_", "hadamard_"}:
        pytest.skip("it draws no numbers")
    tensor = distributed(mesh, call.shape, placement)
    before = tensor.to_local().clone()
    state = torch.manual_seed(1).get_state()
    name = r"tensors\[0\]" if call.name == "orthogonal_many_" else "tensor"
    with (
        pyinit.rng("torch"),
        pytest.raises(TypeError, match=rf"^{name} must not be a DTensor"),
    ):
        call.fill(tensor)
    assert torch.equal(tensor.to_local(), before)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("placement", ["rows", "columns", "all"])
@pytest.mark.parametrize("call", ALL, ids=str)
def test_a_distributed_tensor_gets_what_the_whole_has_there(
    call: Call, placement: str, mesh: Any
) -> None:
    tensor = distributed(mesh, call.shape, placement)
    versions = tensor._version, tensor._local_tensor._version
    assert call.fill(tensor) is tensor
    assert torch.equal(tensor.to_local(), here(call.fill(number(call.shape)), placement))
    assert tensor._version > versions[0] or tensor._local_tensor._version > versions[1]


@pytest.mark.parametrize("placement", ["rows", "all"])
def test_fill_takes_no_distributed_tensor(placement: str, mesh: Any) -> None:
    tensor = distributed(mesh, MATRIX, placement)
    with pytest.raises(TypeError, match="out must be a plain tensor"):
        pyinit.fill.normal(tensor, key=1)
    assert (tensor.to_local() == NUMBER).all()
