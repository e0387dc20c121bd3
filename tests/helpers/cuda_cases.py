"""What a module of CUDA kernels, emulated or not, is compared by: each case the CPU's bits or not.

A case makes the same poisoned memory twice, has one filled by the CPU's kernels and the other by
the module's, and compares all of it, so that what lies between and around the elements counts too.
Statistics are compared bit for bit as well; which NaN stands for "not finite" does not count.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

import torch
from bits import same_bits
from torch import Tensor

from pyinit import _core
from pyinit._torch.views import DTYPES

GUARD = 16  # elements on both sides
KEYS = ((0, 0), (2**64 - 1, 2**64 - 1), (123456789012345, 77))

Shape = tuple[int, ...]
View = tuple[int, int, Shape, Shape]


class Case(NamedTuple):
    kernel: str
    dtype: str
    layout: str
    detail: str
    matches: Callable[[ModuleType, str], bool]
    """Of the module and the device whose memory it takes."""


def queue(device: str) -> tuple[int, int]:
    if device == "cpu":
        return 0, 0
    return torch.device(device).index or 0, torch.cuda.current_stream(device).cuda_stream


# ---- Memory --------------------------------------------------------------------------------------


class Layout(NamedTuple):
    """Strides may be negative; the first of the memory's elements lies ``shift`` past the guard."""

    name: str
    shape: Shape
    strides: Shape
    shift: int = 0
    whole: Shape | None = None
    start: Shape | None = None

    @property
    def reach(self) -> tuple[int, int]:
        """Offsets of the lowest element and past the highest, from the first."""
        if 0 in self.shape:
            return 0, 0
        ends = [(size - 1) * step for size, step in zip(self.shape, self.strides, strict=True)]
        return sum(min(end, 0) for end in ends), sum(max(end, 0) for end in ends) + 1

    def memory(self, dtype: torch.dtype, device: str) -> Tensor:
        low, high = self.reach
        return torch.full((high - low + self.shift + 2 * GUARD,), math.nan, dtype=dtype).to(device)

    def view(self, memory: Tensor) -> View:
        first = GUARD + self.shift - self.reach[0]
        address = memory.data_ptr() + first * memory.element_size()
        return address, DTYPES[memory.dtype], self.shape, self.strides


def strided(name: str, shape: Shape, order: Shape, gap: int = 0, sign: int = 1) -> Layout:
    """The dimensions in ``order`` from the outermost on, ``gap`` elements after each element."""
    strides, step = [0] * len(shape), 1 + gap
    for d in reversed(order):
        strides[d] = sign * step
        step *= shape[d] + gap
    return Layout(name, shape, tuple(strides))


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# ---- Fills ---------------------------------------------------------------------------------------


def block(name: str, shape: Shape, whole: Shape, start: Shape) -> Layout:
    return strided(name, shape, tuple(range(len(shape))))._replace(whole=whole, start=start)


LAYOUTS = (
    Layout("scalar", (), ()),
    *(Layout("dense", (n,), (1,)) for n in (1, 2, 3, 5, 7, 255, 1000, 20011)),
    # As many as whole blocks of threads make, and one more or less.
    *(Layout("dense", (n,), (1,)) for n in (1023, 1024, 1025, 4095, 4096, 4097)),
    *(Layout("shifted", (1000 + n,), (1,), shift=n) for n in (1, 2, 3)),
    *(Layout("empty", shape, (3, 1)) for shape in ((0, 3), (4, 0))),
    Layout("ones", (1, 5, 1, 7), (99, 7, -3, 1)),
    strided("channels_last", (4, 8, 5, 5), (0, 2, 3, 1)),
    strided("transposed", (33, 70), (1, 0)),
    strided("permuted", (3, 4, 5, 6), (2, 0, 3, 1)),
    Layout("row slices", (7, 247), (300, 1), shift=3),
    Layout("steps", (40, 30), (124, 3)),
    Layout("reversed", (6, 90), (-91, -1)),
    strided("five dims", (2, 3, 2, 3, 4), (0, 1, 2, 3, 4), gap=1),
    # Beginning within a counter's block; the second so that the counter's block would be aligned.
    block("block", (4096,), (10000,), (4093,)),
    block("block", (4096,), (10000,), (4093,))._replace(shift=1),
    block("block", (7, 9), (30, 40), (5, 11)),
    block("block", (1, 301), (30, 400), (29, 97)),
    block("block", (5, 3, 3, 3), (64, 6, 3, 3), (58, 3, 0, 0)),
    *(block("far block", (1000,), (2**62,), (2**p + n,)) for p, n in ((32, -5), (34, -6), (61, 3))),
    block("far block", (30, 50), (2**20, 2**20 + 1), (2**19, 77)),
    strided("far block", (30, 50), (1, 0))._replace(whole=(2**30, 2**31), start=(2**29, 2**30 - 7)),
)


