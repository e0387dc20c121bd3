"""``pyinit init``."""

import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner, Result
from safetensors import safe_open
from torch import nn

import pyinit
from pyinit.cli import _output, main
from pyinit.models import build
from pyinit.whole_model.recipes import registry
from pyinit.whole_model.rules.recipe_file import read_value

USER_MODULE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width: int = 6, tie: bool = False):
        super().__init__()
        self.embedding = nn.Embedding(9, width, padding_idx=1)
        self.norm = nn.BatchNorm1d(width)
        self.raw = nn.Parameter(torch.randn(3))  # no recipe knows it
        self.head = nn.Linear(width, 9, bias=False)
        if tie:
            self.head.weight = self.embedding.weight

def views():
    net = nn.Module()
    whole = torch.zeros(4)
    net.a, net.b = nn.Parameter(whole[:2]), nn.Parameter(whole[2:])
    return net

class Extra(nn.Linear):
    def get_extra_state(self):
        return {"a": 1}

    def set_extra_state(self, state):
        pass

def broken():
    raise OSError("first line\\nsecond line")

def number():
    return 3

def picky():
    layer = nn.Linear(3, 3)
    assert layer.weight.sum().item() < 1e9
    return layer

def meta():
    return nn.Linear(3, 3, device="meta")

def lazy():
    return nn.LazyLinear(3)

def expanded():
    layer = nn.Linear(1, 3)
    layer.weight = nn.Parameter(torch.zeros(1).expand(3, 2))
    return layer

instance = nn.Linear(2, 2)

def chain():
    return nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 4))

