"""The monitor as a callback of Hugging Face's ``Trainer``."""

from typing import Any

from pyinit._messages import needed
from pyinit.inspection.monitor.monitor import Monitor

_Callback: Any = needed(
    "transformers", "PyinitTrainerCallback", "transformers", "transformers"
).TrainerCallback


class PyinitTrainerCallback(_Callback):  # type: ignore[misc]  # the library may be missing
    """Monitors the optimizer of a ``Trainer``, from the start of training to its end.

    An error ends training without a word to callbacks: then call ``callback.monitor.stop()``.

    Args:
        arguments: those of ``pyinit.Monitor`` but for model and optimizer

    Attributes:
        monitor: the ``Monitor``, once training has begun

    Example:
        >>> from pyinit.inspection.monitor.huggingface import PyinitTrainerCallback  # doctest: +SKIP
        >>> callback = PyinitTrainerCallback(every=100)  # doctest: +SKIP
        >>> transformers.Trainer(model, arguments, callbacks=[callback]).train()  # doctest: +SKIP
        >>> callback.monitor.save("training.csv")  # doctest: +SKIP
    """

    def __init__(self, **arguments: Any) -> None:
        self._arguments = arguments
        self.monitor: Monitor | None = None

    def on_train_begin(self, *_: Any, model: Any, optimizer: Any, **__: Any) -> None:
        """Begin to monitor."""
        self.on_train_end()  # of a training that an error has ended
        self.monitor = Monitor(model, optimizer, **self._arguments)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Remove all hooks."""
        if self.monitor is not None:
            self.monitor.stop()
