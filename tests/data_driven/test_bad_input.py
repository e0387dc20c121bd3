"""Batches and models that no method can work on are refused, and nothing is changed."""

import copy
import warnings
from functools import partial
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


class WithNothing(nn.Module):
    """A layer beside one without outputs, and one without inputs behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.none, self.of_none = nn.Linear(8, 4), nn.Linear(8, 0), nn.Linear(0, 3)

    def forward(self, x: Tensor) -> Tensor:
        none = self.none(x)
        return torch.cat([self.first(x), none, self.of_none(none)], -1)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize(
    "call",
    [
        pyinit.lsuv_,
        pyinit.consistency_aware_,
        partial(pyinit.data_dependent_, weights="pca"),
        partial(pyinit.whitening_, mode="zca"),
        partial(pyinit.pretrain_unsupervised_, layers="*"),
        pyinit.autoinit_,
    ],
)
def test_layers_without_elements_are_left_by_name(call: Any) -> None:
    model = WithNothing()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = call(model, batch(16, 8), seed=0)
    assert [row.name.removesuffix(".weight") for row in report] == ["first"]
    left = {name.removesuffix(".weight"): why for name, why in report.left}
    assert {"none", "of_none"} <= set(left)
    assert all("no elements" in left[name] for name in ("none", "of_none"))


@pytest.mark.parametrize("distance", pyinit.distances.DISTANCES)
def test_reports_of_networks_that_overflow_are_saved(distance: str, tmp_path: Any) -> None:
    model, again = network(), network()
    x = batch(16, 8)
    x[0, 0] = float("inf")
    report = pyinit.consistency_aware_(model, x, distance=distance, seed=0)
    assert report.distance_after == float("inf")
    report.save(tmp_path / "report.json")
    loaded = pyinit.ConsistencyReport.load(tmp_path / "report.json")
    assert loaded == report
    pyinit.replay_(again, loaded)
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    "call",
    [
        partial(pyinit.data_dependent_, weights="pca", equalize=False),
        partial(pyinit.whitening_, mode="zca"),
    ],
)
@pytest.mark.parametrize("size", [float("inf"), 1e300])
def test_inputs_without_a_covariance_are_left_by_name(call: Any, size: float) -> None:
    model, x = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2)).double(), batch(16, 8).double()
    x[0] *= size
    report = call(model, x, seed=0)
    if isinstance(report, pyinit.DataDependentReport) and size < float("inf"):
        assert [row.weights for row in report] == ["base", "pca"]
    else:
        assert "finite" in dict(report.left)["0"]


@pytest.mark.parametrize("base", ["autoinit", "kaiming", None])
@pytest.mark.parametrize(
    ("data", "what"),
    [
        (torch.zeros(16, 8), "must not be 0"),
        (torch.full((16, 8), float("inf")), "finite"),
        (1e-7 * batch(16, 8).half(), "beyond the range of torch.float16"),
    ],
)
def test_autoinit_refuses_inputs_that_no_weight_suits(base: Any, data: Tensor, what: str) -> None:
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)).to(data.dtype)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=what):
        pyinit.autoinit_(model, data, base=base, seed=0)
    assert all(torch.equal(each, before[key]) for key, each in model.state_dict().items())
