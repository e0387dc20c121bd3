"""Starts of residual branches, for the networks of ``pyinit.studies.models.fixup``."""

import torch

from pyinit.studies.models.fixup import Residual
from pyinit.whole_model.initialize import initialize_


def zero_residual(model: Residual, _: object, seed: int) -> None:
    """He normal weights, and residual branches that start at 0, by the last thing that scales them.

    With BatchNorm this is the scale of the last norm (Goyal et al. 2017, arXiv:1706.02677), without it
    the last convolution.

    Args:
        model: the network
        seed: the seed of the weights

    Example:
        >>> import torch
        >>> from pyinit.studies.models.fixup import residual
        >>> from pyinit.studies.models.residual import zero_residual
        >>> model = residual(depth=6, width=4)
        >>> zero_residual(model, None, seed=0)
        >>> float(model.blocks[0].branch(torch.ones(1, 4, 5, 5)).detach().abs().max())
        0.0
    """
    initialize_(model, "kaiming", seed=seed)
    with torch.no_grad():
        for block in model.blocks:
            last = block.bn2 if block.batch_norm else block.conv2
            last.weight.zero_()  # type: ignore[operator, union-attr]
