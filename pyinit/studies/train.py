"""The training loop."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from pyinit._random.rng import stream_of
from pyinit.inspection.default_loss import classes_second, default_loss
from pyinit.studies.data import Data
from pyinit.studies.definition import Training
from pyinit.studies.log import Log
from pyinit.studies.optimizers import OPTIMIZERS, SCHEDULES
from pyinit.studies.tracking import NoTracker, Tracker

AT_ONCE = 500  # samples that are evaluated


def seed_of(what: str, seed: int) -> int:
    """The seed of one of the things that are random in a run, which must not draw the same numbers."""
    return stream_of(f"{what} {seed}") % 2**32


def batches(samples: int, size: int, seed: int) -> Iterator[Tensor]:
    """The samples of each step, without an end: all of an epoch, shuffled, that fill a batch."""
    generator = torch.Generator().manual_seed(seed_of("order", seed))
    while True:
        order = torch.randperm(samples, generator=generator)
        yield from torch.split(order[: per_epoch(samples, size) * size], size)


def per_epoch(samples: int, size: int) -> int:
    """The number of batches in an epoch."""
    return max(samples // size, 1)


@dataclass(frozen=True)
class Plan:
    """How a model is trained: the training, with one learning rate, and for how many steps."""

    training: Training
    steps: int


def optimizer_of(plan: Plan, parameters: Iterable[Tensor]) -> Optimizer:
    """The optimizer of a plan."""
    how = plan.training
    return OPTIMIZERS[how.optimizer](parameters, how.lrs[0], how.momentum, how.weight_decay)


def scheduler_of(plan: Plan, optimizer: Optimizer) -> LambdaLR:
    """What changes the learning rate after each step."""
    return LambdaLR(optimizer, lambda step: SCHEDULES[plan.training.schedule](step / plan.steps))


def train(
    model: nn.Module, data: Data, plan: Plan, seed: int, tracker: Tracker | NoTracker
) -> tuple[Log, bool]:
    """Train a model in place: the log, and whether it came to the end."""
    torch.manual_seed(seed_of("training", seed))
    inputs, target = data.training.inputs, data.training.target
    size = plan.training.batch_size
    optimizer = optimizer_of(plan, model.parameters())
    scheduler = scheduler_of(plan, optimizer)
    log = Log(plan.steps)
    model.train()
    for step, samples in zip(range(plan.steps), batches(len(inputs), size, seed), strict=False):
        ends = (step + 1) % per_epoch(len(inputs), size) == 0 or step + 1 == plan.steps
        with tracker.around(step, ends, optimizer):
            optimizer.zero_grad()
            loss = default_loss(model(inputs[samples]), target[samples])
            loss.backward()  # type: ignore[no-untyped-call]
            goes_on = log.step(step, loss.item())
            if goes_on:
                optimizer.step()
                scheduler.step()
        if ends or not goes_on:
            log.epoch(step + goes_on, *evaluate(model, data))
        if not goes_on:
            break
    return log, goes_on and log.is_finite


@torch.no_grad()
def evaluate(model: nn.Module, data: Data) -> tuple[float, float | None]:
    """The loss on test data, and the accuracy if the target is of classes."""
    model.eval()
    loss, right = 0.0, 0
    whole = data.test.target
    parts = zip(data.test.inputs.split(AT_ONCE), whole.split(AT_ONCE), strict=True)
    for inputs, target in parts:
        output = model(inputs.clone())  # a model may write to its input
        loss += default_loss(output, target).item() * len(target)
        if data.classes is not None:
            right += int((classes_second(output, target).argmax(1) == target).sum())
    model.train()
    return loss / len(whole), None if data.classes is None else right / whole.numel()
