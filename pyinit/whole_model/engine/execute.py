"""Carries out a plan: one native call for all that the kernels can write, torch for the rest."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyinit import _core
from pyinit._device import fills as device_fills
from pyinit._device import orthogonal as device_orthogonal
from pyinit._device import statistics as device_statistics
from pyinit._random.distributions import (
    CONSTANT,
    NORMAL,
    TRUNC_NORMAL,
    UNIFORM,
    Distribution,
    Parameters,
    padded,
)
from pyinit._random.generators import seeded
from pyinit._random.orthogonal import Job, checked_gain, jobs
from pyinit._random.rng import Key, Source, get_rng
from pyinit._sharding.dtensor import ranks_of
from pyinit._sharding.fills import CpuFill, Described, PieceFills, empty_whole, key_of
from pyinit._sharding.find import held, sharded
from pyinit._sharding.sharded import Piece, Sharded
from pyinit._sharding.share import Made, cost_of, fill_made
from pyinit._torch.placement import elsewhere
from pyinit._torch.views import (
    ITEM_SIZES,
    View,
    centre_of,
    readable_view,
    with_shape,
    writable_flat_view,
)
from pyinit.initializers import (
    Block,
    Blocks,
    Constant,
    DeltaOrthogonal,
    Drawn,
    Normal,
    Orthogonal,
    TruncNormal,
    Uniform,
)
from pyinit.whole_model.engine.plan import QUICK, Entry

Moments = tuple[float, float, float, float]
_NOWHERE = -math.inf, math.inf  # bounds beyond all values
"""Mean, standard deviation (of all elements), minimum, maximum."""

# By initializer: the distribution that kernels draw, and its parameters.
_KERNELS: dict[type[Drawn], tuple[Distribution, Callable[[Any], Parameters]]] = {
    Constant: (CONSTANT, lambda x: (x.val,)),
    Uniform: (UNIFORM, lambda x: (x.a, x.b)),
    Normal: (NORMAL, lambda x: (x.mean, x.std)),
    TruncNormal: (TRUNC_NORMAL, lambda x: (x.mean, x.std, x.a, x.b)),
}


_OF_SHAPE = (Orthogonal, DeltaOrthogonal)


@dataclass
class _Wave:
    """All fills that may be done at the same time."""

    fills: list[CpuFill] = field(default_factory=list)
    pieces: PieceFills = field(default_factory=PieceFills)
    matrices: list[Job] = field(default_factory=list)
    others: list[tuple[Tensor, Drawn, Source]] = field(default_factory=list)
    # By device: the fills of a launch there, and their tensors.
    on_device: dict[torch.device, tuple[list[device_fills.Fill], list[Tensor]]] = field(
        default_factory=dict
    )
    device_matrices: list[device_orthogonal.Matrix] = field(default_factory=list)
    # The numbers of entries that a single fill covers, and the number of that fill.
    alone: dict[int, int] = field(default_factory=dict)
    # Those that fills of pieces cover, and the numbers of these.
    of_pieces: dict[int, range] = field(default_factory=dict)


class _Single(NamedTuple):
    """A fill of all elements of a parameter: its wave, the distribution's code and its parameters."""

    wave: int
    code: int
    parameters: tuple[float, float, float, float]


def _part_for_torchs_numbers(tensor: Tensor) -> Sharded | None:
    """What is held of a tensor that gets the numbers of ``torch.func._random``."""
    return sharded(tensor) if get_rng() == "torch.func" else None


