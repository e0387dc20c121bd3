"""Batches and models that no method can work on are refused, and nothing is changed."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import pyinit

METHODS = {
    "data_dependent": pyinit.data_dependent_,
    "pretrain_unsupervised": pyinit.pretrain_unsupervised_,
    "weight_norm_init": pyinit.weight_norm_init_,
    "whitening": pyinit.whitening_,
}


def network() -> nn.Sequential:
    return nn.Sequential(
        *(parametrizations.weight_norm(nn.Linear(8, 8)), nn.BatchNorm1d(8), nn.ReLU()),
        nn.Linear(8, 2),
    )


def batch(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def bad_batches() -> dict[str, Any]:
    nan = batch(16, 8)
    nan[3, 2] = float("nan")
    return {
        "NaN": nan,
        "exhausted": iter(()),
        "another width": batch(16, 7),
        "nothing": None,
    }


@pytest.mark.parametrize("name", bad_batches())
@pytest.mark.parametrize("method", METHODS)
def test_bad_batches_leave_the_model_as_it_was(method: str, name: str) -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises((ValueError, TypeError, RuntimeError)):
        METHODS[method](model, bad_batches()[name])
    assert all(torch.equal(each, before[key]) for key, each in model.state_dict().items())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model", [nn.Linear(8, 8).requires_grad_(False), nn.ReLU()])
def test_models_without_trainable_layers_are_refused(model: nn.Module, method: str) -> None:
    with pytest.raises(ValueError, match="layer"):
        METHODS[method](model, batch(16, 8))


@pytest.mark.parametrize("method", METHODS)
def test_an_unknown_layer_is_refused_with_the_names_that_are_near(method: str) -> None:
    with pytest.raises(ValueError, match="matches no layer"):
        METHODS[method](network(), batch(16, 8), layers="heads")


@pytest.mark.parametrize("method", METHODS)
def test_a_recipe_file_names_the_method(method: str, tmp_path: Any) -> None:
    (tmp_path / "recipe.toml").write_text(f'recipe = "kaiming"\nafter = "{method}"\n')
    model, again, same = network(), network(), network()
    report = pyinit.initialize_(model, tmp_path / "recipe.toml", seed=0, data=batch(64, 8))
    assert report.method == method
    METHODS[method](same, batch(64, 8), base="kaiming", seed=0)
    pyinit.replay_(again, report)
    for key, each in model.state_dict().items():
        assert torch.equal(each, again.state_dict()[key])
        assert torch.equal(each, same.state_dict()[key])


@pytest.mark.parametrize("method", METHODS)
def test_running_statistics_do_not_change(method: str) -> None:
    model = network()
    METHODS[method](model, 5 + batch(64, 8), seed=0)
    assert torch.equal(model[1].running_mean, torch.zeros(8))
    assert model[1].num_batches_tracked == 0
