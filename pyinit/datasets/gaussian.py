"""Normal random numbers, and the classes that a linear function of them gives."""

import numpy as np
import torch

from pyinit.datasets.dataset import Dataset

SHAPE = (32,)
_SAMPLES, _TRAIN, _CLASSES = 5000, 4000, 10


def load(shape: tuple[int, ...] = SHAPE) -> Dataset:
    """5000 samples of independent N(0, 1); the class is the greatest of ten random linear functions.

    The first 4000 are for training. NumPy's generator makes them from a fixed seed.

    Raises:
        ValueError: If a size is not positive, or the samples have more than 2**16 numbers each.
    """
    count = int(np.prod(shape, dtype=object))
    name = f"gaussian:{'x'.join(map(str, shape))}"
    if min(shape) < 1 or count > 2**16:
        raise ValueError(
            f"{name} is not possible: sizes are positive, and a sample has at most {2**16} numbers"
        )
    generator = np.random.default_rng(0)
    teacher = generator.standard_normal((count, _CLASSES))
    inputs = generator.standard_normal((_SAMPLES, count), dtype=np.float32)
    target = torch.from_numpy((inputs @ teacher).argmax(axis=1))
    found = torch.from_numpy(inputs).reshape(_SAMPLES, *shape)
    return Dataset("gaussian" if shape == SHAPE else name, found, target, _CLASSES, train=_TRAIN)
