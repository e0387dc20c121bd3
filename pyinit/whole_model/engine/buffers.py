"""Resets the buffers of a model, each as its module does it."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import takewhile
from operator import methodcaller
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils.parametrizations import _Orthogonal, _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm

import pyinit.init
from pyinit._messages import first_of, warn
from pyinit._random.rng import Source
from pyinit._torch.once import once
from pyinit.whole_model.engine.plan import Entry
from pyinit.whole_model.own_resets import stand_ins, whole_on_meta
from pyinit.whole_model.reparametrized import spectral_norm_of

Sources = Callable[[str], Source]
"""A function from the name of a parameter or module to the source of its random numbers."""

BufferReset = tuple[str, str, Callable[[Sources], Any]]
"""A module's name, how its buffers are reset, and what does it once the parameters are set."""


def plan_resets(
    modules: Mapping[str, nn.Module],
    is_touched: Callable[[str, nn.Module], bool],
    *,
    may_be_empty: bool = False,
) -> list[BufferReset]:
    """Find what resets the buffers of a model's modules.

    is_touched: whether the module of that name is being initialized
    may_be_empty: whether buffers in memory may have got it from ``to_empty``, which does not show. Then
        they are all made again, and a warning tells of those of which nobody knows how

    Raises:
        ValueError: For buffers on the meta device that no module can make again.
    """
    resets: list[BufferReset] = []
    unknown: dict[str, Tensor] = {}
    for path, module in modules.items():
        if not module._buffers or not is_touched(path, module):
            continue
        lost = {
            name: b
            for name, b in module._buffers.items()
            if b is not None and (b.is_meta or may_be_empty)
        }
        found = _reset_of(path, module, modules, lost)
        if found is not None:
            resets.append((path, *found))
        else:
            unknown |= {f"{path}.{name}" if path else name: b for name, b in lost.items()}
    without = [name for name, buffer in unknown.items() if buffer.is_meta]
    if without:
        raise ValueError(
            "buffers on the meta device whose values only their module's constructor knows: "
            f"{first_of(without)}; build them outside of torch.device('meta')"
        )
    if unknown:
        warn(
            f"nothing of the model makes these buffers again: {first_of(list(unknown))}. If they have "
            "their memory from to_empty(), they hold no values until you set them, or give the module "
            "a method _init_buffers() that makes them"
        )
    return resets


_ITERATION = "power iteration"
_BY_MODEL = "the model's _init_weights"
# Methods that make buffers: those of timm, and those of torchvision's Swin.
_METHOD = re.compile(r"define_\w+|_?(?:init|reset|make|build|create|register)_(?:\w+_)?buffers?")


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
    path: str, module: nn.Module, modules: Mapping[str, nn.Module], lost: Mapping[str, Tensor]
) -> tuple[str, Callable[[Sources], Any]] | None:
    """How the buffers of a module are reset; ``lost`` are those that have no values."""
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
    return (
        _reset_by_methods(module, lost)
        or _reset_by_known(module, lost)
        or _reset_by_model(path, module, modules, lost)
    )


def _reset_by_methods(
    module: nn.Module, lost: Mapping[str, Tensor]
) -> tuple[str, Callable[[Sources], Any]] | None:
    """Use methods without arguments by which the module's constructor made its buffers."""
    missing = set(lost)
    found: dict[str, Callable[[nn.Module], Any]] = {}
    for name in _methods_for_buffers(type(module)) if lost else ():  # type: ignore[arg-type]
        method = methodcaller(name)
        made = missing & _made(method, module, lost, _in_memory)
        if made:
            found[name] = method
            missing -= made
    if missing or not found:
        return None

    def reset(_: Sources) -> None:
        for method in found.values():
            _make(method, module, _where_it_is)

    return f"its own {' and '.join(found)}", reset


@lru_cache(maxsize=256)
def _methods_for_buffers(cls: type[nn.Module]) -> tuple[str, ...]:
    names = (name for name in dir(cls) if _METHOD.fullmatch(name) and not hasattr(nn.Module, name))
    return tuple(name for name in names if callable(getattr(cls, name)))


