"""``InitReport.diff``: what two reports do not have alike."""

import pytest
from torch import nn

import pyinit
from pyinit.reports.difference import Difference


def net(width=4, depth=3):
    return nn.Sequential(*(nn.Linear(width, width) for _ in range(depth)))


def test_a_report_differs_from_itself_in_nothing():
    report = pyinit.initialize_(net(), "xavier", seed=0)
    again = pyinit.initialize_(net(), "xavier", seed=0)
    assert list(report.diff(report)) == list(report.diff(again)) == []
    assert not report.diff(again)
    assert str(report.diff(again)) == "no difference"


def test_what_is_done_otherwise_is_named_with_both_sides():
    first = pyinit.initialize_(net(depth=1), "xavier", seed=0)
    second = pyinit.initialize_(net(depth=1), "orthogonal", seed=0)
    assert list(first.diff(second)) == [
        Difference("", "recipe", "xavier", "orthogonal"),
        Difference("0.weight", "initializer", "xavier_uniform", "orthogonal"),
    ]
    assert list(second.diff(first))[1] == (
        "0.weight",
        "initializer",
        "orthogonal",
        "xavier_uniform",
    )


def test_blocks_share_a_line():
    text = str(pyinit.initialize_(net(), seed=0).diff(pyinit.initialize_(net(), seed=1)))
    assert [line.split() for line in text.splitlines()[1:]] == [
        ["(all)", "seed", "0", "1"],
        ["{0-2}.weight", "key", "0", "1"],
        *([["{0-2}.bias", "key", "0", "1"]] if "{0-2}.bias" in text else []),
    ]


def test_parameters_that_one_lacks_and_other_shapes():
    first = pyinit.initialize_(net(4, 2), "xavier", seed=0)
    second = pyinit.initialize_(net(5, 1), "xavier", seed=0)
    found = {(each.name, each.what): each[2:] for each in first.diff(second)}
    assert found["0.weight", "shape"] == ("4x4", "5x5")
    assert found["1.weight", "parameter"] == ("4x4, xavier_uniform", "")
    back = {(each.name, each.what): each[2:] for each in second.diff(first)}
    assert back["1.weight", "parameter"] == ("", "4x4, xavier_uniform")


def test_numbers_are_compared_where_nothing_else_explains_them():
    model = net(depth=1)
    with pyinit.rng("torch"):  # whose numbers have no keys
        first, second = (pyinit.initialize_(model, "xavier") for _ in range(2))
    named = {(each.name, each.what) for each in first.diff(second)}
    assert named == {("0.weight", "mean"), ("0.weight", "std")}


def test_anything_else_is_refused_by_name():
    with pytest.raises(TypeError, match="other must be an InitReport, got dict"):
        pyinit.initialize_(net(), seed=0).diff({})


def test_an_unknown_parameter_names_those_like_it():
    report = pyinit.initialize_(net(), seed=0)
    with pytest.raises(KeyError, match=r"no parameter '0\.weigh'; did you mean 0\.weight"):
        report["0.weigh"]
