"""What is differentiated where the caller gives no loss."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pyinit.inspection.batches import described, named_tensors


def default_loss(output: Any, target: Any = None) -> Tensor:
    """The loss that the model has computed itself (``output.loss``); or, if there is no target, the mean
    of the squares of the outputs; or, for a target of integers, the cross-entropy, and otherwise the
    mean squared error."""
    own = getattr(output, "loss", None)
    if isinstance(own, Tensor):
        return own
    outputs = [each for _, each in named_tensors(output) if each.is_floating_point()]
    if not outputs:
        raise ValueError(f"the model returned {described(output)}, with nothing to differentiate")
    if target is None:
        count = sum(each.numel() for each in outputs)
        return torch.stack([each.float().square().sum() for each in outputs]).sum() / count
    first = outputs[0]
    if not isinstance(target, Tensor):
        raise ValueError(f"a target of {described(target)} needs a loss: give loss=")  # noqa: TRY004
    if not target.is_floating_point():
        return functional.cross_entropy(classes_second(first, target), target.long())
    if target.shape != first.shape:
        raise ValueError(
            f"the target {described(target)} does not fit the output {described(first)}: give loss="
        )
    return functional.mse_loss(first, target)


def classes_second(logits: Tensor, target: Tensor) -> Tensor:
    """Logits as torch's cross-entropy takes them. Sequence models have the classes last."""
    is_last = logits.dim() > 2 and logits.shape[:-1] == target.shape
    is_second = logits.shape[:1] + logits.shape[2:] == target.shape
    return logits.movedim(-1, 1) if is_last and not is_second else logits
