"""pyinit's functions put in the places of torch's: what they delegate still goes to torch's own."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from programs import output_of
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import pyinit
from pyinit import functional
from pyinit.nn import grad

# Before anything is replaced.
F = SimpleNamespace(**vars(nn.functional))
GRAD = SimpleNamespace(**vars(nn.grad))

ACTIVATIONS = (
    *("relu", "leaky_relu", "elu", "selu", "gelu", "silu"),
    *("sigmoid", "tanh", "softplus", "softmax", "log_softmax"),
)
COLUMNS = {"im2col": "unfold", "col2im": "fold"}
CONVOLUTIONS = [f"conv{kind}{dims}d" for kind in ("", "_transpose") for dims in (1, 2, 3)]
TORCHS_NAME = {name: COLUMNS.get(name, name) for name in (*ACTIVATIONS, *COLUMNS, *CONVOLUTIONS)}
SWITCHES = {"get_winograd", "set_winograd"}
NO_TORCHS = {"PackedWeight", "pack_weight", "convolution_by_im2col"} | SWITCHES


@pytest.fixture(autouse=True)
def _replaced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All of them at once, under every name that torch has for the function."""
    with monkeypatch.context() as patch:
        for name, torchs in TORCHS_NAME.items():
            for module in (torch, nn.functional):
                if hasattr(module, torchs):
                    patch.setattr(module, torchs, getattr(functional, name))
        for name in grad.__all__:
            if hasattr(nn.grad, name):
                patch.setattr(nn.grad, name, getattr(grad, name))
        yield


class Subclass(Tensor):
    """With torch's default behaviour."""


class Passing(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "plain": lambda x: x,
    "complex": lambda x: torch.complex(x, -x),
    "integer": lambda x: (4 * x).long(),
    "bfloat16": lambda x: x.bfloat16(),
    "meta": lambda x: x.to("meta"),
    "subclass": lambda x: x.as_subclass(Subclass),
    "requires_grad": lambda x: x.clone().requires_grad_(),
}


def arguments(name: str) -> tuple[tuple[Tensor, ...], tuple[Any, ...]]:
    """Tensors, and what comes after them."""
    torch.manual_seed(3)
    if name in ACTIVATIONS:
        return (torch.randn(4, 6),), ((1,) if "softmax" in name else ())
    if name == "im2col":
        return (torch.randn(2, 3, 5, 6),), (2,)
    if name == "col2im":
        return (torch.randn(2, 12, 20),), ((5, 6), 2)
    dims = int(name[-2])
    return (torch.randn(2, 3, *(5,) * dims), torch.randn(3, 3, *(3,) * dims), torch.randn(3)), ()


def outcome(function: Callable[..., Tensor], name: str, kind: str) -> Any:
    tensors, rest = arguments(name)
    try:
        return function(*map(KINDS[kind], tensors), *rest)
    except (RuntimeError, NotImplementedError) as error:
        return type(error)


def assert_same(got: Any, expected: Any) -> None:
    if isinstance(expected, type):
        assert got is expected
        return
    assert (type(got), got.shape, got.dtype) == (type(expected), expected.shape, expected.dtype)
    if not expected.is_meta:
        torch.testing.assert_close(got, expected)


def test_every_public_function_is_asked() -> None:
    assert set(functional.__all__) == TORCHS_NAME.keys() | NO_TORCHS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TORCHS_NAME)
def test_delegated_calls_end_at_torchs_own(name: str, kind: str) -> None:
    torchs = TORCHS_NAME[name]
    assert getattr(nn.functional, torchs) is getattr(functional, name)
    expected = outcome(getattr(F, torchs), name, kind)
    assert_same(outcome(getattr(nn.functional, torchs), name, kind), expected)
    assert_same(outcome(getattr(functional, name), name, kind), expected)


@pytest.mark.parametrize("name", TORCHS_NAME)
def test_function_modes_see_the_call_and_it_ends(name: str) -> None:
    expected = outcome(getattr(F, TORCHS_NAME[name]), name, "plain")
    with Passing():
        assert_same(outcome(getattr(nn.functional, TORCHS_NAME[name]), name, "plain"), expected)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "elu", "selu", "silu"])
