"""Benchmark cases, and their measurement against torch.

Machines drift, so torch and pyinit are called in turn and the ratio is the median over the pairs.
"""

import ctypes
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any, TypedDict

import torch
from torch import Tensor

import pyinit.init
from pyinit import _core
from pyinit._original import original
from pyinit._rng import rng

LIBRARIES = {"torch": original, "pyinit": pyinit.init}

_MIN_PAIRS = 3
_MAX_PAIRS = 500
_MEMSETS = 10


@dataclass(frozen=True)
class Case:
    """One initializer on one kind of tensor.

    ``fresh`` memory has never been touched; ``isa`` forces an instruction set on pyinit; ``rng`` is
    pyinit's generator.
    """

    operation: str
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    layout: torch.memory_format = torch.contiguous_format
    fresh: bool = False
    isa: str | None = None
    rng: str = "philox"

    @property
    def call(self) -> str:
        values = ", ".join(f"{name}={value}" for name, value in self.kwargs.items())
        return self.operation + (f"({values})" if values else "")

    @property
    def type(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    @property
    def size(self) -> str:
        notes = {
            "channels_last": self.layout == torch.channels_last,
            "fresh": self.fresh,
            str(self.isa): self.isa is not None,
            f"rng={self.rng}": self.rng != "philox",
        }
        return " ".join((_size(self.shape), *(note for note, holds in notes.items() if holds)))

    def __str__(self) -> str:
        return f"{self.call} {self.type} {self.size}"

    @property
    def calls(self) -> int:
        """How many calls make one sample: enough for the clock."""
        return max(1, min(200, 2**18 // max(1, torch.Size(self.shape).numel())))

    def tensor(self, device: str = "cpu") -> Tensor:
        empty = torch.empty(self.shape, dtype=self.dtype, device=device)
        return empty if self.fresh else empty.zero_().to(memory_format=self.layout)

    def fill(self, library: str) -> Callable[[Tensor], Any]:
        return partial(getattr(LIBRARIES[library], self.operation), **self.kwargs)

    @contextmanager
    def settings(self) -> Iterator[None]:
        """The instruction set and the generator of the case."""
        usual = _core.isa()
        _core.set_isa(self.isa or usual)
        try:
            with rng(self.rng):
                yield
        finally:
            _core.set_isa(usual)


class Result(TypedDict):
    """Times are medians in seconds; the rates, None for empty tensors, are of the shortest times."""

    operation: str
    dtype: str
    size: str
    torch_seconds: float
    pyinit_seconds: float
    ratio: float
    gigabytes_per_second: float | None
    share_of_memset: float | None
    pairs: int


def measure(case: Case, seconds: float) -> Result:
    """Calls torch and pyinit in turn for about ``seconds``, three pairs at least."""
    warm = case.tensor()
    with case.settings():
        pairs = _pairs(case, warm, seconds)
    theirs, ours = zip(*pairs, strict=True)
    shortest = min(ours)
    return Result(
        operation=case.call,
        dtype=case.type,
        size=case.size,
        torch_seconds=statistics.median(theirs),
        pyinit_seconds=statistics.median(ours),
        ratio=statistics.median(a / b for a, b in pairs),
        gigabytes_per_second=warm.nbytes / shortest / 1e9 if warm.nbytes else None,
        share_of_memset=_memset_seconds(case, warm) / shortest if warm.nbytes else None,
        pairs=len(pairs),
    )


def _pairs(case: Case, warm: Tensor, seconds: float) -> list[tuple[float, float]]:
    torch_fill, pyinit_fill = case.fill("torch"), case.fill("pyinit")
    torch_fill(warm), pyinit_fill(warm)
    pairs: list[tuple[float, float]] = []
    end = perf_counter() + seconds
    while len(pairs) < _MIN_PAIRS or (perf_counter() < end and len(pairs) < _MAX_PAIRS):
        pairs.append((_sample(case, warm, torch_fill), _sample(case, warm, pyinit_fill)))
    return pairs


def _memset_seconds(case: Case, warm: Tensor) -> float:
    """The shortest time for zeroing such memory, with torch's threads and without."""
    zeros = (Tensor.zero_, lambda tensor: ctypes.memset(tensor.data_ptr(), 0, tensor.nbytes))
    return min(_sample(case, warm, zero) for zero in zeros for _ in range(_MEMSETS))


def _sample(case: Case, warm: Tensor, fill: Callable[[Tensor], Any]) -> float:
    tensor = case.tensor() if case.fresh else warm
    start = perf_counter()
    for _ in range(case.calls):
        fill(tensor)
    return (perf_counter() - start) / case.calls


def _size(shape: tuple[int, ...]) -> str:
    numel = shape[0]
    power = numel.bit_length() - 1
    if len(shape) == 1:
        return f"2^{power}" if power >= 10 and numel == 1 << power else str(numel)
    return "x".join(map(str, shape))


_FILLS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("uniform_", {}),
    ("normal_", {}),
    ("trunc_normal_", {}),
    ("constant_", {"val": 0.5}),
)


def cases() -> list[Case]:
    """The cases of ``pyinit bench`` and of the benchmark suite that this machine can run."""
    large, medium = (1 << 24,), (1 << 22,)
    sizes = (0, 1, 16, 1 << 10, 1 << 16, 1 << 20, 1 << 24)
    forced = ["avx2"] if "avx2" in _core.available_isas() and _core.isa() != "avx2" else []
    return [
        *(Case(op, (n,), kwargs=kwargs) for op, kwargs in _FILLS for n in sizes),
        Case("trunc_normal_", large, kwargs={"std": 0.02}),
        Case("trunc_normal_", medium, torch.bfloat16),
        *(
            Case(op, medium, dtype)
            for op in ("uniform_", "normal_")
            for dtype in (torch.float64, torch.float16, torch.bfloat16)
        ),
        Case("normal_", (64, 64, 32, 32), layout=torch.channels_last),
        Case("normal_", (1 << 26,), fresh=True),
        *(Case(op, large, isa=isa) for isa in forced for op in ("uniform_", "normal_")),
        *(Case("kaiming_uniform_", (n, n)) for n in (8, 16, 32)),
        Case("xavier_normal_", (1024, 1024)),
        Case("orthogonal_", (512, 512)),
        Case("orthogonal_", (1024, 1024)),
        Case("eye_", (4096, 4096)),
        Case("dirac_", (512, 512, 3, 3)),
        Case("sparse_", (4096, 4096), kwargs={"sparsity": 0.9}),
        *_with_torchs_numbers(),
    ]


def _with_torchs_numbers() -> Iterator[Case]:
    small, large = [(1 << power,) for power in (4, 6, 8, 10)], (1 << 24,)
    for operation in ("uniform_", "normal_", "trunc_normal_"):
        for shape in (*small, (1 << 16,), large):
            yield Case(operation, shape, rng="torch")
    yield Case("normal_", large, torch.float64, rng="torch")
    yield Case("normal_", (1 << 22,), torch.bfloat16, rng="torch")
    yield Case("normal_", (64, 64, 32, 32), layout=torch.channels_last, rng="torch")
    yield Case("trunc_normal_", large, kwargs={"std": 0.02}, rng="torch")
    yield Case("trunc_normal_", (1 << 20,), kwargs={"a": 2.0, "b": 3.0}, rng="torch")
    yield Case("kaiming_uniform_", (16, 16), rng="torch")
    yield Case("sparse_", (4096, 4096), kwargs={"sparsity": 0.9}, rng="torch")
    yield Case("orthogonal_", (512, 512), rng="torch")
