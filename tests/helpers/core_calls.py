"""Calls of the extension's functions on which tests do something in the middle.

``short()`` has every function that takes time or memory, with work enough for two threads; ``endless()`` has those
whose tensors can lie at one place in memory, so that they would take hours.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyinit import _core
from pyinit._random.rng import Key
from pyinit._torch.views import View

KEY = (7, 0)
HOURS = 1 << 40
"""So many elements or images take them."""

NOTHING = torch.empty(0)

_alive: list[Any] = []  # what calls know by its address alone


class Call(NamedTuple):
    name: str  # begins with the function's
    run: Callable[[int], Any]  # with so many threads
    result: Tensor
    state: Tensor = NOTHING  # that is written when all else is done


def memory(tensor: Tensor) -> View:
    _alive.append(tensor)
    target = _core.dlpack_memory(tensor)
    assert target is not None
    return target


def repeated(tensor: Tensor, count: int) -> View:
    """The first along the first dimension, ``count`` times."""
    address, dtype, shape, strides = memory(tensor)
    return address, dtype, (count, *shape[1:]), (0, *strides[1:])


def short() -> Iterator[Call]:
    yield from _fills(memory)
    yield from _dense_fills()
    yield from _activations(memory)
    yield from _softmax()
    yield from _convolutions(memory)
    yield from _products(memory)
    yield from _questions()


def endless() -> Iterator[Call]:
    yield from _fills(lambda tensor: repeated(tensor, HOURS // tensor.shape[1]))
    yield from _activations(lambda tensor: repeated(tensor, HOURS))
    yield from _convolutions(lambda images: repeated(images, HOURS))
    yield from _products(lambda tensor: repeated(tensor, HOURS))
    yield from _endless_lists()
    yield _endless_rejection()


Prepare = Callable[[Tensor], View]


class _States:
    """A state of torch's generator to draw from, and where the next one goes."""

    def __init__(self) -> None:
        self.before = torch.Generator().manual_seed(3).get_state()
        self.after = torch.zeros_like(self.before)
        _alive.append(self)
        self.addresses = self.before.data_ptr(), self.after.data_ptr()


def _fills(prepare: Prepare) -> Iterator[Call]:
    """Fills of any strides."""
    layouts = {
        "rows": torch.empty(256, 1024),
        "gaps": torch.empty(256, 2048)[:, ::2],
        "seven dimensions": torch.empty(4, 8, 8, 4, 8, 8, 16).transpose(5, 6)[:, ::2, :, ::2],
    }
    for layout, tensor in layouts.items():
        target = prepare(tensor)
        for name, numbers in {
            "fill_uniform": (0.0, 1.0, KEY),
            "fill_normal": (0.0, 1.0, KEY),
            "fill_trunc_normal": (0.0, 1.0, -2.0, 2.0, KEY),
            "fill_trunc_normal_v1": (0.0, 1.0, -2.0, 2.0, KEY),
            "fill_bernoulli": (0.5, KEY),
            "fill_constant": (0.5,),
            "torch_func_uniform": (0.0, 1.0, KEY, 0),
            "torch_func_normal": (0.0, 1.0, KEY, 0),
        }.items():
            yield Call(f"{name}, {layout}", _with(getattr(_core, name), target, *numbers), tensor)
        fills = [
            (target, 2, (0.0, 1.0, 0.0, 0.0), KEY, None, None),
            (memory(torch.empty(3)), 0, (1.0,) * 4, KEY, None, None),
        ]
        if prepare is memory:  # their tasks are listed
            yield Call(f"fill_many, {layout}", _with(_core.fill_many, fills), tensor)
            yield Call(f"measure_many, {layout}", _with(_core.measure_many, [target]), NOTHING)
            rows = torch.empty((1, 11), dtype=torch.float64)
            run = _with(_core.describe_many, [target], [(-1.0, 1.0)], memory(rows))
            yield Call(f"describe_many, {layout}", run, rows)
        states = _States()
        for name in ("torch_uniform", "torch_normal"):
            function = getattr(_core, name)
            run = _with(function, target, 0.0, 1.0, states.addresses, 0)
            yield Call(f"{name}, {layout}", run, tensor, states.after)


