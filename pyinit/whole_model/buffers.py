"""The buffers of a model: reset as their module does it, where a module knows how."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils.parametrizations import _SpectralNorm

import pyinit.init
from pyinit._rng import Source

BufferReset = tuple[str, str, Callable[[], Any]]
"""A module's name, how its buffers are reset, and the work, to be done once parameters are set."""


def plan_resets(
    modules: Mapping[str, nn.Module],
    is_touched: Callable[[str, nn.Module], bool],
    source: Callable[[str], Source],
) -> list[BufferReset]:
    """What resets the buffers of a model's modules, by name.

    is_touched: whether the module of that name is being initialized
    source: where the numbers for a module of that name come from

    Raises:
        ValueError: for buffers on the meta device that no module can make again.
    """
    resets: list[BufferReset] = []
    lost: list[str] = []
    for path, module in modules.items():
        if not module._buffers or not is_touched(path, module):
            continue
        without = [name for name, b in module._buffers.items() if b is not None and b.is_meta]
        found = _reset_of(path, module, modules, source)
        if found is not None and (without or found[0] != _BY_MODEL):
            resets.append((path, *found))
        elif without:
            lost += [f"{path}.{name}" if path else name for name in without]
    if lost:
        raise ValueError(
            "buffers on the meta device whose values only their module's constructor knows: "
            f"{', '.join(lost[:10])}; build them outside of torch.device('meta')"
        )
    return resets


_BY_MODEL = "the model's _init_weights"


def _reset_of(
    path: str,
    module: nn.Module,
    modules: Mapping[str, nn.Module],
    source: Callable[[str], Source],
) -> tuple[str, Callable[[], Any]] | None:
    if isinstance(module, _NormBase):
        return "reset_running_stats", module.reset_running_stats
    if isinstance(module, _SpectralNorm):
        around = modules[path.rpartition(".")[0]]
        return "power iteration", lambda: _iterate(module, around, source(path))
    if module._parameters:
        return None
    # transformers' models make the buffers of rotary embeddings in _init_weights.
    for parent in _parents(path):
        own = getattr(modules.get(parent), "_init_weights", None)
        if callable(own):
            return _BY_MODEL, partial(own, module)
    return None


def _parents(path: str) -> Iterator[str]:
    while path:
        path = path.rpartition(".")[0]
        yield path


@torch.no_grad()
def _iterate(module: _SpectralNorm, parametrizations: nn.Module, source: Source) -> None:
    """The vectors that spectral_norm keeps, found again for the new weight."""
    weight: Tensor = parametrizations.original  # type: ignore[assignment]
    if weight.ndim <= 1:
        return
    matrix = module._reshape_weight_to_matrix(weight)
    for vector in (module._u, module._v):
        pyinit.init.normal_(vector, 0.0, 1.0, source)
        vector.div_(vector.norm().clamp_min(module.eps))
    module._power_method(matrix, 15)  # as often as its constructor
