"""Folders of shards, verified by their manifests."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from programs import json_of
from sharded_models import planned
from torch import nn

import pyinit
from pyinit.distributed import manifest
from pyinit.distributed.manifest import Manifest
from pyinit.distributed.plan import plan_shards
from pyinit.distributed.shards import Part, write_shards
from pyinit.distributed.verify import Verification, verify
from pyinit.initializers import Block, Blocks, Initializer, Normal, Weight, register

FIRST = "model-00001-of-00003.safetensors"
SECOND = "model-00002-of-00003.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards") / "mixed"
    write_shards(planned("mixed", shards=3), folder)
    return folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """A copy of it to do damage to."""
    return Path(shutil.copytree(sound, tmp_path / "copy"))


def told(found: Verification) -> list[str]:
    return [*map(str, found.problems)]


@pytest.mark.parametrize("version", [1, 2])
def test_shards_are_verified_in_the_stream_version_that_drew_them(
    tmp_path: Path, version: int
) -> None:
    written = [tmp_path / "drawn", tmp_path / "other"]
    for folder, drawn in zip(written, (version, 3 - version), strict=True):
        with pyinit.rng("philox", drawn):
            write_shards(planned("mixed", "lecun", shards=3), folder)
    assert json.loads((written[0] / "pyinit.json").read_text())["stream"] == version
    assert not told(verify(written[0]))
    in_json("pyinit.json", lambda v: v.update(stream=3 - version))(written[0])
    assert told(verify(written[0]))


@pytest.mark.parametrize(
    ("name", "recipe", "dtype"),
    [
        ("lenet5", "auto", torch.float16),
        ("resnet50", "orthogonal", torch.float32),
        ("gpt2", "auto", torch.bfloat16),
        ("vit-b16", "zero", torch.float64),
        ("mixed", "auto", torch.float32),
    ],
)
def test_what_was_written_is_sound(
    tmp_path: Path, name: str, recipe: str, dtype: torch.dtype
) -> None:
    plan = planned(name, recipe, dtype=dtype)
    write_shards(plan, tmp_path)
    read = []
    found = verify(tmp_path, read.append)
    assert told(found) == []
    assert found.is_sound
    assert found.generated + len(found.by_hash) == len(plan.manifest.tensors)
    assert found.files == 4
    assert sum(read) == found.total_size == plan.manifest.total_size


def test_what_no_manifest_can_make_is_compared_by_hash_and_listed(sound: Path) -> None:
    found = verify(sound)
    buffers = {"running_mean", "running_var", "num_batches_tracked", "_u", "_v"}
    for name, _ in found.by_hash:
        assert name.startswith("own.s") or "parametrizations" in name or name[5:] in buffers, name
    assert dict(found.by_hash)["own.scale"] == "its own reset_parameters"
    assert dict(found.by_hash)["norm.running_var"] == "reset_running_stats"
    assert found.generated > 10


def test_neither_the_model_nor_torch_draws_anything(sound: Path) -> None:
    program = """
        import json, sys
        from pathlib import Path
        import torch
        before = torch.get_rng_state()
        from pyinit.distributed.verify import verify
        found = verify(Path(sys.argv[1]))
        same = torch.equal(before, torch.get_rng_state())
        print(json.dumps([found.is_sound, same, "sharded_models" in sys.modules]))
    """
    assert json_of(program, str(sound)) == [True, True, False]


def test_torchs_own_numbers_are_compared_by_hash(tmp_path: Path) -> None:
    with pyinit.rng("torch"):
        write_shards(planned("lenet5", "xavier"), tmp_path)
    found = verify(tmp_path)
    assert found.is_sound
    assert found.generated == 0


def test_it_makes_pyinits_numbers_whatever_generator_is_in_force(sound: Path) -> None:
    with pyinit.rng("torch"):
        assert verify(sound).is_sound


def test_an_initializer_of_the_users_is_compared_by_hash(tmp_path: Path) -> None:
    @register("of_this_test")
    class OfThisTest(Initializer):
        def resolve(self, weight: Weight) -> Blocks:  # noqa: ARG002
            return (Block(Normal(std=0.5)),)

    rules = tmp_path / "rules.json"
    rules.write_text(
        json.dumps({"recipe": "xavier", "rules": [{"name": "0.*", "init": "of_this_test"}]})
    )
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    write_shards(plan_shards(model, str(rules), 0, 2, "model"), tmp_path / "a")
    found = verify(tmp_path / "a")
    assert found.is_sound
    assert [name for name, _ in found.by_hash] == ["0.weight", "0.bias"]


def test_matrices_of_other_processors_are_compared_by_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shards(planned("lenet5", "orthogonal"), tmp_path)
    monkeypatch.setattr("pyinit.distributed.verify.is_fused_here", lambda: False)
    found = verify(tmp_path)
    assert found.is_sound
    assert {name.rpartition(".")[2] for name, _ in found.by_hash} == {"weight"}
    assert "with a fused multiply-add" in found.by_hash[0][1]


def test_a_checkpoint_that_is_not_complete_is_none(tmp_path: Path) -> None:
    write_shards(planned("lenet5"), tmp_path, Part(0, 2))
    (problem,) = told(verify(tmp_path))
    assert problem.startswith("pyinit.json: not there: shards are missing")


# ---- Faults ------------------------------------------------------------------------------------------


def start_of(path: Path, name: str) -> int:
    """Where a tensor begins in a file."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return 8 + length + int(json.loads(data[8 : 8 + length])[name]["data_offsets"][0])


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def file_of(folder: Path, name: str) -> Path:
    index = json.loads((folder / INDEX).read_text())
    return folder / index["weight_map"][name]


