"""The training loop."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from pyinit._random.rng import stream_of
from pyinit.inspection.default_loss import classes_second, default_loss
from pyinit.studies.data import Split
from pyinit.studies.definition import Training
from pyinit.studies.log import Log
from pyinit.studies.optimizers import OPTIMIZERS, SCHEDULES
from pyinit.studies.tracking import NoTracker, Tracker

_AT_ONCE = 500  # samples that are evaluated


def seed_of(what: str, seed: int) -> int:
    """The seed of one of the things that are random in a run, which must not draw the same numbers."""
    return stream_of(f"{what} {seed}") % 2**32


def batches(samples: int, size: int, seed: int) -> Iterator[Tensor]:
    """The numbers of the samples of each step, without an end: every epoch is a new permutation, of
    which what does not fill a batch is left out."""
    generator = torch.Generator().manual_seed(seed_of("order", seed))
    while True:
        order = torch.randperm(samples, generator=generator)
        yield from order[: per_epoch(samples, size) * size].split(size)


def per_epoch(samples: int, size: int) -> int:
    """The number of batches in an epoch."""
    return max(samples // size, 1)


def train(
    model: nn.Module,
    data: Split,
    training: Training,
    lr: float,
    steps: int,
    seed: int,
    tracker: Tracker | NoTracker,
) -> tuple[Log, bool]:
    """Train a model in place: the log, and whether it came to the end."""
    torch.manual_seed(seed_of("training", seed))
    in_epoch = per_epoch(len(data.inputs), training.batch_size)
    make = OPTIMIZERS[training.optimizer]
    optimizer = make(model.parameters(), lr, training.momentum, training.weight_decay)
    scheduler = LambdaLR(optimizer, lambda step: SCHEDULES[training.schedule](step / steps))
    log = Log(steps)
    model.train()
    chosen = batches(len(data.inputs), training.batch_size, seed)
    for step, samples in zip(range(steps), chosen, strict=False):
        ends = (step + 1) % in_epoch == 0 or step + 1 == steps
        with tracker.around(step, ends, optimizer):
            optimizer.zero_grad()
            loss = default_loss(model(data.inputs[samples]), data.target[samples])
            loss.backward()  # type: ignore[no-untyped-call]
            goes_on = log.step(step, loss.item())
            if goes_on:
                optimizer.step()
                scheduler.step()
        if ends or not goes_on:
            log.epoch(step + goes_on, *evaluate(model, data))
        if not goes_on:
            return log, False
    return log, math.isfinite(log.epochs[-1]["test_loss"])


@torch.no_grad()
def evaluate(model: nn.Module, data: Split) -> tuple[float, float | None]:
    """The loss on test data, and the accuracy if the target is of classes."""
    model.eval()
    loss, right = 0.0, 0
    parts = zip(data.test_inputs.split(_AT_ONCE), data.test_target.split(_AT_ONCE), strict=True)
    for inputs, target in parts:
        output = model(inputs)
        loss += default_loss(output, target).item() * len(target)
        if data.classes is not None:
            right += int((classes_second(output, target).argmax(1) == target).sum())
    model.train()
    accuracy = None if data.classes is None else right / data.test_target.numel()
    return loss / len(data.test_target), accuracy
