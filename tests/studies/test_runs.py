"""Which runs are made, where, and how often: the same numbers anywhere, and none of them twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from study_parts import (
    broken_,
    deadly_,
    deadly_once_,
    ends_,
    ends_if_wide,
    mlp,
    own_,
    small_,
    unsettled_,
)
from torch.nn.modules.module import register_module_forward_hook

from pyinit.cli import main
from pyinit.studies import Claim, Study, Training, executors, references
from pyinit.studies.executors import dask_executor
from pyinit.studies.records import Record, RecordFile, read_records
from pyinit.studies.runs import runs_of
from pyinit.whole_model.recipes import Recipe

HELPERS = Path(__file__).parents[1] / "helpers"


def study(**changes: Any) -> Study:
    fields: dict[str, Any] = {
        "model": mlp,
        "data": "digits",
        "arms": {"xavier": "xavier", "he": "kaiming"},
        "seeds": 2,
        "steps": 15,
        "factors": {"width": (4, 8)},
        **changes,
    }
    return Study(**fields)


def numbers(records: Any) -> list[dict[str, Any]]:
    """Records without what is different each time."""
    found = []
    for record in records:
        kept = record.to_json()
        for row in kept["epochs"]:
            del row["seconds"]
        found.append({k: v for k, v in kept.items() if k not in ("seconds", "init_seconds")})
    return found


@pytest.fixture(scope="module")
def here() -> list[dict[str, Any]]:
    return numbers(study().run(jobs=1).records)


def test_runs_go_through_seeds_factors_arms_and_rates() -> None:
    some = study(training=Training(lr=(0.1, 0.2)))
    found = [(run.seed, run.factors["width"], run.arm, run.lr) for run in runs_of(some)]
    assert found[:5] == [
        (0, 4, "xavier", 0.1), (0, 4, "xavier", 0.2), (0, 4, "he", 0.1), (0, 4, "he", 0.2),
        (0, 8, "xavier", 0.1),
    ]  # fmt: skip
    assert len({run.fingerprint for run in runs_of(some)}) == len(found) == 16


def test_a_factor_changes_the_training_the_data_or_the_model() -> None:
    factors = {
        "lr": (0.1, 0.2),
        "batch_size": (8,),
        "data": ("digits", "gaussian:64"),
        "width": (4,),
    }
    some = study(factors=factors, seeds=1, arms={"he": "kaiming"}, steps=3)
    records = some.run(jobs=1).records
    assert [each.lr for each in records] == [0.1, 0.1, 0.2, 0.2]
    assert [each.status for each in records] == ["finished"] * 4
    assert len({each.steps[0]["loss"] for each in records}) == 2


def test_processes_give_the_same_numbers(here: list[dict[str, Any]], tmp_path: Path) -> None:
    result = study().run(jobs=2, out=tmp_path)
    assert numbers(result.records) == here
    assert {each.fingerprint for each in read_records(tmp_path / "runs.jsonl")} == {
        each["fingerprint"] for each in here
    }


def test_threads_of_an_executor_give_the_same_numbers(here: list[dict[str, Any]]) -> None:
    with ThreadPoolExecutor(3) as executor:
        assert numbers(study().run(executor=executor).records) == here


def test_nothing_is_repeated_and_seeds_are_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, int]] = []
    watch = lambda record, left: made.append((record.seed, left))
    first = study(seeds=1).run(jobs=1, out=tmp_path, watch=watch)
    assert made == [(0, 3), (0, 2), (0, 1), (0, 0)]
    again = study(seeds=1).run(jobs=1, out=tmp_path, watch=watch)
    assert len(made) == 4
    assert again.records == first.records
    more = study(seeds=3).run(jobs=1, out=tmp_path, watch=watch)
    assert [seed for seed, _ in made[4:]] == [1] * 4 + [2] * 4
    assert numbers(more.records) == numbers(study(seeds=3).run(jobs=1).records)


def test_a_record_is_found_by_what_decides_its_numbers() -> None:
    def of(**changes: Any) -> str:
        return runs_of(study(**changes))[0].fingerprint

    def made(std: float) -> Any:
        def arm(model: torch.nn.Module) -> None:
            torch.nn.init.normal_(model[1].weight, std=std)

        return arm

    alike = (
        {"seeds": 9},
        {"arms": {"xavier": {"recipe": "xavier"}}},
        {"claims": (Claim("accuracy", better="he", than="xavier"),)},
        {"name": "other", "question": "Why?"},
        {"factors": {"width": (4,)}},
    )
    other = (
        {"steps": 16},
        {"training": Training(lr=0.02)},
        {"training": Training(threads=2)},
        {"training": Training(kernels="pyinit")},
        {"arguments": {"dropout": 0.1}},
        {"data": "gaussian:64"},
        {"track": False},
        {"arms": {"xavier": {"recipe": "xavier", "only": "1.*"}}},
        {"arms": {"xavier": small_}},
        {"arms": {"xavier": made(0.1)}},
        {"arms": {"xavier": made(0.2)}},
        {"arms": {"xavier": "xavier", "he": "pretrained"}},
    )
    assert {of(**changes) for changes in alike} == {of()}
    assert len({of(), *(of(**changes) for changes in other)}) == len(other) + 1
    assert of(arms={"xavier": made(0.1)}) == of(arms={"xavier": made(0.1)})


class Scaled:
    """A function of a model that has a state."""

    def __init__(self, std: Any) -> None:
        self.std = std

    def __call__(self, model: torch.nn.Module) -> None:
        torch.nn.init.normal_(model[1].weight, std=float(self.std))

    def also(self, model: torch.nn.Module) -> None:
        self(model)


def _brings(value: Any) -> Any:
    def arm(_: torch.nn.Module) -> Any:
        return value

    return arm


def _print(arm: Any) -> str:
    return runs_of(study(arms={"mine": arm}))[0].fingerprint


LARGE = np.zeros(5000)
OTHER = np.arange(5000) == 2500


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: Scaled(0.1), lambda: Scaled(0.2)),
        (lambda: Scaled(0.1).also, lambda: Scaled(0.2).also),
        (lambda: Recipe("own", small_, ""), lambda: Recipe("own", broken_, "")),
        (lambda: _brings(LARGE), lambda: _brings(LARGE + OTHER)),
        (lambda: _brings(torch.ones(2, 3)), lambda: _brings(torch.ones(3, 2))),
        (lambda: _brings(torch.ones(2).bfloat16()), lambda: _brings(torch.zeros(2).bfloat16())),
        (lambda: _brings({1: 2, "a": {"b"}}), lambda: _brings({1: 2, "a": {"c"}})),
    ],
)
def test_what_an_arm_holds_decides(one: Any, other: Any) -> None:
    assert _print(one()) == _print(one())
    assert _print(one()) != _print(other())


CODE = """
import helpers_of_it
GAIN = 2
def _scale(): return [GAIN for _ in range(1)]
class Base:
    width = 3
