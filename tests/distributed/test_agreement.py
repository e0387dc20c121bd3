"""Ranks of a mesh that would fill what they share differently do not fill it."""

import re
from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest
import torch
import torch.distributed as dist
from ranks import run_ranks
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from torch.testing._internal.distributed.fake_pg import FakeStore

import pyinit
from pyinit._sharding import meeting
from pyinit._sharding.agreement import agree
from pyinit._sharding.meeting import Meeting, meet

# ---- meetings: threads in place of processes -------------------------------------------------------


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A store of this test, in which a call may say which rank it is."""
    made = dist.HashStore()
    monkeypatch.setattr(meeting, "_store_and_rank", lambda call, _: (made, int(call[-1])))
    monkeypatch.setattr(meeting, "TIMEOUT", 20.0)
    return made


def meet_all(*facts: dict[str, str] | None) -> list[str]:
    """What a meeting of as many ranks raises on each; None for a rank that does not come."""
    ranks = range(len(facts))
    said = ["away"] * len(facts)

    def run(rank: int, one: Meeting) -> None:
        try:
            one.post()
            one.wait()
            said[rank] = ""
        except (RuntimeError, ValueError) as error:
            said[rank] = f"{type(error).__name__}: {error}"

    meetings = []
    for rank, of_rank in enumerate(facts):
        if of_rank is not None:
            one = Meeting(f"rank {rank}", ranks, of_rank)
            one._call = "fill_"
            meetings.append((rank, one))
    threads = [Thread(target=run, args=each) for each in meetings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return said


@pytest.mark.usefixtures("store")
def test_the_same_facts_are_let_through() -> None:
    assert meet_all({"seed": "0", "recipe": "auto"}, {"seed": "0", "recipe": "auto"}) == ["", ""]


@pytest.mark.usefixtures("store")
def test_all_ranks_hear_what_differs_and_where() -> None:
    zero, one = {"seed": "0", "recipe": "auto"}, {"seed": "1", "recipe": "auto"}
    message = "ValueError: fill_ needs the same on all ranks, but seed differs: ranks 0-2 have 0, rank 3 has 1"
    assert meet_all(zero, zero, zero, one) == [message] * 4
    assert (
        meet_all(one, zero, one, zero)
        == [
            message.replace(
                "ranks 0-2 have 0, rank 3 has 1", "ranks 0, 2 have 1, ranks 1, 3 have 0"
            )
        ]
        * 4
    )


@pytest.mark.usefixtures("store")
def test_a_fact_that_a_rank_lacks_is_named() -> None:
    more, less = {"seed": "0", "0.weight": "(4, 4) float32"}, {"seed": "0"}
    said = meet_all(more, less)
    assert said[0] == said[1]
    assert "0.weight differs: rank 0 has (4, 4) float32, rank 1 has none" in said[0]


@pytest.mark.usefixtures("store")
def test_many_differences_make_a_short_message() -> None:
    facts = [{f"{i}.weight": str(rank) for i in range(100)} for rank in range(6)]
    said = meet_all(*facts)
    assert len(set(said)) == 1
    assert "0.weight differs" in said[0]
    assert "3 other ranks have others; and 97 more differences" in said[0]
    assert len(said[0]) < 500


@pytest.mark.usefixtures("store")
def test_a_rank_that_does_not_come_is_named_after_the_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(meeting, "TIMEOUT", 0.3)
    said = meet_all({"seed": "0"}, None, {"seed": "0"}, None)
    assert said[0] == said[2]
    assert said[0].startswith(
        "RuntimeError: fill_ waited 0.3 s for ranks 1, 3 of ranks 0-3, which did"
    )


def test_a_rank_that_comes_late_does_not_go_on_alone(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting, "TIMEOUT", 0.1)
    first, late = Meeting("rank 0", [0, 1], {}), Meeting("rank 1", [0, 1], {})
    first.post()
    with pytest.raises(RuntimeError, match="for rank 1 of ranks 0-1"):
        first.wait()
    late.post()
    with pytest.raises(
        RuntimeError, match=r"was waited for on other ranks for 0.1 s: they have given up"
    ):
        late.wait()


def test_the_same_ranks_meet_again_elsewhere(store: Any) -> None:
    places = [meeting._place(store, [0, 1], rank) for _ in range(3) for rank in (0, 1)]
    assert places[::2] == places[1::2]
    assert len({*places, meeting._place(store, [0, 2], 0)}) == 4


def test_many_meetings_leave_no_more_in_the_store_than_one(store: Any) -> None:
    assert meet_all({"seed": "0"}, {"seed": "0"}) == ["", ""]
    after_one = store.num_keys()
    for i in range(20):
        assert meet_all({"seed": str(i)}, {"seed": str(i)}) == ["", ""]
    assert store.num_keys() == after_one


def test_what_a_meeting_that_failed_left_does_not_disturb_later_ones(store: Any) -> None:
    assert meet_all({"seed": "0"}, {"seed": "0"}) == ["", ""]
    assert all("seed differs" in said for said in meet_all({"seed": "0"}, {"seed": "1"}))
    assert meet_all({"seed": "0"}, {"seed": "0"}) == ["", ""]
    assert meet_all({"seed": "0"}, {"seed": "0"}) == ["", ""]


# ---- without a process group, or with one that does not fit ----------------------------------------


def test_a_model_without_dtensors_needs_no_process_group() -> None:
    model = nn.Linear(4, 4)
    agree("fill_", {"seed": "0"}, ((name, each, "") for name, each in model.named_parameters()))
    pyinit.initialize_(model, seed=0)
    pyinit.initialize_(model, seed=0, agree=False)


def test_a_process_group_that_is_gone_is_an_error() -> None:
    assert not dist.is_initialized()
    with pytest.raises(
        RuntimeError, match=re.escape("fill_ compares what the ranks of a mesh have, and")
    ):
        meet("fill_", [0, 1], {})


@pytest.fixture
def fake() -> Iterator[int]:
    """torch's fake process group of four ranks, of which this is rank 0."""
    dist.init_process_group("fake", rank=0, world_size=4, store=FakeStore())
    yield 4
    dist.destroy_process_group()


