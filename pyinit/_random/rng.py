"""The generator that draws the numbers, the keys that it draws with, and the streams of names."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Literal, NamedTuple, TypeGuard, get_args

import torch

from pyinit import _core

RngName = Literal["philox", "torch", "torch.func"]
NAMES: tuple[RngName, ...] = get_args(RngName)
VERSIONS = (1, 2)
"""The versions of pyinit's own numbers (docs/random.md); a process begins with the last one."""
_ENVIRONMENT = "PYINIT_RNG"
_LOWEST = -(2**63)


class Key(NamedTuple):
    """The key and the stream of one fill, both in [0, 2^64). It stands where a ``torch.Generator`` may."""

    key: int
    stream: int = 0

    def further(self, count: int) -> "Key":
        """The same key with the stream that is numbered so much higher."""
        return Key(self.key, (self.stream + count) % 2**64)


Source = torch.Generator | Key | torch.Tensor | None
"""Where a fill's numbers come from. A tensor is a key of ``torch.func._random``; None means torch's
default generator."""

_STATELESS = ("aten::_philox_uniform_", "aten::_philox_normal_")


def checked_seed(seed: object) -> int:
    """A seed.

    Raises:
        TypeError: if it is no integer.
        ValueError: if it is not in [0, 2^64).
    """
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed must be an int, got {seed!r}")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must be in [0, 2^64), got {seed}")
    return seed


def _known(name: str, where: str) -> RngName:
    for known in NAMES:
        if name == known:
            if known == "torch.func" and not has_stateless():
                raise RuntimeError(
                    f"{where} 'torch.func' needs the CPU kernels of torch.func._random, which torch has "
                    f"from 2.14 on, and this is torch {torch.__version__}"
                )
            return known
    raise ValueError(f"{where} must be one of {', '.join(map(repr, NAMES))}, got {name!r}")


def has_stateless() -> bool:
    """Whether the installed torch has the CPU kernels of its stateless generator."""
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    try:
        return all(has_kernel(operator, "CPU") for operator in _STATELESS)
    except RuntimeError:  # a torch that does not know the operators
        return False


_process_choice = _known(os.environ.get(_ENVIRONMENT) or "philox", _ENVIRONMENT)
_context_choice: ContextVar[RngName] = ContextVar("pyinit_rng")
_process_version = VERSIONS[-1]
_context_version: ContextVar[int] = ContextVar("pyinit_stream_version")


def _known_version(version: int | None) -> int:
    if version is None:
        return stream_version()
    if version not in VERSIONS or isinstance(version, bool):
        raise ValueError(f"version must be one of {', '.join(map(str, VERSIONS))}, got {version!r}")
    return version


def set_rng(name: RngName, version: int | None = None) -> None:
    """Choose the generator of the whole process.

    The environment variable ``PYINIT_RNG`` sets the choice that a process starts with. Within
    ``with pyinit.rng(...)`` the choice of the block is in force instead.

    Args:
        name: ``"philox"``, the default, for pyinit's own counter-based numbers, ``"torch"`` for
            the numbers that ``torch.nn.init`` would have drawn, or ``"torch.func"`` for those of torch's
            stateless generator, ``torch.func._random``
        version: the version of pyinit's own numbers, 1 or 2 (default: the one in force, which is 2 when
            a process begins). Version 1 has other truncated normal numbers (docs/random.md)

    Raises:
        ValueError: for any other name or version.
        RuntimeError: for ``"torch.func"`` where torch is older than 2.14.

    References:
        Salmon et al. (2011), `Parallel random numbers: as easy as 1, 2, 3` (Philox). Matsumoto &
        Nishimura (1998), `Mersenne Twister` (torch's generator on the CPU).

    Example:
        >>> import torch, pyinit
        >>> pyinit.set_rng("torch")
        >>> _ = torch.manual_seed(0)
        >>> ours = pyinit.normal_(torch.empty(1000))
        >>> _ = torch.manual_seed(0)
        >>> torch.equal(ours, torch.nn.init.normal_(torch.empty(1000)))
        True
        >>> pyinit.set_rng("philox")
    """
    global _process_choice, _process_version
    _process_choice, _process_version = _known(name, "rng name"), _known_version(version)


