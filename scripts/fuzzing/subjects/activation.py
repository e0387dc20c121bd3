"""Activation functions, softmax, and their derivatives, within the errors that docs/activations.md states."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fuzzing.case import (
    Case,
    Draws,
    Expected,
    Names,
    Program,
    choice,
    doubled,
    evaluate,
    listed,
    whole,
)
from fuzzing.memory import LAYOUTS, laid_out

# The error in units in the last place, and whether these are units of x (of the value, if not).
ERRORS = {
    "relu": (0.0, False),
    "leaky_relu": (1.0, False),
    "elu": (1.3, False),
    "selu": (3.0, False),
    "sigmoid": (2.7, False),
    "tanh": (2.7, False),
    "softplus": (3.0, False),
    "silu": (2.5, True),
    "gelu_tanh": (2.5, True),
    "gelu": (5.5, True),
}
FUNCTIONS = (*ERRORS, "softmax", "log_softmax")
_TORCHS_ULPS = 16.0  # torch's own error in float64
_IN_PLACE = ("relu", "leaky_relu", "elu", "selu", "silu")


@dataclass(frozen=True, kw_only=True)
class Activation(Case):
    name = "activation"
    most_work = 400_000.0

    function: str = choice(*FUNCTIONS)
    parameter: float
    shape: tuple[int, ...] = whole()
    dim: int = whole(0)
    values: str = choice("normal", "wide", "special")
    dtype: str = choice("float32", "float64")
    layout: str = choice(*LAYOUTS)
    g_layout: str = choice(*LAYOUTS)
    differentiated: bool
    in_place: bool

    @classmethod
    def draw(cls, rng: Draws) -> "Activation":
        function = rng.choice(FUNCTIONS)
        shape = rng.sizes(rng.randint(1, 4), 300_000 if rng.chance(0.05) else 3_000)
        if rng.chance(0.02):
            shape = (*shape[:-1], 0)
        differentiated = rng.chance(0.4)
        is_softmax = "softmax" in function
        layout = rng.choice(LAYOUTS)
        in_place = (
            function in _IN_PLACE
            and not differentiated
            and "expanded" not in layout
            and rng.chance(0.3)
        )
        values = rng.choice(("normal", "normal", "wide", "special"))
        return cls(
            function=function,
            parameter=rng.choice((0.01, 1.0, 0.5, 0.0, -0.5, 2.0))
            if function in {"leaky_relu", "elu"}
            else 0.0,
            shape=shape,
            dim=rng.randrange(len(shape)),
            values="normal" if is_softmax or differentiated else values,
            dtype=rng.choice(("float32", "float64")),
            layout=layout,
            g_layout=rng.choice(LAYOUTS),
            differentiated=differentiated,
            in_place=in_place,
            threads=rng.any_threads(),
            seed=rng.randrange(1000),
        )

    def label(self) -> str:
        return self.function + (" gradient" if self.differentiated else "")

    def work(self) -> float:
        return math.prod(self.shape)

    def program(self) -> Program:
        def numbers(shape: tuple[int, ...]) -> str:
            of = f"dtype=torch.{self.dtype}"
            if self.values == "normal":
                return f"(torch.randn({shape}, {of}) * 3)"
            if self.values == "wide":
                return (
                    f"(torch.randn({shape}, {of}) * 10.0 ** (torch.rand({shape}, {of}) * 30 - 25))"
                )
            largest = torch.finfo(getattr(torch, self.dtype)).max
            special = f"[0.0, -0.0, inf, -inf, nan, 1e-40, -1e-40, 1.0, -1.0, 20.0, 88.8, -88.8, {largest}, {-largest}]"
            return f"torch.tensor({special}, {of})[torch.randint(14, {shape})]"

        setup = [f"x = {laid_out(numbers, self.shape, self.layout)}"]
        more = ", inplace=True" if self.in_place else ""
        if self.function in {"leaky_relu", "elu"}:
            more = f", {self.parameter}{more}"
        elif "softmax" in self.function:
            more = f", {self.dim}"
        elif self.function == "gelu_tanh":
            more = ", approximate='tanh'"
        function = "gelu" if self.function == "gelu_tanh" else self.function
        place = "torch" if function in {"sigmoid", "tanh"} else "torchs"
        ours, torchs = f"F.{function}(x{more})", f"{place}.{function}(x{more})"
        if self.differentiated:
            setup.append("x.requires_grad_()")
            normal = f"torch.randn({{}}, dtype=torch.{self.dtype})"
            setup.append(f"g = {laid_out(normal.format, self.shape, self.g_layout)}")
            gradient = "torch.autograd.grad({}, x, g)"
            return Program(setup, gradient.format(ours), gradient.format(torchs))
        if self.in_place:  # keeps what the call overwrites
            setup.append("y = x")
            setup.append("x = x.clone() if x.is_neg() else y")
            setup.append("before = x.clone()")
        return Program(setup, ours, torchs)

    def expected(self, names: Names) -> list[Expected]:
        exact = doubled(names)
        if self.in_place:
            exact["x"] = exact["before"]
        x = exact["x"].clone()
        value = listed(evaluate(self.program().torchs, exact))[0]
        return [Expected(value, self._tolerance(x, value, exact))]

    def _tolerance(self, x: Tensor, value: Tensor, exact: Names) -> Tensor:
        kind = torch.finfo(getattr(torch, self.dtype))
        x, value = x.detach(), value.detach()
        if "softmax" in self.function:
            size = value.abs() + 1
            if self.differentiated:
                g, shape = exact["g"].abs(), self.shape
                size = 8 * (g + g.sum(self.dim, keepdim=True)) * (1 + shape[self.dim] / 16)
            elif self.function == "log_softmax":
                size = size + x.abs().amax(self.dim, keepdim=True) if x.numel() else size
            return 8 * kind.eps * size
        if self.differentiated:
            slope = 1 + abs(self.parameter)
            return (
                (4 + (_TORCHS_ULPS if self.dtype == "float64" else 0))
                * kind.eps
                * 2
                * slope
                * exact["g"].abs()
            )
        ulps, is_of_x = ERRORS[self.function]
        if self.function == "elu":
            ulps += 1  # for the product with alpha
        if self.dtype == "float64" and ulps:
            ulps += _TORCHS_ULPS
        # A unit in the last place is at most epsilon times the number. torch's sigmoid flushes subnormal results.
        return ulps * (
            kind.eps * (x if is_of_x else value).abs()
            + kind.smallest_normal * (1 if self.dtype == "float64" else kind.eps)
        )
