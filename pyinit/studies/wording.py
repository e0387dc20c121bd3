"""How the numbers of statistics stand in sentences."""

import math
from collections.abc import Iterable, Mapping
from typing import Any


def number(value: float, spread: float | None = None) -> str:
    """A number with as many decimals as an interval of that width supports: two digits of half of it.

    >>> number(0.95312, spread=0.022), number(1234.5, spread=300.0), number(0.1), number(float("inf"))
    ('0.953', '1234', '0.1', 'none')
    """
    if not math.isfinite(value):
        return "none"
    if not spread or not 1e-8 < spread < 1e8:
        return f"{value:.4g}"
    decimals = max(0, 1 - math.floor(math.log10(spread / 2)))
    return f"{round(value, decimals) + 0.0:.{decimals}f}"


def p_value(p: float, tests: int, bound: float = 0.0) -> str:
    """A p-value: of the test against which bound, unless that is 0, and whether it was corrected.

    >>> p_value(0.00213, tests=3), p_value(1e-7, tests=1, bound=0.9)
    ("p = 0.00213 after Holm's correction", 'p < 0.0001 against 0.9')
    """
    value = f"p = {p:.3g}" if p >= 1e-4 else "p < 0.0001"
    value += f" against {number(bound)}" if bound else ""
    return value + (" after Holm's correction" if tests > 1 else "")


def confidence(level: float) -> str:
    """What an interval holds with: "95%" for a level of 0.05."""
    return f"{100 * (1 - level):.4g}%"


def counted(count: int, noun: str) -> str:
    """ "1 seed", "5 seeds"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def listed(items: Iterable[object]) -> str:
    """ "1", "1 and 2", "1, 2 and 3"."""
    *most, last = map(str, items)
    return f"{', '.join(most)} and {last}" if most else last


def placed(factors: Mapping[str, Any]) -> str:
    """Values of factors in a sentence.

    >>> placed({"depth": 10, "batch_norm": True})
    'depth = 10 and batch_norm = true'
    """
    return " and ".join(f"{name} = {plain(value)}" for name, value in factors.items())


def plain(value: Any) -> str:
    """A factor's value as TOML has it, but for the quotes of a text."""
    return str(value).lower() if isinstance(value, bool) else str(value)
