"""What ``initialize_`` reports, and the same again from the report."""

import copy
import dataclasses
import json
import math
import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bits import bits
from torch import nn
from torch.nn.utils import parametrizations

import pyinit
from pyinit import InitReport, Rule, initialize_, initializers, replay_


def assert_same(model: nn.Module, other: nn.Module) -> None:
    one, two = model.state_dict(), other.state_dict()
    assert one.keys() == two.keys()
    assert [n for n in one if not torch.equal(bits(one[n]), bits(two[n]))] == []


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(5, 4))

    def reset_parameters(self) -> None:
        nn.init.normal_(self.table)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 4)
        self.norm = nn.LayerNorm(16)
        self.up = nn.Linear(16, 32)


def blocks() -> nn.Module:
    return nn.ModuleDict(
        {
            "embed": nn.Embedding(11, 16, padding_idx=-1),
            "h": nn.ModuleList(Block() for _ in range(3)),
        }
    )


def half() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 6), nn.Conv2d(6, 6, 3)).to(torch.bfloat16)


MODELS: dict[str, tuple[Callable[[], nn.Module], str, Any]] = {
    "torch": (lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)), "torch", None),
    "own reset": (lambda: nn.Sequential(nn.Linear(3, 3), Own(), Own()), "torch", None),
    "weight norm": (lambda: parametrizations.weight_norm(nn.Linear(5, 6)), "xavier", None),
    "spectral norm": (lambda: parametrizations.spectral_norm(nn.Linear(5, 6)), "xavier", None),
    "padding": (blocks, "gpt2", None),
    "mimetic": (blocks, "mimetic", None),
    "delta orthogonal": (lambda: nn.Conv2d(4, 9, 3), "delta_orthogonal", None),
    "gates": (lambda: nn.LSTM(5, 7, num_layers=2), "lstm", None),
    "bfloat16": (half, "normal", None),
    "rules": (
        blocks,
        "torch",
        [
            ("*.up.weight", {"name": "sparse", "sparsity": 0.3}),
            ("*.up.bias", initializers.TruncNormal(0, 1, -math.inf, 1.0)),
            ("*.norm.bias", initializers.Constant(-math.inf)),
            Rule("*.norm.weight", initializers.PriorBias(0.1)),
        ],
    ),
    "auto": (blocks, "auto", None),
}


# From torch's generator, without keys, nothing can be replayed.
@pytest.mark.parametrize(("choice", "seed"), [("philox", None), ("philox", 3), ("torch", 3)])
@pytest.mark.parametrize("name", MODELS)
def test_a_saved_report_replays_to_the_same_bits(
    name: str, seed: int | None, choice: str, tmp_path: Path
) -> None:
    build, recipe, rules = MODELS[name]
    model = build()
    with pyinit.rng(choice):
        report = initialize_(model, recipe, rules=rules, seed=seed)
    report.save(tmp_path / "report.json")
    loaded = InitReport.load(tmp_path / "report.json")
    assert loaded.to_dict() == report.to_dict()
    if not rules:  # moments that are not finite are none
        assert loaded == report
    state = torch.get_rng_state()
    fresh = build()
    with torch.device("meta"):
        empty = build()
    torch.set_rng_state(state)
    for other in (fresh, empty):
        replay_(other, loaded)
        assert_same(other, model)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_row_says_everything_about_its_parameter() -> None:
    model = nn.ModuleDict(
        {
            "conv": nn.ConvTranspose2d(6, 8, 3, groups=2),
            "embed": nn.Embedding(5, 4),
            "head": nn.Linear(4, 5, bias=False),
            "odd": nn.Embedding(0, 3),
            "normed": parametrizations.weight_norm(nn.Linear(3, 3)),
        }
    )
    model["head"].weight = model["embed"].weight
    report = initialize_(model, "xavier", seed=12)
    row = report["conv.weight"]
    assert (row.name, row.shape, row.dtype, row.module) == (
        "conv.weight",
        (6, 4, 3, 3),
        "float32",
        "ConvTranspose2d",
    )
    assert (row.fan_in, row.fan_out, row.elements) == (3 * 9, 4 * 9, 216)
    assert row.initializer == initializers.XavierUniform()
    assert row.target_std == pytest.approx(math.sqrt(2 / (27 + 36)))
    values = model["conv"].weight.detach().double()
    assert (row.min, row.max) == (values.min().item(), values.max().item())
    assert row.mean == pytest.approx(values.mean().item(), abs=1e-7)
    assert row.std == pytest.approx(values.std(correction=0).item(), rel=1e-6)
    assert row.key == 12
    assert not row.is_kept
    bias = report["conv.bias"]
    assert (bias.fan_in, bias.fan_out, bias.target_std, bias.std) == (None, None, 0.0, 0.0)
    assert report["head.weight"].name == "embed.weight"
    assert report["head.weight"].tied == ("head.weight",)
    empty = report["odd.weight"]
    assert (empty.elements, empty.mean, empty.std, empty.min, empty.max) == (0, *[None] * 4)
    originals = [f"normed.parametrizations.weight.original{i}" for i in (0, 1)]
    assert report["normed.weight"].originals == tuple(originals)
    assert report[originals[1]] is report["normed.weight"]
    with pytest.raises(KeyError, match=r"normed\.original"):
        report["normed.original"]


