"""Tensors that have their values elsewhere are told from those that have them here, and not written."""

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from bits import same_bits
from on_ranks import fake_rank
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils import parametrizations
from torch.testing._internal.two_tensor import TwoTensor
from zero3 import partition, partition_all

from pyinit import initialize_, replay_
from pyinit._torch.placement import elsewhere, refuse_elsewhere


class Plain(Tensor):
    """A subclass with memory of its own."""


class Wrapper(Tensor):
    """A subclass whose values are another tensor's, and that does not say so."""

    @staticmethod
    def __new__(cls, inner):
        made = Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.detach.default:
            return Wrapper(args[0].inner)
        raise NotImplementedError(function)


def fake():
    with FakeTensorMode():
        return nn.Parameter(torch.ones(3))


def freed():
    tensor = nn.Parameter(torch.ones(3))
    tensor.untyped_storage().resize_(0)
    return tensor


def partitioned(is_gathered):
    """As ZeRO-3 leaves a parameter of shape (3, 4); gathered, it has that shape."""
    tensor = nn.Parameter(torch.ones(3, 4))
    with fake_rank(0, 2):
        partition(tensor)
    if is_gathered:
        tensor.data = torch.ones(3, 4)
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
        (lambda: partitioned(is_gathered=False), "ZeRO-3"),
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
        lambda: partitioned(is_gathered=True),
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


# ---- Whole models ----------------------------------------------------------------------------------


def layers() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


def replaced(make: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Any], nn.Module]:
    """The last layer's parameters are others."""

    def build(_: Any) -> nn.Module:
        model = layers()
        for name, parameter in model[3].named_parameters():
            setattr(model[3], name, nn.Parameter(make(parameter.detach())))
        return model

    return build


