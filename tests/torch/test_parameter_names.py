"""The names by which parameters draw, and the streams that belong to names: neither may ever change."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.fsdp import fully_shard

import pyinit
from pyinit._random.rng import stream_of
from pyinit.whole_model.network import Network

# The first number of each parameter of ``plain``, all normal, seed 7.
PINNED = [
    -0.23259134590625763,
    0.8750566840171814,
    -1.3683210611343384,
    -0.23184983432292938,
    0.2835061252117157,
    0.08036259561777115,
]

# Names of plain models, and names that users' own wrappers give: they are hashed as they are.
STREAMS = {
    "weight": 9574703655310946886,
    "0.weight": 14291418057784981734,
    "transformer.h.11.attn.c_attn.weight": 14092522958189215814,
    "model.layers.0.self_attn.q_proj.weight": 16370257070406477578,
    "parametrizations.weight.original0": 7832001784034353869,
    "module.0.weight": 12535154005934320341,
    "_orig_mod.0.weight": 5191730054555498688,
    "encoder.λ.bias": 9519796345170983860,
}


@pytest.mark.parametrize("name", STREAMS)
def test_the_stream_of_a_name_is_pinned(name: str) -> None:
    assert stream_of(name) == STREAMS[name]


def plain() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(4, 6), nn.Sequential(nn.Linear(6, 6), nn.ReLU()), nn.Linear(6, 2)
    )


def numbers(model: nn.Module) -> list[torch.Tensor]:
    return [getattr(p, "_local_tensor", p).detach().clone() for p in model.parameters()]


def test_the_numbers_of_a_plain_model_are_pinned() -> None:
    model = plain()
    pyinit.initialize_(model, rules={"*": pyinit.initializers.Normal()}, seed=7)
    found = torch.stack([value.flatten()[0] for value in numbers(model)])
    expected = torch.tensor(PINNED)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("how", ["initialize_", "keyed"])
@pytest.mark.parametrize(
    "order", [*itertools.permutations(["compile", "checkpoint", "shard"])], ids="-".join
)
def test_wrappers_upon_wrappers_change_no_name(
    order: tuple[str, ...], how: str, compiler: Any, mesh: Any
) -> None:
    wraps: dict[str, Callable[[nn.Module], nn.Module]] = {
        "compile": compiler,
        "checkpoint": checkpoint_wrapper,
        "shard": lambda module: fully_shard(module, mesh=mesh),
    }

    def fill(model: nn.Module) -> list[torch.Tensor]:
        if how == "initialize_":
            pyinit.initialize_(model, "xavier", seed=7)
        else:
            with pyinit.keyed(model, 7, strict=True):
                for module in model.modules():
                    if isinstance(module, nn.Linear):
                        module.reset_parameters()
        return numbers(model)

    expected = plain()
    names = [site.name for site in Network(expected).sites]
    model = plain()
    for kind in order:
        model[1] = wraps[kind](model[1])
    whole = compiler(wraps["shard"](model))
    assert [site.name for site in Network(whole).sites] == names
    assert all(map(torch.equal, fill(whole), fill(expected)))
