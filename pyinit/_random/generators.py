"""The generators that code of others draws from: seeded for a while, and put back."""

import os
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any, NamedTuple

import numpy as np
import torch

from pyinit._random.rng import Key, Source, seed_of

# All threads have these generators: a second one would take seeded ones for what is to be put back.
_lock = RLock()


class States(NamedTuple):
    """What ``global_states`` gives."""

    torch: list[tuple[torch.Generator, torch.Tensor]]
    python: Any
    numpy: Any


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603  a thread that is not there may have held it
    _lock = RLock()


os.register_at_fork(after_in_child=_after_fork_in_child)


@contextmanager
def seeded(source: Source, device: torch.device) -> Iterator[None]:
    """torch's own generators, the CPU's and the device's, seeded from a key, if it is one."""
    if type(source) is not Key:
        yield
        return
    with torch_seeded(seed_of(source), (device,)):
        yield


@contextmanager
def all_seeded(source: Source, device: torch.device) -> Iterator[None]:
    """``seeded``, with the generators of ``random`` and NumPy."""
    if type(source) is not Key:
        yield
        return
    with torch_seeded(seed_of(source), (device,)), python_seeded(seed_of(source)):
        yield


@contextmanager
def global_states_kept() -> Iterator[States]:
    """The states of the global generators, which are put back at the end."""
    with _lock:
        states = global_states()
        try:
            yield states
        finally:
            set_global_states(states)


def global_states() -> States:
    """Of all generators that code draws from without naming one: torch's, of CPU and CUDA devices,
    ``random``'s and NumPy's."""
    cuda = [torch.cuda.default_generators[device.index] for device in cuda_in_use()]
    drawn = [(each, each.get_state()) for each in (torch.default_generator, *cuda)]
    return States(drawn, random.getstate(), np.random.get_state())


def set_global_states(states: States) -> None:
    """Put back what ``global_states`` gave."""
    for generator, state in states.torch:
        generator.set_state(state)
    random.setstate(states.python)
    np.random.set_state(states.numpy)


@contextmanager
def torch_seeded(seed: int, devices: Iterable[torch.device]) -> Iterator[None]:
    """torch's generators of the CPU and of CUDA devices."""
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
    """The generators that ``random`` and NumPy share among all who draw from them."""
    with _lock:
        states = random.getstate(), np.random.get_state()
        try:
            seed_python(seed)
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def seed_python(seed: int) -> None:
    """Those that ``python_seeded`` is about, and for good."""
    random.seed(seed)
    np.random.seed(seed % 2**32)


def cuda_in_use() -> list[torch.device]:
    """All CUDA devices, once the process has used one."""
    count = torch.cuda.device_count() if torch.cuda.is_initialized() else 0  # type: ignore[no-untyped-call]
    return [torch.device("cuda", i) for i in range(count)]
