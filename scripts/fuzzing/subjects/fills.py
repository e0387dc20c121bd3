"""Fills with an explicit key, judged by the definition of the stream in docs/random.md."""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fuzzing.case import Case, Draws, Expected, Names, Program, choice, whole
from fuzzing.memory import PLACES, room_of

sys.path.insert(0, str(Path(__file__).parents[3] / "tests" / "helpers"))
import reference  # the definition of the stream, which the tests use, too

DTYPES = ("float32", "float64", "float16", "bfloat16")
LONG = np.longdouble


def drawn_place(rng: Draws, most: int = 3_000) -> dict[str, Any]:
    """The fields that all cases with a tensor to be filled have."""
    shape = rng.sizes(rng.randint(0, 4), 300_000 if rng.chance(0.06) else most)
    if rng.chance(0.02) and shape:
        shape = (0, *shape[1:])
    dtype = rng.choice(DTYPES)
    return {
        "shape": shape,
        "layout": rng.choice(PLACES),
        "dtype": dtype,
        "numpy": dtype != "bfloat16" and rng.chance(0.15),
        "threads": rng.any_threads(),
        "seed": rng.randrange(1000),
    }


def normals(key: int, stream: int, start: int, count: int, *, double: bool) -> NDArray[np.float64]:
    """Elements of normal(0, 1), computed from numbers that are rounded where the definition rounds."""
    if not count:
        return np.zeros(0)
    even, end = start - start % 2, start + count
    draw = reference.double_words if double else reference.words
    words = draw(key, stream, even, end + end % 2 - even)
    if double:
        u = ((words[0::2] >> np.uint64(11)) + 0.5) * 2.0**-53
    else:
        steps = (words[0::2] >> np.uint32(1)).astype(np.float32).astype(np.float64)
        u = ((steps + 0.5) * 2.0**-31).astype(np.float32).astype(np.float64)
    numbers = reference.box_muller(u, words[1::2] * (2.0**-64 if double else 2.0**-32))
    return numbers[start - even :][:count]


@dataclass(frozen=True, kw_only=True)
class Placed(Case):
    """A case in which a tensor is filled."""

    same_bits = "all"
    most_work = 400_000.0

    shape: tuple[int, ...] = whole()
    layout: str = choice(*PLACES)
    dtype: str = choice(*DTYPES)
    numpy: bool

    def work(self) -> float:
        return math.prod(self.shape)

    def room(self) -> list[str]:
        return room_of(self.shape, self.layout, self.dtype, numpy=self.numpy)

    @property
    def info(self) -> torch.finfo:
        return torch.finfo(getattr(torch, self.dtype))

    @property
    def lanes(self) -> type[np.floating[Any]]:
        return np.float64 if self.dtype == "float64" else np.float32

    def spacing(self, value: Any) -> Any:
        """One unit in the last place of a value."""
        return np.abs(value) * self.info.eps + self.info.smallest_normal * self.info.eps


