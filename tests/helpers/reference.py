"""Independent float64 references for the streams of docs/random.md, in numpy and scipy."""

import numpy as np
from numpy.typing import NDArray
from scipy import special

Words = NDArray[np.uint32]
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
LOW = np.uint64(0xFFFFFFFF)


def words(key: int, stream: int, start: int, count: int) -> Words:
    """Words ``start .. start + count - 1`` of a stream: Philox4x32-10, vectorized over blocks."""
    first, last = start // 4, (start + count - 1) // 4
    index = np.arange(last - first + 1, dtype=np.uint64) + np.uint64(first)
    c = [
        index & LOW,
        index >> np.uint64(32),
        np.full_like(index, stream & 0xFFFFFFFF),
        np.full_like(index, stream >> 32),
    ]
    k = [key & 0xFFFFFFFF, key >> 32]
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(MULTIPLIERS[0]), c[2] * np.uint64(MULTIPLIERS[1])
        c = [
            (p1 >> np.uint64(32)) ^ c[1] ^ np.uint64(k[0]),
            p1 & LOW,
            (p0 >> np.uint64(32)) ^ c[3] ^ np.uint64(k[1]),
            p0 & LOW,
        ]
        k = [(k[0] + WEYL[0]) & 0xFFFFFFFF, (k[1] + WEYL[1]) & 0xFFFFFFFF]
    return np.stack(c, axis=1).astype(np.uint32).ravel()[start - 4 * first :][:count]


def double_words(key: int, stream: int, start: int, count: int) -> NDArray[np.uint64]:
    """The 64-bit words of float64 elements: two words each, the first one low."""
    w = words(key, stream, 2 * start, 2 * count).astype(np.uint64)
    return w[0::2] | w[1::2] << np.uint64(32)


def box_muller(u1: NDArray[np.float64], turn: NDArray[np.float64]) -> NDArray[np.float64]:
    radius = np.sqrt(-2 * np.log(u1))
    angle = 2 * np.pi * turn
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()


def normal(key: int, stream: int, count: int, *, double: bool) -> NDArray[np.float64]:
    if double:
        w = double_words(key, stream, 0, count)
        u1 = ((w[0::2] >> np.uint64(11)) + 0.5) * 2.0**-53
        return box_muller(u1, w[1::2] * 2.0**-64)
    w = words(key, stream, 0, count)
    return box_muller(((w[0::2] >> np.uint32(1)) + 0.5) * 2.0**-31, w[1::2] * 2.0**-32)


def truncated_normal(
    below: NDArray[np.float64], above: NDArray[np.float64], low: float, high: float
) -> NDArray[np.float64]:
    """Standard normal quantiles at cdf(low) + below (cdf(high) - cdf(low)), above = 1 - below."""
    from_left = _from_left(below, low, high)
    from_right = -_from_left(above, -high, -low)
    if high <= 0:
        return from_left
    if low >= 0:
        return from_right
    return np.where(from_left < 0, from_left, from_right)


def _from_left(below: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    log_low, log_high = special.log_ndtr(low), special.log_ndtr(high)
    rest = np.exp(log_low - log_high)
    return special.ndtri_exp(log_high + np.log(rest + below * (1 - rest)))


def orthogonal(numbers: NDArray[np.float64], m: int, n: int) -> NDArray[np.float64]:
    """The m by n matrix, m >= n, that standard normals make: one reflection after the other."""
    lower = np.tril_indices(m, 0, n)
    normals = np.zeros((m, n))
    normals[lower] = numbers[: len(lower[0])]
    count = min(n, m - 1)
    signs = np.copysign(1.0, normals.diagonal())
    signs[:count] *= -1
    q = np.eye(m, n) * signs
    for i in reversed(range(count)):
        v = normals[i:, i].copy()
        v[0] += np.copysign(np.linalg.norm(v), v[0])
        q[i:] -= np.outer(v, 2 / (v @ v) * (v @ q[i:]))
    return q
