"""What a ``GradScaler`` does to a step."""

import sys
from types import FrameType
from typing import NamedTuple

from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

_STEP = GradScaler.step.__code__


class Scale(NamedTuple):
    """By what gradients have been multiplied.

    of_backward: those of the backward pass
    of_step: those that the optimizer has got
    """

    of_backward: float = 1.0
    of_step: float = 1.0


def scale_of_step(optimizer: Optimizer) -> Scale:
    """The scale of a step that is about to be made.

    A scaler leaves no trace on an optimizer before its step, so the scaler that calls it is looked for
    among the callers.
    """
    scale = getattr(optimizer, "grad_scale", None)  # of a fused optimizer, which divides itself
    of_step = 1.0 if scale is None else float(scale)
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code is _STEP:
            return Scale(float(frame.f_locals["self"].get_scale()), of_step)
        frame = frame.f_back
    return Scale(of_step, of_step)


def is_skipped(optimizer: Optimizer) -> bool:
    """Whether a fused optimizer's step will change nothing, since a gradient is not finite."""
    found = getattr(optimizer, "found_inf", None)
    return found is not None and bool(found)