def free(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.untyped_storage().resize_(0)


def zero3(_: Any) -> nn.Module:
    model = layers()
    partition_all(model[3])
    return model


def sharded(device: str, to_empty: bool) -> Callable[[Any], nn.Module]:
    def build(mesh: Any) -> nn.Module:
        from torch.distributed.fsdp import fully_shard  # noqa: PLC0415

        with torch.device(device):
            model = layers()
        fully_shard(model[3], mesh=mesh)
        return model.to_empty(device="cpu") if to_empty else model

    return build


def offloaded(_: Any) -> nn.Module:
    model = layers()
    model[3].to("meta")._hf_hook = SimpleNamespace(offload=True)
    return model


def faked(_: Any) -> nn.Module:
    model = layers()
    with FakeTensorMode():
        model[3] = nn.Linear(6, 3)
    return model


ELSEWHERE: dict[str, Callable[[Any], nn.Module]] = {
    "ZeRO-3": zero3,
    "fully_shard": sharded("cpu", to_empty=False),
    "fully_shard, meta": sharded("meta", to_empty=False),
    "fully_shard, to_empty": sharded("meta", to_empty=True),
    "wrapper": replaced(lambda tensor: TwoTensor(tensor, tensor.clone())),
    "unknown wrapper": replaced(Wrapper),
    "offloaded": offloaded,
    "fake": faked,
}


SHARDS = [name for name in ELSEWHERE if name == "ZeRO-3" or "fully_shard" in name]


def here(model: nn.Module) -> dict[str, torch.Tensor]:
    """What can be read, in bits: some is memory that nothing was written to."""
    return {
        name: tensor.detach().clone().reshape(-1).view(torch.uint8)
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
        if elsewhere(tensor) is None and not tensor.is_meta
    }


@pytest.mark.parametrize("name", [name for name in ELSEWHERE if name not in SHARDS])
@pytest.mark.parametrize("recipe", ["auto", "torch", "xavier"])
@pytest.mark.parametrize("dry_run", [False, True])
def test_models_are_refused_by_name_before_anything_is_written(
    mesh: Any, name: str, recipe: str, dry_run: bool
) -> None:
    model = ELSEWHERE[name](mesh)
    before, state = here(model), torch.get_rng_state()
    with pytest.raises(
        ValueError, match=r"initialize_ takes .* 2 that have not: 3\.weight \(.*3\.bias"
    ):
        initialize_(model, recipe, dry_run=dry_run)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(same_bits(tensor, before[name]) for name, tensor in here(model).items())
    assert here(model).keys() == before.keys()


def test_shards_without_memory_are_refused_by_name_before_anything_is_written(mesh: Any) -> None:
    model = ELSEWHERE["fully_shard, meta"](mesh)
    with pytest.raises(
        ValueError, match=r"2 DTensors on the meta device: 3\.weight, .* model\.to_empty"
    ):
        initialize_(model, "xavier", device="cpu")
    assert all(parameter.is_meta for parameter in model.parameters())


SHARDED = {"fully_shard", "fully_shard, to_empty"}


@pytest.mark.parametrize("replayed", [False, True])
@pytest.mark.parametrize("name", sorted(SHARDED))
def test_shards_get_what_the_whole_has_there(mesh: Any, name: str, replayed: bool) -> None:
    model, plain = ELSEWHERE[name](mesh), layers()
    expected = initialize_(plain, "xavier", seed=3)
    report = replay_(model, expected) if replayed else initialize_(model, "xavier", seed=3)
    for (parameter, shard), whole in zip(model.named_parameters(), plain.parameters(), strict=True):
        local = getattr(shard, "_local_tensor", shard)
        assert torch.equal(local, whole[: len(local)]), parameter
        assert report[parameter].weight == expected[parameter].weight


@pytest.mark.parametrize("name", ELSEWHERE)
@pytest.mark.parametrize(
    "options", [{"only": "[01].*"}, {"skip": "3.*"}, {"rules": {"3.*": "keep"}}]
)
def test_the_rest_is_initialized_where_they_are_left_alone(
    mesh: Any, name: str, options: dict[str, Any]
) -> None:
    model, plain = ELSEWHERE[name](mesh), layers()
    if "rules" in options and any(parameter.is_meta for parameter in model.parameters()):
        with pytest.raises(ValueError, match="without values"):
            initialize_(model, "xavier", seed=3, **options)
        return
    kept = dict(model[3].named_parameters())
    report = initialize_(model, "xavier", seed=3, **options)
    expected = initialize_(plain, "xavier", seed=3)
    assert torch.equal(model[0].weight, plain[0].weight)
    assert report["0.weight"] == expected["0.weight"]
    assert report["3.weight"].mean is None
    assert all(kept[name] is parameter for name, parameter in model[3].named_parameters())


REFUSED = {
    "fully_shard, meta": "replay_ takes .* 2 DTensors on the meta device",
}


@pytest.mark.parametrize("name", sorted(ELSEWHERE.keys() - SHARDED - {"ZeRO-3"}))
def test_a_report_is_not_replayed_where_values_are_elsewhere(mesh: Any, name: str) -> None:
    report = initialize_(layers(), "xavier", seed=3)
    why = REFUSED.get(name, "replay_ takes .* 2 that have not")
    with pytest.raises(ValueError, match=rf"(?s)(?=.*3\.weight).*{why}"):
        replay_(ELSEWHERE[name](mesh), report)


@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, parametrizations.spectral_norm])
@pytest.mark.parametrize("lose", [partition_all, free])
def test_parametrized_weights_are_not_computed_of_originals_without_values(
    process_group: None, wrap: Callable[[nn.Module], nn.Module], lose: Callable[[nn.Module], Any]
) -> None:
    """torch divides by zero, or reads where nothing is."""
    model = nn.Sequential(nn.Linear(4, 6), wrap(nn.Linear(6, 3)))
    lose(model[1])
    with pytest.raises(ValueError, match=r"have not: .*1\.parametrizations\.weight\.original"):
        initialize_(model, "xavier", seed=3)
    report = initialize_(model, "xavier", skip="1.*", seed=3)
    assert report["1.weight"].mean is None
    assert report["0.weight"].mean is not None


def test_running_statistics_that_are_elsewhere_are_refused(mesh: Any) -> None:
    from torch.distributed.tensor import Replicate, distribute_tensor  # noqa: PLC0415

    model = layers()
    model[1].running_mean = distribute_tensor(torch.ones(6), mesh, [Replicate()])
    before = copy.deepcopy(here(model))
    with pytest.raises(ValueError, match=r"1 that have not: 1\.running_mean \(a DTensor"):
        initialize_(model, "xavier", seed=3)
    assert all(same_bits(tensor, before[name]) for name, tensor in here(model).items())
