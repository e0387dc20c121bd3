"""Convolutions as operators of torch's dispatcher, where tracers and transforms can see them.

    pyinit::convolution(image, weight, size, ...)             -> result
    pyinit::convolution_transposed(result, weight, size, ...) -> image
    pyinit::convolution_weight(image, result, size, ...)      -> weight

``size`` is the output's, without its first two dimensions. The callers have checked that all sizes fit
together.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._decomp import register_decomposition
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.autograd import forward_ad
from torch.compiler import is_dynamo_compiling
from torch.nn import Parameter

from pyinit import _core
from pyinit._functional.compute import gradients
from pyinit._functional.decompositions import DECOMPOSITIONS
from pyinit._functional.geometry import (
    IMAGE,
    OPERANDS,
    RESULT,
    WEIGHT,
    Geometry,
    Shape,
    dense_strides,
    plan_of,
)
from pyinit._torch.views import DTYPES, FLOATS

_SCHEMA = (
    "(Tensor first, Tensor second, SymInt[] size, SymInt[] stride, SymInt[] padding, "
    "SymInt[] dilation, SymInt groups, bool channels_last) -> Tensor"
)
_NAMES = ("convolution_transposed", "convolution_weight", "convolution")  # by target
_TRACERS = (
    torch._C._TorchDispatchModeKey.PROXY,
    torch._C._TorchDispatchModeKey.FAKE,
    torch._C._TorchDispatchModeKey.FUNCTIONAL,
)
_OF_TRACERS = (FakeTensor, FunctionalTensor)
_mode: Callable[[Any], object] = torch._C._get_dispatch_mode
_functorch_transform = torch._C._functorch.peek_interpreter_stack


def traces_operators() -> bool:
    """Whether a compiler, a tracer or a function transform sees this call, and should see an operator."""
    if forward_ad._current_level >= 0 or torch.is_autocast_enabled("cpu"):
        return False  # operators have neither a forward derivative nor a rule for autocast
    if is_dynamo_compiling():
        # The compiler cannot look into operators differentiated by a transform.
        return not torch._C._are_functorch_transforms_active()
    if torch._C._is_tracing():
        return False
    return _functorch_transform() is not None or any(_mode(key) is not None for key in _TRACERS)


def has_kernel(tensor: Tensor) -> bool:
    """Whether kernels exist for such tensors, be they real ones or a tracer's."""
    return (
        isinstance(tensor, Tensor)
        and (type(tensor) in (Tensor, Parameter) or isinstance(tensor, _OF_TRACERS))
        and tensor.device.type == "cpu"
        and DTYPES.get(tensor.dtype) in FLOATS
        and tensor.layout is torch.strided
    )


