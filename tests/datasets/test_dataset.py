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


def of_classes(*numbers: int) -> Dataset:
    return Dataset(
        "few", torch.arange(len(numbers)), torch.tensor(numbers), classes=max(numbers) + 1
    )


def test_each_class_gives_every_fifth_of_its_samples_to_the_test() -> None:
    data = of_classes(*[0] * 10, *[1] * 5)
    training, test = data.split()
    assert test.inputs.tolist() == [2, 7, 12]
    assert training.inputs.tolist() == [each for each in range(15) if each not in (2, 7, 12)]
    assert test.target.tolist() == [0, 0, 1]
    mixed = of_classes(*[0, 1] * 5).split()[1]
    assert mixed.inputs.tolist() == [4, 5]


def test_without_classes_every_fifth_sample_is_for_the_test() -> None:
    data = Dataset("one", torch.arange(20), torch.linspace(0, 1, 20))
    assert data.split()[1].inputs.tolist() == [2, 7, 12, 17]
    assert data.halves()[1].inputs.tolist() == list(range(10, 20))


def test_what_data_say_is_for_training_is_so() -> None:
    data = Dataset("own", torch.arange(6), torch.tensor([0, 0, 0, 1, 1, 1]), 2, train=2)
    training, test = data.split()
    assert (training.inputs.tolist(), test.inputs.tolist()) == ([0, 1], [2, 3, 4, 5])
    assert (training.name, test.name) == ("own (training)", "own (test)")
    assert (training.classes, training.train, data.batch(1).train) == (2, None, None)
    assert data.to(torch.float64).train == 2


def test_halves_have_no_common_sample_and_the_same_share_of_each_class() -> None:
    first, second = of_classes(0, 1, 0, 1, 1, 0, 0, 0).halves()
    assert (first.inputs.tolist(), second.inputs.tolist()) == ([0, 1, 2, 3, 5], [4, 6, 7])


def test_all_inputs_are_split_together() -> None:
    numbers = torch.arange(10)
    data = Dataset("two", {"a": numbers, "b": numbers * 2}, numbers)
    test = data.split()[1]
    assert (test.inputs["b"].tolist(), test.target.tolist()) == ([4, 14], [2, 7])


def test_a_digest_tells_data_apart_by_all_that_is_in_them() -> None:
    data = Dataset("a", torch.arange(6).float(), torch.arange(6), 6)
    assert data.digest == Dataset("b", torch.arange(6).float(), torch.arange(6), 6).digest
    others = [
        Dataset("a", torch.arange(6), torch.arange(6), 6),
        Dataset("a", torch.arange(6).float(), torch.arange(6) // 2 * 2, 6),
        Dataset("a", torch.arange(6).float(), torch.arange(6), 7),
        Dataset("a", torch.arange(6).float(), torch.arange(6), 6, train=3),
        Dataset("a", torch.arange(6).float()[:, None], torch.arange(6), 6),
        Dataset("a", torch.arange(6).float()),
    ]
    assert len({each.digest for each in (data, *others)}) == 7
    moved = Dataset("a", torch.arange(12).float()[::2] / 2, torch.arange(6), 6)
    assert moved.digest == data.digest


def test_data_that_give_batches_are_not_divided() -> None:
    loader = Dataset("mine", torch.utils.data.DataLoader(torch.ones(6, 2)))
    for divide, how in ((loader.split, "split"), (loader.halves, "halved")):
        with pytest.raises(ValueError, match=f"mine is DataLoader, which .* can be {how}"):
            divide()
    with pytest.raises(ValueError, match="can be digested"):
        _ = loader.digest


def test_too_few_samples_are_not_divided() -> None:
    with pytest.raises(ValueError, match="few has too few samples, 2, for training and test"):
        of_classes(0, 0).split()
    with pytest.raises(ValueError, match="few has too few samples, 2, for first half and second"):
        of_classes(0, 1).halves()
    for train in (0, 4, -1):
        with pytest.raises(ValueError, match=f"mine has 4 samples, of which {train} cannot be"):
            Dataset("mine", torch.ones(4), train=train)
