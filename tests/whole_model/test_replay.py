"""What a report cannot give again: refused by name before anything is written, or skipped and told."""

import copy
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import pyinit
from pyinit import InitReport, initialize_, replay_


class Tokens(nn.Module):
    """As in timm: parameters that no recipe of torch's modules knows."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, 4))
        self.pos_embed = nn.Parameter(torch.randn(1, 5, 4))
        self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))


class Own(nn.Module):
    """Resets itself, with numbers from everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(3))

    def reset_parameters(self) -> None:
        numbers = [torch.rand(()).item(), random.random(), np.random.rand()]
        self.scale.data.copy_(torch.tensor(numbers))


def layers(*changes: Callable[[nn.Module], Any]) -> nn.ModuleDict:
    model = nn.ModuleDict({"a": nn.Linear(3, 4), "b": nn.Linear(4, 4), "c": Own()})
    for change in changes:
        change(model)
    return model


def values(model: nn.Module) -> dict[str, Any]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_refused(model: nn.Module, report: InitReport, *names: str, match: str) -> None:
    """Strict: by name, and nothing is written. Not strict: these stay, all else is given."""
    before = copy.deepcopy(values(model))
    with pytest.raises(ValueError, match=match) as raised:
        replay_(model, report)
    assert all(name in str(raised.value) for name in names)
    assert all(torch.equal(value, before[name]) for name, value in values(model).items())
    done = replay_(model, report, strict=False)
    assert {name for name, _ in done.skipped} == set(names)
    assert f"{len(names)} not given again" in done.summary
    assert all(name in str(done) for name in names)
    assert InitReport.from_dict(done.to_dict()) == done
    for row in done:
        is_skipped = bool({row.name, *row.tied} & set(names))
        value = model.get_parameter(row.name)
        if is_skipped:
            assert row.is_kept
            assert torch.equal(value, before[row.name])
        else:
            assert row.initializer == report[row.name].initializer
            assert (row.key, row.stream) == (report[row.name].key, report[row.name].stream)
        assert row.mean == pytest.approx(value.double().mean().item(), abs=1e-6)


def test_a_replay_reports_what_it_did() -> None:
    one, other = layers(), layers()
    report = initialize_(one, "torch", seed=3)
    again = replay_(other, report)
    assert again == report
    assert all(torch.equal(value, values(one)[name]) for name, value in values(other).items())


CUT = pyinit.initializers.TruncNormal(0.0, 0.02, -0.04, 0.04)


def cut_layers(version: int) -> tuple[nn.Module, InitReport]:
    model = nn.Sequential(nn.Linear(30, 40), nn.LSTM(4, 5), nn.Conv2d(3, 4, 3)).double()
    with pyinit.rng("philox", version):
        return model, initialize_(model, "normal", rules={"*": CUT}, seed=5)


@pytest.mark.parametrize("version", [1, 2])
def test_a_replay_gives_the_numbers_of_the_reports_stream_version(version: int) -> None:
    model, report = cut_layers(version)
    assert report.stream_version == report.to_dict()["stream_version"] == version
    again = copy.deepcopy(model)
    initialize_(again, "xavier", seed=1)
    replayed = replay_(again, InitReport.from_dict(report.to_dict()))
    assert replayed == report
    assert all(torch.equal(value, values(model)[name]) for name, value in values(again).items())
    other, _ = cut_layers(3 - version)
    assert not any(
        torch.equal(x, y) for x, y in zip(model.parameters(), other.parameters(), strict=True)
    )


def test_a_report_of_before_versions_were_recorded_is_of_version_1() -> None:
    model, report = cut_layers(1)
    old = report.to_dict()
    del old["stream_version"]
    read = InitReport.from_dict(old)
    assert read.stream_version == 1
    again, latest = cut_layers(2)
    assert {one.what for one in read.diff(latest)} >= {"stream version"}
    replay_(again, read)
    assert all(torch.equal(value, values(model)[name]) for name, value in values(again).items())
    # Afterwards the latest is in force again.
    assert initialize_(nn.Linear(2, 2), "normal", seed=1).stream_version == 2