class _Operator:
    """One of the three operators: its kernel, and what torch has to know about it."""

    def __init__(self, target: int, library: torch.library.Library) -> None:
        self.target = target
        self.operands = OPERANDS[target]
        name = f"pyinit::{_NAMES[target]}"
        torch.library.define(name, _SCHEMA, lib=library, tags=torch.Tag.pt2_compliant_tag)
        torch.library.impl(name, "CPU", self.run, lib=library)
        torch.library.register_fake(name, self.fake, lib=library)
        torch.library.register_autograd(name, self.backward, setup_context=self.keep, lib=library)
        torch.library.register_vmap(name, self.batched, lib=library)
        overload = getattr(torch.ops.pyinit, _NAMES[target]).default
        register_decomposition(overload, unsafe=True)(DECOMPOSITIONS[target])
        # Fake tensors of symbolic sizes would go by the decomposition, whose strides may be others.
        register_decomposition(overload, type="meta", unsafe=True)(self.fake)

    def shape(self, first: Tensor, second: Tensor, size: Sequence[int], groups: int) -> Shape:
        leading = {
            RESULT: (first.shape[0], second.shape[0]),
            IMAGE: (first.shape[0], second.shape[1] * groups),
            WEIGHT: (second.shape[1], first.shape[1] // groups),
        }
        return (*leading[self.target], *size)

    def run(self, first: Tensor, second: Tensor, size: Sequence[int], *window: Any) -> Tensor:
        stride, padding, dilation, groups, channels_last = window
        shapes = {
            kind: tuple(x.shape) for kind, x in zip(self.operands, (first, second), strict=True)
        }
        shapes[self.target] = self.shape(first, second, size, groups)
        geometry = Geometry(
            (shapes[IMAGE], shapes[WEIGHT], shapes[RESULT]),
            channels_last,
            tuple(stride),
            tuple(padding),
            tuple(dilation),
            groups,
        )
        plan = plan_of(geometry, DTYPES[first.dtype])
        out: Tensor | None = _core.contracted(self.target, plan, first, second)
        if out is None:
            raise RuntimeError(f"pyinit::{_NAMES[self.target]} takes plain strided tensors")
        return out

    def fake(self, first: Tensor, second: Tensor, size: Sequence[int], *window: Any) -> Tensor:
        *_, groups, channels_last = window
        shape = self.shape(first, second, size, groups)
        return first.new_empty_strided(shape, dense_strides(shape, channels_last))

    def keep(self, ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG002
        first, second, _, *ctx.window = inputs
        ctx.save_for_backward(first, second)

    def backward(self, ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        operands = ctx.saved_tensors
        sizes = {kind: x.shape[2:] for kind, x in zip(self.operands, operands, strict=True)}

        def contract(kind: int, first: Tensor, second: Tensor) -> Tensor:
            return operate(kind, first, second, sizes[kind], *ctx.window)

        made = gradients(self.target, grad, operands, ctx.needs_input_grad[-8:-6], contract)
        return (*made, None, None, None, None, None, None)

    def batched(
        self,
        info: Any,
        in_dims: tuple[int | None, ...],
        first: Tensor,
        second: Tensor,
        size: Sequence[int],
        *window: Any,
    ) -> tuple[Tensor, int]:
        """Many images with one weight make a larger batch; everything else makes more groups."""
        *numbers, groups, channels_last = window
        count = info.batch_size
        if self.target != WEIGHT and in_dims[1] is None:
            many = _joined(first, in_dims[0], 0, count)
            out = operate(self.target, many, second, size, *window)
            return _split(out, 0, count), 0
        both = [
            _joined(x, dim, _channels(kind), count)
            for kind, x, dim in zip(self.operands, (first, second), in_dims, strict=False)
        ]
        out = operate(self.target, both[0], both[1], size, *numbers, groups * count, channels_last)
        place = _channels(self.target)
        return _split(out, place, count), place


class _Transformed(torch.autograd.Function):
    """An operator for eager function transforms, which differentiate only this kind of function."""

    @staticmethod
    def forward(operator: _Operator, *arguments: Any) -> Tensor:
        out: Tensor = getattr(torch.ops.pyinit, _NAMES[operator.target])(*arguments)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.operator = inputs[0]
        ctx.operator.keep(ctx, inputs[1:], output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return None, *ctx.operator.backward(ctx, grad)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], operator: _Operator, *arguments: Any
    ) -> tuple[Tensor, int]:
        return operator.batched(info, in_dims[1:], *arguments)


_transformed: Callable[..., Tensor] = _Transformed.apply


def operate(
    target: int, first: Tensor, second: Tensor, size: Sequence[int], *window: Any
) -> Tensor:
    """The image, the weight or the result, by the operator that makes it."""
    operator = _operators[target]
    out: Tensor
    if _functorch_transform() is not None and not is_dynamo_compiling():
        out = _transformed(operator, first, second, size, *window)
    else:
        out = getattr(torch.ops.pyinit, _NAMES[target])(first, second, size, *window)
    return out


def apply_operator(target: int, geometry: Geometry, first: Tensor, second: Tensor) -> Tensor:
    """``compute`` as an operator of torch's dispatcher."""
    shapes, channels_last, *window = geometry
    return operate(target, first, second, shapes[target][2:], *window, channels_last)


def _channels(kind: int) -> int:
    """The dimension that groups split."""
    return 0 if kind == WEIGHT else 1


def _joined(x: Tensor, dim: int | None, place: int, count: int) -> Tensor:
    """``count`` tensors in a row along ``place``: those stacked along ``dim``, or copies of ``x``."""
    stacked = x.expand(count, *x.shape) if dim is None else x.movedim(dim, 0)
    return stacked.movedim(0, place).flatten(place, place + 1)


def _split(x: Tensor, place: int, count: int) -> Tensor:
    """The ``count`` tensors that ``_joined`` has joined, stacked along ``place``."""
    return x.reshape(*x.shape[:place], count, -1, *x.shape[place + 1 :])


_library = torch.library.Library("pyinit", "DEF")  # type: ignore[no-untyped-call]  # torch's has no types
_operators = [_Operator(target, _library) for target in (IMAGE, WEIGHT, RESULT)]


def decomposed_operators() -> dict[torch._ops.OpOverload, Callable[..., Tensor]]:
    """The decomposition of each operator."""
    names = enumerate(_NAMES)
    return {getattr(torch.ops.pyinit, name).default: DECOMPOSITIONS[i] for i, name in names}
