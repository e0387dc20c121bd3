"""Some steps of training, and how far they take each weight."""

from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from pyinit.inspection.batches import Batch
from pyinit.inspection.rows import NAN, Look

_RATE = 1e-3


def trained(  # noqa: PLR0917
    look: Look, model: nn.Module, batch: Batch, loss: Callable[..., Tensor], steps: int, make: Any
) -> Look:
    """Train a model on one batch, and add to the rows of a look how far its weights went.

    What it writes to the model stays. ``make`` gives the optimizer for a list of parameters.
    """
    parameters = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=_RATE) if make is None else make(parameters)
    names = {row.weight.name for row in look.rows if row.weight is not None}
    named = dict(model.named_parameters(remove_duplicate=False))
    weights = {name: named[name].detach() for name in names if named[name].requires_grad}
    start = {name: each.clone() for name, each in weights.items()}
    ratios: dict[str, list[float]] = {name: [] for name in weights}
    for parameter in model.parameters():
        parameter.grad = None
    for _ in range(steps):
        before = {name: each.clone() for name, each in weights.items()}
        with torch.enable_grad():
            output = model(*batch.args, **batch.kwargs)
            value = loss(output) if batch.target is None else loss(output, batch.target)
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        for name, each in weights.items():
            ratios[name].append(_apart(each, before[name]))
    update = {name: median(each) for name, each in ratios.items()}
    distance = {name: _apart(each, start[name]) for name, each in weights.items()}
    return look._replace(
        steps=steps,
        rows=tuple(
            replace(
                row,
                weight=replace(
                    row.weight,
                    update_ratio=update.get(row.weight.name, NAN),
                    distance=distance.get(row.weight.name, NAN),
                ),
            )
            if row.weight is not None
            else row
            for row in look.rows
        ),
    )


def _apart(now: Tensor, then: Tensor) -> float:
    """The distance, relative to the norm before; NaN from 0."""
    size = float(then.norm())
    return float((now - then).norm()) / size if size > 0 else NAN