class Batch:
    """Tensors to fill, each by an entry of a plan, with numbers from a source."""

    def __init__(
        self, entries: Sequence[Entry], sources: Sequence[Source], tensors: Sequence[Tensor]
    ) -> None:
        self._tensors = tensors
        self._views = [
            entry.view if tensor is entry.site.tensor else writable_flat_view(tensor)
            for entry, tensor in zip(entries, tensors, strict=True)
        ]
        self._waves: list[_Wave] = []
        self._written: list[Tensor] = []
        self._parts: dict[int, Sharded] = {}
        self._made: list[Made] = []
        # By the identity of an entry's blocks, which entries of one kind share, and the plan holds.
        self._single: dict[int, _Single | None] = {}
        is_native = get_rng() == "philox"
        for i, entry in enumerate(entries):
            if not entry.blocks:
                continue
            view, source = self._views[i], sources[i]
            if is_native and view is not None and type(source) is Key:
                self._schedule(i, entry, view, source)
                self._written.append(tensors[i])
                continue
            part = held(tensors[i], source) if is_native else _part_for_torchs_numbers(tensors[i])
            if part is not None and type(source) is Key:
                self._parts[i] = part
                self._schedule_part(i, entry, part, source)
                continue
            there = (
                device_fills.writable_view(tensors[i])
                if is_native and type(source) is Key
                else None
            )
            for k, block in enumerate(entry.blocks):
                further = _further(source, k)
                if there is None or type(further) is not Key:
                    self._by_call(tensors[i], block, further)
                else:
                    self._by_launch(tensors[i], there, block, further)

    def _wave(self, number: int) -> _Wave:
        while number >= len(self._waves):
            self._waves.append(_Wave())
        return self._waves[number]

    def _single_fill(self, blocks: Blocks) -> "_Single | None":
        """What a kernel fills all elements with at once, if the blocks ask for no more than that."""
        if id(blocks) not in self._single:
            drawn, rows, number = blocks[0]
            kernel = _KERNELS.get(type(drawn)) if len(blocks) == 1 and rows is None else None
            self._single[id(blocks)] = kernel and _Single(
                number, kernel[0].code, padded(kernel[1](drawn))
            )
        return self._single[id(blocks)]

    def _schedule(self, i: int, entry: Entry, view: View, source: Key) -> None:
        single = self._single_fill(entry.blocks)
        if single is not None:
            number, code, numbers_of = single
            wave = self._wave(number)
            wave.alone[i] = len(wave.fills)
            wave.fills.append((view, code, numbers_of, source, None, None))
            return
        key, stream = source
        for k, (drawn, rows, number) in enumerate(entry.blocks):
            wave = self._wave(number)
            at = view
            if rows is not None or type(drawn) in _OF_SHAPE:
                at = with_shape(view, self._tensors[i])
                at = at if rows is None else _rows(at, rows)
            numbers = (key, (stream + k) % 2**64)
            kernel = _KERNELS.get(type(drawn))
            if kernel is not None:
                distribution, parameters = kernel
                numbers_of = padded(parameters(drawn))
                wave.fills.append((at, distribution.code, numbers_of, numbers, None, None))
            elif type(drawn) is Orthogonal:
                if 0 not in at[2]:
                    wave.matrices += _matrices(at, drawn, numbers)
            elif type(drawn) is DeltaOrthogonal:
                wave.fills.append((at, CONSTANT.code, padded((0.0,)), numbers, None, None))
                if 0 not in at[2]:
                    centre = centre_of(at)
                    self._wave(number + 1).matrices += _matrices(centre, drawn, numbers)
            else:
                self._by_call(self._tensors[i], entry.blocks[k], Key(*numbers))

    def _schedule_part(self, i: int, entry: Entry, part: Sharded, source: Key) -> None:
        """Have the pieces of a tensor filled; what depends on more than the index is made whole."""
        tensor = self._tensors[i]
        if any(type(drawn) not in _KERNELS for drawn, _, _ in entry.blocks):

            def make() -> Tensor:
                whole = empty_whole(tensor, part)
                Batch([entry], [source], [whole]).run()
                return whole

            is_quick = all(type(drawn) in QUICK for drawn, _, _ in entry.blocks)
            ranks = () if is_quick else ranks_of(tensor)
            self._made.append(Made(tensor, part, cost_of(part.shape), make, ranks))
            return
        for k, (drawn, rows, number) in enumerate(entry.blocks):
            distribution, parameters = _KERNELS[type(drawn)]
            some = part if rows is None else part.rows(*rows)
            key = key_of(source.further(k))
            if key is None:
                continue
            wave = self._wave(number)
            numbers = wave.pieces.add(some, distribution, parameters(drawn), key)
            if numbers is not None and rows is None and len(entry.blocks) == 1:
                wave.of_pieces[i] = numbers

    def _by_call(self, tensor: Tensor, block: Block, source: Source) -> None:
        self._wave(block.wave).others.append((block.of(tensor), block.drawn, source))

    def _by_launch(self, tensor: Tensor, view: View, block: Block, source: Key) -> None:
        drawn, rows, number = block
        wave = self._wave(number)
        kernel = _KERNELS.get(type(drawn))
        if kernel is not None:
            distribution, parameters = kernel
            at = view if rows is None else _rows(view, rows)
            fills, tensors = wave.on_device.setdefault(tensor.device, ([], []))
            key = source.key, source.stream
            fills.append((at, distribution, parameters(drawn), key, None, None))
            tensors.append(tensor)
        elif type(drawn) is Orthogonal:
            factor = checked_gain(drawn.gain, view)
            wave.device_matrices += device_orthogonal.matrices(
                block.of(tensor), factor, source, drawn.groups or 1
            )
        else:
            self._by_call(tensor, block, source)

    def run(self) -> list[Moments | None]:
        """Fill all tensors, and return the moments of each; None for those without elements."""
        moments: dict[int, Moments | None] = {}
        threads = torch.get_num_threads()
        for wave in self._waves:
            measured = _core.fill_many(wave.fills, threads)
            moments |= {i: measured[fill] for i, fill in wave.alone.items()}
            if wave.matrices:
                _core.fill_orthogonal(wave.matrices, threads)
            described = wave.pieces.run()
            moments |= {
                i: _joined(described[k] for k in numbers) for i, numbers in wave.of_pieces.items()
            }
            for fills, tensors in wave.on_device.values():
                device_fills.run(fills, *tensors)
            if wave.device_matrices:
                device_fills.fill_matrices(wave.device_matrices)
            with torch.no_grad():
                for tensor, drawn, source in wave.others:
                    with seeded(source, tensor.device):
                        drawn.fill_(tensor, source)
        fill_made(self._made)
        torch._C._increment_version(self._written)
        return self._measured(moments)

    def _measured(self, known: dict[int, Moments | None]) -> list[Moments | None]:
        rest = [i for i in range(len(self._tensors)) if i not in known]
        views = [(i, self._views[i]) for i in rest]
        native = [(i, view) for i, view in views if view is not None]
        found = _core.measure_many([view for _, view in native], torch.get_num_threads())
        known |= dict(zip((i for i, _ in native), found, strict=True))
        known |= {i: of_pieces(part.pieces) for i, part in self._parts.items() if i not in known}
        other = [i for i, view in views if view is None and i not in known]
        known |= dict(
            zip(other, _measured_elsewhere([self._tensors[i] for i in other]), strict=True)
        )
        return [known[i] for i in range(len(self._tensors))]


