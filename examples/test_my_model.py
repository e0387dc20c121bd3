"""A test suite of yours: every parameter is initialized, and nobody breaks that unnoticed.

    pytest examples/test_my_model.py

The second test shows what the first one is for: a layer that was added, and that the initialization has
forgotten, fails with the parameter's name.
"""

import pytest
from torch import nn

import pyinit


class Model(nn.Module):
    """A model with an initialization of its own, as ``init_weights``."""

    def __init__(self, gated: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 64), nn.ReLU())
        self.head = nn.Linear(64, 10)
        if gated:
            self.gate = nn.Linear(64, 64)  # added later

    def init_weights(self) -> None:
        """Weights for ReLU, and a small head."""
        nn.init.kaiming_normal_(self.body[0].weight, nonlinearity="relu")
        nn.init.normal_(self.head.weight, std=0.02)
        for layer in (self.body[0], self.head):
            nn.init.zeros_(layer.bias)


def test_every_parameter_is_initialized() -> None:
    pyinit.assert_initialized(Model, "init_weights")


def test_a_layer_that_is_forgotten_is_named() -> None:
    with pytest.raises(AssertionError, match=r"gate\.weight"):
        pyinit.assert_initialized(lambda: Model(gated=True), "init_weights")