def batch():
    return torch.randn(40, 8, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 4
"""

USER_RECIPE = """
from functools import partial
from torch import nn
from pyinit import Choice, initializers, register_recipe

Net = partial(nn.Linear, 2, 2)

@register_recipe("all_three")
def all_three(network):
    return {site.name: Choice(initializers.Constant(3.0), "three") for site in network.sites}
"""

DRAWING_MODULE = """
import random
import numpy as np
import torch
from torch import nn

def draw():
    return torch.rand(2) + random.random() + np.random.rand()

draw()

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.raw = nn.Parameter(draw())  # no recipe knows it
        self.head = nn.Linear(2, 2)
"""

RULE_FILES = {
    "broken.toml": "rules = [",
    "unknown.toml": 'rules = [{name = "*", init = "xavier_norm"}]',
    "nothing.json": '{"rules": [{"name": "tail.*", "init": "orthogonal"}]}',
    "cannot.json": '{"rules": [{"name": "norm.weight", "init": "orthogonal"}]}',
    "good.toml": """
        recipe = "kaiming"
        [[rules]]
        name = "head.*"
        init = {name = "normal", std = 0.5}
        [[rules]]
        name = "raw"
        init = {name = "constant", val = 2.0}
    """,
    "after.toml": """
        recipe = "kaiming"
        after = {name = "lsuv", tolerance = 0.02}
        rules = [{name = "2.bias", init = {name = "constant", val = 0.5}}]
    """,
    "unknown-method.toml": 'after = "lsu"',
    "unknown-option.toml": 'after = {name = "lsuv", tol = 0.02}',
}


class _Code:
    """Unpickled, it leaves a file."""

    def __reduce__(self) -> Any:
        return open, ("executed", "w")


@pytest.fixture(scope="module", autouse=True)
def user_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("user")
    (folder / "pyinit_user_net.py").write_text(USER_MODULE)
    (folder / "pyinit_bad_net.py").write_text("import no_such_module_anywhere\n")
    for name, text in RULE_FILES.items():
        (folder / name).write_text(text)
    (folder / "damaged.safetensors").write_bytes(bytes(range(40)))
    (folder / "code.pt").write_bytes(pickle.dumps(_Code()))
    safetensors.torch.save_file({"x": torch.ones(3)}, folder / "other.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder


@pytest.fixture(autouse=True)
def _restored_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", sys.path.copy())


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["init", *arguments])


def report(*arguments: str) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


NET = "pyinit_user_net:Net"
CHAIN = "pyinit_user_net:chain"
DATA = ["--data", "pyinit_user_net:batch"]
LSUV = ["--method", "lsuv", *DATA]
EXTRA = [
    "pyinit_user_net:Extra",
    "--kwargs",
    '{"in_features": 2, "out_features": 2}',
    "--out",
    "x",
]


def test_gpt2_file_loads_and_holds_what_was_reported(tmp_path: Path) -> None:
    out = tmp_path / "gpt2.safetensors"
    result = run("gpt2", "--recipe", "torch", "--seed", "0", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "initialized 148 of 148 parameters, 124,439,808 of 124,439,808 elements" in result.stdout
    assert "torch.nn.init" in result.stdout
    assert f"wrote {out}" in result.stdout.replace("\n", "")
    assert len(result.stdout.splitlines()) < 30
    assert "transformer.h.{0-11}" in result.stdout

    model = build("gpt2")
    safetensors.torch.load_model(model, out)
    weight = model.get_parameter("transformer.h.3.mlp.c_fc.weight")
    stream = hashlib.blake2b(b"transformer.h.3.mlp.c_fc.weight", digest_size=8).digest()
    key = pyinit._random.rng.Key(0, int.from_bytes(stream, "little"))
    expected = pyinit.init.kaiming_uniform_(torch.empty(3072, 768), a=5**0.5, generator=key)
    assert torch.equal(weight, expected)
    assert list(tmp_path.iterdir()) == [out]


def test_file_says_how_it_was_made(tmp_path: Path) -> None:
    out = tmp_path / "net.safetensors"
    report(NET, "--recipe", "xavier", "--seed", "7", "--out", str(out))
    with safe_open(out, "pt") as file:
        assert file.metadata() == {
            "format": "pt",
            "model": NET,
            "pyinit": pyinit.__version__,
            "recipe": "xavier",
            "rng": "philox",
            "seed": "7",
            "stream_version": "2",
        }


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_dtype(tmp_path: Path, dtype: str) -> None:
    out = tmp_path / "net.safetensors"
    report(NET, "--dtype", dtype, "--out", str(out))
    tensors = safetensors.torch.load_file(out)
    assert tensors["head.weight"].dtype == getattr(torch, dtype)
    assert tensors["norm.num_batches_tracked"].dtype == torch.int64


def test_builtin_takes_dtype_and_kwargs(tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    config = {"vocab": 7, "width": 8, "hidden": 12, "layers": 1, "heads": 2, "kv_heads": 1}
    answer = report(
        "llama-1b", "--dtype", "bfloat16", "--kwargs", json.dumps(config), "--out", str(out)
    )
    model = build("llama-1b", torch.bfloat16, **config)
    safetensors.torch.load_model(model, out)
    assert answer["parameters"] == sum(p.numel() for p in model.parameters())


def test_tied_weights_are_written_once_and_load(tmp_path: Path) -> None:
    out = tmp_path / "net.safetensors"
    answer = report(NET, "--kwargs", '{"tie": true}', "--out", str(out))
    assert {layer["name"]: layer["tied"] for layer in answer["layers"] if layer["tied"]} == {
        "embedding.weight": ["head.weight"]
    }
    names = {"embedding.weight", "head.weight"}
    assert len(names & safetensors.torch.load_file(out).keys()) == 1

    from pyinit_user_net import Net  # type: ignore[import-not-found]  # noqa: PLC0415

    net = Net(tie=True)
    safetensors.torch.load_model(net, out)
    assert not net.head.weight[1].any()
    assert net.head.weight[2].any()


@pytest.mark.parametrize("recipe", ["torch", "normal", "xavier", "kaiming", "orthogonal"])
def test_same_seed_same_bytes(
    tmp_path: Path, recipe: str, set_threads: Callable[[int], None]
) -> None:
    for seed, threads in ((5, 1), (5, 3), (6, 1)):
        set_threads(threads)
        out = tmp_path / f"{seed}-{threads}"
        report(NET, "--recipe", recipe, "--seed", str(seed), "--out", str(out))
    assert (tmp_path / "5-1").read_bytes() == (tmp_path / "5-3").read_bytes()
    head, other = (
        safetensors.torch.load_file(tmp_path / name)["head.weight"] for name in ("5-1", "6-1")
    )
    assert not torch.equal(head, other)


def test_a_seed_gives_what_it_gives_whatever_was_drawn_before(
    user_module: Path, tmp_path: Path
) -> None:
    """The first time, the module is imported: it draws then, and the second time it does not."""
    (user_module / "pyinit_drawing_net.py").write_text(DRAWING_MODULE)
    try:
        for name in "ab":
            report("pyinit_drawing_net:Net", "--seed", "5", "--out", str(tmp_path / name))
    finally:
        sys.modules.pop("pyinit_drawing_net", None)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_report_has_every_parameter_and_the_times() -> None:
    answer = report(NET, "--recipe", "torch", "--seed", "1")
    assert [layer["name"] for layer in answer["layers"]] == [
        "raw",
        "embedding.weight",
        "norm.weight",
        "norm.bias",
        "head.weight",
    ]
    layers = {layer["name"]: layer for layer in answer["layers"]}
    assert layers["raw"]["initializer"] == {"name": "keep"}
    assert layers["embedding.weight"]["initializer"] == {
        "name": "padded",
        "initializer": {"name": "normal", "mean": 0.0, "std": 1.0},
        "row": 1,
    }
    norm = layers["norm.weight"]
    assert (norm["shape"], norm["mean"], norm["std"]) == ([6], 1.0, 0.0)
    assert (answer["parameters"], answer["initialized"]) == (3 + 54 + 12 + 54, 54 + 12 + 54)
    assert answer["pyinit_seconds"] > 0
    assert answer["ratio"] == pytest.approx(answer["torch_seconds"] / answer["pyinit_seconds"])
    assert answer["torch_error"] is None


def test_model_without_parameters_is_only_reported() -> None:
    result = run("torch.nn:Identity")
    assert result.exit_code == 0, result.output
    assert "initialized 0 of 0 parameters" in result.stdout


def test_what_torch_cannot_do_is_said() -> None:
    answer = report(NET, "--recipe", "orthogonal", "--dtype", "bfloat16")
    assert answer["torch_seconds"] is None
    assert answer["ratio"] is None
    assert answer["torch_error"].startswith("head.weight: ")
    assert (
        "torch.nn.init cannot: head.weight"
        in run(NET, "--recipe", "orthogonal", "--dtype", "bfloat16").stdout
    )


def test_model_without_memory_gets_some(tmp_path: Path) -> None:
    out = tmp_path / "net.safetensors"
    answer = report("pyinit_user_net:meta", "--recipe", "xavier", "--out", str(out))
    assert answer["torch_error"] == "weight: it has no memory yet"
    assert safetensors.torch.load_file(out)["weight"].all()


def test_rules_of_a_file_go_before_its_recipe(user_module: Path) -> None:
    answer = report(NET, "--recipe", str(user_module / "good.toml"))
    layers = {layer["name"]: layer for layer in answer["layers"]}
    assert layers["head.weight"]["initializer"] == {"name": "normal", "mean": 0.0, "std": 0.5}
    assert layers["head.weight"]["why"] == "rule 1: head.*"
    assert (layers["raw"]["mean"], layers["raw"]["std"]) == (2.0, 0.0)
    assert layers["embedding.weight"]["why"] == "embedding"
    assert answer["initialized"] == answer["parameters"]


def test_recipe_that_the_models_module_registers(
    user_module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(pyinit.recipes()))
    (user_module / "pyinit_user_recipe.py").write_text(USER_RECIPE)
    answer = report("pyinit_user_recipe:Net", "--recipe", "all_three")
    assert [layer["mean"] for layer in answer["layers"]] == [3.0, 3.0]


def test_recipes_are_listed() -> None:
    result = run("--list-recipes")
    assert result.exit_code == 0
    first_words = {line.partition(" ")[0] for line in result.stdout.splitlines()}
    assert pyinit.recipes().keys() <= first_words


def test_report_file_replays_what_was_written(tmp_path: Path) -> None:
    file, out = tmp_path / "report.json", tmp_path / "net.safetensors"
    report(NET, "--recipe", "kaiming", "--seed", "3", "--report", str(file), "--out", str(out))
    from pyinit_user_net import Net  # noqa: PLC0415

    net = Net()
    done = pyinit.replay_(net, pyinit.InitReport.load(file), strict=False)
    assert [name for name, _ in done.skipped] == ["raw"]  # which the recipe leaves as it is
    written = safetensors.torch.load_file(out)
    for name in ("embedding.weight", "norm.weight", "norm.bias", "head.weight"):
        assert torch.equal(net.get_parameter(name), written[name])


@pytest.mark.parametrize("how", [(), ("--dry-run",), ("--from", "weights.safetensors")])
def test_report_file_may_be_a_page(
    how: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    safetensors.torch.save_file({"norm.weight": torch.ones(6)}, "weights.safetensors")
    result = run(NET, "--recipe", "kaiming", "--report", "start.html", *how)
    assert result.exit_code == 0, result.output
    page = (tmp_path / "start.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "embedding.<wbr>weight" in page


@pytest.mark.parametrize("model", [NET, "pyinit_user_net:picky", "vit-b16", "llama-1b"])
@pytest.mark.parametrize("recipe", ["torch", "xavier"])
def test_dry_run_says_what_would_be_done(tmp_path: Path, model: str, recipe: str) -> None:
    file = tmp_path / "report.json"
    arguments = (model, "--recipe", recipe, "--seed", "2", "--report", str(file))
    result = run(*arguments, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "would initialize" in result.stdout
    planned = pyinit.InitReport.load(file)
    assert planned.dry_run
    assert {row.mean for row in planned} == {None}
    if "-" not in model:
        report(*arguments)
        done = [(r.name, r.initializer, r.key, r.stream) for r in pyinit.InitReport.load(file)]
        assert [(r.name, r.initializer, r.key, r.stream) for r in planned] == done


def test_dry_run_takes_no_time_to_compare() -> None:
    answer = report(NET, "--dry-run")
    assert answer["pyinit_seconds"] is answer["torch_seconds"] is answer["ratio"] is None


def test_weights_come_from_a_file_and_the_rest_from_the_recipe(tmp_path: Path) -> None:
    source, out, file = (
        tmp_path / name for name in ("in.safetensors", "out.safetensors", "r.json")
    )
    weights = {"embedding.weight": torch.randn(9, 6), "norm.weight": torch.randn(6)}
    safetensors.torch.save_file({**weights, "tail": torch.ones(2)}, source)
    arguments = ("--from", str(source), "--recipe", "xavier", "--seed", "4")
    answer = report(NET, *arguments, "--out", str(out), "--report", str(file))
    written = safetensors.torch.load_file(out)
    assert all(torch.equal(written[name], value) for name, value in weights.items())
    assert answer["loaded"]["loaded"] == list(weights)
    assert answer["loaded"]["unexpected"] == ["tail"]
    assert json.loads(file.read_text()) == answer["loaded"]
    assert [layer["name"] for layer in answer["layers"]] == ["norm.bias", "head.weight"]
    assert (answer["parameters"], answer["initialized"]) == (3 + 54 + 12 + 54, 6 + 54)
    assert answer["torch_seconds"] is None
    with safe_open(out, "pt") as opened:
        assert opened.metadata()["from"] == str(source)

    plain = tmp_path / "plain.safetensors"
    report(NET, "--recipe", "xavier", "--seed", "4", "--out", str(plain))
    assert torch.equal(written["head.weight"], safetensors.torch.load_file(plain)["head.weight"])
    printed = run(NET, *arguments).stdout
    assert "unexpected" in printed
    assert "loaded in" in printed


@pytest.mark.parametrize(
    ("arguments", "argument", "message"),
    [
        (["nope"], "MODEL", "gpt2, lenet5, resnet50, vit-b16, llama-1b"),
        (["nope:"], "MODEL", "package.module:factory"),
        (["no_such_module_anywhere:f"], "MODEL", "no_such_module_anywhere"),
        (["pyinit_bad_net:f"], "MODEL", "no_such_module_anywhere"),
        (["pyinit_user_net:missing"], "MODEL", "missing"),
        (["pyinit_user_net:nn"], "MODEL", "not a factory"),
        (["pyinit_user_net:instance"], "MODEL", "not a factory"),
        (["pyinit_user_net:number"], "MODEL", "returned int"),
        (["pyinit_user_net:broken"], "MODEL", "OSError: first line second line"),
        (["pyinit_user_net:lazy"], "MODEL", "parameter weight has no shape yet"),
        (["pyinit_user_net:expanded"], "--recipe", "weight has elements that share memory"),
        (["gpt2", "--kwargs", '{"heads": 7}'], "MODEL", "heads 7"),
        ([NET, "--kwargs", "{"], "--kwargs", "not JSON"),
        ([NET, "--kwargs", "[1]"], "--kwargs", "JSON object"),
        ([NET, "--kwargs", '{"depth": 1}'], "--kwargs", "'depth'"),
        (["gpt2", "--kwargs", '{"depth": 1}'], "--kwargs", "'depth'"),
        (["torch.nn:Linear"], "--kwargs", "'in_features'"),
        ([NET, "--recipe", "kaimin"], "--recipe", "did you mean kaiming"),
        ([NET, "--recipe", "mup"], "--recipe", "base"),
        ([NET, "--recipe", "missing.toml"], "--recipe", "No such file"),
        ([NET, "--from", "missing.safetensors"], "--from", "does not exist"),
        ([CHAIN, "--method", "lsu", *DATA], "--method", "did you mean lsuv"),
        ([CHAIN, "--method", "lsuv"], "--data", "the method lsuv needs it to measure on"),
        (
            [CHAIN, "--method", "metainit"],
            "--shape",
            "the method metainit needs the sizes of a sample, such as 3x224x224, or --data",
        ),
        ([CHAIN, "--shape", "8"], "--shape", "no method measures on it: give --method"),
        ([CHAIN, *LSUV, "--shape", "3x"], "--shape", "'3x' is not sizes such as 3x224x224"),
        ([CHAIN, "--option", "a=1"], "--option", "it is of a method: give --method"),
        ([CHAIN, *DATA], "--data", "no method measures on it: give --method"),
        ([CHAIN, *LSUV, "--dry-run"], "--dry-run", "leave out --method and its data"),
        ([CHAIN, *DATA, "--dry-run"], "--dry-run", "leave out --method and its data"),
        ([CHAIN, *LSUV, "--from", os.devnull], "--from", "leave out --method and its data"),
        ([CHAIN, *LSUV, "--recipe", "kaimin"], "--recipe", "did you mean kaiming"),
        ([CHAIN, *LSUV, "--recipe", "fixup"], "--recipe", "fixup cannot initialize the model"),
        (
            [CHAIN, *LSUV, "--report", "x.json", "--out", "x.safetensors"],
            "--report",
            "tensors that belong to x.json go to x.safetensors, which --out writes",
        ),
        ([CHAIN, "--method", "lsuv", "--data", "cats"], "--data", "no data set is named 'cats'"),
        ([CHAIN, "--method", "lsuv", "--data", "no.npy"], "--data", "cannot read no.npy"),
        ([CHAIN, *LSUV, "--batch", "0"], "--batch", "range"),
        ([NET, "--dry-run", "--out", "x"], "--dry-run", "--out"),
        ([NET, "--report", "x", "--out", "x"], "--report", "--out writes x, too"),
        ([NET, "--report", "missing-folder/x"], "--report", "No such file"),
        ([NET, "--report", "x" * 300], "--report", "File name too long"),
        ([NET, "--report", "x.csv"], "--report", "x.csv would be a .json or .html file"),
        ([NET, "--report", "x.safetensors"], "--report", "would be a .json or .html file"),
        ([NET, "--dtype", "int8"], "--dtype", "'bfloat16'"),
        ([NET, "--seed", "-1"], "--seed", "range"),
        ([NET, "--seed", "x"], "--seed", "integer"),
        ([NET, "--out", "missing-folder/x"], "--out", "No such file"),
        ([NET, "--out", "."], "--out", "not a regular file"),
        ([NET, "--out", "model.pt"], "--out", "model.pt would be a .safetensors file"),
        ([NET, "--out", "model.json"], "--out", "would be a .safetensors file"),
        ([NET, "--out", os.devnull], "--out", "not a regular file"),
        (["pyinit_user_net:views", "--out", "x"], "--out", "Refusing to save"),
        (EXTRA, "--out", "safetensors files hold only tensors, not _extra_state"),
    ],
)
def test_bad_input_is_one_clear_line(
    arguments: list[str],
    argument: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    *_, line = result.stderr.splitlines()
    assert line.startswith(f"Error: Invalid value for '{argument}': ")
    assert message in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("option", "name", "message"),
    [
        ("--recipe", "broken.toml", "not valid TOML"),
        ("--recipe", "unknown.toml", "did you mean xavier_normal"),
        ("--recipe", "nothing.json", "matches no parameter"),
        ("--recipe", "cannot.json", "cannot fill norm.weight"),
        ("--recipe", "unknown-method.toml", "did you mean lsuv"),
        ("--recipe", "unknown-option.toml", "no option 'tol'"),
        ("--from", "damaged.safetensors", "damaged.safetensors"),
        ("--from", "code.pt", "code.pt"),
        ("--from", "other.safetensors", "name and shape of any parameter"),
    ],
)
def test_bad_file_is_one_clear_line(
    option: str, name: str, message: str, user_module: Path
) -> None:
    result = run(NET, option, str(user_module / name))
    assert (result.exit_code, result.stdout) == (2, "")
    *_, line = result.stderr.splitlines()
    assert line.startswith(f"Error: Invalid value for '{option}': ")
    assert message in line
    assert not Path("executed").exists()


def test_a_method_goes_over_the_weights_and_its_report_gives_them_again(tmp_path: Path) -> None:
    file, out = tmp_path / "report.json", tmp_path / "net.safetensors"
    result = run(CHAIN, *LSUV, "--seed", "3", "--report", str(file), "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "lsuv: 2 layers" in result.stdout
    assert "lsuv took" in result.stdout
    from pyinit_user_net import batch, chain  # noqa: PLC0415

    expected, again = chain(), chain()
    x, y = batch()
    order = torch.randperm(40, generator=torch.Generator().manual_seed(3))
    done = pyinit.lsuv_(expected, (x[order], y[order]), seed=3)
    assert pyinit.LsuvReport.load(file) == done
    pyinit.replay_(again, done)
    written = safetensors.torch.load_file(out)
    for name, value in expected.state_dict().items():
        assert torch.equal(written[name], value)
        assert torch.equal(again.state_dict()[name], value)
    with safe_open(out, "pt") as opened:
        told = opened.metadata()
    assert (told["method"], told["recipe"]) == ("lsuv", "orthogonal")
    assert told["data"].startswith("pyinit_user_net:batch: 40 samples of 8")


def test_the_report_of_a_method_may_be_a_page(tmp_path: Path) -> None:
    file, out = tmp_path / "net.html", tmp_path / "net.safetensors"
    result = run(CHAIN, *LSUV, "--report", str(file), "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "Initialization from data: lsuv" in file.read_text()
    assert {*tmp_path.iterdir()} == {file, out}


def test_a_method_begins_with_the_recipe_that_is_given() -> None:
    answer = report(CHAIN, *LSUV, "--recipe", "kaiming", "--batch", "16")
    assert answer["recipe"] == "kaiming"
    assert answer["method"]["name"] == "lsuv"
    assert [row["name"] for row in answer["method"]["layers"]] == ["0", "2"]
    assert answer["layers"][0]["initializer"]["name"] == "kaiming_normal"
    assert "16 samples" in answer["data"]
    assert answer["torch_seconds"] is None


def test_a_recipe_file_names_a_method_with_options(user_module: Path) -> None:
    answer = report(CHAIN, "--recipe", str(user_module / "after.toml"), *DATA)
    assert answer["method"]["name"] == "lsuv(tolerance=0.02)"
    layers = {layer["name"]: layer for layer in answer["layers"]}
    assert layers["0.weight"]["initializer"]["name"] == "kaiming_normal"
    assert layers["2.bias"]["mean"] == 0.5


@pytest.mark.parametrize(
    ("arguments", "option", "message"),
    [
        ([], "--data", "the method lsuv needs it to measure on"),
        (LSUV, "--method", "names the method lsuv(tolerance=0.02), too"),
        (["--from", os.devnull], "--from", "the method lsuv begins with a recipe"),
    ],
)
def test_what_does_not_go_with_a_recipe_file_that_names_a_method_is_named(
    arguments: list[str], option: str, message: str, user_module: Path
) -> None:
    result = run(CHAIN, "--recipe", str(user_module / "after.toml"), *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    *_, line = result.stderr.splitlines()
    assert line.startswith(f"Error: Invalid value for '{option}': ")
    assert message in line


def test_a_dry_run_of_a_recipe_file_plans_what_its_method_begins_with(user_module: Path) -> None:
    result = run(CHAIN, "--recipe", str(user_module / "after.toml"), "--dry-run")
    assert result.exit_code == 0, result.output
    assert "would initialize 4 of 4 parameters" in result.stdout


def test_data_that_the_model_does_not_take_are_named_and_nothing_is_written(
    tmp_path: Path,
) -> None:
    result = run(NET, *LSUV, "--out", str(tmp_path / "x"))
    assert (result.exit_code, result.stdout) == (1, "")
    start = "Error: method lsuv cannot initialize pyinit_user_net:Net on pyinit_user_net:batch: 40"
    assert result.stderr.startswith(start)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_data_have_the_dtype_of_the_parameters(dtype: str) -> None:
    answer = report(CHAIN, *LSUV, "--dtype", dtype)
    assert {layer["dtype"] for layer in answer["layers"]} == {dtype}
    assert all(row["after"] == pytest.approx(1, abs=0.02) for row in answer["method"]["layers"])


def test_data_may_be_an_array_in_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(50, 8)).astype("f4"))
    answer = report(CHAIN, "--method", "lsuv", "--data", str(tmp_path / "x.npy"))
    assert answer["data"].endswith("x.npy: 50 samples of 8, float32")


def test_methods_are_listed() -> None:
    result = run("--list-methods")
    assert result.exit_code == 0
    first_words = {line.partition(" ")[0] for line in result.stdout.splitlines()}
    assert pyinit.methods().keys() <= first_words


def test_what_a_method_needs_is_listed() -> None:
    lines = [line.split() for line in run("--list-methods").stdout.splitlines()]
    needs = {words[0]: words[1:] for words in lines if words}
    assert needs["lsuv"][0] == "data"
    assert needs["metainit"][:3] == ["shape", "or", "data"]
    assert needs["autoinit"][0] == "Give"  # nothing: what it does


def test_a_method_that_needs_no_data_asks_for_none() -> None:
    answer = report(CHAIN, "--method", "autoinit")
    assert answer["method"]["name"] == "autoinit"
    assert "data" not in answer


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_method_draws_inputs_of_a_shape(dtype: str) -> None:
    answer = report(
        *(CHAIN, "--method", "metainit", "--shape", "8", "--batch", "16", "--seed", "1"),
        *("--option", "steps=5", "--dtype", dtype),
    )
    from pyinit_user_net import chain  # noqa: PLC0415

    done = pyinit.metainit_(chain().to(getattr(torch, dtype)), (16, 8), steps=5, seed=1)
    assert answer["method"]["totals"] == done.totals
    assert answer["data"] == "normal random numbers: 16 samples of 8"


def test_a_shape_will_do_for_methods_that_measure_on_a_batch() -> None:
    answer = report(CHAIN, "--method", "lsuv", "--shape", "8", "--batch", "16")
    assert answer["data"] == "normal random numbers: 16 samples of 8, float32"
    assert all(row["after"] == pytest.approx(1, abs=0.02) for row in answer["method"]["layers"])


def test_options_go_to_the_method() -> None:
    options = ["--option", "tolerance=0.05", "--option", "iterations=3"]
    answer = report(CHAIN, *LSUV, *options)
    assert answer["method"]["name"] == "lsuv(tolerance=0.05, iterations=3)"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("zca", "zca"),
        ('"zca"', "zca"),
        ("a b", "a b"),
        ("[1,", "[1,"),
        ("3\nother = 1", "3\nother = 1"),
    ],
)
def test_a_value_that_is_none_in_toml_is_a_text(text: str, value: str) -> None:
    assert read_value(text) == value


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["tolerances=1"], "method 'lsuv' has no option 'tolerances'; did you mean tolerance or"),
        (["tolerance=0.0.5"], "'tolerance' of method 'lsuv' must be a number, got '0.0.5'"),
        (["tolerance=true"], "must be a number, got True"),
        (["tolerance=[1]"], "must be a number, got [1]"),
        (["iterations=2.5"], "'iterations' of method 'lsuv' must be a whole number, got 2.5"),
        (["seed=1"], "has no option 'seed'"),
        (["tolerance"], "'tolerance' is not NAME=VALUE, such as tolerance=0.05"),
        (["=1"], "'=1' is not NAME=VALUE"),
        (["tolerance=1", "tolerance=2"], "tolerance is given twice"),
    ],
)
def test_options_that_a_method_does_not_take_are_named(options: list[str], message: str) -> None:
    arguments = [part for each in options for part in ("--option", each)]
    result = run(CHAIN, *LSUV, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    *_, line = result.stderr.splitlines()
    assert line.startswith("Error: Invalid value for '--option': ")
    assert message in line


def test_options_that_only_python_has_are_named() -> None:
    result = run(CHAIN, "--method", "gradinit", *DATA, "--option", "loss=f")
    assert "'loss' of method 'gradinit' can be given in Python only, got 'f'" in result.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder_is_refused_before_the_work(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    result = run("pyinit_user_net:broken", "--out", str(tmp_path / "x"))
    assert result.exit_code == 2
    assert "'--out'" in result.stderr


@pytest.mark.parametrize("option", ["--out", "--report"])
@pytest.mark.parametrize("path", ["/no/such/folder/x", "x.onnx"])
def test_output_is_checked_before_the_model_is_built(option: str, path: str) -> None:
    result = run("pyinit_user_net:broken", option, path)
    assert f"'{option}'" in result.stderr


@pytest.mark.parametrize("arguments", [["pyinit_user_net:views", "--out", "x"], EXTRA])
def test_a_model_that_cannot_be_written_is_known_before_the_work(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[object] = []
    monkeypatch.setattr("pyinit.cli._timed.initialize", lambda *work: done.append(work))
    assert run(*arguments).exit_code == 2
    assert not done


def test_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "net.safetensors"
    out.write_text("old")

    def full(_: nn.Module, path: str, __: dict[str, str]) -> None:
        Path(path).write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_output, "save_model", full)
    result = run(NET, "--out", str(out))
    assert result.exit_code == 2
    assert "No space left on device" in result.stderr
    assert out.read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]


def test_file_is_replaced_through_a_link_and_readable_by_all(tmp_path: Path) -> None:
    out, link = tmp_path / "net.safetensors", tmp_path / "link"
    link.symlink_to(out)
    usual = os.umask(0o022)
    try:
        report(NET, "--out", str(link))
    finally:
        os.umask(usual)
    assert link.is_symlink()
    assert out.stat().st_mode & 0o777 == 0o644


def test_installed_command_finds_models_in_the_current_folder(user_module: Path) -> None:
    command = [sys.executable, "-m", "pyinit", "init", NET, "--out", "x.safetensors", "--json"]
    result = subprocess.run(command, cwd=user_module, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["out"] == "x.safetensors"
    assert (user_module / "x.safetensors").is_file()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_ended_while_it_writes_leaves_the_old_file(
    number: int, user_module: Path, tmp_path: Path
) -> None:
    out = tmp_path / "w.safetensors"
    out.write_bytes(b"old")
    program = f"""
import os, signal
from pyinit.cli import _output, main

# As usual: what was started by nohup, or in the background, ignores some.
signal.signal({int(number)}, signal.default_int_handler if {int(number)} == signal.SIGINT else signal.SIG_DFL)

def ended(path):  # the file is written beside, and not yet renamed
    os.kill(os.getpid(), {int(number)})

_output._sort_metadata = ended
main(["init", "pyinit_user_net:Net", "--out", {str(out)!r}])
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=user_module,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == (1 if number == signal.SIGINT else 128 + number), ended.stderr
    assert out.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["w.safetensors"]


@pytest.mark.parametrize("recipe", ["orthogonal", "gpt2"])
def test_a_replay_writes_the_same_file(recipe: str, tmp_path: Path) -> None:
    report, first, second = (
        tmp_path / name for name in ("r.json", "a.safetensors", "b.safetensors")
    )
    made = run(
        "lenet5", "--recipe", recipe, "--seed", "7", "--report", str(report), "--out", str(first)
    )
    assert made.exit_code == 0, made.output
    again = run("lenet5", "--replay", str(report), "--out", str(second), "--json")
    assert again.exit_code == 0, again.output
    told = json.loads(again.stdout)
    assert (told["recipe"], told["seed"], told["replay"]) == (recipe, 7, str(report))
    one, other = (safetensors.torch.load_file(path) for path in (first, second))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_replay_of_a_methods_report(tmp_path: Path) -> None:
    report, first, second = (
        tmp_path / name for name in ("r.json", "a.safetensors", "b.safetensors")
    )
    method = ("--method", "lsuv", "--shape", "1x28x28", "--batch", "8")
    made = run("lenet5", *method, "--report", str(report), "--out", str(first))
    assert made.exit_code == 0, made.output
    again = run("lenet5", "--replay", str(report), "--out", str(second))
    assert again.exit_code == 0, again.output
    one, other = (safetensors.torch.load_file(path) for path in (first, second))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--recipe", "gpt2"),
        ("--method", "lsuv"),
        ("--shape", "1x28x28"),
        ("--dry-run",),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_replay_goes_alone(arguments: tuple[str, ...], tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    pyinit.initialize_(build("lenet5"), seed=1).save(report)
    result = run("lenet5", "--replay", str(report), *arguments)
    assert result.exit_code == 2
    assert "--replay" in result.stderr
    assert "the report says all that is done" in " ".join(result.stderr.split())


def test_a_replay_of_another_model_names_what_does_not_fit(tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    pyinit.initialize_(nn.Linear(3, 2), seed=1).save(report)
    result = run("lenet5", "--replay", str(report))
    assert result.exit_code == 2
    assert "the model has no such parameter" in " ".join(result.stderr.replace("│", " ").split())


def test_a_dry_run_with_weights_says_what_would_be_loaded(tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    state = build("lenet5").state_dict()
    safetensors.torch.save_file({name: state[name] for name in list(state)[:4]}, weights)
    told = report("lenet5", "--from", str(weights), "--dry-run")["loaded"]
    assert told == report("lenet5", "--from", str(weights))["loaded"]
    assert sorted(told["loaded"]) == sorted(list(state)[:4])
    refused = run(
        "lenet5", "--from", str(weights), "--dry-run", "--out", str(tmp_path / "o.safetensors")
    )
    assert refused.exit_code == 2
    assert not (tmp_path / "o.safetensors").exists()
