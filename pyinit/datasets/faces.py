"""Faces of 25x25 pixels, and what is none, as scikit-image has them."""

from pathlib import Path

import numpy as np
import torch

from pyinit._messages import needed
from pyinit.datasets.arrays import standardized
from pyinit.datasets.dataset import Dataset


def load() -> Dataset:
    """200 images (1, 25, 25), 100 faces (class 1) and then 100 other parts of photographs (class 0), from
    Labeled Faces in the Wild (Huang et al. 2007).

    Grey levels are rounded to whole numbers from 0 to 255.
    """
    package = needed("skimage", "the data set faces", "scikit-image", '"pyinit[data]"')
    images = np.load(Path(package.__file__).parent / "data" / "lfw_subset.npy", allow_pickle=False)
    inputs = standardized(np.rint(images * 255)).reshape(-1, 1, 25, 25)
    return Dataset("faces", inputs, (torch.arange(200) < 100).long(), classes=2)
