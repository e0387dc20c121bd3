"""Tensors that have their values elsewhere are told from those that have them here."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.two_tensor import TwoTensor

from pyinit._placement import elsewhere, refuse_elsewhere


class Plain(Tensor):
    """A subclass with memory of its own."""


class Wrapper(Tensor):
    """A subclass whose values are another tensor's, and that does not say so."""

    @staticmethod
    def __new__(cls, inner):
        return Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise NotImplementedError(function)


def fake():
    with FakeTensorMode():
        return nn.Parameter(torch.ones(3))


def freed():
    tensor = nn.Parameter(torch.ones(3))
    tensor.untyped_storage().resize_(0)
    return tensor


def partitioned(shape):
    """As ZeRO-3 leaves a parameter of shape (3, 4); gathered, it has that shape."""
    tensor = nn.Parameter(torch.ones(shape))
    tensor.ds_shape, tensor.ds_tensor = torch.Size((3, 4)), torch.ones(12)
    return tensor


@pytest.fixture
def dtensor(mesh):
    from torch.distributed.tensor import Shard, distribute_tensor  # noqa: PLC0415

    return distribute_tensor(torch.ones(4, 3), mesh, [Shard(0)])


@pytest.mark.parametrize(
    ("make", "where"),
    [
        (fake, "FakeTensor"),
        (freed, "without memory"),
        (lambda: partitioned(0), "ZeRO-3"),
        (lambda: nn.Parameter(TwoTensor(torch.ones(3), torch.ones(3))), "wrapper"),
        (lambda: TwoTensor(*[torch.ones(3, device="meta")] * 2), "wrapper"),
        (lambda: Wrapper(torch.ones(3)), "wrapper"),
        (lambda: torch._to_functional_tensor(torch.ones(3)), "functionalization"),
    ],
)
def test_values_elsewhere(make, where):
    assert where in elsewhere(make())
    with pytest.raises(ValueError, match=rf"write_ takes .* got 1 that have not: w \(.*{where}"):
        refuse_elsewhere("write_", [("w", make()), ("b", torch.ones(3))])


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.ones(3),
        lambda: nn.Parameter(torch.ones(4, 3).t()),
        lambda: torch.ones(3, dtype=torch.int8),
        lambda: torch.ones(0, 3),
        lambda: torch.ones(3, device="meta"),
        lambda: torch.ones(3).as_subclass(Plain),
        lambda: partitioned((3, 4)),
        lambda: torch.ones(3).to_sparse(),
    ],
)
def test_values_here(make):
    assert elsewhere(make()) is None


@pytest.mark.parametrize("wrap", [nn.Parameter, lambda tensor: tensor.to("meta")])
def test_values_of_shards_are_elsewhere(dtensor, wrap):
    assert "DTensor" in elsewhere(wrap(dtensor))


def test_values_inside_a_transform_are_elsewhere():
    found = []
    torch.vmap(lambda x: (found.append(elsewhere(x)), x)[1])(torch.ones(3, 3))
    torch.func.grad(lambda x: (found.append(elsewhere(x)), x.sum())[1])(torch.ones(3))
    assert all("transform" in where for where in found)
    assert len(found) == 2


def test_nothing_is_written_under_a_fake_mode():
    with FakeTensorMode(), pytest.raises(ValueError, match=r"write_ .* FakeTensorMode"):
        refuse_elsewhere("write_", [])


@pytest.mark.parametrize("on", ["layer", "model"])
def test_offloaded_values_are_elsewhere(on):
    """accelerate moves parameters to the meta device, and a module's hook has their values."""
    model = nn.Sequential(nn.Linear(3, 3, device="meta"), nn.Linear(3, 3))
    (model if on == "model" else model[0])._hf_hook = SimpleNamespace(offload=True)
    with pytest.raises(ValueError, match=r"2 that have not: 0\.weight \(offloaded.*, 0\.bias \("):
        refuse_elsewhere("write_", model.named_parameters(), model)


@pytest.mark.parametrize("use_orig_params", [False, True])
def test_shards_of_the_first_fsdp_are_elsewhere(fake_ranks, use_orig_params):
    from torch.distributed.fsdp import FullyShardedDataParallel  # noqa: PLC0415

    model = FullyShardedDataParallel(
        nn.Sequential(nn.Linear(3, 4)), use_orig_params=use_orig_params, device_id="cpu"
    )
    with pytest.raises(ValueError, match="sharded by Fully" if use_orig_params else "flattened"):
        refuse_elsewhere("write_", model.named_parameters(), model)
