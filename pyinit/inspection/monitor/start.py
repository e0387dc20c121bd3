"""How far parameters are from where they started: from copies, or from values generated again in pieces."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

from pyinit import fill
from pyinit._random.rng import rng
from pyinit._torch.views import DTYPES
from pyinit.initializers import Constant, Drawn, Normal, TruncNormal, Uniform
from pyinit.reports.initialization import InitReport, Row

From: TypeAlias = InitReport | Literal["copy"] | None

# Elements. Of so many torch makes no parallel loop, at whose end a thread that the system runs late is
# waited for: on a busy machine that would take many times the time of the loop.
_PIECE = 2**15

# By initializer: what writes a piece of its values.
_FILLS: dict[type[Drawn], Callable[..., Tensor]] = {
    Constant: lambda out, x, **_: fill.constant(out, x.val),
    Uniform: lambda out, x, **place: fill.uniform(out, x.a, x.b, **place),
    Normal: lambda out, x, **place: fill.normal(out, x.mean, x.std, **place),
    TruncNormal: lambda out, x, **place: fill.trunc_normal(out, x.mean, x.std, x.a, x.b, **place),
}


class Distance(NamedTuple):
    """The norms of the difference from the start, and of the start."""

    moved: float
    start: float


class _Values(Protocol):
    """The values that a parameter started from, as if it had one dimension."""

    dtype: torch.dtype

    def piece(self, first: int, last: int) -> Tensor: ...


class _Copied:
    """Values that are kept."""

    def __init__(self, parameter: Tensor) -> None:
        kept = parameter.detach().to("cpu", copy=True)
        self._flat = kept.contiguous().view(-1)
        self.dtype = kept.dtype

    def piece(self, first: int, last: int) -> Tensor:
        return self._flat[first:last]


class _Block(NamedTuple):
    """Elements that one call fills."""

    first: int
    last: int
    drawn: Drawn
    stream: int


class _Generated:
    """Values that are generated again from the key in a report."""

    def __init__(self, row: Row, blocks: list[_Block], key: int, stream_version: int) -> None:
        self.dtype: torch.dtype = getattr(torch, row.dtype)
        self._blocks, self._key, self._stream_version = blocks, key, stream_version

    def piece(self, first: int, last: int) -> Tensor:
        out = torch.empty(last - first, dtype=self.dtype, device="cpu")
        with rng("philox", self._stream_version):
            for start, stop, drawn, stream in self._blocks:
                here, end = max(first, start), min(last, stop)
                if here < end:
                    _FILLS[type(drawn)](
                        out[here - first : end - first],
                        drawn,
                        key=self._key,
                        stream=stream,
                        whole=(stop - start,),
                        start=(here - start,),
                    )
        return out


class Start:
    """The initial values of parameters.

    copied: the names of the parameters whose initial values are kept
    """

    def __init__(self, start: From, parameters: Mapping[str, Tensor]) -> None:
        self._values: dict[str, _Values] = {}
        self._sizes: dict[str, float] = {}  # norms of the initial values that are known
        if start is None:
            self.copied: tuple[str, ...] = ()
            return
        rows = {} if start == "copy" else _rows(start, parameters)
        for name, parameter in parameters.items():
            row = rows.get(name)
            generated = None
            if row is not None and isinstance(start, InitReport) and start.rng == "philox":
                generated = _generated(row, start.stream_version)
            self._values[name] = generated or _Copied(parameter)
        self.copied = tuple(
            name for name, values in self._values.items() if isinstance(values, _Copied)
        )

    def distances(self, parameters: Mapping[str, Tensor]) -> dict[str, Distance]:
        """How far parameters are from their start, of those whose start is known."""
        return {
            name: self._distance(name, values, parameters[name])
            for name, values in self._values.items()
        }

    def _distance(self, name: str, values: _Values, parameter: Tensor) -> Distance:
        is_sized = name in self._sizes
        moved: list[float] = []
        sizes: list[float] = []
        wide = torch.promote_types(parameter.dtype, values.dtype)
        wide = torch.promote_types(wide, torch.float32)
        for first, now in _flat_pieces(parameter.detach(), _PIECE):
            start = values.piece(first, first + now.numel())
            if not is_sized:
                sizes.append(_norm(start))
            moved.append(_norm(now.to("cpu", wide) - start.to(wide)))
        if not is_sized:
            self._sizes[name] = math.hypot(*sizes)
        return Distance(math.hypot(*moved), self._sizes[name])


def check_start(start: Any) -> None:
    """Refuse what is no start.

    Raises:
        TypeError: if it is something else.
    """
    if not (
        start is None
        or isinstance(start, InitReport)
        or (isinstance(start, str) and start == "copy")
    ):
        raise TypeError(f'start must be an InitReport, "copy" or None, got {start!r}')


def _rows(report: InitReport, parameters: Mapping[str, Tensor]) -> dict[str, Row]:
    """The row of each parameter that has one, by the parameter's name."""
    by_name = {name: row for row in report for name in (row.name, *row.tied)}
    rows = {name: by_name[name] for name in parameters if name in by_name}
    if parameters and not rows:
        raise ValueError("start: the report has a row for none of the parameters that are watched")
    for name, row in rows.items():
        if row.shape != tuple(parameters[name].shape):
            raise ValueError(
                f"start: {name} has the shape {tuple(parameters[name].shape)} in the model, and "
                f"{row.shape} in the report"
            )
    return rows


def _generated(row: Row, stream_version: int) -> _Generated | None:
    """What makes the values of a row again; None if nothing makes them piece by piece."""
    is_known = row.key is not None and getattr(torch, row.dtype, None) in DTYPES
    blocks = row.initializer.resolve(row.weight) if is_known else ()
    if row.key is None or not blocks or any(type(block.drawn) not in _FILLS for block in blocks):
        return None
    of_a_row = math.prod(row.shape[1:])
    found = []
    for k, block in sorted(enumerate(blocks), key=lambda item: item[1].wave):
        first, last = (0, row.elements) if block.rows is None else block.rows
        scale = 1 if block.rows is None else of_a_row
        stream = ((row.stream or 0) + k) % 2**64
        found.append(_Block(first * scale, last * scale, block.drawn, stream))
    return _Generated(row, found, row.key, stream_version)


def _flat_pieces(tensor: Tensor, most: int) -> Iterator[tuple[int, Tensor]]:
    """A tensor's elements in their logical order, at most so many at once, and the place of the first."""
    if tensor.is_contiguous():
        flat = tensor.view(-1)
        for first in range(0, flat.numel(), most):
            yield first, flat[first : first + most]
    elif tensor.numel():
        of_a_row = tensor.numel() // tensor.shape[0]
        at_once = max(most // of_a_row, 1)
        for row in range(0, tensor.shape[0], at_once):
            some = tensor[row : row + at_once].contiguous()  # more than `most` if a row has more
            for first, piece in _flat_pieces(some, most):
                yield row * of_a_row + first, piece


def _norm(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values, dtype=torch.float64))
