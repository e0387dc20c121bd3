"""What goes wrong on one rank is told by the others: none of them waits for ever."""

import os
import re
import signal
import time
from datetime import timedelta
from typing import Any

import pytest
import torch
from on_ranks import fake_rank, on_ranks
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

import pyinit
from pyinit._sharding import share

NUMBER = 7.0
SEVERAL = [(40, 40)] * 4  # one for each of three ranks to make, and one more


def spread(mesh: Any, shape: tuple[int, ...]) -> DTensor:
    return distribute_tensor(torch.full(shape, NUMBER), mesh, [Shard(0)], src_data_rank=None)


def fill_without_rank_one(how: str) -> str:
    """What a rank is told if rank 1 dies, or does not come."""
    share.TIMEOUT = timedelta(seconds=4)
    tensors = [spread(init_device_mesh("cpu", (3,)), shape) for shape in SEVERAL]
    torch.distributed.barrier()
    if torch.distributed.get_rank() == 1:
        time.sleep(1)  # until the others have left the barrier, too
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    begun = time.monotonic()
    with pytest.raises(RuntimeError) as caught:
        pyinit.orthogonal_many_(tensors)
    assert time.monotonic() - begun < 30
    time.sleep(3)  # the other is to hear of rank 1, not of this one
    if how == "killed":
        with pytest.raises(
            RuntimeError, match=r"^rank 1 (cannot|did not) (make|take) its matrices"
        ):
            pyinit.orthogonal_many_(tensors)
        time.sleep(3)
    return str(caught.value)


@pytest.mark.parametrize("how", ["killed", "missing"])
def test_a_rank_that_makes_no_matrices_is_named_by_the_others(how: str) -> None:
    first, _, last = on_ranks(fill_without_rank_one, 3, how, dying=[1])
    for told in (first, last):
        assert re.match("rank 1 did not (make|take) its matrices within 0:00:04", told)


def fill_on_a_mesh_of_another_group() -> None:
    mesh = DeviceMesh("cpu", [0, 1, 2], _init_backend=False, _rank=torch.distributed.get_rank())
    local = torch.full((2, 4), NUMBER)
    tensor: Any = DTensor.from_local(local, mesh, [Shard(0)], run_check=False)
    plain = torch.full((4, 4), NUMBER)
    with pytest.raises(ValueError, match=r"ranks of the process group, which has 2; it has rank 2"):
        pyinit.orthogonal_many_([plain, tensor])
    model = nn.ParameterDict({"first": nn.Parameter(plain), "second": nn.Parameter(tensor)})
    for agree, match in (
        (True, "not fit a process group of 2"),
        (False, "which has 2; it has rank 2"),
    ):
        with pytest.raises(ValueError, match=match):
            pyinit.initialize_(model, rules={"*": "orthogonal"}, seed=1, agree=agree)
    assert (plain == NUMBER).all()
    assert (local == NUMBER).all()


def test_a_mesh_that_does_not_fit_the_process_group_is_refused_on_every_rank() -> None:
    on_ranks(fill_on_a_mesh_of_another_group, 2)


def test_a_mesh_whose_process_group_is_gone_is_refused() -> None:
    with fake_rank(0, 2):
        tensor = spread(init_device_mesh("cpu", (2,)), (4, 4))
    with pytest.raises(ValueError, match="which has 0; it has rank 1"):
        pyinit.orthogonal_many_([tensor])
    assert (tensor._local_tensor == NUMBER).all()