def _further(source: Source, k: int) -> Source:
    return source.further(k) if type(source) is Key else source


def _rows(view: View, rows: tuple[int, int]) -> View:
    address, code, shape, strides = view
    first, last = rows
    step = strides[0] * ITEM_SIZES[code]
    return View((address + first * step, code, (last - first, *shape[1:]), strides))


def _matrices(view: View, drawn: Orthogonal | DeltaOrthogonal, key: tuple[int, int]) -> list[Job]:
    factor = checked_gain(drawn.gain, view)
    return jobs(view, factor, key, drawn.groups or 1)


def measured(tensor: Tensor) -> Moments | None:
    """The moments of a tensor as it is; None if it has no elements or they are elsewhere."""
    view = readable_view(tensor)
    if view is None:
        return _measured_elsewhere([tensor])[0]
    return _core.measure_many([view], torch.get_num_threads())[0]


def of_pieces(pieces: Sequence[Piece]) -> Moments | None:
    """The moments of all elements that this process holds of a tensor; None if it holds none."""
    return _joined((piece.tensor.numel(), measured(piece.tensor)) for piece in pieces)


def _joined(described: Iterable[Described]) -> Moments | None:
    """The moments of all elements of blocks without elements in common."""
    each = [(n, found) for n, found in described if found is not None]
    if not each:
        return None
    if len(each) == 1:
        return each[0][1]
    count = sum(n for n, _ in each)
    mean = sum(n * m[0] for n, m in each) / count
    squares = sum(n * (m[1] ** 2 + (m[0] - mean) ** 2) for n, m in each)
    return (
        mean,
        math.sqrt(squares / count),
        min(m[2] for _, m in each),
        max(m[3] for _, m in each),
    )


def _measured_elsewhere(tensors: Sequence[Tensor]) -> list[Moments | None]:
    """The moments of tensors that the CPU's kernels do not reach.

    Each device is waited for once or twice, not once for each tensor.
    """
    found: list[Moments | None] = [None] * len(tensors)
    native: dict[torch.device, list[tuple[int, View]]] = {}
    others: dict[torch.device, list[tuple[int, Tensor]]] = {}
    for i, tensor in enumerate(tensors):
        if tensor.is_meta or tensor.numel() == 0 or not tensor.is_floating_point():
            continue
        if elsewhere(tensor) is not None:
            continue
        view = device_statistics.readable_view(tensor)
        if view is not None:
            native.setdefault(tensor.device, []).append((i, view))
        else:
            others.setdefault(tensor.device, []).append((i, _moments_by_torch(tensor.detach())))
    for some in native.values():
        views = [view for _, view in some]
        rows = device_statistics.describe_many(tensors[some[0][0]], views, [_NOWHERE] * len(views))
        for (i, _), row in zip(some, rows.tolist(), strict=True):
            count, mean, squares, _, _, least, most, *_ = row
            found[i] = mean, math.sqrt(squares / count), least, most
    for each in others.values():
        stacked = torch.stack([row for _, row in each])
        for (i, _), row in zip(each, stacked.tolist(), strict=True):
            found[i] = tuple(row)
    return found


def _moments_by_torch(values: Tensor) -> Tensor:
    if values.itemsize < 4:
        values = values.float()  # results have the dtype of the values
    std, mean = torch.std_mean(values, correction=0)
    return torch.stack((mean, std, *torch.aminmax(values))).double()
