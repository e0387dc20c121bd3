"""Fills what this process holds of a tensor, with the numbers that the whole has there."""

from collections.abc import Callable

import torch
from torch import Tensor

from pyinit import _core
from pyinit._device import fills as device_fills
from pyinit._random import stateless
from pyinit._random.distributions import CONSTANT, Distribution, Parameters, padded
from pyinit._random.rng import Source, get_rng, take_key
from pyinit._sharding.find import has_kernels, held, sharded
from pyinit._sharding.sharded import Indices, Piece, Sharded, tiles
from pyinit._torch.views import (
    DTYPES,
    LARGEST,
    View,
    is_transformed,
    view_of,
    writable_view,
)

CpuFill = tuple[
    View, int, tuple[float, float, float, float], tuple[int, int], Indices | None, Indices | None
]
"""A fill as ``_core.fill_many`` takes it."""

Described = tuple[int, tuple[float, float, float, float] | None]
"""How many elements a piece has, and their mean, standard deviation, minimum and maximum."""

_TILE = 1 << 20  # elements that are made at once for a device without kernels


class PieceFills:
    """Fills of pieces, each by what reaches its memory: one native call, one launch a device, or copies."""

    def __init__(self) -> None:
        self._is_torchs = get_rng() == "torch.func"
        self._by_kernel: list[CpuFill] = []
        self._on_device: dict[torch.device, tuple[list[device_fills.Fill], list[Tensor]]] = {}
        self._by_copy: list[Callable[[], object]] = []
        self._written: list[Tensor] = []

    def add(
        self,
        sharded: Sharded,
        distribution: Distribution,
        parameters: Parameters,
        key: tuple[int, int],
    ) -> range | None:
        """Have all pieces of a tensor filled; the padding beside them becomes zero.

        key: what ``key_of`` gives

        Returns:
            The numbers of the pieces among the fills that ``run`` describes; None if it describes
            only some of them.
        """
        whole, first, filled = sharded.whole, len(self._by_kernel), 0
        for piece in sharded.pieces:
            if piece.tensor.is_meta or piece.tensor.numel() == 0:
                continue
            self._add(piece, whole, distribution, parameters, key)
            filled += 1
        if sharded.padding is not None and sharded.padding.numel():
            self._by_copy.append(sharded.padding.zero_)
        numbers = range(first, len(self._by_kernel))
        return numbers if len(numbers) == filled else None

    def _add(
        self,
        piece: Piece,
        whole: Indices,
        distribution: Distribution,
        parameters: Parameters,
        key: tuple[int, int],
    ) -> None:
        tensor, start = piece
        if self._is_torchs and distribution is not CONSTANT:
            self._by_copy.append(
                lambda: _fill_as_torch(piece, whole, distribution, parameters, key)
            )
            return

        def as_kernels_take_it(view: View, start: Indices) -> CpuFill:
            return view, distribution.code, padded(parameters), key, whole, start

        view = writable_view(tensor)
        if view is not None:
            self._by_kernel.append(as_kernels_take_it(view, start))
            self._written.append(tensor)
            return
        view = device_fills.writable_view(tensor)
        if view is not None:
            fills, tensors = self._on_device.setdefault(tensor.device, ([], []))
            fills.append((view, distribution, parameters, key, whole, start))
            tensors.append(tensor)
            return

        def fill_there(view: View, start: Indices) -> None:
            _core.fill_many([as_kernels_take_it(view, start)], torch.get_num_threads())

        self._by_copy.append(lambda: _fill_by_copy(piece, fill_there))

    def run(self) -> list[Described]:
        """Fill them, and describe those that the CPU's kernels fill, in their order."""
        moments = _core.fill_many(self._by_kernel, torch.get_num_threads())
        counts = (tensor.numel() for tensor in self._written)
        described = list(zip(counts, moments, strict=True))
        torch._C._increment_version(self._written)
        for fills, tensors in self._on_device.values():
            device_fills.run(fills, *tensors)
        with torch.no_grad():
            for fill_one in self._by_copy:
                fill_one()
        return described


def key_of(source: Source) -> tuple[int, int] | None:
    """The key that pieces are filled with: seed and offset of one of torch's where its numbers are asked for.

    None where torch has to draw, or to refuse.
    """
    return stateless.torch_key(source) if get_rng() == "torch.func" else take_key(source)


def _fill_as_torch(
    piece: Piece,
    whole: Indices,
    distribution: Distribution,
    parameters: Parameters,
    key: tuple[int, int],
) -> None:
    """Fill with the numbers of ``torch.func._random``: in place, or made on the CPU and copied."""

    def fill_there(view: View, start: Indices) -> None:
        stateless.fill_block(distribution, view, parameters, key, whole, start)

    view = writable_view(piece.tensor)
    if view is not None:
        fill_there(view, piece.start)
        torch._C._increment_version((piece.tensor,))
    else:
        _fill_by_copy(piece, fill_there)


def _fill_by_copy(piece: Piece, fill_there: Callable[[View, Indices], object]) -> None:
    """Make the numbers on the CPU, a part at a time, and copy them: the same bits on any device.

    fill_there: fills a view as the block of the whole that begins at an index
    """
    for tensor, start in tiles(piece, _TILE):
        made = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
        fill_there(view_of(made), start)
        tensor.copy_(made)


def fill(
    tensor: Tensor, distribution: Distribution, parameters: Parameters, generator: Source
) -> bool:
    """Fill what is held of a tensor; False where torch has to, or has to refuse.

    The key is drawn from this process's generator: processes that hold parts of one tensor must draw
    the same one.
    """
    chosen = get_rng()
    part = held(tensor, generator if chosen == "philox" else None) if chosen != "torch" else None
    if part is None or not distribution.takes(LARGEST[DTYPES[tensor.dtype]], *parameters):
        return False
    if tensor.is_meta:
        return True
    key = key_of(generator)
    if key is None:
        return False
    fills = PieceFills()
    fills.add(part, distribution, parameters, key)
    fills.run()
    return True


def fill_constant(tensor: Tensor, value: float) -> bool:
    """Fill what is held of a tensor that is spread over several processes; False for other tensors."""
    part = None if is_transformed() else sharded(tensor)
    if part is None or tensor.dtype not in DTYPES:
        return False
    if not CONSTANT.takes(LARGEST[DTYPES[tensor.dtype]], value):
        return False
    fills = PieceFills()
    fills.add(part, CONSTANT, (value,), (0, 0))
    fills.run()
    return True


def fill_by_whole(tensor: Tensor, make: Callable[[Tensor], object], source: Source = None) -> bool:
    """Fill what is held of a tensor whose elements depend on each other; False where torch has to.

    make: fills a plain tensor of the whole's shape, as the call for that tensor would
    source: where its numbers come from, if it draws any
    """
    part = held(tensor, source)
    if part is None:
        return False
    if not tensor.is_meta:
        whole = empty_whole(tensor, part)
        make(whole)
        with torch.no_grad():
            part.take_(whole)
    return True


def empty_whole(tensor: Tensor, part: Sharded) -> Tensor:
    """Memory for all elements of a tensor of which a part is held, where kernels reach it."""
    local = part.pieces[0].tensor if part.pieces else None
    device = local.device if local is not None and has_kernels(local) else "cpu"
    return torch.empty(part.shape, dtype=tensor.dtype, device=device)
