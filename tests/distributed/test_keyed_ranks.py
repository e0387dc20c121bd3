"""``pyinit.keyed`` on several ranks: each holds of every parameter what a single process has there."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from on_ranks import on_ranks
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

import pyinit
from pyinit._random.rng import Key, stream_of

SHAPE = (13, 9)

# By name: what is called on a parameter, and the same on the tensor of a single process.
CALLS: dict[str, Callable[[Any], object]] = {
    "normal_": lambda p: nn.init.normal_(p, std=0.02),
    "trunc_normal_": lambda p: nn.init.trunc_normal_(p, std=0.5),
    "xavier_uniform_": nn.init.xavier_uniform_,
    "pyinit.kaiming_normal_": pyinit.kaiming_normal_,
    "orthogonal_": nn.init.orthogonal_,
    "sparse_": lambda p: nn.init.sparse_(p, 0.3),
    "eye_": nn.init.eye_,
    "constant_": lambda p: nn.init.constant_(p, 0.5),
    "data.uniform_": lambda p: p.data.uniform_(-1.0, 1.0),
    "data.exponential_": lambda p: p.data.exponential_(),
    "detach().normal_": lambda p: p.detach().normal_(),
    "no_grad normal_": torch.no_grad()(lambda p: p.normal_()),
    "transposed": lambda p: nn.init.normal_(p.t()),
    "partial": functools.partial(nn.init.normal_, std=2.0),
    "twice": lambda p: (nn.init.normal_(p), nn.init.uniform_(p)),
    "many": lambda p: pyinit.orthogonal_many_([p]),
}
LOCALLY: dict[str, Callable[[Tensor], object]] = {
    "normal_": lambda t: nn.init.normal_(t, std=0.02),
    "trunc_normal_": lambda t: pyinit.trunc_normal_(t, std=0.5),
    "Tensor.uniform_": lambda t: t.uniform_(-1.0, 1.0),
    "Tensor.cauchy_": lambda t: t.cauchy_(),
}
LAYOUTS: dict[str, tuple[tuple[int, ...], list[Any]]] = {
    "rows of 1": ((1,), [Shard(0)]),
    "rows of 2": ((2,), [Shard(0)]),
    "columns of 3": ((3,), [Shard(1)]),
    "rows of 4": ((4,), [Shard(0)]),
    "all": ((2,), [Replicate()]),
    "rows, columns": ((2, 2), [Shard(0), Shard(1)]),
    "rows, rows": ((2, 2), [Shard(0), Shard(0)]),
    "all, columns": ((2, 2), [Replicate(), Shard(1)]),
}


def one(weight: Tensor) -> Any:
    model = nn.Module()
    model.weight = nn.Parameter(weight)
    return model


def alone(call: Callable[[Any], object]) -> Tensor:
    """What a single process has."""
    model = one(torch.zeros(SHAPE))
    with pyinit.keyed(model, 7):
        call(model.weight)
    return model.weight.detach()


def sharded_calls(layout: str) -> list[str]:
    """The calls after which a rank does not hold its part of what a single process has."""
    sizes, placements = LAYOUTS[layout]
    mesh = init_device_mesh("cpu", sizes)
    found = []

    def local(whole: Tensor) -> Tensor:
        return distribute_tensor(whole, mesh, placements).to_local()

    for name, call in CALLS.items():
        expected = alone(call)
        torch.manual_seed(torch.distributed.get_rank())
        state = torch.get_rng_state()
        model = one(distribute_tensor(torch.zeros(SHAPE), mesh, placements))
        with pyinit.keyed(model, 7, strict=True):
            call(model.weight)
        is_kept = torch.equal(state, torch.get_rng_state())
        if not (is_kept and torch.equal(model.weight.to_local(), local(expected))):
            found.append(name)
    parts: dict[str, Callable[[Any], Tensor]] = {
        "to_local": lambda p: p.to_local().detach(),
        "_local_tensor": lambda p: p._local_tensor.data,
        "rows of local": lambda p: p.to_local().detach()[1:3],
        "a block of local": lambda p: p.to_local().detach()[1:, 1:3],
        "every second of local": lambda p: p.to_local().detach()[:, ::2],
        "local, transposed": lambda p: p.to_local().detach().t(),
        "local, flat": lambda p: p.to_local().detach().view(-1),
    }
    for name, call in LOCALLY.items():
        whole = local(alone(lambda p, call=call: call(p.detach())))
        for kind, part in parts.items():
            model = one(distribute_tensor(torch.zeros(SHAPE), mesh, placements))
            expected = one(distribute_tensor(torch.zeros(SHAPE), mesh, placements))
            own = distribute_tensor(torch.zeros(SHAPE), mesh, placements)
            own.to_local().copy_(whole)
            part(expected.weight).copy_(part(own))
            with pyinit.keyed(model, 7):
                if part(model.weight).numel():
                    call(part(model.weight))
                model.weight.data.mul_(1)
            if not torch.equal(model.weight.to_local(), expected.weight.to_local()):
                found.append(f"{name} of {kind}")
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_rank_holds_its_part_of_what_a_single_process_has(layout: str) -> None:
    count = 1
    for size in LAYOUTS[layout][0]:
        count *= size
    assert on_ranks(sharded_calls, count, layout) == [[]] * count


# ---- a model ------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.up, self.down = nn.Linear(width, 3 * width), nn.Linear(3 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.relu(self.up(self.norm(x))))

    def init_weights(self, std: float) -> None:
        """As torchtitan's models do."""
        self.norm.reset_parameters()
        nn.init.trunc_normal_(self.up.weight, mean=0.0, std=0.02)
        nn.init.zeros_(self.up.bias)
        nn.init.trunc_normal_(self.down.weight, mean=0.0, std=std)


