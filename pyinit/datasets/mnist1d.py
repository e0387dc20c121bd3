"""Digits as signals of 40 numbers, made by the package mnist1d."""

import random

import numpy as np
import torch

from pyinit._messages import needed
from pyinit.datasets.arrays import as_target
from pyinit.datasets.dataset import Dataset


def load() -> Dataset:
    """5000 signals (1, 40), 4000 of training and then 1000 of test (Greydanus and Kobak 2024, "Scaling
    down deep learning with MNIST-1D", arXiv:2011.14439).

    The package makes them from its own seed, with mean 0 and standard deviation 1 over all values. It
    draws from the global generators, which are put back.
    """
    package = needed("mnist1d", "the data set mnist1d", "mnist1d", '"pyinit[data]"')
    states = random.getstate(), np.random.get_state()
    try:
        made = package.data.make_dataset()
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
    signals = np.concatenate([made["x"], made["x_test"]]).astype(np.float32)
    digits = np.concatenate([made["y"], made["y_test"]])
    inputs = torch.from_numpy(signals).reshape(-1, 1, 40)
    return Dataset("mnist1d", inputs, as_target("mnist1d", digits), 10, len(made["x"]))
