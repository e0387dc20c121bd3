"""Checkpoints that are written shard by shard, without the model in memory."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from bits import same_bits
from programs import json_of, run_python
from safetensors import safe_open
from sharded_models import Mixed, contents, held, made, planned
from torch import Tensor, nn

import pyinit
from pyinit.distributed.config import configs_of
from pyinit.distributed.plan import plan_shards
from pyinit.distributed.shards import Part, whole_shards, write_shards

CASES = [
    ("lenet5", "auto", torch.float32),
    ("lenet5", "delta_orthogonal", torch.float64),
    ("resnet50", "auto", torch.float32),
    ("resnet50", "fixup", torch.float16),
    ("gpt2", "gpt2", torch.bfloat16),
    ("gpt2", "mimetic", torch.float32),
    ("gpt2", "orthogonal", torch.bfloat16),
    ("llama-1b", "llama", torch.bfloat16),
    ("llama-1b", "torch", torch.float32),
    ("vit-b16", "vit", torch.float32),
    ("vit-b16", "zero", torch.float16),
    ("mixed", "auto", torch.float32),
    ("mixed", "torch", torch.float32),
    ("mixed", "orthogonal", torch.float64),
]


def assert_same(found: dict[str, Tensor], state: dict[str, Tensor], tied: set[str]) -> None:
    assert found.keys() == state.keys() - tied
    assert [name for name in found if not same_bits(found[name], state[name])] == []


@pytest.mark.parametrize(("name", "recipe", "dtype"), CASES)
def test_shards_hold_what_initialize_gives_a_model_in_memory(
    tmp_path: Path, name: str, recipe: str, dtype: torch.dtype
) -> None:
    plan = planned(name, recipe, dtype=dtype)
    written = write_shards(plan, tmp_path / "a")
    assert len(written.written) == 4
    assert written.missing == ()
    model = made(name, dtype)
    report = pyinit.initialize_(model, recipe, seed=3)
    tied = {name for tensor in plan.manifest.tensors for name in tensor.tied}
    assert_same(held(tmp_path / "a"), model.state_dict(), tied)
    assert [row._replace(mean=None, std=None, min=None, max=None) for row in report] == [
        row._replace(why=mine.why) for row, mine in zip(plan.report, report, strict=True)
    ]


def test_torchs_own_numbers_can_be_asked_for(tmp_path: Path) -> None:
    with pyinit.rng("torch"):
        write_shards(planned("lenet5", "xavier"), tmp_path / "a")
        model = made("lenet5")
        pyinit.initialize_(model, "xavier", seed=3)
    assert_same(held(tmp_path / "a"), model.state_dict(), set())


def test_nothing_of_the_model_is_written_and_no_generator_moves(tmp_path: Path) -> None:
    with torch.device("meta"):
        model = Mixed()
    attributes = {name: sorted(vars(module)) for name, module in model.named_modules()}
    state = torch.get_rng_state()
    write_shards(plan_shards(model, "auto", 0, 3, "mixed"), tmp_path / "a")
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    assert {name: sorted(vars(module)) for name, module in model.named_modules()} == attributes
    assert torch.equal(torch.get_rng_state(), state)


def test_a_model_in_memory_stays_as_it_is_and_keeps_what_it_has(tmp_path: Path) -> None:
    model = Mixed()
    model.conv.weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    write_shards(plan_shards(model, "torch", 3, 3, "mixed"), tmp_path / "a")
    assert all(same_bits(model.state_dict()[name], each) for name, each in before.items())
    pyinit.initialize_(model, "torch", seed=3)
    assert same_bits(before["conv.weight"], model.conv.weight)
    assert_same(held(tmp_path / "a"), model.state_dict(), {"head.weight"})


@pytest.mark.parametrize("writers", [2, 3, 7])
def test_the_bytes_are_the_same_for_any_writers_in_any_order(tmp_path: Path, writers: int) -> None:
    write_shards(planned("mixed"), tmp_path / "one")
    for rank in reversed(range(writers)):
        written = write_shards(planned("mixed"), tmp_path / "many", Part(rank, writers))
        assert len(written.written) == len(range(rank, 4, writers))
        assert len(written.missing) == len([i for i in range(4) if i % writers < rank])
    assert contents(tmp_path / "one") == contents(tmp_path / "many")
    assert sorted(contents(tmp_path / "one")) == [
        *(f"model-{i:05}-of-00004.safetensors" for i in range(1, 5)),
        "model.safetensors.index.json",
        "pyinit.json",
    ]


def test_the_bytes_are_the_same_for_any_number_of_threads(
    tmp_path: Path, set_threads: None
) -> None:
    for threads in (1, 3):
        torch.set_num_threads(threads)
        write_shards(planned("gpt2", "orthogonal"), tmp_path / str(threads))
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


def test_the_index_is_the_standard_one_and_files_say_that_they_are_torchs(tmp_path: Path) -> None:
    plan = planned("gpt2")
    write_shards(plan, tmp_path / "a")
    index = json.loads((tmp_path / "a/model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in held(tmp_path / "a").values())
    for name, file in index["weight_map"].items():
        with safe_open(tmp_path / "a" / file, "pt") as shard:
            assert name in shard.keys()  # noqa: SIM118
            assert shard.metadata() == {"format": "pt"}
    assert index["weight_map"].keys() == held(tmp_path / "a").keys()
    names = [tensor.name for tensor in plan.manifest.tensors]
    with torch.device("meta"):
        assert names == [name for name in made("gpt2").state_dict() if name != "lm_head.weight"]
    files = [tensor.file for tensor in plan.manifest.tensors]
    assert files == sorted(files)


def test_elements_are_aligned_whatever_the_order_of_dtypes(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 1), nn.BatchNorm1d(1), nn.Linear(3, 3).double()).half()
    model[2].double()
    write_shards(plan_shards(model, "torch", 0, 1, "model"), tmp_path / "a")
    data = (tmp_path / "a/model-00001-of-00001.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert length % 8 == 0
    widths = {"I64": 8, "F64": 8, "F16": 2}
    for name, each in header.items():
        if name != "__metadata__":
            assert each["data_offsets"][0] % widths[each["dtype"]] == 0


def test_a_tensor_of_many_tiles_and_one_without_elements(tmp_path: Path) -> None:
    def build() -> nn.Module:
        net = nn.Module()
        net.first = nn.Linear(5, 3)
        net.table = nn.Embedding(150_001, 17, padding_idx=149_000)
        net.none = nn.Parameter(torch.empty(0, 4))
        return net

    rules = tmp_path / "rules.toml"
    rules.write_text(
        'recipe = "normal"\nrules = [{name = "none", init = {name = "constant", val = 0.0}}]'
    )
    with torch.device("meta"):
        plan = plan_shards(build(), str(rules), 3, 2, "model")
    write_shards(plan, tmp_path / "a")
    model = build()
    pyinit.initialize_(model, rules, seed=3)
    assert_same(held(tmp_path / "a"), model.state_dict(), set())


# ---- Others read it --------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True])
def test_transformers_and_load_pretrained_read_it(tmp_path: Path, tied: bool) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
        dtype="bfloat16",
    )

    def build() -> nn.Module:
        model: nn.Module = transformers.LlamaForCausalLM(config)
        return model.bfloat16()

    with torch.device("meta"):
        model = build()
    write_shards(
        plan_shards(model, "llama", 3, 5, "llama"), tmp_path / "a", others=configs_of(model)
    )
    wanted = build()
    pyinit.initialize_(wanted, "llama", seed=3)
    loaded = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "a")
    assert loaded.dtype == torch.bfloat16
    assert_same(loaded.state_dict(), wanted.state_dict(), set())
    again = build()
    report = pyinit.load_pretrained_(again, tmp_path / "a")
    assert report.initialized is None
    assert_same(again.state_dict(), wanted.state_dict(), set())
    settings = json.loads((tmp_path / "a/config.json").read_text())
    assert settings["architectures"] == ["LlamaForCausalLM"]
    assert (tmp_path / "a/generation_config.json").is_file()


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_it_is_a_seed_checkpoint_of_torch_distributed(tmp_path: Path) -> None:
    checkpoint = pytest.importorskip("torch.distributed.checkpoint")
    if not hasattr(checkpoint, "HuggingFaceStorageReader"):
        pytest.skip("this torch has no HuggingFaceStorageReader")
    write_shards(planned("resnet50"), tmp_path / "a")
    state = made("resnet50").state_dict()
    reader = checkpoint.HuggingFaceStorageReader(str(tmp_path / "a"))
    checkpoint.load(state, storage_reader=reader, no_dist=True)
    wanted = made("resnet50")
    pyinit.initialize_(wanted, seed=3)
    assert_same(state, wanted.state_dict(), set())


# ---- What is there already ---------------------------------------------------------------------------


def test_a_second_run_makes_only_what_is_missing(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    write_shards(planned("gpt2"), folder, Part(1, 2))
    times = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}
    assert len(times) == 2
    written = write_shards(planned("gpt2"), folder)
    assert not {file.name for file in written.written} & times.keys()
    assert all((folder / name).stat().st_mtime_ns == each for name, each in times.items())
    before = contents(folder)
    assert write_shards(planned("gpt2"), folder).written == ()
    (folder / "model-00002-of-00004.safetensors").unlink()
    (folder / "model-00003-of-00004.safetensors").write_bytes(b"half of it")
    assert len(write_shards(planned("gpt2"), folder).written) == 2
    assert contents(folder) == before


@pytest.mark.parametrize("name", ["model.safetensors.index.json", "config.json"])
def test_a_second_run_makes_files_again_that_are_missing_beside_the_shards(
    tmp_path: Path, name: str
) -> None:
    others = {"config.json": b"{}"}
    write_shards(planned("gpt2"), tmp_path, others=others)
    before = contents(tmp_path)
    (tmp_path / name).unlink()
    written = write_shards(planned("gpt2"), tmp_path, others=others)
    assert not written.written
    assert not written.missing
    assert contents(tmp_path) == before


def test_records_and_files_that_do_not_fit_are_not_trusted(tmp_path: Path) -> None:
    folder, other = tmp_path / "a", tmp_path / "b"
    write_shards(planned("gpt2"), other)
    write_shards(planned("gpt2"), folder, Part(0, 2))
    records = folder / ".pyinit"
    first, third = (f"model-{i:05}-of-00004.safetensors" for i in (1, 3))
    (folder / first).write_bytes((folder / first).read_bytes()[:-1])  # cut off
    record = json.loads((records / (third + ".json")).read_text())
    (records / (third + ".json")).write_text(json.dumps({**record, "plan": "of another"}))
    (records / "model-00002-of-00004.safetensors").write_bytes(b"partial")
    assert whole_shards(planned("gpt2"), folder) == []
    assert len(write_shards(planned("gpt2"), folder).written) == 4
    assert contents(folder) == contents(other)


@pytest.mark.parametrize(
    "change",
    [{"tensors": None}, {"tensors": ["a"]}, {"tensors": {"a": "0"}}, {"name": "a\ud800"}],
    ids=str,
)
def test_a_record_with_other_things_in_it_is_not_trusted(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    folder, other = tmp_path / "a", tmp_path / "b"
    write_shards(planned("mixed"), other)
    write_shards(planned("mixed"), folder, Part(0, 2))
    path = folder / ".pyinit" / "model-00001-of-00004.safetensors.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    write_shards(planned("mixed"), folder)
    assert contents(folder) == contents(other)


@pytest.mark.parametrize("is_complete", [False, True])
def test_the_shards_of_another_plan_are_refused_with_the_difference(
    tmp_path: Path, is_complete: bool
) -> None:
    folder = tmp_path / "a"
    write_shards(planned("gpt2"), folder, Part(0, 1 if is_complete else 2))
    before = {path: path.read_bytes() for path in folder.rglob("*.safetensors")}
    for plan, told in (
        (planned("gpt2", seed=4), "seed is 3 there, 4 here"),
        (planned("gpt2", "torch"), 'recipe is "auto" there, "torch" here'),
        (planned("gpt2", shards=5), "shards is 4 there, 5 here"),
        (planned("gpt2", dtype=torch.float16), "tensor transformer.wte.weight is another one"),
    ):
        with pytest.raises(FileExistsError, match=told):
            write_shards(plan, folder)
    assert {path: path.read_bytes() for path in folder.rglob("*.safetensors")} == before
    assert write_shards(planned("gpt2"), folder).missing == ()


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "pyinit.json",
        "config.json",
    ],
)
def test_a_folder_with_what_is_not_of_the_checkpoint_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError, match=name):
        write_shards(planned("lenet5"), tmp_path, others={"config.json": b"{}"})
    assert contents(tmp_path) == {name: b"mine"}


def test_other_files_may_be_there(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    assert write_shards(planned("lenet5"), tmp_path).missing == ()
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_shard_that_another_process_is_writing_is_left_to_it(tmp_path: Path) -> None:
    filelock = pytest.importorskip("filelock")
    write_shards(planned("lenet5"), tmp_path, Part(1, 2))
    with filelock.FileLock(tmp_path / ".pyinit/model-00001-of-00004.safetensors.lock"):
        written = write_shards(planned("lenet5"), tmp_path)
    assert [file.name[:11] for file in written.written] == ["model-00003"]
    assert written.missing == ("model-00001-of-00004.safetensors",)


# ---- Processes that end early ------------------------------------------------------------------------

COMMAND = [sys.executable, "-m", "pyinit", "init", "gpt2", "--shards", "12"]
SETTINGS = '{"layers": 12, "width": 256, "heads": 8, "vocab": 8000}'


def begin(folder: Path, rank: int, world: int) -> subprocess.Popen[str]:
    """A process that writes its part of 12 shards, in a second or so."""
    environment = {
        **os.environ,
        "RANK": str(rank),
        "WORLD_SIZE": str(world),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [*COMMAND, "--kwargs", SETTINGS, "--out", str(folder)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(6000):
        if path.exists():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    raise AssertionError(f"no {path}")


def shard(number: int) -> str:
    return f"model-{number:05}-of-00012.safetensors"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_writer_that_dies_leaves_whole_shards_and_a_second_run_the_others(
    tmp_path: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "a"
    dying = begin(folder, 0, 1)
    try:
        wait_for(folder / shard(2), dying)
        dying.send_signal(number)
        _, told = dying.communicate(timeout=60)
    finally:
        dying.kill()
    assert dying.returncode not in (0, None)
    done = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}
    assert 2 <= len(done) < 12
    assert not (folder / "pyinit.json").exists()
    if number != signal.SIGKILL:
        (line,) = told.splitlines()
        assert line in [
            f"stopped; {n} of 12 shards are whole, and the same command makes the others"
            for n in (len(done) - 1, len(done))  # the record comes after the shard
        ]
        assert dying.returncode == 128 + number
        assert not list((folder / ".pyinit").glob("*.safetensors"))
    second = begin(folder, 0, 1)
    said, told = second.communicate(timeout=120)
    assert second.returncode == 0, told
    assert any(f"wrote {n} of 12 shards" in said for n in (12 - len(done), 13 - len(done))), said
    same = [name for name, t in done.items() if (folder / name).stat().st_mtime_ns == t]
    assert len(same) >= len(done) - 1
    assert not (folder / ".pyinit").exists()
    assert pyinit_verifies(folder)


def pyinit_verifies(folder: Path) -> bool:
    command = [sys.executable, "-m", "pyinit", "verify", str(folder)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def test_the_rest_finish_when_a_rank_dies(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    ranks = [begin(folder, rank, 3) for rank in range(3)]
    try:
        wait_for(folder / shard(2), ranks[1])
        ranks[1].kill()
        outputs = [rank.communicate(timeout=120) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, -signal.SIGKILL, 0]
    missing = [i for i in range(2, 13, 3) if not (folder / f".pyinit/{shard(i)}.json").exists()]
    assert 11 in missing
    assert any("are other processes' to write" in said for said, _ in outputs)
    last = begin(folder, 0, 1)
    said, told = last.communicate(timeout=120)
    assert last.returncode == 0, told
    assert f"wrote {len(missing)} of 12 shards" in said
    assert pyinit_verifies(folder)


def test_a_full_disk_is_one_sentence_and_whole_shards_stay(tmp_path: Path) -> None:
    program = """
        import resource, sys
        from pyinit.cli import main
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        main(["init", "lenet5", "--seed", "3", "--shards", "4", "--out", sys.argv[1]])
    """
    folder = tmp_path / "a"
    done = run_python("-c", textwrap.dedent(program), str(folder))
    assert done.returncode == 1
    (told,) = done.stderr.splitlines()
    assert told == (
        f"Error: cannot write {folder}/model-00002-of-00004.safetensors: File too large; 1 of 4 shards "
        "are whole, and the same command makes the others"
    )
    assert [path.name for path in folder.rglob("*.safetensors")] == [
        "model-00001-of-00004.safetensors"
    ]
    assert not [*folder.rglob("*.partial")]
    assert len(write_shards(planned("lenet5"), folder).written) == 3


def test_memory_is_a_part_of_a_shard(tmp_path: Path) -> None:
    program = """
        import json, resource, sys
        from pathlib import Path
        import torch
        from pyinit.distributed.plan import plan_shards
        from pyinit.distributed.shards import write_shards
        from pyinit.models import build
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        before = peak()
        with torch.device("meta"):
            model = build("llama-1b", torch.bfloat16, layers=2, vocab=30000)
        plan = plan_shards(model, "llama", 0, 3, "llama-1b")
        write_shards(plan, Path(sys.argv[1]) / "a")
        shard = plan.manifest.total_size / 3
        print(json.dumps([peak() - before, shard]))
    """
    grown, of_a_shard = json_of(program, str(tmp_path))
    assert of_a_shard > 80e6
    assert grown < of_a_shard


# ---- What cannot be ----------------------------------------------------------------------------------


class Extra(nn.Linear):
    def get_extra_state(self) -> dict[str, int]:
        return {"a": 1}


class Lost(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.register_buffer("table", torch.arange(3.0))


class Unknown(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.odd = nn.Parameter(torch.arange(3.0).sort()[0])


def views() -> nn.Module:
    net = nn.Module()
    whole = torch.zeros(4)
    net.a, net.b = nn.Parameter(whole[:2]), nn.Parameter(whole[2:])
    return net


def complex_one() -> nn.Module:
    return nn.Linear(2, 2, dtype=torch.complex128)


def named(name: str) -> nn.Module:
    module = nn.Linear(2, 2)
    module.register_parameter(name, nn.Parameter(torch.zeros(2)))
    return module


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: Extra(2, 2), "only tensors, not _extra_state"),
        (Lost, "table"),
        (Unknown, "odd"),
        (views, "a and b share a part of their memory"),
        (complex_one, "no torch.complex128, as weight is"),
        (lambda: named("__metadata__"), "keep the name __metadata__ for themselves"),
        (lambda: named("a\ud800"), r"no tensor named 'a\\ud800'"),
    ],
    ids=["extra", "buffer", "parameter", "views", "complex", "metadata", "surrogate"],
)
def test_what_cannot_be_made_or_stored_is_refused_by_name(build: object, told: str) -> None:
    assert callable(build)
    with torch.device("meta"):
        model = build()
    with pytest.raises(ValueError, match=told):
        plan_shards(model, "torch", 0, 1, "model")


@pytest.mark.parametrize("shards", [-1, 0, 11])
def test_a_number_of_shards_that_cannot_be_is_refused_with_the_greatest(shards: int) -> None:
    with pytest.raises(ValueError, match=r"shards must be in \[1, 10\].*got -?\d+"):
        planned("lenet5", shards=shards)


def test_a_method_is_refused(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('recipe = "kaiming"\nafter = "lsuv"')
    with pytest.raises(ValueError, match="lsuv"):
        planned("lenet5", str(rules))


@pytest.mark.parametrize(
    ("rank", "world", "told"),
    [
        ("x", "2", "RANK must be a number.*got 'x'"),
        ("0", "", "WORLD_SIZE must be a number.*got ''"),
        ("2", "2", "RANK=2 and WORLD_SIZE=2"),
        ("-1", "2", "RANK must be a number"),
        ("0", "0", "WORLD_SIZE=0"),
    ],
)
def test_ranks_that_cannot_be_are_refused(rank: str, world: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Part.of_environment({"RANK": rank, "WORLD_SIZE": world})


def test_without_torchrun_one_process_writes_all() -> None:
    assert Part.of_environment({"HOME": "/"}) == Part(0, 1)
    assert Part.of_environment({"RANK": "1", "WORLD_SIZE": "3"}) == Part(1, 3)