@dataclass(frozen=True, kw_only=True)
class Keyed(Placed):
    """A case whose elements are functions of key, stream and place, perhaps those of a block in a larger tensor."""

    key: int = whole(0)
    stream: int = whole(0)
    before: tuple[int, ...] = whole(0)
    behind: tuple[int, ...] = whole(0)
    """How far the whole tensor goes beyond the block, before and behind it, in each dimension."""

    @staticmethod
    def drawn(rng: Draws) -> dict[str, Any]:
        common = drawn_place(rng)
        shape = common["shape"]
        before = behind = (0,) * len(shape)
        if rng.chance(0.3) and math.prod(shape[:-1]) <= 300:
            most = rng.choice((3, 50, 2 ** (50 // max(1, len(shape)))))
            before, behind = (tuple(rng.randint(0, most) for _ in shape) for _ in range(2))
        words = [rng.choice((0, 1, 2**32, 2**64 - 1, rng.getrandbits(64))) for _ in range(2)]
        return {**common, "before": before, "behind": behind, "key": words[0], "stream": words[1]}

    def place(self) -> str:
        text = f"key={self.key}, stream={self.stream}"
        if any(self.before + self.behind):
            sizes = tuple(map(sum, zip(self.before, self.shape, self.behind, strict=True)))
            text += f", whole={sizes}, start={self.before}"
        return text

    def runs(self) -> list[tuple[int, int]]:
        """The runs of consecutive indices that the elements have: where each begins, and its length."""
        count = math.prod(self.shape)
        if not any(self.before + self.behind) or not count:
            return [(0, count)]
        sizes = [sum(x) for x in zip(self.before, self.shape, self.behind, strict=True)]
        starts = [0]
        for first, n, size in zip(self.before[:-1], self.shape[:-1], sizes[:-1], strict=True):
            starts = [start * size + i for start in starts for i in range(first, first + n)]
        return [(start * sizes[-1] + self.before[-1], self.shape[-1]) for start in starts]

    def words(self, *, further: bool = False) -> NDArray[Any]:
        """The words that the elements are made of: 64 bits in float64, 32 in other dtypes."""
        is_double = self.dtype == "float64"
        draw = reference.double_words if is_double else reference.words
        by = 2 ** (64 if is_double else 65) if further else 0
        parts = [draw(self.key, self.stream, start + by, n) for start, n in self.runs() if n]
        return np.concatenate(parts) if parts else draw(0, 0, 0, 1)[:0]

    def fractions(self, *, further: bool = False) -> NDArray[Any]:
        """The probabilities whose quantiles the truncated normals are."""
        words = self.words(further=further)
        return (
            (words >> np.uint64(11)) * 2.0**-53 + 2.0**-54
            if words.dtype == np.uint64
            else (words >> 1) * 2.0**-31 + 2.0**-32
        )

    def normals(self) -> NDArray[np.float64]:
        """The elements of normal(0, 1)."""
        is_double = self.dtype == "float64"
        runs = self.runs()
        return np.concatenate(
            [normals(self.key, self.stream, start, n, double=is_double) for start, n in runs]
        )

    def as_expected(self, value: Any, tolerance: Any) -> list[Expected]:
        shaped = (
            torch.from_numpy(np.asarray(x, np.float64)).reshape(self.shape)
            for x in (value, tolerance)
        )
        return [Expected(*shaped)]


@dataclass(frozen=True, kw_only=True)
class Fill(Keyed):
    name = "fill"

    distribution: str = choice("uniform", "normal", "bernoulli", "constant")
    first: float
    second: float

    @classmethod
    def draw(cls, rng: Draws) -> "Fill":
        common = Keyed.drawn(rng)
        distribution = rng.choice(
            ("uniform", "uniform", "normal", "normal", "bernoulli", "constant")
        )
        most = math.log10(torch.finfo(getattr(torch, common["dtype"])).max) - 1
        a, b = (
            rng.magnitude(most) if rng.chance(0.2) else round(rng.uniform(-3, 3), 3)
            for _ in range(2)
        )
        if distribution == "uniform":
            a, b = sorted((a, b))
        elif distribution == "normal":
            b = abs(b) if rng.chance(0.95) else 0.0
        elif distribution == "bernoulli":
            a = rng.choice((0.0, 1.0, 0.5, rng.random(), 10 ** -rng.uniform(0, 12)))
        return cls(**common, distribution=distribution, first=a, second=b)

    def label(self) -> str:
        return f"fill.{self.distribution} {self.dtype}"

    def program(self) -> Program:
        a, b, place = self.first, self.second, self.place()
        ours, torchs = {
            "uniform": (f"{a}, {b}, {place}", f"uniform_({a}, {b})"),
            "normal": (f"{a}, {b}, {place}", f"normal_({a}, {b})"),
            "bernoulli": (f"{a}, {place}", f"bernoulli_({a})"),
            "constant": (f"{a}", f"fill_({a})"),
        }[self.distribution]
        empty = f"torch.empty({self.shape}, dtype=torch.{self.dtype})"
        return Program(self.room(), f"fill.{self.distribution}(out, {ours})", f"{empty}.{torchs}")

    def expected(self, names: Names) -> list[Expected]:  # noqa: ARG002
        return self.as_expected(*getattr(self, f"_{self.distribution}")())

    def _constant(self) -> tuple[Any, Any]:
        value = (
            torch.full(self.shape, self.first, dtype=getattr(torch, self.dtype)).double().numpy()
        )
        return value, value * 0

    def _bernoulli(self) -> tuple[Any, Any]:
        words = self.words()
        bits = 8 * words.dtype.itemsize
        ones = words < np.asarray(min(int(self.first * 2**bits), 2**bits - 1), words.dtype)
        return (ones | (self.first >= 1)) * 1.0, np.zeros(words.shape)

    def _uniform(self) -> tuple[Any, Any]:
        low, high = (self.lanes(x) for x in (self.first, self.second))
        words, width = self.words(), self.lanes(high - low)
        bits = 53 if self.dtype == "float64" else 24
        steps = words >> np.asarray(8 * words.dtype.itemsize - bits, words.dtype)
        value = LONG(low) + steps.astype(LONG) * (LONG(width) * LONG(2.0) ** -bits)
        ends = torch.tensor((self.first, self.second), dtype=getattr(torch, self.dtype))
        top = torch.maximum(
            ends[0], torch.nextafter(ends[1], torch.tensor(-torch.inf, dtype=ends.dtype))
        )
        # A long double has 64 bits, and steps below the smallest normal number are not exact.
        error = max(abs(low), abs(high)) * 2.0**-62 + float(np.finfo(self.lanes).tiny)
        return np.minimum(value, float(top)), self.spacing(value) + error

    def _normal(self) -> tuple[Any, Any]:
        is_double = self.dtype == "float64"
        value = LONG(self.first) + self.normals() * LONG(self.second)
        # Logarithm, sine and cosine have errors of their own, and mean and std are rounded first.
        error = self.second * (1.2e-14 if is_double else 2e-6)
        return value, error + 2 * self.spacing(value) + self.spacing(self.first)

    def finding(self, names: Names, results: list[Any]) -> str | None:  # noqa: ARG002
        if self.distribution != "uniform" or not math.prod(self.shape):
            return None
        values = torch.from_numpy(results[0].copy()) if self.numpy else results[0]
        # The bounds as the dtype rounds them.
        low, high = (torch.tensor(x, dtype=values.dtype) for x in (self.first, self.second))
        if low < high and bool((values >= high).any()):
            return f"the upper end is returned: {values.max().item()}"
        return f"below the lower end: {values.min().item()}" if bool((values < low).any()) else None
