"""Data that stand in a program already: tensors, arrays and torch's data sets."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyinit.datasets.arrays import LARGEST, as_inputs, as_target, count_classes
from pyinit.datasets.dataset import Dataset


def load(name: str, value: Any) -> Dataset:
    """Inputs; or inputs and their target, as a tuple of two; or a torch Dataset of either.

    Raises:
        ValueError: If they are no data.
    """
    if isinstance(value, Dataset):
        return value
    if isinstance(value, torch.utils.data.Dataset) and hasattr(value, "__len__"):
        value = _collected(name, value)
    is_pair = isinstance(value, tuple) and len(value) == 2 and not hasattr(value, "_fields")
    inputs, target = value if is_pair else (value, None)
    if isinstance(inputs, np.ndarray):
        inputs = as_inputs(name, inputs)
    if isinstance(target, np.ndarray):
        target = as_target(name, target)
    return Dataset(name, inputs, target, count_classes(target))


def _collected(name: str, source: Any) -> Any:
    """All samples of a torch Dataset, each read once; what it draws from torch's global generator comes
    from a fixed seed."""
    count = len(source)
    samples: list[tuple[Tensor, ...]] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for place in range(count):
            samples.append(_sample(name, place, source[place]))
            _refuse_unlike(name, samples[0], place, samples[place])
            needs = count * sum(each.nbytes for each in samples[0])
            if needs > LARGEST:
                raise ValueError(
                    f"{name}: {count} samples would take {needs / 2**30:.1f} GiB, and at most "
                    f"{LARGEST / 2**30:g} are taken"
                )
    if not samples:
        raise ValueError(f"{name} has no samples")
    parts = tuple(torch.stack(part) for part in zip(*samples, strict=True))
    return parts if len(parts) == 2 else parts[0]


def _sample(name: str, place: int, item: Any) -> tuple[Tensor, ...]:
    parts = tuple(item) if isinstance(item, (tuple, list)) and len(item) == 2 else (item,)
    for part in parts:
        if not isinstance(part, (Tensor, np.ndarray, np.generic, int, float)):
            raise ValueError(  # noqa: TRY004  the data are wrong
                f"{name}: sample {place} has a value of type {type(part).__name__}; what can be taken are a "
                "tensor, an array or a number, and another one as its target"
            )
    inputs, *target = parts
    return _as_tensor(name, inputs, as_inputs), *(_as_tensor(name, y, as_target) for y in target)


def _as_tensor(name: str, part: Any, convert: Any) -> Tensor:
    return part if isinstance(part, Tensor) else convert(name, np.asarray(part))


def _refuse_unlike(
    name: str, first: tuple[Tensor, ...], place: int, sample: tuple[Tensor, ...]
) -> None:
    shapes = [[(tuple(each.shape), each.dtype) for each in parts] for parts in (first, sample)]
    if shapes[0] != shapes[1]:
        told = [" and ".join(f"{shape} {dtype}" for shape, dtype in each) for each in shapes]
        raise ValueError(
            f"{name}: samples must be alike; sample 0 is {told[0]}, but sample {place} is {told[1]}"
        )
