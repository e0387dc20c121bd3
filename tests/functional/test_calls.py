"""Calls of convolutions: plans that are kept from call to call, what autograd records, threads, and references."""

import gc
import itertools
import sys
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from routes import counted_routes
from torch import Tensor
from torch.nn import functional as torchs

import pyinit.functional as ours
from pyinit import _core
from pyinit import nn as our_nn
from pyinit._functional.compute import template_of
from pyinit._functional.geometry import IMAGE, RESULT, WEIGHT, Plan
from pyinit._torch import views

pytestmark = pytest.mark.usefixtures("one_thread")

PLANS = _core.convolution_plans


@pytest.fixture(autouse=True)
def _no_plans() -> None:
    PLANS.clear()


def tensors(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.randn(2, 4, 6, 5, dtype=dtype),
        torch.randn(6, 4, 3, 2, dtype=dtype),
        torch.randn(6, dtype=dtype),
    )


def the_plan() -> Plan:
    (plan,) = PLANS.values()
    assert isinstance(plan, Plan)
    return plan


def close(made: Any, expected: Any) -> None:
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-4)


# ---- Plans ---------------------------------------------------------------------------------------


def test_a_plan_is_made_once_for_calls_alike() -> None:
    x, w, b = tensors()
    for _ in range(3):
        ours.conv2d(x, w, b, 1, (1, 0))
        ours.conv2d(torch.randn_like(x), w.clone().requires_grad_(), b, padding=[1, 0])
        ours.conv2d(x, w, b, padding=torch.Size([1, 0]), activation="relu")
    assert len(PLANS) == 1


OTHERS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "no bias": lambda x, w, _: ours.conv2d(x, w, padding=1),
    "padding": lambda x, w, b: ours.conv2d(x, w, b, padding=(1, 0)),
    "stride": lambda x, w, b: ours.conv2d(x, w, b, 2, 1),
    "dilation": lambda x, w, b: ours.conv2d(x, w, b, 1, 1, 2),
    "groups": lambda x, w, b: ours.conv2d(x, w[:, :2], b, 1, 1, 1, 2),
    "batch": lambda x, w, b: ours.conv2d(x[:1], w, b, padding=1),
    "strides": lambda x, w, b: ours.conv2d(
        x.contiguous(memory_format=torch.channels_last), w, b, padding=1
    ),
    "dtype": lambda x, w, b: ours.conv2d(x.double(), w.double(), b.double(), padding=1),
    "kind": lambda x, w, _: ours.conv_transpose2d(x, w[:4], padding=1),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_call_that_differs_has_a_plan_of_its_own(name: str) -> None:
    x, w, b = tensors()
    usual = ours.conv2d(x, w, b, padding=1)
    other = OTHERS[name](x, w, b)
    assert len(PLANS) == 2
    assert torch.equal(ours.conv2d(x, w, b, padding=1), usual)
    assert torch.equal(OTHERS[name](x, w, b), other)
    assert OTHERS[name](x, w, b).stride() == other.stride()


IMPOSTORS: dict[str, dict[str, Any]] = {
    "a stride of True": {"stride": True},
    "a stride of 1.0": {"stride": 1.0},
    "strides of True": {"stride": (True, 1)},
    "strides of 1.0": {"stride": [1, 1.0]},
    "padding of False": {"padding": False},
    "padding of 0.0": {"padding": (0, 0.0)},
    "groups of True": {"groups": True},
    "2 ** 64 + 1": {"dilation": 2**64 + 1},
}


@pytest.mark.parametrize("numbers", IMPOSTORS.values(), ids=IMPOSTORS)
def test_what_equals_an_integer_is_not_found_for_it(numbers: dict[str, Any]) -> None:
    x, w, _ = tensors()
    ours.conv2d(x, w)
    ours.conv2d(x, w, stride=(1, 1))
    ours.conv2d(x, w, padding=(0, 0))
    try:
        expected = torchs.conv2d(x, w, **numbers)
    except (RuntimeError, TypeError, ValueError) as error:
        with pytest.raises(type(error)):
            ours.conv2d(x, w, **numbers)
        return
    with counted_routes() as calls:
        made = ours.conv2d(x, w, **numbers)
    assert calls == {"torch": 1}
    assert torch.equal(made, expected)


def test_what_torch_refuses_is_refused_again() -> None:
    x, w, _ = tensors()
    for _ in range(3):
        with pytest.raises(RuntimeError, match="expected input"):
            ours.conv2d(x[:, :3], w)
    assert list(PLANS.values()) == [None]


NO_TENSORS: dict[str, tuple[Any, ...]] = {
    "input": ("x", tensors()[1]),
    "weight": (tensors()[0], None),
    "bias": (*tensors()[:2], "b"),
    "nothing": (None, None, None),
}


