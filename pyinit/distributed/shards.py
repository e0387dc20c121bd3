"""Writes the shards of a planned checkpoint: each process some, together all, at any pace."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from pyinit.distributed.ledger import Ledger
from pyinit.distributed.manifest import File, size_of
from pyinit.distributed.plan import Plan
from pyinit.distributed.safetensors_file import Piece, bytes_of, write


@dataclass(frozen=True)
class Part:
    """The shards of one process: each ``size``-th one, from ``rank`` on."""

    rank: int = 0
    size: int = 1

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 <= self.rank < self.size:
            raise ValueError(
                f"RANK must be in [0, WORLD_SIZE), got RANK={self.rank} and WORLD_SIZE={self.size}"
            )

    def of(self, files: Iterable[str]) -> list[str]:
        """Its files among those of all processes."""
        return [*files][self.rank :: self.size]

    @classmethod
    def of_environment(cls, environment: Mapping[str, str]) -> "Part":
        """The part that ``torchrun`` gives this process; all of it without ``torchrun``.

        Raises:
            ValueError: for numbers that are none.
        """
        if "RANK" not in environment and "WORLD_SIZE" not in environment:
            return cls()
        numbers = []
        for name in ("RANK", "WORLD_SIZE"):
            text = environment.get(name, "")
            if not text.isdecimal():
                raise ValueError(f"{name} must be a number, as torchrun sets it, got {text!r}")
            numbers.append(int(text))
        return cls(*numbers)


@dataclass(frozen=True)
class Written:
    """What has come of a process's part.

    written: the shards that it wrote
    missing: the shards that are not there yet, which are others' to write
    """

    written: tuple[File, ...]
    missing: tuple[str, ...]


def write_shards(
    plan: Plan,
    folder: Path,
    part: Part = Part(),
    others: Mapping[str, bytes] | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Written:
    """Write a process's part of the shards, and complete the folder if it is the last one.

    What is whole already is left as it is. The bytes do not depend on who writes which part.

    Args:
        plan: what is to be written
        folder: where; made if it is not there
        part: which shards
        others: further files, such as a config, by their names
        advance: told how many bytes have been written

    Raises:
        FileExistsError: If the folder holds something else that a loader would take for it, or the
            shards of another plan.
        OSError: If a file cannot be written; those that are whole stay, and nothing is left of it.
    """
    manifest = plan.manifest
    others = others or {}
    ledger = Ledger(folder, manifest)
    if not ledger.claim(others):
        return Written((), ())
    written: list[File] = []
    # What goes to the disk at last does so while the next shard is made.
    settling: deque[tuple[Future[File], ExitStack]] = deque()
    with ExitStack() as all_locks, ThreadPoolExecutor(1, "pyinit settle") as pool:

        def settle_one() -> None:
            settled, lock = settling.popleft()
            written.append(settled.result())
            lock.close()

        for file in part.of(manifest.by_file):
            if ledger.done(file) is not None:
                continue
            lock = all_locks.enter_context(ExitStack())
            # By who had it until now it may be done.
            if not lock.enter_context(ledger.alone(file)) or ledger.done(file) is not None:
                lock.close()
                continue
            made = _written(plan, file, ledger, advance)
            if settling:
                settle_one()
            settling.append((pool.submit(ledger.settle, made), lock))
        while settling:
            settle_one()
    missing = ledger.complete(others)
    return Written(tuple(written), missing)


def whole_shards(plan: Plan, folder: Path) -> list[str]:
    """The names of the shards of a plan that are in a folder and whole."""
    return Ledger(folder, plan.manifest).whole()


def _written(plan: Plan, file: str, ledger: Ledger, advance: Callable[[int], None]) -> File:
    """Write one shard where it is not in the way of anybody who reads the folder."""
    items = plan.manifest.by_file[file]
    by_hash = plan.manifest.by_hash
    hashes = {item.name: hashlib.sha256() for item in items if item.name in by_hash}

    def fill_(piece: Piece, out: Tensor) -> None:
        plan.values[piece.item.name].fill_(out, piece.first)
        if piece.item.name in hashes:
            hashes[piece.item.name].update(bytes_of(out))

    with ledger.failing(file):
        digest = write(ledger.hidden / file, items, fill_, advance)
    found = {name: each.hexdigest() for name, each in hashes.items()}
    return File(file, size_of(items), digest, found)