def test_one_flipped_bit_is_found_in_its_tensor_and_file(folder: Path) -> None:
    path = file_of(folder, "conv.weight")
    flip(path, start_of(path, "conv.weight") + 4 * (1 * 36 + 2 * 9 + 1 * 3 + 2))
    value, digest = told(verify(folder))
    assert value == (
        "conv.weight: 1 of 216 elements differ from what the manifest makes, the first at index "
        "(1, 2, 1, 2)"
    )
    assert digest.startswith(f"{path.name}: its SHA-256 is ")


def test_a_flipped_bit_in_what_is_compared_by_hash_is_found(folder: Path) -> None:
    path = file_of(folder, "norm.num_batches_tracked")
    flip(path, start_of(path, "norm.num_batches_tracked"))
    value, _ = told(verify(folder))
    assert value == (
        "norm.num_batches_tracked: its values are not those that pyinit.json has a hash of"
    )


def test_values_that_no_seed_gives_are_found_though_all_hashes_fit(folder: Path) -> None:
    path = file_of(folder, "conv.weight")
    flip(path, start_of(path, "conv.weight"))
    value = json.loads((folder / "pyinit.json").read_text())
    for file in value["files"]:
        if file["name"] == path.name:
            file["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "pyinit.json").write_text(json.dumps(value))
    (problem,) = told(verify(folder))
    assert problem.startswith("conv.weight: 1 of 216 elements differ")


def cut(folder: Path) -> None:
    path = folder / FIRST
    path.write_bytes(path.read_bytes()[:-4])


def huge_header(folder: Path) -> None:
    path = folder / FIRST
    path.write_bytes((2**63 - 1).to_bytes(8, "little") + path.read_bytes()[8:])


def header_with(old: str, new: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / FIRST
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        text = data[8 : 8 + length].decode()
        assert old in text
        text = text.replace(old, new, 1).rstrip()
        text = text.ljust(max(length, len(text)))
        path.write_bytes(len(text).to_bytes(8, "little") + text.encode() + data[8 + length :])

    return damage


def in_json(name: str, change: Callable[[Any], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        value = json.loads((folder / name).read_text())
        change(value)
        (folder / name).write_text(json.dumps(value))

    return damage


def text_of(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def pipe(folder: Path) -> None:
    (folder / FIRST).unlink()
    os.mkfifo(folder / FIRST)


def of_tensor(number: int, **changes: Any) -> Callable[[Any], object]:
    return lambda value: value["tensors"][number].update(changes)


def of_file(number: int, **changes: Any) -> Callable[[Any], object]:
    return lambda value: value["files"][number].update(changes)


FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda f: (f / FIRST).unlink(), f"{FIRST}: not there"),
    "no-file": (pipe, f"{FIRST}: not a file"),
    "cut": (cut, f"{FIRST}: it has .* bytes, and should have"),
    "empty": (lambda f: (f / FIRST).write_bytes(b""), f"{FIRST}: its header has 0 bytes"),
    "huge-header": (huge_header, f"{FIRST}: its header has 9223372036854775807 bytes"),
    "offsets-huge": (
        header_with('"data_offsets":[0,', '"data_offsets":[99999999999999999999,'),
        f"{FIRST}: its header differs in .*: .* is .*99999999999999999999.*, and should be",
    ),
    "offsets-negative": (
        header_with('"data_offsets":[0,', '"data_offsets":[-8,'),
        f"{FIRST}: its header differs",
    ),
    "header-no-json": (header_with("{", "["), f"{FIRST}: its header is damaged"),
    "header-list": (lambda f: (f / FIRST).write_bytes(b"\2" + bytes(7) + b"[]"), "damaged|bytes"),
    "header-nested": (
        header_with("{", "[" * 100_000),
        f"{FIRST}: its header is damaged",
    ),
    "another-file": (
        lambda f: shutil.copy(f / FIRST, f / "model.safetensors"),
        "model.safetensors: a file that the manifest does not name",
    ),
    "no-index": (lambda f: (f / INDEX).unlink(), f"{INDEX}: No such file"),
    "index-no-json": (text_of(INDEX, "{"), f"{INDEX}: not JSON"),
    "index-a-list": (text_of(INDEX, "[]"), f"{INDEX}: not a table"),
    "index-empty": (text_of(INDEX, "{}"), f"{INDEX}: it has no weight_map"),
    "index-outside": (
        in_json(INDEX, lambda v: v["weight_map"].update({"conv.weight": "../../x.safetensors"})),
        f"{INDEX}: conv.weight is in '../../x.safetensors', and should be in 'model-0000",
    ),
    "index-lacks": (
        in_json(INDEX, lambda v: v["weight_map"].pop("conv.weight")),
        f"{INDEX}: conv.weight is in no file, and should be in",
    ),
    "index-size": (
        in_json(INDEX, lambda v: v.update(metadata={"total_size": 3})),
        f"{INDEX}: total_size is 3, and should be",
    ),
    "no-manifest": (lambda f: (f / "pyinit.json").unlink(), "pyinit.json: No such file"),
    "manifest-no-json": (text_of("pyinit.json", "\0"), "pyinit.json: not JSON"),
    "manifest-nested": (text_of("pyinit.json", "[" * 100_000), "pyinit.json: not JSON"),
    "manifest-empty": (text_of("pyinit.json", "{}"), "pyinit.json: not a manifest of shards"),
    "manifest-folder": (
        lambda f: ((f / "pyinit.json").unlink(), (f / "pyinit.json").mkdir()),
        "pyinit.json: not a file",
    ),
    "manifest-outside": (
        in_json("pyinit.json", of_tensor(0, file="../x.safetensors")),
        r"pyinit.json: shard '../x.safetensors' is not the name of a file in the folder",
    ),
    "manifest-absolute": (
        in_json("pyinit.json", of_tensor(0, file="/etc/x.safetensors")),
        "pyinit.json: shard '/etc/x.safetensors' is not the name",
    ),
    "manifest-stream": (
        in_json("pyinit.json", lambda v: v.update(stream=3)),
        "pyinit.json: stream must be 1 or 2, which this pyinit has, got 3",
    ),
    "manifest-dtype": (
        in_json("pyinit.json", of_tensor(0, dtype="load")),
        "pyinit.json: tensor 'conv.weight' has the unknown dtype 'load'",
    ),
    "manifest-shape": (
        in_json("pyinit.json", of_tensor(0, shape=[-6, -4, 3, 3])),
        "pyinit.json: tensor 'conv.weight' has the shape",
    ),
    "manifest-larger": (
        in_json("pyinit.json", of_tensor(0, shape=[2**40, 4, 3, 3])),
        "gives it .* bytes, and its tensors need",
    ),
    "manifest-type": (
        in_json("pyinit.json", of_tensor(0, key="1")),
        "pyinit.json: not a manifest of shards: key must be of type int",
    ),
    "manifest-key": (
        in_json("pyinit.json", of_tensor(0, key=2**64)),
        r"pyinit.json: tensor 'conv.weight': key must be in \[0, 2\^64\)",
    ),
    "manifest-unknown-field": (
        in_json("pyinit.json", of_tensor(0, path="x")),
        "pyinit.json: not a manifest of shards",
    ),
    "manifest-twice": (
        in_json("pyinit.json", of_tensor(1, name="conv.weight")),
        "pyinit.json: tensor 'conv.weight' is there twice",
    ),
    "manifest-other-seed": (
        in_json("pyinit.json", of_tensor(0, key=4)),
        "conv.weight: 216 of 216 elements differ",
    ),
    "manifest-initializer": (
        in_json("pyinit.json", of_tensor(0, initializer={"name": "os.system"})),
        "conv.weight: pyinit.json has an initializer that cannot make it: unknown",
    ),
    "manifest-infinite": (
        in_json("pyinit.json", of_tensor(0, initializer={"name": "normal", "std": 1e300})),
        "cannot be compared: ValueError: std must be within",
    ),
    "manifest-no-hash": (
        in_json("pyinit.json", of_file(0, tensors={})),
        "pyinit.json has neither an initializer nor a hash of it",
    ),
    "manifest-lacks-file": (
        in_json("pyinit.json", lambda v: v["files"].pop(0)),
        f"{FIRST}: pyinit.json has no hash of it",
    ),
    "manifest-hashes": (
        in_json("pyinit.json", of_file(0, tensors=["0"])),
        f"pyinit.json: not a manifest of shards: file '{FIRST}' has no table of hashes",
    ),
    "manifest-hash": (
        in_json("pyinit.json", of_file(0, tensors={"conv.weight": 0})),
        f"pyinit.json: not a manifest of shards: file '{FIRST}' has no table of hashes",
    ),
    "manifest-seed": (
        in_json("pyinit.json", lambda v: v.update(seed=99)),
        "pyinit.json: its seed is 99, and not the key of .*conv.weight",
    ),
    "manifest-no-text": (
        in_json("pyinit.json", of_tensor(0, name="a\ud800")),
        r"pyinit.json: safetensors files hold no tensor named 'a\\ud800'",
    ),
    "manifest-metadata": (
        in_json("pyinit.json", of_tensor(0, name="__metadata__")),
        "pyinit.json: safetensors files keep the name __metadata__",
    ),
    "manifest-huge": (
        in_json("pyinit.json", of_tensor(0, shape=[10**4000, 10**4000])),
        "pyinit.json: tensor 'conv.weight' has the shape",
    ),
    "manifest-huge-product": (
        in_json("pyinit.json", of_tensor(0, shape=[2**62] * 300)),
        "pyinit.json: tensor 'conv.weight' is larger than any can be",
    ),
    "manifest-sparse": (
        lambda f: os.truncate(f / "pyinit.json", 1 << 40),
        "pyinit.json: it has 1099511627776 bytes, and at most",
    ),
    "manifest-sha": (
        in_json("pyinit.json", of_file(0, sha256="0")),
        f"{FIRST}: its SHA-256 is .*, and should be 0",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(folder: Path, fault: str) -> None:
    damage, wanted = FAULTS[fault]
    damage(folder)
    found = verify(folder)
    assert not found.is_sound
    text = "\n".join(told(found))
    assert re.search(wanted, text), text
    assert json.loads(json.dumps(found.to_dict()))["sound"] is False


def test_what_a_terminal_acts_on_is_told_as_text(folder: Path) -> None:
    in_json("pyinit.json", of_file(0, sha256="\ud800\x1b[2J"))(folder)
    lines = "\n".join(verify(folder).lines())
    assert r"should be \ud800\x1b[2J" in lines
    assert "\x1b" not in lines
    lines.encode()


def test_a_manifest_goes_to_plain_values_and_back() -> None:
    made = planned("mixed").manifest
    assert Manifest.from_dict(json.loads(manifest.as_text(made.to_dict()))) == made
