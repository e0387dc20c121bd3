"""Optimizers and schedules of learning rates, by name."""

import math
from collections.abc import Callable, Iterable, Mapping

from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

Make = Callable[[Iterable[Tensor], float, float, float], Optimizer]


def _sgd(parameters: Iterable[Tensor], lr: float, momentum: float, decay: float) -> SGD:
    return SGD(parameters, lr=lr, momentum=momentum, weight_decay=decay)


def _adam(parameters: Iterable[Tensor], lr: float, momentum: float, decay: float) -> Adam:
    return Adam(parameters, lr=lr, betas=(momentum, 0.999), weight_decay=decay)


def _adamw(parameters: Iterable[Tensor], lr: float, momentum: float, decay: float) -> AdamW:
    return AdamW(parameters, lr=lr, betas=(momentum, 0.999), weight_decay=decay)


# By name: a function of parameters, learning rate, momentum and weight decay.
OPTIMIZERS: Mapping[str, Make] = {"sgd": _sgd, "adam": _adam, "adamw": _adamw}

# Those whose momentum must be below 1.
BELOW_ONE = ("adam", "adamw")

# By name: the factor on the learning rate, as a function of the share of the steps that are made.
SCHEDULES: Mapping[str, Callable[[float], float]] = {
    "constant": lambda _: 1.0,
    "linear": lambda share: 1 - share,
    "cosine": lambda share: (1 + math.cos(math.pi * share)) / 2,
}
