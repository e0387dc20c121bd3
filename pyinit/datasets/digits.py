"""Handwritten digits of 8x8 pixels, as scikit-learn has them."""

from pyinit._messages import needed
from pyinit.datasets.arrays import as_target, standardized
from pyinit.datasets.dataset import Dataset


def load() -> Dataset:
    """1797 images (1, 8, 8), the test set of Alpaydin and Kaynak 1998 ("Optical Recognition of Handwritten
    Digits", UCI Machine Learning Repository).

    Pixels are whole numbers from 0 to 16.
    """
    found = needed(
        "sklearn.datasets", "the data set digits", "scikit-learn", '"pyinit[data]"'
    ).load_digits()
    inputs = standardized(found.images).reshape(-1, 1, 8, 8)
    return Dataset("digits", inputs, as_target("digits", found.target), classes=10)
