"""A user's own images, in a folder for each class."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pyinit.datasets import folders, load

image = pytest.importorskip("PIL.Image", reason="the extra data is not installed")


def write(path: str, level: int = 0, size: tuple[int, int] = (6, 4), mode: str = "RGB") -> Path:
    """An image of one level; its size is (width, height)."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    image.new(mode, size, level if len(mode) == 1 else (level,) * len(mode)).save(file)
    return file


def test_a_folder_of_each_class_is_a_data_set() -> None:
    for number, path in enumerate(["dog/b.jpg", "cat/z.png", "dog/a.jpeg", "cat/b.PNG"]):
        write(f"pets/{path}", 50 * number)
    Path("pets/readme.txt").write_text("text")
    Path("pets/cat/notes.txt").write_text("text")
    (Path("pets/.git")).mkdir()
    data = load("pets")
    assert str(data) == "pets: 4 samples of 3x4x6, float32; 2 classes"
    assert data.target.tolist() == [0, 0, 1, 1]
    levels = torch.tensor([150.0, 50, 100, 0])
    expected = (levels - levels.mean()) / levels.std(correction=0)
    assert torch.allclose(data.inputs[:, 0, 0, 0], expected, atol=1e-6)
    assert data.train is None
    assert data.digest == load(Path("pets")).digest


def test_grey_images_have_one_channel_and_are_rgb_among_others() -> None:
    write("pets/a/1.png", mode="L")
    write("pets/b/1.png", mode="LA")
    assert load("pets").inputs.shape == (2, 1, 4, 6)
    write("pets/b/2.png", mode="RGBA")
    assert load("pets").inputs.shape == (3, 3, 4, 6)


def test_train_and_test_are_the_split_if_the_folder_has_them() -> None:
    for path in ("train/a/1.png", "train/b/1.png", "train/b/2.png", "test/a/1.png", "test/b/9.png"):
        write(f"pets/{path}", len(path))
    data = load("pets")
    assert (data.train, data.classes) == (3, 2)
    assert data.split()[1].target.tolist() == [0, 1]
    write("pets/test/c/1.png")
    with pytest.raises(ValueError, match=r"same classes; only one of them has c$"):
        load("pets")


def test_a_broken_file_is_named() -> None:
    write("pets/a/1.png")
    file = write("pets/b/broken.png", size=(60, 40))
    write("pets/a/1.png", size=(60, 40))
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"text", whole[:-30] + bytes(30)):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"pets.b.broken\.png is no whole image"):
            load("pets")


def test_files_of_another_size_are_named() -> None:
    for number in range(3):
        write(f"pets/a/{number}.png")
    write("pets/b/odd.png", size=(5, 5))
    with pytest.raises(ValueError, match=r"most are 6x4, but pets.b.odd\.png is 5x5"):
        load("pets")


def test_pixels_of_more_than_a_byte_are_refused() -> None:
    file = Path("pets/a/deep.png")
    file.parent.mkdir(parents=True)
    image.fromarray(np.zeros((4, 6), np.uint16)).save(file)
    with pytest.raises(ValueError, match=r"deep\.png has pixels of mode I"):
        load("pets")


def test_a_folder_that_is_no_data_set_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="there is no folder 'pets/cats'"):
        load("pets/cats")
    with pytest.raises(FileNotFoundError, match="there is no folder 'pets'"):
        load(Path("pets"))
    Path("pets").mkdir()
    with pytest.raises(ValueError, match="pets has no folders: it needs one for each class"):
        load("pets")
    Path("pets/a").mkdir()
    with pytest.raises(ValueError, match="pets has no images"):
        load("pets")


def test_more_than_the_memory_should_take_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    write("pets/a/1.png")
    monkeypatch.setattr(folders, "LARGEST", 4 * 3 * 6 * 4)
    assert load("pets").samples == 1
    write("pets/a/2.png")
    with pytest.raises(ValueError, match="pets: 2 images of 6x4 would take"):
        load("pets")
    monkeypatch.setattr(image, "MAX_IMAGE_PIXELS", 4)
    with pytest.raises(ValueError, match=r"1\.png is too large"):
        load("pets")


def test_pillow_is_named_if_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("pets").mkdir()
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(
        ImportError, match=r'the folder of images pets needs Pillow: pip install "py'
    ):
        load("pets")
