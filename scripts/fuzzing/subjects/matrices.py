"""Orthogonal, sparse, identity and Dirac matrices, judged by their definitions; torch's numbers, judged by torch."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from fuzzing.case import Draws, Expected, Names, Program, choice, doubled, evaluate, listed, whole
from fuzzing.subjects.fills import Placed, drawn_place, normals, reference

_WORD = 2**64 - 1

FUNCTIONS = (
    "uniform_",
    "normal_",
    "trunc_normal_",
    "kaiming_uniform_",
    "xavier_normal_",
    "sparse_",
)


def key_of(seed: int) -> int:
    """The draw that pyinit takes from a generator of that seed."""
    generator = torch.Generator().manual_seed(seed)
    return (
        int(torch.empty((), dtype=torch.int64).random_(-(2**63), None, generator=generator)) & _WORD
    )


@dataclass(frozen=True, kw_only=True)
class Orthogonal(Placed):
    name = "orthogonal"
    same_bits = "fused"

    groups: int = whole()
    gain: float

    @classmethod
    def draw(cls, rng: Draws) -> "Orthogonal":
        groups = rng.choice((1, 1, 1, 2, 3))
        m, n = (rng.randint(1, 40) if rng.chance(0.9) else rng.randint(1, 150) for _ in range(2))
        more = rng.choice(((), (), (1,), (3, 1)))
        return cls(
            **{**drawn_place(rng), "shape": (m * groups, n, *more), "numpy": False},
            groups=groups,
            gain=rng.choice((1.0, 1.0, 0.5, -2.0, 0.0, 3.7)),
        )

    def program(self) -> Program:
        call = f"orthogonal_({{}}, {self.gain}, generator=torch.Generator().manual_seed({self.seed}){{}})"
        groups = f", groups={self.groups}" if self.groups > 1 else ""
        empty = f"torch.empty({self.shape}, dtype=torch.{'float64' if self.dtype == 'float64' else 'float32'})"
        return Program(
            self.room(),
            f"init.{call.format('out', groups)}",
            f"torch.nn.init.{call.format(empty, '')}",
        )

    def expected(self, names: Names) -> list[Expected]:  # noqa: ARG002
        m, n = self.shape[0] // self.groups, math.prod(self.shape[1:])
        is_double = self.dtype == "float64"
        numbers = normals(key_of(self.seed), 0, 0, self.groups * m * n, double=is_double)
        matrices = []
        for g in range(self.groups):
            of = numbers[g * m * n :]
            matrices.append(
                reference.orthogonal(of, m, n) if m >= n else reference.orthogonal(of, n, m).T
            )
        value = self.gain * np.concatenate(matrices).reshape(self.shape)
        tolerance = abs(self.gain) * (1e-13 if is_double else 5e-6)
        if self.dtype in {"float16", "bfloat16"}:
            tolerance = tolerance + self.spacing(value)
        return [Expected(value, tolerance)]


@dataclass(frozen=True, kw_only=True)
class Structured(Placed):
    name = "structured"

    kind: str = choice("eye", "dirac", "sparse")
    groups: int = whole()
    sparsity: float

    @classmethod
    def draw(cls, rng: Draws) -> "Structured":
        kind = rng.choice(("eye", "dirac", "sparse"))
        groups = rng.choice((1, 1, 2, 3)) if kind == "dirac" else 1
        shape = rng.sizes(
            rng.choice((3, 4, 5)) if kind == "dirac" else 2, 60_000 if rng.chance(0.05) else 1600
        )
        return cls(
            **{**drawn_place(rng), "shape": (shape[0] * groups, *shape[1:]), "numpy": False},
            kind=kind,
            groups=groups,
            sparsity=rng.choice((0.0, 1.0, 0.9, rng.random())) if kind == "sparse" else 0.0,
        )

    def label(self) -> str:
        return f"{self.kind}_"

    def program(self) -> Program:
        call = {
            "eye": "eye_({})",
            "dirac": f"dirac_({{}}, {self.groups})",
            "sparse": f"sparse_({{}}, {self.sparsity}, 0.5, generator=torch.Generator().manual_seed({self.seed}))",
        }[self.kind]
        empty = f"torch.empty({self.shape}, dtype=torch.{self.dtype})"
        return Program(
            self.room(), f"init.{call.format('out')}", f"torch.nn.init.{call.format(empty)}"
        )

    def expected(self, names: Names) -> list[Expected]:
        if self.kind != "sparse":
            return [
                Expected(value) for value in listed(evaluate(self.program().torchs, doubled(names)))
            ]
        rows, columns = self.shape
        key, is_double = key_of(self.seed), self.dtype == "float64"
        count = rows * columns
        value = 0.5 * normals(key, 0, 0, count, double=is_double).reshape(rows, columns)
        words = reference.words(key, 1, 0, count)
        for column in range(columns):
            zeros = len(range(rows)[: math.ceil(self.sparsity * rows)])
            for row in range(rows):
                if int(words[row * columns + column]) * (rows - row) >> 32 < zeros:
                    value[row, column] = 0
                    zeros -= 1
        return [
            Expected(value, self.spacing(value) + (1e-14 if is_double else 1e-6) * (value != 0))
        ]


@dataclass(frozen=True, kw_only=True)
class TorchsNumbers(Placed):
    """Fills under ``rng("torch")``: torch's numbers, and its generator's state after them, bit for bit."""

    name = "torch"

    function: str = choice(*FUNCTIONS)
    first: float
    second: float

    @classmethod
    def draw(cls, rng: Draws) -> "TorchsNumbers":
        function = rng.choice(FUNCTIONS)
        common = drawn_place(rng, rng.choice((3_000, 20_000)))
        if function in {"kaiming_uniform_", "xavier_normal_"} and len(common["shape"]) < 2:
            common["shape"] = (*common["shape"], 3, 5)[-4:]
        elif function == "sparse_":
            common["shape"] = rng.sizes(2, 6_000)
        elif rng.chance(0.4):  # torch fills small ones itself
            common["shape"] = (*common["shape"][:1], rng.randint(1, 60), rng.randint(1, 60))
        first = rng.choice((0.0, 0.0, round(rng.uniform(-3, 3), 3)))
        second = round(rng.uniform(0.01, 3), 3)
        if function == "uniform_":
            second += first
        elif function == "sparse_":
            first, second = rng.random(), 0.5
        return cls(**{**common, "numpy": False}, function=function, first=first, second=second)

    def label(self) -> str:
        return f"torch {self.function} {self.dtype}"

    def program(self) -> Program:
        numbers = (
            f"{self.first}, {self.second}"
            if self.function in {"uniform_", "normal_", "sparse_"}
            else ""
        )
        if self.function == "trunc_normal_":
            numbers = f"{self.first}, {self.second}, {self.first - 1.5}, {self.first + self.second}"
        call = f"{self.function}({{}}{', ' * bool(numbers)}{numbers})"
        if "kaiming" in self.function or "xavier" in self.function:
            call = f"{self.function}({{}})"
        setup = [
            *self.room(),
            "theirs = torch.empty_strided(out.shape, out.stride(), dtype=out.dtype)",
            "pyinit.set_rng('torch')",
            "after = lambda x: (x, torch.get_rng_state())",
        ]
        ours = f"after(init.{call.format('out')})"
        return Program(setup, ours, f"after(torch.nn.init.{call.format('theirs')})")

    def expected(self, names: Names) -> list[Expected]:
        torch.manual_seed(self.seed)
        values, state = evaluate(self.program().torchs, names)
        return [Expected(values.double()), Expected(state)]
