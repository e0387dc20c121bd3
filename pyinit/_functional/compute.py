"""What ``_core`` asks of torch for a convolution, and which gradients are made of what."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter
from torch.overrides import has_torch_function_variadic

from pyinit import _core
from pyinit._functional.geometry import OPERANDS, Plan
from pyinit._torch.views import DTYPES, is_overridden

_CPU = torch.device("cpu")
_empty_strided = torch.empty_strided  # torch's own, whatever stands under the name later
_DTYPE_OF = {code: dtype for dtype, code in DTYPES.items()}

is_watched: Callable[..., bool] = _core.is_watched
"""Whether anything but automatic differentiation has to see what is done with the tensors."""


def template_of(plan: Plan, target: int) -> tuple[Tensor]:
    """A tensor like the output of calls with this plan, without memory, in a tuple."""
    with torch.inference_mode(False):
        shape = plan.geometry.shapes[target]
        made = _empty_strided(shape, plan.strides[target], dtype=_DTYPE_OF[plan.dtype], device=_CPU)
        made.untyped_storage().resize_(0)
    return (made,)


_core.set_torch_functions(
    tensor=Tensor,
    parameter=Parameter,
    is_neg=torch._C.TensorBase.is_neg,
    requires_grad=torch._C.TensorBase.requires_grad,
    dispatch_modes=torch._C._len_torch_dispatch_stack,
    transform=torch._C._functorch.peek_interpreter_stack,
    is_tracing=torch._C._is_tracing,
    is_any_autocast_enabled=torch._C._is_any_autocast_enabled,
    is_autocast_enabled=torch.is_autocast_enabled,
    forward_derivatives=vars(forward_ad),
    has_torch_function=has_torch_function_variadic,
    is_overridden=is_overridden,
    is_grad_enabled=torch.is_grad_enabled,
    get_num_threads=torch.get_num_threads,
    empty_like=torch.empty_like,
)


def gradients(
    target: int,
    grad: Tensor,
    operands: Sequence[Tensor],
    wanted: Sequence[bool],
    contract: Callable[[int, Tensor, Tensor], Tensor],
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients by the operands of ``target``, given ``grad``, the gradient by ``target`` itself.

    Those that are not wanted are None and are not computed; ``contract`` computes each of the others.
    """
    one, other = OPERANDS[target]
    known = {target: grad, one: operands[0], other: operands[1]}

    def by(kind: int) -> Tensor:
        first, second = OPERANDS[kind]
        return contract(kind, known[first], known[second])

    return by(one) if wanted[0] else None, by(other) if wanted[1] else None
