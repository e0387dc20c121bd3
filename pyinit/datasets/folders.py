"""Images in folders, each of which is a class."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pyinit._messages import first_of, needed
from pyinit.datasets.arrays import LARGEST, standardized
from pyinit.datasets.dataset import Dataset

SUFFIXES = (".png", ".jpg", ".jpeg")
_PARTS = ("train", "test")
_GREY = {"1", "L", "LA"}
_BYTES = _GREY | {"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}


def load(path: Path) -> Dataset:
    """The PNG and JPEG images of a folder that has a folder for each class, in the order of their names.

    If the folder has just the folders ``train`` and ``test``, these have those of the classes. Images are
    grey if all are, else RGB without alpha, and have one size. Files of other kinds and hidden ones are left alone.

    Raises:
        ImportError: If Pillow is not installed.
        ValueError: If there are no classes or no images, a file is broken, sizes differ, ``train`` and
            ``test`` have other classes, or all would take more than 4 GiB.
    """
    image = needed("PIL.Image", f"the folder of images {path}", "Pillow", '"pyinit[data]"')
    below = [folder.name for folder in _folders(path)]
    parts = [path / name for name in _PARTS] if sorted(below) == sorted(_PARTS) else [path]
    classes = [[folder.name for folder in _folders(part)] for part in parts]
    if not classes[0]:
        raise ValueError(f"{path} has no folders: it needs one for each class, with its images")
    if classes[0] != classes[-1]:
        raise ValueError(
            f"{path}: train and test must have the same classes; only one of them has "
            f"{first_of(sorted(set(classes[0]) ^ set(classes[-1])))}"
        )
    files = [list(_files(part)) for part in parts]
    for part, found in zip(parts, files, strict=True):
        if not found:
            raise ValueError(
                f"{part} has no images: the folders of classes have no {_kinds()} files"
            )
    listed = [file for found in files for file in found]
    mode, size = _common(image, listed)
    channels = len(mode)
    if (needs := 4 * channels * size[0] * size[1] * len(listed)) > LARGEST:
        raise ValueError(
            f"{path}: {len(listed)} images of {size[0]}x{size[1]} would take {needs / 2**30:.1f} GiB, and "
            f"at most {LARGEST / 2**30:g} are taken; give a torch Dataset of your own"
        )
    pixels = np.empty((len(listed), size[1], size[0], channels), np.uint8)
    for place, file in enumerate(listed):
        with _opened(image, file) as opened:
            pixels[place] = np.asarray(opened.convert(mode)).reshape(pixels.shape[1:])
    numbers = [classes[0].index(file.parent.name) for file in listed]
    inputs = standardized(pixels.transpose(0, 3, 1, 2))
    train = len(files[0]) if len(files) > 1 else None
    return Dataset(path.name or str(path), inputs, torch.tensor(numbers), len(classes[0]), train)


def _kinds() -> str:
    return f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"


def _folders(path: Path) -> list[Path]:
    return sorted(each for each in path.iterdir() if each.is_dir() and each.name[0] != ".")


def _files(path: Path) -> Iterator[Path]:
    for folder in _folders(path):
        for file in sorted(folder.iterdir()):
            if file.suffix.lower() in SUFFIXES and file.name[0] != "." and file.is_file():
                yield file


def _common(image: Any, files: list[Path]) -> tuple[str, tuple[int, int]]:
    """The mode of all, and their size (width, height), as their headers say."""
    modes, sizes = set(), []
    for file in files:
        with _opened(image, file) as opened:
            if opened.mode not in _BYTES:
                raise ValueError(
                    f"{file} has pixels of mode {opened.mode}, and only those of a byte for each channel are taken"
                )
            modes.add(opened.mode)
            sizes.append(opened.size)
    (most, _), *others = Counter(sizes).most_common()
    if others:
        unlike = [
            f"{file} is {size[0]}x{size[1]}"
            for file, size in zip(files, sizes, strict=True)
            if size != most
        ]
        raise ValueError(
            f"images must have one size; most are {most[0]}x{most[1]}, but {first_of(unlike, 5)}"
        )
    return "L" if modes <= _GREY else "RGB", most


@contextmanager
def _opened(image: Any, file: Path) -> Iterator[Any]:
    try:
        with image.open(file, formats=("PNG", "JPEG")) as opened:
            yield opened
    except image.DecompressionBombError as error:
        raise ValueError(f"{file} is too large: {error}") from error
    except (OSError, SyntaxError, EOFError) as error:  # what Pillow raises at what it cannot read
        if getattr(error, "errno", None) is not None:
            raise
        raise ValueError(f"{file} is no whole image: {error}") from error
