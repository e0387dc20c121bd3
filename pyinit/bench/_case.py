"""Benchmark cases, and how they are measured.

The speed of a machine drifts, so torch and pyinit are called in turn, and the ratio is the median of the
ratios of all pairs. Peers, too, are called in turn with pyinit.
"""

import ctypes
import statistics
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from time import perf_counter, process_time, sleep
from typing import Any, ClassVar, Literal, TypeAlias, TypedDict

import torch
from torch import Tensor

from pyinit import _core
from pyinit._torch.views import DTYPES

LIBRARIES = ("torch", "pyinit")
"""The libraries that every case compares."""
Unit: TypeAlias = Literal["GB/s", "GF/s"]

_MIN_PAIRS = 3
_MAX_PAIRS = 500
_PEAK_SAMPLES = 10
_PEAK_ROUNDS = 500_000  # of multiply-adds: about a millisecond
_PRODUCT_SIDE = 768  # where torch's matrix products have reached their full rate
_PRODUCT_SAMPLES = 6
_REST, _WAKING, _TIMING = 1e-2, 1e-2, 2e-2  # seconds; the clock of other threads only ticks
_MAX_RESTS = 20


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

    def products(self) -> float | None:
        """The rate of torch's matrix products at this moment; None where it is no measure for the case."""
        return None

    @property
    def has_peers(self) -> bool:
        """Whether ``PEERS`` can perform the computation."""
        return False

    def by_peer(self, name: str, argument: Any) -> Callable[[Any], Any]:
        """The function of one of ``PEERS``, which only takes this argument."""
        raise NotImplementedError

    def settings(self) -> AbstractContextManager[None]:
        """A context in which the case is measured."""
        return nullcontext()

    def __str__(self) -> str:
        return " ".join(self.labels)


class Beside(TypedDict):
    """A peer's median time, in seconds, and its ratio to pyinit's in pairs of calls of these two."""

    seconds: float
    ratio: float
    pairs: int


class Result(TypedDict):
    """Measured times and ratios.

    Times are medians, in seconds. The rate belongs to pyinit's shortest time; it and its share of the
    peak are None for empty tensors. Shares of sgemm compare the rates of torch's and of pyinit's
    shortest times with torch's matrix products, for convolutions and networks. ``peers`` has those
    by name that perform the computation.
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
    torch_share_of_sgemm: float | None
    share_of_sgemm: float | None
    pairs: int
    peers: dict[str, Beside]


def measure(case: Case, seconds: float, peers: Iterable[str] = ()) -> Result:
    """Call torch and pyinit in turn for about ``seconds``, at least three times each.

    Then each of the peers that perform the computation is called in turn with pyinit for as long.
    """
    warm = case.argument()
    with case.settings():
        by_torch, by_pyinit = (case.function(library) for library in LIBRARIES)
        pairs = _pairs(case, warm, seconds, (by_torch, by_pyinit), _sample)
        products, peak = case.products(), case.peak(warm)
        beside = {
            peer: _beside(
                _pairs(case, warm, seconds, (case.by_peer(peer, warm), by_pyinit), _rested)
            )
            for peer in (peers if case.has_peers else ())
        }
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
        ratio=_ratio(pairs),
        rate=rate / 1e9 if case.work else None,
        rate_unit=case.unit,
        share_of_peak=rate / peak if case.work else None,
        torch_share_of_sgemm=case.work / min(theirs) / products if products else None,
        share_of_sgemm=rate / products if products else None,
        pairs=len(pairs),
        peers=beside,
    )


def _beside(pairs: Sequence[tuple[float, float]]) -> Beside:
    median = statistics.median(theirs for theirs, _ in pairs)
    return Beside(seconds=median, ratio=_ratio(pairs), pairs=len(pairs))


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    return statistics.median(theirs / ours for theirs, ours in pairs)


def _pairs(
    case: Case,
    warm: Any,
    seconds: float,
    functions: tuple[Callable[[Any], Any], Callable[[Any], Any]],
    sample: Callable[[Case, Any, Callable[[Any], Any]], float],
) -> list[tuple[float, float]]:
    theirs, ours = functions
    theirs(warm), ours(warm)
    pairs: list[tuple[float, float]] = []
    end = perf_counter() + seconds
    while len(pairs) < _MIN_PAIRS or (perf_counter() < end and len(pairs) < _MAX_PAIRS):
        pairs.append((sample(case, warm, theirs), sample(case, warm, ours)))
    return pairs


def _sample(case: Case, warm: Any, function: Callable[[Any], Any]) -> float:
    return _seconds(function, case.renewed(warm), case.calls)


def _rested(case: Case, warm: Any, function: Callable[[Any], Any]) -> float:
    """The median of some samples where each library has threads of its own.

    Such threads look for work for a while after a call and would slow the other library down, so they
    are let come to rest. Calls that are not timed then wake this library's threads, and the system
    needs some milliseconds to run each of these on a processor of its own.
    """
    _rest()
    _samples(case, warm, function, _WAKING)
    return statistics.median(_samples(case, warm, function, _TIMING))


def _samples(case: Case, warm: Any, function: Callable[[Any], Any], seconds: float) -> list[float]:
    end = perf_counter() + seconds
    samples = [_sample(case, warm, function)]
    while perf_counter() < end:
        samples.append(_sample(case, warm, function))
    return samples


def _rest() -> None:
    """Wait until no thread of this process is at work, but not for long."""
    for _ in range(_MAX_RESTS):
        start, used = perf_counter(), process_time()
        sleep(_REST)
        if process_time() - used < (perf_counter() - start) / 4:
            return


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


def products_per_second(dtype: torch.dtype) -> float:
    """The highest rate of torch's products of large square matrices, with torch's threads."""
    left, right = torch.randn(2, _PRODUCT_SIDE, _PRODUCT_SIDE, dtype=dtype)
    product = partial(torch.mm, left, out=torch.empty_like(left))
    seconds = min(_seconds(product, right) for _ in range(_PRODUCT_SAMPLES))
    return 2 * _PRODUCT_SIDE**3 / seconds


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
