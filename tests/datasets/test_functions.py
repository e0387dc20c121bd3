"""Data that functions give."""

import sys
from pathlib import Path

import pytest
import torch

from pyinit.datasets import load

MODULE = """
import numpy as np
import torch
from pyinit.datasets import Dataset

def images(): return torch.ones(6, 3, 4, 4, dtype=torch.float64)
def pair(): return np.ones((6, 2)), np.arange(6) % 3
def named(): return {"a": torch.ones(6, 2), "b": torch.ones(6, 3)}
def named_pair(): return named(), torch.arange(6)
def three(): return torch.ones(6), torch.ones(6), torch.ones(6)
def loader(): return torch.utils.data.DataLoader(torch.ones(6, 2), batch_size=2)
def made(): return Dataset("own", torch.ones(6, 2), classes=4)
def broken(): raise OSError("no such disk")
def nothing(): pass
class Holder:
    @staticmethod
    def images(): return torch.ones(2, 2)
number = 3
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data_of_user.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "data_of_user", raising=False)


def test_a_tensor_stays_as_it_is() -> None:
    data = load("data_of_user:images")
    assert data.inputs.dtype is torch.float64
    assert data.target is None
    assert str(data) == "data_of_user:images: 6 samples of 3x4x4, float64"


def test_a_pair_is_inputs_and_their_target() -> None:
    data = load("data_of_user:pair")
    assert data.inputs.dtype is torch.float32
    assert data.target.tolist() == [0, 1, 2, 0, 1, 2]
    assert data.classes == 3
    assert set(load("data_of_user:named_pair").inputs) == {"a", "b"}


def test_what_gives_batches_goes_to_the_walk_as_it_is() -> None:
    data = load("data_of_user:loader")
    assert isinstance(data.inputs, torch.utils.data.DataLoader)
    assert data.samples is None
    assert data.batch(4) is data
    assert len(load("data_of_user:three").inputs) == 3


def test_a_data_set_is_taken_whole() -> None:
    assert (load("data_of_user:made").name, load("data_of_user:made").classes) == ("own", 4)


def test_a_function_may_stand_in_a_class() -> None:
    assert load("data_of_user:Holder.images").samples == 2


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("data_of_user:broken", RuntimeError, "data_of_user:broken raised OSError: no such disk"),
        ("data_of_user:nothing", ValueError, "data_of_user:nothing returned None"),
        ("data_of_user:number", ValueError, "'data_of_user:number' is not a function but int"),
        ("data_of_user:none", ValueError, "cannot import 'data_of_user:none': AttributeError"),
        ("nowhere_at_all:none", ValueError, "cannot import 'nowhere_at_all:none': ModuleNotFound"),
    ],
)
def test_what_fails_is_named(name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load(name)
