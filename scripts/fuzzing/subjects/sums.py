"""Sums over the pixels of each channel, which are the gradient of a convolution by its bias."""

import math
from dataclasses import dataclass

import torch

from fuzzing.case import Case, Draws, Expected, Names, Program, choice, doubled, evaluate, whole
from fuzzing.memory import LAYOUTS, dense, laid_out


@dataclass(frozen=True, kw_only=True)
class Sums(Case):
    name = "sums"
    most_work = 400_000.0

    shape: tuple[int, ...] = whole()
    dtype: str = choice("float32", "float64")
    values: str = choice("dyadic", "normal")
    layout: str = choice(*LAYOUTS)

    @classmethod
    def draw(cls, rng: Draws) -> "Sums":
        dims = rng.choice((3, 4, 4, 5))
        shape = rng.sizes(dims, 300_000 if rng.chance(0.05) else 10_000)
        if rng.chance(0.02):
            shape = (*shape[:-1], 0)
        return cls(
            shape=shape,
            dtype=rng.choice(("float32", "float64")),
            values=rng.choice(("dyadic", "normal")),
            layout=rng.choice(LAYOUTS),
            threads=rng.any_threads(),
            seed=rng.randrange(1000),
        )

    def label(self) -> str:
        return f"conv{len(self.shape) - 2}d_bias"

    def work(self) -> float:
        return math.prod(self.shape)

    def program(self) -> Program:
        setup = [f"g = {laid_out(dense(self.values, self.dtype), self.shape, self.layout)}"]
        others = (0, *range(2, len(self.shape)))
        return Program(setup, f"grad.{self.label()}(g)", f"g.sum({others})")

    def expected(self, names: Names) -> list[Expected]:
        right = evaluate(self.program().torchs, doubled(names))
        if self.values == "dyadic":
            return [Expected(right)]
        size = names["g"].double().abs().sum((0, *range(2, len(self.shape))))
        terms = math.prod(self.shape) / max(self.shape[1], 1)
        epsilon = torch.finfo(getattr(torch, self.dtype)).eps
        return [Expected(right, epsilon * (20 + min(terms, 320)) * size)]
