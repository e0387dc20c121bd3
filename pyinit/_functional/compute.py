"""Convolutions by the kernels: which calls they may take, and the calls themselves."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import has_torch_function_variadic

from pyinit import _core
from pyinit._functional.epilogue import Epilogue
from pyinit._functional.geometry import OPERANDS, WEIGHT, Plan
from pyinit._torch.views import DTYPES, View, is_overridden, is_transformed

PackedView: TypeAlias = tuple[View, _core.PackedWeight]
"""A weight's view, and the same weight packed."""

_autocast_enabled = torch.is_autocast_enabled
_threads = torch.get_num_threads


def is_watched(*tensors: Tensor | None) -> bool:
    """Whether anything but automatic differentiation has to see what is done with the tensors."""
    return (
        is_transformed()
        or forward_ad._current_level >= 0
        or _autocast_enabled("cpu")
        or (has_torch_function_variadic(*tensors) and is_overridden(*tensors))
    )


def is_dense_row(view: View) -> bool:
    """Whether the view has one dimension, and its elements lie side by side."""
    return view.strides == (1,) or view.shape == (1,)


_DTYPE_OF = {code: dtype for dtype, code in DTYPES.items()}
_CPU = torch.device("cpu")


_KERNELS: tuple[Callable[..., None], ...] = (
    _core.convolve_transposed,
    _core.convolve_weight_gradient,
    _core.convolve,
)


def compute(
    target: int,
    plan: Plan,
    first: View,
    second: View | PackedView,
    bias: View | None = None,
    epilogue: Epilogue | None = None,
) -> Tensor:
    """The image, the weight or the result of a convolution, made of the other two.

    Args:
        target: ``IMAGE``, ``WEIGHT`` or ``RESULT``.
        plan: the plan of the call.
        first: the first of ``OPERANDS[target]``.
        second: the second of them; the weight of a ``RESULT`` may be packed.
        bias: added to each channel of an image or a result.
        epilogue: applied after the bias.
    """
    (shapes, _, stride, padding, dilation, groups), strides = plan
    dtype, shape, steps = first.dtype, shapes[target], strides[target]
    out = torch.empty_strided(shape, steps, dtype=_DTYPE_OF[dtype], device=_CPU)
    made = out.data_ptr(), dtype, shape, steps  # as good as a View for a kernel, and sooner made
    kernel = _KERNELS[target]
    if target == WEIGHT:
        kernel(first, second, made, stride, padding, dilation, groups, _threads())
    else:
        activation, parameter = (0, 0.0) if epilogue is None else epilogue[1:]
        kernel(
            first,
            second,
            bias,
            made,
            stride,
            padding,
            dilation,
            groups,
            activation,
            parameter,
            _threads(),
        )
    return out


def gradients(
    target: int,
    grad: Tensor,
    operands: Sequence[Tensor],
    wanted: Sequence[bool],
    contract: Callable[[int, Tensor, Tensor], Tensor],
) -> list[Tensor | None]:
    """The gradients by the operands of ``target``, given ``grad``, the gradient by ``target`` itself.

    Those that are not wanted are None and are not computed; ``contract`` computes each of the others.
    """
    known = {target: grad, **dict(zip(OPERANDS[target], operands, strict=True))}
    return [
        contract(operand, *(known[i] for i in OPERANDS[operand])) if is_wanted else None
        for operand, is_wanted in zip(OPERANDS[target], wanted, strict=True)
    ]
