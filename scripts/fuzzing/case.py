"""Cases: numbers and names that a program follows from, so that they can be printed, sent and made simpler."""

import dataclasses
import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, TypeVar

Names = dict[str, Any]

_Case = TypeVar("_Case", bound="Case")

LARGEST = 2**31 - 1  # the largest stride, padding and dilation


class Program(NamedTuple):
    """A case as Python text: lines that make the arguments, and the expressions of pyinit and of torch."""

    setup: list[str]
    ours: str
    torchs: str


class Expected(NamedTuple):
    """What a result has to be in float64, and by how much it may differ: tensors, or one number for all elements."""

    value: Any
    tolerance: Any = 0.0


def whole(least: int = 1) -> Any:
    """A field of one or more integers, the least of which is the simplest."""
    return field(metadata={"least": least})


def choice(*options: str) -> Any:
    """A field that is one of these names, the simplest of which comes first."""
    return field(metadata={"options": options})


@dataclass(frozen=True, kw_only=True)
class Case:
    """One call to be judged. A subject adds fields that say what is called, and with which arguments."""

    name: ClassVar[str]
    same_bits: ClassVar[str] = "fused"
    """Which instruction sets give the same bits: ``all``, or the ``fused`` ones, which have a fused multiply-add."""
    most_work: ClassVar[float] = 3e7
    """The most multiply-adds that a case may take, or elements where it has no multiply-adds."""

    threads: int = whole()
    seed: int = whole(0)

    @classmethod
    def draw(cls, rng: "Draws") -> "Case":
        raise NotImplementedError

    def label(self) -> str:
        """What is called. Failures of one kind and label count as one."""
        return self.name

    def work(self) -> float:
        raise NotImplementedError

    def program(self) -> Program:
        raise NotImplementedError

    def expected(self, names: Names) -> list[Expected]:
        """What each result has to be: by default exactly what torch computes in float64."""
        return [
            Expected(value) for value in listed(evaluate(self.program().torchs, doubled(names)))
        ]

    def goes_to_torch(self) -> bool:
        """Whether pyinit leaves the case to torch, whose bits may depend on threads: it does for negative views."""
        return "negated" in dataclasses.astuple(self)

    def documented_bytes(self) -> int:
        """The bytes that the function takes by its definition."""
        return 0

    def finding(self, names: Names, results: list[Any]) -> str | None:  # noqa: ARG002
        """What is wrong with the results beyond their values, if anything."""
        return None

    def simpler(self) -> Iterator["Case"]:
        """Cases with less in some field. If the fields do not fit together, the case is refused when it runs."""
        for f in dataclasses.fields(self):
            for value in _simpler(getattr(self, f.name), f.metadata):
                yield dataclasses.replace(self, **{f.name: value})

    def to_json(self) -> str:
        return json.dumps({"subject": self.name, **dataclasses.asdict(self)})


def from_json(cls: type[Case], values: dict[str, Any]) -> Case:
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def _simpler(value: Any, about: Any) -> Iterator[Any]:
    if isinstance(value, bool):
        yield from [False] if value else []
    elif isinstance(value, int):
        yield from _smaller(value, about["least"])
    elif isinstance(value, float):
        yield from (x for x in _rounder(value) if _length(x) < _length(value))
    elif isinstance(value, str):
        yield from about["options"][: about["options"].index(value)]
    else:
        least = about["least"]
        if any(x != least for x in value):
            yield (least,) * len(value)
        for i, x in enumerate(value):
            for less in _smaller(x, least):
                yield (*value[:i], less, *value[i + 1 :])


def _smaller(value: int, least: int) -> Iterator[int]:
    if value > least:
        middle = (value + least) // 2
        near = (1 << value.bit_length() - 1, value - 1)
        yield from sorted({x for x in (least, middle, *near) if least <= x < value})


def _length(x: float) -> tuple[int, bool]:
    return len(repr(abs(x))) if x else 0, x < 0


def _rounder(x: float) -> Iterator[float]:
    yield from (0.0, 1.0, -x, 2.0, 10.0)
    if math.isfinite(x) and x:
        yield from (float(f"{x:.0e}"), float(f"{x:.1e}"), 10.0 ** round(math.log10(abs(x))))
        yield from (float(round(x)),) if abs(x) < 1e15 else ()


class Draws(random.Random):
    """The random numbers that cases are drawn with."""

    def chance(self, probability: float) -> bool:
        return self.random() < probability

    def sizes(self, count: int, most: float) -> tuple[int, ...]:
        """Sizes whose product is at most ``most``. Each of them is long in some cases."""
        sizes = [self.choice((1, self.randint(1, 4), self.randint(1, 9))) for _ in range(count)]
        for i in self.sample(range(count), min(count, self.choice((1, 1, 2, 2, 3)))):
            sizes[i] = self.randint(1, 40)
        for i in self.sample(range(count), count):
            rest = math.prod(sizes[:i] + sizes[i + 1 :])
            sizes[i] = max(1, min(sizes[i], int(most / rest)))
        return tuple(sizes)

    def upto(self, most: int) -> int:
        """An integer of any magnitude up to ``most``; often one around a power of two."""
        value = int(2 ** self.uniform(0, math.log2(most + 1)))
        if self.chance(0.4):
            value = (1 << value.bit_length() - 1) + self.randint(-2, 1)
        return min(max(value, 0), most) if self.chance(0.85) else most

    def magnitude(self, most: float = 307.0) -> float:
        """A number of either sign and any magnitude."""
        return self.choice((1, -1)) * self.uniform(1, 10) * 10 ** self.uniform(-most, most)

    def any_threads(self) -> int:
        return self.choice((1, 1, 2, 3, 4, 5))

    def until(self, make: Callable[[], _Case]) -> _Case:
        """The first case that is not too much work."""
        return next(c for c in iter(make, None) if c.work() <= c.most_work)


def evaluate(expression: str, names: Names) -> Any:
    return eval(expression, names)


def listed(results: Any) -> list[Any]:
    """The results as a list: one, or those of several that are not None."""
    return (
        [x for x in results if x is not None] if isinstance(results, (tuple, list)) else [results]
    )


def doubled(names: Names) -> Names:
    """The same names, with dense float64 tensors in place of other floating-point ones."""
    import torch  # noqa: PLC0415  the process that starts the workers does without

    def of(x: Any) -> Any:
        if isinstance(x, torch.Tensor) and x.is_floating_point():
            return x.detach().resolve_neg().double().contiguous().requires_grad_(x.requires_grad)
        return x

    return {k: of(v) for k, v in names.items()}
