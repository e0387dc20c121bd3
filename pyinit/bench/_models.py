"""Whole models, compared with torch's initializers called module by module."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from pyinit._torch.views import dtype_name
from pyinit.bench._case import Case, Unit, bytes_per_second
from pyinit.initializers import Blocks, fill_by_torch_
from pyinit.models import build
from pyinit.whole_model.initialize import initialize_
from pyinit.whole_model.network import Network


@dataclass(frozen=True)
class Model(Case):
    """A model filled by a recipe.

    The recipe ``torch`` is compared with each module's own ``reset_parameters``, and any other one
    with the same initializers of ``torch.nn.init``.
    """

    seconds: ClassVar[float] = 4.0

    name: str
    recipe: str
    dtype: torch.dtype = torch.float32

    @property
    def labels(self) -> tuple[str, str, str]:
        return f"initialize_({self.recipe})", dtype_name(self.dtype), self.name

    @property
    def work(self) -> float:
        with torch.device("meta"):
            return float(sum(p.nbytes for p in build(self.name, self.dtype).parameters()))

    @property
    def unit(self) -> Unit:
        return "GB/s"

    @property
    def calls(self) -> int:
        return 1

    def argument(self) -> "Planned":
        model = build(self.name, self.dtype)
        return Planned(model, list(self._steps(model)))

    def function(self, library: str) -> Callable[[Any], Any]:
        if library == "pyinit":
            return lambda planned: initialize_(planned.model, self.recipe, seed=0)
        if self.recipe == "torch":
            return lambda planned: reset(planned.model)
        return _by_torch

    def peak(self, argument: "Planned") -> float:
        largest = max(argument.model.parameters(), key=torch.numel)
        return bytes_per_second(self, largest.detach())

    def _steps(self, model: nn.Module) -> Iterator[tuple[Tensor, Blocks]]:
        network = Network(model)
        for row in initialize_(model, self.recipe, seed=0, dry_run=True):
            yield network.by_name[row.name].tensor, row.initializer.resolve(row.weight)


class Planned(NamedTuple):
    """A model and the steps that fill it, which torch is given before its time is taken."""

    model: nn.Module
    steps: list[tuple[Tensor, Blocks]]


def _by_torch(planned: Planned) -> None:
    for tensor, blocks in planned.steps:
        fill_by_torch_(tensor, blocks)


def reset(model: nn.Module) -> None:
    """Initialize the modules as their constructors do."""
    for module in model.modules():
        own = getattr(module, "reset_parameters", None) or getattr(
            module, "_reset_parameters", None
        )
        if own is not None:
            own()


def models() -> list[Model]:
    """All models, from which a pattern may choose."""
    return [*usual_models(), Model("llama-1b", "torch", torch.bfloat16)]


def usual_models() -> list[Model]:
    """The models that take only a few seconds."""
    return [
        Model("gpt2", "torch"),
        Model("gpt2", "gpt2"),
        Model("resnet50", "torch"),
        Model("resnet50", "kaiming"),
        Model("resnet50", "orthogonal"),
    ]
