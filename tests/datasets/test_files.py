"""Data in NumPy's files."""

import pickle
from pathlib import Path
from typing import Any
from zipfile import ZIP_BZIP2, ZIP_LZMA, ZipFile

import numpy as np
import pytest
import torch

from pyinit.datasets import load


class Harmful:
    """What a file must not get to do."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("harm"),)


def test_a_npy_file_holds_inputs() -> None:
    values = np.random.default_rng(0).normal(size=(6, 3, 4))
    np.save("mine.npy", values)
    data = load(Path("mine.npy"))
    assert torch.equal(data.inputs, torch.from_numpy(values).float())
    assert (data.name, data.target, data.classes) == ("mine.npy", None, None)


@pytest.mark.parametrize("names", [("x", "y"), ("inputs", "target")])
def test_a_npz_file_holds_inputs_and_target(names: tuple[str, str]) -> None:
    arrays = np.ones((6, 2), np.float32), np.array([0, 2, 1, 0, 1, 2], np.uint8)
    np.savez("mine.npz", **dict(zip(names, arrays, strict=True)), other=np.zeros(3))
    data = load("mine.npz")
    assert data.inputs.shape == (6, 2)
    assert data.target.tolist() == [0, 2, 1, 0, 1, 2]
    assert data.target.dtype is torch.int64
    assert data.classes == 3


def test_a_npz_file_needs_no_target() -> None:
    np.savez("mine.npz", x=np.ones((6, 2)))
    assert load("mine.npz").target is None


@pytest.mark.parametrize(
    ("dtype", "became", "largest"),
    [
        (np.float16, torch.float32, 200.0),
        (np.float64, torch.float32, 200.0),
        (">f8", torch.float32, 200.0),
        (np.uint8, torch.float32, float(np.float32(200) / np.float32(255))),
        (np.int16, torch.int64, 200),
        (">i4", torch.int64, 200),
        (np.bool_, torch.float32, 1.0),
    ],
)
def test_inputs_become_what_models_take(dtype: Any, became: torch.dtype, largest: float) -> None:
    np.save("mine.npy", np.array([[0, 200], [100, 0]]).astype(dtype))
    inputs = load("mine.npy").inputs
    assert inputs.dtype is became
    assert inputs.max().item() == largest


@pytest.mark.parametrize(
    ("target", "became", "classes"),
    [
        (np.array([1.5, 2.5]), torch.float32, None),
        (np.array([True, False]), torch.int64, 2),
        (np.array([-100, 3]), torch.int64, None),
    ],
)
def test_targets_become_what_losses_take(
    target: Any, became: torch.dtype, classes: int | None
) -> None:
    np.savez("mine.npz", x=np.ones((2, 1)), y=target)
    data = load("mine.npz")
    assert data.target.dtype is became
    assert data.classes == classes


def test_nothing_in_a_file_is_executed() -> None:
    array = np.array([Harmful()], dtype=object)
    np.save("a.npy", array, allow_pickle=True)
    np.savez("a.npz", x=array)
    Path("b.npy").write_bytes(pickle.dumps(Harmful()))
    Path("b.npz").write_bytes(pickle.dumps(Harmful()))
    for path in ("a.npy", "a.npz", "b.npy", "b.npz"):
        with pytest.raises(ValueError, match=f"{path}: not a whole .npy or .npz file of numbers"):
            load(path)
    assert not Path("harm").exists()


def test_arrays_of_other_names_are_not_read() -> None:
    np.savez("mine.npz", x=np.ones((2, 1)), notes=np.array([Harmful()], dtype=object))
    assert load("mine.npz").samples == 2


def test_a_file_that_is_cut_off_is_refused() -> None:
    np.savez_compressed("mine.npz", x=np.random.default_rng(0).normal(size=(100, 10)))
    np.save("mine.npy", np.ones((100, 10)))
    for path in (Path("mine.npz"), Path("mine.npy")):
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(ValueError, match="not a whole"):
            load(path)


def test_a_member_that_is_no_array_is_refused() -> None:
    with ZipFile("mine.npz", "w") as file:
        file.writestr("x", b"text")
    with pytest.raises(ValueError, match=r"mine\.npz has inputs of"):
        load("mine.npz")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.ones(2)}, "inputs must be named x or inputs, got a"),
        ({}, "inputs must be named x or inputs, got nothing"),
        ({"x": np.ones(2), "inputs": np.ones(2)}, "has both x and inputs"),
        ({"x": np.ones((2, 1)), "y": np.ones(3)}, r"has 2 samples, and a target of shape \(3,\)"),
        ({"x": np.ones((0, 3))}, "has no samples"),
        ({"x": np.array(1.0)}, "has inputs without a dimension for samples"),
        ({"x": np.array(["a"])}, "has inputs of <U1"),
        ({"x": np.array([1j])}, "has inputs of complex128"),
        ({"x": np.ones(2, np.uint64)}, "has inputs of uint64"),
        ({"x": np.ones(1), "y": np.array(["a"])}, "has a target of <U1"),
    ],
)
def test_arrays_that_are_no_data_are_refused(arrays: dict[str, Any], message: str) -> None:
    np.savez("mine.npz", **arrays)
    with pytest.raises(ValueError, match=f"mine.npz.? {message}"):
        load("mine.npz")


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.npy"):
        load("none.npy")


@pytest.mark.parametrize(
    "shape", ["(1000000000000000, 16)", "(99999999999999999999999, 16)", "(" * 500]
)
def test_a_header_of_no_array_is_refused(shape: str) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little")
    Path("x.npy").write_bytes(start + header + bytes(64))
    with pytest.raises(ValueError, match=r"x\.npy: "):
        load("x.npy")


@pytest.mark.parametrize("method", [ZIP_BZIP2, ZIP_LZMA])
def test_a_damaged_member_is_refused(method: int) -> None:
    np.save("x.npy", np.random.default_rng(0).normal(size=(30, 16)))
    with ZipFile("x.npz", "w", compression=method) as file:
        file.write("x.npy")
    assert load("x.npz").samples == 30
    values = bytearray(Path("x.npz").read_bytes())
    values[80:120] = b"\xff" * 40
    Path("x.npz").write_bytes(values)
    with pytest.raises(ValueError, match=r"x\.npz: not a whole"):
        load("x.npz")


@pytest.mark.parametrize(("place", "value"), [(8, 1), (10, 99)], ids=["encrypted", "method"])
def test_a_member_that_cannot_be_unpacked_is_refused(place: int, value: int) -> None:
    np.savez("x.npz", x=np.zeros((4, 3)))
    values = bytearray(Path("x.npz").read_bytes())
    values[values.find(b"PK\x01\x02") + place] = value
    Path("x.npz").write_bytes(values)
    with pytest.raises(ValueError, match=r"x\.npz: not a whole"):
        load("x.npz")


def test_numbers_beyond_float32_are_refused() -> None:
    np.savez("x.npz", x=np.array([[1e300, np.inf]]))
    with pytest.raises(ValueError, match=r"x\.npz has inputs of more than float32's greatest"):
        load("x.npz")
    np.savez("x.npz", x=np.array([[1.0, np.inf]]), y=np.array([-1e39]))
    with pytest.raises(ValueError, match=r"x\.npz has a target of more than"):
        load("x.npz")
    np.savez("x.npz", x=np.array([[1.0, np.inf]]))
    assert load("x.npz").samples == 1