def test_a_mesh_that_does_not_fit_the_process_group_is_refused(fake: int) -> None:
    for ranks in ([0, 1, 7], [1, 2], [-1, 0]):
        with pytest.raises(
            ValueError, match=r"does not fit a process group of 4, in which this is rank 0"
        ):
            meet("fill_", ranks, {})


def test_the_ranks_of_a_fake_process_group_are_not_waited_for(fake: int) -> None:
    mesh = init_device_mesh("cpu", (fake,))
    agree("fill_", {}, [("w", distribute_tensor(torch.ones(4, 4), mesh, [Shard(0)]), "")])


# ---- processes ---------------------------------------------------------------------------------------

_PROGRAM = """
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from pyinit._sharding import meeting
from pyinit._sharding.agreement import agree

mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
dp, tp = mesh["dp"], mesh["tp"]

def sharded(*shape, on=mesh, dtype=torch.float32):
    places = [Shard(0), Replicate()][: on.ndim]
    local = torch.zeros(shape[0] // 2, *shape[1:], dtype=dtype)
    return DTensor.from_local(local, on, places, run_check=False)

w = sharded(8, 4)

def of(seed=0, recipe="auto", **parameters):
    parameters = parameters or {"w": (w, "normal(std=0.02)")}
    common = {"seed": str(seed), "recipe": recipe}
    return raised(agree, "fill_", common, [(k, *v) for k, v in parameters.items()])

found["same"] = of()
found["again"] = of(parameter=(w, "x"))
found["seed"] = of(seed=rank // 3)
found["recipe"] = of(recipe="kaiming" if rank == 1 else "auto")
found["initializer"] = of(w=(w, "normal(std=0.1)" if rank == 2 else "normal(std=0.02)"))
found["shape"] = of(w=(sharded(8 + 4 * (rank == 0), 4), ""))
found["dtype"] = of(w=(sharded(8, 4, dtype=torch.float64 if rank == 3 else torch.float32), ""))
found["missing"] = of(w=(w, ""), **({} if rank == 1 else {"v": (w, "")}))

# Each pair of ranks has parameters of its own, and another recipe: stages of a pipeline.
stage = rank // 2
halves = [DeviceMesh("cpu", [0, 1]), DeviceMesh("cpu", [2, 3])]
mine = sharded(4, 4, on=halves[stage])
found["stages"] = of(recipe=f"stage {stage}", **{f"{stage}.w": (mine, "")})
found["one stage"] = of(seed=1 if rank == 3 else 0, **{f"{stage}.w": (mine, "")})
# What lies on a mesh to which a rank does not belong does not concern it.
found["outside"] = of(seed=stage, **{f"{i}.w": (sharded(4, 4, on=half), "")
    for i, half in enumerate(halves)})
# Two meshes, which two ranks come to in another order.
both = {"a": (sharded(4, 4, on=dp), ""), "b": (sharded(4, 4, on=tp), "")}
found["order"] = of(**(both if rank < 2 else dict(reversed(both.items()))))

# Real models.
import pyinit
from torch import nn
from torch.distributed.fsdp import fully_shard

def model(width=6):
    made = nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 5))
    with torch.no_grad():
        for each in made.parameters():
            each.fill_(7.0)
    return fully_shard(made, mesh=mesh)

def initialized(made, *arguments, **options):
    said = raised(pyinit.initialize_, made, *arguments, **options)
    values = [p.to_local() if hasattr(p, "to_local") else p for p in made.parameters()]
    return said, all(bool((v == 7).all()) for v in values)

torch.manual_seed(0)
made = model()
found["model: seeds"] = initialized(made, seed=int(rank == 3))
found["model: recipes"] = initialized(made, "xavier" if rank == 0 else "kaiming", seed=0)
rules = {"0.weight": pyinit.initializers.Normal(std=0.5 if rank == 1 else 1.0)}
found["model: rules"] = initialized(made, rules=rules, seed=0)
found["model: skipped"] = initialized(made, skip="2.bias" if rank == 2 else "0.bias", seed=0)
found["model: functions"] = initialized(made, only=lambda site: False, seed=0)
torch.manual_seed(rank)
found["model: keys"] = initialized(made)
found["model: a dry run"] = initialized(made, seed=rank, dry_run=True)
torch.manual_seed(5)
found["model: the same key"] = initialized(made)
found["model: not asked"] = initialized(model(), seed=rank, agree=False)
found["model: rules that are functions"] = initialized(
    model(), rules=[pyinit.Rule(lambda site: site.leaf == "weight", pyinit.initializers.Normal())], seed=0
)
if rank == 0:
    found["model: alone"] = initialized(nn.Linear(4, 4), seed=0)

meeting.TIMEOUT = 1.0
found["absent"] = "" if rank == 2 else of()
found["plain"] = of(w=(torch.zeros(8, 4) if rank == 0 else mine, "")) if stage == 0 else ""
dist.barrier()
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return run_ranks(_PROGRAM, 4, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("case", ["same", "again", "stages", "outside", "order"])
def test_what_the_ranks_of_a_mesh_have_alike_is_let_through(found: list[Any], case: str) -> None:
    assert [each[case] for each in found] == [""] * 4


@pytest.mark.parametrize(
    ("case", "difference"),
    [
        ("seed", "seed differs: ranks 0-2 have 0, rank 3 has 1"),
        ("recipe", "recipe differs: ranks 0, 2-3 have auto, rank 1 has kaiming"),
        (
            "initializer",
            (
                "w differs: ranks 0-1, 3 have (8, 4) float32 normal(std=0.02), "
                "rank 2 has (8, 4) float32 normal(std=0.1)"
            ),
        ),
        ("shape", "w differs: rank 0 has (12, 4) float32, ranks 1-3 have (8, 4) float32"),
        ("dtype", "w differs: ranks 0-2 have (8, 4) float32, rank 3 has (8, 4) float64"),
        ("missing", "v differs: ranks 0, 2-3 have (8, 4) float32, rank 1 has none"),
    ],
)
def test_what_differs_is_named_on_every_rank(found: list[Any], case: str, difference: str) -> None:
    message = f"ValueError: fill_ needs the same on all ranks, but {difference}"
    assert [each[case] for each in found] == [message] * 4


def test_only_the_ranks_of_a_mesh_are_concerned(found: list[Any]) -> None:
    said = [each["one stage"] for each in found]
    assert said[:2] == ["", ""]
    assert said[2] == said[3]
    assert "seed differs: rank 2 has 0, rank 3 has 1" in said[2]


def test_a_rank_that_does_not_come_is_named(found: list[Any]) -> None:
    said = [each["absent"] for each in found]
    message = (
        "RuntimeError: fill_ waited 1 s for rank 2 of ranks 0-3, which did not come to compare what "
        "they have"
    )
    assert said == [message, message, "", message]


def test_a_rank_whose_model_has_no_dtensors_does_not_come(found: list[Any]) -> None:
    said = [each["plain"] for each in found]
    assert said[:1] + said[2:] == [""] * 3
    assert "waited 1 s for rank 0 of ranks 0-1" in said[1]


_GONE = """
from pyinit._sharding import meeting
meeting.meet("fill_", [0, 1], {})
dist.barrier()
meeting.TIMEOUT = 20.0
if rank == 1:
    found["gone"] = raised(meeting.meet, "fill_", [0, 1], {})
    with open(sys.argv[1], "w") as file:
        json.dump(found, file)
    os._exit(0)
