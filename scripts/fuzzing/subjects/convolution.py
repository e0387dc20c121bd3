"""Convolutions and their gradients, in every way in which one can ask for them."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from fuzzing.case import (
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
from fuzzing.memory import LAYOUTS, dense, laid_out
from fuzzing.subjects.geometry import Geometry, extreme_geometry, usual_geometry
from fuzzing.subjects.windows import Numbers, Windowed

ACTIVATIONS = (
    "none",
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "gelu",
    "gelu_tanh",
    "silu",
    "sigmoid",
    "tanh",
    "softplus",
)
_TORCHS = {
    "sigmoid": "torch.sigmoid({})",
    "tanh": "torch.tanh({})",
    "gelu_tanh": "torchs.gelu({}, approximate='tanh')",
}
_PARAMETRIZED = ("leaky_relu", "elu")
WAYS = ("forward", "gradients", "pieces", "packed", "columns")
"""What is called: the function, its gradients by autograd or by ``pyinit.nn.grad``, the function with a packed weight,
or ``convolution_by_im2col``."""


@dataclass(frozen=True, kw_only=True)
class Convolution(Windowed):
    name = "conv"
    by_axis = (*Windowed.by_axis, "output_padding")
    drawn_geometry: ClassVar[Callable[[Draws], Geometry]] = staticmethod(usual_geometry)

    way: str = choice(*WAYS)
    transposed: bool
    batch: int = whole()
    inputs: int = whole()
    outputs: int = whole()
    groups: int = whole()
    output_padding: Numbers = whole(0)
    padding_by: str = choice("numbers", "valid", "same")
    has_bias: bool
    unbatched: bool
    activation: str = choice(*ACTIVATIONS)
    parameter: float
    dtype: str = choice("float32", "float64")
    values: str = choice("dyadic", "normal", "infinity")
    x_layout: str = choice(*LAYOUTS)
    w_layout: str = choice(*LAYOUTS)
    g_layout: str = choice(*LAYOUTS)
    b_layout: str = choice(*LAYOUTS)

    # ---- Drawing ---------------------------------------------------------------------------------

    @classmethod
    def draw(cls, rng: Draws) -> "Convolution":
        return rng.until(lambda: cls._drawn(rng, cls.drawn_geometry(rng)))

    @classmethod
    def _drawn(cls, rng: Draws, geometry: Geometry) -> "Convolution":
        """A way to ask for a convolution of that geometry."""
        transposed, axes = geometry.transposed, geometry.axes
        way = rng.choice(WAYS[:2] if transposed else (*WAYS, "forward", "gradients", "gradients"))
        if 0 in {geometry.batch, geometry.inputs} and way == "columns":
            way = "forward"  # unfold refuses an image without elements
        has_activation = way in {"forward", "gradients", "packed"} and rng.chance(0.3)
        activation = rng.choice(ACTIVATIONS) if has_activation else "none"
        values = rng.choice(("dyadic", "dyadic", "normal"))
        if way in {"forward", "packed"} and rng.chance(0.05):
            values = "infinity"
        elif way == "gradients" and activation in {"relu", "leaky_relu", "elu", "selu"}:
            values = "dyadic"  # rounding might move a sum across 0, where the slope changes
        padding_by = (
            "numbers"
            if transposed or way in {"pieces", "columns"}
            else rng.choice(("numbers",) * 8 + ("valid", "same"))
        )
        if padding_by == "same":
            axes = [axis._replace(stride=1) for axis in axes]

        # Negative views have no columns: they are refused.
        layouts = [name for name in LAYOUTS if (way, name) != ("columns", "negated")]

        def layout() -> str:
            return rng.choice(("contiguous", "channels_last", rng.choice(layouts)))

        memory = layout()
        return cls(
            transposed=transposed,
            batch=geometry.batch,
            inputs=geometry.inputs,
            outputs=geometry.outputs,
            groups=geometry.groups,
            **cls.along(axes),
            way=way,
            padding_by=padding_by,
            has_bias=rng.chance(0.6),
            unbatched=way in {"forward", "gradients", "columns"} and rng.chance(0.1),
            activation=activation,
            parameter=rng.choice((0.01, 0.5, 0.0, -0.5, 1.0))
            if activation in _PARAMETRIZED
            else 0.0,
            dtype=rng.choice(("float32", "float32", "float64")),
            values=values,
            x_layout=memory if rng.chance(0.6) else layout(),
            w_layout=memory if rng.chance(0.6) else layout(),
            g_layout=layout(),
            b_layout=rng.choice(("contiguous", "contiguous", "gaps", "expanded", "shifted")),
            threads=rng.any_threads(),
            seed=rng.randrange(1000),
        )

    # ---- Sizes -----------------------------------------------------------------------------------

    def places(self) -> Numbers:
        """The size of the result's image."""
        if self.padding_by == "same":
            return self.size
        axes = self.axes
        if self.padding_by == "valid":
            axes = [axis._replace(padding=0) for axis in axes]
        return tuple(axis.transposed_places if self.transposed else axis.places for axis in axes)

    def shapes(self) -> tuple[Numbers, Numbers, Numbers]:
        """The shapes of input, weight and result."""
        taken, made = self.inputs * self.groups, self.outputs * self.groups
        weight = (taken, self.outputs) if self.transposed else (made, self.inputs)
        batch = () if self.unbatched else (self.batch,)
        return (*batch, taken, *self.size), (*weight, *self.kernel), (*batch, made, *self.places())

    def work(self) -> float:
        elements = sum(math.prod(shape) for shape in self.shapes())
        pixels = math.prod(self.size if self.transposed else self.places())
        products = (
            self.batch * pixels * math.prod(self.kernel) * self.inputs * self.outputs * self.groups
        )
        return max(products, 15 * elements)

    def documented_bytes(self) -> int:
        pixels = self.batch * math.prod(self.places())
        columns = self.inputs * self.groups * math.prod(self.kernel) * pixels
        return 8 * columns if self.way == "columns" else 0

    def label(self) -> str:
        dims, kind = len(self.size), "transposed " if self.transposed else ""
        kind += "depthwise " if self.groups > 1 and 1 in {self.inputs, self.outputs} else ""
        return f"conv{dims}d {kind}{self.way}"

    # ---- The program -----------------------------------------------------------------------------

    def program(self) -> Program:
        return self._program(self.activation)

    def _program(self, activation: str) -> Program:
        values = dense("normal" if self.values == "normal" else "dyadic", self.dtype)
        dims, (x, w, y) = len(self.size), self.shapes()

        def with_infinity(shape: Numbers) -> str:
            at = self.seed % max(math.prod(shape), 1)
            return (
                f"{values(shape)}.flatten().index_fill(0, torch.tensor([{at}]), inf).view({shape})"
            )

        of_input = with_infinity if self.values == "infinity" and math.prod(x) else values
        setup = [
            f"x = {laid_out(of_input, x, self.x_layout)}",
            f"w = {laid_out(values, w, self.w_layout)}",
            f"b = {laid_out(values, y[-dims - 1 : -dims], self.b_layout)}"
            if self.has_bias
            else "b = None",
        ]
        numbers: list[object] = [self.stride, self.padding, self.dilation, self.groups]
        if self.padding_by != "numbers":
            numbers[1] = repr(self.padding_by)
        if self.transposed:
            numbers[2:] = [self.output_padding, self.groups, self.dilation]
        window = ", ".join(map(str, numbers))
        if self.way == "pieces":
            return self._pieces(setup, y, window)
        function = f"conv{'_transpose' if self.transposed else ''}{dims}d"
        ours = torchs = f"{function}(x, w, b, {window})"
        if self.way == "columns":
            ours = f"convolution_by_im2col(x, w, b, {window})"
        elif self.way == "packed":
            ours = f"{function}(x, F.pack_weight(w, {self.groups}), b, {window})"
        if activation != "none":
            parameter = f", {self.parameter}" if activation in _PARAMETRIZED else ""
            option = f", activation_parameter={self.parameter}" if parameter else ""
            ours = f"{ours[:-1]}, activation={activation!r}{option})"
            torchs = _TORCHS.get(activation, f"torchs.{activation}({{}}{parameter})").format(
                f"torchs.{torchs}"
            )
        else:
            torchs = f"torchs.{torchs}"
        ours = f"F.{ours}"
        if self.way != "gradients":
            return Program(setup, ours, torchs)
        setup.append(f"g = {laid_out(values, y, self.g_layout)}")
        by = ["x", "w", "b"][: 2 + self.has_bias]
        setup.extend(f"{name}.requires_grad_()" for name in by)
        gradient = f"torch.autograd.grad({{}}, ({', '.join(by)}), g)"
        return Program(setup, gradient.format(ours), gradient.format(torchs))

    def _pieces(self, setup: list[str], result: Numbers, window: str) -> Program:
        dims = len(self.size)
        of_result = laid_out(dense(self.values, self.dtype), result, self.g_layout)
        setup = [*setup[:2], f"g = {of_result}"]
        both = (
            f"{{0}}.conv{dims}d_input(x.shape, w, g, {window})",
            f"{{0}}.conv{dims}d_weight(x, w.shape, g, {window})",
        )
        ours, torchs = (", ".join(both).format(place) for place in ("grad", "torch.nn.grad"))
        others = tuple(range(2, dims + 2))
        return Program(
            setup, f"({ours}, grad.conv{dims}d_bias(g))", f"({torchs}, g.sum((0, *{others})))"
        )

    # ---- What is right ---------------------------------------------------------------------------

    def expected(self, names: Names) -> list[Expected]:
        exact = doubled(names)
        values = listed(evaluate(self.program().torchs, exact))
        if self.values != "normal" and self.activation in {"none", "relu"}:
            return [Expected(value) for value in values]
        epsilon = torch.finfo(getattr(torch, self.dtype)).eps
        sums = [epsilon * self._steps(terms) for terms in self._terms()]
        absolute = {k: _absolute(v) for k, v in exact.items()}
        if self.activation != "none":
            size = 0.0 if self.values == "dyadic" else sums[0] * evaluate(self._plain(), absolute)
            slope = 1.8 * max(1.0, abs(self.parameter))  # the largest slope of any activation
            if self.way != "gradients":
                size_of_sums = evaluate(self._plain(), absolute)
                return [
                    Expected(v, slope * size + 8 * epsilon * (v.abs() + 1 + size_of_sums))
                    for v in values
                ]
            # The slopes at the sums are off, too: their error goes through the sums of the gradients.
            off = absolute["g"] * (slope * size + 8 * epsilon)
            by_g = listed(
                evaluate(self._program("none").torchs, {**absolute, "g": absolute["g"] * slope})
            )
            by_off = listed(evaluate(self._program("none").torchs, {**absolute, "g": off}))
            bounds = [s * x + y for s, x, y in zip(sums, by_g, by_off, strict=False)]
        else:
            sizes = listed(evaluate(self.program().torchs, absolute))
            bounds = [s * x.abs() for s, x in zip(sums, sizes, strict=False)]
        return [Expected(value, bound + 1e-30) for value, bound in zip(values, bounds, strict=True)]

    def _plain(self) -> str:
        return replace(self, way="forward")._program("none").torchs

    def _terms(self) -> tuple[int, ...]:
        """The number of products that each result is a sum of."""
        taps = math.prod(self.kernel)
        pixels = self.batch * math.prod(self.size if self.transposed else self.places())
        if self.way not in {"gradients", "pieces"}:
            return (self.inputs * taps,)
        return self.outputs * taps, pixels, self.batch * math.prod(self.places())

    def _steps(self, terms: int) -> float:
        """How many roundings bound the error of a sum. Its chains have at most 320 terms, and are summed up in turn."""
        longest = min(terms, 320) + terms / 160
        is_constant = any("expanded" in x for x in (self.x_layout, self.w_layout, self.g_layout))
        # The errors of random numbers partly cancel.
        return 20 + longest if is_constant else 8 + 4 * math.sqrt(longest)


def _absolute(x: Any) -> Any:
    is_number = isinstance(x, torch.Tensor) and x.is_floating_point()
    return x.detach().abs().requires_grad_(x.requires_grad) if is_number else x


@dataclass(frozen=True, kw_only=True)
class ExtremeConvolution(Convolution):
    """Convolutions with strides, paddings and dilations up to the largest. Few of their taps meet the image."""

    name = "extreme"
    drawn_geometry = staticmethod(extreme_geometry)
