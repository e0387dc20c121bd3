"""``to_empty`` leaves buffers without values, too: ``initialize_`` makes them again, or says that it cannot."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from on_ranks import fake_rank
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import pyinit

NUMBER = 7.0


def frequencies() -> Tensor:
    return 10.0 ** -torch.arange(4)


class ByMethod(nn.Linear):
    """As in timm: a method makes the buffer, from the weight's shape and device."""

    def __init__(self) -> None:
        super().__init__(4, 6)
        self.init_non_persistent_buffers()

    def init_non_persistent_buffers(self) -> None:
        made = torch.arange(self.weight.shape[0], device=self.weight.device) / 3
        self.register_buffer("table", made, persistent=False)


class Rotary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("inv_freq", frequencies(), persistent=False)


class ByModel(nn.Module):
    """As in transformers: the model's ``_init_weights`` makes it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.rotary = nn.Linear(4, 6), Rotary()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, Rotary):
            module.inv_freq.copy_(frequencies())


class OfNobody(nn.Linear):
    """As in nanoGPT: only the constructor knows the buffer."""

    def __init__(self, persistent: bool) -> None:
        super().__init__(4, 6)
        self.register_buffer("mask", torch.ones(3, 3).tril(), persistent=persistent)


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6))


@pytest.fixture(params=[(0, 2), (1, 2), (6, 7)], ids=["first", "second", "without a share"])
def spread(request: pytest.FixtureRequest) -> Iterator[Callable[..., nn.Module]]:
    rank, size = request.param

    def make(build: Callable[..., nn.Module], *arguments: Any, empty: bool = True) -> nn.Module:
        with torch.device("meta" if empty else "cpu"):
            model = build(*arguments)
        fully_shard(model, mesh=init_device_mesh("cpu", (size,)))
        if empty:
            model.to_empty(device="cpu")
            for buffer in model.buffers():
                buffer.fill_(NUMBER)
        return model

    with fake_rank(rank, size):
        yield make


@pytest.mark.parametrize("build", [ByMethod, ByModel, normed])
@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("recipe", ["normal", "torch"])
def test_buffers_are_made_again(
    build: Callable[[], nn.Module], spread: Callable[..., nn.Module], recipe: str, empty: bool
) -> None:
    model, plain = spread(build, empty=empty), build()
    tensors = dict(model.named_buffers())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = pyinit.initialize_(model, recipe, seed=3)
    assert report.buffers
    expected = dict(plain.named_buffers())
    assert tensors.keys() == expected.keys()
    for name, buffer in model.named_buffers():
        assert buffer is tensors[name]
        assert torch.equal(buffer, expected[name]), name


def test_a_report_that_is_replayed_makes_them_again(spread: Callable[..., nn.Module]) -> None:
    report = pyinit.initialize_(ByMethod(), "normal", seed=3)
    model = spread(ByMethod)
    pyinit.replay_(model, report)
    assert torch.equal(model.table, ByMethod().table)


@pytest.mark.parametrize("persistent", [False, True])
def test_those_that_nobody_makes_again_are_named(
    spread: Callable[..., nn.Module], persistent: bool
) -> None:
    model = spread(lambda: nn.Sequential(OfNobody(persistent)))
    with pytest.warns(UserWarning, match=r"makes these buffers again: 0\.mask\. .* to_empty\(\)"):
        report = pyinit.initialize_(model, "normal", seed=3)
    assert (model[0].mask == NUMBER).all()
    assert not report.buffers


def test_nothing_is_said_of_those_that_are_left_out(spread: Callable[..., nn.Module]) -> None:
    model = spread(lambda: nn.Sequential(OfNobody(True), nn.Linear(6, 6)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pyinit.initialize_(model, "normal", seed=3, skip="0.*")


def test_nothing_is_said_of_a_plain_model() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pyinit.initialize_(OfNobody(False), "normal", seed=3)
