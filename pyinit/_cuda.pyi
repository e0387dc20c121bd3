"""The CUDA kernels, in a module that is there where nvcc was. No torch, no user semantics.

Targets are as in ``_core``, with addresses on the device; a queue is a device and the handle of one
of its streams. Nothing waits for what it launches. Errors of CUDA are RuntimeErrors in its words.
"""

from pyinit._core import View

BUILD: str

def can_fill(target: View, /) -> bool:
    """Whether the target's dims, once joined, are few enough."""

def fill_many(
    fills: list[
        tuple[
            View,
            int,
            tuple[float, ...],
            tuple[int, int],
            tuple[int, ...] | None,
            tuple[int, ...] | None,
        ]
    ],
    queue: tuple[int, int],
    /,
) -> None:
    """Each fill is (target, distribution, four numbers, key, whole, start).

    Distributions are 0 constant (value), 1 uniform (low, high), 2 normal (mean, std), 3 truncated
    normal (mean, std, low, high), 4 Bernoulli (probability), 5 truncated normal of stream version 1.
    """

def fill_sparse(
    target: View, zeros: int, std: float, key: tuple[int, int], queue: tuple[int, int], /
) -> None: ...
def describe_many_scratch(targets: list[View], /) -> int:
    """Bytes of device memory that ``describe_many`` works in. Both refuse more than 6 dims once joined."""

def describe_many(
    targets: list[View],
    bounds: list[tuple[float, float]],
    scratch: int,
    out: int,
    queue: tuple[int, int],
    /,
) -> None:
    """To ``out``, float64, the rows of ``_core.describe_many``."""

def describe_channels_scratch(target: View, samples: int, channel: int, /) -> int:
    """Bytes of device memory that ``describe_channels`` works in."""

def describe_channels(
    target: View,
    samples: int,
    channel: int,
    low: float,
    high: float,
    scratch: int,
    out: int,
    queue: tuple[int, int],
    /,
) -> None:
    """To ``out``, float64, the rows of ``_core.describe_channels``, and behind them what that returns."""
