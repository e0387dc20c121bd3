"""Activation functions, compared with those of ``torch.nn.functional``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from pyinit import functional as ours
from pyinit._torch.views import dtype_name
from pyinit.bench._case import (
    LIBRARIES,
    Case,
    Unit,
    bytes_per_second,
    named_call,
    size_name,
)
from pyinit.init import normal_

Direction: TypeAlias = Literal["forward", "backward"]

_MODULES = {"torch": functional, "pyinit": ours}
_LINE, _ROWS = (1 << 22,), (1 << 12, 1 << 10)


class Operands(NamedTuple):
    """The tensors of a case; ``outputs`` are each library's for ``leaf``, ``gradient`` is that by them."""

    input: Tensor
    gradient: Tensor
    leaf: Tensor
    outputs: Mapping[str, Tensor]


@dataclass(frozen=True)
class ActivationCase(Case):
    """One function of ``torch.nn.functional``, or its gradient as autograd computes it."""

    seconds: ClassVar[float] = 0.4

    name: str
    direction: Direction
    shape: tuple[int, ...] = _LINE
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, str, str]:
        call = named_call(self.name, self.kwargs)
        return (
            f"activation {call} {self.direction}",
            dtype_name(torch.float32),
            size_name(self.shape),
        )

    @property
    def group(self) -> str:
        return f"activations, {self.direction}"

    @property
    def work(self) -> float:
        """The bytes read and written: a gradient reads the output's gradient and the saved tensor."""
        tensors = 2 if self.direction == "forward" else 3
        return tensors * prod(self.shape) * torch.float32.itemsize

    @property
    def unit(self) -> Unit:
        return "GB/s"

    @property
    def calls(self) -> int:
        return 1

    def argument(self) -> Operands:
        input, gradient = (normal_(torch.empty(self.shape)) for _ in range(2))
        leaf = input.detach().requires_grad_()
        return Operands(input, gradient, leaf, {by: self._call(by)(leaf) for by in LIBRARIES})

    def function(self, library: str) -> Callable[[Operands], Any]:
        if self.direction == "forward":
            call = self._call(library)
            return lambda x: call(x.input)
        return lambda x: torch.autograd.grad(
            x.outputs[library], x.leaf, x.gradient, retain_graph=True
        )

    def _call(self, library: str) -> Callable[[Tensor], Tensor]:
        return partial(getattr(_MODULES[library], self.name), **self.kwargs)

    def peak(self, argument: Operands) -> float:
        return bytes_per_second(self, argument.gradient)


_FUNCTIONS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("relu", {}),
    ("leaky_relu", {}),
    ("elu", {}),
    ("selu", {}),
    ("gelu", {}),
    ("gelu", {"approximate": "tanh"}),
    ("silu", {}),
    ("sigmoid", {}),
    ("tanh", {}),
    ("softplus", {}),
)


def activations() -> list[ActivationCase]:
    """All functions, forward and backward."""
    directions: tuple[Direction, ...] = ("forward", "backward")
    return [
        ActivationCase(name, direction, shape, kwargs)
        for direction in directions
        for name, shape, kwargs in (
            *((name, _LINE, kwargs) for name, kwargs in _FUNCTIONS),
            *((name, _ROWS, {"dim": dim}) for name in ("softmax", "log_softmax") for dim in (0, 1)),
        )
    ]


def usual_activations() -> list[ActivationCase]:
    """A few of ``activations()``."""
    usual = ("relu", "gelu", "tanh")
    return [case for case in activations() if case.name in usual and not case.kwargs]
