"""What the ranks of a mesh must have alike before sharded parameters are filled."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch.distributed as dist
from torch import Tensor

from pyinit._sharding.dtensor import ranks_in
from pyinit._sharding.meeting import Meeting
from pyinit._torch.placement import is_dtensor

Parameter = tuple[str, Tensor, str]
"""A parameter's qualified name, the parameter, and what it is filled with, in words."""


def agree(
    call: str,
    common: Mapping[str, str],
    parameters: Iterable[Parameter],
    *,
    waits: bool = True,
) -> None:
    """Have the ranks of each mesh compare what they are about to fill its parameters with.

    Parameters that are no DTensors are not compared, and without DTensors there is no communication. Ranks
    outside of a mesh take no part in its comparison.

    Args:
        call: the function that is about to write, for errors
        common: what holds for all parameters (the seed, the recipe), as texts by what they are about
        parameters: what it is about to write
        waits: whether this process waits for the others; one that has failed only tells them

    Raises:
        ValueError: if ranks of a mesh have something else: all of them raise it, and it says what differs
            and on which ranks. For a mesh that does not fit the process group.
        RuntimeError: without a process group, or if ranks of a mesh do not come to compare.
    """
    meetings = [
        Meeting(
            call,
            ranks,
            {what: _ADDRESS.sub("", text) for what, text in {**common, **facts}.items()},
        )
        for ranks, facts in _by_mesh(parameters).items()
        if len(ranks) > 1 and not _is_fake()
    ]
    for each in meetings:  # all are told before one is waited for: the order of meshes may differ
        each.post()
    for each in meetings if waits else ():
        each.wait()


def _by_mesh(parameters: Iterable[Parameter]) -> dict[tuple[int, ...], dict[str, str]]:
    """The facts about the parameters of each mesh to which this process belongs, by the mesh's ranks."""
    found: dict[tuple[int, ...], dict[str, str]] = {}
    ranks_of: dict[Any, tuple[int, ...]] = {}
    for name, tensor, filling in parameters:
        if not is_dtensor(tensor):
            continue
        mesh: Any = tensor.device_mesh  # type: ignore[attr-defined]
        if mesh.get_coordinate() is None:
            continue
        if mesh not in ranks_of:
            ranks_of[mesh] = tuple(sorted(ranks_in(mesh)))
        dtype = str(tensor.dtype).removeprefix("torch.")
        facts = found.setdefault(ranks_of[mesh], {})
        facts[name] = f"{tuple(tensor.shape)} {dtype} {filling}".rstrip()
    return found


_ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # of a function, in each process another


def _is_fake() -> bool:
    """Whether the process group is torch's fake one, whose other ranks are nowhere."""
    return dist.is_available() and dist.is_initialized() and dist.get_backend() == "fake"
