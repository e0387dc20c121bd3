"""Some steps of training, and how far they take each weight."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import torch
from torch import Tensor, nn

from pyinit.inspection.batches import Batch
from pyinit.inspection.rows import NAN, Look

Make = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


def with_rates(optimizer: torch.optim.Optimizer, factor: float) -> torch.optim.Optimizer:
    """The optimizer, with all its learning rates times a factor."""
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(
            f"optimizer must return a torch.optim.Optimizer, got {type(optimizer).__name__}"
        )
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * factor
    return optimizer


def trained(  # noqa: PLR0917
    look: Look, model: nn.Module, batch: Batch, loss: Callable[..., Tensor], steps: int, make: Make
) -> Look:
    """Train a model on one batch, and add to the rows of a look how far its weights went.

    What it writes to the model stays. ``make`` gives the optimizer for a list of parameters.
    """
    parameters = [each for each in model.parameters() if each.requires_grad]
    optimizer = make(parameters)
    if _needs_closure(optimizer):
        raise ValueError(
            f"optimizer: {type(optimizer).__name__} evaluates the loss itself, by a closure, which "
            "steps do not give it: give another one, such as torch.optim.AdamW"
        )
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
        _step(optimizer, named)
        for name, each in weights.items():
            ratios[name].append(_apart(each, before[name]))
    update = {name: median(each) for name, each in ratios.items()}
    distance = {name: _apart(each, start[name]) for name, each in weights.items()}
    return look._replace(
        steps=steps,
        optimizer=type(optimizer).__name__,
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


def _needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    return closure is not None and closure.default is closure.empty


def _step(optimizer: torch.optim.Optimizer, named: dict[str, nn.Parameter]) -> None:
    try:
        optimizer.step()
    except RuntimeError as error:
        for name, parameter in named.items():
            if parameter.grad is not None and parameter.grad.is_sparse:
                raise ValueError(
                    f"steps: {name} has sparse gradients, which {type(optimizer).__name__} may not "
                    "take: give an optimizer that does, such as "
                    "optimizer=functools.partial(torch.optim.SGD, lr=0.1)"
                ) from error
        raise


def _apart(now: Tensor, then: Tensor) -> float:
    """The distance, relative to the norm before; NaN from 0."""
    size = float(then.norm())
    return float((now - then).norm()) / size if size > 0 else NAN
