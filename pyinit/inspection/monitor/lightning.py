"""The monitor as a callback of Lightning's ``Trainer``."""

from typing import Any

from pyinit._messages import needed
from pyinit.inspection.monitor.monitor import Monitor

_Callback: Any = needed("lightning.pytorch", "PyinitCallback", "lightning", "lightning").Callback


class PyinitCallback(_Callback):  # type: ignore[misc]  # the library may be missing
    """Monitors each optimizer of a ``Trainer``, from the start of training to its end.

    Args:
        arguments: those of ``pyinit.Monitor`` but for model and optimizer

    Attributes:
        monitors: a ``Monitor`` for each optimizer

    Example:
        >>> from pyinit.inspection.monitor.lightning import PyinitCallback  # doctest: +SKIP
        >>> callback = PyinitCallback(every=100)  # doctest: +SKIP
        >>> lightning.Trainer(callbacks=[callback]).fit(module, loader)  # doctest: +SKIP
        >>> callback.monitors[0].save("training.csv")  # doctest: +SKIP
    """

    def __init__(self, **arguments: Any) -> None:
        self._arguments = arguments
        self.monitors: list[Monitor] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin to monitor."""
        self.monitors = [
            Monitor(pl_module, optimizer, **self._arguments) for optimizer in trainer.optimizers
        ]

    def on_train_end(self, *_: Any) -> None:
        """Remove all hooks."""
        for monitor in self.monitors:
            monitor.stop()

    on_exception = on_train_end
