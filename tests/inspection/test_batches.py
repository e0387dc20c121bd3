"""What a batch may be, and what it may not."""

import random
from collections import OrderedDict, namedtuple
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from pyinit.datasets import Dataset
from pyinit.inspection.batches import Batch, described, named_tensors, read_batch
from pyinit.inspection.walk import walk

X, Y, Z = torch.ones(4, 3), torch.zeros(4), torch.full((4, 3), 2.0)


class One(nn.Module):
    def forward(self, x: Any) -> Any:
        return x


class Two(nn.Module):
    def forward(self, x: Any, z: Any) -> Any:
        return x, z


class Optional(nn.Module):
    def forward(self, x: Any, z: Any = None, *, mask: Any = None) -> Any:
        return x, z, mask


class Several(nn.Module):
    def forward(self, *xs: Any) -> Any:
        return xs


@dataclass
class Fields:
    x: Tensor
    y: Tensor


Named = namedtuple("Named", ["x", "y"])


def is_same(a: Batch, b: Batch) -> bool:
    return repr(a) == repr(b)


FIELDS, NAMED, PACKED = Fields(X, Y), Named(X, Y), pack_sequence([X, X])
READ: list[tuple[type[nn.Module], Any, Batch]] = [
    (One, X, Batch((X,), {}, None)),
    (One, (X,), Batch((X,), {}, None)),
    (One, [X], Batch((X,), {}, None)),
    (One, (X, Y), Batch((X,), {}, Y)),
    (One, [X, Y], Batch((X,), {}, Y)),
    (One, {"x": X}, Batch((), {"x": X}, None)),
    (One, OrderedDict(x=X), Batch((), {"x": X}, None)),
    (One, {"a": X, "b": Z}, Batch(({"a": X, "b": Z},), {}, None)),
    (One, ({"x": X}, Y), Batch((), {"x": X}, Y)),
    (One, FIELDS, Batch((FIELDS,), {}, None)),
    (One, NAMED, Batch((NAMED,), {}, None)),
    (One, PACKED, Batch((PACKED,), {}, None)),
    (One, ([X, Z, X], Y), Batch(([X, Z, X],), {}, Y)),
    (Two, (X, Z), Batch((X, Z), {}, None)),
    (Two, (X, Z, Y), Batch((X, Z), {}, Y)),
    (Two, ((X, Z), Y), Batch((X, Z), {}, Y)),
    (Two, {"z": Z, "x": X}, Batch((), {"z": Z, "x": X}, None)),
    (Two, ({"z": Z, "x": X}, Y), Batch((), {"z": Z, "x": X}, Y)),
    (Optional, (X, Y), Batch((X,), {}, Y)),
    (Optional, (X, Z, Y), Batch((X, Z), {}, Y)),
    (Optional, ((X, Z), Y), Batch((X, Z), {}, Y)),
    (Optional, ({"x": X, "mask": Z}, Y), Batch((), {"x": X, "mask": Z}, Y)),
    (Several, (X, Z, Y), Batch((X, Z, Y), {}, None)),
]


@pytest.mark.parametrize(("model", "source", "expected"), READ)
@pytest.mark.parametrize(
    "given", [lambda x: x, lambda x: iter([x, None]), lambda x: lambda: x], ids=["", "iter", "call"]
)
def test_inputs_and_target_are_what_forward_takes(
    model: type[nn.Module], source: Any, expected: Batch, given: Any
) -> None:
    assert is_same(read_batch(model(), given(source)), expected)


@pytest.mark.parametrize(
    ("model", "source", "expected"),
    [
        (One, X, Batch((X,), {}, Y)),
        (Optional, (X, Z), Batch((X, Z), {}, Y)),
        (Two, (X, Z), Batch((X, Z), {}, Y)),
        (One, {"x": X}, Batch((), {"x": X}, Y)),
    ],
)
def test_with_a_target_of_its_own_all_are_inputs(
    model: type[nn.Module], source: Any, expected: Batch
) -> None:
    assert is_same(read_batch(model(), source, Y), expected)


