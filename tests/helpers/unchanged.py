"""All that a call must leave as it was: a model, its optimizer, tensors, generators."""

import random
from typing import Any

import numpy as np
import torch
from bits import same_bits
from torch import Tensor, nn
from torch.optim import Optimizer

_HOOKS = (
    *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"),
    *("_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
)


def state_of(*things: Any) -> list[Any]:
    """What models, optimizers and tensors hold, by identity and by value, and the generators' states."""
    held: list[Any] = []
    for thing in things:
        if isinstance(thing, nn.Module):
            held += _of_model(thing)
        elif isinstance(thing, Optimizer):
            held += [list(thing._optimizer_step_pre_hooks), list(thing._optimizer_step_post_hooks)]
            held += [_copy(each) for each in _leaves(thing.state_dict())]
        elif isinstance(thing, Tensor):
            held += _of_tensor(thing)
    generators = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    return [*held, *generators, torch.is_grad_enabled(), torch.get_default_dtype()]


def assert_as_before(now: list[Any], before: list[Any]) -> None:
    """Two states are the same, bit for bit."""
    assert len(now) == len(before)
    for a, b in zip(now, before, strict=True):
        assert same_bits(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a == b


def _of_model(model: nn.Module) -> list[Any]:
    held: list[Any] = []
    for module in model.modules():
        held += [type(module), module.training, list(vars(module))]
        held += [list(getattr(module, name).items()) for name in _HOOKS]
        held += [id(each) for each in module._modules.values()]
        for tensors in (module._parameters, module._buffers):
            held += [
                part for each in tensors.values() if each is not None for part in _of_tensor(each)
            ]
    return held


def _of_tensor(tensor: Tensor) -> list[Any]:
    held: list[Any] = [id(tensor), tensor.requires_grad, _copy(tensor)]
    if tensor.is_leaf:
        held += [id(tensor.grad), list(tensor._backward_hooks or ())]
        held += [] if tensor.grad is None else [_copy(tensor.grad)]
    return held


def _copy(value: Any) -> Any:
    """Of a tensor that has values, a copy."""
    if not isinstance(value, Tensor) or nn.parameter.is_lazy(value) or value.is_meta:
        return value if not isinstance(value, Tensor) else id(value)
    return value.detach().clone()


def _leaves(value: Any) -> list[Any]:
    return list(torch.utils._pytree.tree_leaves(value))
