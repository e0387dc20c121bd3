"""Looking inside: statistics of tensors, and ``inspect`` beside the pass that it looks at."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from pyinit._torch.views import dtype_name
from pyinit.bench._case import Case, Unit, bytes_read_per_second, size_name
from pyinit.inspection.inspect import inspect
from pyinit.inspection.statistics import describe
from pyinit.models import build
from pyinit.whole_model.initialize import initialize_


@dataclass(frozen=True)
class Statistics(Case):
    """All statistics of a tensor, and the same numbers by torch's own functions.

    The peak is the rate at which torch reads the tensor.
    """

    seconds: ClassVar[float] = 2.0

    size: int
    dtype: torch.dtype = torch.float32

    @property
    def labels(self) -> tuple[str, str, str]:
        return "statistics", dtype_name(self.dtype), size_name([self.size])

    @property
    def work(self) -> float:
        return float(self.size * self.dtype.itemsize)

    @property
    def unit(self) -> Unit:
        return "GB/s"

    @property
    def calls(self) -> int:
        return max(1, 2**20 // self.size)

    def argument(self) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randn(self.size, generator=generator).to(self.dtype)

    def function(self, library: str) -> Callable[[Any], Any]:
        return describe if library == "pyinit" else _by_torch

    def peak(self, argument: Tensor) -> float:
        return bytes_read_per_second(self, argument)


def _by_torch(values: Tensor) -> tuple[Tensor, ...]:
    mean = values.mean()
    distance = values - mean
    square = distance * distance
    second = square.mean()
    counts = (values == 0, ~values.isfinite(), values <= -torch.inf, values >= torch.inf)
    return (
        mean,
        second.sqrt(),
        (square * distance).mean() / second**1.5,
        (square * square).mean() / second**2 - 3,
        *values.aminmax(),
        *(some.sum() for some in counts),
    )


@dataclass(frozen=True)
class Look(Case):
    """``inspect``; in torch's place stands a plain pass forward and backward with the same loss."""

    seconds: ClassVar[float] = 20.0

    name: str = "resnet50"
    recipe: str = "torch"
    batch: int = 8

    @property
    def labels(self) -> tuple[str, str, str]:
        return "inspect", "float32", f"{self.name} b{self.batch}"

    @property
    def work(self) -> float:
        return 0.0

    @property
    def unit(self) -> Unit:
        return "GB/s"

    @property
    def calls(self) -> int:
        return 1

    def argument(self) -> Any:
        model = build(self.name, torch.float32)
        initialize_(model, self.recipe, seed=0)
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(self.batch, 3, 224, 224, generator=generator)
        return model, images, torch.randint(0, 1000, (self.batch,), generator=generator)

    def function(self, library: str) -> Callable[[Any], Any]:
        if library == "pyinit":
            return _inspected
        return _plain

    def renewed(self, argument: Any) -> Any:
        argument[0].zero_grad(set_to_none=True)
        return argument

    def peak(self, _: Any) -> float:
        return 1.0


def _plain(given: Any) -> None:
    model, images, target = given
    torch.autograd.backward(functional.cross_entropy(model(images), target))


def _inspected(given: Any) -> None:
    model, images, target = given
    inspect(model, images, target, functional.cross_entropy)


def looks() -> list[Case]:
    """Statistics that fit into a cache, that do not, and a whole model."""
    return [Statistics(2**22), Statistics(2**26), Look()]
