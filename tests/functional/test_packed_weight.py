"""Weights packed once for many convolutions: they give what the tensor they were made from gives."""

import copy
import io
import itertools
import pickle
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as torchs
from layouts import LAYOUTS, channels_last
from torch import Tensor

import pyinit
import pyinit.functional as ours
from pyinit import _core
from pyinit._torch.views import DTYPES


class Layer(NamedTuple):
    input: tuple[int, ...]
    weight: tuple[int, ...]
    options: Mapping[str, Any] = MappingProxyType({})

    @property
    def dims(self) -> int:
        return len(self.weight) - 2

    @property
    def groups(self) -> int:
        groups: int = self.options.get("groups", 1)
        return groups

    def tensors(self, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
        x, w = torch.randn(self.input, dtype=dtype), torch.randn(self.weight, dtype=dtype)
        return x, w, torch.randn(self.weight[0], dtype=dtype)

    def by(self, module: Any, x: Tensor, weight: Any, *bias: Tensor | None, **more: Any) -> Tensor:
        function: Callable[..., Tensor] = getattr(module, f"conv{self.dims}d")
        return function(x, weight, *bias, **self.options, **more)


LAYERS = {
    "3x3": Layer((2, 5, 9, 8), (32, 5, 3, 3), {"padding": 1}),
    "more than a chain": Layer((1, 83, 7, 7), (20, 83, 3, 3), {"padding": 1}),
    "a part of a panel": Layer((2, 40, 5, 5), (13, 40, 3, 2)),
    "pointwise": Layer((1, 330, 6, 7), (70, 330, 1, 1)),
    "pointwise, strided": Layer((2, 12, 9, 9), (48, 12, 1, 1), {"stride": 2}),
    "stem": Layer((1, 3, 30, 31), (16, 3, 7, 7), {"stride": 2, "padding": 3}),
    "dilated": Layer((1, 6, 15, 14), (18, 6, 3, 3), {"dilation": (3, 2), "padding": "same"}),
    "groups": Layer((2, 51, 9, 9), (57, 17, 3, 3), {"groups": 3, "padding": 1}),
    "depthwise": Layer((2, 12, 9, 9), (24, 1, 3, 3), {"groups": 12}),
    "few outputs": Layer((2, 12, 9, 9), (3, 12, 3, 3)),
    "one pixel": Layer((3, 70, 4, 4), (33, 70, 4, 4)),
    "line": Layer((2, 40, 70), (35, 40, 5), {"stride": 2}),
    "line to a point": Layer((2, 40, 9), (35, 40, 9)),
    "volume": Layer((2, 34, 5, 6, 7), (44, 17, 3, 2, 3), {"groups": 2, "stride": (1, 2, 1)}),
}
FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


@pytest.fixture
def packings(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Grows by one whenever a weight is packed."""
    made: list[object] = []
    original = _core.PackedWeight

    def pack(*arguments: Any) -> _core.PackedWeight:
        made.append(original(*arguments))
        return made[-1]  # type: ignore[return-value]

    monkeypatch.setattr(_core, "PackedWeight", pack)
    return made


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_bits_are_those_of_the_tensor(layer: Layer, dtype: torch.dtype, isa: str) -> None:
    x, w, bias = layer.tensors(dtype)
    for of_input, of_weight in itertools.product(LAYOUTS.values(), LAYOUTS.values()):
        image, weight = of_input(x), of_weight(w)
        packed = ours.pack_weight(weight, layer.groups)
        expected = layer.by(ours, image, weight, bias, activation="relu")
        for _ in range(2):
            out = layer.by(ours, image, packed, bias, activation="relu")
            assert torch.equal(out, expected)
            assert out.stride() == expected.stride()


@pytest.mark.parametrize("name", ["more than a chain", "groups", "pointwise", "volume"])
def test_a_weight_packed_with_one_instruction_set_serves_another(name: str, isa: str) -> None:
    layer = LAYERS[name]
    x, w, bias = map(channels_last, layer.tensors())
    packed = ours.pack_weight(w, layer.groups)
    layer.by(ours, x, packed, bias)
    for other in _core.available_isas():
        _core.set_isa(other)
        assert torch.equal(layer.by(ours, x, packed, bias), layer.by(ours, x, w, bias))


@pytest.mark.parametrize("name", ["more than a chain", "groups", "pointwise", "stem"])
def test_bits_do_not_depend_on_the_threads_that_pack(
    name: str, set_threads: Callable[[int], None]
) -> None:
    layer = LAYERS[name]
    x, w, bias = map(channels_last, layer.tensors())
    expected = layer.by(ours, x, w, bias)
    for threads in (1, 2, 7):
        set_threads(threads)
        assert torch.equal(layer.by(ours, x, ours.pack_weight(w, layer.groups), bias), expected)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_what_is_packed_is_read_where_channels_lie_side_by_side(layout: str, isa: str) -> None:
    """Told by a weight packed from other numbers, which no user can pass."""

    def memory(x: Tensor) -> tuple[int, int, tuple[int, ...], tuple[int, ...]]:
        return x.data_ptr(), DTYPES[x.dtype], tuple(x.shape), x.stride()

    layer = Layer((2, 51, 9, 9), (57, 17, 3, 5), {"groups": 3, "padding": (1, 2)})
    x, w, _ = layer.tensors()
    other = torch.randn_like(w)
    x, out = (LAYOUTS[layout](t) for t in (x, torch.full((2, 57, 9, 9), float("nan"))))
    weight = memory(w), _core.PackedWeight(memory(other), 3, 1, 1)
    ones = (1, 1)
    _core.convolve(memory(x), weight, None, memory(out), ones, (1, 2), ones, 3, 0, 0.0, 1)
    read = other if layout == "channels_last" else w
    torch.testing.assert_close(out, layer.by(torchs, x, read), rtol=1e-4, atol=1e-4)


def test_it_is_packed_once(packings: list[object]) -> None:
    layer = LAYERS["3x3"]
    x, w, _ = layer.tensors()
    packed = ours.pack_weight(w)
    for images in (channels_last(x), channels_last(x[..., :5]), channels_last(x)):
        layer.by(ours, images, packed)
    assert len(packings) == 1


@pytest.mark.parametrize("name", ["3x3", "depthwise"])
def test_nothing_is_packed_that_is_read_as_it_is(name: str, packings: list[object]) -> None:
    layer = LAYERS[name]
    x, w, _ = layer.tensors()
    packed = ours.pack_weight(w, layer.groups)
    layer.by(ours, x, packed)
    if name == "depthwise":
        layer.by(ours, channels_last(x), packed)
    layer.by(ours, channels_last(x), ours.pack_weight(LAYOUTS["gaps"](w), layer.groups))
    assert not packings


def _set_data(w: Tensor) -> None:
    w.data = torch.randn_like(w)


def _set_data_twice(w: Tensor) -> None:
    """The second memory may well be that of the weight before the first."""
    w.data = w.data - 1
    w.data = w.data - 1


def _resharded(w: Tensor) -> None:
    """As FSDP gives memory up, and takes it again."""
    storage, size = w.untyped_storage(), w.untyped_storage().nbytes()
    storage.resize_(0)
    storage.resize_(size)
    w.data.normal_()


def _swapped(w: Tensor) -> None:
    torch.utils.swap_tensors(w, torch.nn.Parameter(torch.randn_like(w)))


def _stepped(w: Tensor) -> None:
    w.grad = torch.ones_like(w)
    torch.optim.SGD([w], lr=1.0, foreach=True).step()


CHANGES: dict[str, Callable[[Tensor], object]] = {
    "in place": lambda w: w.mul_(2),
    "a part": lambda w: w[3, :, 1].zero_(),
    "through an alias": lambda w: w.detach().view(-1)[7:9].fill_(5),
    "by pyinit": pyinit.normal_,
    "another memory": _set_data,
    "another memory twice": _set_data_twice,
    "data": lambda w: w.data.copy_(torch.randn(w.shape)),
    "one element of data": lambda w: w.data.view(-1)[0].mul_(-2),
    "NumPy": lambda w: w.detach().numpy().fill(3),
    "DLPack": lambda w: torch.from_dlpack(w.detach()).zero_(),
    "set_": lambda w: w.set_(torch.randn(w.shape)),
    "storage": lambda w: w.untyped_storage().copy_(torch.randn(w.shape).untyped_storage()),
    "resharded": _resharded,
    "swapped": _swapped,
    "foreach": lambda w: torch._foreach_mul_([w.data], 2.0),
    "an optimizer's step": _stepped,
    "vector_to_parameters": lambda w: torch.nn.utils.vector_to_parameters(
        torch.randn(w.numel()), [w]
    ),
}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changes_of_the_tensor_count(change: Callable[[Tensor], object], mode: Any) -> None:
    layer = LAYERS["3x3"]
    x, w, bias = layer.tensors()
    x, w = channels_last(x), torch.nn.Parameter(w)
    packed = ours.pack_weight(w)
    with mode():
        before = layer.by(ours, x, packed, bias)
        for _ in range(3):
            change(w)
            after = layer.by(ours, x, packed, bias)
            assert torch.equal(after, layer.by(ours, x, w, bias))
            assert not torch.equal(after, before)


def test_changes_through_another_mapping_of_the_memory_count(tmp_path: Path) -> None:
    layer = LAYERS["3x3"]
    x, like, _ = layer.tensors()
    w, theirs = (
        torch.from_file(str(tmp_path / "weight"), True, like.numel()).view(like.shape)
        for _ in range(2)
    )
    theirs.copy_(like)
    x, packed = channels_last(x), ours.pack_weight(w)
    before = layer.by(ours, x, packed)
    theirs.neg_()
    after = layer.by(ours, x, packed)
    assert not torch.equal(after, before)
    assert torch.equal(after, layer.by(ours, x, w))


def test_changes_of_a_tensor_made_in_inference_mode_count() -> None:
    layer = LAYERS["3x3"]
    with torch.inference_mode():
        x, w, _ = layer.tensors()
        x, packed = channels_last(x), ours.pack_weight(w)
        for _ in range(2):
            assert torch.equal(layer.by(ours, x, packed), layer.by(ours, x, w))
            w.mul_(2)


def test_an_optimizers_step_counts() -> None:
    layer = LAYERS["pointwise"]
    x, w, _ = layer.tensors()
    x, w = channels_last(x), torch.nn.Parameter(w)
    packed = ours.pack_weight(w)
    with torch.no_grad():
        layer.by(ours, x, packed)
    layer.by(ours, x, w).square().mean().backward()
    torch.optim.SGD([w], lr=1.0).step()
    with torch.no_grad():
        assert torch.equal(layer.by(ours, x, packed), layer.by(ours, x, w))


def test_threads_share_one() -> None:
    layer = LAYERS["more than a chain"]
    x, w, _ = layer.tensors()
    x = channels_last(x)
    expected, packed, wrong = layer.by(ours, x, w), ours.pack_weight(w), []
    start = threading.Barrier(4)

    def run() -> None:
        start.wait()
        for _ in range(20):
            if not torch.equal(layer.by(ours, x, packed), expected):
                wrong.append(True)
            packed.weight.add_(0)  # packs again while others read

    workers = [threading.Thread(target=run) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_images_without_a_batch_and_any_bias() -> None:
    layer = LAYERS["3x3"]
    x, w, _ = layer.tensors()
    bias = torch.randn(32, 2)[:, 0]
    packed = ours.pack_weight(channels_last(w))
    expected = layer.by(ours, x[0], packed.weight, bias, activation="gelu")
    assert torch.equal(layer.by(ours, x[0], packed, bias, activation="gelu"), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_what_goes_to_torch_gets_the_tensor(dtype: torch.dtype, device: str) -> None:
    layer = LAYERS["3x3"]
    x, w, bias = (x.to(device, dtype) for x in layer.tensors())
    packed = ours.pack_weight(w)
    out, expected = (layer.by(ours, channels_last(x), weight, bias) for weight in (packed, w))
    assert (out.dtype, out.device.type) == (dtype, device)
    assert device == "meta" or torch.equal(out, expected)


def test_under_autocast_and_vmap() -> None:
    layer = LAYERS["3x3"]
    x, w, _ = layer.tensors()
    x, packed = channels_last(x), ours.pack_weight(w)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer.by(ours, x, packed), layer.by(ours, x, w))
    many = torch.stack([x, x + 1])
    mapped = torch.func.vmap(lambda image: layer.by(ours, image, packed))(many)
    torch.testing.assert_close(mapped, torch.stack([layer.by(ours, x, w) for x in many]))


def test_compiled_calls_read_the_tensor(compiler: Callable[..., Any]) -> None:
    layer = LAYERS["3x3"]
    x, w, bias = layer.tensors()
    packed = ours.pack_weight(w)
    function = compiler(lambda x: layer.by(ours, x, packed, bias), fullgraph=True)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(function(x), layer.by(ours, x, w, bias))
            w.mul_(2)


def through_pickle(packed: ours.PackedWeight) -> ours.PackedWeight:
    copied: ours.PackedWeight = pickle.loads(pickle.dumps(packed))
    return copied


def through_a_file(packed: ours.PackedWeight) -> ours.PackedWeight:
    file = io.BytesIO()
    torch.save(packed, file)
    file.seek(0)
    loaded: ours.PackedWeight = torch.load(file, weights_only=False)
    return loaded


@pytest.mark.parametrize("way", [copy.deepcopy, through_pickle, through_a_file])
def test_copies_are_of_their_own(way: Callable[[ours.PackedWeight], ours.PackedWeight]) -> None:
    layer = LAYERS["groups"]
    x, w, _ = layer.tensors()
    x, packed = channels_last(x), ours.pack_weight(w, 3)
    expected = layer.by(ours, x, packed)
    copied = way(packed)
    w.zero_()
    assert torch.equal(layer.by(ours, x, copied), expected)
    assert copied.groups == 3


def test_repr_says_what_it_holds() -> None:
    packed = ours.pack_weight(torch.zeros(6, 2, 3, 3, dtype=torch.float64), groups=2)
    assert repr(packed) == "PackedWeight([6, 2, 3, 3], dtype=torch.float64, groups=2)"


@pytest.mark.parametrize("asked_of", ["input", "weight", "bias"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gradient_is_refused(asked_of: str, dtype: torch.dtype) -> None:
    layer = LAYERS["3x3"]
    x, w, bias = layer.tensors(dtype)
    packed = ours.pack_weight(w)
    {"input": x, "weight": w, "bias": bias}[asked_of].requires_grad_()
    with pytest.raises(RuntimeError, match=r"packed weight is for calls without gradients"):
        layer.by(ours, x, packed, bias)
    with torch.no_grad():
        layer.by(ours, x, packed, bias)
    with torch.inference_mode():
        layer.by(ours, x, packed, bias)


def test_other_groups_are_refused() -> None:
    packed = ours.pack_weight(torch.zeros(4, 2, 3, 3), groups=2)
    with pytest.raises(ValueError, match=r"groups: got 1, but weight was packed for 2"):
        ours.conv2d(torch.zeros(1, 2, 5, 5), packed)


def test_what_torch_refuses_is_described() -> None:
    packed = ours.pack_weight(torch.zeros(4, 2, 3, 3))
    with pytest.raises(RuntimeError, match=r"Called with .*weight=\[4, 2, 3, 3\] torch\.float32"):
        ours.conv2d(torch.zeros(1, 3, 5, 5), packed)
    with pytest.raises(TypeError, match=r"PackedWeight"):
        ours.conv_transpose2d(torch.zeros(1, 4, 5, 5), packed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([1.0],), TypeError, r"weight: takes a tensor, got list"),
        ((torch.zeros(4, 2, 3), 1.0), TypeError, r"groups: takes an integer, got 1\.0"),
        ((torch.zeros(4, 2),), ValueError, r"weight: takes 3 to 5 dimensions, got shape \[4, 2\]"),
        ((torch.zeros(4, 2, 3), 3), ValueError, r"groups: takes a divisor of 4 outputs, got 3"),
        ((torch.zeros(4, 2, 3), 0), ValueError, r"groups: takes a divisor of 4 outputs, got 0"),
    ],
)
def test_bad_arguments_are_named(
    arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ours.pack_weight(*arguments)