def _reset_by_known(
    module: nn.Module, lost: Mapping[str, Tensor]
) -> tuple[str, Callable[[Sources], Any]] | None:
    """Use what is known of a class whose constructor alone makes its buffers."""
    cls = type(module)
    known = _KNOWN.get((cls.__module__, cls.__qualname__))
    if lost and cls.__module__.startswith("transformers.models."):
        known = _OF_TRANSFORMERS
    if known is None or not known.keys() >= lost.keys():
        return None

    @torch.no_grad()
    def reset(_: Sources) -> None:
        for name, value in known.items():
            module.get_buffer(name).copy_(value(module))

    return f"as the constructor of {cls.__name__} does", reset


def _relative_positions(module: Any) -> Tensor:
    """Which row of a table of (2 size - 1)^2 relative positions each two places of a window have."""
    rows, columns = torch.meshgrid(*(torch.arange(module.size),) * 2, indexing="ij")
    ahead = [(x.flatten()[:, None] - x.flatten()) + module.size - 1 for x in (rows, columns)]
    positions: Tensor = ahead[0] * (2 * module.size - 1) + ahead[1]
    return positions


_KNOWN: Mapping[tuple[str, str], Mapping[str, Callable[[Any], Tensor]]] = {
    ("torchvision.models.maxvit", "RelativePositionalMultiHeadAttention"): {
        "relative_position_index": _relative_positions
    },
}
# Of all classes of transformers (BART, Marian, Pegasus, ...): what is added to the logits.
_OF_TRANSFORMERS: Mapping[str, Callable[[Any], Tensor]] = {
    "final_logits_bias": lambda module: torch.zeros(module.final_logits_bias.shape)
}


def _reset_by_model(
    path: str, module: nn.Module, modules: Mapping[str, nn.Module], lost: Mapping[str, Tensor]
) -> tuple[str, Callable[[Sources], Any]] | None:
    """Use _init_weights, in which models of transformers make buffers, as of rotary embeddings."""
    owns = (getattr(modules.get(parent), "_init_weights", None) for parent in _parents(path))
    own = next(filter(callable, owns), None) if lost else None
    if own is None or not lost.keys() <= _made(own, module, lost, _on_meta):
        return None
    return _BY_MODEL, lambda _: _make(own, module, _on_meta)


_Make = Callable[[Tensor], Tensor]
"""Makes the tensor that stands in for another: where methods write, or look for a device."""


def _on_meta(tensor: Tensor) -> Tensor:
    return torch.empty_like(whole_on_meta(tensor), device="meta")


def _in_memory(tensor: Tensor) -> Tensor:
    return torch.empty_like(whole_on_meta(tensor), device="cpu")


def _where_it_is(tensor: Tensor) -> Tensor:
    return torch.empty_like(whole_on_meta(tensor), device=tensor.device)


def _made(
    own: Callable[[nn.Module], Any], module: nn.Module, lost: Mapping[str, Tensor], make: _Make
) -> set[str]:
    """The module's buffers without values that ``own`` gives some. It is tried on stand-ins."""
    before = dict(module._buffers)
    try:
        placed = {name: make(buffer) for name, buffer in lost.items()}
        module._buffers.update(placed)
        _without_parameters(own, module, make)
        return {name for name, new in placed.items() if _is_made(module._buffers.get(name), new)}
    except Exception:  # noqa: BLE001  whatever keeps it from working on stand-ins
        return set()
    finally:
        module._buffers.clear()
        module._buffers.update(before)


def _is_made(buffer: Tensor | None, stand_in: Tensor) -> bool:
    if buffer is None or buffer.shape != stand_in.shape:
        return False
    if buffer is stand_in:
        return buffer._version > 0
    return stand_in.is_meta or not buffer.is_meta


def _make(own: Callable[[nn.Module], Any], module: nn.Module, make: _Make) -> None:
    """Have ``own`` give the module's buffers values; those that it makes anew go to where they were."""
    before = dict(module._buffers)
    _without_parameters(own, module, make)
    for name, buffer in before.items():
        made = module._buffers.get(name)
        if buffer is not None and made is not None and made is not buffer:
            module._buffers[name] = buffer.copy_(made)


@torch.no_grad()
def _without_parameters(own: Callable[[nn.Module], Any], module: nn.Module, make: _Make) -> None:
    """Call ``own`` while the parameters are away, those of inner modules included: it would fill these, too."""

    def away(tensor: Tensor) -> Tensor:
        return make(tensor) if isinstance(tensor, nn.Parameter) else tensor

    with stand_ins(module, away), torch.random.fork_rng(devices=[]):
        own(module)


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
