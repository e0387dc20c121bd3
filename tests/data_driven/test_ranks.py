"""Replicas of a model in DistributedDataParallel get one answer, which is that of all their batches."""

from pathlib import Path
from typing import Any

import pytest
from ranks import run_ranks

_METHODS = """
import pyinit
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.parametrizations import weight_norm

class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 3, batch_first=True)
        self.recurrent = nn.LSTM(12, 6, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.recurrent(self.attention(x, x, x)[0])[0])

def linear():
    last = nn.Linear(16, 5)
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 16, bias=False), nn.Tanh(), last)

def convolutions():
    first, second = nn.Conv2d(2, 8, 3), nn.Conv2d(8, 8, 3, groups=2)
    return nn.Sequential(first, nn.ReLU(), second, nn.Flatten(), nn.Linear(8 * 4 * 4, 5))

def normed():
    return nn.Sequential(weight_norm(nn.Linear(12, 16)), nn.ReLU(), weight_norm(nn.Linear(16, 5)))

generator = torch.Generator().manual_seed(0)
def numbers(*shape):
    return torch.randn(64, *shape, generator=generator)

models = {
    "linear": (linear, 2 * numbers(12) + torch.arange(64).unsqueeze(1) / 32),
    "convolutions": (convolutions, numbers(2, 8, 8).cumsum(-1)),
    "attention": (Attention, numbers(7, 12)),
    "normed": (normed, numbers(12)),
}
ends = {2: [0, 20, 64], 4: [0, 20, 28, 51, 64]}[size]  # some batches have fewer samples than a layer inputs
methods = {
    "lsuv": (pyinit.lsuv_, {}),
    "data_dependent": (pyinit.data_dependent_, {}),
    "pca": (pyinit.data_dependent_, {"weights": "pca", "equalize": False}),
    "kmeans": (pyinit.data_dependent_, {"weights": "kmeans", "equalize": False}),
    "consistency_aware": (pyinit.consistency_aware_, {"candidates": 3, "refine": 2}),
    "whitening": (pyinit.whitening_, {}),
    "zca": (pyinit.whitening_, {"mode": "zca"}),
    "weight_norm_init": (pyinit.weight_norm_init_, {}),
    "autoinit": (pyinit.autoinit_, {}),
}

def compared(name, of):
    method, options = methods[name]
    build, data = models[of]
    torch.manual_seed(0)
    one, replica = build(), build()
    replica.load_state_dict(one.state_dict())
    of_one = method(one, data, seed=0, **options)
    of_all = method(DistributedDataParallel(replica), data[ends[rank] : ends[rank + 1]], seed=0, **options)
    pairs = list(zip(one.parameters(), replica.parameters()))
    largest = max(float(a.detach().abs().max()) for a, _ in pairs)
    return {
        "bits": [b.detach().flatten().view(torch.int32).tolist() for _, b in pairs],
        "off": max(float((a - b).detach().abs().max()) for a, b in pairs) / largest,
        "rows": str(of_all.layers),
        "names": [each.name for each in of_one] == [each.name for each in of_all],
    }

"""

_CASES = [
    *(("lsuv", model) for model in ("linear", "convolutions", "attention", "normed")),
    *(("data_dependent", model) for model in ("linear", "convolutions", "attention")),
    ("pca", "convolutions"),
    ("kmeans", "linear"),
    *(("consistency_aware", model) for model in ("linear", "attention")),
    ("whitening", "convolutions"),
    ("zca", "convolutions"),
    ("weight_norm_init", "normed"),
    ("autoinit", "linear"),
]


_OF_FOUR = [
    ("lsuv", "convolutions"),
    ("data_dependent", "linear"),
    ("kmeans", "linear"),
    ("consistency_aware", "attention"),
    ("zca", "convolutions"),
]


def _measured(size: int, cases: list[tuple[str, str]], folder: Path) -> list[Any]:
    pytest.importorskip("sklearn")
    calls = [
        f'found["{method} {model}"] = compared("{method}", "{model}")' for method, model in cases
    ]
    return run_ranks(_METHODS + "\n".join(calls), size, folder, timeout=240)


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return _measured(2, _CASES, tmp_path_factory.mktemp("ranks"))


