"""C = alpha A B + beta C for matrices of any layout, backwards ones included."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fuzzing.case import Case, Draws, Expected, Names, Program, choice, whole
from fuzzing.memory import PLACES, room_of, strides_of


@dataclass(frozen=True, kw_only=True)
class Gemm(Case):
    name = "gemm"

    m: int = whole(0)
    n: int = whole(0)
    k: int = whole(0)
    batch: int = whole(0)
    alpha: float
    beta: float
    dtype: str = choice("float32", "float64")
    a_layout: str = choice(*PLACES)
    b_layout: str = choice(*PLACES)
    layout: str = choice(*PLACES)
    a_backwards: bool
    c_backwards: bool

    @classmethod
    def draw(cls, rng: Draws) -> "Gemm":
        m, n, k = (rng.randint(0, 40) if rng.chance(0.9) else rng.randint(1, 400) for _ in range(3))
        return cls(
            m=m,
            n=n,
            k=k,
            batch=rng.choice((0, 0, 1, 3)),
            alpha=rng.choice((1.0, 1.0, 0.5, -2.0, 0.0)),
            beta=rng.choice((0.0, 0.0, 1.0, -0.5)),
            dtype=rng.choice(("float32", "float64")),
            a_layout=rng.choice(PLACES),
            b_layout=rng.choice(PLACES),
            layout=rng.choice(PLACES),
            a_backwards=rng.chance(0.2),
            c_backwards=rng.chance(0.2),
            threads=rng.any_threads(),
            seed=rng.randrange(1000),
        )

    def work(self) -> float:
        return self.m * self.n * self.k * max(self.batch, 1)

    def _shape(self, rows: int, columns: int) -> tuple[int, ...]:
        return (self.batch, rows, columns) if self.batch else (rows, columns)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of C, which is written to."""
        return self._shape(self.m, self.n)

    def program(self) -> Program:
        def matrix(rows: int, columns: int, layout: str) -> str:
            shape = self._shape(rows, columns)
            strides, offset = strides_of(shape, layout)
            return f"place(torch.randint(-4, 5, {shape}, dtype=torch.{self.dtype}) / 4, {strides}, {offset}).numpy()"

        backwards = f"[{', '.join(['::-1'] * len(self.shape))}]"
        setup = [
            f"a = {matrix(self.m, self.k, self.a_layout)}{backwards if self.a_backwards else ''}",
            f"b = {matrix(self.k, self.n, self.b_layout)}",
            *room_of(self.shape, self.layout, self.dtype, numpy=self.c_backwards),
            "out = np.asarray(out)",
            "out[...] = 3 if " + str(self.beta != 0) + " else nan",
        ]
        call = f"_core.gemm(target(a), target(b), target(out), {self.alpha}, {self.beta}, torch.get_num_threads())"
        product = f"{self.alpha} * (a @ b)" + (f" + {self.beta} * 3" if self.beta else "")
        return Program(setup, f"({call}, out)[1]", product)

    def expected(self, names: Names) -> list[Expected]:
        a, b = (names[name].astype(np.float64) for name in "ab")
        # The numbers are dyadic, so all sums are exact.
        right: Any = self.alpha * (a @ b) + (self.beta * 3 if self.beta else 0)
        return [Expected(right)]
