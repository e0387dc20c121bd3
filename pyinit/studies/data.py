"""The data of a study: what is trained on, and what is tested on."""

from functools import lru_cache
from os import PathLike, fspath
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyinit.datasets import Dataset, load


class Data(NamedTuple):
    """Samples to train on, and others to test on."""

    training: Dataset
    test: Dataset

    @property
    def classes(self) -> int | None:
        """How many classes there are; None if the target is not of classes."""
        return self.training.classes

    def halves(self) -> tuple["Data", "Data"]:
        """Two halves of what is trained on, which share no sample."""
        first, second = self.training.halves()
        return Data(first, self.test), Data(second, self.test)

    def to(self, device: torch.device) -> "Data":
        """The same on a device."""
        return Data(*(each._changed(lambda tensor: tensor.to(device)) for each in self))


def data_of(
    source: Any, data_dir: str | PathLike[str] | None = None, download: bool = False
) -> Data:
    """The data that a study names or holds, divided as ``Dataset.split`` divides them.

    Raises:
        ValueError: for data that cannot be had, and those without a tensor of inputs and one of targets.
    """
    if isinstance(source, str):
        return _named(source, None if data_dir is None else fspath(data_dir), download)
    return _divided(source if isinstance(source, Dataset) else load(source))


@lru_cache(maxsize=4)
def _named(name: str, data_dir: str | None, download: bool) -> Data:
    return _divided(load(name, data_dir=data_dir, download=download))


def _divided(data: Dataset) -> Data:
    for what in ("inputs", "target"):
        if not isinstance(getattr(data, what), Tensor):
            raise ValueError(  # noqa: TRY004  a data set is wrong
                f"{data.name} cannot be trained on: its {what} must be one tensor, got "
                f"{type(getattr(data, what)).__name__}"
            )
    for what in ("inputs", "target"):
        count = int((~getattr(data, what).isfinite()).unsqueeze(-1).flatten(1).any(1).sum())
        if count:
            raise ValueError(
                f"{data.name} cannot be trained on: its {what} must be finite, got {count} of "
                f"{data.samples} samples with others"
            )
    return Data(*data.split())