def test_a_report_says_what_was_asked_for() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    report = initialize_(
        model,
        pyinit.recipe("kaiming", mode="fan_out"),
        rules={"0.bias": initializers.Constant(2.0)},
        skip="1.bias",
        seed=9,
    )
    assert report.recipe == "kaiming(mode='fan_out')"
    assert report.rules == ["0.bias -> constant(val=2)"]
    assert (report.seed, report.rng, report.graph, report.dry_run) == (9, "philox", None, False)
    assert report.version == pyinit.__version__
    assert (report.parameters, report.initialized) == (12 + 4 + 4 + 4, 12 + 4 + 4)
    assert len(report) == len(list(report)) == 4
    assert report.buffers == [("1", "reset_running_stats")]
    assert "3 of 4 parameters, 20 of 24 elements" in report.summary
    assert ", 1 rule, seed 9)" in report.summary
    value = report.to_dict()
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    assert InitReport.from_dict(value) == report
    fields = {field.name for field in dataclasses.fields(InitReport)} - {"version"}
    assert value.keys() == fields | {"format", "pyinit", "parameters", "initialized"}


@pytest.mark.parametrize("std", [np.float32(0.1), np.float64(0.1), torch.tensor(0.1)])
def test_an_argument_that_was_numpys_or_torchs_number_is_saved(std: Any, tmp_path: Path) -> None:
    rules = {"weight": initializers.Normal(std=std)}
    model, again = nn.Linear(4, 4), nn.Linear(4, 4)
    initialize_(model, rules=rules, seed=1).save(tmp_path / "a.json")
    loaded = InitReport.load(tmp_path / "a.json")
    assert loaded["weight"].initializer == initializers.Normal(std=float(std))
    replay_(again, loaded)
    assert torch.equal(model.weight, again.weight)


def test_values_that_are_not_finite_have_no_moments_in_json() -> None:
    model = nn.Linear(3, 3)
    report = initialize_(model, "zero", rules={"bias": initializers.Constant(math.inf)}, seed=1)
    assert math.isnan(report["bias"].std or 0)
    assert report.to_dict()["rows"][1]["std"] is None
    json.dumps(report.to_dict(), allow_nan=False)


# ---- As text ---------------------------------------------------------------------------------------


def names_in(text: str) -> set[str]:
    """The names that a table stands for, numbers in braces written out."""
    found, block = set(), ""
    for line in text.splitlines()[1:]:
        if not line.strip():
            break
        name, *columns = line.split()
        block = block if line.startswith("  ") else ""
        if columns:
            found |= written_out(block + name)
        else:
            block = name + "."
    return found


def written_out(name: str) -> set[str]:
    pieces = re.split(r"\{([\d,.-]+)\}", name)
    choices = [numbers(piece) if i % 2 else [piece] for i, piece in enumerate(pieces)]
    return set(map("".join, product(*choices)))


def numbers(text: str) -> list[str]:
    if "..." in text:
        first, second, _, last = text.split(",")
        return list(map(str, range(int(first), int(last) + 1, int(second) - int(first))))
    if "-" in text:
        first, last = text.split("-")
        return list(map(str, range(int(first), int(last) + 1)))
    return text.split(",")


@pytest.mark.parametrize("recipe", ["torch", "gpt2"])
def test_the_table_names_every_parameter(recipe: str) -> None:
    model = blocks()
    model["h"][1].up = nn.Linear(16, 8)
    model["head"] = nn.Linear(16, 11, bias=False)
    model["head"].weight = model["embed"].weight
    model["deep"] = nn.ModuleList([nn.ModuleList([nn.Linear(2, 2) for _ in range(2)])] * 1)
    report = initialize_(model, recipe, seed=1)
    assert names_in(str(report)) == {n for n, _ in model.named_parameters(remove_duplicate=False)}
    assert str(report).splitlines()[-1] == report.summary


def test_blocks_of_every_other_number_stand_in_lines_of_their_own() -> None:
    model = nn.Sequential(*(part for _ in range(5) for part in (nn.Linear(8, 8), nn.ReLU())))
    first = [
        line.split("  ")[0] for line in str(initialize_(model, "kaiming", seed=1)).splitlines()
    ]
    assert first[1] == "{0,2,...,8}"
    assert names_in(str(initialize_(model, "kaiming", seed=1))) == set(model.state_dict())


def test_a_report_has_the_names_that_it_has_rows_for() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    report = initialize_(model, "torch", seed=1)
    assert "0.weight" in report
    assert "1.weight" in report
    assert report["0.bias"] in report
    assert "0.weigh" not in report
    assert 0 not in report
    with pytest.raises(KeyError, match="no parameter 0; known are"):
        report[0]  # type: ignore[index]


