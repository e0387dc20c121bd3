"""Emulated kernels, for CPU tensors in the place of a device's."""

from types import ModuleType

import pytest

from pyinit._device import fills as device_fills
from pyinit._torch.views import writable_view


@pytest.fixture
def device(emulation: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_fills, "_cuda", emulation)
    monkeypatch.setattr(device_fills, "writable_view", writable_view)
    monkeypatch.setattr(device_fills, "has_kernels_for", lambda _: True)
    monkeypatch.setattr(device_fills, "queue_of", lambda _: (0, 0))
