"""What a model of many small layers costs grows with their number, and no faster; its values stay."""

import gc
import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn

import pyinit
from pyinit import initialize_, replay_
from pyinit.initializers import Constant, Normal

RULES = {"*weight": Normal(std=0.02), "*bias": Constant(0.0)}


def flat(count: int) -> nn.Module:
    return nn.Sequential(*(nn.Linear(8, 8) for _ in range(count)))


def nested(count: int) -> nn.Module:
    """Sequentials in Sequentials, eight of them in each."""
    if count == 1:
        return nn.Linear(8, 8)
    return nn.Sequential(*(nested(count // 8) for _ in range(8)))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layer(x)


def residual(count: int) -> nn.Module:
    return nn.Sequential(*(Residual() for _ in range(count)))


def calls_of(function: Callable[[], Any]) -> int:
    """How many functions of Python and of C a call enters."""
    count = 0

    def see(_: object, event: str, __: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(see)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


# At most so many calls for each further layer of two parameters.
@pytest.mark.parametrize(
    ("recipe", "rules", "most"),
    [("torch", None, 300), ("torch", RULES, 350), ("kaiming", None, 300), ("auto", None, 600)],
    ids=["torch", "rules", "kaiming", "auto"],
)
@pytest.mark.parametrize("build", [flat, nested])
def test_each_further_layer_takes_as_many_calls_as_one_before(
    build: Callable[[int], nn.Module], recipe: str, rules: Any, most: int
) -> None:
    counts = []
    for count in (8, 64, 512):
        model = build(count)
        initialize_(model, recipe, rules=rules, seed=0)  # classes are looked at once
        counts.append(calls_of(lambda: initialize_(model, recipe, rules=rules, seed=0)))  # noqa: B023
    first, second = (counts[1] - counts[0]) / 56, (counts[2] - counts[1]) / 448
    assert second < 1.1 * first
    assert second < most


@pytest.mark.parametrize("recipe", ["torch", "auto"])
def test_each_further_residual_block_takes_as_many_calls_as_one_before(recipe: str) -> None:
    counts = []
    for count in (8, 64, 512):
        model = residual(count)
        initialize_(model, recipe, seed=0)
        counts.append(calls_of(lambda: initialize_(model, recipe, seed=0)))  # noqa: B023
    assert (counts[2] - counts[1]) / 448 < 1.1 * (counts[1] - counts[0]) / 56


def test_a_replay_of_half_a_report_takes_calls_for_each_layer_only() -> None:
    counts = []
    for count in (8, 64, 512):
        report, model = initialize_(flat(count), "torch", seed=0), flat(2 * count)
        replay_(model, report, strict=False)
        counts.append(calls_of(lambda: replay_(model, report, strict=False)))  # noqa: B023
    assert (counts[2] - counts[1]) / 448 < 1.1 * (counts[1] - counts[0]) / 56


@contextmanager
def searches() -> Iterator[list[int]]:
    """The generations of objects that Python searches for reference cycles within a block."""
    seen: list[int] = []

    def note(phase: str, about: dict[str, int]) -> None:
        if phase == "start":
            seen.append(about["generation"])

    gc.callbacks.append(note)
    try:
        yield seen
    finally:
        gc.callbacks.remove(note)


@pytest.mark.parametrize("recipe", ["torch", "auto"])
def test_no_search_for_cycles_goes_over_old_objects_meanwhile(recipe: str) -> None:
    model = flat(500)
    gc.collect()
    with searches() as seen:
        report = initialize_(model, recipe, seed=0)
    assert len(report) == 1000
    assert seen in ([], [0])  # one of the new objects, when all is done
    assert gc.isenabled()


def test_the_search_for_cycles_is_as_it_was_after_an_error_and_where_it_is_off() -> None:
    with pytest.raises(ValueError, match="matches no parameter"):
        initialize_(flat(2), rules={"nothing": Constant(0.0)}, seed=0)
    assert gc.isenabled()
    gc.disable()
    try:
        initialize_(flat(2), "torch", seed=0)
        assert not gc.isenabled()
    finally:
        gc.enable()


def block() -> nn.Module:
    inner = nn.Sequential(nn.Linear(6, 6, bias=False), nn.Tanh())
    return nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), nn.GELU(), inner)


def model_of_many_kinds() -> nn.Module:
    shared = nn.Linear(6, 6)
    chain = nn.Sequential(*(m for _ in range(9) for m in (nn.Linear(6, 6), nn.ReLU())))
    return nn.Sequential(
        nn.Embedding(9, 6, padding_idx=2),
        block(),
        shared,
        nn.ReLU(),
        shared,
        chain,
        nn.Conv1d(6, 8, 3, groups=2),
        nn.BatchNorm1d(8),
        nn.Linear(8, 2),
    )


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


@pytest.mark.parametrize(
    ("recipe", "rules", "values", "report"),
    [
        ("torch", None, "46d7ff951dbfb96b", "2c5f37653cd04462"),
        ("kaiming", None, "b04179fdc2c89186", "ff1acfbf41dcfb93"),
        ("auto", None, "5d87ef62330c0423", "4b4d245d11fb01a6"),
        (
            "torch",
            {"1.*": Normal(std=0.5), "*.bias": Constant(0.25)},
            "1a8d26b46b3390a7",
            "88211005a4936398",
        ),
    ],
    ids=["torch", "kaiming", "auto", "rules"],
)
def test_values_and_report_are_those_of_the_seed(
    recipe: str, rules: Any, values: str, report: str
) -> None:
    model = model_of_many_kinds()
    told = initialize_(model, recipe, rules=rules, seed=5).to_dict()
    told = {key: value for key, value in told.items() if key not in ("pyinit", "torch")}
    state = model.state_dict()
    held = (part for name in state for part in (name.encode(), state[name].numpy().tobytes()))
    assert digest(*held) == values
    assert digest(json.dumps(told, sort_keys=True).encode()) == report


def test_all_elements_of_many_layers_are_those_of_their_names() -> None:
    few, many = flat(3), flat(300)
    pyinit.initialize_(few, "kaiming", seed=9)
    pyinit.initialize_(many, "kaiming", seed=9)
    for name, parameter in few.named_parameters():
        assert torch.equal(parameter, many.get_parameter(name))
