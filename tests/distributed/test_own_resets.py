"""What a model's own code starts is the same for shards, which it never sees: it works on stand-ins."""

from collections.abc import Callable, Iterator

import pytest
import torch
from on_ranks import fake_rank
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

import pyinit

NUMBER = 7.0


class StateSpace(nn.Module):
    """A module with a start of its own, for itself and a layer in it."""

    def __init__(self) -> None:
        super().__init__()
        self.A_log = nn.Parameter(torch.empty(5, 4))
        self.scale = nn.Parameter(torch.empty(3))
        self.frozen = nn.Parameter(torch.zeros(4), requires_grad=False)
        self.inner = nn.Linear(4, 5)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        with torch.no_grad():
            self.A_log.copy_(torch.arange(1.0, 5.0).expand(5, 4).log())
            self.scale.uniform_(0.5, 1.0)
            self.frozen.fill_(1.0)
        nn.init.orthogonal_(self.inner.weight)
        nn.init.trunc_normal_(self.inner.bias, std=0.1)


class ByModel(nn.Module):
    """As in transformers: ``_init_weights`` starts the modules one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.mixer = nn.Module()
        self.mixer.time_decay = nn.Parameter(torch.empty(6, 3))
        self.layer = nn.Linear(3, 6)

    def _init_weights(self, module: nn.Module) -> None:
        if hasattr(module, "time_decay"):
            nn.init.normal_(module.time_decay, -5.0, 0.1)


@pytest.fixture(params=[(0, 2), (1, 2), (4, 5)], ids=["first", "second", "last of five"])
def mesh(request: pytest.FixtureRequest) -> Iterator[object]:
    with fake_rank(*request.param):
        yield init_device_mesh("cpu", (request.param[1],))


@pytest.mark.parametrize("build", [StateSpace, ByModel])
@pytest.mark.parametrize("recipe", ["torch", "normal"])
def test_shards_get_what_their_models_own_code_gives_the_whole(
    mesh: object, build: Callable[[], nn.Module], recipe: str
) -> None:
    with torch.device("meta"):
        model = nn.Sequential(build())
    fully_shard(model, mesh=mesh)
    model.to_empty(device="cpu")
    for parameter in model.parameters():
        assert isinstance(parameter, DTensor)
        parameter._local_tensor.detach().fill_(NUMBER)
    plain = nn.Sequential(build())
    state = torch.get_rng_state()
    report = pyinit.initialize_(model, recipe, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    expected = pyinit.initialize_(plain, recipe, seed=3)
    for (name, ours), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert report[name].initializer == expected[name].initializer
        if not ours.requires_grad:
            assert (ours._local_tensor == NUMBER).all()
            continue
        held = distribute_tensor(theirs.detach(), mesh, ours.placements, src_data_rank=None)
        assert torch.equal(ours._local_tensor, held._local_tensor), name
