"""Inputs, their target, and batches of them."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

_FIFTH = 5  # one sample of five is for the test


@dataclass(frozen=True, eq=False)
class Dataset:
    """Inputs of a model, and what it should make of them.

    Args:
        name: what it is called
        inputs: a tensor whose first dimension is that of the samples, or a tuple or dictionary of such
            tensors; or, from a function of the user's, anything else that ``pyinit.inspect`` takes as a
            batch, such as a ``DataLoader``
        target: a tensor with as many targets as there are samples; None if there is none, or if it
            comes with the inputs
        classes: how many classes a target of class numbers has; None for another one, or none
        train: how many samples, from the first on, are for training, where the data themselves say
            so; the others are for the test. None leaves it to ``split``

    Raises:
        ValueError: If there are no samples, a target for another number of samples, or none for
            training or for the test.

    Example:
        >>> import torch
        >>> from pyinit.datasets import Dataset
        >>> data = Dataset("mine", torch.zeros(100, 1, 8, 8), torch.arange(100) % 10, classes=10)
        >>> print(data)
        mine: 100 samples of 1x8x8, float32; 10 classes
        >>> data.batch(32, seed=1).target.shape
        torch.Size([32])
    """

    name: str
    inputs: Any
    target: Any = None
    classes: int | None = None
    train: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.inputs, Tensor) and self.inputs.ndim == 0:
            raise ValueError(f"{self.name} has inputs without a dimension for samples")
        if self.samples == 0:
            raise ValueError(f"{self.name} has no samples")
        if self.train is not None and not 0 < self.train < (self.samples or 0):
            raise ValueError(
                f"{self.name} has {self.samples} samples, of which {self.train} cannot be for training: "
                "neither training nor the test can be without any"
            )
        if self.samples is None or not isinstance(self.target, Tensor):
            return
        if self.target.ndim == 0 or len(self.target) != self.samples:
            raise ValueError(
                f"{self.name} has {self.samples} samples, and a target of shape {tuple(self.target.shape)}"
            )

    @property
    def samples(self) -> int | None:
        """The number of samples; None where only the inputs themselves can tell."""
        return next((len(each) for each in _tensors(self.inputs)), None)

    @cached_property
    def digest(self) -> str:
        """What tells these data from others: 16 hexadecimal digits of the SHA-256 of all numbers, shapes,
        dtypes, and of what is for training. The name is not part of it.

        Raises:
            ValueError: If the data give batches themselves.
        """
        found = hashlib.sha256(repr((self.classes, self.train)).encode())
        targets = [self.target] if isinstance(self.target, Tensor) else _tensors(self.target)
        for each in (*self._some_tensors("digested"), *targets):
            found.update(repr((tuple(each.shape), str(each.dtype))).encode())
            values = each.detach().cpu().contiguous().flatten().view(torch.uint8)
            found.update(values.numpy().data)
        return found.hexdigest()[:16]

    def split(self) -> tuple["Dataset", "Dataset"]:
        """Divide into data for training and for the test, always in the same way.

        Where the data say what is for training (``train``), that is it. If not, each class gives the
        3rd, 8th, 13th, ... of its samples to the test, which so has a fifth of each. Without classes it
        is the 3rd, 8th, 13th, ... of all samples.

        Returns:
            The data for training, and those for the test, each in the order that they had.

        Raises:
            ValueError: If there are too few samples, or the data give batches themselves.

        Example:
            >>> import torch
            >>> from pyinit.datasets import Dataset
            >>> data = Dataset("mine", torch.zeros(100, 8), torch.arange(100) // 50, classes=2)
            >>> training, test = data.split()
            >>> print(training)
            mine (training): 80 samples of 8, float32; 2 classes
            >>> test.target.bincount().tolist()
            [10, 10]
        """
        self._some_tensors("split")
        if self.train is not None:
            is_test = torch.arange(self.samples or 0) >= self.train
        else:
            is_test = self._ranks()[0] % _FIFTH == _FIFTH // 2
        return self._divided(is_test, "training", "test")

    def halves(self) -> tuple["Dataset", "Dataset"]:
        """Divide into two halves without a common sample, always in the same way: to train on one what
        starts from the other, say.

        Returns:
            The first half of the samples of each class, and the second; without classes, of all samples.
            If there is an odd number, the first has one more.

        Raises:
            ValueError: If there are too few samples, or the data give batches themselves.

        Example:
            >>> import torch
            >>> from pyinit.datasets import Dataset
            >>> data = Dataset("mine", torch.arange(6), torch.tensor([0, 0, 1, 1, 1, 1]), classes=2)
            >>> first, second = data.halves()
            >>> first.inputs.tolist(), second.inputs.tolist()
            ([0, 2, 3], [1, 4, 5])
        """
        self._some_tensors("halved")
        ranks, sizes = self._ranks()
        return self._divided(ranks * 2 >= sizes, "first half", "second half")

    def _some_tensors(self, done: str) -> list[Tensor]:
        """The tensors of the inputs."""
        found = _tensors(self.inputs)
        if not found:
            raise ValueError(
                f"{self.name} is {type(self.inputs).__name__}, which gives batches itself; only tensors of "
                f"as many samples each can be {done}"
            )
        return found

    def _ranks(self) -> tuple[Tensor, Tensor]:
        """For each sample, its place among those of its class, and how many these are."""
        count, target = self.samples or 0, self.target
        if self.classes is None or not isinstance(target, Tensor) or target.ndim != 1:
            return torch.arange(count), torch.tensor(count)
        target = target.cpu()
        sizes = target.bincount()
        order = target.argsort(stable=True)
        ranks = torch.empty_like(order)
        starts = sizes.cumsum(0) - sizes
        ranks[order] = torch.arange(count) - starts[target[order]]
        return ranks, sizes[target]

    def _divided(self, is_second: Tensor, *names: str) -> tuple["Dataset", "Dataset"]:
        if not is_second.any() or is_second.all():
            raise ValueError(
                f"{self.name} has too few samples, {self.samples}, for {' and '.join(names)}"
            )
        first, second = (
            self._chosen(places.nonzero()[:, 0], f"{self.name} ({name})")
            for places, name in zip((~is_second, is_second), names, strict=True)
        )
        return first, second

    def _chosen(self, places: Tensor, name: str) -> "Dataset":
        return replace(self, name=name, train=None)._changed(
            lambda tensor: tensor[places.to(tensor.device)]
        )

    def batch(self, size: int, seed: int = 0) -> "Dataset":
        """Choose samples at random, each at most once.

        Args:
            size: how many; all of them, if there are no more
            seed: the seed of the choice

        Returns:
            These samples; or the same data, if it gives batches itself.

        Raises:
            ValueError: If the size is not positive.
        """
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        if self.samples is None:
            return self
        order = torch.randperm(self.samples, generator=torch.Generator().manual_seed(seed))
        return self._chosen(order[:size], self.name)

    def to(self, dtype: torch.dtype) -> "Dataset":
        """Convert what is in floating point.

        Args:
            dtype: a floating-point dtype

        Returns:
            The data, with integers as they are; or the same data, if it gives batches itself.
        """
        return self._changed(lambda each: each.to(dtype) if each.is_floating_point() else each)

    def _changed(self, change: Callable[[Tensor], Tensor]) -> "Dataset":
        return replace(
            self, inputs=_mapped(self.inputs, change), target=_mapped(self.target, change)
        )

    def __str__(self) -> str:
        tensors = _tensors(self.inputs)
        if not tensors:
            return f"{self.name}: {type(self.inputs).__name__}"
        shapes = " and ".join(_described(each) for each in tensors)
        classes = "" if self.classes is None else f"; {self.classes} classes"
        return f"{self.name}: {self.samples} sample{'s' * (self.samples != 1)} of {shapes}{classes}"


def _described(tensor: Tensor) -> str:
    sizes = "x".join(map(str, tensor.shape[1:])) or "1"
    return f"{sizes}, {str(tensor.dtype).removeprefix('torch.')}"


def _tensors(value: Any) -> list[Tensor]:
    """Tensors of as many samples each; none if it is anything else."""
    if isinstance(value, Mapping):
        value = tuple(value.values())
    elif isinstance(value, Tensor):
        value = (value,)
    if not isinstance(value, tuple) or hasattr(value, "_fields"):
        return []
    if not all(isinstance(each, Tensor) and each.ndim for each in value):
        return []
    return list(value) if len({len(each) for each in value}) == 1 else []


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Each tensor changed, in the same container; what is no tensor as it is."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _mapped(each, change) for key, each in value.items()}
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return tuple(_mapped(each, change) for each in value)
    return value