class Fill(NamedTuple):
    name: str
    code: int  # of the distribution
    by_cpu: Callable[..., None]
    numbers: tuple[float, ...]


HALFWAY = (1 + 2**-11, 1 + 2**-11 + 2**-40, 1 + 2**-8, 1 + 2**-8 + 2**-40, 65519.999, 65520.0)
CONSTANTS = (
    0.3,
    -0.0,
    math.nan,
    -math.nan,
    -math.inf,
    2.0**-25,
    2.0**-25 * 1.0001,
    3e-40,
    *HALFWAY,
)
FILLS = tuple(
    Fill(name, code, function, numbers)
    for name, code, function, several in (
        ("constant", 0, _core.fill_constant, [(value,) for value in CONSTANTS]),
        ("uniform", 1, _core.fill_uniform, [(-2.0, 3.0), (1.0, 1 + 2.0**-20), (0.5, 0.5)]),
        ("normal", 2, _core.fill_normal, [(0.5, 2.0), (0.0, 0.02), (1.0, 0.0), (0.0, 3e4)]),
        (
            "trunc_normal",
            3,
            _core.fill_trunc_normal,
            [
                *((0.0, 1.0, -2.0, 2.0), (0.5, 2.0, -30.0, 4.0), (0.3, 1.0, -1.35, math.inf)),
                *(
                    (0.1, 1.0, 0.1, math.inf),
                    (0.0, 0.02, -2.0, 2.0),
                    (1e3, 1e-4, 999.9998, 1000.0002),
                ),
            ],
        ),
        (
            "trunc_normal of version 1",
            5,
            _core.fill_trunc_normal_v1,
            [(0.0, 1.0, -2.0, 2.0), (0.1, 1.0, 0.1, math.inf), (0.5, 2.0, -30.0, 1.0)],
        ),
        ("trunc_normal, narrow", 3, _core.fill_trunc_normal, [(0.0, 1.0, 0.5, 0.5)]),
        (
            "trunc_normal, far",
            3,
            _core.fill_trunc_normal,
            [(0.0, 1.0, 9.0, 10.0), (0.0, 1.0, 30.0, 31.0), (1.0, 0.5, -math.inf, -40.0)],
        ),
        ("bernoulli", 4, _core.fill_bernoulli, [(0.3,), (0.0,), (1.0,)]),
    )
    for numbers in several
)


class Job(NamedTuple):
    """One fill of a call."""

    fill: Fill
    layout: Layout
    dtype: torch.dtype
    key: tuple[int, int]

    def fill_by_cpu(self) -> Tensor:
        memory = self.layout.memory(self.dtype, "cpu")
        _, _, by_cpu, numbers = self.fill
        key = () if self.fill.name == "constant" else (self.key,)
        block = () if self.fill.name == "constant" else (self.layout.whole, self.layout.start)
        by_cpu(self.layout.view(memory), *numbers, *key, 1, *block)
        return memory

    def argument(self, memory: Tensor) -> tuple[object, ...]:
        numbers = (*self.fill.numbers, 0.0, 0.0, 0.0)[:4]
        _, _, _, _, whole, start = self.layout
        return self.layout.view(memory), self.fill.code, numbers, self.key, whole, start


