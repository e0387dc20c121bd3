"""A data set, and batches of it."""

import pytest
import torch

from pyinit.datasets import Dataset


def numbered(count: int = 20) -> Dataset:
    """Each sample and its target bear the same number."""
    return Dataset("numbered", torch.arange(count).float()[:, None], torch.arange(count), count)


def test_a_batch_has_other_samples_for_another_seed_and_targets_go_along() -> None:
    first, again, other = (numbered().batch(8, seed) for seed in (1, 1, 2))
    assert first.inputs[:, 0].tolist() == first.target.tolist()
    assert len(set(first.target.tolist())) == 8
    assert torch.equal(first.target, again.target)
    assert not torch.equal(first.target, other.target)
    assert first.classes == 20


def test_a_batch_draws_nothing_from_the_global_generator() -> None:
    before = torch.get_rng_state()
    numbered().batch(8)
    assert torch.equal(before, torch.get_rng_state())


def test_a_batch_has_all_samples_if_there_are_no_more() -> None:
    assert sorted(numbered().batch(100).target.tolist()) == list(range(20))


def test_several_inputs_go_together() -> None:
    numbers = torch.arange(20)
    named = Dataset("two", {"a": numbers, "b": numbers * 2}).batch(5)
    assert torch.equal(named.inputs["a"] * 2, named.inputs["b"])
    pair = Dataset("two", (numbers, numbers * 2)).batch(5)
    assert torch.equal(pair.inputs[0] * 2, pair.inputs[1])
    assert str(pair) == "two: 5 samples of 1, int64 and 1, int64"


def test_inputs_of_unlike_lengths_are_one_batch_as_they_are() -> None:
    data = Dataset("state", (torch.ones(6, 2), torch.ones(1, 6, 3)))
    assert data.samples is None
    assert data.batch(2) is data


def test_only_what_is_floating_point_is_converted() -> None:
    data = numbered().to(torch.bfloat16)
    assert data.inputs.dtype is torch.bfloat16
    assert data.target.dtype is torch.int64


def test_what_is_no_data_set_is_refused() -> None:
    with pytest.raises(ValueError, match="mine has no samples"):
        Dataset("mine", torch.ones(0, 3))
    with pytest.raises(ValueError, match=r"mine has 4 samples, and a target of shape \(\)"):
        Dataset("mine", torch.ones(4), torch.tensor(1))
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        numbered().batch(0)
