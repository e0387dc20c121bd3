"""Names that arguments may be are typed as literals, so that editors complete them."""

from typing import get_args, get_type_hints

import pytest
import torch

import pyinit
from pyinit._functional.activations import ACTIVATIONS
from pyinit._functional.epilogue import ActivationName

CONVOLUTIONS = [f"conv{kind}{dims}d" for kind in ("", "_transpose") for dims in (1, 2, 3)]


def literals(hint):
    """The texts that a type allows."""
    if isinstance(hint, str):
        return {hint}
    return {text for part in get_args(hint) for text in literals(part)}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_activations_of_convolutions(name):
    hint = get_type_hints(getattr(pyinit.functional, name))["activation"]
    assert literals(hint) == {*ACTIVATIONS} == {*get_args(ActivationName)}


@pytest.mark.parametrize(
    "function", [pyinit.set_rng, pyinit.rng, pyinit.patch], ids=lambda f: f.__name__
)
def test_generators(function):
    (hint,) = (hint for name, hint in get_type_hints(function).items() if name in ("name", "rng"))
    assert literals(hint) == {"philox", "torch", "torch.func"}


@pytest.mark.parametrize(
    "function",
    [pyinit.kaiming_normal_, pyinit.kaiming_uniform_, pyinit.calculate_gain],
    ids=lambda f: f.__name__,
)
def test_nonlinearities(function):
    names = literals(get_type_hints(function)["nonlinearity"])
    assert {"relu", "linear", "conv_transpose3d", "gelu"} <= names
    for name in names:
        assert pyinit.calculate_gain(name) > 0


@pytest.mark.parametrize(
    ("function", "argument", "names"),
    [
        (pyinit.kaiming_normal_, "mode", {"fan_in", "fan_out"}),
        (pyinit.kaiming_uniform_, "mode", {"fan_in", "fan_out"}),
        (pyinit.variance_scaling_, "mode", {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}),
        (
            pyinit.variance_scaling_,
            "distribution",
            {"truncated_normal", "normal", "untruncated_normal", "uniform"},
        ),
        (pyinit.functional.gelu, "approximate", {"none", "tanh"}),
    ],
)
def test_modes_and_distributions(function, argument, names):
    assert literals(get_type_hints(function)[argument]) == names
    if function is not pyinit.functional.gelu:
        for name in names:
            function(torch.empty(3, 2), **{argument: name})
