"""Where tensors lie in memory, and which of them the kernels may read or write.

=======================  ===================================================================
``writable_flat_view``   what a fill may write; dense memory counts as one dimension
``writable_view``        the same, with the tensor's own shape
``readable_view``        what a kernel may read, with the tensor's own shape
``view_of``              any tensor in the CPU's memory: one that was made here, for instance
``is_placeholder``       an empty tensor in the place of a parameter that ZeRO-3 has partitioned
``Backwards``            an array with negative steps, which torch has no tensors for
=======================  ===================================================================
"""

from collections.abc import Callable, Iterable
from functools import cache
from itertools import pairwise
from operator import mul
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.overrides import _get_current_function_mode_stack, has_torch_function_variadic
from torch.utils._device import DeviceContext

from pyinit import _core

View: TypeAlias = _core.View
"""Where a tensor lies: ``address``, ``dtype`` (its code), ``shape`` and ``strides`` (in elements)."""

DTYPES = {
    torch.float16: _core.FLOAT16,
    torch.bfloat16: _core.BFLOAT16,
    torch.float32: _core.FLOAT32,
    torch.float64: _core.FLOAT64,
}
LARGEST = {code: torch.finfo(dtype).max for dtype, code in DTYPES.items()}
MOST_ELEMENTS = 2**60  # whose bytes an address can tell
ITEM_SIZES = {code: dtype.itemsize for dtype, code in DTYPES.items()}
"""Bytes of an element, by dtype code."""

FLOATS = (_core.FLOAT32, _core.FLOAT64)
"""Codes of the dtypes that convolutions, columns and activations compute in."""

_dispatch_modes = torch._C._len_torch_dispatch_stack
_functorch_transform = torch._C._functorch.peek_interpreter_stack
_is_tracing = torch._C._is_tracing
_function_modes: Callable[[], list[object]] = _get_current_function_mode_stack


@cache
def dtype_name(dtype: torch.dtype) -> str:
    """A dtype's name as messages and reports give it, such as ``float32``."""
    return str(dtype).removeprefix("torch.")


def overridden(tensor: Tensor) -> bool:
    """Whether a tensor subclass or a torch function mode has to see the call.

    A device context only redirects the making of tensors, so it need not.
    """
    if not has_torch_function_variadic(tensor):
        return False
    plain = type(tensor) is Tensor or type(tensor) is Parameter
    return not plain or any(type(mode) is not DeviceContext for mode in _function_modes())


def is_overridden(*tensors: object) -> bool:
    """Whether any of the arguments is an ``overridden`` tensor."""
    return any(overridden(x) for x in tensors if isinstance(x, Tensor))


def is_transformed() -> bool:
    """Whether a dispatch mode, a function transform or a tracer has to see the call."""
    return _dispatch_modes() != 0 or _functorch_transform() is not None or _is_tracing()


def is_placeholder(tensor: Tensor) -> bool:
    """Whether DeepSpeed's ZeRO-3 has left an empty tensor in the place of a parameter that it has partitioned."""
    # A subclass, or a mode, is shown nothing unless it is one.
    return (
        "ds_shape" in getattr(tensor, "__dict__", ()) and tensor.dim() == 1 and tensor.numel() == 0
    )


_EMPTY = (0,)  # the shape of a placeholder


def whole_shape(tensor: Tensor) -> tuple[int, ...]:
    """A tensor's shape, or that of the parameter in whose place ZeRO-3 has left an empty one."""
    shape = tensor.shape
    return tuple(tensor.ds_shape if shape == _EMPTY and is_placeholder(tensor) else shape)  # type: ignore[attr-defined]


def writable_flat_view(tensor: Tensor) -> View | None:
    """Where a fill may write, with dense memory as one dimension; None where torch must do it."""
    kind = type(tensor)
    if (
        (kind is not Parameter and kind is not Tensor)
        or (has_torch_function_variadic(tensor) and overridden(tensor))
        or _dispatch_modes()
        or _functorch_transform() is not None
        or _is_tracing()
        or tensor.is_neg()
    ):
        return tensor.view_of_array if kind is Backwards else None  # type: ignore[attr-defined]
    if tensor.is_inference():
        refuse_inference(tensor)
    return _find_writable(tensor)


def writable_flat_views(tensors: list[Tensor]) -> list[View | None]:
    """``writable_flat_view`` of each tensor, where it is an ordinary one; None for the others."""
    return _core.usual_targets(tensors)


def writable_view(tensor: Tensor) -> View | None:
    """Where a fill may write, with the tensor's own shape; None where torch must do it."""
    view = writable_flat_view(tensor)
    return None if view is None else with_shape(view, tensor)


def with_shape(view: View, tensor: Tensor) -> View:
    """The ``writable_view`` of a tensor whose ``writable_flat_view`` is known."""
    if len(view.shape) != 1:
        return view
    return View((view.address, view.dtype, tuple(tensor.shape), tensor.stride()))


def readable_view(tensor: Tensor) -> View | None:
    """Where a kernel finds a plain tensor's elements, with the tensor's own shape; None for others."""
    kind = type(tensor)
    if (kind is not Tensor and kind is not Parameter) or tensor.is_neg():
        return None
    return _find_readable(tensor)


