"""Tensors, arrays and torch's data sets."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset as TorchDataset

from pyinit.datasets import Dataset, load, values


class Samples(TorchDataset[Any]):
    """A torch Dataset of what is given."""

    def __init__(self, *samples: Any) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, place: int) -> Any:
        return self.samples[place]


class Noisy(Samples):
    """Samples that are drawn anew each time."""

    def __getitem__(self, place: int) -> Any:
        return torch.randn(2), place


def test_tensors_and_arrays_are_inputs_and_target() -> None:
    data = load((torch.ones(4, 2), np.array([0, 1, 2, 1])))
    assert (data.samples, data.classes, data.target.tolist()) == (4, 3, [0, 1, 2, 1])
    assert load(torch.ones(4, 2)).target is None
    assert load(np.full((2, 3), 255, np.uint8)).inputs.tolist() == [[1.0] * 3] * 2
    assert load(data) is data


def test_a_torch_data_set_is_read_in_its_order() -> None:
    data = load(Samples(*((torch.full((2, 3), float(n)), n % 3) for n in range(5))))
    assert data.inputs[:, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert data.target.tolist() == [0, 1, 2, 0, 1]
    assert (data.name, data.classes, data.target.dtype) == ("Samples", 3, torch.int64)
    arrays = load(Samples((np.array([255], np.uint8), 0.5), (np.array([0], np.uint8), 1.5)))
    assert (arrays.inputs.tolist(), arrays.target.tolist()) == ([[1.0], [0.0]], [0.5, 1.5])
    assert load(Samples(torch.zeros(2), torch.ones(2))).target is None


def test_what_a_torch_data_set_draws_is_the_same_each_time() -> None:
    before = torch.get_rng_state()
    assert load(Noisy(1, 2, 3)).digest == load(Noisy(1, 2, 3)).digest
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ((), "Samples has no samples"),
        (((torch.ones(2), 0), (torch.ones(3), 0)), r"sample 0 is \(2,\) .* sample 1 is \(3,\)"),
        (((torch.ones(2), 0), torch.ones(2)), "samples must be alike"),
        ((("text", 0),), "sample 0 has a value of type str"),
        (((None, 0),), "sample 0 has a value of type NoneType"),
    ],
)
def test_samples_that_are_no_data_are_refused(samples: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(Samples(*samples))


def test_more_than_the_memory_should_take_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "LARGEST", 20)
    with pytest.raises(ValueError, match="Samples: 3 samples would take"):
        load(Samples(*[torch.ones(2)] * 3))


def test_what_gives_batches_itself_stays_as_it_is() -> None:
    loader = torch.utils.data.DataLoader(torch.ones(6, 2))
    data = load(loader)
    assert isinstance(data, Dataset)
    assert data.inputs is loader
