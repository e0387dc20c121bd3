"""``pyinit init --shards`` and ``pyinit verify``."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pyinit.cli import main


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner(env={"COLUMNS": "140", **environment}).invoke(main, [*arguments])


def init(folder: Path, *arguments: str, **environment: str) -> Result:
    command = ("init", "lenet5", "--seed", "7", "--shards", "3", "--out", str(folder))
    return run(*command, *arguments, **environment)


def test_it_prints_the_plan_and_what_was_written(tmp_path: Path) -> None:
    result = init(tmp_path / "a")
    assert result.exit_code == 0, result.output
    assert "xavier_normal" in result.stdout
    assert f"wrote 3 of 3 shards to {tmp_path}/a, 0.2 MB in " in result.stdout
    assert result.stdout.endswith("; the checkpoint is complete\n")
    again = init(tmp_path / "a")
    assert again.stdout.endswith(
        f"all 3 shards are in {tmp_path}/a already, and the checkpoint is complete; pyinit verify compares it\n"
    )


def test_verify_says_what_is_sound_and_what_is_not(tmp_path: Path) -> None:
    init(tmp_path / "a")
    sound = run("verify", str(tmp_path / "a"))
    assert sound.exit_code == 0
    assert sound.stdout == (
        f"{tmp_path}/a is what its manifest says: 3 shards, 0.2 MB; 10 tensors made again and equal, "
        "0 by hash\n"
    )
    (tmp_path / "a/model-00002-of-00003.safetensors").unlink()
    broken = run("verify", str(tmp_path / "a"))
    assert broken.exit_code == 1
    assert broken.stdout == (
        f"model-00002-of-00003.safetensors: not there\n1 problem in {tmp_path}/a\n"
    )
    as_json = run("verify", str(tmp_path / "a"), "--json")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["problems"] == [
        {"where": "model-00002-of-00003.safetensors", "what": "not there"}
    ]
    assert run("verify", str(tmp_path / "b")).exit_code == 2


def test_each_rank_of_torchrun_writes_its_own_and_the_last_completes(tmp_path: Path) -> None:
    init(tmp_path / "one")
    report = tmp_path / "report.json"
    for rank in (1, 0):
        result = init(
            tmp_path / "many",
            "--report",
            str(report),
            RANK=str(rank),
            WORLD_SIZE="2",
            LOCAL_RANK="0",
        )
        assert result.exit_code == 0, result.output
        assert ("xavier_normal" in result.stdout) == (rank == 0)
        assert report.exists() == (rank == 0)
        last = result.stdout.splitlines()[-1]
        ends = "the checkpoint is complete" if rank == 0 else "2 are other processes' to write"
        assert last.endswith(ends)
    files = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "many").iterdir()} == files


def test_json_has_what_was_written_and_planned(tmp_path: Path) -> None:
    value = json.loads(init(tmp_path / "a", "--json").stdout)
    assert value["written"] == [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    assert value["missing"] == []
    assert value["seed"] == 7
    assert [row["name"] for row in value["layers"]][:2] == ["conv1.weight", "conv1.bias"]


def test_the_dtype_is_that_of_the_files(tmp_path: Path) -> None:
    init(tmp_path / "a", "--dtype", "bfloat16")
    manifest = json.loads((tmp_path / "a/pyinit.json").read_text())
    assert {tensor["dtype"] for tensor in manifest["tensors"]} == {"bfloat16"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--from", "."], "leave out --from"),
        (["--method", "lsuv"], "leave out --method and its data"),
        (["--shape", "3x4"], "leave out --method and its data"),
        (["--replay", "file.json"], "leave out --replay"),
        (["--dry-run"], "leave out --dry-run"),
        (["--report", "a/report.json"], "give a place outside of a"),
        (["--shards", "0"], "0 is not in the range"),
        (["--shards", "-2"], "-2 is not in the range"),
        (["--shards", "11"], "shards must be in [1, 10]"),
        (["--recipe", "xavjer"], "xavjer"),
        (["--kwargs", "["], "not JSON"),
        (["--kwargs", '{"classes": -1}'], "lenet5 failed"),
        (["--out", "file.json"], "file.json is no folder"),
        (["--out", "model.safetensors"], "model.safetensors is the name of a file"),
        (["--out", "x" * 300], "name too long"),
    ],
    ids=lambda value: value[0].strip("-") + value[-1][:4] if isinstance(value, list) else "",
)
def test_what_does_not_go_with_it_is_refused(
    tmp_path: Path, arguments: list[str], told: str
) -> None:
    (tmp_path / "file.json").write_text("{}")
    (tmp_path / "a").mkdir()
    result = init(Path("a"), *arguments)
    assert result.exit_code == 2
    assert told in " ".join(result.output.split())
    assert [*(tmp_path / "a").iterdir()] == []


def test_it_needs_a_folder() -> None:
    result = run("init", "lenet5", "--shards", "2")
    assert result.exit_code == 2
    assert "give --out" in result.output


def test_a_wrong_rank_is_one_line(tmp_path: Path) -> None:
    result = init(tmp_path / "a", RANK="first")
    assert result.exit_code == 1
    assert result.output == "Error: RANK must be a number, as torchrun sets it, got 'first'\n"


def test_the_shards_of_another_seed_are_refused(tmp_path: Path) -> None:
    init(tmp_path / "a")
    result = init(tmp_path / "a", "--seed", "8")
    assert result.exit_code == 2
    assert "seed is 7 there, 8 here" in " ".join(result.output.split())
