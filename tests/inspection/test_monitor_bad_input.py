"""What ``Monitor`` refuses, by name and before it has attached anything."""

import re
from typing import Any

import pytest
import torch
from torch import nn

from pyinit import Monitor


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


def refused(error: type[Exception], match: str, *args: Any, **kwargs: Any) -> None:
    before = [hooks(arg) for arg in args]
    with pytest.raises(error, match=match):
        Monitor(*args, **kwargs)
    assert [hooks(arg) for arg in args] == before


def hooks(thing: Any) -> list[int]:
    """How many hooks each module of a model has, or an optimizer."""
    if isinstance(thing, nn.Module):
        return [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in thing.modules()]
    if isinstance(thing, torch.optim.Optimizer):
        return [len(thing._optimizer_step_pre_hooks), len(thing._optimizer_step_post_hooks)]
    return []


@pytest.mark.parametrize("every", [0, -1])
def test_every_below_1_is_refused(every: int) -> None:
    model = network()
    refused(ValueError, f"every must be at least 1, got {every}", model, sgd(model), every)


@pytest.mark.parametrize("every", [2.0, "2", None, True])
def test_every_that_is_no_integer_is_refused(every: object) -> None:
    model = network()
    refused(TypeError, "every must be an integer", model, sgd(model), every)


def test_a_model_that_is_none_is_refused() -> None:
    refused(TypeError, "model must be a torch.nn.Module, got int", 3, sgd(network()))


def test_an_optimizer_that_is_none_is_refused() -> None:
    model = network()
    refused(TypeError, "optimizer must be a torch.optim.Optimizer, got list", model, [sgd(model)])


def test_an_optimizer_of_other_parameters_is_refused() -> None:
    message = "optimizer has none of the parameters that are watched: 0.weight, 0.bias, 2.weight"
    refused(ValueError, message, network(), sgd(network()))


def test_an_optimizer_of_parameters_that_are_not_chosen_is_refused() -> None:
    model = network()
    refused(ValueError, "watched: 0.weight, 0.bias$", model, sgd(model[2]), layers="0")


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ("3", "no layer matches 3; .*the model has"),
        (["0", "heads.*"], re.escape("no layer matches heads.*")),
        (nn.Conv2d, "no layer matches Conv2d"),
        (re.compile("head"), "no layer matches head"),
    ],
)
def test_patterns_that_no_layer_matches_are_refused(patterns: object, message: str) -> None:
    model = network()
    refused(ValueError, message, model, sgd(model), layers=patterns)


def test_what_is_no_pattern_is_refused() -> None:
    model = network()
    refused(TypeError, "a pattern must be", model, sgd(model), layers=3)


def test_a_model_on_meta_is_refused() -> None:
    model = network().to("meta")
    refused(ValueError, "0.weight is on the meta device", model, sgd(model))


def test_a_lazy_model_is_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.LazyLinear(3))
    refused(ValueError, "1.weight has no shape yet", model, sgd(model[0]))


@pytest.mark.parametrize("start", ["copies", 0, {}])
def test_a_start_that_is_none_is_refused(start: object) -> None:
    model = network()
    refused(TypeError, "start must be an InitReport", model, sgd(model), start=start)


def test_values_that_are_elsewhere_are_refused() -> None:
    model = network()
    optimizer = sgd(model)
    model[0].weight.ds_shape = (400, 6)
    refused(ValueError, "0.weight .*DeepSpeed", model, optimizer)
