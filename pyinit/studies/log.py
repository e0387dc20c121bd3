"""What is recorded of a run's steps and epochs, and when it counts as diverged."""

import math
from time import perf_counter
from typing import Any

_MOST = 500  # steps that are recorded, about
_BEYOND = 1e4  # times the first loss: training has left all bounds


class Log:
    """What is recorded of training."""

    def __init__(self, steps: int) -> None:
        self._every, self._last = math.ceil(steps / _MOST), steps - 1
        self._of_epoch: list[float] = []
        self._start = perf_counter()
        self.steps: list[dict[str, Any]] = []
        self.epochs: list[dict[str, Any]] = []
        self.bound = math.inf

    def step(self, step: int, loss: float) -> bool:
        """Note the loss of a step; whether training can go on."""
        diverged = not (math.isfinite(loss) and abs(loss) <= self.bound)
        if step == 0:
            self.bound = _BEYOND * max(abs(loss), 1.0)
        if step % self._every == 0 or step == self._last or diverged:
            self.steps.append({"step": step, "loss": loss})
        self._of_epoch.append(loss)
        return not diverged

    @property
    def is_finite(self) -> bool:
        """Whether the last test loss is a finite number."""
        return math.isfinite(self.epochs[-1]["test_loss"])

    def epoch(self, step: int, test_loss: float, accuracy: float | None) -> None:
        """Note the end of an epoch after so many steps."""
        losses, self._of_epoch = self._of_epoch, []
        row: dict[str, Any] = {
            "epoch": len(self.epochs) + 1,
            "step": step,
            "train_loss": sum(losses) / len(losses),
        }
        row |= {"test_loss": test_loss, "accuracy": accuracy}
        self.epochs.append({**row, "seconds": perf_counter() - self._start})