def get_rng() -> RngName:
    """The name of the generator that is in force here.

    Returns:
        ``"philox"``, ``"torch"`` or ``"torch.func"``.

    Example:
        >>> import pyinit
        >>> pyinit.get_rng()
        'philox'
    """
    return _context_choice.get(_process_choice)


def stream_version() -> int:
    """The version of pyinit's own numbers that is in force here."""
    return _context_version.get(_process_version)


def rng(name: RngName, version: int | None = None) -> AbstractContextManager[None]:
    """Choose the generator for a ``with`` block, in this thread or asynchronous task only.

    Args:
        name: ``"philox"``, ``"torch"`` or ``"torch.func"``, as ``set_rng`` takes it
        version: the version of pyinit's own numbers, 1 or 2 (default: the one in force)

    Returns:
        A context manager. At its end the choice from before is in force again.

    Raises:
        ValueError: for any other name or version.
        RuntimeError: for ``"torch.func"`` where torch is older than 2.14.

    Example:
        >>> import torch, pyinit
        >>> with pyinit.rng("torch"):  # the numbers of torch.nn.init
        ...     weight = pyinit.normal_(torch.empty(3), generator=torch.Generator().manual_seed(0))
        >>> torch.equal(weight, torch.randn(3, generator=torch.Generator().manual_seed(0)))
        True
    """
    return _scoped(_known(name, "rng name"), _known_version(version))


@contextmanager
def _scoped(name: RngName, version: int) -> Iterator[None]:
    choice, of_version = _context_choice.set(name), _context_version.set(version)
    try:
        yield
    finally:
        _context_version.reset(of_version)
        _context_choice.reset(choice)


def _make_word() -> tuple[Callable[..., object], int]:
    """A word in memory for torch to draw a key into: what draws, and the word's address."""
    with torch.inference_mode(False):
        word = torch.zeros((), dtype=torch.int64, device="cpu")
    return word.random_, word.data_ptr()


_core.set_sources(torch.Generator, Key, _make_word, (_LOWEST, None))


def take_key(generator: Source) -> tuple[int, int] | None:
    """The key and the stream of one fill; None where torch has to draw, or to refuse."""
    if _context_choice.get(_process_choice) != "philox":
        return None
    if generator is not None:
        if type(generator) is Key:
            return generator
        if not isinstance(generator, torch.Generator):
            return as_key(generator) if is_torchs_key(generator) else None
        if generator.device.type != "cpu":
            return None
    return _core.draw_key(generator), 0


def is_torchs_key(source: object) -> TypeGuard[torch.Tensor]:
    """Whether it is a tensor as ``torch.func._random`` has them for keys, of any number of these."""
    return isinstance(source, torch.Tensor) and source.dtype is torch.uint64


def seed_and_offset(key: torch.Tensor, name: str = "generator") -> tuple[int, int]:
    """The two numbers of a key of ``torch.func._random``, which is the argument of that name.

    Raises:
        TypeError: for any other tensor.
    """
    if key.dtype is not torch.uint64 or key.dim() != 1 or key.numel() != 2 or key.is_meta:
        raise TypeError(
            f"{name}, if it is a tensor, must be a key of torch.func._random (uint64, shape (2,)), "
            f"got {key.dtype}, shape {tuple(key.shape)}, device {key.device}"
        )
    seed, offset = key.tolist()
    return seed, offset


def as_key(key: torch.Tensor, name: str = "generator") -> Key:
    """A key of ``torch.func._random`` as pyinit's own: its seed is the key, its offset the stream."""
    return Key(*seed_and_offset(key, name))


def for_torch(generator: Source, tensor: torch.Tensor) -> torch.Generator | None:
    """What to hand to torch's own function: a key becomes a generator seeded from it."""
    if is_torchs_key(generator):
        generator = as_key(generator)
    if type(generator) is not Key:
        return generator  # type: ignore[return-value]  # anything wrong is torch's to refuse
    if tensor.is_meta:
        return None
    return torch.Generator(tensor.device).manual_seed(seed_of(generator))


def seed_of(key: Key) -> int:
    """A seed for one of torch's generators: the first 64 bits of the key's stream."""
    low, high = _core.philox_words(key.key, key.stream, 0, 2).tolist()
    return int(high << 32 | low)


def stream_of(name: str) -> int:
    """The stream that belongs to a name: the name's UTF-8 bytes, hashed to 64 bits by BLAKE2b.

    Which numbers a model gets depends on it (docs/random.md), so it never changes.
    """
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
