"""Benchmark cases, and their measurement against torch.

Machines drift, so torch and pyinit are called in turn and the ratio is the median over the pairs.
"""

import ctypes
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from math import prod
from time import perf_counter
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple, TypeAlias, TypedDict

import torch
from torch import Tensor

import pyinit.init
from pyinit import _core
from pyinit._original import original
from pyinit._rng import rng
from pyinit._tensors import DTYPES

Shape: TypeAlias = tuple[int, ...]


class Shapes(NamedTuple):
    """Of many tensors that one call fills."""

    name: str
    each: tuple[Shape, ...]


def _orthogonal_one_by_one(tensors: Iterable[Tensor]) -> None:
    for tensor in tensors:
        original.orthogonal_(tensor)


LIBRARIES: dict[str, Any] = {
    "torch": SimpleNamespace(**vars(original), orthogonal_many_=_orthogonal_one_by_one),
    "pyinit": pyinit.init,
}

_MIN_PAIRS = 3
_MAX_PAIRS = 500
_PEAK_SAMPLES = 10
_PEAK_ROUNDS = 500_000  # of multiply-adds: about a millisecond
_MATRICES = {"orthogonal_", "orthogonal_many_"}


@dataclass(frozen=True)
class Case:
    """One initializer on one kind of tensor, or on a list of tensors.

    ``fresh`` memory has never been touched; ``isa`` forces an instruction set on pyinit; ``rng`` is
    pyinit's generator.
    """

    operation: str
    shape: Shape | Shapes
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
    def shapes(self) -> tuple[Shape, ...]:
        return self.shape.each if isinstance(self.shape, Shapes) else (self.shape,)

    @property
    def numel(self) -> int:
        return sum(map(prod, self.shapes))

    @property
    def nbytes(self) -> int:
        return self.numel * self.dtype.itemsize

    @property
    def calls(self) -> int:
        """How many calls make one sample: enough for the clock."""
        return max(1, min(200, 2**18 // max(1, self.numel)))

    @property
    def flops(self) -> float:
        """Additions and multiplications of the reflections that make a matrix; 0 for mere fills.

        torch's own numbers must be factorized first, which takes as many again.
        """
        if self.operation not in _MATRICES:
            return 0
        return sum(map(_reflection_flops, self.shapes)) * (2 if self.rng == "torch" else 1)

    def argument(self, device: str = "cpu") -> Tensor | list[Tensor]:
        """What the initializer is called with."""
        tensors = [self._tensor(shape, device) for shape in self.shapes]
        return tensors if isinstance(self.shape, Shapes) else tensors[0]

    def _tensor(self, shape: Shape, device: str) -> Tensor:
        empty = torch.empty(shape, dtype=self.dtype, device=device)
        return empty if self.fresh else empty.zero_().to(memory_format=self.layout)

    def fill(self, library: str) -> Callable[[Any], Any]:
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
    """Times are medians in seconds; the rate and its share, None for empty tensors, of the shortest."""

    operation: str
    dtype: str
    size: str
    torch_seconds: float
    pyinit_seconds: float
    ratio: float
    rate: float | None
    rate_unit: Literal["GB/s", "GF/s"]
    share_of_peak: float | None
    pairs: int


def measure(case: Case, seconds: float) -> Result:
    """Calls torch and pyinit in turn for about ``seconds``, three pairs at least."""
    warm = case.argument()
    with case.settings():
        pairs = _pairs(case, warm, seconds)
        peak = _flops_per_second(case.dtype) if case.flops else _bytes_per_second(case, warm)
    theirs, ours = zip(*pairs, strict=True)
    work = case.flops or case.nbytes
    rate = work / min(ours)
    return Result(
        operation=case.call,
        dtype=case.type,
        size=case.size,
        torch_seconds=statistics.median(theirs),
        pyinit_seconds=statistics.median(ours),
        ratio=statistics.median(a / b for a, b in pairs),
        rate=rate / 1e9 if work else None,
        rate_unit="GF/s" if case.flops else "GB/s",
        share_of_peak=rate / peak if work else None,
        pairs=len(pairs),
    )


def _pairs(case: Case, warm: Any, seconds: float) -> list[tuple[float, float]]:
    torch_fill, pyinit_fill = case.fill("torch"), case.fill("pyinit")
    torch_fill(warm), pyinit_fill(warm)
    pairs: list[tuple[float, float]] = []
    end = perf_counter() + seconds
    while len(pairs) < _MIN_PAIRS or (perf_counter() < end and len(pairs) < _MAX_PAIRS):
        pairs.append((_sample(case, warm, torch_fill), _sample(case, warm, pyinit_fill)))
    return pairs


def _sample(case: Case, warm: Any, fill: Callable[[Any], Any]) -> float:
    argument = case.argument() if case.fresh else warm
    return _seconds(fill, argument, case.calls)


def _bytes_per_second(case: Case, warm: Any) -> float:
    """The most for zeroing such memory, with torch's threads and without."""
    zeros = (Tensor.zero_, lambda tensor: ctypes.memset(tensor.data_ptr(), 0, tensor.nbytes))
    samples = (_sample(case, warm, zero) for zero in zeros for _ in range(_PEAK_SAMPLES))
    return case.nbytes / min(samples)


def _flops_per_second(dtype: torch.dtype) -> float:
    """The most for one thread, times torch's threads: a multiply-add counts as two."""
    fused = partial(_core.multiply_adds, DTYPES[dtype])
    seconds = min(_seconds(fused, _PEAK_ROUNDS) for _ in range(_PEAK_SAMPLES))
    return torch.get_num_threads() * 2 * fused(_PEAK_ROUNDS) / seconds


def _seconds(function: Callable[[Any], Any], argument: Any, calls: int = 1) -> float:
    start = perf_counter()
    for _ in range(calls):
        function(argument)
    return (perf_counter() - start) / calls


def _reflection_flops(shape: Shape) -> float:
    """Those of LAPACK's orgqr, to leading order: LAPACK Working Note 41, appendix C."""
    rows, columns = shape[0], prod(shape[1:])
    m, n = max(rows, columns), min(rows, columns)
    return 2 * m * n**2 - 2 * n**3 / 3


def _size(shape: Shape | Shapes) -> str:
    if isinstance(shape, Shapes):
        return shape.name
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


_LARGER_MATRICES: tuple[Shape, ...] = (
    *((n, n) for n in (64, 128, 256, 512, 1024, 2048, 4096)),
    *((n, n, 3, 3) for n in (64, 128, 256, 512)),
    (4096, 1024),
    (50257, 768),
)


def _resnet50() -> Iterator[Shape]:
    """Weights of the convolutions: He et al. (2015), `Deep residual learning`, table 1."""
    yield 64, 3, 7, 7
    for blocks, inputs, width in ((3, 64, 64), (4, 256, 128), (6, 512, 256), (3, 1024, 512)):
        outputs = 4 * width
        yield outputs, inputs, 1, 1
        for block in range(blocks):
            yield width, outputs if block else inputs, 1, 1
            yield width, width, 3, 3
            yield outputs, width, 1, 1


RESNET50 = Shapes("resnet50", tuple(_resnet50()))


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
        *(Case("orthogonal_", shape) for shape in ((8, 8), *_LARGER_MATRICES)),
        Case("orthogonal_", (512, 512), torch.float64),
        Case("orthogonal_many_", RESNET50),
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
    for matrix in _LARGER_MATRICES:
        yield Case("orthogonal_", matrix, rng="torch")
