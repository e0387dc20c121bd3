"""Writes csrc/simd/accurate_tables.hpp: values at the points around which functions are expanded.

Run: python tools/make_accurate_tables.py
"""

from pathlib import Path

import mpmath as mp

mp.mp.dps = 60
SINES = 128  # the pieces of a turn
LOGS = 256  # the pieces of a binade
FIRST = 0.6875  # the end below the logarithm's first piece
TARGET = Path(__file__).parent.parent / "csrc" / "simd" / "accurate_tables.hpp"


def hexadecimal(x: float) -> str:
    if x == 0:
        return "0"
    mantissa, exponent = x.hex().split("p")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}p{int(exponent)}"


def split(x: mp.mpf, step: mp.mpf | None = None) -> tuple[float, float]:
    """x as the sum of two doubles. The first is a multiple of ``step`` if one is given."""
    high = float(mp.nint(x / step) * step if step else x)
    return high, float(x - high)


def sine_row(j: int) -> tuple[float, ...]:
    """Sine and cosine of j pieces of a turn, each as the sum of two doubles."""
    quadrant, rest = divmod(j, SINES // 4)
    angle = 2 * mp.pi * rest / SINES
    sin, cos = mp.sin(angle), mp.cos(angle)
    for _ in range(quadrant):
        sin, cos = cos, -sin
    return (*split(sin), *split(cos))


def log_row(i: int) -> tuple[float, ...]:
    """1 / c in few bits, and log c, for c in the middle of the i-th piece of a binade."""
    below = int((1 - FIRST) * 2 * LOGS)  # pieces below one, half as wide as those above
    width = mp.mpf(1) / LOGS / (2 if i < below else 1)
    high = 1 + (i + 1 - below) * width
    # 1 / c has so few bits that m / c - 1 is exact in a double. Next to 1, c is 1.
    step = mp.mpf(1) / 256 if i < below else mp.mpf(1) / 512
    inverse = mp.mpf(1) if high == 1 else mp.nint(1 / (high - width / 2) / step) * step
    farthest = max(abs(high * inverse - 1), abs((high - width) * inverse - 1))
    assert farthest <= mp.mpf(2) ** -8, (i, mp.log(farthest, 2))
    return (float(inverse), *split(-mp.log(inverse), mp.mpf(2) ** -42))


def table(name: str, what: str, rows: list[tuple[float, ...]]) -> str:
    lines = [f"    {{{', '.join(hexadecimal(x) for x in row)}}},\n" for row in rows]
    return f"// {what}\nalignas(32) inline constexpr double {name}[{len(rows)}][4] = {{\n{''.join(lines)}}};\n"


if __name__ == "__main__":
    text = (
        "// Made by tools/make_accurate_tables.py.\n#pragma once\n\nnamespace pyinit {\n\n// clang-format off\n"
        + table(
            "kSineTable",
            f"Sine and cosine of j/{SINES} turn, each as a sum of two doubles.",
            [sine_row(j) for j in range(SINES)],
        )
        + "\n"
        + table(
            "kLogTable",
            "1/c, and log(c) as a sum of a multiple of 2^-42 and a double. The fourth column is padding.",
            [(*log_row(i), 0.0) for i in range(LOGS)],
        )
        + "// clang-format on\n\n}  // namespace pyinit\n"
    )
    TARGET.write_text(text)
