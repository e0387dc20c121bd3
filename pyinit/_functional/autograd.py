"""Gradients of eager convolutions, of any order."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from pyinit import _core
from pyinit._functional.activations import gradient_of
from pyinit._functional.compute import compute, gradients, is_watched
from pyinit._functional.epilogue import Epilogue
from pyinit._functional.geometry import Plan
from pyinit._functional.operators import apply_operator, has_kernel
from pyinit._torch.views import View, readable_view, view_of


class _Contraction(torch.autograd.Function):
    """``compute``, recorded by autograd."""

    @staticmethod
    def forward(
        ctx: Any,
        call: tuple[int, Plan, tuple[View, View, View | None], Epilogue | None],
        first: Tensor,
        second: Tensor,
        bias: Tensor | None,  # noqa: ARG004  autograd asks for its gradient
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


# Function.apply would first look for function transforms; the callers have seen that there are none.
differentiable: Callable[..., Tensor] = super(torch.autograd.Function, _Contraction).apply


def contract(plan: Plan, target: int, first: Tensor, second: Tensor) -> Tensor:
    """``compute`` of tensors: it can be differentiated, and works under any transform."""
    if not (is_dynamo_compiling() or is_watched(first, second)):
        one, other = readable_view(first), readable_view(second)
        if one is not None and other is not None:
            if torch.is_grad_enabled() and (first.requires_grad or second.requires_grad):
                return differentiable((target, plan, (one, other, None), None), first, second, None)
            return compute(target, plan, one, other)
    return apply_operator(target, plan.geometry, first, second)


def sum_channels(images: Tensor) -> Tensor:
    """The sum of all pixels of each channel: the gradient by the bias."""
    view = None
    if not (is_dynamo_compiling() or is_watched(images)) and has_kernel(images):
        view = readable_view(images)
    if view is None or (torch.is_grad_enabled() and images.requires_grad):
        return images.sum([0, *range(2, images.dim())])
    sums = images.new_empty(view.shape[1])
    _core.sum_channels(view, view_of(sums), torch.get_num_threads())
    return sums
