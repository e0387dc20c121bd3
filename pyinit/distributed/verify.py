"""Verifies a folder of shards by its manifest: every value is made again and compared.

Neither a reference nor the model's code is needed, and nothing in the files is executed.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyinit._messages import first_of
from pyinit._random.rng import rng
from pyinit.distributed.ledger import HIDDEN
from pyinit.distributed.manifest import (
    INDEX,
    NAME,
    File,
    Manifest,
    Recorded,
    files_from,
    is_fused_here,
    read_json,
    shown,
    size_of,
)
from pyinit.distributed.safetensors_file import Item, Piece, bytes_of, header_of, read
from pyinit.distributed.values import Values, are_by_index, values_of

_LARGEST_HEADER = 100_000_000  # bytes: what readers of the format take


@dataclass(frozen=True)
class Problem:
    """What is wrong, and where: a file, or a tensor in it."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True)
class Verification:
    """What ``verify`` found.

    folder: the folder
    problems: what is wrong; nothing if all values are those of the manifest
    files: how many shards there are
    total_size: the bytes of all tensors
    generated: how many tensors were made again and compared
    by_hash: the other tensors, which were compared with hashes of the manifest alone, and why
    """

    folder: str
    problems: tuple[Problem, ...] = ()
    files: int = 0
    total_size: int = 0
    generated: int = 0
    by_hash: tuple[tuple[str, str], ...] = ()

    @property
    def is_sound(self) -> bool:
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON has them."""
        return {"sound": self.is_sound, **asdict(self)}

    def lines(self) -> Iterator[str]:
        """The same in sentences."""
        yield from map(_printable, self._lines())

    def _lines(self) -> Iterator[str]:
        yield from map(str, self.problems)
        by_hash: dict[str, list[str]] = {}
        for name, why in self.by_hash:
            by_hash.setdefault(why, []).append(name)
        for why, names in by_hash.items():
            yield f"compared by hash alone ({why}): {first_of(names)}"
        if self.problems:
            count = len(self.problems)
            yield f"{count} {'problem' if count == 1 else 'problems'} in {self.folder}"
        else:
            yield (
                f"{self.folder} is what its manifest says: {self.files} shards, "
                f"{self.total_size / 1e6:,.1f} MB; {self.generated} tensors made again and equal, "
                f"{len(self.by_hash)} by hash"
            )


def verify(
    folder: Path,
    advance: Callable[[int], None] = lambda _: None,
    begin: Callable[[int], None] = lambda _: None,
) -> Verification:
    """Verify that a folder of shards holds what its manifest says.

    Args:
        folder: the folder
        advance: told how many bytes have been read
        begin: told how many bytes there are to read

    Returns:
        What was found, problems included.
    """
    try:
        table = read_json(folder / NAME)
        manifest, files = Manifest.from_dict(table), files_from(table)
    except OSError as error:
        why = error.strerror or str(error)
        if (folder / HIDDEN).is_dir():
            why = "not there: shards are missing, which the command that writes them makes"
        return Verification(str(folder), (Problem(NAME, why),))
    except ValueError as error:
        return Verification(str(folder), (Problem(NAME, str(error)),))
    work = _Work(folder, manifest, files)
    begin(manifest.total_size)
    work.compare_seed()
    work.compare_index()
    work.look_for_others()
    for name, items in manifest.by_file.items():
        work.compare_file(name, items, advance)
    return Verification(
        str(folder),
        tuple(work.problems),
        len(manifest.by_file),
        manifest.total_size,
        work.generated,
        tuple(work.by_hash.items()),
    )


@dataclass
class _Differing:
    """How many elements of a tensor differ, and the first one."""

    count: int = 0
    first: int = 0

    def add(self, places: Tensor, start: int) -> None:
        if not self.count:
            self.first = start + int(places[0])
        self.count += len(places)


@dataclass
class _Work:
    """A folder that is being verified."""

    folder: Path
    manifest: Manifest
    files: dict[str, File]
    problems: list[Problem] = field(default_factory=list)
    generated: int = 0
    by_hash: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._recorded = {tensor.name: tensor for tensor in self.manifest.tensors}

    def _wrong(self, where: str, what: str) -> None:
        self.problems.append(Problem(where, what))

    def compare_seed(self) -> None:
        seed = self.manifest.seed
        others = [
            tensor.name
            for tensor in self.manifest.tensors
            if tensor.initializer is not None and tensor.key != seed
        ]
        if others:
            self._wrong(NAME, f"its seed is {seed}, and not the key of {first_of(others)}")

    def compare_index(self) -> None:
        try:
            table = read_json(self.folder / INDEX)
        except OSError as error:
            self._wrong(INDEX, error.strerror or str(error))
            return
        except ValueError as error:
            self._wrong(INDEX, str(error))
            return
        wanted = self.manifest.index()
        found = table.get("weight_map")
        if not isinstance(found, dict):
            self._wrong(INDEX, "it has no weight_map")
            return
        for name in {**wanted["weight_map"], **found}:
            there, meant = found.get(name), wanted["weight_map"].get(name)
            if there != meant:
                self._wrong(INDEX, f"{name} is in {_told(there)}, and should be in {_told(meant)}")
        metadata = table.get("metadata")
        size = metadata.get("total_size") if isinstance(metadata, dict) else None
        if size != self.manifest.total_size:
            self._wrong(INDEX, f"total_size is {size}, and should be {self.manifest.total_size}")

    def look_for_others(self) -> None:
        """Name files that a loader might take for shards."""
        known = self.manifest.by_file.keys()
        for path in sorted(self.folder.glob("*.safetensors")):
            if path.name not in known:
                self._wrong(path.name, "a file that the manifest does not name")
        for name in self.files.keys() - known:
            self._wrong(NAME, f"it names the file {name}, and no tensor in it")

    def compare_file(self, name: str, items: list[Item], advance: Callable[[int], None]) -> None:
        problem = self._unreadable(name, items)
        if problem is not None:
            self._wrong(name, problem)
            return
        with rng("philox", self.manifest.stream):
            values = {item.name: self._values(self._recorded[item.name]) for item in items}
        hashes = {item.name: hashlib.sha256() for item in items if values[item.name] is None}
        differing: dict[str, _Differing] = {}
        made = torch.empty(0, dtype=torch.uint8, device="cpu")

        def see(piece: Piece, there: Tensor) -> None:
            nonlocal made
            item = piece.item
            maker = values[item.name]
            if maker is None:
                hashes[item.name].update(bytes_of(there))
                return
            if len(made) < piece.stop:
                made = torch.empty(piece.stop, dtype=torch.uint8, device="cpu")
            again = piece.of(made)
            maker.fill_(again, piece.first)
            places = _different(again, there)
            if len(places):
                differing.setdefault(item.name, _Differing()).add(places, piece.first)

        try:
            with rng("philox", self.manifest.stream):
                digest = read(self.folder / name, items, see, advance)
        except Exception as error:  # noqa: BLE001  of the file, or of an initializer with damaged values
            self._wrong(name, f"cannot be compared: {type(error).__name__}: {error}")
            return
        self._judge(name, items, differing, {n: each.hexdigest() for n, each in hashes.items()})
        if digest != self.files[name].sha256:
            self._wrong(name, f"its SHA-256 is {digest}, and should be {self.files[name].sha256}")

    def _judge(
        self,
        name: str,
        items: list[Item],
        differing: dict[str, _Differing],
        hashes: dict[str, str],
    ) -> None:
        for item in items:
            if item.name in hashes:
                wanted = self.files[name].tensors.get(item.name)
                if wanted is None and self._recorded[item.name].initializer is None:
                    self._wrong(item.name, f"{NAME} has neither an initializer nor a hash of it")
                elif wanted not in (None, hashes[item.name]):
                    self._wrong(item.name, f"its values are not those that {NAME} has a hash of")
                continue
            self.generated += 1
            if item.name in differing:
                found, count = differing[item.name], int(np.prod(item.shape))
                place = tuple(map(int, np.unravel_index(found.first, item.shape)))
                self._wrong(
                    item.name,
                    f"{found.count} of {count} elements differ from what the manifest makes, the first "
                    f"at index {place}",
                )

    def _unreadable(self, name: str, items: list[Item]) -> str | None:
        """Why the tensors of a file cannot be compared."""
        wanted = size_of(items)
        if name not in self.files:
            return f"{NAME} has no hash of it"
        if self.files[name].size != wanted:
            return f"{NAME} gives it {self.files[name].size} bytes, and its tensors need {wanted}"
        path = self.folder / name
        if not path.is_file():
            return "not a file" if path.exists() else "not there"
        try:
            return _misfit(path, items)
        except OSError as error:
            return error.strerror or str(error)

    def _values(self, tensor: Recorded) -> Values | None:
        """What makes a tensor again; None if there is nothing to make it from, which is noted."""
        try:
            blocks = tensor.blocks()
        except Exception as error:  # noqa: BLE001  damaged values break initializers in any place
            self._wrong(tensor.name, f"{NAME} has an initializer that cannot make it: {error}")
            blocks = None
        if blocks is None:
            self.by_hash[tensor.name] = tensor.by
            return None
        if not are_by_index(blocks) and self.manifest.fused != is_fused_here():
            with_or_not = "with" if self.manifest.fused else "without"
            self.by_hash[tensor.name] = f"{tensor.by}, made {with_or_not} a fused multiply-add"
            return None
        return values_of(blocks, tensor.shape, tensor.item.dtype, tensor.source)


def _different(ours: Tensor, theirs: Tensor) -> Tensor:
    """The places of elements whose bits differ."""
    kind = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[ours.itemsize]
    ours, theirs = ours.view(kind), theirs.view(kind)
    if torch.equal(ours, theirs):
        return ours[:0]
    return torch.nonzero(ours != theirs).flatten()


def _printable(text: str) -> str:
    """A text without what a terminal acts on, or no file can hold: it comes from files."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def _told(file: object) -> str:
    return "no file" if file is None else repr(file)


def _misfit(path: Path, items: list[Item]) -> str | None:
    """What keeps a file from being one of these tensors."""
    size, wanted = path.stat().st_size, size_of(items)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _LARGEST_HEADER):
            return f"its header has {length} bytes, and the file {size}"
        header = file.read(length)
    meant = header_of(items)[8:]
    if header != meant:
        return _wrong_header(header, meant)
    return None if size == wanted else f"it has {size} bytes, and should have {wanted}"


def _wrong_header(found: bytes, meant: bytes) -> str:
    try:
        there, here = json.loads(found), json.loads(meant)
        different = [name for name in {**here, **there} if there.get(name) != here.get(name)]
    except (ValueError, TypeError, RecursionError):
        return "its header is damaged"
    if not different:
        return "its header is laid out differently"
    name = different[0]
    return (
        f"its header differs in {first_of(different)}: {name} is "
        f"{shown(there.get(name), 100)}, and should be {shown(here.get(name), 100)}"
    )
