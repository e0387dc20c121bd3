"""The data sets of torchvision: nothing is downloaded unless somebody asks for it."""

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyinit._messages import near, needed
from pyinit.datasets.arrays import as_target, standardized
from pyinit.datasets.dataset import Dataset

FOLDER = "data"


@dataclass(frozen=True)
class _Kept:
    """How a class of torchvision keeps its samples.

    Args:
        training: the arguments for the training samples
        test: those for the test samples
        target: the attribute that has the classes
        channels_first: turns its images into (samples, channels, rows, columns)
    """

    training: dict[str, Any]
    test: dict[str, Any]
    target: str
    channels_first: Callable[[NDArray[Any]], NDArray[Any]]


_GREY = _Kept({"train": True}, {"train": False}, "targets", lambda images: images[:, None])
_COLOUR = _Kept(
    {"train": True}, {"train": False}, "targets", lambda images: images.transpose(0, 3, 1, 2)
)
NAMES = {
    "CIFAR10": _COLOUR,
    "CIFAR100": _COLOUR,
    "FashionMNIST": _GREY,
    "KMNIST": _GREY,
    "MNIST": _GREY,
    "SVHN": _Kept({"split": "train"}, {"split": "test"}, "labels", lambda images: images),
}


def load(name: str, folder: str | PathLike[str] | None, download: bool) -> Dataset:
    """The training samples and then the test samples of a class of ``torchvision.datasets``.

    Args:
        name: one of ``NAMES``
        folder: where the files are, as torchvision keeps them; ``data`` without one
        download: whether torchvision may download files that are not there

    Raises:
        ValueError: If it is another class.
        ImportError: If torchvision is not installed.
        FileNotFoundError: If the files are not there.
    """
    whole = f"torchvision:{name}"
    if name not in NAMES:
        raise ValueError(
            f"{whole} is none of the classes of torchvision that can be taken: {near(name, NAMES)}"
        )
    kept, root = NAMES[name], fspath(FOLDER if folder is None else folder)
    what = f"the data set {whole}"
    made = getattr(needed("torchvision.datasets", what, "torchvision", "torchvision"), name)
    try:
        parts = [
            made(root=root, download=download, **arguments)
            for arguments in (kept.training, kept.test)
        ]
    except RuntimeError as error:
        if download:
            raise
        raise FileNotFoundError(
            f"{whole} is not in the folder {root!r}. Give the one that has it (data_dir), or ask for a "
            f"download (download=True). torchvision says: {error}"
        ) from error
    inputs = np.concatenate([kept.channels_first(np.asarray(part.data)) for part in parts])
    numbers = np.concatenate([np.asarray(getattr(part, kept.target)) for part in parts])
    target = as_target(whole, numbers)
    classes = int(target.max()) + 1
    return Dataset(whole, standardized(inputs), target, classes, train=len(parts[0].data))