class Stream(IterableDataset[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        return iter([torch.ones(3)] * 2)


def test_a_loader_gives_its_first_batch() -> None:
    data = TensorDataset(torch.arange(12.0).reshape(4, 3), torch.arange(4.0))
    batch = read_batch(One(), DataLoader(data, batch_size=2))
    assert torch.equal(batch.args[0], torch.arange(6.0).reshape(2, 3))
    assert torch.equal(batch.target, torch.arange(2.0))
    assert read_batch(One(), DataLoader(Stream(), batch_size=2)).args[0].shape == (2, 3)


def test_a_batch_is_taken_from_an_iterator() -> None:
    batches = iter([X, Z, Z])
    read_batch(One(), batches)
    assert next(batches) is Z


@pytest.mark.parametrize("own", [False, True])
def test_generators_that_a_source_draws_from_are_put_back(own: bool) -> None:
    generator = torch.Generator().manual_seed(3) if own else None
    data = TensorDataset(torch.arange(12.0).reshape(4, 3))
    loader = DataLoader(data, batch_size=2, shuffle=True, generator=generator)

    def draw() -> Tensor:
        return torch.rand(2) + random.random() + np.random.rand()

    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    drawn = [read_batch(One(), source).args[0] for source in (draw, draw, loader, loader)]
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[2], drawn[3])
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]
    if generator is not None:
        assert torch.equal(generator.get_state(), torch.Generator().manual_seed(3).get_state())


def test_a_batch_of_transformers_goes_by_names() -> None:
    transformers = pytest.importorskip("transformers")
    encoded = transformers.BatchEncoding({"x": X, "mask": Z})
    assert is_same(read_batch(Optional(), encoded), Batch((), {"x": X, "mask": Z}, None))


NAN = torch.tensor([[1.0, torch.nan, torch.nan]])


@pytest.mark.parametrize(
    ("model", "source", "error", "message"),
    [
        (One, None, TypeError, "must be data, got NoneType"),
        (One, One(), TypeError, "must be data, got One"),
        (One, "mnist", TypeError, "must not be a string, got 'mnist'"),
        (One, np.zeros(3), TypeError, r"must not be a NumPy array: give torch\.from_numpy"),
        (One, TensorDataset(X), TypeError, "must not be a data set, got TensorDataset"),
        (One, Dataset("mine", X), TypeError, r"data set, got that of 'mine': .*data\.target"),
        (One, lambda: lambda: X, TypeError, "the function must return one batch, got function"),
        (One, iter([]), ValueError, "no further batch: it is exhausted"),
        (One, DataLoader([], batch_size=2), ValueError, "the DataLoader has no batch: it is empty"),
        (One, (), ValueError, "empty: a tuple or list of nothing"),
        (One, torch.ones(0, 3), ValueError, r"no samples: inputs\[0\] is \(0, 3\) float32 on cpu"),
        (One, X.to("meta"), ValueError, r"no values: inputs\[0\] is on the meta device"),
        (One, NAN, ValueError, r"has NaN: 2 of 3 values of inputs\[0\]"),
        (One, {"x": {"deep": [NAN]}}, ValueError, r"2 of 3 values of inputs\['x'\]\['deep'\]\[0\]"),
        (One, Fields(X, NAN), ValueError, r"values of inputs\[0\]\.y"),
        (One, (X, NAN), ValueError, "2 of 3 values of target"),
        (One, (X, Z, Y), ValueError, r"does not fit One\.forward\(x: Any\) -> Any: too many"),
        (Two, X, ValueError, "missing a required argument: 'z'"),
        (
            Two,
            {"x": X, "y": Y},
            ValueError,
            r"the batch \{x: \(4, 3\) float32 on cpu, y: .* does not",
        ),
    ],
)
def test_what_is_no_batch_is_refused_by_name(
    model: type[nn.Module], source: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        read_batch(model(), source)


def test_infinite_values_are_taken() -> None:
    mask = torch.tensor([0.0, -torch.inf])
    assert read_batch(One(), mask).args[0] is mask


def test_a_refused_batch_leaves_the_model_alone() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="NaN"):
        walk(model, NAN, pytest.fail)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_tensors_are_named_by_their_places() -> None:
    value = {"a": (X, [Y]), "b": FIELDS, "c": 3}
    assert [name for name, _ in named_tensors(value, "out")] == [
        "out['a'][0]",
        "out['a'][1][0]",
        "out['b'].x",
        "out['b'].y",
    ]


def test_values_are_described_by_shapes() -> None:
    assert described((X, {"n": 3})) == "((4, 3) float32 on cpu, {n: int})"
