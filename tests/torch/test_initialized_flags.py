"""The mark by which transformers knows what is initialized: who gets it, and what it changes."""

import copy
import pickle

import torch
from torch import nn

import pyinit
from pyinit._torch.initialized_flags import (
    clear_initialized,
    is_initialized,
    set_initialized,
)


def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def marked(module: nn.Module) -> set[str]:
    return {name for name, tensor in module.named_parameters() if is_initialized(tensor)}


def everything(module: nn.Module) -> set[str]:
    return {name for name, _ in module.named_parameters()}


def test_initialize_marks_what_it_fills() -> None:
    net = model()
    net[2].bias.requires_grad_(False)
    pyinit.initialize_(net, seed=0, skip="0.bias", rules={"1.weight": "keep"})
    assert marked(net) == everything(net) - {"0.bias", "1.weight", "2.bias"}


def test_a_dry_run_marks_nothing() -> None:
    net = model()
    pyinit.initialize_(net, seed=0, dry_run=True)
    assert not marked(net)


def test_replay_marks_what_it_fills() -> None:
    net, other = model(), model()
    report = pyinit.initialize_(net, seed=0, skip="0.bias")
    pyinit.replay_(other, report, strict=False)
    assert marked(other) == everything(other) - {"0.bias"}


def test_the_originals_of_computed_parameters_are_marked() -> None:
    net = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    pyinit.initialize_(net, seed=0)
    assert marked(net) == everything(net)


def test_parameters_that_get_memory_are_marked() -> None:
    with torch.device("meta"):
        net = model()
    pyinit.initialize_(net, "torch", seed=0)
    assert marked(net) == everything(net)


def test_keyed_marks_what_is_reached() -> None:
    net = model()
    set_initialized([net[0].weight])
    with pyinit.keyed(net, 0):
        net[1].reset_parameters()
        net[2].reset_parameters()
        net[0].requires_grad_(False)  # of which nothing is said
    assert marked(net) == {"1.weight", "1.bias", "2.weight", "2.bias"}


def test_marks_are_taken_from_modules_parameters_and_buffers() -> None:
    net = model()
    set_initialized([*net.parameters(), *net.buffers()])
    for module in net.modules():
        module._is_hf_initialized = True
    clear_initialized(net)
    assert not marked(net)
    assert not [buffer for buffer in net.buffers() if is_initialized(buffer)]
    assert not [module for module in net.modules() if hasattr(module, "_is_hf_initialized")]


def test_marked_models_are_copied_saved_and_initialized_as_others() -> None:
    net = model()
    report = pyinit.initialize_(net, seed=0)
    for again in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert all(map(torch.equal, again.parameters(), net.parameters()))
    assert not [value for value in net.state_dict().values() if is_initialized(value)]
    assert pyinit.initialize_(net, seed=0) == report
