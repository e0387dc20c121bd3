"""Tensors on a device that pyinit has no kernels for get, from a key, the numbers that they get on the CPU.

There is no such device here: some tensors of the CPU play that they are on one.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import pyinit
from pyinit import initialize_
from pyinit._random.rng import Key
from pyinit._sharding import fills, find
from pyinit._torch import views
from pyinit.init import _routes
from pyinit.whole_model import own_resets
from pyinit.whole_model.engine.execute import Batch

KEY = Key(0x0123456789ABCDEF, 2**63 + 5)
Move = Callable[[Iterable[Tensor]], None]


@pytest.fixture
def move(monkeypatch: pytest.MonkeyPatch) -> Move:
    """Has the memory of tensors count as that of a device without kernels, where torch draws nothing."""
    moved: set[int] = set()
    is_moved = lambda tensor: tensor.untyped_storage()._cdata in moved

    for name in ("_find_writable", "_find_readable"):
        usual = getattr(views, name)
        monkeypatch.setattr(
            views, name, lambda tensor, usual=usual: None if is_moved(tensor) else usual(tensor)
        )
    for module in (find, fills):
        monkeypatch.setattr(module, "has_kernels", lambda tensor: not is_moved(tensor))

    def refuses(usual: Callable[..., Any]) -> Callable[..., Any]:
        def call(first: Any, tensor: Tensor, *rest: Any) -> Any:
            assert not is_moved(tensor), f"it is left to torch: {first}, {rest}"
            return usual(first, tensor, *rest)

        return call

    monkeypatch.setattr(_routes, "by_torch", refuses(_routes.by_torch))
    monkeypatch.setattr(Batch, "_by_call", refuses(Batch._by_call))
    monkeypatch.setattr(own_resets, "SEEDED", frozenset())
    return lambda tensors: moved.update(tensor.untyped_storage()._cdata for tensor in tensors)


FILLS: dict[str, tuple[tuple[int, ...], Callable[..., Any]]] = {
    "uniform": ((6, 9), partial(pyinit.uniform_, a=-1.0, b=2.0)),
    "normal": ((6, 9), partial(pyinit.normal_, std=0.5)),
    "trunc_normal": ((6, 9), partial(pyinit.trunc_normal_, a=-0.5, b=1.0)),
    "xavier_uniform": ((6, 9), pyinit.xavier_uniform_),
    "kaiming_normal": ((6, 3, 3), pyinit.kaiming_normal_),
    "lecun_normal": ((6, 9), pyinit.lecun_normal_),
    "orthogonal": ((6, 9), pyinit.orthogonal_),
    "orthogonal, groups": ((6, 2, 3), partial(pyinit.orthogonal_, groups=2)),
    "delta_orthogonal": ((6, 3, 3), pyinit.delta_orthogonal_),
    "sparse": ((9, 6), partial(pyinit.sparse_, sparsity=0.3)),
    "one number": ((), pyinit.normal_),
    "no number": ((0, 3), pyinit.normal_),
}

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "dense": lambda like: torch.full_like(like, 7.0),
    "reversed dimensions": lambda like: torch.full_like(
        like.permute(tuple(reversed(range(like.dim())))).contiguous(), 7.0
    ).permute(tuple(reversed(range(like.dim())))),
    "gaps": lambda like: torch.full((*like.shape, 3), 7.0, dtype=like.dtype)[..., 1],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", views.DTYPES)
@pytest.mark.parametrize("name", FILLS)
def test_a_key_gives_the_same_bits(name: str, dtype: torch.dtype, layout: str, move: Move) -> None:
    shape, fill = FILLS[name]
    plain = fill(torch.empty(shape, dtype=dtype), generator=KEY)
    tensor = LAYOUTS[layout](plain)
    move([tensor])
    state, version = torch.get_rng_state(), tensor._version
    assert fill(tensor, generator=KEY) is tensor
    assert torch.equal(tensor, plain)
    assert tensor._version > version or not tensor.numel()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("tile", [1, 7, 8, 9, 63, 64, 65])
@pytest.mark.parametrize("shape", [(64,), (8, 8), (2, 4, 8), (1, 1, 64), (3, 21)])
def test_tiles_meet(
    tile: int, shape: tuple[int, ...], move: Move, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = pyinit.normal_(torch.empty(shape), generator=KEY)
    tensor = torch.full(shape, torch.nan)
    move([tensor])
    monkeypatch.setattr(fills, "_TILE", tile)
    assert torch.equal(pyinit.normal_(tensor, generator=KEY), plain)


class Own(nn.Module):
    """Draws its parameter by its own code."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(4, 3))
        self.register_buffer("ones", torch.ones(3))

    def reset_parameters(self) -> None:
        nn.init.normal_(self.table)
        self.table.data.mul_(self.ones)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.BatchNorm2d(6),
        nn.Embedding(11, 4, padding_idx=3),
        nn.LSTM(4, 3),
        nn.MultiheadAttention(8, 2),
        parametrizations.weight_norm(nn.Linear(4, 5)),
        parametrizations.spectral_norm(nn.Linear(4, 5)),
        Own(),
    )


@pytest.mark.parametrize(
    "recipe", ["torch", "xavier", "orthogonal", "delta_orthogonal", "zero", "mimetic", "keras"]
)
def test_a_model_gets_the_same_bits(recipe: str, move: Move) -> None:
    plain, moved = model(), model()
    expected = initialize_(plain, recipe, seed=3)
    before = dict(moved.named_parameters())
    move((*moved.parameters(), *moved.buffers()))
    state = torch.get_rng_state()
    report = initialize_(moved, recipe, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(moved.state_dict()[name], tensor), name
    for name, parameter in moved.named_parameters():
        assert before[name] is parameter
        row = report[name.replace("parametrizations.", "").partition(".original")[0]]
        same = expected[row.name]
        assert row[:8] == same[:8]
        assert (row.mean, row.std) == pytest.approx((same.mean, same.std), rel=1e-5, abs=1e-6)


def test_a_models_own_code_fills_copies_on_the_cpu(move: Move) -> None:
    module = Own()
    seen: list[Tensor] = []
    module.register_buffer("ones", torch.full((3,), 2.0))
    move([module.table, module.ones])
    table = module.table

    class Seen(Own):
        def reset_parameters(self) -> None:
            seen.append(self.table)
            super().reset_parameters()

    module.__class__ = Seen
    initialize_(module, "torch", seed=3)
    assert seen
    assert all(one is not table for one in seen)
    assert module.table is table
    plain = Own()
    initialize_(plain, "torch", seed=3)
    assert torch.equal(table, 2 * plain.table)
