"""Reads TOML and JSON files as data: nothing in them is imported or executed."""

import json
import sys
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_LARGEST = 1 << 20  # bytes

_READERS: dict[str, Callable[[str], Any]] = {".toml": tomllib.loads, ".json": json.loads}


def read_value(text: str) -> Any:
    """The value that a text is in TOML; a text that is none there is itself."""
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return table["value"] if len(table) == 1 else text


def read_data(path: str | PathLike[str]) -> dict[str, Any]:
    """Read the table in a .toml or .json file of at most 1 MiB.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is of another kind, too large, not UTF-8, malformed, or not a table.
    """
    path = Path(path)
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise ValueError(f"must be a .toml or .json file, got {str(path)!r}")
    with path.open("rb") as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise ValueError(f"larger than {_LARGEST:,} bytes")
    try:
        table = read(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid {path.suffix[1:].upper()}: {error}") from None
    if not isinstance(table, dict):
        raise ValueError(f"must hold a table, got {type(table).__name__}")  # noqa: TRY004
    return table
