"""Checkpoints: state dicts, safetensors and torch files, and folders of shards.

Nothing in a file is executed. The tensors of a file are mapped into memory and read one by one.
"""

import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn.parameter import is_lazy

from pyinit._torch.placement import elsewhere

CheckpointSource = Mapping[str, Any] | str | os.PathLike[str]

SAFETENSORS_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "U16": torch.uint16,
    "I16": torch.int16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
}

# Keys under which training programs keep a state dict. The first one that is there counts.
_WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "net",
    "network",
    "state_dict_ema",
    "model_ema",
    "ema",
)

# Prefixes that wrapping modules add to the names of the wrapped one.
_PREFIXES = ("module.", "_orig_mod.", "model.")


class StoredTensor(NamedTuple):
    """A tensor of a checkpoint. ``read`` returns it, possibly in the checkpoint's own memory."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]


class Checkpoint:
    """Tensors by name, whose shapes and dtypes are known without reading them.

    As a context manager it lets go of its files at the end.

    description: what it is, for messages
    others: values by name that are no tensors, such as modules' extra states
    metadata: what torch's state dicts say about modules, by the modules' names
    """

    def __init__(
        self,
        description: str,
        tensors: Mapping[str, StoredTensor],
        others: Mapping[str, Any] = MappingProxyType({}),
        metadata: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.description = description
        self.others = others
        self.metadata = metadata
        self._tensors = dict(tensors)

    def keys(self) -> Collection[str]:
        """The names of the tensors."""
        return self._tensors.keys()

    def values(self) -> dict[str, Any]:
        """All tensors and other values by name. Tensors must not be written to: they may be the file."""
        return {name: tensor.read() for name, tensor in self._tensors.items()} | dict(self.others)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name].shape

    def dtype(self, name: str) -> torch.dtype:
        return self._tensors[name].dtype

    def tensor(self, name: str) -> Tensor:
        """The tensor, which must not be written to: it may be the file itself."""
        return self._tensors[name].read()

    def stored(self, name: str) -> StoredTensor | None:
        return self._tensors.get(name)

    def items(self) -> Iterable[tuple[str, StoredTensor]]:
        return self._tensors.items()

    def close(self) -> None:
        self._tensors.clear()
        self.others = {}

    def __enter__(self) -> "Checkpoint":  # noqa: PYI034
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_source(source: CheckpointSource) -> Checkpoint:
    """Open the checkpoint in a state dict, a file, or a folder of shards.

    Args:
        source: A mapping of tensors, also inside a training program's dictionary; the path to a
            ``.safetensors``, ``.pt``, ``.pth``, ``.bin`` or ``.ckpt`` file; or a folder with
            ``model.safetensors.index.json``, ``.safetensors`` files,
            ``pytorch_model.bin.index.json`` or ``pytorch_model.bin``, looked for in this order

    Raises:
        FileNotFoundError: For a path with nothing there.
        ValueError: For a damaged file, a pickle that is more than tensors and plain values, or a
            source without tensors.
    """
    if isinstance(source, Mapping):
        return _of_mapping(source, "state dict")
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"source must be a state dict or a path, got {type(source).__name__}")
    path = Path(source)
    return _of_folder(path) if path.is_dir() else _of_file(path)


def model_names(names: Iterable[str], renamed: Callable[[str], str | None]) -> dict[str, str]:
    """Map the names that a ``renamer`` gives to the source's own names.

    Raises:
        ValueError: If two names become one.
    """
    result: dict[str, str] = {}
    for name in names:
        new = renamed(name)
        if new is None:
            continue
        if new in result:
            raise ValueError(f"{result[new]!r} and {name!r} of the source both become {new!r}")
        result[new] = name
    return result


def renamer(
    names: Collection[str],
    wanted: Collection[str],
    prefix: str | None = None,
    rename: Iterable[tuple[str, str]] = (),
) -> Callable[[str], str | None]:
    """Make a function from a name in the source to the name in the model, or None.

    Names that do not start with ``prefix`` are left out; the others lose it. Then the prefixes of
    wrappers that most names have are cut off, if more names are ``wanted`` without them. At last the
    pairs of a regular expression and its replacement in ``rename`` are applied.

    Raises:
        ValueError: If no name has the prefix, and for a wrong regular expression.
    """
    start = prefix or ""
    kept = [name.removeprefix(start) for name in names if name.startswith(start)]
    if prefix and not kept:
        raise ValueError(f"prefix: no name in the source starts with {prefix!r}; {_some(names)}")
    by_rules = _renaming(rename)
    owners = {name.rpartition(".")[0] for name in wanted}

    def fit(wrapping: str) -> tuple[int, int]:
        """How many names are wanted, and how many belong to modules that own a wanted name.

        The latter counts where a module's hooks translate names.
        """
        short = [by_rules(name.removeprefix(wrapping)) for name in kept]
        return (
            sum(name in wanted for name in short),
            sum(name.rpartition(".")[0] in owners for name in short),
        )

    wrapping = max(_wrappings(kept), key=fit)

    def renamed(name: str) -> str | None:
        if not name.startswith(start):
            return None
        return by_rules(name.removeprefix(start).removeprefix(wrapping))

    return renamed


def _wrappings(names: Collection[str]) -> Iterator[str]:
    """The prefixes of wrappers that more than half of the names have: none, one, two and so on."""
    known = ""
    while True:
        yield known
        longer = (known + prefix for prefix in _PREFIXES)
        common = (p for p in longer if 2 * sum(name.startswith(p) for name in names) > len(names))
        found = next(common, None)
        if found is None:
            return
        known = found


def _renaming(rename: Iterable[tuple[str, str]]) -> Callable[[str], str]:
    rules = []
    for rule in rename:
        try:
            pattern, replacement = rule
            rules.append((re.compile(pattern), replacement))
            rules[-1][0].sub(replacement, "")
        except (re.error, TypeError, ValueError) as error:  # noqa: PERF203
            raise ValueError(
                f"rename: {rule!r} is no regular expression and its replacement: {error}"
            ) from None

    def renamed(name: str) -> str:
        for pattern, replacement in rules:
            name = pattern.sub(replacement, name)
        return name

    return renamed


def _some(names: Iterable[str]) -> str:
    first = list(islice(names, 4))
    more = ", ..." if len(first) > 3 else ""
    return f"it has {', '.join(map(repr, first[:3]))}{more}" if first else "it has no names"


# ---- Mappings ------------------------------------------------------------------------------------


def _of_mapping(mapping: Mapping[str, Any], description: str) -> Checkpoint:
    inner, path = _unwrapped(mapping)
    tensors = {name: value for name, value in inner.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(f"{description} holds no tensors by name; {_some(map(str, mapping))}")
    for name, tensor in tensors.items():
        _check_readable(name, tensor, description)
    stored = {name: StoredTensor(tuple(t.shape), t.dtype, t.detach) for name, t in tensors.items()}
    others = {k: v for k, v in inner.items() if isinstance(k, str) and not isinstance(v, Tensor)}
    metadata = getattr(inner, "_metadata", None)
    return Checkpoint(
        description + "".join(f"[{key!r}]" for key in path),
        stored,
        others,
        metadata if isinstance(metadata, Mapping) else {},
    )


def _unwrapped(mapping: Mapping[str, Any]) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """The mapping that holds the tensors, and the keys that lead to it."""
    for key in _WRAPPERS:
        value = mapping.get(key)
        if isinstance(value, Mapping):
            inner, path = _unwrapped(value)
            if any(isinstance(item, Tensor) for item in inner.values()):
                return inner, (key, *path)
    return mapping, ()


def _check_readable(name: object, tensor: Tensor, description: str) -> None:
    if not isinstance(name, str):
        raise TypeError(f"{description}: names must be strings, got {name!r}")
    kinds = {
        "is on the meta device: it has no values": tensor.is_meta,
        "has no shape yet: it is lazy": is_lazy(tensor),
        "is quantized": tensor.is_quantized,
        f"has layout {tensor.layout}": tensor.layout != torch.strided or tensor.is_nested,
    }
    for kind, is_so in kinds.items():
        if is_so:
            raise ValueError(f"{description}: tensor {name!r} {kind}")
    where = elsewhere(tensor)
    if where is not None:
        raise ValueError(f"{description}: tensor {name!r} has its values elsewhere: it is {where}")


# ---- Files ---------------------------------------------------------------------------------------


def _of_file(path: Path) -> Checkpoint:
    read = _READERS.get(path.suffix.lower())
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if read is None:
        raise ValueError(f"{path} is of no known kind; known are {', '.join(_READERS)}, folders")
    return read(path)


def _of_safetensors(path: Path) -> Checkpoint:
    try:
        file: Any = safe_open(path, framework="pt", device="cpu")
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from None
    stored = {}
    for name, part in slices.items():
        dtype = SAFETENSORS_DTYPES.get(part.get_dtype())
        if dtype is None:
            raise ValueError(f"{path}: {name!r} has dtype {part.get_dtype()}, which torch lacks")
        stored[name] = StoredTensor(tuple(part.get_shape()), dtype, partial(file.get_tensor, name))
    return Checkpoint(str(path), stored)


def _of_torch_file(path: Path) -> Checkpoint:
    value = _unpickled(path)
    if not isinstance(value, Mapping):  # the file is at fault, not the argument
        raise ValueError(f"{path} holds no dictionary but a {type(value).__name__}")  # noqa: TRY004
    return _of_mapping(value, str(path))


def _unpickled(path: Path) -> Any:
    try:
        # The format before torch 1.6 is no zip file, and cannot be mapped.
        return torch.load(path, "cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is refused, nothing in it was executed: {_what_it_wants(str(error))}"
        ) from None
    except Exception as error:  # noqa: BLE001 damaged bytes break the reader in any place
        reason = str(error).partition(". ")[0]
        raise ValueError(
            f"{path} is damaged or no torch file: {type(error).__name__}: {reason}"
        ) from None


def _what_it_wants(message: str) -> str:
    wanted = re.search(r"GLOBAL ([\w.]+)", message)
    if wanted:
        return f"besides tensors and plain values it wants {wanted[1]}"
    reason = re.search(r"WeightsUnpickler error:\s*(.+)", message)
    return f"it is no pickle of tensors and plain values ({reason[1] if reason else message})"


_READERS: dict[str, Callable[[Path], Checkpoint]] = {
    ".safetensors": _of_safetensors,
    ".pt": _of_torch_file,
    ".pth": _of_torch_file,
    ".bin": _of_torch_file,
    ".ckpt": _of_torch_file,
}


# ---- Folders -------------------------------------------------------------------------------------


def _of_folder(folder: Path) -> Checkpoint:
    if (folder / "model.safetensors.index.json").is_file():
        return _indexed(folder / "model.safetensors.index.json")
    shards = sorted(folder.glob("*.safetensors"))
    if not shards and (folder / "pytorch_model.bin.index.json").is_file():
        return _indexed(folder / "pytorch_model.bin.index.json")
    shards = shards or list(folder.glob("pytorch_model.bin"))
    if not shards:
        raise FileNotFoundError(f"{folder} has neither .safetensors files nor pytorch_model.bin")
    stored: dict[str, StoredTensor] = {}
    others: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    for path in shards:
        shard = _of_file(path)
        for name, tensor in shard.items():
            if name in stored:
                raise ValueError(f"{name!r} is in {path} and in another file of the folder")
            stored[name] = tensor
        others |= shard.others
        metadata |= shard.metadata
    return Checkpoint(str(folder), stored, others, metadata)


def _indexed(index: Path) -> Checkpoint:
    shards: dict[str, Checkpoint] = {}
    stored: dict[str, StoredTensor] = {}
    others: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    for name, file in _weight_map(index).items():
        if file not in shards:
            shards[file] = _of_file(index.parent / file)
            metadata |= shards[file].metadata
        tensor = shards[file].stored(name)
        if tensor is not None:
            stored[name] = tensor
        elif name in shards[file].others:
            others[name] = shards[file].others[name]
        else:
            raise ValueError(f"{index.parent / file} lacks {name!r}, which {index.name} puts there")
    return Checkpoint(str(index.parent), stored, others, metadata)


def _weight_map(index: Path) -> dict[str, str]:
    try:
        files = dict(json.loads(index.read_bytes())["weight_map"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{index} is no index of shards: {type(error).__name__}: {error}"
        ) from None
    for file in files.values():
        if (
            not isinstance(file, str)
            or PurePath(file).is_absolute()
            or ".." in PurePath(file).parts
        ):
            raise ValueError(f"{index}: shard {file!r} is not inside of the folder")
    return files
