"""The interpreter's help topics as characters."""

from pydoc_data.topics import topics

import pytest
import torch

from pyinit.datasets import Dataset, load, pydoc


def text_of(windows: Dataset) -> str:
    return "".join(map(pydoc.decode, windows.inputs))


def test_windows_follow_each_other_and_targets_are_the_next_characters() -> None:
    data = load("pydoc")
    assert data.inputs.shape[1] == 128
    assert data.inputs.dtype is data.target.dtype is torch.int64
    assert data.inputs.is_contiguous()
    assert torch.equal(data.inputs[:, 1:], data.target[:, :-1])
    training, test = data.split()
    for part in (training, test):
        assert torch.equal(part.inputs[1:, 0], part.target[:-1, -1])


def test_the_text_is_that_of_the_topics_in_their_order() -> None:
    whole = "\n".join(topics[name] for name in sorted(topics))
    known = "".join(each if each in pydoc.ALPHABET else "?" for each in whole)
    training, test = load("pydoc").split()
    assert known.startswith(text_of(training))
    end = len(known) * 9 // 10
    assert known[end:].startswith(text_of(test))
    assert end - 129 < len(text_of(training)) < end
    assert len(known) - end - 129 < len(text_of(test)) < len(known) - end


def test_characters_have_the_same_numbers_in_every_version_of_python() -> None:
    assert len(pydoc.ALPHABET) == 96
    assert load("pydoc").classes == 96
    assert pydoc.encode("\n ~?\tä…😀").tolist() == [0, 1, 95, 32, 32, 32, 32, 32]
    assert pydoc.decode(pydoc.encode("def f(x):\n")) == "def f(x):\n"


def test_the_length_is_in_the_name() -> None:
    data = load("pydoc:64")
    assert (data.name, data.inputs.shape[1]) == ("pydoc:64", 64)
    assert load("pydoc:128").name == "pydoc"


@pytest.mark.parametrize("length", [0, 10**6])
def test_windows_that_the_text_cannot_have_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"pydoc:{length} is not possible: windows have from 1 to"):
        load(f"pydoc:{length}")
