"""Models and arms of the studies that tests make: in a module, so that workers find them."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
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


class Own(BaseException):
    """No ``Exception``."""


def ends_(model: nn.Module) -> None:
    sys.exit("the arm")


def own_(model: nn.Module) -> None:
    raise Own("the arm")


def ends() -> nn.Module:
    sys.exit("the model")


def ending_data() -> None:
    sys.exit("the data")


class EndingSamples(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 3

    def __getitem__(self, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        sys.exit("the sample")


def ends_if_wide(width: int = 4) -> nn.Module:
    """A model that cannot be wide."""
    if width > 4:
        sys.exit("too wide")
    return mlp(width)


def unsettled_(model: nn.Module) -> None:
    """Leaves behind what it can of what is torch's for the whole process."""
    from torch.nn.modules import module  # noqa: PLC0415

    small_(model)
    module.register_module_forward_hook(lambda _, __, output: output * 2)
    module.register_module_forward_pre_hook(lambda _, args: tuple(each * 2 for each in args))
    module.register_module_full_backward_hook(lambda *_: sys.exit("a hook"))
    module.register_module_parameter_registration_hook(lambda *_: sys.exit("a hook"))
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.set_grad_enabled(False)
    torch.set_num_threads(2)
    torch.set_float32_matmul_precision("medium")
    torch.set_autocast_enabled("cpu", True)
    torch.autograd.set_detect_anomaly(True)
    torch.backends.mkldnn.enabled = False
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)


def slow_(model: nn.Module, *, seconds: float = 60.0) -> None:
    time.sleep(seconds)
