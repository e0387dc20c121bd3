"""Names, numbers, modules and classes as nonlinearities: functions and dataclasses take the same."""

from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from torch import nn

import pyinit
from pyinit._scale.gain import NonlinearityName
from pyinit.initializers import KaimingNormal, KaimingUniform, Weight

NAMES = [name for kind in get_args(NonlinearityName) for name in get_args(kind)]
BEYOND_TORCH = ["celu", "elu", "gelu", "hardsigmoid", "hardswish", "mish", "silu", "softplus"]


def drawn(nonlinearity, fill=pyinit.kaiming_normal_):
    return fill(torch.empty(8, 6), nonlinearity=nonlinearity, generator=torch.Generator())


@pytest.mark.parametrize("name", BEYOND_TORCH)
def test_a_name_that_torch_has_no_gain_for_gets_the_second_moment_gain(name):
    nodes, weights = map(torch.from_numpy, np.polynomial.hermite_e.hermegauss(150))
    moment = (getattr(F, name)(nodes) ** 2 * weights).sum() / weights.sum()
    assert pyinit.calculate_gain(name) == pytest.approx(moment.item() ** -0.5, rel=1e-3)
    ratio = pyinit.calculate_gain(name) / pyinit.calculate_gain("linear")
    torch.testing.assert_close(drawn(name), drawn("linear") * ratio)


@pytest.mark.parametrize("name", NAMES)
def test_a_dataclass_takes_every_name_that_a_function_takes(name):
    for initializer in (KaimingNormal, KaimingUniform):
        std = initializer(nonlinearity=name).weight_std(Weight((6, 4)))
        param = 0.0 if name == "leaky_relu" else None
        assert std == pyinit.calculate_gain(name, param) / 4**0.5


@pytest.mark.parametrize("fill", [pyinit.kaiming_normal_, pyinit.kaiming_uniform_])
def test_a_number_is_the_gain_itself(fill):
    torch.testing.assert_close(drawn(1.5, fill), drawn("linear", fill) * 1.5)
    assert torch.equal(drawn(1, fill), drawn("linear", fill))
    for gain in (np.float32(1.5), np.float64(1.5)):
        assert torch.equal(drawn(gain, fill), drawn(1.5, fill))
    assert KaimingNormal(nonlinearity=np.float32(1.5)) == KaimingNormal(nonlinearity=1.5)


def test_a_dataclass_keeps_the_gain_of_what_no_file_can_hold():
    gain = pyinit.calculate_gain("gelu")
    for activation in (nn.GELU(), nn.GELU, F.gelu):
        assert KaimingNormal(nonlinearity=activation) == KaimingNormal(nonlinearity=gain)
    assert KaimingNormal(nonlinearity="gelu").nonlinearity == "gelu"


REFUSED = [
    ("rleu", "Unsupported nonlinearity rleu: did you mean relu"),
    ("ReLU", "Unsupported nonlinearity ReLU: did you mean relu"),
    ("dropout", "Unsupported nonlinearity dropout"),
    (nn.Linear, "Linear'>: it takes arguments, so give a module"),
    (torch.Tensor, "must be a name, a module, its class, or a function"),
    (None, "Unsupported nonlinearity None"),
    (True, "Unsupported nonlinearity True"),
    (float("nan"), "must be a finite number where it is the gain, got nan"),
    (float("inf"), "must be a finite number where it is the gain, got inf"),
]


@pytest.mark.parametrize(("given", "message"), REFUSED, ids=[str(i) for i in range(len(REFUSED))])
def test_what_is_no_nonlinearity_is_refused_alike(given, message):
    weight = torch.full((4, 4), 7.0)
    for fill in (pyinit.kaiming_normal_, pyinit.kaiming_uniform_):
        with pytest.raises(ValueError, match=message):
            fill(weight, nonlinearity=given)
    for initializer in (KaimingNormal, KaimingUniform):
        with pytest.raises(ValueError, match=message):
            initializer(nonlinearity=given)
    assert torch.equal(weight, torch.full((4, 4), 7.0))
