"""What cannot be done is refused by name, before anything is trained or written."""

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from study_parts import EndingSamples, broken_, cnn, ends, misfit, mlp, nine, no_model
from torch import nn

import pyinit
from pyinit.cli import main
from pyinit.datasets import Dataset
from pyinit.studies import Claim, Study, Training
from pyinit.studies.runs import runs_of

FILE = """
model = "study_parts:mlp"
data = "digits"
seeds = 1
steps = 12
[arms]
xavier = "xavier"
he = "kaiming"
[factors]
width = [4, 8]
[[claims]]
metric = "accuracy"
better = "he"
than = "xavier"
"""


@pytest.fixture(autouse=True)
def _of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(FILE, encoding="utf-8")
    return


_SHARED = mlp()


def _holed() -> Dataset:
    inputs = torch.zeros(40, 1, 8, 8)
    inputs[3, 0, 1:3] = float("nan")
    inputs[5, 0, 0, 0] = float("inf")
    return Dataset("holed", inputs, torch.arange(40) % 10)


class Unchecked(dict[str, Any]):
    """Fields of a ``Training`` that is made in the test."""


def compare(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["compare", *arguments, "--jobs", "1"])


def study(**changes: Any) -> Study:
    fields = {"model": mlp, "data": "digits", "arms": {"he": "kaiming"}, "steps": 3, "seeds": 1}
    return Study(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data": "digit"}, "no data set is named 'digit': did you mean digits"),
        ({"data": "folder/that/is/none"}, "there is no folder 'folder/that/is/none'"),
        ({"model": "lenet"}, "model: 'lenet' is neither module:function nor one of"),
        ({"model": "study_parts:mpl"}, "model: cannot import 'study_parts:mpl'"),
        ({"model": no_model}, "model: TypeError: model: the function made list"),
        ({"arguments": {"wdth": 3}}, "model: it does not take wdth"),
        ({"factors": {"wdth": (3,)}}, "model: it does not take wdth"),
        ({"model": torch.nn.Identity}, "model: it has no parameters, so there is nothing to train"),
        ({"model": ends}, "model: SystemExit: the model"),
        ({"data": "study_parts:ending_data"}, "study_parts:ending_data raised SystemExit: the data"),
        ({"data": EndingSamples()}, "data: SystemExit: the sample"),
        ({"data": "ending_module:data"}, "cannot import 'ending_module:data': SystemExit: 3"),
        ({"model": lambda: _SHARED}, "model: the function must make a new model each time"),
        ({"model": misfit}, r"the model does not fit the data digits.*\(64, 1, 8, 8\).*1x?.*64.*63"),
        ({"model": nine}, r"it gives \(64, 9\) float32 on cpu, 9 classes, and the data has 10"),
        ({"data": Dataset("bare", torch.zeros(9, 64))}, "bare cannot be trained on: its target must be one tensor"),
        ({"data": _holed()}, "its inputs must be finite, got 2 of 40 samples with others"),
        (
            {"data": (torch.zeros(20, 1, 8, 8), torch.zeros(20, 3))},
            r"its output is \(16, 10\) float32 on cpu and the target \(16, 3\) float32 on cpu",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_refused_before_training(
    changes: dict[str, Any], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ending_module.py").write_text("raise SystemExit(3)", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    some = study(**{"arms": {"broken": broken_}, **changes})
    with pytest.raises((ValueError, FileNotFoundError, RuntimeError), match=f"(?s){told}"):
        some.run(jobs=1, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"arms": {}}, "arms: must be a table of arms, one at least"),
        ({"arms": {"he": 3}}, "arms.he: must be a name, a table"),
        ({"arms": {"he": [broken_, "kaimin"]}}, r"arms\.he\[1\]: no recipe, method"),
        ({"arms": {"he": {"pretrained": "none.pt"}}}, "arms.he: there is no file none.pt"),
        ({"arms": {"he": {"pretrained": 3}}}, "arms.he.pretrained: must be true or the path"),
        ({"training": Unchecked({"lr": 10**400})}, "lr: must be a number above 0"),
        ({"training": Unchecked({"device": "gpu"})}, "device: must be auto, or a device of torch"),
        ({"full": {"sted": 3}}, r"full\.sted: there is no such field; did you mean steps"),
        ({"full": {"training": 3}}, r"full\.training: must be a table, got 3"),
        ({"full": {"training": {"lr": -1}}}, r"full\.training\.lr: must be a number above 0"),
        ({"full": {"arms": "he"}}, r"full\.arms: must be a table"),
        ({"full": {"claims": 3}}, r"full\.claims: must be a list of claims"),
        ({"full": {"claims": [{"metrik": "accuracy"}]}}, r"full\.claims\[0\]\.metrik: there is no such key"),
        ({"full": {"claims": [{"metric": "accuracy", "arm": "he", "above": 0.1, "versus": {"width": 8}}]}},
         r"full\.claims\[0\]\.versus\.width: there is no such factor in where"),
        ({"seeds": 10**30}, "seeds: must be a whole number of at least 1 and at most 1000000"),
        ({"seeds": True}, "seeds: must be a whole number"),
        ({"training": {"lr": 0.1}}, "training: must be a pyinit.studies.Training, got {'lr': 0.1}"),
        ({"claims": [{"metric": "accuracy"}]}, "claims: must be a list of pyinit.studies.Claim, got"),
        ({"claims": [Claim("accuracy", arm="he", above=0.5, where={"depth": 3})]}, "no such factor; there are none"),
        ({"epochs": 3}, "give either steps or epochs, got both"),
        ({"factors": {"batch_size": (0,)}}, "factors.batch_size: must be a whole number of at least 1"),
        ({"factors": {"depth": ()}}, "factors: must be a table of factors"),
        ({"arguments": {"depth": 1}, "factors": {"depth": (1, 2)}}, "factors.depth: is among arguments"),
    ],
)  # fmt: skip
def test_a_field_that_cannot_be_is_named(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        study(
            **{
                key: Training(**value) if isinstance(value, Unchecked) else value
                for key, value in changes.items()
            }
        )


def test_how_many_processes_is_checked() -> None:
    for jobs in (0, -1, True):
        with pytest.raises(ValueError, match="jobs: must be a whole number of at least 1"):
            study().run(jobs=jobs)


def test_batched_seeds_are_not_watched() -> None:
    training = pyinit.studies.Training(batch_seeds=True)
    with pytest.raises(ValueError, match=r"training\.batch_seeds: needs track = false"):
        study(training=training)


# ---- the command ---------------------------------------------------------------------------------


def test_the_command_writes_a_folder(tmp_path: Path) -> None:
    result = compare("mine.toml", "--seeds", "2", "--lr", "0.1,0.2", "--out", "results/of it")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "results/of it/study.toml").exists()
    again = Study.load(tmp_path / "results/of it/study.toml")
    assert (again.seeds, again.training.lr, again.name) == (2, (0.1, 0.2), "mine")
    lines = (tmp_path / "results/of it/runs.jsonl").read_text().splitlines()
    assert len(lines) == 2 * 2 * 2 * 2


