"""The data sets of torchvision, by a module that behaves as it does."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from pyinit.datasets import load


class Stored:
    """Keeps its arguments, and images as its class says; without files it wants a download."""

    calls: list[dict[str, Any]]

    def __init__(self, **arguments: Any) -> None:
        self.calls.append(arguments)
        if arguments["download"]:
            Path(arguments["root"]).mkdir(exist_ok=True)
        if not Path(arguments["root"]).is_dir():
            raise RuntimeError("Dataset not found or corrupted. You can use download=True")
        is_training = arguments.get("train", arguments.get("split") == "train")
        count, low = (20, 0) if is_training else (10, 100)
        self.targets = [number % 10 for number in range(count)]
        self.numbers = np.arange(low, low + count, dtype=np.uint8)


class CIFAR10(Stored):
    def __init__(self, *, root: str, train: bool, download: bool) -> None:
        super().__init__(root=root, train=train, download=download)
        self.data = np.zeros((len(self.numbers), 32, 32, 3), np.uint8)
        self.data[:, 1, 2, 0] = self.numbers


class MNIST(Stored):
    def __init__(self, *, root: str, train: bool, download: bool) -> None:
        super().__init__(root=root, train=train, download=download)
        self.targets = torch.tensor(self.targets)
        self.data = torch.zeros(len(self.numbers), 28, 28, dtype=torch.uint8)
        self.data[:, 1, 2] = torch.from_numpy(self.numbers)


class SVHN(Stored):
    def __init__(self, *, root: str, split: str, download: bool) -> None:
        super().__init__(root=root, split=split, download=download)
        self.labels = np.array(self.targets)
        del self.targets
        self.data = np.zeros((len(self.numbers), 3, 32, 32), np.uint8)
        self.data[:, 0, 1, 2] = self.numbers


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    module = ModuleType("torchvision.datasets")
    for each in (CIFAR10, MNIST, SVHN):
        setattr(module, each.__name__, each)
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", module)
    Stored.calls = []
    return Stored.calls


@pytest.mark.parametrize(
    ("name", "shape"), [("CIFAR10", (3, 32, 32)), ("MNIST", (1, 28, 28)), ("SVHN", (3, 32, 32))]
)
def test_training_and_test_become_one_data_set(
    name: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    data = load(f"torchvision:{name}", data_dir=tmp_path)
    assert (data.name, data.classes, data.train) == (f"torchvision:{name}", 10, 20)
    assert data.inputs.shape == (30, *shape)
    assert data.inputs.dtype is torch.float32
    assert data.target.tolist() == [*range(10), *range(10), *range(10)]
    exact = data.inputs.double()
    assert exact.mean().item() == pytest.approx(0, abs=1e-6)
    assert exact.std(correction=0).item() == pytest.approx(1, abs=1e-6)
    places = data.inputs[:, 0, 1, 2].double()
    assert torch.allclose(
        (places - places[0]) / (places[1] - places[0]),
        torch.tensor([*range(20), *range(100, 110)], dtype=torch.float64),
        atol=1e-4,
    )
    assert data.split()[1].samples == 10


def test_nothing_is_downloaded_unless_asked(calls: list[dict[str, Any]], tmp_path: Path) -> None:
    missing = tmp_path / "none"
    with pytest.raises(FileNotFoundError) as caught:
        load("torchvision:CIFAR10", data_dir=missing)
    told = str(caught.value)
    assert f"torchvision:CIFAR10 is not in the folder '{missing}'" in told
    assert "data_dir" in told
    assert "download=True" in told
    assert not any(each["download"] for each in calls)
    assert load("torchvision:CIFAR10", data_dir=missing, download=True).samples == 30


def test_without_a_folder_it_is_data(calls: list[dict[str, Any]]) -> None:
    with pytest.raises(FileNotFoundError, match="the folder 'data'"):
        load("torchvision:SVHN")
    assert calls == [{"root": "data", "split": "train", "download": False}]


def test_a_class_that_is_not_taken_is_named_with_those_near() -> None:
    with pytest.raises(ValueError, match=r"torchvision:CIFAR is none .* did you mean CIFAR10"):
        load("torchvision:CIFAR")


def test_torchvision_is_named_if_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    message = "the data set torchvision:MNIST needs torchvision: pip install torchvision"
    with pytest.raises(ImportError, match=message):
        load("torchvision:MNIST")
