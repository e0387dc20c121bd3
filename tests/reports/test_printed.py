"""What ``print`` and a notebook show of reports and lists."""

import copy
import pickle
import re
from html import unescape

import pytest
import torch
from torch import nn

import pyinit


def shown_in_a_notebook(value):
    """The text of a cell, without its markup."""
    html = value._repr_html_()
    assert html.startswith("<pre")
    return unescape(re.sub("<[^>]*>", "", html)).rstrip()


def reports():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    first = pyinit.initialize_(model, "xavier", seed=0)
    yield first
    yield first.diff(pyinit.initialize_(model, "kaiming", seed=1))
    yield pyinit.load_pretrained_(model, {"0.weight": torch.zeros(8, 4)})
    yield pyinit.lsuv_(model, torch.randn(16, 4), seed=0)
    yield pyinit.check(model)
    yield pyinit.inspect(model, torch.randn(16, 4))
    yield pyinit.recipes()
    yield pyinit.methods()


KINDS = [
    "InitReport",
    "Differences",
    "LoadReport",
    "LsuvReport",
    "Findings",
    "Inspection",
    "Listed",
    "Listed",
]


@pytest.mark.parametrize(
    "number", range(len(KINDS)), ids=lambda number: f"{number}-{KINDS[number]}"
)
def test_a_notebook_shows_what_print_shows(number):
    report = list(reports())[number]
    assert type(report).__name__ == KINDS[number]
    assert shown_in_a_notebook(report) == str(report)
    assert len(str(report).splitlines()) > 1 or KINDS[number] in ("Findings", "LoadReport")


def test_lists_are_dictionaries_in_the_order_of_names():
    for listed in (pyinit.recipes(), pyinit.methods()):
        assert isinstance(listed, dict)
        assert list(listed) == sorted(listed)
        lines = str(listed).splitlines()
        assert all(any(line.startswith(name) for line in lines) for name in listed)
        assert "0x" not in str(listed)
    recipes = pyinit.recipes()
    for again in (copy.deepcopy(recipes), pickle.loads(pickle.dumps(recipes))):
        assert again == recipes
        assert str(again) == str(recipes)