class Net(Base):
    pass
def arm(model):
    again = lambda: arm
    Net().width, _scale(), {str(i) for i in range(2)}
    helpers_of_it.fill_(model)
"""
HELPERS_OF_IT = """
import torch
def fill_(model): torch.nn.init.ones_(model[1].weight)
def idle(): return 1
"""
PRINT = """
import os, sys
sys.path[:0] = [os.getcwd(), {helpers!r}]
from pyinit.studies import Study
from pyinit.studies.runs import runs_of
from pyinit.whole_model.recipes import Recipe
{code}
print(runs_of(Study("study_parts:mlp", "gaussian:64", {{"mine": arm}}, steps=2, seeds=1))[0].fingerprint)
"""


@pytest.mark.parametrize("is_typed", [False, True])
def test_what_a_function_names_decides_in_every_process(is_typed: bool, tmp_path: Path) -> None:
    def of(code: str = CODE, helper: str = HELPERS_OF_IT) -> str:
        (tmp_path / "helpers_of_it.py").write_text(helper)
        (tmp_path / "arm_of_it.py").write_text(code)
        source = PRINT.format(
            helpers=str(HELPERS), code=code if is_typed else "from arm_of_it import arm"
        )
        done = subprocess.run(
            [sys.executable, "-B", "-"], input=source, cwd=tmp_path, capture_output=True, text=True, check=True
        )  # fmt: skip
        return done.stdout

    first = of()
    assert of() == of(CODE + "# more", HELPERS_OF_IT.replace("return 1", "return 2")) == first
    if is_typed:
        return
    changed = [
        of(CODE.replace("GAIN = 2", "GAIN = 3")),
        of(CODE.replace("width = 3", "width = 4")),
        of(CODE, HELPERS_OF_IT.replace("ones_", "zeros_")),
    ]
    assert len({first, *changed}) == 4


def test_torch_is_installed_wherever_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        references, "_INSTALLED", ("/none/",)
    )  # as in IPython of another environment
    assert not any(map(references._is_users, (torch, torch.nn.Linear, torch.nn.init.normal_, np)))
    assert references._is_users(mlp)


def test_a_file_counts_by_what_is_in_it(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    prints = []
    for std in (0.1, 0.2):
        file.write_text(f'[[rules]]\nname = "*"\ninit = {{name = "normal", std = {std}}}\n')
        prints.append(runs_of(study(arms={"mine": str(file)}))[0].fingerprint)
    assert prints[0] != prints[1]


def test_a_failed_run_is_tried_again(tmp_path: Path) -> None:
    some = study(arms={"broken": broken_}, seeds=1)
    made: list[Record] = []
    for _ in range(2):
        result = some.run(jobs=1, out=tmp_path, watch=lambda record, _: made.append(record))
        assert [each.status for each in result.records] == ["failed"] * 2
    assert len(made) == 4


@pytest.mark.parametrize(("arm", "told"), [(ends_, "SystemExit: the arm"), (own_, "Own: the arm")])
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_that_ends_the_program_has_failed(arm: Any, told: str, jobs: int) -> None:
    some = study(arms={"ends": arm, "he": "kaiming"}, seeds=1, factors={"width": (4,)})
    first, other = some.run(jobs=jobs).records
    assert (first.status, other.status) == ("failed", "finished")
    assert (first.error or "").startswith(told)


def test_a_model_that_ends_the_program_has_failed() -> None:
    some = study(model=ends_if_wide, arms={"he": "kaiming"}, seeds=1)
    first, other = some.run(jobs=1).records
    assert (first.status, other.status) == ("finished", "failed")
    assert (other.error or "").startswith("SystemExit: too wide")


def test_what_an_arm_sets_in_torch_reaches_no_other_run(here: list[dict[str, Any]]) -> None:
    drawn = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    arms = {"unsettled": unsettled_, "xavier": "xavier", "he": "kaiming"}
    records = study(arms=arms).run(jobs=1).records
    assert numbers(each for each in records if each.arm != "unsettled") == here
    assert torch.equal(torch.random.get_rng_state(), drawn[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == drawn[1:]
    assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype is torch.float32
    assert torch.ones(1).device.type == "cpu"
    assert torch.is_grad_enabled()
    assert not torch.is_anomaly_enabled()


def test_hooks_of_all_modules_that_are_there_stay() -> None:
    called: list[Any] = []
    handle = register_module_forward_hook(lambda *_: called.append(1))
    try:
        study(arms={"unsettled": unsettled_}, seeds=1, factors={}).run(jobs=1)
        called.clear()
        mlp()(torch.ones(1, 64))
        assert called
    finally:
        handle.remove()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{}", "missing"),
        ("[" * 100_000, "nested too deep"),
        ('"fingerprint": []', r"fingerprint cannot be \[\]"),
        ('"status": 3', "status cannot be 3"),
        ('"status": "done"', "status cannot be 'done'"),
        ('"seed": true', "seed cannot be True"),
        ('"factors": [1]', r"factors cannot be \[1\]"),
        ('"epochs": [3]', r"epochs cannot be \[3\]"),
        ('"steps": [{"loss": 1}]', r"steps cannot be \[\{'loss': 1\}\]"),
        ('"layers": [{"step": [1]}]', "layers cannot be"),
        ('"lr": null', "lr cannot be None"),
        ('"seconds": "3"', "seconds cannot be '3'"),
        ('"error": 5', "error cannot be 5"),
        ('"versions": "1"', "versions cannot be '1'"),
    ],
)
def test_a_damaged_record_is_named(line: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    whole = json.dumps(
        Record("he", 0, {}, 0.1, "finished", steps=[{"step": 0, "loss": 1.0}]).to_json()
    )
    damaged = f"{whole[:-1]}, {line}}}" if line[0] == '"' else line
    path.write_text(f"{whole}\n{damaged}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"runs\.jsonl, line 2: .*{told}"):
        read_records(path)


def test_a_folder_is_of_one_study_at_a_time(tmp_path: Path) -> None:
    some = study(seeds=1, factors={"width": (4,)})
    refused: list[str] = []

    def second(*_: Any) -> None:
        before = (tmp_path / "study.toml").read_bytes()
        with pytest.raises(RuntimeError) as caught:
            replace(some, seeds=3).run(jobs=1, out=tmp_path)
        refused.append(str(caught.value))
        assert (tmp_path / "study.toml").read_bytes() == before

    some.run(jobs=1, out=tmp_path, watch=second)
    told = f"another study is running in {tmp_path}: wait for its end, or choose another folder"
    assert refused == [told] * 2
    some.run(jobs=1, out=tmp_path)


def test_a_line_that_was_not_written_whole_is_made_again(tmp_path: Path) -> None:
    whole = study().run(jobs=1, out=tmp_path)
    file = tmp_path / "runs.jsonl"
    content = file.read_bytes()
    file.write_bytes(content[: content.rfind(b"\n", 0, -1) + 50])
    made: list[Record] = []
    again = study().run(jobs=1, out=tmp_path, watch=lambda record, _: made.append(record))
    assert len(made) == 1
    assert numbers(again.records) == numbers(whole.records)
    assert all(json.loads(line) for line in file.read_text().splitlines())
    file.write_bytes(b"{}\n" + content)
    with pytest.raises(ValueError, match=r"runs\.jsonl, line 1: not the record of a run"):
        study().run(jobs=1, out=tmp_path)


def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Record("he", 0, {}, 0.1, "finished")
    path = tmp_path / "runs.jsonl"

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with RecordFile(path) as file:
        file.append([record])
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            file.append([record])
    assert read_records(path) == [record]
    assert path.read_bytes().count(b"\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="files have no limit there")
@pytest.mark.parametrize("steps", [10, 500])
def test_what_a_full_disk_took_of_a_line_is_gone(steps: int, tmp_path: Path) -> None:
    import resource  # noqa: PLC0415  not everywhere

    rows = [{"step": step, "loss": 0.5} for step in range(steps)]
    record = Record("he", 0, {}, 0.1, "finished", steps=rows)
    path = tmp_path / "runs.jsonl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))
        with RecordFile(path) as file, pytest.raises(OSError, match="too large"):
            file.append([record] * 200)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    found = read_records(path)
    assert found == [record] * len(found)
    assert path.read_bytes().count(b"\n") == len(found) > 1
    with RecordFile(path) as file:
        file.append([record])
    assert read_records(path) == [*found, record]


def test_a_folder_that_cannot_be_written_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    some = study(arms={"broken": deadly_})
    with pytest.raises(OSError, match="file"):
        some.run(jobs=1, out=tmp_path / "file")


# ---- workers that die ----------------------------------------------------------------------------


def test_what_died_with_its_worker_is_done_again(
    tmp_path: Path, here: list[dict[str, Any]]
) -> None:
    marker = str(tmp_path / "marker")
    deadly = {"function": deadly_once_, "marker": marker}
    some = study(arms={"xavier": "xavier", "deadly": deadly, "he": "kaiming"}, seeds=1)
    result = some.run(jobs=2, out=tmp_path)
    assert [each.status for each in result.records] == ["finished"] * 6
    others = [each for each in numbers(result.records) if each["arm"] != "deadly"]
    assert others == [each for each in here if each["seed"] == 0]


def test_a_run_that_kills_every_worker_is_recorded_as_failed(tmp_path: Path) -> None:
    some = study(arms={"deadly": deadly_, "he": "kaiming"}, seeds=1, factors={})
    deadly, other = some.run(jobs=2, out=tmp_path).records
    assert (deadly.status, other.status) == ("failed", "finished")
    assert deadly.error == "its worker died 3 times: TerminatedWorkerError"


def test_an_executor_that_breaks_is_told(tmp_path: Path) -> None:
    some = study(arms={"he": "kaiming", "deadly": deadly_}, seeds=1, factors={})
    with (
        ProcessPoolExecutor(1) as executor,
        pytest.raises(RuntimeError, match="the executor is broken"),
    ):
        some.run(executor=executor, out=tmp_path)
    assert [each.arm for each in read_records(tmp_path / "runs.jsonl")] in ([], ["he"])


class KilledWorker(Exception):  # noqa: N818  as dask names it
    pass


class Flaky:
    """An executor that loses each task so often, in turn."""

    def __init__(self, losses: dict[int, int]) -> None:
        self.losses, self.calls = losses, []

    def submit(self, work: Any, task: int) -> Future[int]:
        self.calls.append(task)
        future: Future[int] = Future()
        if self.losses.get(task, 0) > 0:
            self.losses[task] -= 1
            future.set_exception(KilledWorker())
        else:
            future.set_result(work(task))
        return future


def test_lost_tasks_are_tried_three_times_and_alone() -> None:
    flaky: Any = Flaky({1: 2, 2: 3})
    found = dict(executors.by_executor(lambda task: task * 10, [0, 1, 2, 3], flaky))
    assert isinstance(found.pop(2), executors.LostError)
    assert found == {0: 0, 1: 10, 3: 30}
    assert sorted(flaky.calls) == [0, 1, 1, 1, 2, 2, 2, 3]


def test_there_must_be_a_scheduler() -> None:
    pytest.importorskip("distributed")
    with (
        pytest.raises(ValueError, match=r"no scheduler of dask answers at tcp://127\.0\.0\.1:9"),
        dask_executor("tcp://127.0.0.1:9", timeout="1s"),
    ):
        pass


# ---- interrupted ---------------------------------------------------------------------------------


def _with_children(root: int) -> list[int]:
    """A process and all that it has started, as Linux tells."""
    tasks = Path(f"/proc/{root}/task").glob("*/children")
    children = [int(each) for task in tasks for each in task.read_text().split()]
    return [root, *(each for child in children for each in _with_children(child))]


def _is_alive(process: int) -> bool:
    try:
        return " (zombie)" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
def test_an_interrupt_keeps_what_is_finished(
    number: int, code: int, jobs: int, tmp_path: Path
) -> None:
    file = tmp_path / "slow.toml"
    file.write_text(
        'model = "study_parts:mlp"\ndata = "digits"\nseeds = 300\nsteps = 3000\n[arms]\nhe = "kaiming"\n'
    )
    out = tmp_path / "out"
    path = os.pathsep.join([str(HELPERS), os.environ.get("PYTHONPATH", "")])
    command = [
        sys.executable,
        "-m",
        "pyinit",
        "compare",
        str(file),
        "--jobs",
        str(jobs),
        "--out",
        str(out),
    ]
    process = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    records = out / "runs.jsonl"
    while time.monotonic() < deadline and not (records.exists() and records.stat().st_size):
        time.sleep(0.05)
    of_study = _with_children(process.pid)
    refused = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    process.send_signal(number)
    _, told = process.communicate(timeout=120)
    kept = len(read_records(records))
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert refused.stderr.startswith(f"Error: another study is running in {out}: ")
    assert process.returncode == code
    assert len(of_study) >= jobs or sys.platform != "linux"
    assert not [each for each in of_study if _is_alive(each)]
    assert 0 < kept < 300
    assert f"interrupted: {kept} of 300 runs are kept in {out}" in told
    assert f"go on with: pyinit compare {file} --jobs {jobs} --out {out}" in told


def test_seeds_of_one_model_are_found_again_together(tmp_path: Path) -> None:
    some = study(track=False, training=Training(batch_seeds=True), seeds=2, factors={})
    some.run(jobs=1, out=tmp_path)
    made: list[Record] = []
    watch = lambda record, _: made.append(record)
    some.run(jobs=1, out=tmp_path, watch=watch)
    assert not made
    replace(some, seeds=3).run(jobs=1, out=tmp_path, watch=watch)
    assert len(made) == 6  # numbers of seeds that are one model depend on one another


@pytest.mark.parametrize("library", ["torch", "filelock"])
def test_an_interrupt_while_libraries_are_imported_is_a_line(library: str, tmp_path: Path) -> None:
    (tmp_path / f"{library}.py").write_text("raise KeyboardInterrupt", encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "pyinit", "compare", "mnist-cnn", "--out", str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 130
    assert done.stderr == "\ninterrupted before anything was begun\n"
    assert not (tmp_path / "out").exists()


def test_an_error_while_libraries_are_imported_is_told_as_usual(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise OSError('no such library')", encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "pyinit", "info"],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "OSError: no such library" in done.stderr


def test_a_study_goes_on_after_the_disk_was_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = tmp_path / "some.toml", tmp_path / "out"
    file.write_text(
        'model = "study_parts:mlp"\ndata = "digits"\nseeds = 4\nsteps = 5\n[arms]\nhe = "kaiming"\n'
    )
    arguments = ["compare", str(file), "--jobs", "1", "--out", str(out)]
    whole, syncs = os.fsync, iter(range(100))

    def full(number: int) -> None:
        if next(syncs) >= full_after:
            raise OSError(28, "No space left on device")
        whole(number)

    full_after = 4
    monkeypatch.setattr(os, "fsync", full)
    ended = CliRunner().invoke(main, arguments)
    monkeypatch.setattr(os, "fsync", whole)
    kept = len(read_records(out / "runs.jsonl"))
    assert ended.exit_code == 1
    assert f"Error: cannot write {out}: No space left on device\n" in ended.output
    assert 0 < kept < 4
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 0, again.output
    assert len(read_records(out / "runs.jsonl")) == 4
