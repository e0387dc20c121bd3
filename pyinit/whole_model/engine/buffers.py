"""Resets the buffers of a model, each as its module does it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils.parametrizations import _Orthogonal, _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm

import pyinit.init
from pyinit._random.rng import Source
from pyinit._torch.once import once
from pyinit.whole_model.engine.plan import Entry
from pyinit.whole_model.own_resets import stand_ins
from pyinit.whole_model.reparametrized import spectral_norm_of

Sources = Callable[[str], Source]
"""A function from the name of a parameter or module to the source of its random numbers."""

BufferReset = tuple[str, str, Callable[[Sources], Any]]
"""A module's name, how its buffers are reset, and what does it once the parameters are set."""


def plan_resets(
    modules: Mapping[str, nn.Module], is_touched: Callable[[str, nn.Module], bool]
) -> list[BufferReset]:
    """Find what resets the buffers of a model's modules.

    is_touched: whether the module of that name is being initialized

    Raises:
        ValueError: For buffers on the meta device that no module can make again.
    """
    resets: list[BufferReset] = []
    lost: list[str] = []
    for path, module in modules.items():
        if not module._buffers or not is_touched(path, module):
            continue
        without = [name for name, b in module._buffers.items() if b is not None and b.is_meta]
        found = _reset_of(path, module, modules)
        if found is not None:
            resets.append((path, *found))
        elif without:
            lost += [f"{path}.{name}" if path else name for name in without]
    if lost:
        raise ValueError(
            "buffers on the meta device whose values only their module's constructor knows: "
            f"{', '.join(lost[:10])}; build them outside of torch.device('meta')"
        )
    return resets


_ITERATION = "power iteration"
_BY_MODEL = "the model's _init_weights"
_METHOD = "init_non_persistent_buffers"


class IsTouched:
    """Whether the buffers of a module are to be reset.

    They are if one of the module's own parameters is initialized. If it has none, they are unless a
    parameter is left out anywhere, or all parameters around the module are kept.
    """

    def __init__(self, plan: Sequence[Entry]) -> None:
        self._plan = plan

    def __call__(self, path: str, module: nn.Module) -> bool:
        owner = path.partition(".parametrizations.")[0]
        if owner != path or _has_parameters(module):
            return owner in self._initialized
        around = next((p for p in _parents(path) if p in self._with_parameters), None)
        return self._all_are_meant and (around is None or around in self._changed)

    @once
    def _initialized(self) -> set[str]:
        return {entry.site.path for entry in self._plan if not entry.is_kept}

    @once
    def _changed(self) -> set[str]:
        return _with_parents(self._initialized)

    @once
    def _with_parameters(self) -> set[str]:
        return _with_parents({entry.site.path for entry in self._plan})

    @once
    def _all_are_meant(self) -> bool:
        return not any(entry.is_left_out for entry in self._plan)


def _with_parents(paths: set[str]) -> set[str]:
    return paths.union(*map(_parents, paths))


def _reset_of(
    path: str, module: nn.Module, modules: Mapping[str, nn.Module]
) -> tuple[str, Callable[[Sources], Any]] | None:
    hooks = list(spectral_norm_of(module)) if module._forward_pre_hooks else []
    if hooks:
        return _ITERATION, lambda sources: _iterate_hooks(module, hooks, sources(path))
    if isinstance(module, _SpectralNorm):
        around = modules[path.rpartition(".")[0]]
        return _ITERATION, lambda sources: _iterate(module, around, sources(path))
    if isinstance(module, _Orthogonal):
        return "set with the weight", lambda _: None
    if isinstance(module, _NormBase):
        return "reset_running_stats", lambda _: module.reset_running_stats()
    return _reset_by_method(module) or _reset_by_model(path, module, modules)


def _reset_by_method(module: nn.Module) -> tuple[str, Callable[[Sources], Any]] | None:
    """Use init_non_persistent_buffers, by which modules of timm make buffers, as of relative positions."""
    own = getattr(module, _METHOD, None)
    without = [name for name, b in module._buffers.items() if b is not None and b.is_meta]
    if not (without and callable(own) and _makes(lambda _: own(), module, without)):
        return None
    return f"its own {_METHOD}", lambda _: own()


def _reset_by_model(
    path: str, module: nn.Module, modules: Mapping[str, nn.Module]
) -> tuple[str, Callable[[Sources], Any]] | None:
    """Use _init_weights, in which models of transformers make buffers, as of rotary embeddings."""
    without = [name for name, b in module._buffers.items() if b is not None and b.is_meta]
    owns = (getattr(modules.get(parent), "_init_weights", None) for parent in _parents(path))
    own = next(filter(callable, owns), None) if without else None
    if own is None or not _makes(own, module, without):
        return None
    return _BY_MODEL, lambda _: _without_parameters(own, module)


def _makes(own: Callable[[nn.Module], Any], module: nn.Module, names: Sequence[str]) -> bool:
    """Whether ``own`` gives the module's buffers values. It is tried on the meta device."""
    before = dict(module._buffers)
    try:
        placed = {name: torch.empty_like(before[name]) for name in names}  # type: ignore[arg-type]
        module._buffers.update(placed)
        _without_parameters(own, module)
        after = ((module._buffers[name], new) for name, new in placed.items())
        return all(b is not None and (b is not new or b._version > 0) for b, new in after)
    except Exception:  # noqa: BLE001  whatever keeps it from working on the meta device
        return False
    finally:
        module._buffers.update(before)


@torch.no_grad()
def _without_parameters(own: Callable[[nn.Module], Any], module: nn.Module) -> None:
    """Call ``own`` while the parameters are away, those of inner modules included: it would fill these, too."""
    with stand_ins(module, _away), torch.random.fork_rng(devices=[]):
        own(module)


def _away(tensor: Tensor) -> Tensor:
    is_parameter = isinstance(tensor, nn.Parameter)
    return torch.empty_like(tensor, device="meta") if is_parameter else tensor


def _has_parameters(module: nn.Module) -> bool:
    """Whether the module owns a parameter itself; one without affine parameters has them as None."""
    return any(parameter is not None for parameter in module._parameters.values())


def _parents(path: str) -> Iterator[str]:
    """The names of the modules around the one with this name, inner ones first; "" is the model."""
    while path:
        path = path.rpartition(".")[0]
        yield path


_ITERATIONS = 15  # the parametrization's constructor does as many


@torch.no_grad()
def _iterate(module: _SpectralNorm, parametrizations: nn.Module, source: Source) -> None:
    """Find the vectors that spectral_norm keeps again, for the new weight."""
    values: tuple[Any, ...] = tuple(parametrizations._parameters.values())
    for step in takewhile(lambda step: step is not module, parametrizations.children()):
        values = (step(*values),)
    (weight,) = values
    if weight.ndim <= 1:
        return
    _draw_unit((module._u, module._v), module.eps, source)
    module._power_method(module._reshape_weight_to_matrix(weight), _ITERATIONS)


@torch.no_grad()
def _iterate_hooks(module: nn.Module, hooks: Iterable[SpectralNorm], source: Source) -> None:
    for hook in hooks:
        vectors = [module.get_buffer(f"{hook.name}_{vector}") for vector in "uv"]
        _draw_unit(vectors, hook.eps, source)
        for _ in range(_ITERATIONS):
            value = hook.compute_weight(module, do_power_iteration=True)
        setattr(module, hook.name, value)


def _draw_unit(vectors: Iterable[Tensor], eps: float, source: Source) -> None:
    for vector in vectors:
        pyinit.init.normal_(vector, 0.0, 1.0, source)
        vector.div_(vector.norm().clamp_min(eps))