def test_what_stayed_as_it_was_is_not_given_again() -> None:
    report = initialize_(Tokens(), "torch", seed=3)
    model = Tokens()
    assert_refused(
        model, report, "cls_token", "pos_embed", match="2 of the parameters: cls_token, pos_emb"
    )
    torch.testing.assert_close(model.body[1].running_mean, torch.zeros(4))
    skipping = initialize_(Tokens(), "normal", skip="body.*", rules={"*_*": "keep"}, seed=3)
    assert {row.name for row in skipping if row.is_kept} >= {"body.0.weight", "cls_token"}
    with pytest.raises(ValueError, match=r"body\.0\.weight.*among skip="):
        replay_(model, skipping)


def test_other_shapes_dtypes_and_names_are_not_given_again() -> None:
    report = initialize_(layers(), "torch", seed=3)

    def half(model: Any) -> None:
        model["a"].half()

    def wide(model: Any) -> None:
        model["b"] = nn.Linear(4, 5)

    def more(model: Any) -> None:
        model["d"] = nn.Linear(2, 2)

    def less(model: Any) -> None:
        del model["c"]

    def tied(model: Any) -> None:
        model["d"] = nn.Module()
        model["d"].scale = model["c"].scale

    for change, names, match in (
        (half, ("a.weight", "a.bias"), "of dtype float16 in the model, float32 in the report"),
        (wide, ("b.weight", "b.bias"), r"of shape \(5, 4\) in the model, \(4, 4\) in the report"),
        (more, ("d.weight", "d.bias"), "the report has no row"),
    ):
        assert_refused(layers(change), report, *names, match=match)
    done = replay_(layers(less), report, strict=False)
    assert done.skipped == (("c.scale", "the model has no such parameter"),)
    assert "c.scale" not in {row.name for row in done}
    with pytest.raises(ValueError, match=r"c\.scale: the model has no such parameter"):
        replay_(layers(less), report)
    replay_(layers(tied), initialize_(layers(tied), "torch", seed=3))
    assert_refused(
        layers(lambda model: model.update({"d": Own()})),
        initialize_(layers(tied), "torch", seed=3),
        "d.scale",
        match=r"d\.scale: the report ties it to c\.scale",
    )


def test_ties_whose_first_name_is_another_one_get_the_reports_numbers() -> None:
    def tied(*names: str) -> nn.ModuleDict:
        model = nn.ModuleDict({name: nn.Linear(3, 3) for name in names})
        model[names[1]].weight = model[names[0]].weight
        return model

    one, other = tied("a", "b"), tied("b", "a")
    report = initialize_(one, "xavier", seed=3)
    replay_(other, report)
    assert torch.equal(one["a"].weight, other["a"].weight)
    assert torch.equal(one["b"].bias, other["b"].bias)


def sharing(model: Any) -> None:
    model["b"].bias = nn.Parameter(model["a"].bias.data)


def test_parameters_that_share_memory_are_given_again() -> None:
    one, other = layers(sharing), layers(sharing)
    report = initialize_(one, "normal", rules={"*.bias": "normal", "c.*": "normal"}, seed=3)
    assert report["b.bias"].why == "the same memory as a.bias"
    assert replay_(other, report) == report
    assert torch.equal(other["b"].bias, one["a"].bias)


def test_memory_that_is_shared_on_one_side_only_is_told() -> None:
    options: dict[str, Any] = {"rules": {"*.bias": "normal", "c.*": "normal"}, "seed": 3}
    shared = initialize_(layers(sharing), "normal", **options)
    apart = initialize_(layers(), "normal", **options)
    for report, model, match in (
        (shared, layers(), "the same memory as a.bias in the report, apart in the model"),
        (apart, layers(sharing), "the same memory as a.bias in the model, apart in the report"),
    ):
        with pytest.raises(ValueError, match=rf"1 of the parameters: b\.bias: {match}"):
            replay_(model, report)
        assert replay_(model, report, strict=False).skipped == (("b.bias", match),)


