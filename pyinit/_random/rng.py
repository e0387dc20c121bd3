"""Which generator draws the numbers, and the keys it draws with."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import numpy as np
import torch

from pyinit import _core

NAMES = ("philox", "torch")
_ENVIRONMENT = "PYINIT_RNG"
_LOWEST = -(2**63)


class Key(NamedTuple):
    """Key and stream of one fill, both in [0, 2^64); stands where a ``torch.Generator`` may."""

    key: int
    stream: int = 0


Source = torch.Generator | Key | None


def _known(name: str, where: str) -> str:
    if name not in NAMES:
        raise ValueError(f"{where} must be one of {', '.join(map(repr, NAMES))}, got {name!r}")
    return name


_process_choice = _known(os.environ.get(_ENVIRONMENT) or "philox", _ENVIRONMENT)
_context_choice: ContextVar[str] = ContextVar("pyinit_rng")


def set_rng(name: str) -> None:
    """Choose the generator of the whole process.

    Args:
        name: ``"philox"``, the default: pyinit's own counter-based numbers. ``"torch"``: the
            numbers that ``torch.nn.init`` would have drawn.

    Raises:
        ValueError: for any other name.

    The environment variable ``PYINIT_RNG`` sets the choice a process starts with. A choice made by
    ``with pyinit.rng(...)`` stands above it.
    """
    global _process_choice  # noqa: PLW0603  the process has one default
    _process_choice = _known(name, "rng name")


def get_rng() -> str:
    """The name of the generator in use here: ``"philox"`` or ``"torch"``."""
    return _context_choice.get(_process_choice)


def rng(name: str) -> AbstractContextManager[None]:
    """Choose the generator for a ``with`` block, in this thread or asynchronous task only.

    Args:
        name: as for ``set_rng``.

    Raises:
        ValueError: for an unknown name.
    """
    return _scoped(_known(name, "rng name"))


@contextmanager
def _scoped(name: str) -> Iterator[None]:
    token = _context_choice.set(name)
    try:
        yield
    finally:
        _context_choice.reset(token)


class _Scratch:
    """One word in memory for torch to draw a key into."""

    __slots__ = ("draw", "word")

    def __init__(self) -> None:
        with torch.inference_mode(False):
            word = torch.zeros((), dtype=torch.int64, device="cpu")
        self.draw = word.random_
        self.word = word.numpy().view(np.uint64).data


# Words not in use. A thread takes one for as long as it draws: torch drops the GIL meanwhile.
_idle: list[_Scratch] = []


def take_key(generator: Source) -> tuple[int, int] | None:
    """Key and stream for one fill, or None where torch must draw (or refuse) instead."""
    if _context_choice.get(_process_choice) != "philox":
        return None
    if generator is not None:
        if type(generator) is Key:
            return generator
        if not isinstance(generator, torch.Generator) or generator.device.type != "cpu":
            return None
    try:
        scratch = _idle.pop()
    except IndexError:
        scratch = _Scratch()
    if generator is None:
        scratch.draw(_LOWEST, None)
    else:
        scratch.draw(_LOWEST, None, generator=generator)
    key = scratch.word[()]
    _idle.append(scratch)
    return key, 0


def for_torch(generator: Source, tensor: torch.Tensor) -> torch.Generator | None:
    """What to hand to torch's own function: a ``Key`` becomes a generator seeded from it."""
    if type(generator) is not Key:
        return generator  # type: ignore[return-value]  # anything wrong is torch's to refuse
    if tensor.is_meta:
        return None
    return torch.Generator(tensor.device).manual_seed(seed_of(generator))


def seed_of(key: Key) -> int:
    """A seed for a generator of torch's: the first words of the stream."""
    low, high = _core.philox_words(key.key, key.stream, 0, 2).tolist()
    return int(high << 32 | low)
