"""The data of a study: what is trained on, what is tested on, and halves for pretraining."""

from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from pyinit.datasets import Dataset, load
from pyinit.datasets.arrays import count_classes

_TEST_SHARE = 5  # a fifth, where the data set has no test samples of its own


@dataclass(frozen=True, eq=False)
class Split:
    """Samples to train on and others to test on."""

    name: str
    inputs: Tensor
    target: Tensor
    test_inputs: Tensor
    test_target: Tensor
    classes: int | None

    def halves(self) -> tuple["Split", "Split"]:
        """Two splits of the training samples, which share none, with the same test samples."""
        order = _order(len(self.inputs))
        middle = len(order) // 2
        first, second = (
            replace(self, inputs=self.inputs[some], target=self.target[some])
            for some in (order[:middle], order[middle:])
        )
        return first, second

    def to(self, device: torch.device) -> "Split":
        """The samples on a device."""
        names = ("inputs", "target", "test_inputs", "test_target")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def digest(self) -> str:
        """A checksum of all values."""
        found = blake2b(digest_size=16)
        for each in (self.inputs, self.target, self.test_inputs, self.test_target):
            found.update(f"{each.dtype} {tuple(each.shape)}".encode())
            found.update(memoryview(each.contiguous().view(-1).view(torch.uint8).numpy()))
        return found.hexdigest()


def split_of(source: Any) -> Split:
    """The data that a study names or holds.

    A data set without test samples of its own is shuffled, in an order that is always the same, and a
    fifth of it is for testing.

    Raises:
        ValueError: for data without a target, in another form than one tensor of inputs, or of fewer than
            4 samples.
    """
    data = _dataset(source)
    inputs, target = data.inputs, data.target
    if not isinstance(inputs, Tensor) or not isinstance(target, Tensor):
        raise ValueError(
            f"data: {data.name} must have inputs and a target, as a tensor each, got "
            f"{type(inputs).__name__} and {type(target).__name__}"
        )
    if len(inputs) < 4:
        raise ValueError(
            f"data: {data.name} has {len(inputs)} samples, of which no study can be made"
        )
    own = getattr(data, "split", None)
    if own is not None:
        train, test = own()
        return Split(data.name, train.inputs, train.target, test.inputs, test.target, data.classes)
    order = _order(len(inputs))
    count = max(len(order) // _TEST_SHARE, 1)
    train, test = order[count:], order[:count]
    return Split(data.name, inputs[train], target[train], inputs[test], target[test], data.classes)


def _dataset(source: Any) -> Dataset:
    if isinstance(source, Dataset):
        return source
    if isinstance(source, torch.utils.data.Dataset):
        pairs = [source[i] for i in range(len(source))]  # type: ignore[arg-type]
        inputs = torch.stack([torch.as_tensor(x) for x, _ in pairs])
        target = torch.stack([torch.as_tensor(y) for _, y in pairs])
        return Dataset(type(source).__name__, inputs, target, count_classes(target))
    if isinstance(source, (tuple, list)) and len(source) == 2:
        inputs, target = map(torch.as_tensor, source)
        return Dataset("tensors", inputs, target, count_classes(target))
    return load(source)


def _order(count: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))
