"""What the generators of torch cannot draw, which is refused before anything is written."""

from collections.abc import Callable, Sequence

import torch

from pyinit._random.rng import RngName, get_rng
from pyinit._sharding.find import sharded
from pyinit.initializers import DeltaOrthogonal, Normal, Orthogonal, OwnReset, Uniform
from pyinit.whole_model.engine.plan import Entry


def refuse_undrawable(plan: Sequence[Entry], has_keys: bool) -> None:
    """Refuse initializers that the generator in force cannot carry out.

    has_keys: whether each parameter has a key of its own

    Raises:
        ValueError: if there is one; it names the parameter.
    """
    refuse = _REFUSALS.get(get_rng())
    if refuse is not None:
        refuse(plan, has_keys)


def _refuse_for_torch(plan: Sequence[Entry], has_keys: bool) -> None:
    """Refuse initializers that torch's generator or torch's own functions cannot carry out."""
    for entry in plan:
        for drawn in (block.drawn for block in entry.blocks):
            problem = None
            if drawn.needs_key and not has_keys:
                problem = "it needs a key to draw from: give seed="
            elif (
                isinstance(drawn, (Orthogonal, DeltaOrthogonal))
                and entry.site.tensor.dtype in _HALVES
            ):
                problem = f"torch has no QR decomposition for {entry.site.tensor.dtype}"
            elif drawn.is_random and sharded(entry.site.tensor) is not None:
                problem = "torch has no numbers of the whole for what is spread over processes"
            if problem is not None:
                raise ValueError(
                    f"{entry.initializer.name} cannot fill {entry.site.name} under "
                    f"pyinit.rng('torch'): {problem}"
                )


def _refuse_for_stateless(plan: Sequence[Entry], has_keys: bool) -> None:  # noqa: ARG001
    """Refuse initializers that draw what torch's stateless generator has no function for."""
    for entry in plan:
        drawn = [block.drawn for block in entry.blocks if block.drawn.is_random]
        if isinstance(entry.initializer, OwnReset) or not all(
            isinstance(each, (Normal, Uniform)) for each in drawn
        ):
            raise ValueError(
                f"{entry.initializer.name} cannot fill {entry.site.name} under "
                "pyinit.rng('torch.func'): torch.func._random has uniform and normal numbers only"
            )


_HALVES = (torch.float16, torch.bfloat16)


_REFUSALS: dict[RngName, Callable[[Sequence[Entry], bool], None]] = {
    "torch": _refuse_for_torch,
    "torch.func": _refuse_for_stateless,
}
