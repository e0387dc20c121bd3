"""The ranks that hold replicas of a model, each with a batch of its own: one answer, on all of them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pyinit._sharding import meeting
from pyinit._torch.placement import loaded


class Ranks:
    """The processes that measure together. What they gather has the same bits on each of them.

    Before they exchange anything they meet: a rank that is elsewhere, has failed or is gone is an error
    that names it, on all ranks, and nobody waits for long.

    Args:
        call: the function that they run, for errors
        group: their process group; None if this process is alone
        device: where the group's tensors must be
    """

    def __init__(
        self, call: str = "", group: Any = None, device: torch.device | None = None
    ) -> None:
        self._call, self._group, self._device = call, group, device
        self._ranks = [0] if group is None else dist.get_process_group_ranks(group)
        self._are_apart = False

    @property
    def are_several(self) -> bool:
        """Whether there are others."""
        return len(self._ranks) > 1

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._ranks)

    def meet(self, facts: Mapping[str, str]) -> None:
        """Raise the same error on all ranks if they do not have the same facts."""
        if not self.are_several:
            return
        try:
            meeting.meet(self._call, self._ranks, facts)
        except BaseException:
            self._are_apart = True
            raise

    def at(self, step: str) -> None:
        """Raise the same error on all ranks if they are not at the same step."""
        self.meet({_STEP: step})

    def fail(self, error: BaseException) -> None:
        """Tell the others that this one raises an error, unless they know."""
        if not self.are_several or self._are_apart:
            return
        self._are_apart = True
        said = f"raised {type(error).__name__}: {error}"
        meeting.Meeting(self._call, self._ranks, {_STEP: said}).post()

    def gathered(self, what: str, value: Tensor) -> list[Tensor]:
        """The values of all ranks, in their order, in float64 on the device of this rank's."""
        here = value.detach().double()
        if not self.are_several:
            return [here]
        self.at(f"{what} of shape {tuple(value.shape)}")
        sent = here.to(self._device).contiguous()
        found = [torch.empty_like(sent) for _ in self._ranks]
        self._run(lambda: dist.all_gather(found, sent, group=self._group, async_op=True))
        return [each.to(here.device) for each in found]

    def total(self, what: str, value: Tensor) -> Tensor:
        """The sum of the values of all ranks, added in their order, in float64.

        Each rank adds up a part of it, so that none holds the values of all.
        """
        here = value.detach().double()
        if not self.are_several:
            return here
        self.at(f"{what} of shape {tuple(value.shape)}")
        size = -(-here.numel() // self.count)
        sent = torch.zeros(size * self.count, dtype=torch.float64, device=self._device)
        sent[: here.numel()] = here.flatten()
        mine = torch.empty_like(sent)
        self._run(lambda: dist.all_to_all_single(mine, sent, group=self._group, async_op=True))
        first, *others = mine.view(self.count, size).unbind(0)
        added = first.clone()
        for other in others:
            added += other
        found = [torch.empty_like(added) for _ in self._ranks]
        self._run(lambda: dist.all_gather(found, added, group=self._group, async_op=True))
        return torch.cat(found)[: here.numel()].view(here.shape).to(here.device)

    def rows(self, what: str, value: Tensor) -> Tensor:
        """The rows of all ranks, one rank's after the other's; they may have different numbers of them."""
        if not self.are_several:
            return value
        counts = self.counts(what, len(value))
        held = value.new_zeros(max(counts), *value.shape[1:], dtype=torch.float64)
        held[: len(value)] = value
        found = self.gathered(what, held)
        return torch.cat([each[:count] for each, count in zip(found, counts, strict=True)])

    def counts(self, what: str, count: int) -> list[int]:
        """A number of each rank."""
        if not self.are_several:
            return [count]
        found = self.gathered(what, torch.tensor([float(count)], dtype=torch.float64, device="cpu"))
        return [int(each) for each in found]

    def before(self, what: str, count: int) -> tuple[int, int]:
        """The sum of the numbers of the ranks before this one, and that of all."""
        counts = self.counts(what, count)
        here = dist.get_rank(self._group) if self.are_several else 0
        return sum(counts[:here]), sum(counts)

    def all(self, what: str, is_so: bool) -> bool:
        """Whether something is so on all ranks."""
        return all(self.counts(what, is_so))

    def _run(self, start: Callable[[], Any]) -> None:
        try:
            start().wait(timedelta(seconds=meeting.TIMEOUT))
        except RuntimeError as error:
            self._are_apart = True
            raise RuntimeError(
                f"{self._call}: a rank has gone while numbers were exchanged: {error}"
            ) from error
        except BaseException:
            self._are_apart = True
            raise


ALONE = Ranks()
"""A process without others."""

_STEP = "the step"


@contextmanager
def together(call: str, model: nn.Module) -> Iterator[Ranks]:
    """The ranks that hold replicas of a model, which ``DistributedDataParallel`` makes; else this process.

    They hear of what is raised in the block.

    Raises:
        ValueError: for a model that has replicas on different ranks in its parts.
    """
    ranks = _ranks_of(call, model)
    try:
        yield ranks
    except BaseException as error:
        ranks.fail(error)
        raise


def _ranks_of(call: str, model: nn.Module) -> Ranks:
    parallel = loaded("torch.nn.parallel.distributed", "DistributedDataParallel")
    if parallel is None or not isinstance(model, nn.Module):
        return ALONE
    groups = [each.process_group for each in model.modules() if isinstance(each, parallel)]
    if not groups:
        return ALONE
    if any(group is not groups[0] for group in groups):
        raise ValueError(
            f"{call} takes a model with one process group, and parts of this one are in "
            "DistributedDataParallel with different ones"
        )
    takes_cpu = "cpu:" in dist.get_backend_config(groups[0])
    device = torch.device("cpu") if takes_cpu else next(model.parameters()).device
    found = Ranks(call, groups[0], device)
    return found if found.are_several else ALONE