def fill_case(jobs: list[Job], kernel: str, dtype: str, layout: str) -> Case:
    def matches(module: ModuleType, device: str) -> bool:
        memories = [job.layout.memory(job.dtype, device) for job in jobs]
        arguments = [job.argument(memory) for job, memory in zip(jobs, memories, strict=True)]
        module.fill_many(arguments, queue(device))
        expected = (job.fill_by_cpu() for job in jobs)
        return all(itertools.starmap(same_bits, zip(expected, memories, strict=True)))

    first = jobs[0]
    detail = f"{len(jobs)} fills, the first {first.fill.numbers}, {first.layout}, {first.key}"
    return Case(kernel, dtype, layout, detail, matches)


def fill_cases() -> Iterator[Case]:
    for fill, dtype in itertools.product(FILLS, DTYPES):
        for layout, key in zip(LAYOUTS, itertools.cycle(KEYS), strict=False):
            jobs = [Job(fill, layout, dtype, key)]
            yield fill_case(jobs, fill.name, name_of(dtype), layout.name)


def batch_cases() -> Iterator[Case]:
    """More fills in a call than a table holds: of one kind, and of all kinds, dtypes and layouts."""
    layouts = [layout for layout in LAYOUTS if math.prod(layout.shape) < 5000]
    for count in (2, 14, 15, 21, 22, 150):
        for fill, dtype in itertools.product(FILLS, DTYPES):
            some = itertools.islice(itertools.cycle(layouts), count)
            jobs = [Job(fill, layout, dtype, (count, i)) for i, layout in enumerate(some)]
            yield fill_case(jobs, "many of one kind", name_of(dtype), f"{count} at once")
    every = list(itertools.product(layouts, DTYPES, FILLS))
    for step in (1, 7, 11):
        some = every[::step][:1000]
        jobs = [Job(fill, layout, dtype, (step, i)) for i, (layout, dtype, fill) in enumerate(some)]
        yield fill_case(jobs, "many of all kinds", "all", f"{len(jobs)} at once")


# ---- sparse_ -------------------------------------------------------------------------------------


def sparse_case(layout: Layout, dtype: torch.dtype, zeros: int, key: tuple[int, int]) -> Case:
    def matches(module: ModuleType, device: str) -> bool:
        expected, memory = layout.memory(dtype, "cpu"), layout.memory(dtype, device)
        _core.fill_sparse(layout.view(expected), zeros, 0.5, key, 1)
        module.fill_sparse(layout.view(memory), zeros, 0.5, key, queue(device))
        return same_bits(expected, memory)

    detail = f"{zeros} zeros, {layout}, {key}"
    return Case("sparse", name_of(dtype), layout.name, detail, matches)


