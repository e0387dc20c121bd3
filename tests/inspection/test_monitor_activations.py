"""Measures of outputs: pooled over calls, and by torch where kernels do not reach."""

import math
from collections import OrderedDict
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from pyinit.inspection.layers import Layer
from pyinit.inspection.layouts import Layouts
from pyinit.inspection.monitor.activations import (
    Moments,
    _on_device,
    first_measurable,
    measured,
    pooled,
)
from pyinit.inspection.monitor.layers import layers_of
from pyinit.inspection.monitor.norms import norms, ratio, together


@pytest.mark.parametrize("shape", [(7, 5), (4, 3, 6, 5), (3, 4, 6)])
def test_devices_without_kernels_give_the_same(shape: tuple[int, ...]) -> None:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 0.5
    layer, layouts = Layer("", nn.ReLU(), "activation", {}), Layouts()
    layout = layouts.of(layer, values)
    values.select(layout[1], 1).zero_()
    expected = measured(layer, values, layouts)
    moments, samples, total, dead = _on_device(values, *layout, math.prod(shape[: layout[0]]))
    assert moments == pytest.approx(expected.moments, rel=1e-5)
    assert samples == expected.samples
    assert total == pytest.approx(expected.total_variance, rel=1e-5)
    assert dead.tolist() == expected.dead.tolist()
    assert dead.sum() == 1


def test_moments_are_pooled_as_those_of_all_values() -> None:
    parts = [
        torch.randn(n, generator=torch.Generator().manual_seed(n)).double() + n for n in (3, 9)
    ]
    found = pooled(
        Moments(len(each), each.mean().item(), each.var(correction=0).item() * len(each))
        for each in (*parts, torch.empty(0).double())
        if len(each)
    )
    whole = torch.cat(parts)
    assert found.mean == pytest.approx(whole.mean().item())
    assert found.variance == pytest.approx(whole.var(correction=0).item())
    assert math.isnan(pooled([]).variance)


@dataclass
class Output:
    tokens: Tensor
    scores: Tensor


TOKENS, SCORES = torch.zeros(2, dtype=torch.long), torch.ones(2)


@pytest.mark.parametrize(
    "output",
    [
        SCORES,
        (TOKENS, [None, SCORES]),
        OrderedDict(tokens=TOKENS, scores=SCORES),
        Output(TOKENS, SCORES),
    ],
)
def test_the_first_tensor_with_real_values_is_found(output: object) -> None:
    assert first_measurable(output) is SCORES


@pytest.mark.parametrize(
    "output",
    [None, 3, TOKENS, torch.empty(0, 2), torch.ones(2, device="meta"), torch.ones(2).to_sparse()],
)
def test_what_has_no_real_values_is_left_alone(output: object) -> None:
    assert first_measurable(output) is None


def test_norms_come_in_the_order_of_the_tensors() -> None:
    assert norms([torch.full((4,), 2.0), torch.zeros(2), torch.ones(9)]) == [4.0, 0.0, 3.0]
    assert norms([]) == []
    assert together([3.0, 4.0]) == 5.0
    assert together([]) is None


@pytest.mark.parametrize(
    ("change", "size", "expected"), [(1.0, 4.0, 0.25), (1.0, 0.0, math.inf), (None, 1.0, None)]
)
def test_a_change_from_nothing_is_infinite(
    change: float | None, size: float, expected: float | None
) -> None:
    assert ratio(change, size) == expected
    assert math.isnan(ratio(0.0, 0.0))


class Lists(nn.Module):
    """Parameters in lists, which no forward pass calls."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList([torch.ones(2), torch.ones(3)])
        self.inner = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Sequential()})


def test_parameters_in_lists_belong_to_the_module_around() -> None:
    found = {layer.name: list(layer.parameters) for layer in layers_of(Lists(), None)}
    assert found == {
        "": ["weights.0", "weights.1"],
        "inner.a": ["inner.a.weight", "inner.a.bias"],
    }


def test_modules_in_several_places_are_one_layer_with_several_names() -> None:
    shared = nn.Linear(2, 2)
    model = nn.Sequential(shared, nn.Sequential(shared))
    (layer,) = layers_of(model, "1.0")
    assert (layer.name, layer.tied) == ("0", ("1.0",))
