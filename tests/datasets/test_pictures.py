"""Patches of pictures."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from pyinit.datasets import Dataset, load, pictures

image = pytest.importorskip("PIL.Image", reason="the extra data is not installed")
skimage = pytest.importorskip("skimage", reason="the extra data is not installed")
sklearn = pytest.importorskip("sklearn", reason="the extra data is not installed")

FOLDERS = (
    Path(skimage.__file__).parent / "data",
    Path(sklearn.__file__).parent / "datasets/images",
)
PATCHES = ("astronaut", "chelsea", "china", "coffee", "flower", "hubble_deep_field", "ihc")
PATCHES += ("motorcycle_left", "retina", "rocket")
ROTATIONS = ("brick", "china", "coins", "rocket", "text")


def picture(name: str) -> np.ndarray:
    """Its pixels, as (rows, columns, channels)."""
    (file,) = (file for folder in FOLDERS for file in folder.glob(f"{name}.*"))
    return np.asarray(image.open(file).convert("RGB"))


def levels(data: Dataset) -> np.ndarray:
    """The bytes that the inputs were made from: all from 0 to 255 are among them."""
    values = data.inputs.double().numpy()
    low, high = values.min(), values.max()
    return np.rint((values - low) / (high - low) * 255).astype(np.int64)


def where(patch: np.ndarray, pixels: np.ndarray) -> list[tuple[int, int]]:
    """All places of the grid of 8 pixels where the patch (rows, columns, channels) is."""
    rows, columns = pixels.shape[0] - 31, pixels.shape[1] - 31
    corners = pixels[0:rows:8, 0:columns:8]
    same = np.argwhere((corners == patch[0, 0]).all(-1)) * 8
    return [(r, c) for r, c in same.tolist() if (pixels[r : r + 32, c : c + 32] == patch).all()]


@pytest.mark.parametrize(
    ("name", "sources", "turns"), [("patches", PATCHES, 1), ("rotations", ROTATIONS, 4)]
)
def test_patches_are_where_they_should_be_and_the_test_shares_no_pixel(
    name: str, sources: tuple[str, ...], turns: int
) -> None:
    data = load(name)
    found = levels(data).transpose(0, 2, 3, 1)
    parts = (range(2000), range(2000, 4000), range(4000, 5000))
    for number, source in enumerate(sources):
        pixels = picture(source)
        seen = []
        for part in parts:
            count = len(part) // len(sources)
            mine = part[number * count : (number + 1) * count]
            mask, places = np.zeros(pixels.shape[:2], bool), []
            for first in mine[::turns]:
                if turns == 1:
                    assert data.target[first] == number
                for turn in range(turns if first % 25 == 0 else 1):
                    assert turns == 1 or data.target[first + turn] == turn
                    again = np.rot90(found[first + turn], -turn)
                    assert (again == found[first]).all()
                place = where(found[first], pixels)
                assert len(place) >= 1
                row, column = place[0]
                mask[row : row + 32, column : column + 32] = True
                places.append((row, column))
            assert len(set(places)) == len(places)
            seen.append(mask)
        for one, other in combinations(seen, 2):
            assert not (one & other).any()


@pytest.mark.parametrize("sizes", [(300, 451), (512, 512), (64, 64)])
def test_parts_have_no_pixel_in_common_and_all_tiles_belong_to_one(sizes: tuple[int, int]) -> None:
    covered = np.zeros(sizes, int)
    for part in ("first half", "second half", "test"):
        mask = np.zeros(sizes, bool)
        for row, column in pictures.places(sizes, part):
            mask[row : row + 32, column : column + 32] = True
        covered += mask
    rows, columns = (size // 64 * 64 for size in sizes)
    assert (covered[:rows, :columns] == 1).all()
    assert covered.sum() == rows * columns


def test_halves_of_the_training_are_of_disjoint_tiles_and_have_all_pictures() -> None:
    for name in ("patches", "rotations"):
        data = load(name)
        first, second = data.split()[0].halves()
        assert torch.equal(first.inputs, data.inputs[:2000])
        assert torch.equal(second.inputs, data.inputs[2000:4000])


def test_plain_patches_are_left_out() -> None:
    for name in ("patches", "rotations"):
        sums = levels(load(name)).sum(1).reshape(5000, -1)
        assert sums.std(axis=1).min() >= 18


def test_a_small_network_learns_patches_and_does_better_on_the_test_than_chance() -> None:
    torch.manual_seed(0)
    training, test = load("patches").split()
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(3),
        torch.nn.Flatten(), torch.nn.Linear(800, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for places in torch.randperm(4000).split(64):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(
            model(training.inputs[places]), training.target[places]
        ).backward()
        optimizer.step()
    with torch.no_grad():
        right = model(test.inputs).argmax(1) == test.target
    assert 0.4 < right.float().mean() < 0.95
