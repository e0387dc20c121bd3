"""A safetensors file that is there whole or not at all."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_model
from torch import nn

from pyinit.whole_model.files import replacing


def save(model: nn.Module, path: Path, metadata: Mapping[str, str]) -> None:
    """Writes beside ``path``, then renames. Tied parameters are stored once.

    The same model and metadata give the same bytes.
    """
    with replacing(path) as partial:
        save_model(model, str(partial), dict(metadata))
        _sort_metadata(partial)


def _sort_metadata(path: Path) -> None:
    """safetensors writes metadata in an order that differs from run to run."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False)
        file.seek(8)
        file.write(text.encode().ljust(size))