def test_calls_in_place_that_autograd_records_end(name: str) -> None:
    x = torch.randn(4, 6, requires_grad=True)
    got = getattr(nn.functional, name)(x * 1, inplace=True)
    assert_same(got, getattr(F, name)(x * 1))
    assert got.grad_fn is not None


@pytest.mark.parametrize("name", TORCHS_NAME)
def test_transforms_end(name: str) -> None:
    tensors, rest = arguments(name)
    batch = torch.stack([tensors[0], 2 * tensors[0]])
    got = torch.vmap(lambda x: getattr(nn.functional, TORCHS_NAME[name])(x, *tensors[1:], *rest))(
        batch
    )
    function = getattr(F, TORCHS_NAME[name])
    expected = torch.stack([function(x, *tensors[1:], *rest) for x in batch])
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", [n for n in grad.__all__ if hasattr(GRAD, n)])
def test_gradients_by_one_tensor_end(name: str, dtype: torch.dtype) -> None:
    dims = int(name[4])
    image = torch.randn(2, 3, *(5,) * dims).to(dtype)
    weight = torch.randn(4, 3, *(3,) * dims).to(dtype)
    result = torch.randn(2, 4, *(3,) * dims).to(dtype)
    given = (image.shape, weight) if name.endswith("input") else (image, weight.shape)
    expected = getattr(GRAD, name)(*given, result)
    torch.testing.assert_close(
        getattr(nn.grad, name)(*given, result), expected, rtol=1e-4, atol=1e-4
    )


def test_modules_of_torch_and_of_pyinit_end() -> None:
    image = torch.randn(2, 3, 5, 5, dtype=torch.complex64)
    ours = pyinit.nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular", dtype=torch.complex64)
    theirs = nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular", dtype=torch.complex64)
    theirs.load_state_dict(ours.state_dict())
    assert_same(ours(image), theirs(image))
    assert_same(nn.Sequential(nn.Tanh(), nn.Sigmoid())(image), image.tanh().sigmoid())


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "selu", "sigmoid", "tanh"])
def test_gains_are_those_of_torchs_functions(name: str) -> None:
    param = 0.3 if name == "leaky_relu" else None
    expected = pyinit.calculate_gain(name, param)
    assert pyinit.calculate_gain(getattr(nn.functional, name), param) == expected
    assert pyinit.calculate_gain(getattr(F, name), param) == expected


def test_modules_loaded_again_after_it_still_know_torchs_own() -> None:
    program = """
        import importlib, sys, torch, pyinit
        from torch.nn import functional as F, init
        expected = torch.relu(torch.tensor([-3, 3])), torch.tanh(torch.tensor([1 + 2j]))
        F.relu = torch.relu = pyinit.functional.relu
        F.tanh = torch.tanh = pyinit.functional.tanh
        init.normal_ = pyinit.normal_
        for _ in range(2):
            for name in ("_torch.original", "_functional.activations", "functional"):
                importlib.reload(sys.modules["pyinit." + name])
            F.relu, F.tanh = pyinit.functional.relu, pyinit.functional.tanh
        assert torch.equal(F.relu(torch.tensor([-3, 3])), expected[0])
        assert torch.equal(F.tanh(torch.tensor([1 + 2j])), expected[1])
        init.normal_(torch.empty(3, device="meta"))
    """
    output_of(program)


def test_compiled_calls_end() -> None:
    program = """
        import torch, pyinit
        from torch.nn import functional as F
        x, w = torch.randn(2, 3, 5, 5), torch.randn(4, 3, 3, 3)
        calls = (lambda: F.relu(x), lambda: F.softmax(x, 1), lambda: F.conv2d(x, w))
        expected = [call() for call in calls]
        for name in ("relu", "softmax", "conv2d"):
            setattr(F, name, getattr(pyinit.functional, name))
        for call, value in zip(calls, expected):
            got = torch.compile(call, backend="eager", fullgraph=True)()
            torch.testing.assert_close(got, value)
    """
    output_of(program)