def test_arms_and_factors_can_be_fewer() -> None:
    result = compare("mine.toml", "--arms", "he", "--factor", "width=8")
    assert result.exit_code == 0, result.output
    assert len(Path("mine/runs.jsonl").read_text().splitlines()) == 1
    assert not Study.load("mine/study.toml").claims


@pytest.mark.parametrize(
    ("values", "given", "kept"),
    [
        ("[true, false]", "true", [True]),
        ("[0.10, 0.2]", "0.10,0.20", [0.1, 0.2]),
        ("[1, 20]", "20.0", [20]),
        ('["1.0", "2"]', "1.0", ["1.0"]),
    ],
)
def test_factors_are_given_as_in_the_file(values: str, given: str, kept: list[Any]) -> None:
    text = FILE.replace("width = [4, 8]", f"some = {values}").replace("mlp", "anything")
    Path("mine.toml").write_text(text, encoding="utf-8")
    result = compare("mine.toml", "--factor", f"some={given}", "--arms", "he")
    assert result.exit_code == 0, result.output
    assert list(Study.load("mine/study.toml").factors["some"]) == kept


def test_pyinits_own_studies_are_listed() -> None:
    assert compare("--list").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("mine.tml",), "there is no study 'mine.tml'"),
        (
            ("mnist-cn",),
            "there is no study 'mnist-cn'; did you mean mnist-cnn; or give a .toml file",
        ),
        (("none.toml",), "cannot read none.toml: No such file or directory"),
        (("mine.toml", "--arms", "hee"), "arms.hee: there is no such arm; did you mean he?"),
        (
            ("mine.toml", "--factor", "wdth=8"),
            "factors.wdth: there is no such factor; did you mean width?",
        ),
        (("mine.toml", "--factor", "width=9"), "factors.width: is never 9; it takes 4, 8"),
        (("mine.toml", "--factor", "width"), "'width' is not a factor and values"),
        (("mine.toml", "--lr", "fast"), "'fast' is not numbers such as 0.01,0.1"),
        (("mine.toml", "--factor", "width=4", "--factor", "width=8"), "width is given twice"),
        (("outside.toml",), "--out': is needed, since '../outside' is no name for a folder"),
        (("rates.toml", "--lr", "0.5"), "lr is a factor of this study"),
        (("mine.toml", "--lr", "-1"), "lr: must be a number above 0"),
        (("mine.toml", "--out", "mine.toml"), "is a file"),
        (("mine.toml", "--out", "/proc/none"), "cannot write /proc/none"),
    ],
)
def test_the_command_names_what_is_wrong(arguments: tuple[str, ...], told: str) -> None:
    Path("rates.toml").write_text(FILE.replace("width", "lr"), encoding="utf-8")
    Path("outside.toml").write_text('name = "../outside"\n' + FILE, encoding="utf-8")
    result = compare(*arguments)
    assert result.exit_code != 0
    assert told in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert not Path("mine").exists()