def test_a_long_name_is_printed_whole() -> None:
    model = nn.Module()
    name = "x".join(f"part{chr(97 + i)}" for i in range(18))
    model.register_module(name, nn.Linear(2, 2))
    text = str(initialize_(model, "torch", seed=1))
    assert f"{name}.weight" in "".join(line.split(" ")[0] for line in text.splitlines())


def test_a_report_without_parameters_prints_its_summary() -> None:
    report = initialize_(nn.ReLU(), "torch", seed=1)
    assert "initialized 0 of 0 parameters" in str(report)
    assert (report.parameters, len(report)) == (0, 0)


# ---- What replay_ refuses --------------------------------------------------------------------------


def pair() -> nn.ModuleDict:
    return nn.ModuleDict({"a": nn.Linear(3, 4), "b": nn.Linear(4, 2)})


def without(name: str) -> nn.Module:
    model = pair()
    del model[name]
    return model


def with_more() -> nn.Module:
    model = pair()
    model["c"] = nn.Linear(2, 2)
    return model


def of_shape() -> nn.Module:
    model = pair()
    model["b"] = nn.Linear(4, 3)
    return model


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: without("b"), r"2 of the parameters: b\.weight, b\.bias: the model has no such"),
        (with_more, r"c\.weight, c\.bias: the report has no row"),
        (of_shape, r"b\.weight: of shape \(3, 4\) in the model, \(2, 4\) in"),
    ],
)
def test_a_report_of_another_model_is_refused_before_anything_changes(
    build: Callable[[], nn.Module], message: str
) -> None:
    report = initialize_(pair(), "xavier", seed=1)
    model = build()
    before = copy.deepcopy(model)
    with pytest.raises(ValueError, match=message):
        replay_(model, report)
    assert_same(model, before)


def test_a_model_that_ties_what_the_report_has_apart_is_refused() -> None:
    model = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    report = initialize_(model, "xavier", seed=1)
    model["b"].weight = model["a"].weight
    before = copy.deepcopy(model)
    with pytest.raises(ValueError, match=r"b\.weight: the model ties it to a\.weight"):
        replay_(model, report)
    assert_same(model, before)


def test_numbers_that_came_from_torchs_generator_are_not_replayed() -> None:
    model = pair()
    with pyinit.rng("torch"):
        report = initialize_(model, "xavier")
    with pytest.raises(ValueError, match=r"a\.weight, a\.bias.* from torch's generator.*seed"):
        replay_(model, report)


def test_what_was_kept_has_no_values_on_the_meta_device() -> None:
    model = pair()
    model["b"].weight.requires_grad_(False)
    report = initialize_(model, "xavier", seed=1)
    with torch.device("meta"):
        empty = pair()
    with pytest.raises(ValueError, match=r"without values.*b\.weight"):
        replay_(empty, report)
    assert all(p.is_meta for p in empty.parameters())


@pytest.mark.parametrize(("model", "report"), [(None, None), (3, 3), (nn.ReLU(), {"rows": []})])
def test_other_types_are_refused(model: Any, report: Any) -> None:
    with pytest.raises(TypeError, match="must be"):
        replay_(model, report)


# ---- Files -----------------------------------------------------------------------------------------


def test_a_report_that_cannot_be_written_leaves_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = initialize_(pair(), "xavier", seed=1)
    with pytest.raises(FileNotFoundError):
        report.save(tmp_path / "missing" / "report.json")
    assert list(tmp_path.iterdir()) == []
    path = tmp_path / "report.json"
    path.write_text("before")

    def full(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="no space left"):
        report.save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]
    assert path.read_text() == "before"


GOOD = initialize_(nn.Linear(2, 2), "xavier", seed=1).to_dict()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "{}",
        '{"format": 1}',
        '{"format": 2}',
        json.dumps({**GOOD, "rows": 3}),
        json.dumps({**GOOD, "rows": [3]}),
        json.dumps({**GOOD, "rows": [{**GOOD["rows"][0], "shape": "ab"}]}),
        json.dumps({**GOOD, "rows": [{**GOOD["rows"][0], "key": "x"}]}),
        json.dumps({**GOOD, "rows": [{**GOOD["rows"][0], "initializer": {"name": "xavir"}}]}),
        json.dumps({**GOOD, "rows": [{**GOOD["rows"][0], "initializer": []}]}),
        json.dumps({**GOOD, "buffers": [1]}),
        json.dumps({**GOOD, "rng": "dice"}),
        *(json.dumps({**GOOD, "stream_version": x}) for x in (0, 3, "2", None, True, 2.0)),
    ],
)
def test_a_file_that_is_no_report_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(
        ValueError, match=f"^{re.escape(str(path))}: .*report|^{re.escape(str(path))}: not JSON"
    ):
        InitReport.load(path)


def test_binary_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ValueError, match="report"):
        InitReport.load(path)
