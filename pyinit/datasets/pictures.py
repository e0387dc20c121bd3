"""Colour patches of 32x32 pixels from the pictures that come with scikit-image and scikit-learn."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pyinit._messages import needed
from pyinit.datasets.arrays import standardized
from pyinit.datasets.dataset import Dataset

SIZE = 32
_TILE, _STEP = 64, 8
_CONTRAST = 18  # standard deviation of the sum of the channels: plain sky has less
# Of five tiles, one is for the test, and two for each half of the training.
_PARTS = {"first half": (1, 2), "second half": (3, 4), "test": (0,)}
_FOLDERS = {
    "skimage": ("scikit-image", "data"),
    "sklearn": ("scikit-learn", "datasets/images"),
}
_PATCHES = {
    "astronaut.png": "skimage",
    "chelsea.png": "skimage",
    "china.jpg": "sklearn",
    "coffee.png": "skimage",
    "flower.jpg": "sklearn",
    "hubble_deep_field.jpg": "skimage",
    "ihc.png": "skimage",
    "motorcycle_left.png": "skimage",
    "retina.jpg": "skimage",
    "rocket.jpg": "skimage",
}
# Those where up and down, left and right can be told from a patch. Cats and coffee look alike from all sides.
_ROTATIONS = {
    "brick.png": "skimage",
    "china.jpg": "sklearn",
    "coins.png": "skimage",
    "rocket.jpg": "skimage",
    "text.png": "skimage",
}


def patches() -> Dataset:
    """5000 patches (3, 32, 32) of ten pictures, 500 of each; the class is the picture.

    The first 4000 are for training.
    """
    pictures = _pictures("patches", _PATCHES)
    images: list[NDArray[np.uint8]] = []
    classes: list[int] = []
    for part, count in (("first half", 200), ("second half", 200), ("test", 100)):
        for number, picture in enumerate(pictures):
            images += _chosen(picture, part, count)
            classes += [number] * count
    return _dataset("patches", images, classes, len(pictures))


def rotations() -> Dataset:
    """1250 patches (3, 32, 32) of five pictures, each in four orientations; the class is the number of
    quarter turns, counterclockwise (Gidaris, Singh and Komodakis 2018, "Unsupervised representation
    learning by predicting image rotations").

    The first 4000 are for training. All orientations of a patch are in the same part.
    """
    pictures = _pictures("rotations", _ROTATIONS)
    images: list[NDArray[np.uint8]] = []
    classes: list[int] = []
    for part, count in (("first half", 100), ("second half", 100), ("test", 50)):
        for picture in pictures:
            for patch in _chosen(picture, part, count):
                images += [np.rot90(patch, turns) for turns in range(4)]
                classes += range(4)
    return _dataset("rotations", images, classes, 4)


def places(sizes: tuple[int, int], part: str) -> Iterator[tuple[int, int]]:
    """The upper left corners of the patches of a picture that may be in a part of the data.

    A picture is cut into tiles of 64x64 pixels, each of which belongs to one part, and patches lie wholly
    inside of a tile, on a grid of 8 pixels: parts have no pixel in common.
    """
    starts = range(0, _TILE - SIZE + 1, _STEP)
    for row in range(sizes[0] // _TILE):
        for column in range(sizes[1] // _TILE):
            if (column + 2 * row) % 5 in _PARTS[part]:
                yield from (
                    (row * _TILE + down, column * _TILE + right)
                    for down in starts
                    for right in starts
                )


def _chosen(picture: NDArray[np.uint8], part: str, count: int) -> list[NDArray[np.uint8]]:
    """So many patches of a part, evenly from all that are not too plain."""
    height, width, _ = picture.shape
    found = [
        picture[row : row + SIZE, column : column + SIZE]
        for row, column in places((height, width), part)
    ]
    found = [patch for patch in found if not _is_plain(patch)]
    return [found[number * len(found) // count] for number in range(count)]


def _is_plain(patch: NDArray[np.uint8]) -> bool:
    """In whole numbers, so that it is the same on every machine."""
    sums = patch.astype(np.int64).sum(axis=-1)
    return bool(sums.size * (sums**2).sum() - sums.sum() ** 2 < (_CONTRAST * sums.size) ** 2)


def _pictures(name: str, packages: dict[str, str]) -> list[NDArray[np.uint8]]:
    what, extra = f"the data set {name}", '"pyinit[data]"'
    image = needed("PIL.Image", what, "Pillow", extra)
    found = []
    for file, package in packages.items():
        library, folder = _FOLDERS[package]
        module = needed(package, what, library, extra)
        with image.open(Path(module.__file__).parent / folder / file) as opened:
            found.append(np.asarray(opened.convert("RGB")))
    return found


def _dataset(name: str, images: list[NDArray[np.uint8]], classes: list[int], count: int) -> Dataset:
    inputs = standardized(np.stack(images).transpose(0, 3, 1, 2))
    return Dataset(name, inputs, torch.tensor(classes), count, train=4000)
