"""``pyinit.json``: what a folder of shards holds, from which its values can be made again."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePath
from typing import Any

import torch

from pyinit import _core
from pyinit._random.rng import NAMES, VERSIONS, Key, get_rng, stream_version
from pyinit._torch.once import once
from pyinit._torch.views import dtype_name
from pyinit.distributed.safetensors_file import (
    Item,
    check_name,
    header_of,
    in_file_order,
    takes,
)
from pyinit.initializers import Blocks, Initializer, Weight, from_dict
from pyinit.reports.initialization import torch_version, version_of_pyinit
from pyinit.reports.stored import read

NAME = "pyinit.json"
INDEX = "model.safetensors.index.json"
_FORMAT = 1
_LARGEST_TABLE = 1 << 30  # bytes: a table of some million tensors
_LARGEST_TENSOR = 2**63 - 1  # bytes: what torch counts


def is_fused_here() -> bool:
    """Whether this processor's kernels make matrices with a fused multiply-add."""
    return _core.isa() != "baseline"


@dataclass(frozen=True)
class Recorded:
    """A tensor, and how its values are made.

    name: its first name in the model's state dict
    file: the shard that holds it
    dtype: such as ``"bfloat16"``
    shape: its shape
    by: in words, the initializer or the code that made it
    tied: its further names
    initializer: the initializer as plain values; None if its values cannot be made from these alone
    key, stream: of its random numbers
    groups, transposed, batch_dims: how its layer uses it, as ``Weight`` has them
    """

    name: str
    file: str
    dtype: str
    shape: tuple[int, ...]
    by: str
    tied: tuple[str, ...] = ()
    initializer: dict | None = None  # type: ignore[type-arg]
    key: int = 0
    stream: int = 0
    groups: int = 1
    transposed: bool = False
    batch_dims: int = 0

    @property
    def item(self) -> Item:
        return Item(self.name, getattr(torch, self.dtype), self.shape)

    @property
    def weight(self) -> Weight:
        return Weight(self.shape, self.groups, self.transposed, self.batch_dims)

    @property
    def source(self) -> Key:
        return Key(self.key, self.stream)

    def blocks(self) -> Blocks | None:
        """What fills it; None if the manifest alone does not say.

        Raises:
            ValueError: for an initializer that there is not, or that cannot fill it.
        """
        if self.initializer is None:
            return None
        return from_dict(self.initializer).resolve(self.weight)


@dataclass(frozen=True)
class File:
    """A shard that has been written.

    name: its name in the folder
    size: its bytes
    sha256: of all of it
    tensors: the SHA-256 of the values of each tensor that cannot be made from the manifest alone
    """

    name: str
    size: int
    sha256: str
    tensors: dict[str, str]

    def __post_init__(self) -> None:
        is_table = isinstance(self.tensors, dict)
        if not is_table or not all(isinstance(each, str) for each in self.tensors.values()):
            raise TypeError(f"file {self.name!r} has no table of hashes of its tensors")


