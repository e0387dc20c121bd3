"""Which tensors hold their values in memory of their own, where a write to them lasts."""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import (
    _get_current_dispatch_mode_stack,
    is_traceable_wrapper_subclass,
)

from pyinit._torch.initialized_flags import FLAG
from pyinit._torch.views import is_placeholder, readable_view, writable_flat_views

_SAYING_NOTHING = frozenset({FLAG})
"""Attributes of tensors that tell nothing of where their values are."""


def refuse_elsewhere(
    call: str, named: Iterable[tuple[str, Tensor]], model: nn.Module | None = None
) -> None:
    """Refuse to write tensors whose values are elsewhere, as sharded, offloaded and fake ones are.

    call: the function that would write, for the error
    named: the names and tensors that it would write; those on the meta device count as holding their
        values, unless something else holds them
    model: the model to which they belong, whose hooks and wrappers may hold values

    Raises:
        ValueError: if there are such tensors; it names them and says where their values are.
    """
    fake = loaded("torch._subclasses.fake_tensor", "FakeTensorMode")
    if fake and any(isinstance(mode, fake) for mode in _get_current_dispatch_mode_stack()):
        raise ValueError(f"{call} cannot write under FakeTensorMode, where no tensor has values")
    tensors = list(named)
    held = {} if model is None or not tensors else dict(_held_by_modules(model))
    views = writable_flat_views([tensor for _, tensor in tensors])
    found = [
        f"{name} ({where})"
        for (name, tensor), view in zip(tensors, views, strict=True)
        if held or view is None or not tensor.__dict__.keys() <= _SAYING_NOTHING
        if (where := held.get(id(tensor)) or elsewhere(tensor)) is not None
    ]
    if found:
        shown = ", ".join(found[:10]) + (", ..." if len(found) > 10 else "")
        raise ValueError(
            f"{call} takes tensors that have their values in memory of their own, got "
            f"{len(found)} that have not: {shown}"
        )


def refuse_distributed(name: str, tensor: Tensor) -> None:
    """Raise for a DTensor, where a write into a part of it, or by ``out=``, does not reach its shards.

    torch's own functions that write so return zeros, uninitialized memory, or a broken DTensor.
    """
    if is_dtensor(tensor):
        raise TypeError(
            f"{name} must not be a DTensor, whose elements depend on each other here: fill a plain "
            "tensor, and distribute it by torch.distributed.tensor.distribute_tensor"
        )


def refuse_partitioned(name: str, tensor: Tensor) -> None:
    """Raise for a parameter that ZeRO-3 has partitioned, where processes would have to hand parts around."""
    if is_placeholder(tensor):
        raise TypeError(
            f"{name} must not be partitioned by DeepSpeed's ZeRO-3, since its elements depend on each "
            f"other here: {GATHER}"
        )


def says_nothing(tensor: Tensor) -> bool:
    """Whether a plain parameter bears no mark by which its values could be elsewhere, or in part here."""
    return type(tensor) is nn.Parameter and tensor.__dict__.keys() <= _SAYING_NOTHING


GATHER = "give another initializer, or gather the parameter by deepspeed.zero.GatheredParameters"


def elsewhere(tensor: Tensor) -> str | None:
    """Where a tensor's values are, in words; None if it holds them, or has none on the meta device."""
    kind = type(tensor)
    is_plain = kind is nn.Parameter or kind is Tensor
    # To ask for the memory of a tensor on the meta device is an error, which costs milliseconds.
    if (
        is_plain
        and tensor.__dict__.keys() <= _SAYING_NOTHING
        and not tensor.is_meta
        and readable_view(tensor) is not None
    ):
        return None
    return next((where for is_so, where in _KINDS if is_so(tensor)), None)


def loaded(module: str, name: str) -> Any:
    """A class, or None if its module has not been imported: then it has no instances."""
    return getattr(sys.modules.get(module), name, None)


def _is_a(module: str, name: str) -> Callable[[Tensor], bool]:
    def is_so(tensor: Tensor) -> bool:
        cls = loaded(module, name)
        return cls is not None and isinstance(tensor, cls)

    return is_so


def _has_no_memory(tensor: Tensor) -> bool:
    if tensor.is_meta or tensor.layout is not torch.strided or tensor.numel() == 0:
        return False
    try:
        return tensor.data_ptr() == 0
    except RuntimeError:  # its device has no addresses
        return False


is_dtensor = _is_a("torch.distributed.tensor", "DTensor")
is_fake = _is_a("torch._subclasses.fake_tensor", "FakeTensor")


def has_dtensors(tensors: Iterable[Tensor]) -> bool:
    """Whether any of the tensors is a DTensor."""
    return loaded("torch.distributed.tensor", "DTensor") is not None and any(
        map(is_dtensor, tensors)
    )


_KINDS: tuple[tuple[Callable[[Tensor], bool], str], ...] = (
    (is_placeholder, "partitioned by DeepSpeed's ZeRO-3"),
    (lambda tensor: getattr(tensor, "_is_flat_param", False), "several parameters, flattened"),
    (is_dtensor, "a DTensor, sharded over a mesh"),
    (is_fake, "a FakeTensor, which has none"),
    (torch._C._functorch.is_functorch_wrapped_tensor, "inside a transform of torch.func"),
    (torch._is_functional_tensor, "inside functionalization"),
    (is_traceable_wrapper_subclass, "a wrapper of other tensors"),
    (_has_no_memory, "without memory: freed, or a wrapper of other tensors"),
)


def _held_by_modules(model: nn.Module) -> Iterator[tuple[int, str]]:
    """The identity of each tensor whose values a hook or wrapper holds, and where they are."""
    fsdp = loaded("torch.distributed.fsdp", "FullyShardedDataParallel")
    waiting: list[nn.Module | None] = [model]
    seen: set[nn.Module | None] = {None}
    for module in waiting:
        if module is None or module in seen:
            continue
        seen.add(module)
        waiting += module._modules.values()
        if "_hf_hook" in module.__dict__:
            for tensor in (*module.parameters(), *module.buffers()):
                if tensor.is_meta:
                    yield id(tensor), "offloaded by a hook of accelerate's"
        if fsdp is None or not isinstance(module, fsdp):
            continue
        flat = getattr(module, "_flat_param", None)
        if flat is not None and flat._params is not None:
            for tensor, shape in zip(flat._params, flat._shapes, strict=True):
                if tensor.shape != shape:
                    yield id(tensor), "sharded by FullyShardedDataParallel"