def view_of(tensor: Tensor) -> View:
    """Where a tensor lies that is known to have memory of the CPU, such as one that was made here."""
    return _find_readable(tensor)  # type: ignore[return-value]  # cast() would take as long as this


def writable_by_methods(tensor: Tensor) -> View | None:
    """The view that ``_core.dlpack_target`` finds, for a torch without DLPack's exchange interface."""
    code = DTYPES.get(tensor.dtype)
    if code is None or not tensor.is_cpu or tensor.is_nested or is_placeholder(tensor):
        return None
    try:
        address = tensor.data_ptr()
    except RuntimeError:  # a layout without one block of memory: sparse, mkldnn
        return None
    if tensor.is_contiguous():
        count = tensor.numel()
        # A zero tensor of automatic differentiation has elements and no memory.
        return View((address, code, (count,), (1,))) if address or not count else None
    return _strided_view(tensor, address, code)


def readable_by_methods(tensor: Tensor) -> View | None:
    """The view that ``_core.dlpack_memory`` finds, for a torch without DLPack's exchange interface."""
    code = DTYPES.get(tensor.dtype)
    if code is None or not tensor.is_cpu or tensor.layout != torch.strided or tensor.is_nested:
        return None
    try:
        address = tensor.data_ptr()
    except RuntimeError:  # a wrapper of another tensor, as of a batch of gradients
        return None
    if not address and tensor.numel():  # a zero tensor of automatic differentiation
        return None
    return View((address, code, tuple(tensor.shape), tensor.stride()))


def _strided_view(tensor: Tensor, address: int, code: int) -> View | None:
    shape, strides = tuple(tensor.shape), tensor.stride()
    is_free = _core.non_overlapping(shape, strides)
    return View((address, code, shape, strides)) if is_free else None


_exchange_api = getattr(Tensor, "__dlpack_c_exchange_api__", None)
_has_exchange_api = _exchange_api is not None and _core.set_exchange_api(_exchange_api)
_core.set_questions(
    Tensor,
    Parameter,
    (torch._C._len_torch_function_stack, _dispatch_modes, _functorch_transform, _is_tracing),
    (Tensor.is_neg, Tensor.is_inference),
    torch._C._increment_version,
)
_Find: TypeAlias = Callable[[Tensor], View | None]
_find_writable: _Find = _core.dlpack_target if _has_exchange_api else writable_by_methods
_find_readable: _Find = _core.dlpack_memory if _has_exchange_api else readable_by_methods
_core.set_find_readable(None if _has_exchange_api else readable_by_methods)


def refuse_inference(tensor: Tensor) -> None:
    """Raise torch's error for a write outside inference mode; torch writes before it raises."""
    if tensor.is_inference() and not torch.is_inference_mode_enabled():
        with torch.inference_mode():
            empty = torch.empty(0, device="cpu")
        empty.zero_()


class Backwards(Tensor):
    """The memory of an array with negative steps, which torch has no strides for.

    Torch sees the array with these dimensions reversed, and kernels see it as it is.

    Attributes:
        view_of_array: where the array's elements lie
        reversed_dims: the dimensions with negative steps
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    view_of_array: View
    reversed_dims: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor, view: View, reversed_dims: tuple[int, ...]) -> "Backwards":
        """A tensor of this class: the array with dimensions reversed, and where the array lies."""
        made = tensor.as_subclass(cls)
        made.view_of_array, made.reversed_dims = view, reversed_dims
        return made

    def copy_(self, source: Tensor) -> "Backwards":  # type: ignore[override]
        """Write the values of a tensor into the array, each at its own index."""
        super().copy_(source.flip(self.reversed_dims))
        return self


def extent(view: View) -> int:
    """The bytes from a view's lowest element to behind its highest; 0 without elements."""
    size, shape, strides = ITEM_SIZES[view.dtype], view.shape, view.strides
    if len(shape) == 1 and strides[0] == 1:
        return size * shape[0]
    steps = [*map(abs, strides)]
    return 0 if 0 in shape else size * (1 + sum(map(mul, shape, steps)) - sum(steps))


def may_share_memory(views: Iterable[View]) -> bool:
    """Whether any two views reach over the same memory, though they may share no element."""
    spans = sorted((start := _lowest(view), start + extent(view)) for view in views)
    return any(end > start for (_, end), (start, _) in pairwise(spans))


def _lowest(view: View) -> int:
    """The address of a view's lowest element, which is not the first one where a stride is negative."""
    dims = zip(view.shape, view.strides, strict=True)
    offset = sum((size - 1) * stride for size, stride in dims if stride < 0)
    return view.address + offset * ITEM_SIZES[view.dtype]


def centre_of(view: View) -> View:
    """The matrix (out, in) at the tap of a convolution's weight that "same" padding puts on a pixel."""
    address, code, shape, strides = view
    taps = zip(shape[2:], strides[2:], strict=True)
    offset = sum((size - 1) // 2 * stride for size, stride in taps)
    return View((address + offset * ITEM_SIZES[code], code, shape[:2], strides[:2]))