def _dense_fills() -> Iterator[Call]:
    matrix, states = torch.empty(256, 256), _States()
    target, kept = memory(matrix), torch.randn(256, 256)
    source = memory(kept)[0]
    flat = target[0], target[1], (1 << 16,), (1,)
    yield Call("fill_dirac", _with(_core.fill_dirac, target, 1), matrix)
    yield Call("fill_sparse", _with(_core.fill_sparse, target, 9, 1.0, KEY), matrix)
    for name, shape in {"square": (128, 96), "tall": (512, 64), "wide": (64, 2, 128)}.items():
        out = torch.empty(shape)
        one = memory(out), 1.0, KEY, None, None
        yield Call(f"fill_orthogonal, {name}", _with(_core.fill_orthogonal, [one]), out)
        several = torch.empty(8, *shape)
        parts = [(memory(part), 1.0, KEY, None, None) for part in several]
        yield Call(f"fill_orthogonal, many {name}", _with(_core.fill_orthogonal, parts), several)
    run = _with(_core.fill_orthonormalized, target, source, 1.0)
    yield Call("fill_orthonormalized", run, matrix)
    yield Call("copy_checked", _with(_core.copy_checked, source, target), matrix)
    rows = torch.empty((256, 11), dtype=torch.float64)
    for name, values in {"positions": kept.view(2, 256, 128), "columns": kept}.items():
        run = _with(_core.describe_channels, memory(values), 1, 1, -1.0, 1.0, memory(rows))
        yield Call(f"describe_channels, {name}", run, rows)
    run = _with(_core.torch_normal, flat, 0.0, 1.0, states.addresses, 0)
    yield Call("torch_normal", run, matrix, states.after)
    for name, place in {"blocks": flat, "serial": memory(matrix.t())}.items():
        run = _with(_core.torch_trunc_normal, place, 0.0, 1.0, -1.0, 1.0, states.addresses, 0)
        yield Call(f"torch_trunc_normal, {name}", run, matrix, states.after)
    numbers = (0.0, 1.0, 2.0, 3.0, -2.0)
    run = _with(_core.torch_reject_trunc_normal, flat, *numbers, states.addresses, 0, _log)
    yield Call("torch_reject_trunc_normal", run, matrix, states.after)

    def zero_rows(threads: int) -> Any:
        matrix.fill_(1.0)  # the others stay
        return _core.torch_zero_rows(target, 9, states.addresses, threads)

    yield Call("torch_zero_rows", zero_rows, matrix, states.after)


def _endless_lists() -> Iterator[Call]:
    """What is kept of each task bounds these: they take minutes."""
    doubles, small = torch.empty(2, 1024, dtype=torch.float64), torch.empty(512, 512)
    rows = repeated(doubles, 1 << 25)
    fills = [(rows, 3, (0.0, 1.0, -2.0, 2.0), KEY, None, None)]
    yield Call("fill_many", _with(_core.fill_many, fills), doubles)
    rows = repeated(doubles[:, ::2], 1 << 28)
    yield Call("measure_many", _with(_core.measure_many, [rows]), doubles)
    matrices = [(memory(small), 1.0, KEY, None, None)] * 50_000
    yield Call("fill_orthogonal, many", _with(_core.fill_orthogonal, matrices), small)
    rows = repeated(small, 1 << 30)
    yield Call("fill_sparse", _with(_core.fill_sparse, rows, 9, 1.0, KEY), small)
    address, dtype, (count, width), (step, _) = repeated(small, HOURS)
    columns = address, dtype, (width, count), (1, step)
    zero = _with(_core.torch_zero_rows, columns, 9, _States().addresses)
    yield Call("torch_zero_rows", zero, small)


def _endless_rejection() -> Call:
    out, states = torch.empty(1 << 18), _States()
    numbers = (0.0, 1.0, 0.0, 1e30, 0.0)  # next to nothing is accepted
    run = _with(_core.torch_reject_trunc_normal, memory(out), *numbers, states.addresses, 0, _log)
    return Call("torch_reject_trunc_normal", run, out)


def _log(x: Any) -> Any:
    return torch.from_numpy(x).log().numpy()


def _activations(prepare: Prepare) -> Iterator[Call]:
    for layout, step in {"dense": 1, "gaps": 2}.items():
        x, grad, out = (torch.randn(8, 64, 1024)[..., ::step] for _ in range(3))
        y = prepare(out)
        yield Call(f"activate, {layout}", _with(_core.activate, prepare(x), y, 2, 0.0), out)
        views = prepare(grad), prepare(x), y
        run = _with(_core.activate_backward, *views, 1, 0.0, 1)
        yield Call(f"activate_backward, {layout}", run, out)


def _softmax() -> Iterator[Call]:
    x, grad, out = (torch.randn(64, 32, 64) for _ in range(3))
    for dim in (1, 2):
        run = _with(_core.softmax, memory(x), memory(out), dim, 0)
        yield Call(f"softmax, dim {dim}", run, out)
        run = _with(_core.softmax_backward, memory(grad), memory(x), memory(out), dim, 0)
        yield Call(f"softmax_backward, dim {dim}", run, out)