@pytest.mark.parametrize("arguments", [("--arms", "he"), ()], ids=["alone", "beside another"])
def test_the_command_says_that_all_runs_of_an_arm_failed(arguments: tuple[str, ...]) -> None:
    Path("mine.toml").write_text(
        FILE.replace('"kaiming"', '"study_parts:broken_"'), encoding="utf-8"
    )
    result = compare("mine.toml", *arguments)
    assert result.exit_code == 1
    assert "all runs of he failed: ArithmeticError: this cannot be" in result.output


def test_each_run_is_a_line_where_no_bar_can_be() -> None:
    result = compare("mine.toml")
    lines = [line for line in result.stderr.splitlines() if " runs: " in line]
    assert [line.split(" runs: ")[0] for line in lines] == [
        f"{number} of {len(lines)}" for number in range(1, len(lines) + 1)
    ]
    assert all(", finished after " in line for line in lines)


def test_modules_lie_beside_the_file_or_in_the_working_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("own").mkdir()
    Path("own/beside_it.py").write_text("from study_parts import mlp\n", encoding="utf-8")
    text = re.sub(r'model = ".*"', 'model = "beside_it:mlp"', FILE)
    Path("own/mine.toml").write_text(text, encoding="utf-8")
    result = compare("own/mine.toml")
    assert result.exit_code == 0, result.output


def test_labels_that_count_from_one_are_told() -> None:
    def build() -> nn.Module:
        return nn.Linear(4, 3)

    data = (torch.randn(90, 4), torch.arange(90) % 3 + 1)
    with pytest.raises(ValueError, match="no sample is of class 0, so count classes from 0"):
        pyinit.Study(build, data, {"a": "xavier"}, seeds=1, steps=2).run(jobs=1)


def test_a_model_that_does_not_fit_is_told_by_the_command() -> None:
    Path("mine.toml").write_text(
        FILE.replace(":mlp", ":cnn").replace("width = [4, 8]", ""), encoding="utf-8"
    )
    text = Path("mine.toml").read_text().replace('"digits"', '"mnist1d"')
    Path("mine.toml").write_text(text)
    result = compare("mine.toml")
    assert result.exit_code == 1
    assert "the model does not fit the data mnist1d" in " ".join(result.output.split())
    assert replace(study(), model=cnn).run(jobs=1).records[0].status == "finished"


# ---- values that are Python's in another type ----------------------------------------------------


def test_numbers_of_numpy_and_ranges_are_pythons() -> None:
    factors = {"width": np.array([4, 8]), "dropout": [np.float64(0.0), np.float64(0.5)]}
    some = study(factors=factors, steps=np.int64(3), training=Training(batch_size=np.int32(8)))
    assert repr(some.factors) == "{'width': (4, 8), 'dropout': (0.0, 0.5)}"
    assert (type(some.steps), type(some.training.batch_size)) == (int, int)
    assert study(factors={"width": range(4, 12, 4)}).factors == {"width": (4, 8)}
    assert (
        type(study(factors={"batch_norm": np.array([True, False])}).factors["batch_norm"][0])
        is bool
    )
    plain = study(factors={"width": (4, 8), "dropout": (0.0, 0.5)}, training=Training(batch_size=8))
    assert [each.fingerprint for each in runs_of(some)] == [
        each.fingerprint for each in runs_of(plain)
    ]
    for wrong in (np.ones((2, 2)), np.array([1, 1]), range(0), {1, 2}):
        with pytest.raises(ValueError, match="factors: must be a table of factors"):
            study(factors={"width": wrong})


def test_no_factor_is_named_as_a_column(tmp_path: Path) -> None:
    result = study(track=True).run(jobs=1, out=tmp_path / "out")
    columns = {*result.to_frame("all").columns, *result.to_frame("runs").columns} - {"lr"}
    assert {"seed", "arm", "step", "place", "seconds", "accuracy", "error", "rows"} <= columns
    for name in columns:
        with pytest.raises(ValueError, match=f"factors.{name}: is the name of a column"):
            study(factors={name: (1, 2)})


@pytest.mark.parametrize("wrong", ["\udc80", "half \ud800"])
def test_what_no_file_can_hold_is_no_text(wrong: str) -> None:
    for changes in (
        {"name": wrong},
        {"question": wrong},
        {"arms": {wrong: "kaiming"}},
        {"factors": {wrong: (1, 2)}},
        {"factors": {"width": (wrong, 2)}},
    ):
        with pytest.raises(ValueError, match=r"must be a (text|table)"):
            study(**changes)


def test_a_device_that_is_not_there_is_refused_once(tmp_path: Path) -> None:
    for device in ("meta", *(() if torch.cuda.is_available() else ("cuda",))):
        for some in (
            study(training=Training(device=device)),
            study(factors={"device": ("cpu", device)}),
        ):
            with pytest.raises(ValueError, match=f"device: '{device}' cannot be used: "):
                some.run(jobs=1, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_way_of_the_folder_is_named() -> None:
    Path("mine").touch()
    result = compare("mine.toml")
    assert result.exit_code == 2
    assert "--out': is needed, since 'mine' is a file" in " ".join(result.output.split())