@pytest.mark.parametrize("case", NO_TENSORS)
def test_what_is_no_tensor_raises_as_torch_does(case: str) -> None:
    with pytest.raises(TypeError):
        torchs.conv2d(*NO_TENSORS[case])
    with pytest.raises(TypeError, match="Called with"):
        ours.conv2d(*NO_TENSORS[case])


def test_plans_do_not_pile_up() -> None:
    w = torch.randn(1, 1, 1)
    for size in range(1, 4200):
        ours.conv1d(torch.empty(1, 1, size), w)
    assert 0 < len(PLANS) <= 4096
    x = torch.randn(1, 1, 7)
    close(ours.conv1d(x, w), torchs.conv1d(x, w))


@pytest.mark.parametrize("kind", [IMAGE, WEIGHT, RESULT])
def test_a_plan_keeps_no_memory_of_its_outputs_size(kind: int) -> None:
    x, w, _ = tensors(torch.float64)
    ours.conv2d(x.contiguous(memory_format=torch.channels_last), w)
    plan = the_plan()
    (like,) = template_of(plan, kind)
    assert like.untyped_storage().nbytes() == 0
    assert (like.shape, like.dtype) == (plan.geometry.shapes[kind], torch.float64)
    assert torch.empty_like(like).is_contiguous(memory_format=torch.channels_last)


def test_tensors_that_a_plan_was_not_made_for_are_refused() -> None:
    x, w, _ = tensors()
    ours.conv2d(x, w)
    plan = the_plan()
    for first, second in ((x[:1], w), (x, w[:, :3]), (x.double(), w.double()), (x[0], w)):
        with pytest.raises(ValueError, match="plan"):
            _core.contraction(RESULT, plan, first, second)
    with pytest.raises(ValueError, match="target"):
        _core.contraction(3, plan, x, w)
    with pytest.raises(TypeError):
        _core.contraction(RESULT, (1, 2, 3), x, w)


# ---- Outputs -------------------------------------------------------------------------------------


def test_a_first_call_in_inference_mode_leaves_nothing_to_later_ones() -> None:
    x, w, _ = tensors()
    with torch.inference_mode():
        assert ours.conv2d(x, w).is_inference()
    w.requires_grad_()
    out = ours.conv2d(x, w)
    assert not out.is_inference()
    out.sum().backward()
    assert w.grad is not None


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_defaults_of_torchs_change_no_output(device: str) -> None:
    x, w, _ = tensors()
    expected = ours.conv2d(x, w)
    for forget in (True, False):
        if forget:
            PLANS.clear()
        torch.set_default_dtype(torch.float64)
        try:
            with torch.device(device):
                made = ours.conv2d(x, w)
        finally:
            torch.set_default_dtype(torch.float32)
        assert (made.dtype, made.device.type) == (torch.float32, "cpu")
        assert torch.equal(made, expected)


def test_outputs_share_no_memory() -> None:
    x, w, _ = tensors()
    one, other = ours.conv2d(x, w), ours.conv2d(x, w)
    one.zero_()
    assert other.abs().sum() > 0


def test_without_dlpacks_exchange_interface(native_calls: Counter[str]) -> None:
    x, w, b = tensors()
    expected = ours.conv2d(x, w, b)
    _core.set_find_readable(views.readable_by_methods)
    try:
        assert torch.equal(ours.conv2d(x, w, b), expected)
        assert torch.equal(ours.conv2d(x.mT.contiguous().mT, w, b), expected)
        assert native_calls == {"convolve": 3}
        with pytest.raises(RuntimeError):
            ours.conv2d(x.to_sparse(), w, b)
    finally:
        _core.set_find_readable(None if views._has_exchange_api else views.readable_by_methods)


# ---- What autograd records -----------------------------------------------------------------------

WANTED = list(itertools.product([False, True], repeat=3))


@pytest.mark.parametrize("activation", [None, "relu", "gelu"])
@pytest.mark.parametrize("kind", ["conv2d", "conv_transpose2d"])
@pytest.mark.parametrize("wanted", WANTED, ids=str)
def test_the_gradients_that_are_wanted(
    wanted: tuple[bool, bool, bool], kind: str, activation: str | None
) -> None:
    x, w, b = tensors(torch.float64)
    if kind == "conv_transpose2d":
        w = w[:4].clone()
        b = b[:4].clone()
    leaves = [t.requires_grad_(is_wanted) for t, is_wanted in zip((x, w, b), wanted, strict=True)]
    out = getattr(ours, kind)(*leaves, activation=activation)
    expected = getattr(torchs, kind)(*leaves)
    if activation is not None:
        expected = getattr(torchs, activation)(expected)
    assert out.requires_grad == any(wanted)
    assert (out.grad_fn is None) == (not any(wanted))
    asked = [t for t in leaves if t.requires_grad]
    if asked:
        grad = torch.randn_like(out)
        close(torch.autograd.grad(out, asked, grad), torch.autograd.grad(expected, asked, grad))
    with torch.no_grad():
        assert getattr(ours, kind)(*leaves, activation=activation).grad_fn is None


