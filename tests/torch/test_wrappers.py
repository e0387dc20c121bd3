"""A model that torch's own wrappers wrap, as a whole or in parts, is the plain model to pyinit."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    checkpoint_wrapper,
    offload_wrapper,
)
from torch.optim.swa_utils import AveragedModel

import pyinit
from pyinit import InitReport, initialize_, load_pretrained_, replay_
from pyinit._torch.wrappers import named_modules, unwrapped

Wrap = Callable[[nn.Module], nn.Module]


def plain() -> nn.Module:
    body = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8), nn.BatchNorm1d(8))
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), body, nn.Linear(8, 3))


def ddp(model: nn.Module) -> nn.Module:
    return nn.parallel.DistributedDataParallel(model)


def fsdp(model: nn.Module) -> nn.Module:
    from torch.distributed.fsdp import FullyShardedDataParallel  # noqa: PLC0415

    return FullyShardedDataParallel(model, use_orig_params=True, device_id=torch.device("cpu"))


@pytest.fixture(params=["compile", "checkpoint", "offload", "data parallel", "average", "ddp"])
def wrap(request: pytest.FixtureRequest) -> Iterator[Wrap]:
    kinds: dict[str, Any] = {
        "compile": request.getfixturevalue("compiler"),
        "checkpoint": checkpoint_wrapper,
        "offload": offload_wrapper,
        "data parallel": nn.DataParallel,
        "average": AveragedModel,
        "ddp": ddp,
    }
    if request.param == "ddp":
        request.getfixturevalue("process_group")
    return kinds[request.param]


def everywhere(wrap: Wrap) -> list[nn.Module]:
    """The whole wrapped, a layer, a part, part in part, twice, and all of it."""
    models = [wrap(plain()), wrap(checkpoint_wrapper(plain()))]
    for places in (("0",), ("2",), ("2.0", "2"), ("2.0", "2", "3", "")):
        model: nn.Module = plain()
        for path in places:
            if path:
                parent = model.get_submodule(path.rpartition(".")[0])
                name = path.rpartition(".")[2]
                setattr(parent, name, wrap(getattr(parent, name)))
            else:
                model = wrap(model)
        models.append(model)
    return models


def tensors(model: nn.Module) -> list[torch.Tensor]:
    """Of the plain model, in its order."""
    own = [*model.parameters(), *model.buffers()]
    return [t.detach() for t in own if t.dtype.is_floating_point]


def assert_same(one: nn.Module, other: nn.Module) -> None:
    assert len(tensors(one)) == len(tensors(other))
    assert all(map(torch.equal, tensors(one), tensors(other)))


@pytest.mark.parametrize("recipe", ["auto", "torch"])
def test_wrapped_models_get_the_plain_models_numbers_and_names(wrap: Wrap, recipe: str) -> None:
    expected = plain()
    report = initialize_(expected, recipe, seed=3)
    for model in everywhere(wrap):
        structure = [*model.named_modules()]
        wrapped = initialize_(model, recipe, seed=3)
        assert_same(model, expected)
        assert wrapped == report
        assert [*model.named_modules()] == structure


def test_rules_and_only_see_the_plain_names(wrap: Wrap) -> None:
    options: dict[str, Any] = {
        "rules": {"2.0.weight": {"name": "constant", "val": 1.0}},
        "only": "2.*",
        "seed": 3,
    }
    for model in everywhere(wrap):
        report = initialize_(model, "xavier", **options)
        assert report["2.0.weight"].min == 1
        assert report["0.weight"].is_kept


def test_a_report_of_either_is_replayed_on_the_other(wrap: Wrap) -> None:
    expected = plain()
    report = initialize_(expected, "xavier", seed=3)
    for model in everywhere(wrap):
        replay_(model, report)
        assert_same(model, expected)
        again = initialize_(model, "normal", seed=4)
        other = plain()
        replay_(other, InitReport.from_dict(again.to_dict()))
        assert_same(model, other)


def test_pretrained_weights_go_by_the_plain_names(wrap: Wrap) -> None:
    source = plain()
    for model in everywhere(wrap):
        report = load_pretrained_(model, source.state_dict(), strict=True)
        assert_same(model, source)
        assert set(report.loaded) == set(source.state_dict())
        part = {k: v for k, v in source.state_dict().items() if not k.startswith("2.0")}
        assert set(load_pretrained_(model, part, seed=1).reinitialized) == {
            "2.0.weight",
            "2.0.bias",
        }


def test_the_first_fsdp_on_one_rank(process_group: None) -> None:
    expected = plain()
    initialize_(expected, seed=3)
    inner = plain()
    inner[2] = fsdp(inner[2])
    for model in (fsdp(plain()), fsdp(inner)):
        initialize_(model, seed=3)
        assert_same(model, expected)


def test_compiling_in_place_changes_nothing(compiler: Any) -> None:
    expected, model = plain(), plain()
    model.compile(backend="eager")
    model[2].compile(backend="eager")
    assert initialize_(model, seed=3) == initialize_(expected, seed=3)
    assert_same(model, expected)


@pytest.mark.parametrize("attribute", ["module", "_orig_mod", "model"])
def test_a_users_own_wrapper_is_a_model_with_names_of_its_own(attribute: str) -> None:
    class Own(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            setattr(self, attribute, model)

    report = initialize_(Own(plain()), "xavier", seed=3)
    assert report.rows[0].name == f"{attribute}.0.weight"
    assert report.rows[0].stream != initialize_(plain(), "xavier", seed=3).rows[0].stream


def test_a_wrapper_with_parameters_of_its_own_is_a_model() -> None:
    class Scaled(nn.DataParallel):
        def __init__(self, model: nn.Module) -> None:
            super().__init__(model)
            self.scale = nn.Parameter(torch.ones(1))

    names = [row.name for row in initialize_(Scaled(plain()), "normal", seed=3)]
    assert names[:2] == ["scale", "module.0.weight"]


def test_a_module_under_a_wrapper_and_without_is_one() -> None:
    def tied(wrap: Wrap) -> nn.Module:
        model = nn.ModuleDict({"a": nn.Linear(3, 3)})
        model["b"] = wrap(model["a"])
        return model

    wrapped, expected = tied(checkpoint_wrapper), tied(lambda module: module)
    assert [name for name, _ in named_modules(wrapped)] == ["", "a", "b"]
    assert initialize_(wrapped, "xavier", seed=3) == initialize_(expected, "xavier", seed=3)


def test_wrappers_are_back_after_an_error(wrap: Wrap) -> None:
    model = plain()
    model[2] = wrapper = wrap(model[2])
    with pytest.raises(AttributeError), unwrapped(model) as inside:
        assert type(inside[2]) is nn.Sequential and inside.missing  # noqa: PT018
    assert model[2] is wrapper
    assert [*model._modules] == ["0", "1", "2", "3"]


@pytest.mark.parametrize("choice", ["philox", "torch"])
def test_values_on_the_meta_device_come_by_plain_names(choice: str) -> None:
    expected = plain()
    with pyinit.rng(choice):
        initialize_(expected, "torch", seed=3)
        with torch.device("meta"):
            model = plain()
            model[2] = checkpoint_wrapper(model[2])
        initialize_(model, "torch", seed=3)
    assert_same(model, expected)
