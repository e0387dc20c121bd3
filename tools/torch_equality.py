"""Compare ``pyinit.rng("torch")`` with the installed torch, bit for bit, and print the matrix.

    python tools/torch_equality.py

Each case fills the same memory twice from generators in the same state, once by pyinit and once by
torch. Small tensors, which pyinit usually leaves to torch where that is faster, are filled by pyinit
here, too. A case matches if the whole memory (what lies between the elements included), the
generator's state after the call and any error are the same; the numbers of ``orthogonal_`` need only
be close. A cell says how many cases there were, how many did not match, and how many pyinit left to
torch's own function. The exit status is 1 if any case did not match.
"""

import itertools
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table

import pyinit
import pyinit.init
from pyinit._random import torch_stream
from pyinit.init import _routes

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
CLOSE = {torch.float32: 1e-5, torch.float64: 1e-12}  # how close numbers of orthogonal_ must be

# ---- Memory --------------------------------------------------------------------------------------

Layout = Callable[[int, torch.dtype], tuple[torch.Tensor, torch.Tensor]]


def memory(count: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.full((count,), math.nan, dtype=dtype)


def contiguous(count: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    whole = memory(count, dtype)
    return whole, whole


def offset(count: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    whole = memory(count + 4, dtype)
    return whole, whole[3:-1]


def transposed(count: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    whole = memory(count // 3 * 3, dtype)
    return whole, whole.view(count // 3, 3).t()


def permuted(count: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    whole = memory(count // 6 * 6, dtype)
    return whole, whole.view(2, count // 6, 3).permute(1, 2, 0)


def channels_last(count: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    whole = memory(count // 12 * 12, dtype)
    return whole, whole.view(2, count // 12, 2, 3).permute(0, 3, 1, 2)


def steps(count: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    whole = memory(2 * count + 1, dtype)
    return whole, whole[1::2]


def gaps(count: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    whole = memory(count // 5 * 8, dtype)
    return whole, whole.view(count // 5, 8)[:, 2:7]


LAYOUTS: tuple[Layout, ...] = (contiguous, offset, transposed, permuted, channels_last, steps, gaps)

SIZES = {
    "0..40": tuple(range(41)),
    "boundaries": tuple(
        boundary + around
        # The sizes of the generator's blocks, batches and pieces of words, and those from which the
        # GIL is released or a thread is used; each also for two words an element.
        for boundary in (64, 312, 512, 624, 2048, 4992, 9984, 16384, 19968, 32768, 65536, 159744)
        for around in (-1, 0, 1)
    ),
    "2^20 + 5": (2**20 + 5,),
    "2^24 + 3": (2**24 + 3,),
}

# ---- Generators ----------------------------------------------------------------------------------


def generator(seed: int) -> torch.Generator:
    """A generator that is new, holds a normal in its cache, or has nearly used up a block of words."""
    made = torch.Generator().manual_seed(seed)
    phase = seed % 8
    if phase == 1:
        torch.empty(1).normal_(generator=made)
    elif phase >= 2:
        torch.empty(617 + phase).uniform_(generator=made)
    return made


# ---- Cases ---------------------------------------------------------------------------------------


class Case(NamedTuple):
    name: str
    layout: str
    size: str
    dtype: torch.dtype
    make: Callable[[], tuple[torch.Tensor, torch.Tensor]]
    arguments: tuple[object, ...]


# Bounds between which more than 30 percent of the normals lie, and bounds with fewer.
TRUNCATIONS = {
    "p > 0.3": (
        (0.0, 1.0, -2.0, 2.0),
        (0.0, 0.02, -2.0, 2.0),
        (0.3, 2.0, -1.0, 1.1),
        (0.0, 1.0, -math.inf, 0.1),
        (0.1, 1.0, 0.1, math.inf),
    ),
    "p <= 0.3": (
        (0.0, 1.0, -0.1, 0.1),
        (0.0, 1.0, 2.0, 3.0),
        (0.0, 1.0, 5.0, 6.0),
        (1.0, 1.0, -1.0, 0.0),
        (0.0, 1.0, 2.0, math.inf),
    ),
}
ARGUMENTS: dict[str, tuple[tuple[object, ...], ...]] = {
    "uniform_": ((), (-0.1, 0.3), (1.0, 1.0 + 2.0**-21), (1.0, 1.0 + 2.0**-50), (0.5, 0.5)),
    "normal_": ((), (0.3, 0.02), (-5.0, 2.0), (1.0, 0.0)),
    **{f"trunc_normal_, {name}": arguments for name, arguments in TRUNCATIONS.items()},
}
GAINS = tuple(
    (a, mode, nonlinearity)
    for mode in ("fan_in", "fan_out")
    for a, nonlinearity in (
        (0, "leaky_relu"),
        (math.sqrt(5), "leaky_relu"),
        (0, "relu"),
        (0, "tanh"),
        (0, "selu"),
        (0, "linear"),
    )
)
WEIGHTS: dict[str, tuple[tuple[object, ...], ...]] = {
    "xavier_uniform_": ((), (1.7,), (0,)),
    "xavier_normal_": ((), (1.7,), (0,)),
    "kaiming_uniform_": GAINS,
    "kaiming_normal_": GAINS,
    "orthogonal_": ((), (1.7,)),
}
MATRICES: dict[str, tuple[tuple[object, ...], ...]] = {
    "sparse_": ((0.5,), (0.1, 1.0), (0.0,), (1.0,))
}


def chosen(
    name: str, layout: Layout, size: str, dtype: torch.dtype
) -> tuple[tuple[int, ...], tuple[tuple[object, ...], ...]]:
    """The numbers of elements and the arguments of a row, of which there are fewer where torch is slow."""
    counts, several = SIZES[size], ARGUMENTS[name]
    if size == "0..40":
        return counts, several if layout is contiguous else several[:1]
    if size == "boundaries":
        is_whole = layout is contiguous and name != "trunc_normal_, p <= 0.3"
        return (counts, several[:2]) if is_whole else (counts[:27], several[:1])
    if size == "2^20 + 5" and layout in (contiguous, transposed, channels_last, steps):
        return counts, several[:1]
    if size == "2^24 + 3" and layout is contiguous and dtype is torch.float32:
        return counts, several[:1]
    return (), ()


def fill_cases() -> Iterator[Case]:
    for name, size, layout, dtype in itertools.product(ARGUMENTS, SIZES, LAYOUTS, DTYPES):
        for count, arguments in itertools.product(*chosen(name, layout, size, dtype)):
            yield Case(
                name,
                layout.__name__,
                size,
                dtype,
                lambda layout=layout, count=count, dtype=dtype: layout(count, dtype),
                arguments,
            )


def shaped_cases(
    several: dict[str, tuple[tuple[object, ...], ...]], shapes: tuple[tuple[int, ...], ...]
) -> Iterator[Case]:
    for name, arguments in several.items():
        for shape, dtype, layout in itertools.product(shapes, DTYPES, ("contiguous", "transposed")):
            if name == "orthogonal_" and layout == "transposed" and len(shape) > 2:
                continue  # torch cannot view it as a matrix, pyinit can

            def make(
                shape: tuple[int, ...] = shape, dtype: torch.dtype = dtype, layout: str = layout
            ) -> tuple[torch.Tensor, torch.Tensor]:
                whole = memory(math.prod(shape), dtype)
                if layout == "contiguous":
                    return whole, whole.view(shape)
                return whole, whole.view(shape[1], shape[0], *shape[2:]).transpose(0, 1)

            for each in arguments:
                yield Case(name, layout, "weights", dtype, make, each)


def cases() -> Iterator[Case]:
    yield from fill_cases()
    yield from shaped_cases(
        WEIGHTS, ((1, 1), (3, 4), (40, 17), (17, 40), (64, 3, 7, 7), (8, 4, 3), (300, 500))
    )
    yield from shaped_cases(
        MATRICES, ((1, 1), (1, 9), (9, 1), (4, 4), (40, 17), (17, 40), (625, 33), (300, 500))
    )


# ---- Comparison ----------------------------------------------------------------------------------


def outcome(
    function: Callable[..., object], case: Case, seed: int
) -> tuple[torch.Tensor, torch.Tensor, str]:
    """The memory and the generator's state after a call, and its error."""
    whole, tensor = case.make()
    source = generator(seed)
    error = ""
    torch.manual_seed(seed)
    try:
        function(tensor, *case.arguments, generator=source)
    except (RuntimeError, ValueError, ZeroDivisionError) as exception:
        error = repr(exception)
    return whole, torch.cat((source.get_state(), torch.get_rng_state())), error


def matches(case: Case, seed: int) -> bool:
    name = case.name.partition(",")[0]
    with pyinit.rng("torch"):
        ours, our_state, our_error = outcome(getattr(pyinit.init, name), case, seed)
    theirs, their_state, their_error = outcome(getattr(torch.nn.init, name), case, seed)
    if our_error != their_error or not torch.equal(our_state, their_state):
        return False
    if our_error:
        return True
    if name == "orthogonal_":
        return torch.allclose(ours, theirs, rtol=0, atol=CLOSE[case.dtype])
    bits = BITS[ours.element_size()]
    return torch.equal(ours.view(bits), theirs.view(bits))


class Cell:
    def __init__(self) -> None:
        self.cases = self.mismatches = self.by_torch = 0

    def __str__(self) -> str:
        if not self.cases:
            return ""
        if not self.by_torch:
            whose = ""
        elif self.by_torch == self.cases:
            whose = " torch"
        else:
            whose = f" torch {self.by_torch}"
        return f"{self.cases}/{self.mismatches}{whose}"


class CallsLeftToTorch:
    """Counts the calls that pyinit leaves to torch's own functions."""

    def __init__(self) -> None:
        self.count = 0
        self._by_torch = _routes.by_torch
        _routes.by_torch = self

    def __call__(self, *args: object) -> torch.Tensor:
        self.count += 1
        return self._by_torch(*args)


def main() -> int:
    warnings.simplefilter("ignore")
    console = Console(width=None if sys.stdout.isatty() else 120)
    left = CallsLeftToTorch()
    torch_stream._SMALL = -1
    rows: dict[tuple[str, str, str], dict[torch.dtype, Cell]] = {}
    mismatching: list[str] = []
    begin = time.perf_counter()
    for seed, case in enumerate(cases()):
        row = rows.setdefault(case[:3], {dtype: Cell() for dtype in DTYPES})
        cell = row[case.dtype]
        cell.cases += 1
        left.count = 0
        if not matches(case, seed):
            cell.mismatches += 1
            if cell.mismatches == 1:
                shape = tuple(case.make()[1].shape)
                mismatching.append(
                    f"{case.name} {case.layout} {shape} {case.dtype} {case.arguments} {seed=}"
                )
        cell.by_torch += left.count > 0
    seconds = time.perf_counter() - begin

    capability = torch.backends.cpu.get_cpu_capability()
    table = Table(
        title=f"torch {torch.__version__}, CPU capability {capability}; "
        f"pyinit on {pyinit.info()['isa']}, {torch.get_num_threads()} threads",
        caption="cases/mismatches; 'torch': left to torch's own function (how many, if not all)",
    )
    for heading in ("function", "layout", "elements"):
        table.add_column(heading, no_wrap=True)
    for dtype in DTYPES:
        table.add_column(str(dtype).removeprefix("torch."), justify="right", no_wrap=True)
    before = ""
    for (name, layout, size), row in rows.items():
        if before and name != before:
            table.add_section()
        table.add_row("" if name == before else name, layout, size, *map(str, row.values()))
        before = name
    console.print(table)
    for note in pyinit.info()["torch_fallbacks"]:
        console.print(f"fallback: {note}", markup=False, soft_wrap=True)
    for mismatch in mismatching:  # the first of each cell
        console.print(f"mismatch: {mismatch}", markup=False, soft_wrap=True)
    cells = [cell for row in rows.values() for cell in row.values()]
    total, mismatches, by_torch = (
        sum(getattr(cell, what) for cell in cells) for what in ("cases", "mismatches", "by_torch")
    )
    console.print(
        f"{total} cases, {mismatches} mismatches, {total - by_torch} native, "
        f"{by_torch} left to torch; {seconds:.0f} s"
    )
    return int(mismatches != 0)


if __name__ == "__main__":
    sys.exit(main())