def reworded(report: InitReport) -> InitReport:
    """As a file has it, with other reasons for everything."""
    data = report.to_dict()
    for row in data["rows"]:
        row["why"] = "for a reason"
    return InitReport.from_dict(data)


def of_0_1_0(report: InitReport) -> InitReport:
    """As a file of version 0.1.0 has it: reasons are all that it says of kept parameters."""
    data = report.to_dict()
    for row in data["rows"]:
        del row["kept"]
    return InitReport.from_dict(data)


@pytest.mark.parametrize("as_read", [reworded, of_0_1_0])
def test_what_is_given_again_does_not_depend_on_the_words_of_a_report(
    as_read: Callable[[InitReport], InitReport],
) -> None:
    one, other = layers(sharing), layers(sharing)
    report = initialize_(one, "normal", rules={"*.bias": "normal", "c.*": "normal"}, seed=3)
    again = replay_(other, as_read(report))
    assert [row.kept for row in again] == [row.kept for row in report]
    assert all(torch.equal(value, values(one)[name]) for name, value in values(other).items())


@pytest.mark.parametrize("as_read", [reworded, of_0_1_0])
def test_what_was_left_out_stays_on_the_meta_device(
    as_read: Callable[[InitReport], InitReport],
) -> None:
    report = initialize_(layers(), "torch", skip="c.*", seed=3)
    with torch.device("meta"):
        model = layers()
    replay_(model, as_read(report), strict=False)
    assert model["c"].scale.is_meta
    assert not model["a"].weight.is_meta


@pytest.mark.parametrize("as_read", [reworded, of_0_1_0])
def test_what_the_recipe_did_not_know_is_filled_with_what_shares_its_memory(
    as_read: Callable[[InitReport], InitReport],
) -> None:
    def known_last(is_shared: bool) -> Any:
        model: Any = nn.ModuleDict({"a": nn.Module(), "b": nn.Linear(3, 4)})
        model["a"].unknown = nn.Parameter(torch.ones(4, 3))
        if is_shared:
            model["b"].weight = nn.Parameter(model["a"].unknown.data)
        return model

    report = initialize_(known_last(is_shared=False), "torch", seed=3)
    model = known_last(is_shared=True)
    done = replay_(model, as_read(report), strict=False)
    assert done["b.weight"].initializer == report["b.weight"].initializer
    assert done["a.unknown"].why == "the same memory as b.weight"
    assert not torch.equal(model["a"].unknown, torch.ones(4, 3))


def test_numbers_of_torch_are_those_of_its_version() -> None:
    with pyinit.rng("torch"):
        report = initialize_(layers(), "torch", seed=3)
    replay_(layers(), report)
    for version in ("1.2.3", ""):
        other = replace(report, torch=version)
        names = [row.name for row in report]
        assert_refused(
            layers(), other, *names, match=rf"torch {version or 'of an unknown'}.*here is"
        )


def test_a_modules_own_reset_is_given_again_under_the_same_torch() -> None:
    states = random.getstate(), repr(np.random.get_state())
    one, other = layers(), layers()
    report = initialize_(one, "torch", seed=3)
    random.seed(1)
    np.random.seed(1)
    replay_(other, report)
    assert torch.equal(one["c"].scale, other["c"].scale)
    random.setstate(states[0])
    initialize_(layers(), "torch", seed=3)
    assert random.getstate() == states[0]
    assert_refused(layers(), replace(report, torch="1.2.3"), "c.scale", match="own reset function")


def test_reports_from_before_versions_were_kept_are_read() -> None:
    data = initialize_(layers(), "torch", seed=3).to_dict()
    del data["torch"], data["skipped"]
    old = InitReport.from_dict(data)
    assert (old.torch, old.skipped) == ("", ())
    assert_refused(layers(), old, "c.scale", match="own reset function")


def test_numbers_without_a_key_are_left_out() -> None:
    with pyinit.rng("torch"):
        report = initialize_(layers(), "torch")
    assert_refused(layers(), report, *(row.name for row in report), match="without a key")
