"""``pyinit.keyed`` on parameters that DeepSpeed's ZeRO-3 has partitioned, or gathered for a while."""

import importlib.util
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from on_ranks import fake_rank, on_ranks
from torch import Tensor, nn
from zero3 import Status, free, gathered, held_by_ranks, partition

import pyinit
from pyinit._random.rng import stream_of

SHAPE = (7, 5)

CALLS: dict[str, Callable[[Any], object]] = {
    "normal_": nn.init.normal_,
    "trunc_normal_": lambda p: nn.init.trunc_normal_(p, std=0.1),
    "xavier_uniform_": nn.init.xavier_uniform_,
    "pyinit.kaiming_normal_": pyinit.kaiming_normal_,
    "constant_": lambda p: nn.init.constant_(p, 0.5),
    "data.normal_": lambda p: p.data.normal_(),
    "data.exponential_": lambda p: p.data.exponential_(),
    "xavier_normal_ of data": lambda p: nn.init.xavier_normal_(p.data),
    "twice": lambda p: (nn.init.normal_(p), nn.init.uniform_(p)),
}


def one() -> Any:
    model = nn.Module()
    model.weight = nn.Parameter(torch.zeros(SHAPE))
    return model


def alone(call: Callable[[Any], object]) -> Tensor:
    model = one()
    with pyinit.keyed(model, 7, strict=True):
        call(model.weight)
    return model.weight.detach()


def gather(parameter: Any) -> None:
    """As ``deepspeed.zero.GatheredParameters`` does, whose values are dropped at its end."""
    parameter.data = torch.full(parameter.ds_shape, torch.nan, dtype=parameter.dtype)
    parameter.ds_status = Status.AVAILABLE


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("name", CALLS)
def test_each_rank_writes_its_partition(name: str, ranks: int) -> None:
    def make() -> Any:
        model = one()
        partition(model.weight)
        state = torch.get_rng_state()
        with pyinit.keyed(model, 7, strict=True):
            CALLS[name](model.weight)
        assert torch.equal(state, torch.get_rng_state())
        return model.weight

    assert torch.equal(gathered(held_by_ranks(ranks, make)), alone(CALLS[name]))


@pytest.mark.parametrize("name", [*CALLS, "orthogonal_", "zero_", "rows"])
def test_what_is_written_while_it_is_gathered_lasts(name: str) -> None:
    calls: dict[str, Callable[[Any], object]] = {
        **CALLS,
        "orthogonal_": nn.init.orthogonal_,
        "zero_": lambda p: p.data.zero_(),
        "rows": lambda p: (p.data[:3].normal_(), p.data[3:].zero_()),
    }

    def make() -> Any:
        model = one()
        partition(model.weight)
        with pyinit.keyed(model, 7, strict=True):
            gather(model.weight)
            calls[name](model.weight)
            free(model.weight)
        return model.weight

    assert torch.equal(gathered(held_by_ranks(2, make)), alone(calls[name]))


def test_what_is_gathered_as_the_block_begins_is_keyed() -> None:
    with fake_rank(1, 2):
        model = one()
        partition(model.weight)
        gather(model.weight)
        with pyinit.keyed(model, 7, strict=True):
            nn.init.normal_(model.weight)
        free(model.weight)
        assert torch.equal(model.weight.ds_tensor[:17], alone(nn.init.normal_).view(-1)[18:])
        gather(model.weight)
        with pyinit.keyed(model, 8, strict=True):
            free(model.weight)
            nn.init.normal_(model.weight)
            model.weight.ds_tensor[1:3].normal_()
    again = [
        pyinit.fill.normal(torch.empty(35), key=8, stream=stream_of("weight") + i) for i in (0, 1)
    ]
    assert torch.equal(model.weight.ds_tensor[3:17], again[0][21:])
    assert torch.equal(model.weight.ds_tensor[1:3], again[1][19:21])


def test_a_partition_is_a_view_of_the_flat_parameter() -> None:
    with fake_rank(1, 3):
        model = one()
        partition(model.weight)
        with pyinit.keyed(model, 7, strict=True):
            model.weight.ds_tensor[2:5].normal_()
    whole = alone(nn.init.normal_).view(-1)
    assert torch.equal(model.weight.ds_tensor[2:5], whole[14:17])
    assert not model.weight.ds_tensor[:2].any()


def test_what_would_have_to_be_gathered_is_refused() -> None:
    with fake_rank(0, 2):
        model = one()
        partition(model.weight)
        with pytest.raises(TypeError, match="partitioned by DeepSpeed"), pyinit.keyed(model, 7):
            nn.init.orthogonal_(model.weight)
    assert not model.weight.ds_tensor.any()


def test_partitions_elsewhere_are_refused_by_name() -> None:
    with fake_rank(0, 2):
        model = one()
        partition(model.weight)
        model.weight.ds_tensor.final_location = "nvme"
        with (
            pytest.raises(ValueError, match=r"keyed cannot fill weight: .*NVMe"),
            pyinit.keyed(model, 7),
        ):
            pass


def by_deepspeed() -> list[str]:
    """The parameters that are not what a plain model has, keyed in each of the ways that DeepSpeed has."""
    os.environ |= {"DS_ACCELERATOR": "cpu", "LOCAL_RANK": os.environ["RANK"]}
    import deepspeed  # noqa: PLC0415

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # it would be compiled
    deepspeed.init_distributed("gloo", verbose=False)

    def layers() -> Any:
        return nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3, bias=False), nn.Embedding(9, 5))

    def reset(model: nn.Module) -> None:
        for module in model:
            module.reset_parameters()

    plain = layers()
    with pyinit.keyed(plain, 7, strict=True):
        reset(plain)
    config = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3}}
    wrong = []
    for way in ("partitioned", "gathered", "modified by rank 0"):
        with deepspeed.zero.Init(config_dict_or_path=config):
            model = layers()
        with pyinit.keyed(model, 7, strict=True):
            if way == "partitioned":
                reset(model)
            else:
                rank = 0 if "0" in way else None
                with deepspeed.zero.GatheredParameters([*model.parameters()], modifier_rank=rank):
                    reset(model)
        for (name, parameter), whole in zip(
            model.named_parameters(), plain.parameters(), strict=True
        ):
            assert parameter.shape == (0,)
            with deepspeed.zero.GatheredParameters(parameter):
                if not torch.equal(parameter, whole):
                    wrong.append(f"{name}, {way}")
    return wrong


@pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not installed"
)
@pytest.mark.parametrize("ranks", [1, 3])
def test_deepspeed_gathers_what_a_plain_model_has(ranks: int) -> None:
    assert on_ranks(by_deepspeed, ranks) == [[]] * ranks
