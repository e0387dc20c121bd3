"""Gradients of eager convolutions, of any order."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from pyinit import _core
from pyinit._functional.activations import gradient_of
from pyinit._functional.compute import Plan, compute, gradients, is_watched
from pyinit._functional.epilogue import Epilogue
from pyinit._functional.operators import apply_operator, is_ours
from pyinit._torch.views import View, plain_memory


class _Contraction(torch.autograd.Function):
    """``compute`` as automatic differentiation sees it."""

    @staticmethod
    def forward(
        ctx: Any,
        call: tuple[int, Plan, tuple[View, View, View | None], Epilogue | None],
        first: Tensor,
        second: Tensor,
        bias: Tensor | None,  # noqa: ARG004  it is differentiated
    ) -> Tensor:
        target, plan, views, epilogue = call
        out = compute(target, plan, *views, epilogue)
        ctx.call = call
        if epilogue is None:
            ctx.save_for_backward(first, second)
        else:
            ctx.save_for_backward(first, second, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        target, plan, _, epilogue = ctx.call
        first, second, *out = ctx.saved_tensors
        if epilogue is not None:
            grad = gradient_of(epilogue.activation, epilogue.parameter, grad, out[0], True)
        _, *wanted, by_bias = ctx.needs_input_grad
        made = gradients(target, grad, (first, second), wanted, partial(contract, plan))
        return None, *made, sum_channels(grad) if by_bias else None


# Function.apply itself first looks for function transforms; there are none where this is called.
differentiable: Callable[..., Tensor] = super(torch.autograd.Function, _Contraction).apply


def contract(plan: Plan, target: int, first: Tensor, second: Tensor) -> Tensor:
    """``compute`` for tensors, differentiable, and under any transform."""
    if not (is_dynamo_compiling() or is_watched(first, second)):
        one, other = plain_memory(first), plain_memory(second)
        if one is not None and other is not None:
            if torch.is_grad_enabled() and (first.requires_grad or second.requires_grad):
                return differentiable((target, plan, (one, other, None), None), first, second, None)
            return compute(target, plan, one, other)
    return apply_operator(target, plan.geometry, first, second)


def sum_channels(images: Tensor) -> Tensor:
    """The sum of all pixels of each channel: the gradient by the bias."""
    view = None
    if not (is_dynamo_compiling() or is_watched(images)) and is_ours(images):
        view = plain_memory(images)
    if view is None or (torch.is_grad_enabled() and images.requires_grad):
        return images.sum([0, *range(2, images.dim())])
    sums = images.new_empty(view[2][1])
    place = (sums.data_ptr(), view[1], view[2][1:2], (1,))
    _core.sum_channels(view, place, torch.get_num_threads())
    return sums
