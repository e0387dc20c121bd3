"""Seeds the generators from which other code draws for a while, and puts them back."""

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch

from pyinit._random.rng import Key, Source, seed_of
from pyinit._torch.fork_safe_lock import fork_safe_lock

# All threads share these generators: a second thread would put back the states that the first set.
_lock = fork_safe_lock()


SEEDED = frozenset(("cpu", "cuda", "meta"))
"""The types of devices on which ``seeded`` says what is drawn; those of others are not known here."""


class States(NamedTuple):
    """The states of the global generators: torch's, that of ``random`` and NumPy's."""

    torch: list[tuple[torch.Generator, torch.Tensor]]
    python: Any
    numpy: Any


@contextmanager
def seeded(source: Source, device: torch.device) -> Iterator[None]:
    """Seed torch's own generators, the CPU's and the device's, if the source is a key."""
    if type(source) is not Key:
        yield
        return
    with torch_seeded(seed_of(source), (device,)):
        yield


@contextmanager
def all_seeded(source: Source, device: torch.device) -> Iterator[None]:
    """As ``seeded``, and seed the generators of ``random`` and NumPy, too."""
    if type(source) is not Key:
        yield
        return
    with torch_seeded(seed_of(source), (device,)), python_seeded(seed_of(source)):
        yield


@contextmanager
def global_states_kept() -> Iterator[States]:
    """Give the states of the global generators, and put them back at the end."""
    with _lock:
        states = global_states()
        try:
            yield states
        finally:
            set_global_states(states)


def global_states() -> States:
    """The states of all generators that code draws from without naming one; not those that another
    thread has seeded for a while."""
    with _lock:
        cuda = [torch.cuda.default_generators[device.index] for device in cuda_in_use()]
        drawn = [(each, each.get_state()) for each in (torch.default_generator, *cuda)]
        return States(drawn, random.getstate(), np.random.get_state())


def set_global_states(states: States) -> None:
    """Set the global generators to what ``global_states`` gave, once no other thread draws from seeded
    ones."""
    with _lock:
        for generator, state in states.torch:
            generator.set_state(state)
        random.setstate(states.python)
        np.random.set_state(states.numpy)


@contextmanager
def torch_seeded(seed: int, devices: Iterable[torch.device]) -> Iterator[None]:
    """Seed torch's generators of the CPU and of the CUDA devices among ``devices``."""
    with _lock:
        cuda = [torch.cuda.default_generators[d.index] for d in devices if d.type == "cuda"]
        generators = [torch.default_generator, *cuda]
        states = [generator.get_state() for generator in generators]
        try:
            for generator in generators:
                generator.manual_seed(seed)
            yield
        finally:
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)


@contextmanager
def python_seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of ``random`` and NumPy."""
    with _lock:
        states = random.getstate(), np.random.get_state()
        try:
            seed_python(seed)
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def seed_python(seed: int) -> None:
    """Seed the global generators of ``random`` and NumPy, and leave them so."""
    random.seed(seed)
    np.random.seed(seed % 2**32)


def cuda_in_use() -> list[torch.device]:
    """All CUDA devices if the process has used one, or else none."""
    count = torch.cuda.device_count() if torch.cuda.is_initialized() else 0  # type: ignore[no-untyped-call]
    return [torch.device("cuda", i) for i in range(count)]
