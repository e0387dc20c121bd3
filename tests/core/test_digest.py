"""``_core.digest``: a number that tells whether memory still holds what it held."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from pyinit import _core
from pyinit._torch.views import view_of

COUNTS = [0, 1, 3, 31, 32, 33, 1000, 16384, 16385, (1 << 18) + 77]


def digest(x: Tensor, threads: int = 1) -> int | None:
    return _core.digest(view_of(x), threads)


def numbers(count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(count), dtype=dtype)


def changes(x: Tensor) -> Iterator[Tensor]:
    """One bit of one element, everywhere; signs of two, of all; elements that change places."""
    bits = x.view(torch.int32)
    for i in {*range(min(70, len(x))), *range(max(0, len(x) - 70), len(x)), len(x) // 2}:
        for bit in (1, 1 << 22, -(1 << 31)):
            changed = bits.clone()
            changed[i] ^= bit
            yield changed.view(x.dtype)
    for i in {1, 2, 31, 32, 64, 512, 1024, 2048, 16384, 32768} & {*range(len(x) - 1)}:
        for first in (0, 1):
            if first + i < len(x):
                two = [first, first + i]
                yield x.index_fill(0, torch.tensor(two), 0.0)
                changed = x.clone()
                changed[two] = -changed[two]
                yield changed
                changed[two] = x[two[::-1]]
                yield changed
        yield x.roll(i)
    yield -x
    yield x * 2
    yield x.flip(0)


@pytest.mark.parametrize("count", COUNTS)
def test_changes_show(count: int, isa: str) -> None:
    x = numbers(count)
    before = digest(x)
    assert before is not None
    for changed in changes(x) if count > 1 else [x + 1] * count:
        assert digest(changed) != before
    assert digest(x) == before


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_the_same_for_every_instruction_set_threads_and_alignment(dtype: torch.dtype) -> None:
    for count in COUNTS:
        x = numbers(count).to(dtype)
        moved = torch.empty(count + 3, dtype=dtype)[3:].copy_(x)
        seen = set()
        for isa in _core.available_isas():
            _core.set_isa(isa)
            seen |= {digest(y, threads) for y in (x, moved) for threads in (1, 2, 5)}
        assert len(seen) == 1


def test_an_end_of_zeros_counts() -> None:
    digests = {digest(torch.zeros(count)) for count in range(1, 200, 32)}
    assert len(digests) == len(range(1, 200, 32))


VIEWS: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {
    "turned": (lambda x: x.permute(2, 0, 1), True),
    "a part": (lambda x: x[1:3], True),
    "with gaps": (lambda x: x[:, 1:], False),
    "expanded": (lambda x: x[:, :1].expand(4, 5, 6), False),
}


@pytest.mark.parametrize("name", VIEWS)
def test_memory_with_gaps_has_none(name: str) -> None:
    of, has_one = VIEWS[name]
    assert (digest(of(torch.zeros(4, 5, 6))) is not None) == has_one