@pytest.fixture(scope="module")
def of_four(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return _measured(4, _OF_FOUR, tmp_path_factory.mktemp("ranks"))


def assert_one_answer(found: list[Any]) -> None:
    for each in found:
        assert each["bits"] == found[0]["bits"]
        assert each["rows"] == found[0]["rows"]
        assert each["names"]
        assert each["off"] <= 1e-5  # of the largest weight


@pytest.mark.parametrize("case", [" ".join(case) for case in _CASES])
def test_two_replicas_get_the_same_bits_and_what_one_process_gets_for_all_samples(
    of_two: list[Any], case: str
) -> None:
    assert_one_answer([each[case] for each in of_two])


@pytest.mark.parametrize("case", [" ".join(case) for case in _OF_FOUR])
def test_four_replicas_get_the_same_bits_and_what_one_process_gets_for_all_samples(
    of_four: list[Any], case: str
) -> None:
    assert_one_answer([each[case] for each in of_four])


_REFUSALS = """
from importlib.util import find_spec
import pyinit
from pyinit._sharding import meeting
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

torch.manual_seed(0)
x = torch.randn(32, 8)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 4)
        self.other = False
        self.fails = False

    def forward(self, x):
        x = self.first(x).relu()
        if self.fails:
            raise KeyError("fails here")
        return x.sum(1) if self.other else self.second(x)

def refused(method, data=x, change=lambda net: None, **options):
    torch.manual_seed(1)
    net = DistributedDataParallel(Net())
    change(net.module)
    before = [each.detach().clone() for each in net.parameters()]
    said = raised(method, net, data, **options)
    return said, all(map(torch.equal, before, net.parameters()))

second = rank == 1

def perturb(net):
    with torch.no_grad():
        net.first.weight[0, 0] += rank

found["fine"] = refused(pyinit.lsuv_, seed=0)
found["as it is"] = refused(pyinit.lsuv_, base=None)
found["seeds"] = refused(pyinit.lsuv_, seed=rank)
found["options"] = refused(pyinit.lsuv_, seed=0, tolerance=0.1 if second else 0.01)
torch.manual_seed(rank)
found["no seed"] = refused(lambda *a: (torch.manual_seed(rank), pyinit.lsuv_(*a)))
found["replicas"] = refused(pyinit.lsuv_, change=perturb, base=None)
found["a NaN"] = refused(pyinit.lsuv_, torch.full_like(x, torch.nan) if second else x, seed=0)
found["no data"] = refused(pyinit.lsuv_, None if second else x, seed=0)
found["fails"] = refused(pyinit.lsuv_, change=lambda net: setattr(net, "fails", second), seed=0)
found["other layers"] = refused(pyinit.lsuv_, change=lambda net: setattr(net, "other", second), seed=0)
found["inputs"] = refused(pyinit.autoinit_, torch.full_like(x, torch.nan) if second else x, seed=0)
found["distance"] = refused(pyinit.consistency_aware_, distance="mmd", seed=0)
found["gradinit_"] = refused(pyinit.gradinit_, steps=1, seed=0)
found["metainit_"] = refused(pyinit.metainit_, steps=1, seed=0)
found["pretrain_unsupervised_"] = refused(pyinit.pretrain_unsupervised_, steps=1, seed=0)
if find_spec("optuna"):
    found["search_recipe"] = refused(pyinit.search_recipe, seed=0, trials=1)

mesh = init_device_mesh("cpu", (size,))
sharded = fully_shard(Net(), mesh=mesh)
found["sharded"] = raised(pyinit.lsuv_, sharded, x, seed=0)

if rank == 0:  # what is not in DistributedDataParallel waits for nobody
    found["alone"] = raised(pyinit.lsuv_, Net(), x, seed=0)

meeting.TIMEOUT = 0.5
found["absent"] = refused((lambda *a, **o: None) if second else pyinit.lsuv_, seed=0)
dist.barrier()
"""


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return run_ranks(_REFUSALS, 2, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("case", ["fine", "as it is"])
def test_what_ranks_have_alike_is_let_through(refused: list[Any], case: str) -> None:
    assert [each[case] for each in refused] == [["", False]] * 2


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (
            "seeds",
            "the step differs: rank 0 has lsuv at the start, seed 0, rank 1 has lsuv at the start, seed 1",
        ),
        ("options", "rank 1 has lsuv(tolerance=0.1) at the start, seed 0"),
        (
            "no seed",
            "first.weight at the start, from a key that each rank has drawn (give seed=), differs: rank 0",
        ),
        ("replicas", "first.weight at the start differs: rank 0 has"),
        (
            "other layers",
            "the step differs: rank 0 has second, moments of shape (6, 1), rank 1 has lsuv at the end",
        ),
        ("distance", "distance='mmd' takes the values of one process, and this model is in Distr"),
        ("gradinit_", "gradinit_ works by the batch of one process, and this model is in"),
        ("metainit_", "metainit_ works by the batch of one process, and this model is in"),
        ("pretrain_unsupervised_", "pretrain_unsupervised_ works by the batch of one process"),
        ("search_recipe", "search_recipe works by the batch of one process, and this model is in"),
    ],
)
def test_all_ranks_raise_the_same_and_put_the_model_back(
    refused: list[Any], case: str, message: str
) -> None:
    if case not in refused[0]:
        pytest.skip("needs optuna")
    (said, is_as_before), (of_other, other_is_as_before) = (each[case] for each in refused)
    assert said == of_other
    assert message in said
    assert is_as_before
    assert other_is_as_before


@pytest.mark.parametrize(
    ("case", "failure"),
    [
        ("a NaN", "ValueError: "),
        ("no data", "ValueError: method 'lsuv' measures on data, got None"),
        ("fails", "RuntimeError: "),
        ("inputs", "ValueError: "),
    ],
)
def test_what_fails_on_one_rank_is_told_on_the_other_and_both_put_the_model_back(
    refused: list[Any], case: str, failure: str
) -> None:
    (said, is_as_before), (of_failed, failed_is_as_before) = (each[case] for each in refused)
    assert of_failed.startswith(failure)
    assert f"rank 1 has raised {of_failed}" in said
    assert is_as_before
    assert failed_is_as_before


def test_a_rank_that_does_not_come_is_named_and_the_model_put_back(refused: list[Any]) -> None:
    said, is_as_before = refused[0]["absent"]
    assert "lsuv_ waited 0.5 s for rank 1 of ranks 0-1, which did not come" in said
    assert is_as_before


def test_sharded_models_are_refused_by_name(refused: list[Any]) -> None:
    for each in refused:
        assert (
            "lsuv_ takes tensors that have their values in memory of their own" in each["sharded"]
        )
        assert "first.weight (a DTensor, sharded over a mesh)" in each["sharded"]


def test_a_model_without_replicas_waits_for_nobody(refused: list[Any]) -> None:
    assert refused[0]["alone"] == ""