def test_a_call_without_bias_has_gradients_by_two() -> None:
    x, w, _ = (t.requires_grad_() for t in tensors(torch.float64))
    out = ours.conv2d(x, w)
    assert len(out.grad_fn.next_functions) == 2  # type: ignore[union-attr]
    assert torch.autograd.gradgradcheck(ours.conv2d, (x, w))


@pytest.mark.parametrize("changed", [0, 1])
def test_a_change_between_the_passes_is_noticed(changed: int) -> None:
    x, w, _ = tensors()
    w.requires_grad_()
    out = ours.conv2d(x, w)
    with torch.no_grad():
        (x, w)[changed].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_a_change_of_a_fused_activations_output_is_noticed() -> None:
    x, w, _ = tensors()
    out = ours.conv2d(x, w.requires_grad_(), activation="relu")
    total = out.sum()
    with torch.no_grad():
        out.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


def test_what_is_saved_goes_through_hooks_and_is_freed() -> None:
    x, w, _ = tensors()
    w.requires_grad_()
    packed: list[Tensor] = []

    def pack(t: Tensor) -> int:
        packed.append(t)
        return len(packed) - 1

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda i: packed[i]):
        out = ours.conv2d(x, w)
    assert [t.data_ptr() for t in packed] == [x.data_ptr(), w.data_ptr()]
    out.sum().backward()
    out = ours.conv2d(x, w)
    out.sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        out.sum().backward()


def test_a_hook_may_convolve_while_a_convolution_is_recorded() -> None:
    x, w, _ = tensors()
    inner: list[Tensor] = []
    w.requires_grad_()

    def pack(t: Tensor) -> Tensor:
        if len(inner) < 2:
            inner.append(t)
            inner[-1] = ours.conv2d(torch.ones_like(x), w, stride=2)
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = ours.conv2d(x, w)
    expected = torchs.conv2d(x, w)
    close(out, expected)
    close(inner[0], torchs.conv2d(torch.ones_like(x), w, stride=2))
    close(torch.autograd.grad(out.sum(), w), torch.autograd.grad(expected.sum(), w))


def test_only_a_convolution_records() -> None:
    with pytest.raises(RuntimeError, match="only a convolution"):
        _core.record_convolution(object(), *tensors()[:2])


# ---- Threads and references ----------------------------------------------------------------------


def test_threads_make_and_forget_plans_at_the_same_time() -> None:
    layers = [(torch.randn(1, c, 5, 5), torch.randn(c, c, 3, 3)) for c in range(1, 9)]
    expected = [ours.conv2d(x, w, padding=1) for x, w in layers]
    wrong: list[object] = []
    start = threading.Barrier(5)

    def work(first: int) -> None:
        start.wait()
        try:
            for i in range(first, first + 400):
                x, w = layers[i % len(layers)]
                if i % 2:
                    x = x.clone().requires_grad_()
                out = ours.conv2d(x, w, padding=1)
                if not torch.equal(out, expected[i % len(layers)]):
                    wrong.append(i)
                if i % 2:
                    out.sum().backward()
        except Exception as error:  # noqa: BLE001
            wrong.append(error)

    def forget() -> None:
        start.wait()
        for _ in range(200):
            PLANS.clear()

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    workers.append(threading.Thread(target=forget))
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_calls_leave_neither_references_nor_memory() -> None:
    x, w, b = tensors()
    leaf = w.clone().requires_grad_()
    packed = ours.pack_weight(w)
    layer = our_nn.Conv2d(4, 6, (3, 2), activation="relu")
    numbers = (1, 1)
    relu = "RELU".lower()  # of this test alone: a literal is held and dropped by others, too

    def calls() -> None:
        ours.conv2d(x, w, b, numbers, activation=relu)
        ours.conv2d(x, leaf, b, numbers, activation=relu).sum().backward()
        ours.conv2d(x, leaf, b, activation="gelu")
        ours.conv2d(x, packed, b)
        layer(x)
        leaf.grad = None
        with pytest.raises(RuntimeError):
            ours.conv2d(x[:, :3], w)

    def held() -> tuple[int, ...]:
        gc.collect()
        kept = (x, w, b, leaf, packed, numbers, relu, *PLANS.values())
        return (*map(sys.getrefcount, kept[:-1]), len(gc.get_objects()))

    for _ in range(500):
        calls()
    before, resident = held(), _resident()
    for _ in range(2000):
        calls()
    after = held()
    assert after[:-1] == before[:-1]
    assert after[-1] - before[-1] < 100
    assert _resident() - resident < 4 << 20
