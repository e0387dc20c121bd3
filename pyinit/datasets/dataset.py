"""Inputs, their target, and batches of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


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

    Raises:
        ValueError: If there are no samples, or a target for another number of samples.

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

    def __post_init__(self) -> None:
        if isinstance(self.inputs, Tensor) and self.inputs.ndim == 0:
            raise ValueError(f"{self.name} has inputs without a dimension for samples")
        if self.samples == 0:
            raise ValueError(f"{self.name} has no samples")
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
        return self._changed(lambda tensor: tensor[order[:size].to(tensor.device)])

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