def sparse_cases() -> Iterator[Case]:
    shapes = (
        (1, 1),
        (1, 9),
        (9, 1),
        (2, 3),
        (40, 17),
        (17, 70),
        (203, 67),
        (5, 1030),
        (0, 4),
        (4, 0),
    )
    layouts = [
        *(strided("dense", shape, (0, 1)) for shape in shapes),
        *(strided("transposed", shape, (1, 0)) for shape in shapes),
        *(strided("steps", shape, (0, 1), gap=2) for shape in shapes),
        *(strided("reversed", shape, (1, 0), sign=-1) for shape in shapes),
    ]
    for layout, dtype in itertools.product(layouts, DTYPES):
        rows = layout.shape[0]
        for zeros, key in itertools.product({0, rows // 10, rows // 2, rows}, KEYS):
            yield sparse_case(layout, dtype, zeros, key)


# ---- im2col and col2im ---------------------------------------------------------------------------


class Window(NamedTuple):
    size: Shape
    kernel: Shape
    dilation: Shape
    padding: Shape
    stride: Shape

    @property
    def places(self) -> Shape:
        return tuple(
            (n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, d, p, s in zip(*self, strict=True)
        )


LARGEST = 2**31 - 1
WINDOWS = (
    Window((1,), (1,), (1,), (0,), (1,)),
    Window((19,), (3,), (1,), (1,), (1,)),
    Window((7,), (2,), (1,), (LARGEST,), (LARGEST,)),
    Window((7,), (4,), (3,), (9,), (2,)),
    Window((1, 1), (1, 1), (1, 1), (0, 0), (1, 1)),
    Window((9, 11), (3, 3), (1, 1), (1, 1), (1, 1)),
    Window((9, 11), (2, 3), (2, 1), (1, 4), (3, 2)),
    Window((5, 6), (1, 1), (1, 1), (0, 0), (2, 3)),
    Window((3, 2), (3, 2), (1, 1), (5, 7), (1, 3)),
    Window((30, 21), (7, 7), (1, 1), (3, 3), (2, 2)),
    Window((4, 5, 6), (2, 3, 2), (1, 1, 2), (1, 0, 2), (1, 2, 1)),
    Window((5, 4, 3), (3, 3, 3), (1, 1, 1), (1, 1, 1), (2, 1, 3)),
)


def layouts_of(shape: Shape) -> dict[str, Layout]:
    """One of these as the images', with any as the columns'."""
    usual = tuple(range(len(shape)))
    last = (0, *usual[2:], 1)
    return {
        "contiguous": strided("contiguous", shape, usual),
        "channels_last": strided("channels_last", shape, last),
        "steps": strided("steps", shape, usual, gap=2),
        "reversed": strided("reversed", shape, last, sign=-1),
    }


def columns_case(
    kernel: str, window: Window, layouts: tuple[Layout, Layout], dtype: torch.dtype, seed: int
) -> Case:
    source, target = layouts

    def matches(module: ModuleType, device: str) -> bool:
        generator = torch.Generator().manual_seed(seed)
        numbers = source.memory(dtype, "cpu")
        numbers.copy_(torch.randn(numbers.shape, generator=generator, dtype=dtype))
        numbers[::5] = -0.0
        given = numbers.to(device)
        expected, memory = target.memory(dtype, "cpu"), target.memory(dtype, device)
        _, kernel_size, dilation, padding, stride = window
        rest: Any = kernel_size, window.places, stride, padding, dilation
        by_cpu, by_module = getattr(_core, kernel), getattr(module, kernel)
        by_cpu(source.view(numbers), target.view(expected), *rest, 1)
        by_module(source.view(given), target.view(memory), *rest, queue(device))
        return same_bits(expected, memory)

    return Case(kernel, name_of(dtype), target.name, f"{window}, {source} to {target}", matches)


def columns_cases() -> Iterator[Case]:
    dtypes = (torch.float32, torch.float64)
    channels = ((1, 1), (2, 3), (0, 2))
    for window, (n, c), dtype in itertools.product(WINDOWS, channels, dtypes):
        images = layouts_of((n, c, *window.size))
        columns = layouts_of((n, c * math.prod(window.kernel), math.prod(window.places)))
        for seed, (a, b) in enumerate(itertools.product(images.values(), columns.values())):
            yield columns_case("im2col", window, (a, b), dtype, seed)
            yield columns_case("col2im", window, (b, a), dtype, seed)


# ---- Statistics ----------------------------------------------------------------------------------

BOUNDS = (-0.5, 0.75)
NUMBERS = 11  # of a row

Take = Callable[[Tensor], Tensor]
"""What is described of memory that is dense, and the same on both devices."""


class Described(NamedTuple):
    memory: Tensor
    take: Take


@contextmanager
def fused() -> Iterator[None]:
    """The CPU's best instruction set: bits are promised where there is a fused multiply-add."""
    usual = _core.isa()
    _core.set_isa(_core.available_isas()[-1])
    try:
        yield
    finally:
        _core.set_isa(usual)


def view_on(tensor: Tensor) -> View:
    return tensor.data_ptr(), DTYPES[tensor.dtype], tuple(tensor.shape), tensor.stride()


def guarded(count: int, dtype: torch.dtype, poison: float, device: str) -> tuple[Tensor, int]:
    """Poisoned memory, and the address of ``count`` elements in the middle of it."""
    memory = torch.full((count + 2 * GUARD,), poison, dtype=dtype, device=device)
    return memory, memory.data_ptr() + GUARD * memory.element_size()


def is_left(memory: Tensor, poison: float) -> bool:
    return bool((memory[:GUARD] == poison).all() and (memory[-GUARD:] == poison).all())


def same_numbers(expected: Tensor, found: Tensor) -> bool:
    one_nan = torch.full((), math.nan, dtype=torch.float64)
    numbers = [torch.where(x.isnan(), one_nan, x) for x in (expected, found.cpu())]
    return same_bits(numbers[0], numbers[1])


def by_module(
    module: ModuleType, device: str, kernel: str, views: Any, numbers: tuple[Any, ...], *, size: int
) -> Tensor | None:
    """The ``size`` numbers that the kernel writes; None if it writes anywhere else."""
    sizes = numbers[:2] if kernel == "describe_channels" else ()
    needed = getattr(module, f"{kernel}_scratch")(views, *sizes)
    scratch, scratch_place = guarded(needed, torch.uint8, 0xFF, device)
    out, place = guarded(size, torch.float64, 7.0, device)
    getattr(module, kernel)(views, *numbers, scratch_place, place, queue(device))
    return out[GUARD:-GUARD] if is_left(scratch, 0xFF) and is_left(out, 7.0) else None


def statistics_case(kind: str, dtype: str, make: Callable[[], list[Described]]) -> Case:
    def matches(module: ModuleType, device: str) -> bool:
        some = make()
        bounds = [BOUNDS] * len(some)
        expected = torch.empty((len(some), NUMBERS), dtype=torch.float64)
        views = [view_on(each.take(each.memory)) for each in some]
        with fused():
            _core.describe_many(views, bounds, view_on(expected), 1)
        there = [each.memory.to(device) for each in some]
        views = [view_on(each.take(memory)) for each, memory in zip(some, there, strict=True)]
        found = by_module(module, device, "describe_many", views, (bounds,), size=expected.numel())
        untouched = (same_bits(a.memory, b) for a, b in zip(some, there, strict=True))
        return found is not None and all(untouched) and same_numbers(expected.flatten(), found)

    return Case("statistics", dtype, kind, kind, matches)


def channels_case(kind: str, dtype: str, make: Callable[[], Described], samples: int) -> Case:
    """Channels are the dimension behind the samples'."""

    def matches(module: ModuleType, device: str) -> bool:
        memory, take = make()
        here = take(memory)
        rows = torch.empty((here.shape[samples], NUMBERS), dtype=torch.float64)
        with fused():
            total = _core.describe_channels(
                view_on(here), samples, samples, *BOUNDS, view_on(rows), 1
            )
        expected = torch.cat([rows.flatten(), torch.tensor([total], dtype=torch.float64)])
        there = memory.to(device)
        numbers = samples, samples, *BOUNDS
        view = view_on(take(there))
        found = by_module(module, device, "describe_channels", view, numbers, size=len(expected))
        return found is not None and same_bits(memory, there) and same_numbers(expected, found)

    return Case("channels", dtype, kind, kind, matches)


def drawn(shape: Shape, dtype: torch.dtype, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    """Skewed values, of which some are zeros of both signs, and some saturate."""
    generator = torch.Generator().manual_seed(math.prod(shape))
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    x = (x.exp() - 1) * scale + shift
    x[torch.rand(shape, generator=generator) < 0.1] = 0.0
    x[torch.rand(shape, generator=generator) < 0.1] = -0.0
    x[torch.rand(shape, generator=generator) < 0.1] = BOUNDS[1]
    return x.to(dtype)


def same(x: Tensor) -> Tensor:
    return x


def with_number(shape: Shape, dtype: torch.dtype, number: float, place: int) -> Tensor:
    values = drawn(shape, dtype)
    values.view(-1)[place] = number
    return values


# Around what kernels take at a time, what is described at a time, and the parts that are combined.
COUNTS = (
    *range(41),
    *(63, 64, 65, 95, 96, 97),
    *(edge + n for edge in (4096, 1 << 16, 1 << 17) for n in (-32, -1, 0, 1, 31, 32, 33)),
)
SCALES = ((1e-44, 0.0), (1e-30, 0.0), (1e20, 0.0), (3e38, 0.0), (1.0, 1000.0))
RUNS = ((300, 3), (300, 31), (300, 33), (20, 4097), (3, 65537), (2, 40000), (5, 7, 9, 11))
VIEWS: dict[str, Take] = {
    "transposed": lambda x: x.transpose(0, 1),
    "rows with gaps": lambda x: x[..., : x.shape[-1] - 1],
    "steps": lambda x: x[..., ::3],
    "repeated": lambda x: x[:1].expand(x.shape),
    "six dims": lambda x: x.view(-1)[: 3 * 2**6].view((3,) + (2,) * 6)[0].permute(3, 1, 5, 0, 4, 2),
}
CHANNELS = (
    *((8, 3, 5, 7), (64, 100), (3, 17, 40, 40), (2, 1, 1, 1), (300, 5, 3), (1, 4, 9)),
    *((5, 1, 5000), (4, 33, 1), (2, 33, 130), (0, 3), (3, 0), (2, 0, 4), (70_000, 2)),
    *((1, 17, 2048), (2, 16, 2049), (1024, 2), (1025, 17), (257, 16), (1, 2, 66_000)),
)
CHANNEL_VIEWS: dict[str, tuple[Callable[[Shape], Shape], Take]] = {
    "contiguous": (tuple, same),
    "channels last": (lambda s: (s[0], *s[2:], s[1]), lambda x: x.movedim(-1, 1)),
    "channels outermost": (lambda s: (s[1], s[0], *s[2:]), lambda x: x.transpose(0, 1)),
    "steps": (tuple, lambda x: x[..., ::2]),
    "repeated": (tuple, lambda x: x[:1].expand(x.shape)),
}


def numbers_cases(dtype: torch.dtype, name: str) -> Iterator[Case]:
    def case(kind: str, make: Callable[[], Tensor], take: Take = same) -> Case:
        return statistics_case(kind, name, lambda: [Described(make(), take)])

    for count in (*COUNTS, (1 << 21) + 5):
        yield case("dense", lambda n=count: drawn((n,), dtype))
    for (scale, shift), count in itertools.product(SCALES, (5, 33, 5000)):
        yield case("scaled", lambda n=count, s=(scale, shift): drawn((n,), dtype, *s))
    for shape, (kind, take) in itertools.product(RUNS, VIEWS.items()):
        yield case(kind, lambda s=shape: drawn(s, dtype), take)
    yield case("equal", lambda: torch.full((70_001,), 0.3, dtype=dtype))
    for number, place in itertools.product((math.nan, math.inf, -math.inf), (0, 31, 32, 4999)):
        yield case("not finite", lambda n=number, p=place: with_number((5000,), dtype, n, p))
        yield case("not finite", lambda n=number: with_number((1,), dtype, n, 0))


def statistics_cases() -> Iterator[Case]:
    if _core.available_isas() == ["baseline"]:  # no fused multiply-add to have the bits of
        return
    for dtype in DTYPES:
        name = name_of(dtype)
        yield from numbers_cases(dtype, name)
        for shape, (kind, (lie, take)) in itertools.product(CHANNELS, CHANNEL_VIEWS.items()):
            lying = lie(shape)
            make = lambda s=lying, d=dtype, t=take: Described(drawn(s, d), t)
            yield channels_case(kind, name, make, 1)
        for kind, take in (("sequence", same), ("sequence", lambda x: x.permute(2, 1, 0))):
            make = lambda d=dtype, t=take: Described(drawn((4, 50, 24), d), t)
            yield channels_case(kind, name, make, 2)
        for number, place in itertools.product((math.nan, math.inf, -math.inf), (0, 99, 9999)):
            for shape in ((100, 100), (10, 10, 100)):
                there = shape, dtype, number, place
                make = lambda t=there: Described(with_number(*t), same)
                yield channels_case("not finite", name, make, 1)
    every = list(itertools.product(COUNTS, DTYPES))
    for step in (1, 5):
        many = lambda some=every[::step]: [Described(drawn((n,), d), same) for n, d in some]
        yield statistics_case("many", "all", many)


# ---- All -----------------------------------------------------------------------------------------


def all_cases() -> Iterator[Case]:
    yield from fill_cases()
    yield from batch_cases()
    yield from sparse_cases()
    yield from columns_cases()
    yield from statistics_cases()


def cases_by_kernel() -> dict[str, list[Case]]:
    by_kernel: dict[str, list[Case]] = {}
    for case in all_cases():
        by_kernel.setdefault(case.kernel, []).append(case)
    return by_kernel
