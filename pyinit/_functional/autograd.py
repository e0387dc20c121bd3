"""Gradients of eager convolutions, of any order."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from pyinit import _core
from pyinit._functional.activations import gradient_of
from pyinit._functional.compute import gradients, template_of
from pyinit._functional.geometry import Plan, plan_of_call
from pyinit._functional.operators import apply_operator


class _Contraction(torch.autograd.Function):
    """An image, weight or result, recorded by autograd as made of the other two, and perhaps of a bias."""

    forward = staticmethod(_core.record_convolution)  # the kernel has run

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        target, plan, epilogue = ctx.call
        first, second, *out = ctx.saved_tensors
        if epilogue is not None:
            grad = gradient_of(epilogue.activation, epilogue.parameter, grad, out[0], True)
        wanted = ctx.needs_input_grad
        made = gradients(target, grad, (first, second), wanted, partial(contract, plan))
        if len(wanted) == len(made):
            return made  # there was no bias
        return *made, sum_channels(grad) if wanted[2] else None


# Function.apply would first look for function transforms; the callers have seen that there are none.
_core.set_convolution_functions(
    plan_of_call, template_of, super(torch.autograd.Function, _Contraction).apply
)


def contract(plan: Plan, target: int, first: Tensor, second: Tensor) -> Tensor:
    """The image, the weight or the result; it can be differentiated, and works under any transform."""
    if not is_dynamo_compiling():
        out: Tensor | None = _core.contraction(target, plan, first, second)
        if out is not None:
            return out
    return apply_operator(target, plan.geometry, first, second)


def sum_channels(images: Tensor) -> Tensor:
    """The sum of all pixels of each channel: the gradient by the bias."""
    sums: Tensor | None = None if is_dynamo_compiling() else _core.channel_sums(images)
    return images.sum([0, *range(2, images.dim())]) if sums is None else sums
