"""Which tensors go to which shard."""

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.distributed.layout import balanced

SIZES = st.lists(st.integers(0, 20), min_size=1, max_size=9)


def largest(sizes: list[int], cuts: tuple[int, ...]) -> int:
    return max(sum(sizes[a:b]) for a, b in pairwise((0, *cuts, len(sizes))))


@given(SIZES, st.data())
def test_runs_hold_all_and_the_largest_is_as_small_as_can_be(
    sizes: list[int], data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, len(sizes)))
    runs = balanced(sizes, count)
    assert len(runs) == count
    assert [i for run in runs for i in run] == [*range(len(sizes))]
    assert all(len(run) > 0 for run in runs)
    best = min(largest(sizes, cuts) for cuts in combinations(range(1, len(sizes)), count - 1))
    assert max(sum(sizes[i] for i in run) for run in runs) == best


@pytest.mark.parametrize("count", [1, 3, 7, 16, 100])
def test_equal_tensors_are_shared_out_evenly(count: int) -> None:
    lengths = {len(run) for run in balanced([4096] * 100, count)}
    assert max(lengths) - min(lengths) <= 1
