"""Softmax and its logarithm, with the signatures and the meaning of ``torch.nn.functional``.

Calls go to the kernels or to torch as those of the other activation functions do.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyinit import _core
from pyinit._functional.activations import kernel_view, output_like
from pyinit._torch.original import functional as torchs
from pyinit._torch.views import view_of


def _softmax_of(input: Tensor, dim: int, is_log: bool) -> Tensor:
    input = input.contiguous()
    view = view_of(input)
    output = output_like(input, view)
    _core.softmax(view, view_of(output), dim, is_log, torch.get_num_threads())
    return output


class _RecordedSoftmax(torch.autograd.Function):
    """Softmax or its logarithm, recorded by autograd."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, dim: int, is_log: bool) -> Tensor:
        output = _softmax_of(input, dim, is_log)
        ctx.save_for_backward(output)
        ctx.call = dim, is_log
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (output,) = ctx.saved_tensors
        dim, is_log = ctx.call
        if torch.is_grad_enabled() or kernel_view(grad) is None or kernel_view(output) is None:
            gradient = (
                torch.ops.aten._log_softmax_backward_data
                if is_log
                else torch.ops.aten._softmax_backward_data
            )
            result = gradient(grad, output, dim, output.dtype)
        else:
            grad, result = grad.contiguous(), torch.empty_like(output)
            views = view_of(grad), view_of(output), view_of(result)
            _core.softmax_backward(*views, dim, is_log, torch.get_num_threads())
        return result, None, None


_recorded_softmax: Callable[[Tensor, int, bool], Tensor] = _RecordedSoftmax.apply


def _softmaxed(
    input: Tensor, dim: int | None, dtype: torch.dtype | None, is_log: bool
) -> Tensor | None:
    """Softmax or its logarithm; None where torch has to take the call."""
    if (
        torch.compiler.is_compiling()
        or type(dim) is not int
        or (dtype is not None and dtype != input.dtype)
    ):
        return None
    view = kernel_view(input)
    if view is None:
        return None
    dims = len(view.shape)
    if not -dims <= dim < dims:
        return None
    if dim < 0:
        dim += dims
    if torch.is_grad_enabled() and input.requires_grad:
        return _recorded_softmax(input, dim, is_log)
    return _softmax_of(input, dim, is_log)


def softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None
) -> Tensor:
    """The softmax function: exp(x) over the sum of exp(x) along ``dim``.

    Args:
        input: a tensor of any shape.
        dim: the dimension along which to normalize; without it torch chooses one, and warns.
        _stacklevel: how far above the call the warning points; torch's, for its own use.
        dtype: the dtype that ``input`` is converted to first. If it is another one, torch computes the result.

    Returns:
        A tensor of the shape of ``input``, whose sums along ``dim`` are 1.

    Raises:
        TypeError, RuntimeError, IndexError: for what torch refuses, in its words.

    References:
        Bridle (1990), Training stochastic model recognition algorithms as networks can lead to
        maximum mutual information estimation of parameters.

    Example:
        >>> import torch, pyinit
        >>> pyinit.functional.softmax(torch.tensor([0.0, 1.0, 2.0]), dim=0)
        tensor([0.0900, 0.2447, 0.6652])
    """
    output = _softmaxed(input, dim, dtype, False)
    return torchs.softmax(input, dim, _stacklevel + 1, dtype) if output is None else output


def log_softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None
) -> Tensor:
    """The logarithm of ``softmax``: x - log(sum of exp(x) along ``dim``).

    Args:
        input: a tensor of any shape.
        dim: the dimension along which to normalize; without it torch chooses one, and warns.
        _stacklevel: how far above the call the warning points; torch's, for its own use.
        dtype: the dtype that ``input`` is converted to first. If it is another one, torch computes the result.

    Returns:
        A tensor of the shape of ``input``.

    Raises:
        TypeError, RuntimeError, IndexError: for what torch refuses, in its words.

    References:
        Blanchard, Higham and Higham (2021), Accurately computing the log-sum-exp and softmax
        functions.

    Example:
        >>> import torch, pyinit
        >>> pyinit.functional.log_softmax(torch.tensor([0.0, 1.0, 2.0]), dim=0)
        tensor([-2.4076, -1.4076, -0.4076])
    """
    output = _softmaxed(input, dim, dtype, True)
    return torchs.log_softmax(input, dim, _stacklevel + 1, dtype) if output is None else output
