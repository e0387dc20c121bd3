"""NumPy arrays, and objects with DLPack, are filled in place as tensors are."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import pyinit
from pyinit import init
from pyinit._random.rng import Key
from pyinit._torch.arrays import as_tensor

Array = npt.NDArray[Any]

ARGUMENTS = {"constant_": (0.3,), "sparse_": (0.5,)}
NAMES = [name for name in init.__all__ if name[-1] == "_" and name != "orthogonal_many_"]
RANDOM = [name for name in NAMES if name not in ("constant_", "zeros_", "ones_", "eye_", "dirac_")]
DTYPES = ["float16", "float32", "float64"]


def shape_for(name: str) -> tuple[int, ...]:
    return (6, 4, 3, 4) if name in ("dirac_", "delta_orthogonal_") else (6, 4)


def fill(name: str, target: Any) -> Any:
    torch.manual_seed(3)
    return getattr(pyinit, name)(target, *ARGUMENTS.get(name, ()))


def each_second(shape: tuple[int, ...], dtype: str) -> Array:
    whole = np.full([2 * size for size in shape], 7.0, dtype)
    return whole[tuple(slice(None, None, 2) for _ in shape)]


LAYOUTS: dict[str, Callable[[tuple[int, ...], str], Array]] = {
    "C": lambda shape, dtype: np.full(shape, 7.0, dtype),
    "Fortran": lambda shape, dtype: np.full(shape, 7.0, dtype, order="F"),
    "view": each_second,
    "backwards": lambda shape, dtype: np.flip(np.full(shape, 7.0, dtype)),
    "rows backwards": lambda shape, dtype: each_second(shape, dtype)[::-1],
    "columns backwards": lambda shape, dtype: np.full(shape[::-1], 7.0, dtype).T[:, ::-1],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_each_element_is_that_of_a_tensor_of_the_shape(name: str, dtype: str, layout: str) -> None:
    shape = shape_for(name)
    array = LAYOUTS[layout](shape, dtype)
    expected = fill(name, torch.empty(shape, dtype=getattr(torch, dtype)))
    assert fill(name, array) is array
    assert np.array_equal(array, expected.numpy())


@pytest.mark.parametrize("layout", ["C", "backwards", "rows backwards", "columns backwards"])
@pytest.mark.parametrize("name", RANDOM)
def test_torchs_own_numbers_are_those_of_a_contiguous_tensor(name: str, layout: str) -> None:
    shape = shape_for(name)
    array = LAYOUTS[layout](shape, "float32")
    with pyinit.rng("torch"):
        expected = fill(name, torch.empty(shape))
        fill(name, array)
    assert np.array_equal(array, expected.numpy())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_lies_between_the_elements_stays(layout: str) -> None:
    whole = np.full((12, 8), 7.0, np.float32)
    part = {"view": whole[::2, 1::2], "backwards": whole[::-2, ::-2]}.get(layout, whole[3:5, 2:3])
    pyinit.zeros_(part)
    assert (part == 0).all()
    assert np.count_nonzero(whole == 0) == part.size


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_tensor_lies_in_the_arrays_own_memory(layout: str) -> None:
    array = LAYOUTS[layout]((6, 4), "float32")
    tensor = as_tensor("tensor", array)
    assert tensor.shape == array.shape
    assert np.shares_memory(tensor.as_subclass(torch.Tensor).numpy(), array)


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1,), (1, 1), (5,)])
def test_shapes_without_a_matrix(shape: tuple[int, ...]) -> None:
    expected = pyinit.normal_(torch.empty(shape), generator=Key(4)).numpy()
    backwards = tuple(slice(None, None, -1) for _ in shape)
    for array in (np.empty(shape, np.float32), np.empty(shape, np.float32)[(..., *backwards)]):
        assert np.array_equal(pyinit.normal_(array, generator=Key(4)), expected)


def test_a_gain_that_torch_multiplies_by_reaches_the_right_tap() -> None:
    array = np.flip(np.empty((4, 4, 2, 4), np.float32))
    gain = torch.tensor(2.0)
    pyinit.delta_orthogonal_(array, gain, Key(1))
    expected = pyinit.delta_orthogonal_(torch.empty(4, 4, 2, 4), gain, Key(1))
    assert np.array_equal(array, expected.numpy())


@pytest.mark.parametrize(
    "context",
    [torch.inference_mode, partial(torch.device, "meta")],
    ids=["inference", "meta"],
)
@pytest.mark.parametrize("rng", ["philox", "torch"])
def test_arrays_lie_where_they_are_in_every_context(rng: str, context: Callable[[], Any]) -> None:
    with pyinit.rng(rng), context():
        arrays = [
            fill(name, np.empty((6, 4), np.float32)[::-1]) for name in ("normal_", "hadamard_")
        ]
    with pyinit.rng(rng):
        tensors = [fill(name, torch.empty(6, 4)) for name in ("normal_", "hadamard_")]
    for array, tensor in zip(arrays, tensors, strict=True):
        assert np.array_equal(array, tensor.numpy())


def test_a_memmap_reaches_its_file(tmp_path: Any) -> None:
    array = np.memmap(tmp_path / "w", np.float32, "w+", shape=(4, 5))
    pyinit.normal_(array, generator=Key(1))
    array.flush()
    there = np.fromfile(tmp_path / "w", np.float32)
    assert np.array_equal(there, pyinit.normal_(torch.empty(20), generator=Key(1)).numpy())


def test_bfloat16_of_ml_dtypes() -> None:
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    for array in (np.empty((5, 3), bfloat16), np.empty((5, 3), bfloat16)[::-1]):
        pyinit.normal_(array, generator=Key(2))
        expected = pyinit.normal_(torch.empty(5, 3, dtype=torch.bfloat16), generator=Key(2))
        assert np.array_equal(array.astype(np.float32), expected.float().numpy())


def test_the_argument_may_be_named_and_a_generator_is_used() -> None:
    array, tensor = np.empty((3, 3), np.float32), torch.empty(3, 3)
    for target in (array, tensor):
        generator = torch.Generator().manual_seed(1)
        pyinit.kaiming_normal_(tensor=target, nonlinearity="relu", generator=generator, groups=3)
    assert np.array_equal(array, tensor.numpy())


def test_a_deprecated_name_takes_an_array() -> None:
    with pytest.warns(FutureWarning, match="deprecated"):
        assert (pyinit.constant(np.empty(3), 2.0) == 2).all()


def test_many_matrices_in_arrays_and_tensors() -> None:
    shapes = ((4, 4), (3, 5), (6, 2))
    whole = np.zeros((6, 6), np.float32)
    given = [whole[3::-1, :4], torch.zeros(3, 5), np.flip(np.zeros((6, 2)))]
    assert all(
        a is b for a, b in zip(pyinit.orthogonal_many_(given, 2.0, Key(5)), given, strict=True)
    )
    expected = [
        torch.empty(shape, dtype=torch.float64 if i == 2 else torch.float32)
        for i, shape in enumerate(shapes)
    ]
    pyinit.orthogonal_many_(expected, 2.0, Key(5))
    for one, other in zip(given, expected, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("rng", ["philox", "torch"])
def test_many_matrices_that_share_memory_are_made_one_after_the_other(rng: str) -> None:
    whole, one_by_one = np.zeros((6, 4), np.float32), np.zeros((6, 4), np.float32)
    with pyinit.rng(rng):
        torch.manual_seed(0)
        pyinit.orthogonal_many_([whole[3::-1], whole[:2:-1]])
        torch.manual_seed(0)
        pyinit.orthogonal_(one_by_one[3::-1])
        pyinit.orthogonal_(one_by_one[:2:-1])
    assert np.array_equal(whole, one_by_one)


# ---- What is refused -----------------------------------------------------------------------------


def read_only() -> Array:
    array = np.full((4, 4), 7.0, np.float32)
    array.flags.writeable = False
    return array


REFUSED: dict[str, tuple[Array, type[Exception], str]] = {
    "read-only": (read_only(), ValueError, "must be writable, got a read-only array"),
    "integers": (np.full((4, 4), 7), TypeError, "must have dtype .* got int64"),
    "complex": (np.full((4, 4), 7.0j), TypeError, "got complex128"),
    "objects": (np.full((4, 4), 7.0, object), TypeError, "got object"),
    "byte order": (np.full((4, 4), 7.0, ">f4"), TypeError, "in native byte order, got >f4"),
    "masked": (np.ma.ones((4, 4)), TypeError, "plain numpy.ndarray, got MaskedArray"),
    "fields": (
        np.zeros((4, 4), [("a", "i2"), ("b", "f4")])["b"],
        ValueError,
        "aligned to its elements",
    ),
    "overlapping": (
        np.lib.stride_tricks.as_strided(np.full(7, 7.0, "f4"), (4, 4), (4, 4)),
        ValueError,
        "must not have elements that share memory",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("name", ["normal_", "zeros_", "eye_", "orthogonal_", "kaiming_normal_"])
def test_an_array_that_cannot_be_filled_is_refused_untouched(name: str, kind: str) -> None:
    array, error, text = REFUSED[kind]
    before, state = array.copy(), torch.get_rng_state()
    with pytest.raises(error, match=f"tensor .*{text}"):
        getattr(pyinit, name)(array)
    assert np.array_equal(array, before)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("layout", ["C", "backwards"])
def test_bad_arguments_are_refused_untouched(layout: str) -> None:
    array = LAYOUTS[layout]((4, 4), "float32")
    for call in (
        lambda: pyinit.normal_(array, 0.0, -1.0),
        lambda: pyinit.uniform_(array, 1.0, 0.0),
        lambda: pyinit.trunc_normal_(array, 0.0, 0.0),
        lambda: pyinit.orthogonal_(array, float("nan")),
        lambda: pyinit.dirac_(array),
        lambda: pyinit.kaiming_normal_(array, mode="x"),
    ):
        with pytest.raises((ValueError, RuntimeError, ZeroDivisionError)):
            call()
        assert (array == 7).all()


def test_modes_of_torch_see_no_arrays() -> None:
    array = np.full(3, 7.0)
    with FakeTensorMode(), pytest.raises(RuntimeError, match="tensor must be a tensor inside"):
        pyinit.normal_(array)
    assert (array == 7).all()


# ---- DLPack --------------------------------------------------------------------------------------


class Shared:
    """An array of some other library."""

    def __init__(self, array: Array, device: tuple[int, int] = (1, 0)) -> None:
        self.array, self.device = array, device

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device


class SharedAsOfOld(Shared):
    """One that knows no version of DLPack, and so cannot say that it is read-only."""

    def __dlpack__(self, stream: Any = None) -> Any:  # type: ignore[override]
        return self.array.__dlpack__()


class SharedByCopy(Shared):
    """One that copies unless it is asked not to."""

    def __dlpack__(self, copy: bool | None = None, **options: Any) -> Any:
        if copy is False:
            raise BufferError("must copy")
        return self.array.copy().__dlpack__(**options)


class SharedNowhere(Shared):
    """One that tells no device."""

    def __dlpack_device__(self) -> tuple[int, int]:
        raise NotImplementedError("no device")


HAS_VERSIONS = tuple(map(int, np.__version__.split(".")[:2])) >= (2, 1)


@pytest.mark.skipif(not HAS_VERSIONS, reason="this NumPy asks for no version of DLPack")
@pytest.mark.parametrize("name", ["normal_", "orthogonal_", "he_like"])
def test_an_object_that_says_it_is_writable_is_filled(name: str) -> None:
    call = pyinit.kaiming_uniform_ if name == "he_like" else getattr(pyinit, name)
    shared = Shared(np.zeros((6, 4), np.float32)[::-1])
    assert call(shared, generator=Key(1)) is shared
    assert np.array_equal(shared.array, call(torch.empty(6, 4), generator=Key(1)).numpy())


@pytest.mark.parametrize(
    ("shared", "error", "text"),
    [
        (Shared(read_only()), ValueError, r"tensor must be writable, got an object \(Shared\)"),
        (SharedAsOfOld(np.zeros((4, 4))), ValueError, r"DLPack 1.0 that it is writable"),
        (Shared(np.zeros((4, 4)), (2, 0)), ValueError, "tensor must be on the CPU, got an object"),
        (Shared(np.zeros((4, 4), ">f4")), TypeError, "NumPy can reach by __dlpack__, got Shared"),
        (Shared(np.zeros((4, 4), int)), TypeError, "tensor must have dtype .* got int64"),
        pytest.param(
            SharedByCopy(np.zeros((4, 4))),
            TypeError,
            "can reach by __dlpack__, got SharedByCopy: must copy",
            marks=pytest.mark.skipif(not HAS_VERSIONS, reason="this NumPy cannot ask for no copy"),
        ),
        (
            SharedNowhere(np.zeros((4, 4))),
            TypeError,
            "tensor must be .* got SharedNowhere: no device",
        ),
        (
            Shared(np.zeros((4, 4)), (1,)),  # type: ignore[arg-type]
            TypeError,
            "tensor must be an object that tells its device",
        ),
    ],
    ids=[
        "read-only",
        "without a version",
        "on another device",
        "byte order",
        "integers",
        "a copy",
        "no device",
        "half a device",
    ],
)
def test_other_objects_are_refused_untouched(
    shared: Shared, error: type[Exception], text: str
) -> None:
    before = shared.array.copy()
    with pytest.raises(error, match=text):
        pyinit.normal_(shared)
    assert np.array_equal(shared.array, before)


def test_jaxs_arrays_cannot_be_written_and_its_tracers_have_no_memory() -> None:
    jax = pytest.importorskip("jax")
    ones = jax.numpy.ones((3, 4))
    with pytest.raises(ValueError, match="must be writable, got an object"):
        pyinit.normal_(ones)
    assert (np.asarray(ones) == 1).all()
    with pytest.raises(TypeError, match="got a JAX tracer"):
        jax.jit(pyinit.normal_)(ones)
