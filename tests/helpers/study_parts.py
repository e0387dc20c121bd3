"""Models and arms of the studies that tests make: in a module, so that workers find them."""

import os
import signal
from pathlib import Path

import torch
from torch import nn


def mlp(width: int = 16, dropout: float = 0.0, batch_norm: bool = False) -> nn.Module:
    """For digits."""
    norm = [nn.BatchNorm1d(width)] if batch_norm else []
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, width),
        *norm,
        nn.Tanh(),
        nn.Dropout(dropout),
        nn.Linear(width, 10),
    )


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 10)
    )


def nine(width: int = 8) -> nn.Module:
    """One class too few for digits."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, 9))


def misfit() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(63, 10))


def no_model() -> list[int]:
    return [1]


def small_(model: nn.Module) -> None:
    with torch.no_grad():
        for each in model.parameters():
            each.normal_(std=0.1)


def standardized_(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor], seed: int) -> None:
    inputs, _ = batch
    torch.manual_seed(seed)
    small_(model)
    with torch.no_grad():
        model[-1].weight.div_(model(inputs).std())


def ruined_(model: nn.Module) -> None:
    with torch.no_grad():
        for each in model.parameters():
            each.fill_(float("nan"))


def broken_(model: nn.Module) -> None:
    raise ArithmeticError("this cannot be")


def deadly_once_(model: nn.Module, *, marker: str) -> None:
    """Kills its process, the first time."""
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)


def deadly_(model: nn.Module) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def anything(some: object) -> nn.Module:
    """A model that takes any argument."""
    del some
    return mlp()
