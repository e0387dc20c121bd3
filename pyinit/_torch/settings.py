"""What code can set in torch for the whole process, and how it is put back."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.modules import module
from torch.utils import _device


def _of(owner: Any, name: str) -> tuple[Callable[[], Any], Callable[[Any], object]]:
    """How an attribute is read and set."""
    return (lambda: getattr(owner, name), lambda value: setattr(owner, name, value))


def _autocast() -> tuple[Any, ...]:
    return tuple((torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in _DEVICES)


def _set_autocast(before: tuple[Any, ...]) -> None:
    for device, (enabled, dtype) in zip(_DEVICES, before, strict=True):
        torch.set_autocast_enabled(device, enabled)
        torch.set_autocast_dtype(device, dtype)


def _anomalies() -> tuple[bool, bool]:
    return torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()


def _hooks() -> list[dict[Any, Any]]:
    return [dict(vars(module)[name]) for name in _HOOKS]


def _set_hooks(before: list[dict[Any, Any]]) -> None:
    for name, hooks in zip(_HOOKS, before, strict=True):
        held = vars(module)[name]
        held.clear()
        held.update(hooks)


_DEVICES = ("cpu", "cuda")

# Of all modules: hooks of passes, and of registrations.
_HOOKS = [
    name for name, held in vars(module).items() if name[:7] == "_global" and isinstance(held, dict)
]

# How each setting is read, and how it is set.
_SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], object]], ...] = (
    (torch.get_default_dtype, torch.set_default_dtype),
    (lambda: _device.CURRENT_DEVICE, torch.set_default_device),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (_autocast, _set_autocast),
    (_anomalies, lambda before: torch.autograd.set_detect_anomaly(*before)),
    (_hooks, _set_hooks),
    _of(module, "_global_is_full_backward_hook"),
    _of(torch.utils.deterministic, "fill_uninitialized_memory"),
    _of(torch.backends.cudnn, "enabled"),
    _of(torch.backends.cudnn, "benchmark"),
    _of(torch.backends.cudnn, "deterministic"),
    _of(torch.backends.cudnn, "allow_tf32"),
    _of(torch.backends.cuda.matmul, "allow_tf32"),
    _of(torch.backends.mkldnn, "enabled"),
    _of(torch.backends.mkldnn, "deterministic"),
)


@contextmanager
def settings_kept() -> Iterator[None]:
    """Put back all settings at the end, hooks of all modules among them; not generators."""
    before = [read() for read, _ in _SETTINGS]
    try:
        yield
    finally:
        for (read, put), value in zip(_SETTINGS, before, strict=True):
            if read() != value:
                put(value)
