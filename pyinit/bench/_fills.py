"""Initializers, compared with those of ``torch.nn.init``."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from math import prod
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple, TypeAlias

import torch
from torch import Tensor

import pyinit.init
from pyinit import _core
from pyinit._random.rng import RngName, rng
from pyinit._torch.original import original
from pyinit._torch.views import dtype_name
from pyinit.bench._case import (
    Case,
    Unit,
    bytes_per_second,
    flops_per_second,
    named_call,
    size_name,
)

Shape: TypeAlias = tuple[int, ...]


class Shapes(NamedTuple):
    """The shapes of many tensors that one call fills."""

    name: str
    each: tuple[Shape, ...]


def _orthogonal_one_by_one(tensors: Iterable[Tensor]) -> None:
    for tensor in tensors:
        original.orthogonal_(tensor)


_INITIALIZERS: dict[str, Any] = {
    "torch": SimpleNamespace(**vars(original), orthogonal_many_=_orthogonal_one_by_one),
    "pyinit": pyinit.init,
}
_MATRICES = {"orthogonal_", "orthogonal_many_"}


@dataclass(frozen=True)
class Fill(Case):
    """One initializer, filling one kind of tensor or a list of tensors.

    If ``fresh``, the memory has never been touched. ``isa`` is the instruction set that pyinit has to
    use, and ``rng`` its generator.
    """

    seconds: ClassVar[float] = 2.0

    operation: str
    shape: Shape | Shapes
    dtype: torch.dtype = torch.float32
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    layout: torch.memory_format = torch.contiguous_format
    fresh: bool = False
    isa: str | None = None
    rng: RngName = "philox"

    @property
    def labels(self) -> tuple[str, str, str]:
        notes = {
            "channels_last": self.layout == torch.channels_last,
            "fresh": self.fresh,
            str(self.isa): self.isa is not None,
            f"rng={self.rng}": self.rng != "philox",
        }
        size = self.shape.name if isinstance(self.shape, Shapes) else size_name(self.shape)
        return (
            named_call(self.operation, self.kwargs),
            dtype_name(self.dtype),
            " ".join((size, *(note for note, holds in notes.items() if holds))),
        )

    @property
    def shapes(self) -> tuple[Shape, ...]:
        return self.shape.each if isinstance(self.shape, Shapes) else (self.shape,)

    @property
    def numel(self) -> int:
        return sum(map(prod, self.shapes))

    @property
    def calls(self) -> int:
        return max(1, min(200, 2**18 // max(1, self.numel)))

    @property
    def flops(self) -> float:
        """The additions and multiplications of the reflections that make a matrix; 0 for mere fills.

        A matrix of torch's own numbers must be factorized first, which takes as many again.
        """
        if self.operation not in _MATRICES:
            return 0
        return sum(map(_reflection_flops, self.shapes)) * (2 if self.rng == "torch" else 1)

    @property
    def work(self) -> float:
        return self.flops or self.numel * self.dtype.itemsize

    @property
    def unit(self) -> Unit:
        return "GF/s" if self.flops else "GB/s"

    def peak(self, argument: Any) -> float:
        if self.flops:
            return flops_per_second(self.dtype)
        return bytes_per_second(self, argument)

    def argument(self, device: str = "cpu") -> Tensor | list[Tensor]:
        tensors = [self._tensor(shape, device) for shape in self.shapes]
        return tensors if isinstance(self.shape, Shapes) else tensors[0]

    def _tensor(self, shape: Shape, device: str) -> Tensor:
        empty = torch.empty(shape, dtype=self.dtype, device=device)
        return empty if self.fresh else empty.zero_().to(memory_format=self.layout)

    def renewed(self, argument: Any) -> Any:
        return self.argument() if self.fresh else argument

    def function(self, library: str) -> Callable[[Any], Any]:
        return partial(getattr(_INITIALIZERS[library], self.operation), **self.kwargs)

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


def _reflection_flops(shape: Shape) -> float:
    """The operations of LAPACK's orgqr, to leading order: LAPACK Working Note 41, appendix C."""
    rows, columns = shape[0], prod(shape[1:])
    m, n = max(rows, columns), min(rows, columns)
    return 2 * m * n**2 - 2 * n**3 / 3


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
    """The weights of the convolutions of He et al. (2015), `Deep residual learning`, table 1."""
    yield 64, 3, 7, 7
    for blocks, inputs, width in ((3, 64, 64), (4, 256, 128), (6, 512, 256), (3, 1024, 512)):
        outputs = 4 * width
        yield outputs, inputs, 1, 1
        for block in range(blocks):
            yield width, outputs if block else inputs, 1, 1
            yield width, width, 3, 3
            yield outputs, width, 1, 1


RESNET50 = Shapes("resnet50", tuple(_resnet50()))
"""The weights of a ResNet-50, which are filled one after the other."""


def fills() -> list[Fill]:
    """All fills that this machine can run."""
    large, medium = (1 << 24,), (1 << 22,)
    sizes = (0, 1, 16, 1 << 10, 1 << 16, 1 << 20, 1 << 24)
    forced = ["avx2"] if "avx2" in _core.available_isas() and _core.isa() != "avx2" else []
    return [
        *(Fill(op, (n,), kwargs=kwargs) for op, kwargs in _FILLS for n in sizes),
        Fill("trunc_normal_", large, kwargs={"std": 0.02}),
        Fill("trunc_normal_", medium, torch.bfloat16),
        *(
            Fill(op, medium, dtype)
            for op in ("uniform_", "normal_")
            for dtype in (torch.float64, torch.float16, torch.bfloat16)
        ),
        Fill("normal_", (64, 64, 32, 32), layout=torch.channels_last),
        Fill("normal_", (1 << 26,), fresh=True),
        *(Fill(op, large, isa=isa) for isa in forced for op in ("uniform_", "normal_")),
        *(Fill("kaiming_uniform_", (n, n)) for n in (8, 16, 32)),
        Fill("xavier_normal_", (1024, 1024)),
        *(Fill("orthogonal_", shape) for shape in ((8, 8), *_LARGER_MATRICES)),
        Fill("orthogonal_", (512, 512), torch.float64),
        Fill("orthogonal_many_", RESNET50),
        Fill("eye_", (4096, 4096)),
        Fill("dirac_", (512, 512, 3, 3)),
        Fill("sparse_", (4096, 4096), kwargs={"sparsity": 0.9}),
        *_with_torchs_numbers(),
    ]


def _with_torchs_numbers() -> Iterator[Fill]:
    small, large = [(1 << power,) for power in (4, 6, 8, 10)], (1 << 24,)
    for operation in ("uniform_", "normal_", "trunc_normal_"):
        for shape in (*small, (1 << 16,), large):
            yield Fill(operation, shape, rng="torch")
    yield Fill("normal_", large, torch.float64, rng="torch")
    yield Fill("normal_", (1 << 22,), torch.bfloat16, rng="torch")
    yield Fill("normal_", (64, 64, 32, 32), layout=torch.channels_last, rng="torch")
    yield Fill("trunc_normal_", large, kwargs={"std": 0.02}, rng="torch")
    yield Fill("trunc_normal_", (1 << 20,), kwargs={"a": 2.0, "b": 3.0}, rng="torch")
    yield Fill("kaiming_uniform_", (16, 16), rng="torch")
    yield Fill("sparse_", (4096, 4096), kwargs={"sparsity": 0.9}, rng="torch")
    for matrix in _LARGER_MATRICES:
        yield Fill("orthogonal_", matrix, rng="torch")