@dataclass(frozen=True)
class Manifest:
    """All that decides the bytes of a folder of shards.

    model, recipe, rules, seed, rng: what was asked for
    shards: the number of files
    tensors: each stored tensor once, in the order of the state dict
    fused: whether matrices are those of processors with a fused multiply-add
    pyinit, torch: the versions
    stream: the version of pyinit's random stream
    """

    model: str
    recipe: str
    rules: tuple[str, ...]
    seed: int
    rng: str
    shards: int
    tensors: tuple[Recorded, ...]
    fused: bool = field(default_factory=is_fused_here)
    pyinit: str = field(default_factory=version_of_pyinit)
    torch: str = field(default_factory=torch_version)
    stream: int = field(default_factory=stream_version)
    format: int = _FORMAT

    def __post_init__(self) -> None:
        for name, known in (("format", (_FORMAT,)), ("stream", VERSIONS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be {' or '.join(map(str, known))}, which this pyinit has, "
                    f"got {getattr(self, name)}"
                )
        if self.rng not in NAMES:
            raise ValueError(f"rng must be one of {', '.join(NAMES)}, got {self.rng!r}")
        seen: set[str] = set()
        for tensor in self.tensors:
            _check(tensor)
            for name in (tensor.name, *tensor.tied):
                if name in seen:
                    raise ValueError(f"tensor {name!r} is there twice")
                seen.add(name)
        if not 0 < self.shards == len(self.by_file):
            raise ValueError(
                f"shards is {self.shards}, and the tensors name {len(self.by_file)} files"
            )

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "Manifest":
        """The manifest that ``to_dict`` described.

        Raises:
            ValueError: for what is none.
        """
        value = {name: each for name, each in value.items() if name != "files"}
        try:
            tensors = tuple(read(Recorded, each) for each in _list(value, "tensors"))
            manifest: Manifest = read(cls, value, tensors=tensors)
        except TypeError as error:
            raise ValueError(f"not a manifest of shards: {error}") from None
        return manifest

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON has them; what is not the case is left out of tensors."""
        value = asdict(self)
        value["tensors"] = [_short(tensor) for tensor in self.tensors]
        return {name: value[name] for name in ("format", "stream", *value)}

    @once
    def digest(self) -> str:
        """A SHA-256 of all of it, by which processes know that they write the same."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def total_size(self) -> int:
        """The bytes of all tensors."""
        return sum(tensor.item.size for tensor in self.tensors)

    @once
    def by_file(self) -> dict[str, list[Item]]:
        """The tensors of each file, in the order in which it holds them."""
        found: dict[str, list[Item]] = {}
        for tensor in self.tensors:
            found.setdefault(tensor.file, []).append(tensor.item)
        return {file: in_file_order(items) for file, items in found.items()}

    @once
    def by_hash(self) -> frozenset[str]:
        """The names of tensors whose values cannot be made from the manifest alone."""
        return frozenset(tensor.name for tensor in self.tensors if tensor.initializer is None)

    def index(self) -> dict[str, Any]:
        """What ``model.safetensors.index.json`` holds."""
        return {
            "metadata": {"total_size": self.total_size},
            "weight_map": {tensor.name: tensor.file for tensor in self.tensors},
        }


def size_of(items: list[Item]) -> int:
    """The bytes of a file that holds these tensors."""
    return len(header_of(items)) + sum(item.size for item in items)


def files_from(value: dict[str, Any]) -> dict[str, File]:
    """The files that a manifest's table names.

    Raises:
        ValueError: for what is none.
    """
    try:
        files = [read(File, each) for each in _list(value, "files")]
    except TypeError as error:
        raise ValueError(f"not a manifest of shards: {error}") from None
    return {file.name: file for file in files}


def read_json(path: Path) -> dict[str, Any]:
    """The table in a JSON file.

    Raises:
        ValueError: if it holds none.
        OSError: if it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise ValueError("not a file")
    if (size := path.stat().st_size) > _LARGEST_TABLE:
        raise ValueError(f"it has {size} bytes, and at most {_LARGEST_TABLE} are read")
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError("not a table of JSON")  # noqa: TRY004  it is the value of a file
    return value


def as_text(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def shown(value: object, most: int) -> str:
    """A value of JSON in a message, of so many characters at most."""
    text = json.dumps(value)
    return text if len(text) <= most else text[: most - 3] + "..."


def described(initializer: Initializer, weight: Weight, source: Key) -> dict[str, Any]:
    """The fields of ``Recorded`` from which an initializer's values can be made again.

    Empty where code that pyinit does not have would make them, or another library's arithmetic, as
    all of torch's own numbers.
    """
    if get_rng() != "philox":
        return {}
    try:
        values = json.loads(json.dumps(initializer.to_dict()))
        is_same = from_dict(values) == initializer
    except (TypeError, ValueError):
        return {}
    drawn = [block.drawn for block in initializer.resolve(weight)]
    if not is_same or not all(map(_is_of_pyinit, (initializer, *drawn))):
        return {}
    return {
        "initializer": values,
        "key": source.key,
        "stream": source.stream,
        "groups": weight.groups,
        "transposed": weight.transposed,
        "batch_dims": weight.batch_dims,
    }


def _is_of_pyinit(initializer: Initializer) -> bool:
    if not type(initializer).__module__.startswith("pyinit.initializers"):
        return False
    parts = (getattr(initializer, name) for name in initializer.__dataclass_fields__)
    nested = (each for part in parts for each in (part if isinstance(part, tuple) else (part,)))
    return all(_is_of_pyinit(each) for each in nested if isinstance(each, Initializer))


def _check(tensor: Recorded) -> None:
    path = PurePath(tensor.file)
    if path.name != tensor.file or path.suffix != ".safetensors" or "\\" in tensor.file:
        raise ValueError(f"shard {tensor.file!r} is not the name of a file in the folder")
    dtype = getattr(torch, tensor.dtype, None)
    if not isinstance(dtype, torch.dtype) or not takes(dtype) or dtype_name(dtype) != tensor.dtype:
        raise ValueError(f"tensor {tensor.name!r} has the unknown dtype {tensor.dtype!r}")
    for name in (tensor.name, *tensor.tied):
        check_name(name)
    if any(not 0 <= size <= _LARGEST_TENSOR for size in tensor.shape):
        raise ValueError(f"tensor {tensor.name!r} has the shape {tensor.shape!s:.100}")
    if tensor.item.size > _LARGEST_TENSOR:
        raise ValueError(f"tensor {tensor.name!r} is larger than any can be")
    for name in ("key", "stream"):
        if not 0 <= getattr(tensor, name) < 2**64:
            raise ValueError(f"tensor {tensor.name!r}: {name} must be in [0, 2^64)")


def _list(value: dict[str, Any], name: str) -> list[Any]:
    found = value.get(name)
    if not isinstance(found, list):
        raise ValueError(f"not a manifest of shards: it has no list {name!r}")  # noqa: TRY004
    return found


def _short(tensor: Recorded) -> dict[str, Any]:
    value = asdict(tensor)
    needed = {"name", "file", "dtype", "shape", "by"}
    if tensor.initializer is not None:
        needed |= {"initializer", "key", "stream"}
    fields = tensor.__dataclass_fields__
    return {k: v for k, v in value.items() if k in needed or v != fields[k].default}
