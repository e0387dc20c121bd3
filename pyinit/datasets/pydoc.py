"""The help topics of the Python interpreter as text of characters."""

import numpy as np
import torch
from torch import Tensor

from pyinit.datasets.dataset import Dataset

ALPHABET = "\n" + "".join(map(chr, range(ord(" "), ord("~") + 1)))
LENGTH = 128
_UNKNOWN = "?"


def load(length: int = LENGTH) -> Dataset:
    """Windows of ``length`` characters as numbers, one after the other, and for each character the one
    that follows it as target.

    The text is that of ``pydoc_data.topics``, about 465,000 characters, in the order of the topics' names.
    It is another one in another version of Python. Characters are numbered as in ``ALPHABET``, the
    line feed and the 95 printable ones of ASCII; all others become question marks. The first nine tenths of
    the text are for training, and no window reaches into the rest.

    Raises:
        ValueError: If the length is not positive, or longer than the text for the test.
    """
    from pydoc_data.topics import topics  # noqa: PLC0415  it is large

    numbers = encode("\n".join(topics[name] for name in sorted(topics)))
    end = len(numbers) * 9 // 10
    if not 1 <= length < len(numbers) - end:
        raise ValueError(
            f"pydoc:{length} is not possible: windows have from 1 to {len(numbers) - end - 1} characters"
        )
    parts = [_windows(part, length) for part in (numbers[:end], numbers[end:])]
    windows = torch.cat(parts)
    name = "pydoc" if length == LENGTH else f"pydoc:{length}"
    inputs, target = windows[:, :-1].contiguous(), windows[:, 1:].contiguous()
    return Dataset(name, inputs, target, len(ALPHABET), train=len(parts[0]))


def encode(text: str) -> Tensor:
    """Characters as their places in ``ALPHABET``; those that are not in it as the place of ``?``."""
    codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    places = np.full(128, ALPHABET.index(_UNKNOWN), dtype=np.int64)
    places[[ord(character) for character in ALPHABET]] = np.arange(len(ALPHABET))
    return torch.from_numpy(places[np.minimum(codes, 127)])


def decode(numbers: Tensor) -> str:
    """The text that ``encode`` makes these numbers from."""
    return "".join(ALPHABET[number] for number in numbers.tolist())


def _windows(numbers: Tensor, length: int) -> Tensor:
    """Windows of ``length`` + 1, each of which starts with the last of the one before."""
    return numbers.unfold(0, length + 1, length)
