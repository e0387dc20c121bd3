"""Models that are spread over processes start as the plain model does."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as checkpoints
from on_ranks import on_ranks
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

import pyinit
from pyinit.models.llama import Llama

RECIPES = ("auto", "llama", "torch", "orthogonal", "gpt2")
TOKENS = torch.arange(2 * 8).view(2, 8) % 23
SEED = 5


def llama(*, tied: bool = False) -> Llama:
    model = Llama(vocab=23, width=16, hidden=20, layers=2, heads=4, kv_heads=2, head_dim=4)
    if not tied:
        model.lm_head = nn.Linear(16, 23, bias=False)
    return model


def on_meta(**options: bool) -> Llama:
    with torch.device("meta"):
        return llama(**options)


# ---- Ways to spread it -------------------------------------------------------------------------------


def sharded(model: Llama, mesh: Any, **options: Any) -> Llama:
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh, **options)
    return fully_shard(model, mesh=mesh, **options)


def tensor_parallel(model: Llama, mesh: Any) -> Llama:
    rows, everything = Shard(1), Replicate()
    to_all = {"input_layouts": (rows,), "desired_input_layouts": (everything,)}
    parallelize_module(
        model,
        mesh,
        {
            "model.embed_tokens": RowwiseParallel(input_layouts=everything, output_layouts=rows),
            "model.norm": SequenceParallel(),
            "lm_head": ColwiseParallel(input_layouts=rows, output_layouts=everything),
        },
    )
    for layer in model.model.layers:
        parallelize_module(
            layer,
            mesh,
            {
                "input_layernorm": SequenceParallel(),
                "self_attn": PrepareModuleInput(
                    input_layouts=(rows, None, None), desired_input_layouts=(everything, None, None)
                ),
                "self_attn.q_proj": ColwiseParallel(),
                "self_attn.k_proj": ColwiseParallel(),
                "self_attn.v_proj": ColwiseParallel(),
                "self_attn.o_proj": RowwiseParallel(output_layouts=rows),
                "post_attention_layernorm": SequenceParallel(),
                "mlp": PrepareModuleInput(**to_all),
                "mlp.gate_proj": ColwiseParallel(),
                "mlp.up_proj": ColwiseParallel(),
                "mlp.down_proj": RowwiseParallel(output_layouts=rows),
            },
        )
    return model


def both(model: Llama) -> Llama:
    mesh = square()
    return sharded(tensor_parallel(model, mesh["tensor"]), mesh["data"])


def line() -> Any:
    return init_device_mesh("cpu", (torch.distributed.get_world_size(),))


def square() -> Any:
    return init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))


def by_columns(parameter: Tensor) -> Shard:
    return Shard(parameter.dim() - 1)


HALF = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
WAYS: dict[str, Callable[[Llama], Llama]] = {
    "fully_shard": lambda model: sharded(model, line()),
    "tensor parallel": lambda model: tensor_parallel(model, square()["tensor"]),
    "both": both,
    "hybrid": lambda model: sharded(model, square()),
    "by columns": lambda model: sharded(model, line(), shard_placement_fn=by_columns),
    "mixed precision": lambda model: sharded(model, line(), mp_policy=HALF),
    "offloaded": lambda model: sharded(
        model, line(), offload_policy=CPUOffloadPolicy(pin_memory=False)
    ),
    "not resharded": lambda model: sharded(model, line(), reshard_after_forward=False),
    "resharded by two": lambda model: sharded(model, line(), reshard_after_forward=2),
}
MAIN = ("fully_shard", "tensor parallel", "both")  # by all recipes
TIED = ("fully_shard", "hybrid")


# ---- What is compared ----------------------------------------------------------------------------------


def whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor().detach() if isinstance(tensor, DTensor) else tensor.detach()


def differences(model: nn.Module, plain: nn.Module) -> list[str]:
    """The names of parameters that differ in any bit, or that only one of the two has."""
    ours, theirs = dict(model.named_parameters()), dict(plain.named_parameters())
    found = [
        name
        for name in ours.keys() & theirs.keys()
        if not torch.equal(whole(ours[name]), theirs[name])
    ]
    return sorted({*found, *(ours.keys() ^ theirs.keys())})


def lost_values(model: nn.Module) -> None:
    """What memory that nobody has written to may hold."""
    for parameter in model.parameters():
        local = parameter._local_tensor if isinstance(parameter, DTensor) else parameter
        local.detach().fill_(torch.nan)


@functools.cache
def started(recipe: str, tied: bool) -> tuple[Llama, pyinit.InitReport]:
    """The plain model, and the report of its initialization."""
    model = llama(tied=tied)
    return model, pyinit.initialize_(model, recipe, seed=SEED)


def spread_llamas() -> list[str]:
    failed = []
    for way, spread in WAYS.items():
        for tied in (False, True) if way in TIED else (False,):
            model = spread(on_meta(tied=tied))
            planned = pyinit.initialize_(model, "llama", seed=SEED, dry_run=True)
            model.to_empty(device="cpu")
            for recipe in RECIPES if way in MAIN else ("llama", "orthogonal"):
                lost_values(model)
                plain, expected = started(recipe, tied)
                report = pyinit.initialize_(model, recipe, seed=SEED)
                failed += [f"{way}, {recipe}: {name}" for name in differences(model, plain)]
                if list(map(told, report)) != list(map(told, expected)):
                    failed.append(f"{way}, {recipe}: the report")
                if recipe == "llama" and list(map(told, planned)) != list(map(told, report)):
                    failed.append(f"{way}: the plan on the meta device")
            lost_values(model)
            pyinit.replay_(model, expected)
            failed += [f"{way}, replayed: {name}" for name in differences(model, plain)]
            failed += [f"{way}: {what}" for what in wrong_steps(model, plain, way)]
    return failed


def told(row: Any) -> Any:
    return row._replace(mean=None, std=None, min=None, max=None)


def wrong_steps(model: nn.Module, plain: nn.Module, way: str) -> list[str]:
    """What goes wrong in a step of training that begins with the same weights."""
    tolerance = (
        {"atol": 0.1, "rtol": 0.1} if way == "mixed precision" else {"atol": 1e-4, "rtol": 1e-4}
    )
    found = []
    logits, expected = model(TOKENS), plain(TOKENS)
    if not torch.allclose(logits.float(), expected, **tolerance):
        found.append("logits")
    logits.float().square().mean().backward()
    torch.optim.AdamW(model.parameters(), lr=0.1).step()
    if not all(whole(p).isfinite().all() for p in model.parameters()):
        found.append("a step")
    return found


def test_a_llama_that_is_spread_over_four_ranks_is_the_plain_one() -> None:
    for rank, failed in enumerate(on_ranks(spread_llamas, 4, timeout=120)):
        assert not failed, f"rank {rank}: {failed}"


# ---- Pipelines -----------------------------------------------------------------------------------------


def stage_of(model: Llama, rank: int) -> Llama:
    """What a rank of a pipeline has, under the names of the whole."""
    layers = model.model.layers
    model.model.layers = nn.ModuleDict({str(rank): layers[rank]})
    if rank == 0:
        model.model.norm, model.lm_head = None, None
    else:
        model.model.embed_tokens = None
    return model


def pipelined_llamas() -> list[str]:
    rank, failed = torch.distributed.get_rank(), []
    for recipe in RECIPES:
        plain = llama()
        pyinit.initialize_(plain, recipe, seed=SEED)
        plan = pyinit.initialize_(on_meta(), recipe, seed=SEED, dry_run=True)
        for stage in (stage_of(llama(), rank), stage_of(on_meta(), rank)):
            report = pyinit.replay_(stage, plan, strict=False)
            expected = dict(plain.named_parameters())
            for name, parameter in stage.named_parameters():
                if not torch.equal(parameter, expected[name]):
                    failed.append(f"{recipe}: {name}")
            if {name for name, _ in report.skipped} != expected.keys() - dict(
                stage.named_parameters()
            ).keys():
                failed.append(f"{recipe}: {report.skipped}")
    return failed


def test_the_stages_of_a_pipeline_are_parts_of_the_plain_model() -> None:
    for rank, failed in enumerate(on_ranks(pipelined_llamas, 2)):
        assert not failed, f"rank {rank}: {failed}"


# ---- Checkpoints -----------------------------------------------------------------------------------------


def save(folder: str) -> None:
    model = both(on_meta())
    model.to_empty(device="cpu")
    pyinit.initialize_(model, "orthogonal", seed=SEED)
    checkpoints.save(get_model_state_dict(model), checkpoint_id=folder)


def load(folder: str) -> list[str]:
    model = sharded(on_meta(), line())
    model.to_empty(device="cpu")
    state: Mapping[str, Any] = get_model_state_dict(model)
    checkpoints.load(dict(state), checkpoint_id=folder)
    plain = llama()
    pyinit.initialize_(plain, "orthogonal", seed=SEED)
    return differences(model, plain)


@pytest.mark.parametrize("size", [2, 3])
def test_a_checkpoint_of_four_ranks_is_loaded_by_fewer(size: int, tmp_path: Path) -> None:
    on_ranks(save, 4, str(tmp_path))
    assert on_ranks(load, size, str(tmp_path)) == [[]] * size
