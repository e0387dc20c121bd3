"""Compares fills under ``pyinit.rng("torch.func")`` with ``torch.func._random``: their bits, and their time.

python tools/compare_torch_func.py    (torch 2.14 or later; some two minutes)

Values: odd sizes, random sizes, keys and parameters, all dtypes, whole tensors and blocks. Time: pairs of calls,
one after the other, and the median of their ratios.
"""

import random
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import _random as theirs

import pyinit

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SIZES = (16, 1 << 10, 1 << 14, 1 << 18, 1 << 22)
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
PAIRS, SECONDS = 11, 1.5


def unequal(one: Tensor, other: Tensor) -> int:
    """How many elements differ in any bit."""
    kind = INTEGERS[one.element_size()]
    return int((one.contiguous().view(kind) != other.contiguous().view(kind)).sum())


def compare_values() -> None:
    rolls = random.Random(0)
    for dtype in DTYPES:
        elements, differing, fills = 0, 0, 0
        for size in [*range(41), *(rolls.randrange(41, 1 << 18) for _ in range(40))]:
            key = theirs.fold_in(theirs.key(rolls.randrange(1 << 64)), rolls.randrange(1 << 64))
            mean, std = rolls.gauss(0, 1), rolls.uniform(0, 30)
            begin = rolls.randrange(size + 1)
            block = {"whole": (size,), "start": (begin,)}
            for expected, fill, fill_block, numbers in (
                (
                    theirs.normal(key, size, mean=mean, std=std, dtype=dtype),
                    pyinit.normal_,
                    pyinit.fill.normal,
                    (mean, std),
                ),
                (
                    theirs.uniform(key, size, low=mean, high=mean + std, dtype=dtype),
                    pyinit.uniform_,
                    pyinit.fill.uniform,
                    (mean, mean + std),
                ),
            ):
                made = fill(torch.empty(size, dtype=dtype), *numbers, generator=key)
                part = torch.empty(size - begin, dtype=dtype)
                fill_block(part, *numbers, key=key, **block)
                differing += unequal(made, expected) + unequal(part, expected[begin:])
                elements += 2 * size - begin
                fills += 2
        print(f"{str(dtype)[6:]:10}{fills:6} fills, {elements:,} elements, {differing} differ")


def seconds(call: Callable[[], object], repeats: int) -> float:
    begin = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - begin) / repeats


def compare_times() -> None:
    print(f"\n{'':33}{'torch':>12}{'pyinit':>12}{'ratio':>8}")
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for dtype in (torch.float32, torch.bfloat16, torch.float64):
            for name in ("normal_", "uniform_"):
                for size in SIZES:
                    show_times(name, dtype, size, threads)


def show_times(name: str, dtype: torch.dtype, size: int, threads: int) -> None:
    tensor, key = torch.empty(size, dtype=dtype), theirs.key(1)
    calls = (
        lambda: getattr(theirs, name)(key, tensor),
        lambda: getattr(pyinit, name)(tensor, generator=key),
    )
    once = max(seconds(call, 1) for call in calls * 3)
    repeats = max(1, int(SECONDS / PAIRS / 2 / once / 10))
    pairs = [tuple(seconds(call, repeats) for call in calls) for _ in range(PAIRS)]
    torchs, ours = (statistics.median(each) for each in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    what = f"{name:9}{str(dtype)[6:]:9}{size:>9} {threads} thr."
    print(f"{what:33}{torchs * 1e6:9.1f} us{ours * 1e6:9.1f} us{ratio:8.2f}")


if __name__ == "__main__":
    print(f"torch {torch.__version__}, pyinit on {pyinit.info()['isa']}")
    with pyinit.rng("torch.func"):
        compare_values()
        compare_times()
    print("left to torch:", pyinit.info()["torch_fallbacks"] or "nothing")