class Transformer(nn.Module):
    def __init__(self, width: int = 10, depth: int = 3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(23, width)
        self.layers = nn.ModuleDict({str(i): Block(width) for i in range(depth)})
        self.output = nn.Linear(width, 23, bias=False)

    def init_weights(self) -> None:
        nn.init.normal_(self.embedding.weight)
        for i, layer in enumerate(self.layers.values()):
            layer.init_weights(0.02 / (i + 1))
        nn.init.orthogonal_(self.output.weight)


def on_meta() -> Any:
    with torch.device("meta"):
        return Transformer()


def by_fsdp() -> Any:
    model = on_meta()
    for layer in model.layers.values():
        fully_shard(layer)
    fully_shard(model)
    return model


def by_tensor_parallel(mesh: Any) -> Any:
    model = on_meta()
    for layer in model.layers.values():
        parallelize_module(layer, mesh, {"up": ColwiseParallel(), "down": RowwiseParallel()})
    return model


def by_both() -> Any:
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    model = by_tensor_parallel(mesh["tp"])
    for layer in model.layers.values():
        fully_shard(layer, mesh=mesh["dp"])
    return fully_shard(model, mesh=mesh["dp"])


def by_tensor_parallel_alone() -> Any:
    return by_tensor_parallel(init_device_mesh("cpu", (torch.distributed.get_world_size(),)))


MODELS = {"fsdp": by_fsdp, "tensor parallel": by_tensor_parallel_alone, "both": by_both}


def whole_model(kind: str) -> dict[str, Tensor]:
    """All parameters of a model that is spread over the ranks."""
    model = MODELS[kind]()
    model.to_empty(device="cpu")
    torch.manual_seed(torch.distributed.get_rank())
    with pyinit.keyed(model, 7, strict=True):
        model.init_weights()
    return {
        name: getattr(p, "full_tensor", p.detach)().detach() for name, p in model.named_parameters()
    }


@pytest.mark.parametrize(
    ("kind", "size"), [("fsdp", 2), ("fsdp", 3), ("tensor parallel", 2), ("both", 4)]
)
def test_a_model_has_the_same_weights_at_any_world_size(kind: str, size: int) -> None:
    model = Transformer()
    with pyinit.keyed(model, 7, strict=True):
        model.init_weights()
    expected = {name: p.detach() for name, p in model.named_parameters()}
    for found in on_ranks(whole_model, size, kind):
        assert found.keys() == expected.keys()
        assert not [name for name in found if not torch.equal(found[name], expected[name])]


class Lightning(nn.Module):
    """A module that makes its model itself, as those of Lightning do."""

    def configure_model(self) -> None:
        self.model = by_fsdp()
        self.model.to_empty(device="cpu")
        with pyinit.keyed(self, 7, strict=True):
            self.model.init_weights()


def configured() -> dict[str, Tensor]:
    module = Lightning()
    module.configure_model()
    return {name: p.full_tensor().detach() for name, p in module.named_parameters()}


def test_configure_model() -> None:
    plain = nn.Module()
    plain.model = Transformer()
    with pyinit.keyed(plain, 7, strict=True):
        plain.model.init_weights()
    for found in on_ranks(configured, 2):
        for name, parameter in plain.named_parameters():
            assert torch.equal(found[name], parameter), name


# ---- what is refused, and what is lost -------------------------------------------------------------


def slices() -> list[str]:
    """What is said of writes to slices of a DTensor, which are tensors of their own."""
    mesh = init_device_mesh("cpu", (2,))
    model = one(distribute_tensor(torch.zeros(8, 4), mesh, [Shard(0)]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pyinit.keyed(model, 7):
            nn.init.normal_(model.weight[2:6])
    is_lost = not model.weight.to_local().any()
    return [str(is_lost), *(str(each.message) for each in caught if "of the" in str(each.message))]


def test_writes_that_torch_loses_do_not_count() -> None:
    for is_lost, *messages in on_ranks(slices, 2):
        assert is_lost == "True"
        assert ["reached 1 of the" in message for message in messages] == [True, False]
        assert "slices of 1 of the parameters" in messages[1]


def with_seeds_of_their_own() -> list[Any]:
    """What ranks that have other seeds raise, and whether anything was written; without comparing, too."""
    rank = torch.distributed.get_rank()
    mesh = init_device_mesh("cpu", (2,))
    model = one(distribute_tensor(torch.zeros(8, 4), mesh, [Shard(0)]))
    said = ""
    try:
        with pyinit.keyed(model, rank):
            nn.init.normal_(model.weight)
    except ValueError as error:
        said = str(error)
    was_written = bool(model.weight.to_local().any())
    with pyinit.keyed(model, rank, agree=False):
        nn.init.normal_(model.weight)
    return [said, was_written, bool(model.weight.to_local().any())]


def test_ranks_that_have_other_seeds_all_refuse() -> None:
    message = "keyed needs the same on all ranks, but seed differs: rank 0 has 0, rank 1 has 1"
    assert on_ranks(with_seeds_of_their_own, 2) == [[message, False, True]] * 2


def with_calls_of_their_own() -> list[str]:
    """What ranks raise that call something else on what they share, each in its own words."""
    rank = torch.distributed.get_rank()
    mesh = init_device_mesh("cpu", (2,))

    def raised(fill: Callable[[Any], object], rows: int = 8) -> str:
        model = one(distribute_tensor(torch.zeros(rows, 4), mesh, [Shard(0)]))
        try:
            with pyinit.keyed(model, 7, strict=True):
                fill(model.weight)
        except (ValueError, ZeroDivisionError) as error:
            return f"{type(error).__name__}: {error}"
        return ""

    return [
        raised(lambda p: [nn.init.normal_(p) for _ in range(1 + rank)]),
        raised(lambda p: nn.init.normal_(p, std=0.5 * (1 + rank))),
        raised(lambda p: (nn.init.normal_(p), 1 // (1 - rank))),
        raised(lambda p: (nn.init.normal_(p), p.to_local().detach()[:rank].zero_())),
        raised(lambda p: p.to_local().numel() and nn.init.normal_(p), rows=1),
        raised(nn.init.normal_),
    ]


def test_ranks_that_call_something_else_are_told_at_the_end() -> None:
    first, second = on_ranks(with_calls_of_their_own, 2)
    call = "normal_(mean=0.0, std=1.0)"
    once = f"rank 0 has (8, 4) float32 {call}, rank 1 has (8, 4) float32 {call}; {call}"
    assert once in first[0]
    assert first[0] == second[0]
    assert f"std=0.5), rank 1 has (8, 4) float32 {call}" in first[1]
    assert "the end of the block differs: rank 0 has reached, rank 1 has not reached" in first[2]
    assert second[2].startswith("ZeroDivisionError")
    assert first[3:] == second[3:] == ["", "", ""]


def test_partial_placements_are_refused(mesh: Any) -> None:
    from torch.distributed.tensor import DTensor  # noqa: PLC0415

    model = one(DTensor.from_local(torch.zeros(3, 3), mesh, [Partial()]))
    with (
        pytest.raises(ValueError, match=r"keyed cannot fill weight: .*P\(sum\)"),
        pyinit.keyed(model, 7),
    ):
        pass


def test_shards_on_the_meta_device_are_refused(mesh: Any) -> None:
    model = fully_shard(on_meta(), mesh=mesh)
    with (
        pytest.raises(ValueError, match=r"meta device: embedding\.weight, .*to_empty"),
        pyinit.keyed(model, 7),
    ):
        pass


def test_fans_are_those_of_the_whole(fake_ranks: None) -> None:
    mesh = init_device_mesh("cpu", (2,))
    model = one(distribute_tensor(torch.zeros(8, 6), mesh, [Shard(0)], src_data_rank=None))
    expected = pyinit.xavier_uniform_(torch.empty(8, 6), generator=Key(7, stream_of("weight")))
    for part in (model.weight, model.weight.to_local().detach()):
        with pyinit.keyed(model, 7):
            nn.init.xavier_uniform_(part)
        assert torch.equal(model.weight.to_local(), expected[:4])