def _convolutions(prepare: Prepare) -> Iterator[Call]:
    for channels_last in (False, True):
        for name, groups, taps, stride in (
            ("3x3", 1, 3, 1),
            ("3x3, stride 2", 1, 3, 2),
            ("1x1", 1, 1, 1),
            ("depthwise", 32, 3, 1),
            ("depthwise, stride 2", 32, 3, 2),
        ):
            shapes = (
                (32, 32, 8, 8),
                (32, 32 // groups, taps, taps),
                (32, 32, 8 // stride, 8 // stride),
            )
            order = torch.channels_last if channels_last else torch.contiguous_format
            images, weight, result = (torch.randn(s).to(memory_format=order) for s in shapes)
            x, w, y = prepare(images), memory(weight), prepare(result)
            window = (stride, stride), (taps // 2, taps // 2), (1, 1), groups
            suffix = name + ", channels_last" * channels_last
            run = _with(_core.convolve, x, w, None, y, *window, 0, 0.0)
            yield Call(f"convolve, {suffix}", run, result)
            run = _with(_core.convolve_transposed, y, w, None, x, *window, 0, 0.0)
            yield Call(f"convolve_transposed, {suffix}", run, images)
            run = _with(_core.convolve_weight_gradient, x, y, w, *window)
            yield Call(f"convolve_weight_gradient, {suffix}", run, weight)
            packing = _core.packing(x, w, y, *window)
            if packing != 0:
                run = _packed(x, w, y, window, packing)
                yield Call(f"convolve, packed, {suffix}", run, result)
            if name == "3x3":
                sums = torch.empty(32)
                run = _with(_core.sum_channels, x, memory(sums))
                yield Call(f"sum_channels, {suffix}", run, sums)
    images, columns = torch.randn(32, 32, 6, 6), torch.randn(32, 32 * 9, 6 * 6)
    window = (3, 3), (6, 6), (1, 1), (1, 1), (1, 1)
    x, y = prepare(images), prepare(columns)
    yield Call("im2col", _with(_core.im2col, x, y, *window), columns)
    yield Call("col2im", _with(_core.col2im, y, x, *window), images)


def _packed(x: View, w: View, y: View, window: Any, packing: int) -> Callable[[int], None]:
    def run(threads: int) -> None:
        weight = w, _core.PackedWeight(w, window[3], threads, packing)
        _core.convolve(x, weight, None, y, *window, 0, 0.0, threads)

    return run


def _products(prepare: Prepare) -> Iterator[Call]:
    """Of long sums: elements of a product may not share memory."""
    a, b, c = torch.randn(256, 160), torch.randn(256, 160), torch.empty(160, 160)
    address, dtype, shape, strides = prepare(a)
    transposed = address, dtype, shape[::-1], strides[::-1]
    run = _with(_core.gemm, transposed, prepare(b), memory(c), 1.0, 0.0)
    yield Call("gemm", run, c)


def _questions() -> Iterator[Call]:
    """What is asked of tensors, of objects and of the machine."""
    seven = torch.empty(2, 3, 2, 2, 2, 2, 3)
    _, _, shape, strides = memory(seven)
    image = memory(torch.empty(1, 16, 8, 8))
    for name, arguments in {
        "dlpack_memory": (seven,),
        "usual_targets": ([seven, seven.transpose(0, 1)[:, ::2], None],),
        "quick_uniform": (torch.empty(7), 0.0, 1.0, Key(*KEY), torch.get_num_threads),
        "quick_normal": (torch.empty(7), 0.0, 1.0, Key(*KEY), torch.get_num_threads),
        "dlpack_target": (seven.transpose(0, 1)[:, ::2],),
        "is_dense": (shape, strides),
        "non_overlapping": (shape, strides),
        "torch_state_is_known": (_States().addresses[0],),
        "is_same_state": _States().addresses,
        "available_isas": (),
        "torch_func_matches_libm": (),
        "openmp_runtime": (),
        "containers_of": ([{"a": KEY, "b": [KEY]}, {"c": {"d": KEY}}], [id(KEY)]),
        "packing": (image, memory(torch.empty(16, 16, 3, 3)), image, (1, 1), (1, 1), (1, 1), 1),
        "digest": (memory(torch.zeros(1 << 20)), 2),
    }.items():
        yield Call(
            name,
            lambda _, name=name, arguments=arguments: getattr(_core, name)(*arguments),
            NOTHING,
        )


def _with(function: Callable[..., Any], *arguments: Any) -> Callable[[int], Any]:
    return lambda threads: function(*arguments, threads)
