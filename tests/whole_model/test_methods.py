"""Data-driven methods by name, and in recipe files."""

import copy
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pyinit
from pyinit.whole_model.methods import _REGISTRY, Method, method, methods, register_method


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    before = dict(_REGISTRY)
    yield
    _REGISTRY.clear()
    _REGISTRY.update(before)


def batch() -> Tensor:
    return torch.randn(64, 8, generator=torch.Generator().manual_seed(0))


def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))


def test_methods_are_known_by_name_with_source_and_summary() -> None:
    assert "lsuv" in methods()
    assert methods()["lsuv"].summary.endswith(".")
    assert methods()["lsuv"].source


@pytest.mark.parametrize(
    ("name", "options", "what"),
    [
        ("lsvu", {}, "did you mean lsuv"),
        ("lsuv", {"tolerances": 1}, "tolerance"),
        ("lsuv", {"seed": 1}, "no option 'seed'"),
    ],
)
def test_unknown_methods_and_options_are_refused(name: str, options: Any, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        method(name, **options)


def test_methods_are_values_under_their_names() -> None:
    found = pyinit.methods.lsuv(tolerance=0.05)
    assert found == pyinit.method("lsuv", tolerance=0.05)
    assert pyinit.methods.lsuv == pyinit.method("lsuv") == methods()["lsuv"]
    assert found(iterations=2).options == {"tolerance": 0.05, "iterations": 2}
    report = found.run(model(), batch(), seed=0)
    assert report.init.method == "lsuv(tolerance=0.05)"
    with pytest.raises(ValueError, match=r"no option 'tolerances'; did you mean tolerance"):
        pyinit.methods.lsuv(tolerances=1)
    with pytest.raises(ValueError, match=r"no option 'x'; it has none"):
        pyinit.methods.autoinit(x=1)
    with pytest.raises(AttributeError, match=r"unknown method 'lsvu'; did you mean lsuv\?"):
        pyinit.methods.lsvu  # noqa: B018


def test_methods_are_listed_whichever_way_is_asked() -> None:
    assert {*methods()} <= {*dir(pyinit.methods)}
    lines = repr(pyinit.methods).splitlines()[1:]
    assert [line.split()[0] for line in lines] == [*methods()]
    assert all(
        line.endswith(each.summary) for line, each in zip(lines, methods().values(), strict=True)
    )


def test_a_registered_method_is_a_value_at_once() -> None:
    @register_method("mine", source="here", needs_data=False)
    def mine_(model: Any, data: Any, *, power: int = 2, seed: Any = None) -> None:
        """Does nothing."""

    assert str(pyinit.methods.mine(power=3)) == "mine(power=3)"


def test_the_register_is_one_value() -> None:
    assert pickle.loads(pickle.dumps(pyinit.methods)) is pyinit.methods
    assert copy.deepcopy(pyinit.methods) is pyinit.methods
    assert not hasattr(pyinit.methods, "_lsuv")


def test_methods_are_imported_when_one_is_asked_for() -> None:
    code = (
        "import sys, pyinit; hasattr(pyinit.methods, '__wrapped__'); "
        "print('pyinit.data_driven' in sys.modules); pyinit.methods.lsuv; "
        "print('pyinit.data_driven' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_a_name_is_given_once() -> None:
    with pytest.raises(ValueError, match="taken"):

        @register_method("lsuv")
        def other(model: Any, data: Any) -> None: ...


@pytest.mark.parametrize(("name", "error"), [(3, TypeError), (None, TypeError), ("", ValueError)])
def test_a_name_is_a_string(name: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="name must"):
        register_method(name)


def test_a_method_without_a_report_is_refused_by_name() -> None:
    mine = Method("mine", lambda *_: None, source="", needs_data=True)
    with pytest.raises(TypeError, match=r"method 'mine' must return a report.*NoneType"):
        mine.run(model(), batch())


def test_only_that_matches_nothing_is_refused_by_a_method_too(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text('recipe = "kaiming"\nafter = "lsuv"\n')
    with pytest.raises(ValueError, match="only='9' matches no parameter"):
        pyinit.initialize_(model(), tmp_path / "recipe.toml", data=batch(), only="9")


@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_a_recipe_file_names_a_method(tmp_path: Path, suffix: str) -> None:
    text = {
        ".toml": 'recipe = "kaiming"\nafter = { name = "lsuv", tolerance = 0.001 }\n'
        '[[rules]]\nname = "2.bias"\ninit = { name = "constant", val = 0.5 }\n',
        ".json": '{"recipe": "kaiming", "after": {"name": "lsuv", "tolerance": 0.001}, '
        '"rules": [{"name": "2.bias", "init": {"name": "constant", "val": 0.5}}]}',
    }
    path = tmp_path / f"recipe{suffix}"
    path.write_text(text[suffix])
    first = model()
    report = pyinit.initialize_(first, path, seed=3, data=batch())
    assert report.method == "lsuv(tolerance=0.001)"
    assert (report.recipe, report.seed, len(report.rules)) == ("kaiming", 3, 1)
    assert "then lsuv" in report.summary
    assert torch.equal(first[2].bias, torch.full((4,), 0.5))
    assert abs(first(batch()).std(correction=0) - 1) < 0.0011
    second = model().to("meta")
    pyinit.replay_(second, report)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_method_in_a_file_needs_data_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('after = "lsuv"\n')
    first = model()
    before = first[0].weight.clone()
    with pytest.raises(ValueError, match=r"'lsuv' measures on data.*data="):
        pyinit.initialize_(first, path)
    assert torch.equal(first[0].weight, before)
    assert pyinit.initialize_(first, path, dry_run=True).method == "lsuv"
    assert torch.equal(first[0].weight, before)


def test_data_without_a_method_is_refused() -> None:
    with pytest.raises(ValueError, match="after="):
        pyinit.initialize_(model(), "kaiming", data=batch())


@pytest.mark.parametrize(
    ("after", "what"),
    [
        ("3", "after must be a name"),
        ("{ tolerance = 1 }", "after must be a name"),
        ('"lsvu"', "did you mean lsuv"),
        ('{ name = "lsuv", x = 1 }', "no option 'x'"),
        ('{ name = "lsuv", tolerance = "a" }', "'tolerance' of method 'lsuv' must be a number"),
        ('{ name = "gradinit", loss = "f" }', "'loss' of method 'gradinit' can be given in Python"),
    ],
)
def test_a_wrong_method_in_a_file_is_named(tmp_path: Path, after: str, what: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(f"after = {after}\n")
    with pytest.raises(ValueError, match=rf"recipe\.toml.*{what}"):
        pyinit.initialize_(model(), path, data=batch())


def test_a_shape_will_do_for_a_method_that_draws_its_inputs(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('after = { name = "metainit", steps = 3 }\n')
    assert pyinit.initialize_(model(), path, seed=0, data=(16, 8)).method == "metainit(steps=3)"
    with pytest.raises(ValueError, match="'metainit' needs the shape of its inputs"):
        pyinit.initialize_(model(), path, seed=0)


def test_rules_and_only_go_to_the_base(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('recipe = "kaiming"\nafter = "lsuv"\n')
    first = model()
    before = first[0].weight.clone()
    report = pyinit.initialize_(first, path, seed=3, only="2.*", data=batch())
    assert torch.equal(first[0].weight, before)
    assert report["0.weight"].is_kept
    assert report["2.weight"].adjustment is not None


def test_a_base_with_a_method_of_its_own_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('after = "lsuv"\n')
    with pytest.raises(ValueError, match="base names the method lsuv"):
        pyinit.lsuv_(model(), batch(), base=path)