"""


def test_a_rank_that_has_the_store_and_ends_is_an_error(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    found = run_ranks(_GONE, 2, tmp_path_factory.mktemp("ranks"))
    assert found[1]["gone"].startswith("RuntimeError: fill_ cannot reach the store of the process")


@pytest.mark.parametrize(
    ("case", "difference"),
    [
        ("seeds", "seed differs: ranks 0-2 have 0, rank 3 has 1"),
        ("recipes", "recipe differs: rank 0 has xavier, ranks 1-3 have kaiming"),
        ("rules", "rules differs: ranks 0, 2-3 have 0.weight -> normal, rank 1 has"),
        ("skipped", "2.bias differs: ranks 0-1, 3 have (5,) float32 constant(val=0)"),
        (
            "keys",
            "key drawn from the generator (seed= gives all ranks the same) differs: rank 0 has",
        ),
    ],
)
def test_initialize_writes_nothing_where_ranks_differ(
    found: list[Any], case: str, difference: str
) -> None:
    said = {each[f"model: {case}"][0] for each in found}
    assert len(said) == 1
    assert difference in said.pop()
    assert all(is_untouched for _, is_untouched in (each[f"model: {case}"] for each in found))


@pytest.mark.parametrize("case", ["the same key", "not asked", "rules that are functions"])
def test_initialize_writes_where_ranks_agree_or_are_not_asked(found: list[Any], case: str) -> None:
    assert [each[f"model: {case}"] for each in found] == [["", False]] * 4


@pytest.mark.parametrize("case", ["functions", "a dry run"])
def test_initialize_does_not_communicate_where_it_fills_nothing(
    found: list[Any], case: str
) -> None:
    assert [each[f"model: {case}"] for each in found] == [["", True]] * 4


def test_a_plain_model_that_one_rank_alone_initializes_does_not_wait(found: list[Any]) -> None:
    assert found[0]["model: alone"] == ["", False]
