"""Where weights are read from, how they are called there, and what is refused."""

import json
import os
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from pyinit.pretrained import checkpoint
from pyinit.pretrained.checkpoint import open_source, renamer

STATE = {
    "a.weight": torch.arange(12.0).reshape(3, 4),
    "a.bias": torch.arange(3.0, dtype=torch.bfloat16),
    "steps": torch.tensor(7),
    "none": torch.zeros(0, 5, dtype=torch.float64),
}


def split() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return {"a.weight": STATE["a.weight"]}, {k: v for k, v in STATE.items() if k != "a.weight"}


def write_index(folder: Path, name: str, files: tuple[str, str]) -> None:
    one, two = split()
    weight_map = dict.fromkeys(one, files[0]) | dict.fromkeys(two, files[1])
    (folder / name).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def as_safetensors(folder: Path) -> Path:
    save_file(STATE, folder / "w.safetensors")
    return folder / "w.safetensors"


def as_torch_file(suffix: str, **how: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        torch.save(STATE, folder / f"w{suffix}", **how)
        return folder / f"w{suffix}"

    return write


def as_indexed_safetensors(folder: Path) -> Path:
    for part, name in zip(split(), ("1.safetensors", "2.safetensors"), strict=True):
        save_file(part, folder / name)
    save_file({"other": torch.ones(1)}, folder / "other.safetensors")
    write_index(folder, "model.safetensors.index.json", ("1.safetensors", "2.safetensors"))
    return folder


def as_shards(folder: Path) -> Path:
    for part, name in zip(split(), ("1.safetensors", "2.safetensors"), strict=True):
        save_file(part, folder / name)
    return folder


def as_indexed_bin(folder: Path) -> Path:
    for part, name in zip(split(), ("1.bin", "2.bin"), strict=True):
        torch.save(part, folder / name)
    write_index(folder, "pytorch_model.bin.index.json", ("1.bin", "2.bin"))
    return folder


def as_folder_of_bin(folder: Path) -> Path:
    torch.save(STATE, folder / "pytorch_model.bin")
    torch.save({"lr": 0.1}, folder / "training_args.bin")
    return folder


def as_linked_shards(folder: Path) -> Path:
    """As the cache of huggingface_hub: links to files in another folder."""
    blobs, snapshot = folder / "blobs", folder / "snapshot"
    blobs.mkdir()
    as_indexed_safetensors(blobs)
    snapshot.mkdir()
    for file in blobs.iterdir():
        (snapshot / file.name).symlink_to(f"../blobs/{file.name}")
    return snapshot


SOURCES: dict[str, Callable[[Path], Any]] = {
    "mapping": lambda _: STATE,
    "ordered mapping": lambda _: OrderedDict(STATE),
    "safetensors": as_safetensors,
    "string": lambda folder: str(as_safetensors(folder)),
    "pt": as_torch_file(".pt"),
    "pth": as_torch_file(".pth"),
    "bin": as_torch_file(".bin"),
    "before 1.6": as_torch_file(".pt", _use_new_zipfile_serialization=False),
    "indexed safetensors": as_indexed_safetensors,
    "shards": as_shards,
    "indexed bin": as_indexed_bin,
    "folder of bin": as_folder_of_bin,
    "linked shards": as_linked_shards,
}


@pytest.mark.parametrize("write", SOURCES.values(), ids=SOURCES)
def test_every_kind_of_source_gives_names_shapes_dtypes_and_values(
    write: Callable[[Path], Any], tmp_path: Path
) -> None:
    with open_source(write(tmp_path)) as checkpoint:
        assert set(checkpoint.keys()) == set(STATE)
        for name, expected in STATE.items():
            assert checkpoint.shape(name) == expected.shape
            assert checkpoint.dtype(name) == expected.dtype
            assert torch.equal(checkpoint.tensor(name), expected)


@pytest.mark.parametrize(
    ("wrap", "keys"),
    [
        (lambda s: {"state_dict": s, "epoch": 3}, "['state_dict']"),
        (lambda s: {"epoch": torch.tensor(3), "model": s}, "['model']"),
        (lambda s: {"model_state_dict": s, "optimizer": {"state": {}}}, "['model_state_dict']"),
        (lambda s: {"state_dict_ema": s}, "['state_dict_ema']"),
        (lambda s: {"model_ema": s}, "['model_ema']"),
        (lambda s: {"module": s}, "['module']"),
        (lambda s: {"net": s}, "['net']"),
        (lambda s: {"state_dict": {"model": s}}, "['state_dict']['model']"),
        (lambda s: {"model": {}, "state_dict_ema": s}, "['state_dict_ema']"),
        (lambda s: {"state_dict": s, "state_dict_ema": {"x": torch.ones(1)}}, "['state_dict']"),
    ],
)
@pytest.mark.parametrize("in_file", [False, True])
def test_wrappers_are_taken_off(
    wrap: Callable[[Any], Any], keys: str, in_file: bool, tmp_path: Path
) -> None:
    source = wrap(STATE)
    if in_file:
        torch.save(source, tmp_path / "w.pt")
        source = tmp_path / "w.pt"
    with open_source(source) as checkpoint:
        assert set(checkpoint.keys()) == set(STATE)
        assert checkpoint.description.endswith(keys)


def test_a_tensor_of_a_safetensors_file_is_the_file_itself(tmp_path: Path) -> None:
    path = as_safetensors(tmp_path)
    with open_source(path) as checkpoint:
        first = checkpoint.tensor("a.weight")
    assert torch.equal(first, STATE["a.weight"])  # also after the checkpoint is closed


# ---- Names ---------------------------------------------------------------------------------------


def model_names(names: list[str], *arguments: Any, **options: Any) -> dict[str, str]:
    return checkpoint.model_names(names, renamer(names, *arguments, **options))


@pytest.mark.parametrize("wrapping", ["module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_prefixes_of_wrappers_go(wrapping: str) -> None:
    names = [f"{wrapping}a.weight", f"{wrapping}a.bias"]
    assert model_names(names, {"a.weight", "a.bias"}) == {"a.weight": names[0], "a.bias": names[1]}


def test_prefixes_stay_where_the_model_has_them() -> None:
    names = ["model.a", "model.b", "head"]
    assert model_names(names, set(names)) == {name: name for name in names}


def test_prefixes_that_few_names_have_stay() -> None:
    names = ["model.a", "b", "c"]
    assert set(model_names(names, {"a", "b", "c"})) == {"model.a", "b", "c"}


def test_prefix_selects_and_is_cut_off() -> None:
    names = ["encoder.a", "encoder.module.b", "decoder.a"]
    assert model_names(names, {"a"}, "encoder.") == {
        "a": "encoder.a",
        "module.b": "encoder.module.b",
    }


def test_renames_are_applied_in_order() -> None:
    rename = [(r"^transformer\.(\d+)\.", r"layers.\1."), (r"gamma$", "weight"), (r"layers", "h")]
    names = ["transformer.0.gamma", "transformer.1.beta"]
    assert list(model_names(names, set(), None, rename)) == ["h.0.weight", "h.1.beta"]


def test_a_prefix_goes_where_only_renamed_names_match() -> None:
    found = model_names(["module.x.w", "module.x.b"], {"y.w", "y.b"}, None, [("^x", "y")])
    assert set(found) == {"y.w", "y.b"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rename": [("a|b", "c")]}, "'a' and 'b' of the source both become 'c'"),
        ({"rename": [("(", "c")]}, "rename: ('(', 'c')"),
        ({"rename": [("a", r"\1")]}, "rename: ('a', '\\\\1')"),
        ({"rename": ["abc"]}, "rename: 'abc'"),
        ({"rename": [("a", 1)]}, "rename: ('a', 1)"),
        ({"prefix": "x."}, "prefix: no name in the source starts with 'x.'; it has 'a', 'b'"),
    ],
)
def test_names_that_cannot_be(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        model_names(["a", "b"], {"a"}, **arguments)


# ---- What is refused -----------------------------------------------------------------------------


class Harmful:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def save_by_pickle(value: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps({"b": value["b"]}, protocol=2))


@pytest.mark.parametrize(
    "save",
    [
        torch.save,
        lambda value, path: torch.save(value, path, _use_new_zipfile_serialization=False),
        save_by_pickle,
    ],
    ids=["zip", "before 1.6", "pickle"],
)
@pytest.mark.parametrize("is_shard", [False, True])
def test_code_in_a_pickle_is_refused_and_not_executed(
    save: Callable[[Any, Path], None], is_shard: bool, tmp_path: Path
) -> None:
    path = tmp_path / ("1.bin" if is_shard else "w.pt")
    save({"a": torch.ones(2), "b": Harmful(tmp_path / "harm")}, path)
    if is_shard:
        index = {"weight_map": {"a": "1.bin"}}
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    message = f"{re.escape(str(path))} is refused, nothing in it was executed.*(posix|os)\\.mkdir"
    with pytest.raises(ValueError, match=message):
        open_source(tmp_path if is_shard else path)
    assert not (tmp_path / "harm").exists()


def damaged(source: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "start": source[:5],
        "half": source[: len(source) // 2],
        "without its end": source[:-3],
        "noise": bytes(range(256)) * 8,
    }


@pytest.mark.parametrize("kind", ["safetensors", "pt", "before 1.6"])
@pytest.mark.parametrize("how", damaged(b""))
def test_damaged_files_are_named(kind: str, how: str, tmp_path: Path) -> None:
    path = SOURCES[kind](tmp_path)
    path.write_bytes(damaged(path.read_bytes())[how])
    with pytest.raises(ValueError, match=re.escape(str(path))):
        open_source(path)


def test_a_longer_safetensors_file_is_damaged(tmp_path: Path) -> None:
    path = as_safetensors(tmp_path)
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(ValueError, match=r"w\.safetensors is damaged"):
        open_source(path)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("none.safetensors", FileNotFoundError, "none.safetensors does not exist"),
        ("none", FileNotFoundError, "none does not exist"),
        (".", FileNotFoundError, "has neither .safetensors files nor pytorch_model.bin"),
        (3, TypeError, "source must be a state dict or a path, got int"),
        ({}, ValueError, "state dict holds no tensors by name; it has no names"),
        ({"a": 1, "b": [2]}, ValueError, "state dict holds no tensors by name; it has 'a', 'b'"),
        ({1: torch.ones(1)}, TypeError, "names must be strings, got 1"),
        ({"a": torch.ones(1, device="meta")}, ValueError, "'a' is on the meta device"),
        ({"a": torch.eye(2).to_sparse()}, ValueError, "'a' has layout torch.sparse_coo"),
        ({"a": torch.nn.UninitializedParameter()}, ValueError, "'a' has no shape yet"),
    ],
)
def test_what_is_no_source(source: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        open_source(source)


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w.h5").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"w\.h5 is of no known kind; known are \.safetensors, "):
        open_source(tmp_path / "w.h5")


def test_a_file_that_holds_no_dictionary(tmp_path: Path) -> None:
    torch.save([torch.ones(1)], tmp_path / "w.pt")
    with pytest.raises(ValueError, match="holds no dictionary but a list"):
        open_source(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        ('{"weight_map": {"a": "../w.safetensors"}}', ValueError, "is not inside of the folder"),
        ('{"weight_map": {"a": "/w.safetensors"}}', ValueError, "is not inside of the folder"),
        ('{"weight_map": {"a": 3}}', ValueError, "shard 3 is not inside of the folder"),
        ('{"weight_map": {"a": "x.safetensors"}}', FileNotFoundError, "x.safetensors does not"),
        ('{"weight_map": {"lost": "1.safetensors"}}', ValueError, "1.safetensors lacks 'lost'"),
        ('{"weight_map": 3}', ValueError, "index.json is no index of shards"),
        ('{"weights": {}}', ValueError, "index.json is no index of shards"),
        ("[]", ValueError, "index.json is no index of shards"),
        ("{", ValueError, "index.json is no index of shards"),
        ("\xff", ValueError, "index.json is no index of shards"),
    ],
)
def test_wrong_indices(index: str, error: type[Exception], message: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"a": torch.ones(1)}, tmp_path / "w.safetensors")
    save_file({"a": torch.ones(1)}, folder / "1.safetensors")
    (folder / "model.safetensors.index.json").write_bytes(index.encode("latin-1"))
    with pytest.raises(error, match=re.escape(message)):
        open_source(folder)


def test_a_name_in_two_shards_is_refused(tmp_path: Path) -> None:
    for name in ("1.safetensors", "2.safetensors"):
        save_file({"a": torch.ones(1)}, tmp_path / name)
    with pytest.raises(ValueError, match=r"'a' is in .*2\.safetensors and in another file"):
        open_source(tmp_path)
