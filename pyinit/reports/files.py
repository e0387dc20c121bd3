"""Writes files that are there whole or not at all, and hold what their names say; reads reports back."""

import errno
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

_Made = TypeVar("_Made")

# Suffixes by which other programs know what a file holds.
_FORMATS = re.compile(
    r"\.(safetensors|pt|pth|bin|ckpt|pkl|pickle|joblib|npy|npz|mat|h5|hdf5|keras|gguf|ggml|onnx|pb|tflite"
    r"|mlmodel|msgpack|jsonl?|ya?ml|toml|csv|tsv|parquet|xlsx|html?|xml|md|pdf|png|svg|zip|tar|tgz|gz|bz2"
    r"|xz|zst|7z)",
    re.IGNORECASE,
)


def check_output(path: Path, *suffixes: str) -> str:
    """Check that a file of one of the formats with these suffixes can be put at ``path``.

    Returns:
        The suffix of the format that the name asks for; the first if it asks for none.

    Raises:
        ValueError: If the name has the suffix of another format.
        OSError: If no file can be written there.
    """
    suffix = path.suffix.lower()
    if suffix not in suffixes and _FORMATS.fullmatch(suffix):
        formats = " or ".join(suffixes)
        raise ValueError(
            f"{path.name} would be a {formats} file, so its name must end in {formats}"
        )
    with _beside(path):
        pass
    return suffix if suffix in suffixes else suffixes[0]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a file beside ``path`` to write to, which takes its place in the end.

    After an error nothing is left of it. A link stays, and the file that it leads to is replaced. A
    file that is replaced passes on its permissions; a new file has the usual ones.
    """
    with _beside(path) as partial:
        path = path.resolve()
        mode = stat.S_IMODE((path if path.exists() else partial).stat().st_mode)
        yield partial
        partial.chmod(mode)  # a library may have put another file there
        flush(partial)
        os.replace(partial, path)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write a value as a JSON file. It raises what ``check_output`` raises."""
    _write_text(Path(path), ".json", json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_report(
    path: str | os.PathLike[str], kind: str, make: Callable[[dict[str, Any]], _Made]
) -> _Made:
    """What ``make`` makes of the table in a JSON file.

    Args:
        path: The file's path.
        kind: What the file should hold, for messages.
        make: A function of the table, which raises ValueError where the table is none of its own.

    Raises:
        ValueError: If the file holds none; the message names it.
        OSError: If it cannot be read.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path}: not {kind}")  # noqa: TRY004  it is the value of a file
    try:
        return make(value)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def write_html(path: str | os.PathLike[str], text: str) -> None:
    """Write a page as an HTML file. It raises what ``check_output`` raises."""
    _write_text(Path(path), ".html", text)


def _write_text(path: Path, suffix: str, text: str) -> None:
    check_output(path, suffix)
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Give an empty file in the same folder, under a name of its own; in the end it is gone."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        pass
    else:
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, "the file is there, and write-protected", str(path))
    partial = path.resolve().with_name(f".{uuid4().hex}.partial")
    try:
        try:
            partial.touch(exist_ok=False)
        except OSError as error:  # its name is one that the caller has never heard of
            raise OSError(error.errno, error.strerror, str(path)) from None
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Bring the contents to the disk: a file's name must not be there before its contents."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())
