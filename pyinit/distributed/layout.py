"""Which tensors go to which of the files: runs of them, as even in bytes as runs can be."""

from collections.abc import Sequence


def balanced(sizes: Sequence[int], count: int) -> list[range]:
    """Part a sequence into ``count`` runs, none of them empty, so that the largest is as small as can be.

    Args:
        sizes: the bytes of each item
        count: the number of runs, at least 1 and at most the number of items
    """
    most = _least_bound(sizes, count)
    needed = _needed(sizes, most)
    runs = []
    start, rest = 0, sum(sizes)
    for left in range(count, 0, -1):
        # A run ends near its share of what is left, if that can go to as many runs as there are left.
        end, size = start + 1, sizes[start]
        while len(sizes) - end > left - 1 and size + sizes[end] <= most:
            is_full = 2 * left * size + left * sizes[end] > 2 * rest
            if is_full and needed[end] <= left - 1:
                break
            size += sizes[end]
            end += 1
        runs.append(range(start, end))
        start, rest = end, rest - size
    return runs


def _least_bound(sizes: Sequence[int], count: int) -> int:
    """The least number of bytes that is enough for the largest of ``count`` runs."""
    low, high = max(sizes), sum(sizes)
    while low < high:
        middle = (low + high) // 2
        if _needed(sizes, middle)[0] <= count:
            high = middle
        else:
            low = middle + 1
    return low


def _needed(sizes: Sequence[int], most: int) -> list[int]:
    """For each item, how many runs of at most so many bytes hold all from it on; 0 at the end."""
    needed = [0] * (len(sizes) + 1)
    end, size = len(sizes), 0
    for start in reversed(range(len(sizes))):
        size += sizes[start]
        while size > most:
            end -= 1
            size -= sizes[end]
        needed[start] = 1 + needed[end]
    return needed
