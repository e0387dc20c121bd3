"""The gradient quotient: how much a step along the gradient changes the gradient."""

import torch
from torch import Tensor

from pyinit.data_driven.differentiated import Differentiated, Values
from pyinit.inspection.batches import Batch

_SMALL = 1e-5  # what is added to the size of each element of the gradient


def gradient_quotient(network: Differentiated, values: Values, batch: Batch) -> Tensor:
    """The mean over all trained parameters of ``|(g - H g) / g - 1|``, with 1e-5 added to the size of each
    divisor, where g is the gradient and H the Hessian of the loss. It can be differentiated.

    Source: Dauphin & Schoenholz 2019.

    network: the model
    values: what its parameters are taken to hold
    batch: what it is run on

    Raises:
        RuntimeError: for an operation without second derivatives, by its name.
    """
    gradients = list(network.gradients(network.loss(values, batch), values).values())
    trained = [each for each in values.values() if each.requires_grad]
    half = torch.stack([each.square().sum() for each in gradients]).sum() / 2
    products = network.by(half, trained)
    total = torch.stack(
        [
            ((g - p) / (g + _SMALL * (2 * (g >= 0) - 1)) - 1).abs().sum()
            for g, p in zip(gradients, products, strict=True)
        ]
    ).sum()
    return total / sum(each.numel() for each in gradients)
