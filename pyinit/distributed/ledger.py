"""Which shards of a plan are whole: what the processes that write them tell each other, by files alone.

A folder ``.pyinit`` beside the shards has the plan, and a record of each shard that is whole.
Who finds that all are there writes the index and the manifest, which says that the checkpoint is
complete, and removes that folder.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock, Timeout

from pyinit._messages import first_of
from pyinit.distributed.manifest import (
    INDEX,
    NAME,
    File,
    Manifest,
    as_text,
    files_from,
    read_json,
    shown,
    size_of,
)
from pyinit.reports.files import flush, replacing
from pyinit.reports.stored import read

HIDDEN = ".pyinit"
_PLAN = "plan.json"


class Ledger:
    """Which shards of a plan are whole, as files in their folder tell."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder, self._manifest = folder, manifest
        self.hidden = folder / HIDDEN

    def claim(self, others: Mapping[str, bytes]) -> bool:
        """Make the folder that of the plan. False if all of it is there already.

        Raises:
            FileExistsError: if it is another's.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._is_complete(others):
            return False
        self.hidden.mkdir(exist_ok=True)
        try:
            with _locked(self.hidden / (_PLAN + ".lock"), timeout=60):
                # Who completes a folder writes the manifest before it removes the plan.
                known = _table(self.hidden / _PLAN) or _table(self._folder / NAME)
                if known is None:
                    self._refuse_foreign(others)
                else:
                    self._refuse_other_plan(known)
                if not (self.hidden / _PLAN).exists() and not self._is_complete(others):
                    for file in self._completed().values():
                        self.record(file)
                    _put(self.hidden / _PLAN, as_text(self._manifest.to_dict()).encode())
        except BaseException:
            self._tidy()
            raise
        return True

    def _refuse_foreign(self, others: Mapping[str, bytes]) -> None:
        own = {*self._manifest.by_file, INDEX, NAME, *others}
        found = sorted(
            path.name
            for path in self._folder.iterdir()
            if path.name in own or path.name.endswith((".safetensors", ".safetensors.index.json"))
        )
        if found:
            raise FileExistsError(
                f"{self._folder} holds what is not of this checkpoint: {first_of(found)}; give another folder"
            )

    def _refuse_other_plan(self, known: dict[str, object]) -> None:
        ours = json.loads(as_text(self._manifest.to_dict()))
        known = {name: value for name, value in known.items() if name != "files"}
        different = [name for name in {**ours, **known} if ours.get(name) != known.get(name)]
        if not different:
            return
        differences = [
            f"{name} is {shown(known.get(name), 60)} there, {shown(ours.get(name), 60)} here"
            for name in different
            if name != "tensors"
        ]
        raise FileExistsError(
            f"{self._folder} holds the shards of another plan: "
            f"{'; '.join(differences) or _other_tensors(known, ours)}"
        )

    @contextmanager
    def alone(self, file: str) -> Iterator[bool]:
        """Whether no other process is writing the shard; none begins meanwhile."""
        self.hidden.mkdir(exist_ok=True)
        try:
            with _locked(self.hidden / (file + ".lock"), timeout=0):
                yield True
        except Timeout:
            yield False

    def done(self, file: str) -> File | None:
        """What is recorded of a shard that is whole; None once the folder is complete, too."""
        record = _table(self.hidden / (file + ".json"))
        if record is not None and record.pop("plan", None) == self._manifest.digest:
            with suppress(TypeError):
                return self._checked(read(File, record))
        return None

    def whole(self) -> list[str]:
        """The names of the shards that are there and whole."""
        completed = self._completed()
        files = self._manifest.by_file
        return [file for file in files if file in completed or self.done(file) is not None]

    def _completed(self) -> dict[str, File]:
        """The files that the manifest names and that are there, if it is that of this plan."""
        known = _table(self._folder / NAME)
        try:
            if known is None or Manifest.from_dict(known).digest != self._manifest.digest:
                return {}
            files = files_from(known)
        except (ValueError, RecursionError):
            return {}
        return {name: file for name, file in files.items() if self._checked(file) is not None}

    def _checked(self, file: File) -> File | None:
        items = self._manifest.by_file.get(file.name)
        if items is None or file.tensors.keys() != self._manifest.by_hash & {i.name for i in items}:
            return None
        try:
            size = (self._folder / file.name).stat().st_size
        except OSError:
            return None
        return file if size == file.size == size_of(items) else None

    def _is_complete(self, others: Iterable[str]) -> bool:
        is_there = all((self._folder / name).exists() for name in (INDEX, *others))
        return is_there and len(self._completed()) == len(self._manifest.by_file)

    @contextmanager
    def failing(self, file: str) -> Iterator[None]:
        """Leave nothing of a shard that cannot be written, and name it."""
        partial = self.hidden / file
        try:
            yield
        except OSError as error:  # which may not know the file, or knows it by another name
            partial.unlink(missing_ok=True)
            raise OSError(error.errno, error.strerror, str(self._folder / file)) from error
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def settle(self, file: File) -> File:
        """Bring a shard to the disk, put it in its place, and record it."""
        with self.failing(file.name):
            flush(self.hidden / file.name)
            os.replace(self.hidden / file.name, self._folder / file.name)
        return self.record(file)

    def record(self, file: File) -> File:
        """Tell other processes, and later ones, that a shard is whole."""
        value = {"plan": self._manifest.digest, **asdict(file)}
        partial = self.hidden / (file.name + ".json.partial")
        # If the power goes and takes it along, the shard is made again.
        partial.write_text(as_text(value), encoding="utf-8")
        os.replace(partial, self.hidden / (file.name + ".json"))
        return file

    def complete(self, others: Mapping[str, bytes]) -> tuple[str, ...]:
        """Write what belongs to the whole if all shards are there. The names of those that are not."""
        done = {file: self.done(file) for file in self._manifest.by_file}
        missing = tuple(file for file, found in done.items() if found is None)
        # Another process may have completed it, and removed the records.
        if missing and not self._is_complete(others):
            return missing
        if not missing:
            files = [asdict(found) for found in done.values() if found is not None]
            index = json.dumps(self._manifest.index(), indent=2, sort_keys=True) + "\n"
            for name, data in others.items():
                _put(self._folder / name, data)
            _put(self._folder / INDEX, index.encode())
            manifest = self._manifest.to_dict() | {"files": files}
            _put(self._folder / NAME, as_text(manifest).encode())
        shutil.rmtree(self.hidden, ignore_errors=True)
        return ()

    def _tidy(self) -> None:
        """Remove the hidden folder if there is nothing of any use in it."""
        if self.hidden.is_dir() and all(p.suffix == ".lock" for p in self.hidden.iterdir()):
            shutil.rmtree(self.hidden, ignore_errors=True)


@contextmanager
def _locked(path: Path, timeout: float) -> Iterator[None]:
    lock = FileLock(path)
    with suppress(NotImplementedError):  # of a file system that has no locks
        lock.acquire(timeout=timeout)
    try:
        yield
    finally:
        lock.release()


def _put(path: Path, data: bytes) -> None:
    with replacing(path) as partial:
        partial.write_bytes(data)


def _table(path: Path) -> dict[str, object] | None:
    """The table in a file; None if there is none."""
    with suppress(OSError, ValueError):
        return read_json(path)
    return None


def _other_tensors(known: dict[str, object], ours: dict[str, object]) -> str:
    there, here = known.get("tensors"), ours["tensors"]
    if not isinstance(there, list) or not isinstance(here, list):
        return "it has no tensors"
    for before, now in zip(there, here, strict=False):
        if before != now:
            return f"tensor {now['name']} is another one"
    return f"{len(there)} tensors there, {len(here)} here"
