"""Benchmark cases, and how they are measured.

The speed of a machine drifts, so torch and pyinit are called in turn, and the ratio is the median of the
ratios of all pairs.
"""

import ctypes
import statistics
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from time import perf_counter
from typing import Any, ClassVar, Literal, TypeAlias, TypedDict

import torch
from torch import Tensor

from pyinit import _core
from pyinit._torch.views import DTYPES

LIBRARIES = ("torch", "pyinit")
Unit: TypeAlias = Literal["GB/s", "GF/s"]

_MIN_PAIRS = 3
_MAX_PAIRS = 500
_PEAK_SAMPLES = 10
_PEAK_ROUNDS = 500_000  # of multiply-adds: about a millisecond


class Case(ABC):
    """One computation, which each library performs by a function of one argument."""

    seconds: ClassVar[float]
    """How long the case is measured by default."""

    @property
    @abstractmethod
    def labels(self) -> tuple[str, str, str]:
        """Operation, dtype and size, which together name the case."""

    @property
    def group(self) -> str | None:
        """The group of cases to which it belongs, and whose ratios are averaged; None for no group."""
        return None

    @property
    @abstractmethod
    def work(self) -> float:
        """How many bytes a call moves, or how many additions and multiplications it performs."""

    @property
    @abstractmethod
    def unit(self) -> Unit:
        """The unit of rates: thousand millions of bytes, or of additions and multiplications, a second."""

    @property
    @abstractmethod
    def calls(self) -> int:
        """How many calls make one sample, so that it is long enough for the clock."""

    @abstractmethod
    def argument(self) -> Any:
        """The argument that the functions are called with."""

    def renewed(self, argument: Any) -> Any:
        """The argument of the next sample, after this one."""
        return argument

    @abstractmethod
    def function(self, library: str) -> Callable[[Any], Any]:
        """The function that is timed, for one of ``LIBRARIES``."""

    @abstractmethod
    def peak(self, argument: Any) -> float:
        """The most work a second that the machine can do at this moment."""

    def settings(self) -> AbstractContextManager[None]:
        """A context in which the case is measured."""
        return nullcontext()

    def __str__(self) -> str:
        return " ".join(self.labels)


class Result(TypedDict):
    """Measured times and ratios.

    Times are medians, in seconds. The rate belongs to pyinit's shortest time; it and its share of the
    peak are None for empty tensors.
    """

    operation: str
    dtype: str
    size: str
    group: str | None
    torch_seconds: float
    pyinit_seconds: float
    ratio: float
    rate: float | None
    rate_unit: Unit
    share_of_peak: float | None
    pairs: int


def measure(case: Case, seconds: float) -> Result:
    """Call torch and pyinit in turn for about ``seconds``, at least three times each."""
    warm = case.argument()
    with case.settings():
        pairs = _pairs(case, warm, seconds)
        peak = case.peak(warm)
    theirs, ours = zip(*pairs, strict=True)
    operation, dtype, size = case.labels
    rate = case.work / min(ours)
    return Result(
        operation=operation,
        dtype=dtype,
        size=size,
        group=case.group,
        torch_seconds=statistics.median(theirs),
        pyinit_seconds=statistics.median(ours),
        ratio=statistics.median(a / b for a, b in pairs),
        rate=rate / 1e9 if case.work else None,
        rate_unit=case.unit,
        share_of_peak=rate / peak if case.work else None,
        pairs=len(pairs),
    )


def _pairs(case: Case, warm: Any, seconds: float) -> list[tuple[float, float]]:
    theirs, ours = (case.function(library) for library in LIBRARIES)
    theirs(warm), ours(warm)
    pairs: list[tuple[float, float]] = []
    end = perf_counter() + seconds
    while len(pairs) < _MIN_PAIRS or (perf_counter() < end and len(pairs) < _MAX_PAIRS):
        pairs.append((_sample(case, warm, theirs), _sample(case, warm, ours)))
    return pairs


def _sample(case: Case, warm: Any, function: Callable[[Any], Any]) -> float:
    return _seconds(function, case.renewed(warm), case.calls)


def _seconds(function: Callable[[Any], Any], argument: Any, calls: int = 1) -> float:
    start = perf_counter()
    for _ in range(calls):
        function(argument)
    return (perf_counter() - start) / calls


def bytes_per_second(case: Case, warm: Tensor) -> float:
    """The highest rate at which such memory can be zeroed, with torch's threads or with one."""
    zeros = (Tensor.zero_, lambda tensor: ctypes.memset(tensor.data_ptr(), 0, tensor.nbytes))
    samples = (_sample(case, warm, zero) for zero in zeros for _ in range(_PEAK_SAMPLES))
    return warm.nbytes / min(samples)


def bytes_read_per_second(case: Case, warm: Tensor) -> float:
    """The highest rate at which torch reads such memory, for the sum or the greatest of its values."""
    readers = (torch.sum, torch.amax)
    samples = (_sample(case, warm, read) for read in readers for _ in range(_PEAK_SAMPLES))
    return warm.nbytes / min(samples)


def flops_per_second(dtype: torch.dtype) -> float:
    """The highest rate of one thread times the number of torch's threads; a multiply-add counts as two."""
    fused = partial(_core.multiply_adds, DTYPES[dtype])
    seconds = min(_seconds(fused, _PEAK_ROUNDS) for _ in range(_PEAK_SAMPLES))
    return torch.get_num_threads() * 2 * fused(_PEAK_ROUNDS) / seconds


def named_call(function: str, kwargs: Mapping[str, Any]) -> str:
    """``trunc_normal_(std=0.02)``; without arguments the name alone."""
    values = ", ".join(f"{name}={value}" for name, value in kwargs.items())
    return f"{function}({values})" if values else function


def size_name(shape: Iterable[int]) -> str:
    """``2^24``, ``64x3x7x7``."""
    sizes = tuple(shape)
    power = sizes[0].bit_length() - 1
    if len(sizes) == 1 and power >= 10 and sizes[0] == 1 << power:
        return f"2^{power}"
    return "x".join(map(str, sizes))
