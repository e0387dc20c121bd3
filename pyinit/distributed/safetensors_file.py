"""Files of the safetensors format, written and read tile by tile.

The library wants all tensors of a file in memory. The format is simple: eight bytes with the length of
the header, the header as JSON, and the tensors one after the other.
"""

import hashlib
import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyinit.pretrained.checkpoint import SAFETENSORS_DTYPES

_TILE = 4 << 20  # bytes, which are filled, hashed and written while they are in the cache
_IN_FLIGHT = 4
_CODES = {dtype: code for code, dtype in SAFETENSORS_DTYPES.items()}


class Item(NamedTuple):
    """A tensor of a file."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of its bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


class Piece(NamedTuple):
    """A part of a tile that holds elements of one tensor.

    item: which of the tensors
    first: the index of its first element in the flattened tensor
    start, stop: where its bytes are in the tile
    """

    item: Item
    first: int
    start: int
    stop: int

    def of(self, tile: Tensor) -> Tensor:
        """Its elements in a tile of bytes."""
        return tile[self.start : self.stop].view(self.item.dtype)


def takes(dtype: torch.dtype) -> bool:
    """Whether the format has the dtype."""
    return dtype in _CODES


def check_name(name: str) -> None:
    """Refuse a name of a tensor that the format has no place for.

    Raises:
        ValueError: for its own ``__metadata__``, and for what is no text.
    """
    if name == "__metadata__":
        raise ValueError(f"safetensors files keep the name {name} for themselves")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"safetensors files hold no tensor named {name!r}") from None


def in_file_order(items: Sequence[Item]) -> list[Item]:
    """Tensors of large elements first, so that all elements are aligned."""
    return sorted(items, key=lambda item: -item.dtype.itemsize)


def header_of(items: Sequence[Item]) -> bytes:
    """What stands before the data of a file with these tensors, in this order."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for item in items:
        start, end = end, end + item.size
        code = _CODES[item.dtype]
        header[item.name] = {"dtype": code, "shape": item.shape, "data_offsets": (start, end)}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def tiles_of(items: Sequence[Item]) -> Iterator[tuple[int, list[Piece]]]:
    """The size of each tile of a file's data, and its pieces."""
    pieces: list[Piece] = []
    used = 0
    for item in items:
        done, width = 0, item.dtype.itemsize
        while done < item.size:
            size = min(item.size - done, _TILE - used)
            pieces.append(Piece(item, done // width, used, used + size))
            done, used = done + size, used + size
            if used == _TILE:
                yield used, pieces
                pieces, used = [], 0
    if used:
        yield used, pieces


def write(
    path: Path,
    items: Sequence[Item],
    fill_: Callable[[Piece, Tensor], None],
    advance: Callable[[int], None],
) -> str:
    """Write a file, which may not be on the disk yet, and return its SHA-256.

    Tiles are filled, hashed and written at the same time, each by a thread.

    fill_: gives a piece's elements, which it is handed, their values
    advance: is told how many bytes have been written
    """
    digest = hashlib.sha256()
    with (
        path.open("wb", buffering=0) as file,
        ThreadPoolExecutor(1, "pyinit hash") as hashing,
        ThreadPoolExecutor(1, "pyinit write") as writing,
    ):
        sink = _Sink(file)
        header = header_of(items)
        digest.update(header)
        sink.write(memoryview(header))
        free = [_tile() for _ in range(_IN_FLIGHT)]
        in_flight: deque[tuple[Tensor, int, Future[None], Future[None]]] = deque()

        def finish_one() -> None:
            tile, size, hashed, written = in_flight.popleft()
            hashed.result()
            written.result()
            free.append(tile)
            advance(size)

        for size, pieces in tiles_of(items):
            if not free:
                finish_one()
            tile = free.pop()
            for piece in pieces:
                fill_(piece, piece.of(tile))
            data = bytes_of(tile[:size])
            in_flight.append(
                (tile, size, hashing.submit(digest.update, data), writing.submit(sink.write, data))
            )
        while in_flight:
            finish_one()
    return digest.hexdigest()


class _Sink:
    """A file that is written from its start to its end, and goes to the disk meanwhile."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._end = 0

    def write(self, data: memoryview) -> None:
        start = self._end
        while data:
            count = self._file.write(data)
            self._end += count
            data = data[count:]
        if hasattr(os, "posix_fadvise"):
            # It starts writing now, where the end would wait for all of it.
            with suppress(OSError):
                os.posix_fadvise(
                    self._file.fileno(), start, self._end - start, os.POSIX_FADV_DONTNEED
                )


def read(
    path: Path,
    items: Sequence[Item],
    see: Callable[[Piece, Tensor], None],
    advance: Callable[[int], None],
) -> str:
    """Read a file that begins with these tensors' header, and return its SHA-256.

    see: gets each piece, and its elements as they are in the file
    advance: is told how many bytes have been read

    Raises:
        EOFError: If the file is too short.
    """
    digest = hashlib.sha256(header_of(items))
    with (
        path.open("rb", buffering=0) as file,
        ThreadPoolExecutor(1, "pyinit hash") as hashing,
        ThreadPoolExecutor(1, "pyinit read") as reading,
    ):
        file.seek(len(header_of(items)))

        def load(tile: Tensor, size: int) -> None:
            data = bytes_of(tile[:size])
            while data:
                count = file.readinto(data)
                if not count:
                    raise EOFError(f"{path} ended while it was read")
                data = data[count:]

        free = [_tile() for _ in range(_IN_FLIGHT)]
        ahead = tiles_of(items)
        in_flight: deque[tuple[Tensor, int, list[Piece], Future[None]]] = deque()
        while True:
            while free and (following := next(ahead, None)):
                size, pieces = following
                tile = free.pop()
                in_flight.append((tile, size, pieces, reading.submit(load, tile, size)))
            if not in_flight:
                return digest.hexdigest()
            tile, size, pieces, loaded = in_flight.popleft()
            loaded.result()
            hashed = hashing.submit(digest.update, bytes_of(tile[:size]))
            for piece in pieces:
                see(piece, piece.of(tile))
            hashed.result()
            free.append(tile)
            advance(size)


def bytes_of(tensor: Tensor) -> memoryview:
    """The memory of a dense tensor."""
    return tensor.view(torch.uint8).numpy().data


def _tile() -> Tensor:
    return torch.empty(_TILE, dtype=torch.uint8, device="cpu")
